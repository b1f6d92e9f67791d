"""Whether a model treats groups of subjects alike, and whether the data can tell.

A point estimate of a gap says little in small groups: a group without positives has no true-positive rate,
and a library that reports 0 for it raises a false alarm or, mirrored, hides a real one. So a group needs a
minimum of subjects, positives and negatives to be assessed. Groups are the levels of each attribute and of the
intersections the policy declares. Two questions are asked of each gap, and both are answered by its interval:

* **Is there a difference?** It is *found* when the whole interval lies above 0.
* **Is it larger than the policy allows?** It fails when its whole interval lies above the limit, passes when it lies
  below, and is otherwise "insufficient evidence", which is a result.

An unassessable group is listed and keeps its attribute from passing; a declared group without a single subject is
listed as absent, since nobody has been treated in any way, and blocks only where the policy says so.

Multiplicity: all pairs of groups and both error rates of an attribute share one critical value (see
`fairness_intervals`), and the attributes and intersections that can be compared share the error by Bonferroni, so the
chance of finding any difference in a model without one is at most one minus the confidence level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.bundle import Bundle
from trialops.models.design_matrix import inputs, labels, values
from trialops.models.discrimination import Estimate
from trialops.models.fairness_groups import Family, GroupRow, families, group_row
from trialops.models.fairness_intervals import (
    ERROR_RATES,
    Metric,
    confusion_counts,
    differences,
    net_benefit_at,
    percentile_intervals,
    predictive_value,
    selection_rate,
)
from trialops.models.policy import FairnessPolicy
from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.task import Task

PASS, FAIL, INSUFFICIENT = "pass", "fail", "insufficient evidence"


@dataclass(frozen=True)
class Gap:
    """Largest difference between two assessable groups.

    Attributes:
        metric: "true_positive_rate" (equal opportunity), "false_positive_rate" or "equalized_odds" (the
            larger of the two).
        estimate: The gap with its simultaneous interval.
        limit: The policy's limit.
        verdict: "pass", "fail" or "insufficient evidence".
        found: Whether a difference is shown: the interval excludes 0.
        higher_in: The group with the higher rate.
        lower_in: The group with the lower rate.
    """

    metric: str
    estimate: Estimate
    limit: float
    verdict: str
    found: bool
    higher_in: str
    lower_in: str


@dataclass(frozen=True)
class Described:
    """A difference that is told and not limited: largest minus smallest group value, pointwise percentile interval."""

    metric: str
    estimate: Estimate


@dataclass(frozen=True)
class AttributeReport:
    """One audit attribute or intersection: its groups, gaps and verdict, with the reason in words."""

    attribute: str
    groups: tuple[GroupRow, ...]
    gaps: tuple[Gap, ...]
    verdict: str
    reason: str
    described: tuple[Described, ...] = ()


@dataclass(frozen=True)
class FairnessReport:
    """The audit of a model.

    Attributes:
        model: Name of the model.
        digest: Digest of its bundle.
        threshold: Probability from which a subject is flagged.
        attributes: One report per attribute, then one per intersection.
        verdict: "fail" if any attribute fails, "pass" if all pass, else "insufficient evidence".
        method: How the intervals were made.
        policy: Name of the policy.
        policy_digest: Digest of the policy.
        compared: Attributes and intersections with at least two assessable groups, among which the error is shared.
    """

    model: str
    digest: str
    threshold: float
    attributes: tuple[AttributeReport, ...]
    verdict: str
    method: str
    policy: str
    policy_digest: str
    compared: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return plain(self)

    def sentence(self) -> str:
        """The verdict in words, with the reason for each attribute."""
        parts = "; ".join(f"{a.attribute}: {a.verdict} ({a.reason})" for a in self.attributes)
        return (
            f"Fairness: {self.verdict}. {parts}." if parts else f"Fairness: {self.verdict}. No attribute was audited."
        )


def audit_predictions(
    y: np.ndarray,
    p: np.ndarray,
    groups: Mapping[str, np.ndarray],
    *,
    threshold: float,
    policy: FairnessPolicy,
    declared: Mapping[str, Sequence[str]] | None = None,
    model: str = "model",
    digest: str = "",
    flag: np.ndarray | None = None,
) -> FairnessReport:
    """Audit predictions.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Predicted probabilities of shape (n,).
        groups: Attribute -> group of each subject, shape (n,); None or NaN is the group "NOT RECORDED".
        threshold: Probability from which a subject is flagged; also the exchange rate of the net benefit.
        policy: Limits, minimum counts and the intersections to audit where all their attributes are in `groups`.
        declared: Attribute -> levels to report even when nobody belongs to them.
        model: Name for the report.
        digest: Digest of the bundle.
        flag: Whether each subject is flagged, shape (n,), where that is not `p >= threshold`.

    Returns:
        The report.
    """
    import numpy as np

    flag = p >= threshold if flag is None else flag
    audited = families(groups, declared or {}, policy)
    described = [
        (family, counts, _rows(family, y, p, counts, threshold, policy))
        for family in audited
        for counts in [confusion_counts(y, flag, family.code, len(family.levels))]
    ]
    compared = sum(sum(row.assessable for row in rows) > 1 for _, _, rows in described)
    shared = max(compared, 1) if policy.across_attributes == "bonferroni" else 1
    level = 1 - (1 - policy.confidence_level) / shared
    reports = []
    for position, (family, counts, rows) in enumerate(described):
        kept = np.flatnonzero([row.assessable for row in rows])
        names, cells = [rows[k].level for k in kept], counts[kept]
        seed = [policy.seed, position]
        gaps = _gaps(cells, names, policy, seed, level) if len(kept) > 1 else ()
        told = _described(cells, threshold, policy, seed) if len(kept) > 1 else ()
        reports.append(AttributeReport(family.name, rows, gaps, *_attribute_verdict(rows, gaps, policy), told))
    verdicts = {report.verdict for report in reports}
    overall = FAIL if FAIL in verdicts else PASS if verdicts == {PASS} else INSUFFICIENT
    method = (
        f"rates: Wilson, pointwise; gaps: bootstrap stratified by group, {policy.replicates} replicates, "
        f"{policy.confidence_level:.0%} simultaneous over pairs of groups, both error rates"
        + (f" and, by Bonferroni, {compared} attributes and intersections" if shared > 1 else "")
    )
    return FairnessReport(
        model, digest, threshold, tuple(reports), overall, method, policy.name, policy.digest, compared
    )


def _rows(
    family: Family, y: np.ndarray, p: np.ndarray, counts: np.ndarray, threshold: float, policy: FairnessPolicy
) -> tuple[GroupRow, ...]:
    """One row per level; subjects are sorted by level once."""
    import numpy as np

    order = np.argsort(family.code, kind="stable")
    ends = np.cumsum(counts.sum(axis=1))
    parts = np.split(order, ends[:-1])
    return tuple(
        group_row(level, y[part], p[part], counts[k], threshold, policy)
        for k, (level, part) in enumerate(zip(family.levels, parts, strict=True))
    )


def _gaps(
    cells: np.ndarray, names: Sequence[str], policy: FairnessPolicy, seed: list[int], level: float
) -> tuple[Gap, ...]:
    """Largest gaps between groups from their confusion counts, shape (g, 4)."""
    import numpy as np

    found = differences(cells, replicates=policy.replicates, seed=seed, level=level)
    method = "stratified multinomial bootstrap, simultaneous"
    gaps = []
    for metric, columns in (*((name, [k]) for k, name in enumerate(ERROR_RATES)), ("equalized_odds", [0, 1])):
        signed, low, high = (a[:, columns] for a in (found.signed, found.low, found.high))
        size = np.abs(signed)
        pair, column = np.unravel_index(int((low if low.max() > 0 else size).argmax()), size.shape)
        first, second = (names[k] for k in found.pairs[pair])
        if signed[pair, column] < 0:
            first, second = second, first
        limit, lower, upper = policy.limits[metric], float(low.max()), float(high.max())
        estimate = Estimate(float(size.max()), lower, upper, method, level)
        verdict = FAIL if lower > limit else PASS if upper < limit else INSUFFICIENT
        gaps.append(Gap(metric, estimate, limit, verdict, lower > 0, first, second))
    return tuple(gaps)


def _described(cells: np.ndarray, threshold: float, policy: FairnessPolicy, seed: list[int]) -> tuple[Described, ...]:
    """Differences that follow from prevalence too, and therefore have no limit."""
    import numpy as np

    metrics: dict[str, Metric] = {"selection_rate": selection_rate, "ppv": predictive_value}
    if threshold < 1:
        metrics["net_benefit"] = net_benefit_at(threshold)
    intervals = percentile_intervals(
        cells, tuple(metrics.values()), replicates=policy.replicates, seed=seed, level=policy.confidence_level
    )
    told = []
    for (name, metric), interval in zip(metrics.items(), intervals, strict=True):
        known = metric(cells)
        known = known[~np.isnan(known)]
        spread = float(known.max() - known.min()) if len(known) > 1 else float("nan")
        estimate = Estimate(spread, *interval.difference, "percentile", policy.confidence_level)
        told.append(Described(name, estimate))
    return tuple(told)


def _attribute_verdict(rows: Sequence[GroupRow], gaps: Sequence[Gap], policy: FairnessPolicy) -> tuple[str, str]:
    present, absent = [row for row in rows if not row.absent], [row for row in rows if row.absent]
    unassessable = [row for row in present if not row.assessable]
    parts = [f"{len(unassessable)} of {len(present)} groups not assessable"] if unassessable else []
    if absent:
        parts.append(f"no subjects in {', '.join(row.level for row in absent)}")
    listed = "; ".join(parts)
    failed = [gap for gap in gaps if gap.verdict == FAIL]
    if failed:
        words = ", ".join(f"{_words(g)} above {g.limit:.2f}" for g in failed)
        return FAIL, f"{words}; {listed}" if listed else words
    if not gaps:
        return (
            INSUFFICIENT,
            f"fewer than two assessable groups; {listed}" if listed else "fewer than two groups",
        )
    odds = next(gap for gap in gaps if gap.metric == "equalized_odds")
    words = f"{_words(odds)}, limit {odds.limit:.2f}"
    if listed:
        words += f"; {listed}"
    blocked = (bool(unassessable) and policy.unassessable_groups == "insufficient") or (
        bool(absent) and policy.absent_groups == "insufficient"
    )
    return (PASS if all(gap.verdict == PASS for gap in gaps) and not blocked else INSUFFICIENT), words


def _words(gap: Gap) -> str:
    """A gap in words; between whom, where a difference is shown."""
    shown = f", shown: {gap.higher_in} over {gap.lower_in}" if gap.found else ""
    return f"{gap.metric} gap {gap.estimate}{shown}"


class FairnessBiasDetectorOperator:
    """Audits a model bundle over the task's groups and the policy's intersections of them.

    Args:
        task: The task; its groups are the attributes and declared levels.
        policy: Limits, minimum counts and intersections.
    """

    def __init__(self, task: Task, policy: FairnessPolicy) -> None:
        self.task, self.policy = task, policy

    def run(self, bundle: Bundle, held_out: Any) -> FairnessReport:
        """Predict and audit.

        Args:
            bundle: The model.
            held_out: Held-out part of the training set (polars or pandas) with the audit columns.

        Returns:
            The report.

        Raises:
            TrialOpsError: A feature or audit column is absent.
        """
        return audit_predictions(
            labels(held_out),
            bundle.predict(inputs(held_out, bundle.features)),
            {attribute: values(held_out, column) for attribute, column in self.task.group_columns.items()},
            threshold=bundle.threshold,
            policy=self.policy,
            declared=self.task.groups,
            model=bundle.name,
            digest=bundle.digest,
        )
