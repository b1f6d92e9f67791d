"""What is told of one group of subjects, each figure with its interval and only where the counts allow it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from trialops.models.calibration import logit, newton_logistic
from trialops.models.discrimination import Estimate, auroc_interval, wilson, z_value
from trialops.models.policy import FairnessPolicy
from trialops.pages.page import SMALLEST_CELL, suppressed

if TYPE_CHECKING:
    import numpy as np

NOT_RECORDED = "NOT RECORDED"
ABSENT = "no held-out subjects"


@dataclass(frozen=True)
class GroupRow:
    """One group of subjects; intervals are pointwise.

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
        calibration_slope: Factor on the log odds; 1 is right. NaN where the group has too few events.
        net_benefit: Of acting on the model at the threshold, in net events found per subject of the group.
        net_benefit_all: Of acting on the whole group at the same threshold; acting on nobody is worth 0.
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
    calibration_slope: Estimate
    net_benefit: Estimate
    net_benefit_all: float

    @property
    def absent(self) -> bool:
        """Whether nobody belongs to the group."""
        return self.n == 0


@dataclass(frozen=True)
class Family:
    """An attribute or intersection ("sex x age_band"): its levels, and the level of each subject as a number."""

    name: str
    levels: tuple[str, ...]
    code: np.ndarray

    def names(self) -> list[str]:
        """Level of each subject."""
        return [self.levels[k] for k in self.code.tolist()]


def families(
    groups: Mapping[str, np.ndarray], declared: Mapping[str, Sequence[str]], policy: FairnessPolicy
) -> list[Family]:
    """Attributes, then the intersections of the policy whose attributes are all there.

    Args:
        groups: Attribute -> group of each subject, shape (n,); None or NaN is the group "NOT RECORDED".
        declared: Attribute -> levels to list even when nobody belongs to them.
        policy: Names the intersections.
    """
    singles = {name: _coded(name, _texts(raw), declared.get(name, ())) for name, raw in groups.items()}
    crossed = []
    for names in policy.intersections:
        if not all(name in singles for name in names):
            continue
        parts = [singles[name] for name in names]
        text = [" / ".join(levels) for levels in zip(*(part.names() for part in parts), strict=True)]
        told = [" / ".join(levels) for levels in product(*(declared.get(name, ()) for name in names))]
        crossed.append(_coded(" x ".join(names), text, told))
    return [*singles.values(), *crossed]


def _texts(raw: np.ndarray) -> list[str]:
    return [NOT_RECORDED if v is None or v != v else str(v) for v in raw.tolist()]


def _coded(name: str, text: Sequence[str], declared: Sequence[str]) -> Family:
    """Levels in declared order, then the others sorted."""
    import numpy as np

    levels = tuple(dict.fromkeys([*declared, *sorted(set(text))]))
    number = {level: k for k, level in enumerate(levels)}
    return Family(name, levels, np.array([number[t] for t in text], dtype=np.int64))


def group_row(
    level: str, y: np.ndarray, p: np.ndarray, counts: np.ndarray, threshold: float, policy: FairnessPolicy
) -> GroupRow:
    """Describe one group.

    Args:
        level: Name of the group.
        y: Its labels, shape (n,).
        p: Its predictions, shape (n,).
        counts: Its hits, misses, false alarms and right rejections.
        threshold: Threshold probability of the net benefit.
        policy: Minimum counts and confidence level.

    Returns:
        The row; what has no denominator is NaN with the widest interval.
    """
    hit, miss, alarm, rest = (int(count) for count in counts)
    n, positives, negatives = hit + miss + alarm + rest, hit + miss, alarm + rest
    confidence = policy.confidence_level
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
    expected = float(p.mean()) if n else math.nan
    share = positives / n if n else math.nan
    return GroupRow(
        level=level,
        n=n,
        positives=positives,
        negatives=negatives,
        assessable=not missing,
        why_not=", ".join(missing) if n else ABSENT,
        prevalence=prevalence,
        true_positive_rate=wilson(hit, positives, confidence),
        false_positive_rate=wilson(alarm, negatives, confidence),
        ppv=wilson(hit, hit + alarm, confidence),
        selection_rate=wilson(hit + alarm, n, confidence),
        auroc=auroc_interval(y, p, confidence),
        calibration_in_the_large=Estimate(
            prevalence.value - expected,
            prevalence.low - expected,
            prevalence.high - expected,
            prevalence.method,
            confidence,
        ),
        calibration_slope=calibration_slope(y, p, policy),
        net_benefit=net_benefit(hit, alarm, n, threshold, confidence),
        net_benefit_all=share - (1 - share) * threshold / (1 - threshold) if threshold < 1 else math.nan,
    )


def calibration_slope(y: np.ndarray, p: np.ndarray, policy: FairnessPolicy) -> Estimate:
    """Slope of the outcome on the log odds of the prediction (Cox 1958), with Wald's interval.

    A slope from a few events wanders between 0 and 3 and says nothing; it needs `policy.min_events_for_slope` events
    and as many non-events.
    """
    import numpy as np

    level, fewest = policy.confidence_level, int(min(y.sum(), len(y) - y.sum()))
    if fewest < policy.min_events_for_slope:
        return Estimate(math.nan, math.nan, math.nan, "too few events or non-events", level)
    linear = logit(p)
    fit = newton_logistic(np.column_stack([np.ones(len(y)), linear]), y) if np.ptp(linear) > 1e-9 else None
    if fit is None:
        return Estimate(math.nan, math.nan, math.nan, "not estimable", level)
    value, reach = float(fit[0][1]), z_value(level) * math.sqrt(float(fit[1][1, 1]))
    return Estimate(value, value - reach, value + reach, "Wald", level)


def net_benefit(hits: int, alarms: int, n: int, threshold: float, level: float) -> Estimate:
    """Net benefit with its normal interval.

    It is the mean over subjects of 1 for a hit, minus the odds of the threshold for a false alarm, 0 otherwise; its
    variance is that of a mean.

    Args:
        hits: True positives.
        alarms: False positives.
        n: Subjects.
        threshold: Threshold probability, below 1.
        level: Confidence level.
    """
    if n < 2 or not 0 <= threshold < 1:
        return Estimate(math.nan, math.nan, math.nan, "not estimable", level)
    odds = threshold / (1 - threshold)
    value = (hits - odds * alarms) / n
    variance = ((hits + odds * odds * alarms) / n - value * value) * n / (n - 1)
    reach = z_value(level) * math.sqrt(max(variance, 0.0) / n)
    return Estimate(value, value - reach, value + reach, "normal", level)


def why_not(row: GroupRow) -> str:
    """Why a group cannot be assessed, as a page may say it: of a handful of subjects no counts are told."""
    if row.absent or row.assessable:
        return row.why_not
    if row.n != suppressed(row.n):
        return f"{suppressed(row.n)} subjects"
    small = [
        name for name, count in (("events", row.positives), ("non-events", row.negatives)) if count < SMALLEST_CELL
    ]
    return f"fewer than {SMALLEST_CELL} {' and '.join(small)}" if small else row.why_not
