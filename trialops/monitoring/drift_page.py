"""Pages of drift: what has changed, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.monitoring.cells import QUANTILES
from trialops.monitoring.drift import DRIFT, INSUFFICIENT, DriftReport, FeatureDrift
from trialops.monitoring.drift_policy import DriftPolicy
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, plots, suppressed
from trialops.pages.page import SMALLEST_CELL

if TYPE_CHECKING:
    from trialops.monitoring.drift_look import DriftLook
    from trialops.monitoring.shift import Shift
    from trialops.monitoring.stability import CorrelationChange, ImportanceStability

TONES: dict[str, Tone] = {DRIFT: "bad", INSUFFICIENT: "warn"}
SHOWN = 6
"""Most features whose distribution is drawn, and most pairs that are listed."""


def drift_page(look: DriftLook, policy: DriftPolicy, *, alias: str) -> Page:
    """The look at a model's inputs, the most changed features first.

    Args:
        look: What was found.
        policy: The policy it was judged by.
        alias: Alias of the version.
    """
    version = look.model.partition(":")[0]
    sections = [
        *report_sections(look.report, policy, title="Features of subjects that came since"),
        *([] if look.served is None else report_sections(look.served, policy, title="Inputs and answers as served")),
        Section("All features together", classifier_items(look.shift, policy)),
        Section("Correlations", correlation_items(look.correlations, policy)),
        Section("What the model leans on", importance_items(look.importance, policy)),
        Section("How it is judged", [method_text(policy)]),
    ]
    return Page(
        "Data drift",
        sections,
        verdict=Verdict(look.verdict, TONES.get(look.verdict, "good"), look.reason),
        intro=f"Compared with what version {version} ({alias}) was developed on.",
    )


def no_model_page(task: str) -> Page:
    """There is no version to compare with."""
    return Page(
        "Data drift",
        [],
        verdict=Verdict(INSUFFICIENT, "warn", f"No version of {task} is registered yet: there is no reference."),
    )


def report_sections(report: DriftReport, policy: DriftPolicy, *, title: str) -> list[Section]:
    """Bars with the limit, the table, distributions of the most changed features, sites."""
    facts = Facts(
        {
            "reference rows": report.n_reference,
            "current rows": suppressed(report.n_current),
            "verdict": report.verdict,
            f"beyond PSI {policy.alert_psi}": sum(item.alert for item in report.features),
        }
    )
    if report.n_current < SMALLEST_CELL:
        return [Section(title, [facts, Text(f"{report.reason}.")])]
    ordered = sorted(report.features, key=lambda item: -item.psi)
    bars = plots.limits(
        [item.name for item in ordered[:20]],
        [item.psi for item in ordered[:20]],
        limit=policy.alert_psi,
        xlabel="population stability index",
    )
    figure = Figure(bars, "PSI per feature; the dashed line is the alert limit.")
    sections = [Section(title, [facts, figure, _table(ordered, report)])]
    drawn = [item for item in ordered if item.state == DRIFT][:SHOWN] or ordered[:1]
    sections.append(Section("Distributions", [_distribution(item, report) for item in drawn]))
    if report.sites or report.small_sites:
        sections.append(Section("Sites", _sites(report, policy)))
    return sections


def _table(ordered: Sequence[FeatureDrift], report: DriftReport) -> Table:
    rows = [
        (
            item.name,
            f"{item.state}, alert" if item.alert else item.state,
            item.psi,
            item.excess_psi,
            item.q,
            item.ks,
            item.wasserstein_sd,
            item.mean_shift_sd,
            _share(item.missing_reference, report.n_reference),
            _share(item.missing_current, report.n_current),
        )
        for item in ordered
    ]
    return Table(
        ("feature", "state", "PSI", "less chance", "q", "KS", "Wasserstein, SD", "mean, SD", "missing then", "now"),
        rows,
    )


def _share(share: float, n: int) -> float | str:
    """A share a page may show: not one that tells of fewer than eleven."""
    count = round(share * n)
    return f"fewer than {SMALLEST_CELL} rows" if 0 < count < SMALLEST_CELL else f"{share:.1%}"


def _distribution(item: FeatureDrift, report: DriftReport) -> Figure:
    labels, then, now = coarse(item, report.n_reference, report.n_current)
    svg = plots.pairs(labels, then, now, names=("reference", "current"), ylabel="share of rows")
    return Figure(svg, f"{item.name}: PSI {item.psi:.3f}, {item.state}. Cells are joined until none tells of few.")


def coarse(item: FeatureDrift, n: int, m: int) -> tuple[list[str], list[float], list[float]]:
    """Cells of a feature joined with their neighbours until each holds no row or at least eleven, on either side.

    Args:
        item: The feature.
        n: Reference rows.
        m: Current rows.

    Returns:
        Names and shares; cells that no joining makes large enough are left out.
    """

    def enough(share: float, rows: int) -> bool:
        return round(share * rows) == 0 or round(share * rows) >= SMALLEST_CELL

    joined: list[tuple[str, str, float, float]] = []
    first, then, now = "", 0.0, 0.0
    *cells, missing = zip(item.cells, item.reference_share, item.current_share, strict=True)
    for label, before, after in cells:
        first = first or label
        then, now = then + before, now + after
        if enough(then, n) and enough(now, m) and then + now > 0:
            joined.append((first, label, then, now))
            first, then, now = "", 0.0, 0.0
    if then + now > 0 and joined:  # the rest goes with the last cell, which is large enough already
        start, _, before, after = joined.pop()
        joined.append((start, cells[-1][0], before + then, after + now))
    if enough(missing[1], n) and enough(missing[2], m) and missing[1] + missing[2] > 0:
        joined.append((missing[0], missing[0], missing[1], missing[2]))
    names = [a if a == b else _span(item, a, b) for a, b, _, _ in joined]
    return names, [part[2] for part in joined], [part[3] for part in joined]


def _span(item: FeatureDrift, first: str, last: str) -> str:
    if item.kind != QUANTILES:
        return f"{first} … {last}"
    low, high = first.split(" – ")[0], last.split(" – ")[-1]
    if first.startswith("≤"):
        return high if last.startswith(">") else f"≤ {high}"
    return f"> {low}" if last.startswith(">") else f"{low} – {high}"


def _sites(report: DriftReport, policy: DriftPolicy) -> list[Text | Figure | Table]:
    small = f"{report.small_sites} sites with fewer than {policy.min_site_rows} current rows are not compared."
    if not report.sites:
        return [Text(small)]
    names = list(report.sites[0].psi)
    shown = sorted(names, key=lambda name: -max(site.psi[name] for site in report.sites))[:20]
    shades = [[site.psi[name] for name in shown] for site in report.sites]
    figure = plots.heat_map([site.site for site in report.sites], shown, shades, top=2 * policy.alert_psi)
    rows = [
        (site.site, suppressed(site.n), site.compared_with, max(site.psi.values()), ", ".join(site.drifted) or "–")
        for site in report.sites
    ]
    return [
        Text(f"{small} Few rows make a high PSI by chance; what is more than chance is in the last column."),
        Figure(figure, "PSI per site and feature."),
        Table(("site", "rows", "compared with", "highest PSI", "drifted"), rows),
    ]


def classifier_items(shift: Shift, policy: DriftPolicy) -> list[Text | Facts | Figure]:
    """The domain classifier and what it tells the rows apart by."""
    if shift.state == INSUFFICIENT:
        return [Text("Too few rows for a classifier.")]
    facts = Facts({"AUROC": shift.auroc, "lower bound": shift.low, "state": shift.state})
    text = Text(
        "A logistic regression tries to tell current rows from the reference's; 0.5 means that it cannot. They "
        f"count as apart from {policy.classifier.relevant_auroc} on, if the lower bound "
        f"({1 - policy.classifier.alpha:.0%}) is above 0.5."
    )
    if shift.state != DRIFT:
        return [facts, text]
    top = [driver for driver in shift.drivers if driver[1] > 0][:10]
    bars = plots.bars([name for name, _ in top], [part for _, part in top], xlabel="part in the separation")
    return [facts, text, Figure(bars, "What tells them apart.")]


def correlation_items(change: CorrelationChange, policy: DriftPolicy) -> list[Text | Facts | Table]:
    """Change of rank correlations as a whole, and of single pairs."""
    if change.state == INSUFFICIENT:
        return [Text("Too few rows to compare correlations.")]
    facts = Facts(
        {
            "state": change.state,
            "Frobenius norm": change.frobenius,
            "p by permutation": change.p,
            "root mean square, less chance": change.rms,
            "pairs": change.pairs,
        }
    )
    if not change.changed:
        return [facts]
    rows = [
        (f"{pair.first} and {pair.second}", pair.reference, pair.current, pair.q) for pair in change.changed[:SHOWN]
    ]
    caption = f"Pairs changed by at least {policy.dependence.relevant_correlation}, more than by chance."
    return [facts, Table(("pair", "rank correlation then", "now", "q"), rows, caption)]


def importance_items(found: ImportanceStability, policy: DriftPolicy) -> list[Text | Facts | Table]:
    """Ranks of the features by permutation importance, then and now."""
    if not found.features:
        return [Text("Too few rows or features to rank them.")]
    facts = Facts({"Kendall's tau": found.tau, "within the reference": found.tau_within, "state": found.state})
    rows = sorted(found.features, key=lambda row: -row[1])[:10]
    text = Text(
        "Mean absolute change of the log-odds when a feature is permuted. Ranks hold from a tau of "
        f"{policy.importance.min_tau} on."
    )
    return [facts, text, Table(("feature", "then", "now"), rows)]


def method_text(policy: DriftPolicy) -> Text:
    """The rule in words, with its numbers."""
    return Text(
        f"A feature has drifted when its test is significant (false discovery rate {policy.alpha} over the features) "
        f"and the difference matters: PSI of {policy.relevant_psi} or more after chance is taken off, or a Wasserstein "
        f"distance of {policy.relevant_shift_sd} standard deviations. PSI is taken over the deciles of the reference, "
        "missing as a cell of its own. No drift is said only where a PSI of "
        f"{policy.alert_psi} would have been seen with probability {policy.power}. Policy {policy.name}, version "
        f"{policy.version}, {policy.digest[:12]}.",
        quiet=True,
    )
