"""Page of the fairness audit: groups, gaps, verdicts, and what mitigation would gain and cost.

What a page may tell of few people is less than what the document holds. A group under the smallest cell is named
without counts; where a group has fewer events or non-events than that, neither count is told, since one gives the
other, nor a rate among them; and where just one group of an attribute is too small to tell, the others' counts are
rounded down to tens, since the total less the others would give it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trialops.models.fairness_groups import why_not
from trialops.pages import Figure, Page, Section, Table, Text, Tone, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.models.discrimination import Estimate
    from trialops.models.fairness import AttributeReport, FairnessReport, GroupRow
    from trialops.models.mitigation import Mitigation, Variant
    from trialops.models.policy import FairnessPolicy

TONES: dict[str, Tone] = {"pass": "good", "fail": "bad", "insufficient evidence": "warn"}
GROUPS = ("group", "n", "events", "non-events", "TPR", "FPR", "PPV", "flagged", "assessable")
FURTHER = ("group", "prevalence", "AUROC", "observed minus expected", "calibration slope", "net benefit", "of all")


def fairness_page(report: FairnessReport, policy: FairnessPolicy, mitigations: Sequence[Mitigation] = ()) -> Page:
    """Groups, gaps and verdict per attribute and intersection, then the mitigations compared.

    Args:
        report: The audit.
        policy: Its policy.
        mitigations: Comparisons, where they were made.
    """
    sections = [_attribute(part) for part in report.attributes]
    sections += [_mitigation(found) for found in mitigations]
    minimum = (
        f"A group is assessed from {policy.min_subjects} subjects, {policy.min_positives} events and "
        f"{policy.min_negatives} non-events on. A difference is shown when the whole interval of the gap is above 0. A "
        "gap passes when its whole interval is below the limit, fails when it is above, and is otherwise insufficient "
        "evidence."
    )
    sections.append(Section("How", [Text(report.method), Text(minimum)]))
    return Page(
        "Fairness",
        sections,
        Verdict(report.verdict.capitalize(), TONES[report.verdict], f"threshold {report.threshold:.3f}"),
    )


def _attribute(part: AttributeReport) -> Section:
    coarse = sum(_few(row) for row in part.groups) == 1
    gaps = [
        (
            gap.metric.replace("_", " "),
            *_cells(gap.estimate),
            f"{gap.higher_in} over {gap.lower_in}" if gap.found else "not shown",
            gap.limit,
            gap.verdict,
        )
        for gap in part.gaps
    ]
    items: list[Any] = [
        Verdict(part.verdict, TONES[part.verdict], part.reason),
        Table(GROUPS, [_group(row, coarse) for row in part.groups]),
    ]
    told = [row for row in part.groups if row.assessable and not _few(row)]
    if len(told) > 1:
        items.append(Table(FURTHER, [_further(row) for row in told], "Net benefit per subject of the group."))
    if gaps:
        columns = ("gap", "estimate", "simultaneous interval", "difference", "limit", "verdict")
        items += [Figure(_gap_plot(part), "Dashed: the policy's limit."), Table(columns, gaps)]
        described = [(d.metric.replace("_", " "), *_cells(d.estimate)) for d in part.described]
        caption = "Told, without a limit: these differ with prevalence too."
        items.append(Table(("difference", "largest", "pointwise interval"), described, caption))
    return Section(part.attribute.replace("_", " "), items)


def _gap_plot(part: AttributeReport) -> str:
    return plots.intervals(
        [gap.metric.replace("_", " ") for gap in part.gaps],
        [gap.estimate.value for gap in part.gaps],
        [gap.estimate.low for gap in part.gaps],
        [gap.estimate.high for gap in part.gaps],
        reference=part.gaps[0].limit,
        xlabel="largest difference between two groups",
    )


def _few(row: GroupRow) -> bool:
    """Whether a group is too small to tell its size."""
    return row.n != suppressed(row.n)


def _group(row: GroupRow, coarse: bool) -> tuple[Any, ...]:
    """A row of the group table; of a handful of subjects it tells only that they are few."""
    assessed = "yes" if row.assessable else f"no: {why_not(row)}"
    if row.absent or _few(row):
        return row.level, suppressed(row.n), *[None] * 6, assessed

    def told(count: int) -> int | str:
        return f"{count // 10 * 10} or more" if coarse else count

    events, others = (suppressed(count) == count for count in (row.positives, row.negatives))
    # one of the two counts and n give the other
    counts = (told(row.positives), told(row.negatives)) if events and others else (None, None)
    return (
        row.level,
        told(row.n),
        *counts,
        str(row.true_positive_rate) if events and row.positives else None,
        str(row.false_positive_rate) if others and row.negatives else None,
        *((str(row.ppv), str(row.selection_rate)) if events and others else (None, None)),
        assessed,
    )


def _further(row: GroupRow) -> tuple[Any, ...]:
    events, others = (suppressed(count) == count for count in (row.positives, row.negatives))
    return (
        row.level,
        str(row.prevalence) if events and others else None,
        str(row.auroc),
        str(row.calibration_in_the_large) if events and others else None,
        None if math.isnan(row.calibration_slope.value) else str(row.calibration_slope),
        str(row.net_benefit),
        row.net_benefit_all if events and others else None,
    )


def _mitigation(found: Mitigation) -> Section:
    """What each way would gain and cost."""
    rows = [_variant(v) for v in found.variants]
    columns = (
        "way",
        "widest gap",
        "its change",
        "AUROC",
        "its change",
        "net benefit",
        "its change",
        "verdict",
        "overall",
    )
    cuts = [
        (v.name, ", ".join(f"{level} {cut:.3f}" for level, cut in v.thresholds.items()), _needs(v))
        for v in found.variants
    ]
    odds = [v.gaps[-1].estimate if v.gaps else None for v in found.variants]
    plot = plots.trade_off(
        [v.name for v in found.variants],
        [_ends(e) for e in odds],
        [_ends(v.net_benefit) for v in found.variants],
        xlabel="widest gap (simultaneous interval)",
        ylabel="net benefit (interval)",
        reference=found.variants[0].gaps[-1].limit if found.variants[0].gaps else None,
    )
    note = (
        "Compared on the held-out sites; nothing is applied. A person chooses, and a model so changed is trained, "
        "evaluated, audited and signed for like any other. fairlearn's optimiser flags some subjects at random and is "
        "here for comparison only."
    )
    return Section(
        f"Mitigation compared: {found.attribute.replace('_', ' ')}",
        [
            Figure(plot, "Left is fairer, up is more useful. Dashed: the policy's limit."),
            Table(columns, rows),
            Table(("way", "threshold", "at prediction"), cuts),
            *(Text(f"Not offered: {text}.") for text in found.not_offered),
            Text(note),
        ],
    )


def _variant(v: Variant) -> tuple[Any, ...]:
    gap = str(v.gaps[-1].estimate) if v.gaps else None
    figures = (v.gap_change, v.auroc, v.auroc_change, v.net_benefit, v.net_benefit_change)
    return (v.name, gap, *(str(figure) for figure in figures), v.verdict, v.overall)


def _needs(v: Variant) -> str:
    if v.random:
        return f"reads the attribute; {v.flag_changes:.1%} of subjects are flagged or not at random"
    return "reads the attribute" if v.needs_attribute else "does not read the attribute"


def _ends(estimate: Estimate | None) -> tuple[float, float, float] | None:
    return None if estimate is None else (estimate.value, estimate.low, estimate.high)


def _cells(estimate: Estimate) -> tuple[float, str]:
    """Value, and interval as text."""
    return estimate.value, f"{estimate.low:.3f} to {estimate.high:.3f}"
