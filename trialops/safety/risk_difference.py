"""Two arms compared, term by term: risk difference with score interval, risk ratio, exact test.

All functions take arrays, one element per term, and work on all terms at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

STEPS = 80
"""Halvings of an interval of length 2: an end is exact to 2^-79."""


@dataclass(frozen=True)
class Difference:
    """Risk difference by term: estimate and interval ends, float64 arrays of one shape."""

    value: Array
    low: Array
    high: Array


def risk_difference(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, level: float = 0.95) -> Difference:
    """Difference of two proportions with Miettinen and Nurminen's score interval (Stat Med 1985; 4: 213-226).

    The interval is that of the differences which the score test, with the variance under each difference and the factor
    N/(N-1), does not reject. Defined for every table, 0 and n included.

    Args:
        x1: Subjects with the event in the arm.
        n1: Subjects in it; at least 1.
        x0: Subjects with the event in the control arm.
        n0: Subjects in it; at least 1.
        level: Confidence level.
    """
    import numpy as np
    from scipy.stats import norm

    x1, n1, x0, n0 = (np.asarray(v, dtype=np.float64) for v in np.broadcast_arrays(x1, n1, x0, n0))
    estimate = x1 / n1 - x0 / n0
    critical = norm.ppf((1 + level) / 2) ** 2
    ends = []
    for edge in (-1.0, 1.0):
        inside, outside = estimate.copy(), np.full_like(estimate, edge)
        for _ in range(STEPS):
            middle = (inside + outside) / 2
            keeps = _score(middle, x1, n1, x0, n0) <= critical
            inside, outside = np.where(keeps, middle, inside), np.where(keeps, outside, middle)
        ends.append(inside)
    return Difference(estimate, *ends)


def _score(delta: Array, x1: Array, n1: Array, x0: Array, n0: Array) -> Array:
    """Squared score statistic at a difference `delta`, the variance taken at the restricted maximum likelihood."""
    import numpy as np

    p0 = _restricted(delta, x1, n1, x0, n0)
    p1 = np.clip(p0 + delta, 0.0, 1.0)
    n = n1 + n0
    variance = (p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0) * n / (n - 1)
    gap = (x1 / n1 - x0 / n0 - delta) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, gap / variance, np.where(gap > 0, np.inf, 0.0))


def _restricted(delta: Array, x1: Array, n1: Array, x0: Array, n0: Array) -> Array:
    """The control proportion that maximises the likelihood among those with p1 = p0 + delta: the root of a cubic."""
    import numpy as np

    n = n1 + n0
    # (x1 - n1 (p + delta)) p (1 - p) + (x0 - n0 p) (p + delta) (1 - p - delta) = 0, as n p^3 + b p^2 + c p + d = 0;
    # of its three real roots the middle one is a proportion (Miettinen and Nurminen's appendix).
    b = delta * (n + n0) - n - x1 - x0
    c = delta**2 * n0 - delta * (n + 2 * x0) + x1 + x0
    d = delta * (1 - delta) * x0
    third = b / (3 * n)
    u = third**3 - b * c / (6 * n**2) + d / (2 * n)
    s = np.where(u < 0, -1.0, 1.0) * np.sqrt(np.maximum(third**2 - c / (3 * n), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(s != 0, u / s**3, 0.0)
    angle = (np.pi + np.arccos(np.clip(ratio, -1.0, 1.0))) / 3
    root = 2 * s * np.cos(angle) - third
    return np.clip(root, np.maximum(0.0, -delta), np.minimum(1.0, 1.0 - delta))


def risk_ratio(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, level: float = 0.95) -> Difference:
    """Ratio of two proportions with the interval of the logarithm (Katz 1978).

    Where one arm has no event, a half is added to events and non-events of both arms, for estimate and interval
    alike; where neither has one, the estimate is not a number and the interval is 0 to infinity.

    Args:
        x1: Subjects with the event in the arm.
        n1: Subjects in it.
        x0: Subjects with the event in the control arm.
        n0: Subjects in it.
        level: Confidence level.
    """
    import numpy as np
    from scipy.stats import norm

    x1, n1, x0, n0 = (np.asarray(v, dtype=np.float64) for v in np.broadcast_arrays(x1, n1, x0, n0))
    none = (x1 == 0) & (x0 == 0)
    add = np.where((x1 == 0) | (x0 == 0), 0.5, 0.0)
    a, m, b, k = x1 + add, n1 + 2 * add, x0 + add, n0 + 2 * add
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(a / m) - np.log(b / k)
        error = norm.ppf((1 + level) / 2) * np.sqrt(np.maximum(1 / a - 1 / m + 1 / b - 1 / k, 0.0))
    low, high = np.exp(log - error), np.exp(log + error)
    return Difference(np.where(none, np.nan, np.exp(log)), np.where(none, 0.0, low), np.where(none, np.inf, high))


def fisher_p(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike) -> Array:
    """Two-sided p of Fisher's exact test by term: the tables no more likely than the one seen.

    Args:
        x1: Subjects with the event in the arm.
        n1: Subjects in it.
        x0: Subjects with the event in the control arm.
        n0: Subjects in it.
    """
    import numpy as np
    from scipy.stats import hypergeom

    x1, n1, x0, n0 = (np.atleast_1d(np.asarray(v, dtype=np.int64)) for v in np.broadcast_arrays(x1, n1, x0, n0))
    p = np.ones(x1.shape, dtype=np.float64)
    # Terms with the same margins share their distribution: trials have few sizes and many terms with few events.
    tables, place = np.unique(np.stack([x1, n1, x0, n0]), axis=1, return_inverse=True)
    for k in range(tables.shape[1]):
        a, n, b, m = (int(v) for v in tables[:, k])
        support = np.arange(max(0, a + b - m), min(n, a + b) + 1)
        density = hypergeom.pmf(support, n + m, n, a + b)
        seen = density[support == a][0]
        p[place.ravel() == k] = min(1.0, float(density[density <= seen * (1 + 1e-7)].sum()))
    return p
