"""How well a score orders subjects: AUROC with DeLong variance, and average precision.

DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837 for the variance and for two scores on the same
subjects; Sun and Xu, IEEE Signal Processing Letters 2014;21:1389 for its computation from mid-ranks in
O(n log n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np

CELLS_AT_ONCE = 4_000_000  # bootstrap weights held in memory together


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: Point estimate; NaN when it does not exist.
        low: Lower bound.
        high: Upper bound.
        method: How the interval was made.
        level: Confidence level.
    """

    value: float
    low: float
    high: float
    method: str
    level: float = 0.95

    def as_dict(self) -> dict[str, Any]:
        """The estimate as JSON values."""
        return plain(self)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.level:.0%} CI {self.low:.3f} to {self.high:.3f})"


def z_value(level: float) -> float:
    """Two-sided normal quantile, 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + level) / 2)


def p_text(p: float) -> str:
    """A p-value in words: three decimals, or "p < 0.001"."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def wilson(successes: float, total: float, level: float = 0.95) -> Estimate:
    """Proportion with Wilson's score interval (JASA 1927;22:209).

    Args:
        successes: Count of successes.
        total: Count of trials; 0 gives NaN with the interval [0, 1].
        level: Confidence level.

    Returns:
        The proportion.
    """
    if total <= 0:
        return Estimate(math.nan, 0.0, 1.0, "no subjects", level)
    z = z_value(level)
    p = successes / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return Estimate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), "Wilson", level)


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing the mean of their ranks."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def auroc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve (Mann-Whitney, ties one half); NaN with one class.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Scores of shape (n,).

    Returns:
        The area.
    """
    events, n = int(y.sum()), len(y)
    if events in (0, n):
        return math.nan
    ranks = float(midranks(p)[y == 1].sum())
    return (ranks - events * (events + 1) / 2) / (events * (n - events))


def delong(y: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC of several scores on the same subjects, with their covariance.

    Args:
        y: Labels 0 and 1 of shape (n,), both present.
        scores: Scores of shape (k, n).

    Returns:
        Areas of shape (k,) and covariance of shape (k, k); the covariance is NaN when a class has one
        subject.
    """
    import numpy as np

    positive, negative = scores[:, y == 1], scores[:, y == 0]
    m, n = positive.shape[1], negative.shape[1]
    within_pos = np.array([midranks(row) for row in positive])
    within_neg = np.array([midranks(row) for row in negative])
    joint = np.array([midranks(row) for row in np.hstack([positive, negative])])
    # structural components: share of the other class each subject is ordered rightly against
    placed_pos = (joint[:, :m] - within_pos) / n
    placed_neg = 1 - (joint[:, m:] - within_neg) / m
    areas = placed_pos.mean(axis=1)
    if min(m, n) < 2:
        return areas, np.full((len(scores), len(scores)), np.nan)
    return areas, np.atleast_2d(np.cov(placed_pos)) / m + np.atleast_2d(np.cov(placed_neg)) / n


def auroc_interval(y: np.ndarray, p: np.ndarray, level: float = 0.95) -> Estimate:
    """AUROC with DeLong's interval.

    The plain interval is used where it stays inside (0, 1). Near the edge it is formed on the logit scale
    (Pepe 2003, section 5.2). At exactly 0 or 1 DeLong's variance is 0, which says nothing: the bound is then
    the exact binomial one for the smaller class, whose every member was ordered alike.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Scores of shape (n,).
        level: Confidence level.

    Returns:
        The area; NaN with one class, and the interval [0, 1] when a class has fewer than two subjects.
    """
    import numpy as np

    area = auroc(y, p)
    smaller = int(min(y.sum(), len(y) - y.sum()))
    if smaller < 2:
        return Estimate(area, 0.0, 1.0, "not estimable: fewer than two subjects in a class", level)
    _, covariance = delong(y, np.asarray(p, dtype=np.float64)[None, :])
    error, z = math.sqrt(max(float(covariance[0, 0]), 0.0)), z_value(level)
    if error == 0.0 and area in (0.0, 1.0):
        edge = ((1 - level) / 2) ** (1 / smaller)
        low, high = (edge, 1.0) if area == 1.0 else (0.0, 1 - edge)
        return Estimate(area, low, high, f"exact binomial bound on the smaller class ({smaller})", level)
    low, high = area - z * error, area + z * error
    if low > 0.0 and high < 1.0:
        return Estimate(area, low, high, "DeLong", level)
    centre, spread = math.log(area / (1 - area)), z * error / (area * (1 - area))
    return Estimate(
        area,
        1 / (1 + math.exp(min(spread - centre, 700))),
        1 / (1 + math.exp(min(-spread - centre, 700))),
        "DeLong, logit",
        level,
    )


def average_precision(y: np.ndarray, p: np.ndarray) -> float:
    """Average precision: precision times the step in recall, ties together; NaN without events."""
    import numpy as np

    return float(_weighted_precision(*_tie_groups(y, p), np.ones((1, len(y))))[0]) if y.sum() else math.nan


def average_precision_interval(
    y: np.ndarray, p: np.ndarray, *, replicates: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
    """Average precision with a percentile interval from a bootstrap stratified by class.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Scores of shape (n,).
        replicates: Bootstrap replicates.
        seed: Seed of the generator.
        level: Confidence level.

    Returns:
        The average precision; its floor is the prevalence, not one half.
    """
    import numpy as np

    events, n = int(y.sum()), len(y)
    value = average_precision(y, p)
    if min(events, n - events) < 2:
        return Estimate(value, 0.0, 1.0, "not estimable: fewer than two subjects in a class", level)
    order, last, target = _tie_groups(y, p)
    rng = np.random.default_rng(seed)
    drawn, done = [], 0
    while done < replicates:
        size = min(replicates - done, max(1, CELLS_AT_ONCE // n))
        weights = np.empty((size, n))
        for outcome, count in ((1, events), (0, n - events)):
            weights[:, y == outcome] = rng.multinomial(count, np.full(count, 1 / count), size=size)
        drawn.append(_weighted_precision(order, last, target, weights))
        done += size
    low, high = np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), f"bootstrap stratified by class, {replicates} replicates", level)


def _tie_groups(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order by falling score, the last position of each distinct score, and the labels in that order."""
    import numpy as np

    order = np.argsort(-p, kind="stable")
    ranked = p[order]
    return order, np.append(np.flatnonzero(np.diff(ranked)), len(p) - 1), y[order].astype(np.float64)


def _weighted_precision(order: np.ndarray, last: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision for each row of subject weights, shape (b, n) -> (b,)."""
    import numpy as np

    weights = weights[:, order]
    flagged = np.cumsum(weights, axis=1)[:, last]
    found = np.cumsum(weights * target, axis=1)[:, last]
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
    gained = np.diff(found, axis=1, prepend=0.0)
    return (precision * gained).sum(axis=1) / found[:, -1]
