"""Distances between two distributions read off stored cells, and the test that goes with them.

One definition whatever the number of rows: no method is swapped for another when data grow.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from trialops.monitoring.cells import FeatureProfile, Tally

FLOOR = 1e-4
"""Least share of a cell in the PSI: an empty cell would make it infinite, and a share below this says nothing."""


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """Population stability index (Siddiqi, Credit Risk Scorecards, 2006): sum of (c - r) ln(c / r) over the cells.

    r and c are the cells' shares of reference and current rows. A share below `FLOOR` is taken as `FLOOR`, on both
    sides and without scaling the others: a cell empty on both sides adds nothing, and the treatment does not depend
    on n.

    Args:
        reference: Rows per cell, shape (k,).
        current: Rows per cell, shape (k,).

    Returns:
        The index, 0 or more; NaN without rows on either side.
    """
    import numpy as np

    r, c = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if r.sum() == 0 or c.sum() == 0:
        return math.nan
    r, c = np.maximum(r / r.sum(), FLOOR), np.maximum(c / c.sum(), FLOOR)
    return float(((c - r) * np.log(c / r)).sum())


def chance_psi(reference: np.ndarray, current: np.ndarray) -> float:
    """What the PSI of two samples of one population is on average: (1/n + 1/m) (cells - 1).

    Under no difference PSI / (1/n + 1/m) is asymptotically chi-square with cells - 1 degrees of freedom (Yurdakul and
    Naranjo, Statistical properties of the population stability index, Journal of Risk Model Validation 14 (2020)).

    Args:
        reference: Rows per cell.
        current: Rows per cell.
    """
    import numpy as np

    r, c = np.asarray(reference), np.asarray(current)
    return float((1 / r.sum() + 1 / c.sum()) * max(int(((r + c) > 0).sum()) - 1, 0))


def cut_cells(reference: np.ndarray, current: np.ndarray) -> tuple[float, float]:
    """Test that current rows fall into the cells cut at the reference's own quantiles as a sample of it would.

    The cells' shares of the population are not known: between the order statistics of n reference values they are
    Dirichlet distributed, so the counts of m current values are Dirichlet-multinomial. Pearson's statistic over the
    expected counts, divided by that distribution's extra variance 1 + m/n, is then about chi-square; its scale and
    degrees of freedom are matched to the variance that the thin cells of a small reference bring (Satterthwaite 1946).
    Cells next to each other are joined, by the reference and m alone, until each has ten reference values and five are
    expected in it. Asymptotically this is PSI / (1/n + 1/m), see :func:`chance_psi`.

    Args:
        reference: Known reference values per cell, shape (k,).
        current: Known current values per cell, shape (k,).

    Returns:
        Degrees of freedom (before matching), and the p-value; 0 and 1 where one cell is left.
    """
    from scipy.special import chdtrc

    n, m = float(sum(reference)), float(sum(current))
    k, c = _joined(reference, current, n, m)
    freedom = k.size - 1
    if freedom < 1:
        return 0, 1.0
    share = m / (n + m)
    statistic = float(((c - m * k / n) ** 2 / (m * k / n)).sum() / (1 + m / n))
    excess = float((share**2 * 6 / k + (1 - share) ** 2 / (m * k / n)).mean())
    scale = 2 / (2 + excess)
    return freedom, float(chdtrc(freedom * scale, statistic * scale))


def _joined(reference: np.ndarray, current: np.ndarray, n: float, m: float) -> tuple[np.ndarray, np.ndarray]:
    """Cells from left to right, each joined with the next until it is large enough; a small rest joins the last."""
    import numpy as np

    parts: list[tuple[float, float]] = []
    k = c = 0.0
    for before, now in zip(reference, current, strict=True):
        k, c = k + float(before), c + float(now)
        if k >= 10 and m * k / n >= 5:
            parts.append((k, c))
            k = c = 0.0
    if parts and (k or c):
        parts[-1] = (parts[-1][0] + k, parts[-1][1] + c)
    return np.array([part[0] for part in parts]), np.array([part[1] for part in parts])


def homogeneity(reference: np.ndarray, current: np.ndarray, *, min_expected: float) -> tuple[int, float]:
    """Pearson's chi-square test that two samples fall into categories alike.

    Categories in which fewer than `min_expected` rows of the smaller sample are expected are tested together as one
    (Cochran 1954); both samples pooled decide which, so that the test keeps its level.

    Args:
        reference: Rows per category, shape (k,).
        current: Rows per category, shape (k,).
        min_expected: Least expected count.

    Returns:
        Degrees of freedom and p-value; 0 and 1 where one category is left.
    """
    import numpy as np
    from scipy.special import chdtrc

    table = np.array([reference, current], dtype=np.float64)
    table = table[:, table.sum(axis=0) > 0]
    totals = table.sum(axis=1)
    if table.shape[1] < 2 or totals.min() == 0:
        return 0, 1.0
    scale = totals.min() / totals.sum()
    thin = table.sum(axis=0) * scale < min_expected
    if thin.any():
        rest, table = table[:, thin].sum(axis=1), table[:, ~thin]
        if table.shape[1] and rest.sum() * scale < min_expected:
            table[:, int(table.sum(axis=0).argmin())] += rest
        else:
            table = np.column_stack([table, rest])
    freedom = table.shape[1] - 1
    if freedom < 1:
        return 0, 1.0
    wanted = np.outer(totals, table.sum(axis=0)) / totals.sum()
    return freedom, float(chdtrc(freedom, float(((table - wanted) ** 2 / wanted).sum())))


def rate_test(before: int, n: int, now: int, m: int) -> float:
    """Test that something rare (a missing value, a new category) is as frequent in two samples, at any number of rows.

    Given how often it occurs in both together, the part of the second sample is binomial with probability m / (n + m)
    (Przyborowski and Wilenski 1940); two-sided as twice the smaller tail. Exact for what is rare, else on the safe
    side.

    Args:
        before: Occurrences in the reference.
        n: Rows of the reference.
        now: Current occurrences.
        m: Current rows.

    Returns:
        The p-value.
    """
    from scipy.special import bdtr, bdtrc

    total = before + now
    if total == 0 or min(n, m) == 0:
        return 1.0
    share = m / (n + m)
    least = float(bdtr(now, total, share))
    most = float(bdtrc(now - 1, total, share)) if now else 1.0
    return min(1.0, 2 * min(least, most))


def detectable_psi(n: int, m: int, freedom: int, *, alpha: float, power: float) -> float:
    """PSI that the test at level `alpha` sees with probability `power`.

    The statistic is about noncentral chi-square with noncentrality PSI / (1/n + 1/m).

    Args:
        n: Rows of the reference.
        m: Current rows.
        freedom: Degrees of freedom of the test.
        alpha: Its level.
        power: Probability of seeing it.

    Returns:
        The index; infinite where there is nothing to test.
    """
    from scipy.special import chdtri, chndtrinc

    if freedom < 1 or min(n, m) == 0:
        return math.inf
    return float(chndtrinc(chdtri(freedom, alpha), freedom, 1 - power) * (1 / n + 1 / m))


def adjusted(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjusted p-values (JRSS B 57 (1995)): reject where they are at most the wanted FDR.

    Args:
        p: p-values, shape (k,).
    """
    import numpy as np

    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    answer = np.empty_like(p)
    answer[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return answer


def ks(profile: FeatureProfile, current: Tally) -> tuple[float, float]:
    """Two-sample Kolmogorov-Smirnov statistic on the stored grid, and its asymptotic p-value.

    Both distribution functions are compared at every point of the reference's grid, from the left and from the right.
    Exact while the reference has no more distinct values than the grid has points; else short of the statistic of the
    full samples by at most the share of reference rows between two neighbouring points (half a per cent).

    Args:
        profile: The feature in the reference.
        current: Current rows, counted by its grid.

    Returns:
        Statistic and p-value; NaN where either side has no number.
    """
    import numpy as np
    from scipy.special import kolmogorov

    n, m = profile.known, current.n - current.counts[-1]
    if not profile.grid or m == 0:
        return math.nan, math.nan
    left = np.abs(np.array(profile.below) / n - current.below / m)
    right = np.abs(np.array(profile.upto) / n - current.upto / m)
    statistic = float(max(left.max(), right.max()))
    return statistic, float(kolmogorov(statistic * math.sqrt(n * m / (n + m))))


def wasserstein(profile: FeatureProfile, current: Tally) -> float:
    """First Wasserstein distance in standard deviations of the reference: the area between the distribution functions.

    Between two points of the grid both functions are taken at the lower one; outside the grid the current rows are used
    as they are. Exact while the grid holds every distinct value of both samples within its range.

    Args:
        profile: The feature in the reference.
        current: Current rows, counted by its grid.

    Returns:
        The distance; NaN where the reference does not vary or either side has no number.
    """
    import numpy as np

    n, m = profile.known, current.n - current.counts[-1]
    if not profile.grid or m == 0 or not profile.sd > 0:
        return math.nan
    apart = np.abs(np.array(profile.upto) / n - current.upto / m)
    inside = float((apart[:-1] * np.diff(np.array(profile.grid))).sum())
    return (current.before + inside + current.beyond) / profile.sd
