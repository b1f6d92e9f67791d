"""Parts of pages: performance over sites, learning curves, and performance over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Section, Table, Text, plots, suppressed

if TYPE_CHECKING:
    from trialops.models.internal_external import InternalExternal, RandomEffects
    from trialops.models.temporal import TemporalScore

SHOWN = 6  # learning curves on a page


def sites_section(found: InternalExternal, title: str) -> Section:
    """Sites with their AUROC and calibration, and the summary over sites; sites of a handful are counted only."""
    shown = [row for row in found.sites if row.n == suppressed(row.n)]
    rows = [
        (row.site, row.n, row.events, row.log_loss, row.auroc, row.auroc_error, row.observed_to_expected)
        for row in shown
    ]
    items: list[Any] = []
    if found.auroc is not None:
        items += [_summary("AUROC", found.auroc), _forest(found, found.auroc)]
    if found.observed_to_expected is not None:
        items.append(_summary("observed / expected", found.observed_to_expected))
    items.append(Table(("site", "subjects", "events", "log loss", "AUROC", "error", "observed / expected"), rows))
    left = len(found.sites) - len(shown)
    if left:
        items.append(Text(f"{left} sites with fewer than 11 subjects are in the summary and not shown.", quiet=True))
    return Section(title, [*items, *(Text(note, quiet=True) for note in found.notes)])


def _summary(name: str, found: RandomEffects) -> Facts:
    return Facts(
        {
            f"mean {name}": found.mean.value,
            "low": found.mean.low,
            "high": found.mean.high,
            "next site, low": found.prediction_low,
            "next site, high": found.prediction_high,
            "I2": f"{found.i2:.0%}",
            "sites": found.sites,
        }
    )


def _forest(found: InternalExternal, area: RandomEffects) -> Figure:
    from trialops.models.discrimination import z_value

    rows = [row for row in found.sites if row.n == suppressed(row.n)]
    reach = [z_value(area.mean.level) * row.auroc_error for row in rows]
    names = [*(row.site for row in rows), "mean over sites", "next site"]
    mean = area.mean
    values = [*(row.auroc for row in rows), mean.value, mean.value]
    low = [*(max(0.0, row.auroc - r) for row, r in zip(rows, reach, strict=True)), mean.low, area.prediction_low]
    high = [
        *(min(1.0, row.auroc + r) for row, r in zip(rows, reach, strict=True)),
        mean.high,
        area.prediction_high,
    ]
    plot = plots.intervals(names, values, low, high, xlabel="AUROC with 95 % interval; dashed: chance", reference=0.5)
    return Figure(plot, "Each site by a model that did not learn from it; the last line is where the next one may lie.")


def curves_section(curves: Sequence[Mapping[str, Any]]) -> Section | None:
    """Learning curves of the best boosted trials; None where none was boosted."""
    best = sorted(curves, key=lambda row: (min(loss for _, loss in row["curve"]), row["number"]))[:SHOWN]
    if not best:
        return None
    series = [
        (f"trial {row['number']}", [float(at) for at, _ in row["curve"]], [float(loss) for _, loss in row["curve"]])
        for row in best
    ]
    plot = plots.lines(series, xlabel="boosting round", ylabel="cross-validated log loss")
    stopped = sum(bool(row["stopped"]) for row in curves)
    return Section("Learning curves", [Figure(plot, f"The {len(best)} best; {stopped} fits were given up at a rung.")])


def temporal_section(found: TemporalScore) -> Section:
    """The winner's configuration on those enrolled last."""
    facts = {
        "learnt from": suppressed(found.early),
        "judged on": suppressed(found.late),
        "left out between": suppressed(found.gap),
        "AUROC": str(found.auroc),
        "log loss": found.log_loss,
        "observed / expected": found.observed_to_expected,
    }
    text = "Fitted on the subjects enrolled first, judged on those enrolled last; training sites alone."
    return Section("Over time", [Facts(facts), Text(text, quiet=True), *(Text(n, quiet=True) for n in found.notes)])
