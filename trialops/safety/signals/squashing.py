"""Fewer points for the fit of the prior: data squashing (DuMouchel and Pregibon 2001)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trialops.safety.signals.policy import SquashingPolicy


@dataclass(frozen=True)
class Points:
    """Weighted pairs (N, E).

    Attributes:
        n: Reports, at least 1.
        expected: Expected reports, above 0.
        weight: Pairs that a point stands for.
    """

    n: NDArray[np.float64]
    expected: NDArray[np.float64]
    weight: NDArray[np.float64]


def squash(n: NDArray[np.int64], expected: NDArray[np.float64], policy: SquashingPolicy | None) -> Points:
    """Put pairs with the same N and neighbouring E together.

    For each N of which there are at least ``from_pairs`` pairs, these are sorted by E. The ``keep`` pairs with the
    largest E stay as they are: there E is spread widest and the likelihood bends most. The others, from the smallest E
    on, become bins of ``bin`` neighbours (the last one may be smaller; bins are larger where there would be more than
    ``max_bins`` of them), each a point with the bin's mean E, weighted with its number of pairs. N is kept exactly, and
    so are the number of pairs of every N, the sum of N and the sum of E.

    Args:
        n: Reports of each pair.
        expected: Expected reports of each pair.
        policy: The sizes; None squashes nothing.

    Returns:
        Points sorted by N, then E.
    """
    order = np.lexsort((expected, n))
    n, expected = n[order], expected[order]
    starts = np.flatnonzero(np.r_[True, n[1:] != n[:-1]]) if n.size else np.empty(0, np.int64)
    sizes = np.diff(np.r_[starts, n.size])
    rank = np.arange(n.size) - np.repeat(starts, sizes)
    group = np.arange(n.size)
    if policy is not None:
        for start, size in zip(starts, sizes, strict=True):
            binned = size - policy.keep
            if size >= policy.from_pairs and binned > 0:
                width = max(policy.bin, -(-binned // policy.max_bins))
                here = slice(start, start + binned)
                group[here] = start + rank[here] // width * width
    first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if n.size else starts
    weight = np.diff(np.r_[first, n.size]).astype(np.float64)
    mean = np.add.reduceat(expected, first) / weight if n.size else expected
    return Points(n[first].astype(np.float64), mean, weight)
