"""Pages of the model steps: the search, the evaluation, the decision; the fairness audit has its own module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trialops.models.discrimination import p_text
from trialops.models.evaluation import BETTER, WORSE
from trialops.models.site_page import curves_section, sites_section, temporal_section
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.models.calibration import Calibration
    from trialops.models.comparison import Comparison
    from trialops.models.discrimination import Estimate
    from trialops.models.evaluation import Evaluation
    from trialops.models.net_benefit import DecisionCurve
    from trialops.models.release import Release
    from trialops.models.search import SearchResult

TONES: dict[str, Tone] = {
    "pass": "good",
    "fail": "bad",
    "insufficient evidence": "warn",
    "promote": "good",
    "hold": "warn",
    "reject": "bad",
    "unchanged": "plain",
}


def search_page(result: SearchResult) -> Page:
    """Trials and the winner; everything here was measured on the training sites alone."""
    shown = ("number", "kind", "log_loss", "auroc", "rounds", "stopped")
    trials = result.trials.sort("log_loss").select(name for name in shown if name in result.trials.columns)
    folds = [
        (", ".join(fold.sites), suppressed(fold.n), fold.events if fold.n == suppressed(fold.n) else None)
        + (fold.log_loss, fold.auroc)
        for fold in result.folds
    ]
    return Page(
        "Model search",
        [
            Section(
                "The winner",
                [
                    Facts(
                        {
                            "family": result.kind,
                            "log loss": result.log_loss,
                            "baseline log loss": result.baseline_log_loss,
                            "AUROC": result.auroc,
                            "baseline AUROC": result.baseline_auroc,
                            "log loss saved per subject": str(result.gain),
                            "threshold": result.threshold,
                        }
                    ),
                    Table(("hyperparameter", "value"), [(name, value) for name, value in result.params.items()]),
                    Text("Cross-validated over the training sites; the held-out sites were not looked at.", quiet=True),
                ],
            ),
            Section("Trials", [Table(trials.columns, trials.rows())]),
            *([curves] if (curves := curves_section(result.curves)) else []),
            sites_section(result.sites, "Internal-external validation: each site left out of the fit"),
            *([temporal_section(result.temporal)] if result.temporal else []),
            Section(
                "Groups of sites left out in turn",
                [
                    Table(("sites", "subjects", "events", "log loss", "AUROC"), folds),
                    *(Text(note, quiet=True) for note in result.notes),
                ],
            ),
        ],
        Verdict(f"{result.trials.height} configurations", "plain", f"the best is a {result.kind} model"),
    )


def evaluation_page(model: Evaluation, baseline: Evaluation, against: Comparison) -> Page:
    """Discrimination, calibration, net benefit and sites, beside the baseline; the verdict in words first."""
    tones: dict[str, Tone] = {BETTER: "good", WORSE: "bad"}
    tone = tones.get(model.verdict, "warn")
    rows = [
        ("AUROC", *_cells(model.auroc), *_cells(baseline.auroc)),
        ("average precision", *_cells(model.auprc), *_cells(baseline.auprc)),
        ("Brier score", model.brier, "", baseline.brier, ""),
        ("scaled Brier score", model.scaled_brier, "", baseline.scaled_brier, ""),
        ("calibration intercept", *_cells(model.calibration.intercept), *_cells(baseline.calibration.intercept)),
        ("calibration slope", *_cells(model.calibration.slope), *_cells(baseline.calibration.slope)),
        ("mean calibration error (ICI)", model.calibration.ici, "", baseline.calibration.ici, ""),
        ("sensitivity at threshold", *_cells(model.operating.sensitivity), *_cells(baseline.operating.sensitivity)),
        ("specificity at threshold", *_cells(model.operating.specificity), *_cells(baseline.operating.specificity)),
    ]
    return Page(
        "Evaluation on held-out sites",
        [
            _question(model, baseline, against, rows),
            _calibration(model.calibration),
            _net_benefit(model.decision_curve),
            Section("By site", [_sites(model)]),
            *([sites_section(model.over_sites, "Over sites")] if model.over_sites else []),
            Section("Notes", [Text(note) for note in model.notes] or [Text("None.", quiet=True)]),
        ],
        Verdict(
            model.verdict.capitalize(),
            tone,
            f"AUROC {model.auroc} on {model.n} subjects, {model.events} events, {model.sites} sites",
        ),
    )


def _question(model: Evaluation, baseline: Evaluation, against: Comparison, rows: Sequence[Sequence[Any]]) -> Section:
    areas = [("model", model.auroc), ("baseline", baseline.auroc)]
    plot = plots.intervals(
        [name for name, _ in areas],
        [area.value for _, area in areas],
        [area.low for _, area in areas],
        [area.high for _, area in areas],
        xlabel="AUROC with 95 % interval; dashed: chance",
        reference=0.5,
    )
    return Section(
        "Is it better than chance, and than the baseline?",
        [
            Text(model.sentence()),
            Text(
                f"Against the baseline on the same subjects the AUROC differs by {against.difference}, "
                f"{p_text(against.p_value)}."
            ),
            *([Text(f"Net benefit over the thresholds: {against.net_benefit}.")] if against.net_benefit else []),
            Figure(plot),
            Table(("measure", "model", "95 % interval", "baseline", "95 % interval"), rows),
        ],
    )


def _calibration(found: Calibration) -> Section:
    predicted, observed = [p.predicted for p in found.curve], [p.observed.value for p in found.curve]
    plot = plots.lines(
        [("observed", predicted, observed)],
        xlabel="predicted risk",
        ylabel="observed share",
        diagonal=True,
        markers=True,
    )
    caption = f"Equal-sized bins. Observed {found.observed:.3f}, expected {found.expected:.3f}."
    return Section("Calibration", [Figure(plot, caption), *(Text(note, quiet=True) for note in found.notes)])


def _net_benefit(found: DecisionCurve) -> Section:
    series = [
        ("model", found.thresholds, found.model),
        ("treat all", found.thresholds, found.treat_all),
        ("treat none", found.thresholds, [0.0] * len(found.thresholds)),
    ]
    plot = plots.lines(series, xlabel="threshold probability", ylabel="net benefit")
    return Section(
        "Net benefit", [Figure(plot, f"The model beats both at {found.useful_share:.0%} of the declared thresholds.")]
    )


def _sites(model: Evaluation) -> Table:
    """Sites large enough to show, and the others as one row."""
    rows: list[tuple[Any, ...]] = [
        (s.site, s.n, s.events, s.expected, s.observed_to_expected) for s in model.by_site if s.n == suppressed(s.n)
    ]
    small = [s for s in model.by_site if s.n != suppressed(s.n)]
    if small:
        n, events = sum(s.n for s in small), sum(s.events for s in small)
        expected = sum(s.n * s.expected for s in small)
        name = f"smaller sites ({len(small)})"
        if n == suppressed(n):
            rows.append((name, n, events, expected / n, events / expected if expected > 0 else None))
        else:
            rows.append((name, suppressed(n), None, None, None))
    return Table(("site", "subjects", "events", "mean prediction", "observed / expected"), rows)


def decision_page(release: Release) -> Page:
    """The comparison and every rule that was read, met or not."""
    gap, other = release.comparison.difference, release.comparison
    rules = [(reason.rule, "met" if reason.met else "not met", reason.text) for reason in release.decision.reasons]
    items: list[Any] = [Table(("rule", "", "numbers"), rules)]
    if release.waits:
        items.append(
            Text("A signature is all that is missing. An approver signs this evidence with: trialops approve <run>.")
        )
        items.append(Text(f"SHA-256 of the evidence: {release.to_sign}", quiet=True))
    for verb, signatures in (("Approved", release.approvals), ("Rejected", release.objections)):
        items += [Text(f"{verb} by {s['printed_name']} ({s['user_id']}), {s['at']}.") for s in signatures]
    return Page(
        "Comparison and decision",
        [
            Section(
                f"Against the {other.role} on the same {other.n} subjects",
                [
                    Facts(
                        {
                            "AUROC": other.auroc,
                            f"AUROC of the {other.role}": other.comparator_auroc,
                            "difference": gap.value,
                        }
                    ),
                    Figure(
                        plots.intervals(
                            ["difference"],
                            [gap.value],
                            [gap.low],
                            [gap.high],
                            reference=-release.promotion_policy.non_inferiority_margin,
                            xlabel="AUROC difference with 95 % interval; dashed: non-inferiority margin",
                        )
                    ),
                ],
            ),
            Section("Rules", items),
            Section(
                "Policy", [Text(f"{release.decision.policy}, digest {release.decision.policy_digest}", quiet=True)]
            ),
        ],
        Verdict(release.action.capitalize(), TONES[release.action], f"by policy alone: {release.decision.action}"),
    )


def _cells(estimate: Estimate) -> tuple[float, str]:
    """Value, and interval as text."""
    return estimate.value, f"{estimate.low:.3f} to {estimate.high:.3f}"
