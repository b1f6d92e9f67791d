"""Standardised mean differences between two groups.

Continuous and binary: P. C. Austin, Statistics in Medicine 28 (2009) 3083-3107, doi:10.1002/sim.3697. Several levels:
D. Yang and J. E. Dalton, SAS Global Forum 2012, paper 335, the Mahalanobis distance of the two vectors of proportions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def continuous(mean_1: float, sd_1: float, mean_2: float, sd_2: float) -> float | None:
    """(mean 1 - mean 2) / sqrt((variance 1 + variance 2) / 2); None where both groups have no spread and differ.

    Args:
        mean_1: Mean of the first group.
        sd_1: Its standard deviation, n - 1 below the fraction.
        mean_2: Mean of the second group.
        sd_2: Its standard deviation.
    """
    spread = math.sqrt((sd_1**2 + sd_2**2) / 2)
    difference = mean_1 - mean_2
    return difference / spread if spread else (0.0 if difference == 0 else None)


def binary(p_1: float, p_2: float) -> float | None:
    """(p 1 - p 2) / sqrt((p 1 (1 - p 1) + p 2 (1 - p 2)) / 2); None where all of one group and none of the other."""
    return continuous(p_1, math.sqrt(p_1 * (1 - p_1)), p_2, math.sqrt(p_2 * (1 - p_2)))


def multinomial(p_1: Sequence[float], p_2: Sequence[float]) -> float | None:
    """Distance of two distributions over the same levels; never negative.

    sqrt(d' S^-1 d) with d the differences of all proportions but one, and S the mean of the two multinomial covariance
    matrices of a single person. Levels that neither group has are left out.

    Args:
        p_1: Proportions in the first group, summing to 1.
        p_2: In the second.

    Returns:
        None where S cannot be inverted: a level is all of one group and none of the other.
    """
    import numpy as np

    pairs = [(a, b) for a, b in zip(p_1, p_2, strict=True) if a or b]
    if len(pairs) < 2:
        return 0.0
    first, second = (np.array(side)[:-1] for side in zip(*pairs, strict=True))
    covariance = sum((np.diag(p) - np.outer(p, p) for p in (first, second)), start=np.zeros((len(first),) * 2)) / 2
    difference = first - second
    if np.linalg.matrix_rank(covariance) < len(first):
        return 0.0 if not difference.any() else None
    return float(np.sqrt(difference @ np.linalg.solve(covariance, difference)))
