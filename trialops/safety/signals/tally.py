"""Counts by 64-bit key, filled block by block in memory bounded by the number of different keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF = 32
LOW = (1 << HALF) - 1
_PENDING = 4_000_000


def run_lengths(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Different values of a sorted array and how often each occurs."""
    if not keys.size:
        return keys, keys.copy()
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return keys[starts], np.diff(np.r_[starts, keys.size])


def together(high: NDArray[np.int64], low: NDArray[np.int64]) -> NDArray[np.int64]:
    """One key of two codes below 2**31."""
    return (high << HALF) | low


def apart(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The two codes of a key."""
    return keys >> HALF, keys & LOW


class Tally:
    """A count for every key seen.

    Runs that were added wait until they are as long as what is there already, so that a key is merged a bounded number
    of times however many blocks there are.
    """

    def __init__(self) -> None:
        self._keys = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        self._runs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._waiting = 0

    def add(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Add to the counts of different keys in ascending order; counts may be negative."""
        self._runs.append((keys, counts))
        self._waiting += keys.size
        if self._waiting > max(_PENDING, self._keys.size):
            self._merge()

    def totals(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Keys in ascending order and their counts; keys that came to nothing are left out."""
        self._merge()
        some = self._counts != 0
        return (self._keys, self._counts) if some.all() else (self._keys[some], self._counts[some])

    def _merge(self) -> None:
        if not self._runs:
            return
        keys = np.concatenate([self._keys, *(run[0] for run in self._runs)])
        counts = np.concatenate([self._counts, *(run[1] for run in self._runs)])
        self._runs, self._waiting = [], 0
        # The parts are sorted already, and a stable sort merges sorted runs in linear time.
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if keys.size else np.empty(0, np.int64)
        self._keys = keys[starts]
        self._counts = np.add.reduceat(counts[order], starts) if keys.size else counts
