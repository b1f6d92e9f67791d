"""Whether a model treats groups of subjects alike, and whether the data can tell.

A point estimate of a gap says little in small groups: a group without positives has no true-positive rate,
and a library that reports 0 for it raises a false alarm or, mirrored, hides a real one. So a group needs a
minimum of subjects, positives and negatives to be assessed; a gap fails when its whole interval lies above
the limit, passes when it lies below, and is otherwise "insufficient evidence", which is a result. An
unassessable group is listed and keeps its attribute from passing; a declared group without a single subject is
listed as absent, since nobody has been treated in any way, and blocks only where the policy says so.

Intervals: rates by Wilson. Gaps by a bootstrap stratified by group: resampling the rows of a group is one
multinomial draw of its four confusion counts (with half a count added to each, so that a rate of 0 or 1 keeps
a variance). All pairs of groups and both error rates share one critical value, the quantile of the largest
studentised deviation, so the level holds for all of them together (Mandel and Betensky, Computational
Statistics & Data Analysis 2008;52:2158).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from trialops.models.bundle import Bundle
from trialops.models.design_matrix import inputs, labels, values
from trialops.models.discrimination import Estimate, auroc_interval, wilson
from trialops.models.policy import FairnessPolicy
from trialops.models.record import plain
from trialops.pages.page import suppressed

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.task import Task

PASS, FAIL, INSUFFICIENT = "pass", "fail", "insufficient evidence"
NOT_RECORDED = "NOT RECORDED"
ABSENT = "no held-out subjects"
ERROR_RATES = ("true_positive_rate", "false_positive_rate")


@dataclass(frozen=True)
class GroupRow:
    """One group of subjects.

    Attributes:
        level: Name of the group.
        n: Subjects.
        positives: Events.
        negatives: Non-events.
        assessable: Whether it meets the policy's minimum counts.
        why_not: Which minimum it misses.
        prevalence: Share of events.
        true_positive_rate: Flagged among events.
        false_positive_rate: Flagged among non-events.
        ppv: Events among flagged.
        selection_rate: Flagged among all.
        auroc: Area under the ROC curve.
        calibration_in_the_large: Observed share minus mean prediction; 0 is right.
    """

    level: str
    n: int
    positives: int
    negatives: int
    assessable: bool
    why_not: str
    prevalence: Estimate
    true_positive_rate: Estimate
    false_positive_rate: Estimate
    ppv: Estimate
    selection_rate: Estimate
    auroc: Estimate
    calibration_in_the_large: Estimate

    @property
    def absent(self) -> bool:
        """Whether nobody belongs to the group."""
        return self.n == 0


@dataclass(frozen=True)
class Gap:
    """Largest difference between two assessable groups.

    Attributes:
        metric: "true_positive_rate" (equal opportunity), "false_positive_rate" or "equalized_odds" (the
            larger of the two).
        estimate: The gap with its simultaneous interval.
        limit: The policy's limit.
        verdict: "pass", "fail" or "insufficient evidence".
    """

    metric: str
    estimate: Estimate
    limit: float
    verdict: str


@dataclass(frozen=True)
class AttributeReport:
    """One audit attribute: its groups, gaps and verdict, with the reason in words."""

    attribute: str
    groups: tuple[GroupRow, ...]
    gaps: tuple[Gap, ...]
    verdict: str
    reason: str


@dataclass(frozen=True)
class FairnessReport:
    """The audit of a model.

    Attributes:
        model: Name of the model.
        digest: Digest of its bundle.
        threshold: Probability from which a subject is flagged.
        attributes: One report per attribute.
        verdict: "fail" if any attribute fails, "pass" if all pass, else "insufficient evidence".
        method: How the intervals were made.
        policy: Name of the policy.
        policy_digest: Digest of the policy.
    """

    model: str
    digest: str
    threshold: float
    attributes: tuple[AttributeReport, ...]
    verdict: str
    method: str
    policy: str
    policy_digest: str

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
) -> FairnessReport:
    """Audit predictions.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Predicted probabilities of shape (n,).
        groups: Attribute -> group of each subject, shape (n,); None or NaN is the group "NOT RECORDED".
        threshold: Probability from which a subject is flagged.
        policy: Limits and minimum counts.
        declared: Attribute -> levels to report even when nobody belongs to them.
        model: Name for the report.
        digest: Digest of the bundle.

    Returns:
        The report.
    """
    import numpy as np

    flag = p >= threshold
    reports = []
    for position, (attribute, raw) in enumerate(groups.items()):
        group = np.array([NOT_RECORDED if v is None or v != v else str(v) for v in raw.tolist()], dtype=object)
        levels = list(dict.fromkeys([*(declared or {}).get(attribute, ()), *sorted(set(group.tolist()))]))
        table = _fairlearn_table(y, flag, group)
        rows = tuple(_group_row(level, y, p, flag, group == level, table.get(level, {}), policy) for level in levels)
        assessable = [row for row in rows if row.assessable]
        cells = [_confusion(y, flag, group == row.level) for row in assessable]
        gaps = _gaps(np.array(cells), policy, [policy.seed, position]) if len(assessable) > 1 else ()
        reports.append(AttributeReport(attribute, rows, gaps, *_attribute_verdict(rows, gaps, policy)))
    verdicts = {report.verdict for report in reports}
    overall = FAIL if FAIL in verdicts else PASS if verdicts == {PASS} else INSUFFICIENT
    method = (
        f"rates: Wilson; gaps: bootstrap stratified by group, {policy.replicates} replicates, "
        f"{policy.confidence_level:.0%} simultaneous over pairs of groups and both error rates"
    )
    return FairnessReport(model, digest, threshold, tuple(reports), overall, method, policy.name, policy.digest)


def _confusion(y: np.ndarray, flag: np.ndarray, part: np.ndarray) -> tuple[int, int, int, int]:
    """True positives, false negatives, false positives, true negatives of a group."""
    positive, flagged = y[part] == 1, flag[part]
    return (
        int((positive & flagged).sum()),
        int((positive & ~flagged).sum()),
        int((~positive & flagged).sum()),
        int((~positive & ~flagged).sum()),
    )


def _fairlearn_table(y: np.ndarray, flag: np.ndarray, group: np.ndarray) -> dict[str, dict[str, float]]:
    """Rates by group from fairlearn; it gives 0 for a rate without subjects: check denominators."""
    if len(y) == 0:
        return {}
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

    metrics = {
        "selection_rate": selection_rate,
        "true_positive_rate": true_positive_rate,
        "false_positive_rate": false_positive_rate,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = MetricFrame(metrics=metrics, y_true=y, y_pred=flag.astype(int), sensitive_features=group)
    return {
        str(level): {str(k): float(v) for k, v in row.items()} for level, row in frame.by_group.to_dict("index").items()
    }


def _group_row(
    level: str,
    y: np.ndarray,
    p: np.ndarray,
    flag: np.ndarray,
    part: np.ndarray,
    rates: Mapping[str, float],
    policy: FairnessPolicy,
) -> GroupRow:
    hit, miss, alarm, rest = _confusion(y, flag, part)
    n, positives, negatives = hit + miss + alarm + rest, hit + miss, alarm + rest
    confidence = policy.confidence_level

    def rate(name: str, successes: int, total: int) -> Estimate:
        score = wilson(successes, total, confidence)
        return Estimate(rates[name], score.low, score.high, score.method, confidence) if total else score

    missing = [
        f"{count} {what} (at least {least})"
        for count, what, least in (
            (n, "subjects", policy.min_subjects),
            (positives, "positives", policy.min_positives),
            (negatives, "negatives", policy.min_negatives),
        )
        if count < least
    ]
    prevalence = wilson(positives, n, confidence)
    expected = float(p[part].mean()) if n else math.nan
    return GroupRow(
        level=level,
        n=n,
        positives=positives,
        negatives=negatives,
        assessable=not missing,
        why_not=", ".join(missing) if n else ABSENT,
        prevalence=prevalence,
        true_positive_rate=rate("true_positive_rate", hit, positives),
        false_positive_rate=rate("false_positive_rate", alarm, negatives),
        ppv=wilson(hit, hit + alarm, confidence),
        selection_rate=rate("selection_rate", hit + alarm, n),
        auroc=auroc_interval(y[part], p[part], confidence),
        calibration_in_the_large=Estimate(
            prevalence.value - expected,
            prevalence.low - expected,
            prevalence.high - expected,
            prevalence.method,
            confidence,
        ),
    )


def _gaps(cells: np.ndarray, policy: FairnessPolicy, seed: list[int]) -> tuple[Gap, ...]:
    """Gaps between groups from their confusion counts, shape (g, 4), in the order of `_confusion`."""
    import numpy as np

    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [rng.multinomial(c.sum(), (c + 0.5) / (c.sum() + 2), size=policy.replicates) for c in cells], axis=1
    )  # (replicates, g, 4)
    first, second = map(list, zip(*combinations(range(len(cells)), 2), strict=True))

    def differences(counts: np.ndarray) -> np.ndarray:
        """Signed differences between groups, (..., g, 4) -> (..., pairs, 2 error rates)."""
        hit, miss, alarm, rest = np.moveaxis(counts, -1, 0)
        rates = np.stack([hit / np.maximum(hit + miss, 1), alarm / np.maximum(alarm + rest, 1)], axis=-1)
        return rates[..., first, :] - rates[..., second, :]

    replicates, seen = differences(drawn), np.abs(differences(cells))
    error = np.maximum(replicates.std(axis=0, ddof=1), 1e-12)
    largest = (np.abs(replicates - replicates.mean(axis=0)) / error).max(axis=(1, 2))
    reach = np.quantile(largest, policy.confidence_level) * error
    low, high = np.clip(seen - reach, 0, 1).max(axis=0), np.clip(seen + reach, 0, 1).max(axis=0)
    value = seen.max(axis=0)
    triples = {name: (value[k], low[k], high[k]) for k, name in enumerate(ERROR_RATES)}
    triples["equalized_odds"] = (value.max(), low.max(), high.max())
    gaps = []
    for name, (middle, lower, upper) in triples.items():
        limit = policy.limits[name]
        estimate = Estimate(
            float(middle),
            float(lower),
            float(upper),
            "stratified multinomial bootstrap, simultaneous",
            policy.confidence_level,
        )
        gaps.append(Gap(name, estimate, limit, FAIL if lower > limit else PASS if upper < limit else INSUFFICIENT))
    return tuple(gaps)


def why_not(row: GroupRow) -> str:
    """Why a group cannot be assessed, as a page may say it: of a handful of subjects no counts are told."""
    return row.why_not if row.n == suppressed(row.n) else f"{suppressed(row.n)} subjects"


def _attribute_verdict(rows: Sequence[GroupRow], gaps: Sequence[Gap], policy: FairnessPolicy) -> tuple[str, str]:
    present, absent = [row for row in rows if not row.absent], [row for row in rows if row.absent]
    unassessable = [row for row in present if not row.assessable]
    parts = [f"{len(unassessable)} of {len(present)} groups not assessable"] if unassessable else []
    if absent:
        parts.append(f"no subjects in {', '.join(row.level for row in absent)}")
    listed = "; ".join(parts)
    failed = [gap for gap in gaps if gap.verdict == FAIL]
    if failed:
        words = ", ".join(f"{g.metric} gap {g.estimate} above {g.limit:.2f}" for g in failed)
        return FAIL, f"{words}; {listed}" if listed else words
    if not gaps:
        return (
            INSUFFICIENT,
            f"fewer than two assessable groups; {listed}" if listed else "fewer than two groups",
        )
    odds = next(gap for gap in gaps if gap.metric == "equalized_odds")
    words = f"equalized_odds gap {odds.estimate}, limit {odds.limit:.2f}"
    if listed:
        words += f"; {listed}"
    blocked = (bool(unassessable) and policy.unassessable_groups == "insufficient") or (
        bool(absent) and policy.absent_groups == "insufficient"
    )
    return (PASS if all(gap.verdict == PASS for gap in gaps) and not blocked else INSUFFICIENT), words


class FairnessBiasDetectorOperator:
    """Audits a model bundle over the task's groups.

    Args:
        task: The task; its groups are the attributes and declared levels.
        policy: Limits and minimum counts.
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
