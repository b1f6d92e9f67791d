"""Counts by pairs of codes, filled block by block in memory bounded by the number of different pairs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Runs = tuple[NDArray[np.int64], NDArray[np.int64]]

HALF = 32
LOW = (1 << HALF) - 1
DENSE_CELLS = 120_000_000
"""Largest rectangle of codes kept as one array: 480 MB."""
PENDING = 4_000_000
"""Keys that wait at most before they are merged."""
_BLOCK_CELLS = 2_000_000
_WORKERS = 2


def run_lengths(keys: NDArray[np.int64]) -> Runs:
    """Different values of a sorted array and how often each occurs."""
    if not keys.size:
        return keys, keys.copy()
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.diff(starts, append=keys.size)


def together(high: NDArray[np.int64], low: NDArray[np.int64]) -> NDArray[np.int64]:
    """One key of two codes below 2**31."""
    return (high << HALF) | low


def apart(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The two codes of a key."""
    return keys >> HALF, keys & LOW


class Tally:
    """A count for every key seen.

    Runs that were added wait and are merged together. When many have come and the codes span a rectangle of at most
    ``cells`` cells, the counts move into it: an addition per key from there on. Beyond that size (hundreds of thousands
    of verbatim product names) they stay sorted runs, which wait until they are as long as what is merged already, so
    that a key is merged a bounded number of times however many blocks there are.

    Args:
        cells: Largest rectangle.
        pending: Keys that wait at most before they are merged.
    """

    def __init__(self, cells: int = DENSE_CELLS, pending: int = PENDING) -> None:
        self._cells, self._pending = cells, pending
        self._grid: NDArray[np.int32] | None = None
        self._runs: list[Runs] = []
        self._waiting = 0
        self._merged = 0

    def add(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Add to the counts of different keys in ascending order; counts may be negative."""
        if not keys.size:
            return
        if self._grid is not None:
            if self._into_grid(keys, counts):
                return
            self._runs, self._grid = [_nonzero(self._grid)], None
            self._merged = self._runs[0][0].size
            self._cells = 0
        self._runs.append((keys, counts))
        self._waiting += keys.size
        if self._waiting > max(self._pending, self._merged):
            self._merge()
            if self._cells:
                self._grid = np.zeros((0, 0), np.int32)
                if self._into_grid(*self._runs[0]):
                    self._runs = []
                else:
                    self._grid, self._cells = None, 0

    def totals(self) -> Runs:
        """Keys in ascending order and their counts; keys that came to nothing are left out."""
        if self._grid is not None:
            return _nonzero(self._grid)
        if not self._runs:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        self._merge()
        keys, counts = self._runs[0]
        some = counts != 0
        return (keys, counts) if some.all() else (keys[some], counts[some])

    def ordered(
        self, high_place: NDArray[np.int64], low_place: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Codes and counts under new codes, in their order.

        Args:
            high_place: The new code of each first code.
            low_place: The new code of each second code.

        Returns:
            New first code, new second code, count; keys that came to nothing are left out.
        """
        if self._grid is None or not self._grid.size:
            keys, counts = self.totals()
            high, low = apart(keys)
            high, low = high_place[high], low_place[low]
            order = np.argsort(together(high, low))  # the keys are all different
            return high[order], low[order], counts[order]
        grid = self._grid
        rows, columns = np.argsort(high_place), np.argsort(low_place)
        rows, columns = rows[rows < grid.shape[0]], columns[columns < grid.shape[1]]

        def part(start: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
            block = grid[rows[start : start + step]].take(columns, axis=1)
            there = np.flatnonzero(block)
            line = there // columns.size
            new_high, new_low = high_place[rows[start + line]], low_place[columns[there - line * columns.size]]
            return new_high, new_low, block.reshape(-1)[there].astype(np.int64)

        step = max(1, _BLOCK_CELLS // max(columns.size, 1))
        with ThreadPoolExecutor(_WORKERS) as pool:
            parts = list(pool.map(part, range(0, rows.size, step)))
        return (
            np.concatenate([found[0] for found in parts]),
            np.concatenate([found[1] for found in parts]),
            np.concatenate([found[2] for found in parts]),
        )

    def _into_grid(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> bool:
        """Add in the rectangle; False where it would become too large."""
        high, low = apart(keys)
        if not self._holds(int(high.max()) + 1, int(low.max()) + 1):
            return False
        assert self._grid is not None
        places = high * self._grid.shape[1] + low
        self._grid.reshape(-1)[places] += counts.astype(np.int32)
        return True

    def _holds(self, rows: int, columns: int) -> bool:
        """Make the rectangle large enough, with room to grow; False where it may not become so large."""
        assert self._grid is not None
        have = self._grid.shape
        if rows <= have[0] and columns <= have[1]:
            return True
        rows, columns = max(rows, have[0]), max(columns, have[1])
        if rows * columns > self._cells:
            return False
        roomy = rows + rows // 8, columns + columns // 8
        shape = roomy if roomy[0] * roomy[1] <= self._cells else (rows, columns)
        grown = np.zeros(shape, np.int32)
        grown[: have[0], : have[1]] = self._grid
        self._grid = grown
        return True

    def _merge(self) -> None:
        if len(self._runs) == 1:
            return
        keys = np.concatenate([run[0] for run in self._runs])
        counts = np.concatenate([run[1] for run in self._runs])
        # The parts are sorted already, and a stable sort merges sorted runs in linear time.
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        self._runs = [(keys[starts], np.add.reduceat(counts[order], starts))]
        self._waiting, self._merged = 0, starts.size


def _nonzero(grid: NDArray[np.int32]) -> Runs:
    flat = grid.reshape(-1)
    there = np.flatnonzero(flat)
    width = max(grid.shape[1], 1)
    high = there // width
    return together(high, there - high * width), flat[there].astype(np.int64)
