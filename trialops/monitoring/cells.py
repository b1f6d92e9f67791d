"""The cells of a feature: stored once from the reference, counted again in whatever comes later.

A numeric feature with more than :data:`VALUES` distinct values is cut at the reference's deciles; a cell holds its
upper edge. One with fewer has a cell for each value and one for any other; words likewise, the most frequent first.
Missing is always a cell of its own; an infinite number counts as missing, as the models take it.

Counting sorts a column once (numpy sorts numbers with SIMD, several times faster than it looks each of them up in a
list of edges) and reads every count off the sorted column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np

BINS = 10
"""Cells of a continuous feature before equal edges fall together."""
VALUES = 10
"""Most distinct numbers that get a cell each."""
WORDS = 20
"""Most words that get a cell each."""
GRID = 200
"""Steps of the stored reference distribution: every half per cent of it."""
QUANTILES, NUMBERS, TEXT = "quantiles", "values", "words"


@dataclass(frozen=True)
class FeatureProfile:
    """One feature in the reference.

    Attributes:
        name: Feature.
        kind: "quantiles", "values" or "words".
        edges: Inner edges, rising; cell i holds edges[i-1] < x <= edges[i]. Empty unless kind is "quantiles".
        numbers: Values with a cell of their own, rising, if kind is "values".
        words: Words with a cell of their own, the most frequent first, if kind is "words".
        counts: Rows per cell, in order; then, unless kind is "quantiles", any other value; last, missing.
        n: Rows.
        mean: Mean of known values; NaN without any, and for words.
        sd: Their standard deviation (n - 1).
        grid: Order statistics at every half per cent, from the least to the greatest value; every distinct value where
            there are no more than that.
        below: Known values less than each point of the grid.
        upto: Known values less than or equal to it.
    """

    name: str
    kind: str
    edges: tuple[float, ...]
    numbers: tuple[float, ...]
    words: tuple[str, ...]
    counts: tuple[int, ...]
    n: int
    mean: float
    sd: float
    grid: tuple[float, ...]
    below: tuple[int, ...]
    upto: tuple[int, ...]

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.counts[-1]

    @property
    def known(self) -> int:
        """Rows with a value."""
        return self.n - self.missing

    @property
    def numeric(self) -> bool:
        """Whether its values have an order."""
        return self.kind != TEXT

    def quantile(self, share: float) -> float:
        """The least value of the grid that at least this share of known values does not exceed; NaN without a grid."""
        reached = next((i for i, count in enumerate(self.upto) if count >= share * self.known), None)
        return math.nan if reached is None else self.grid[reached]

    def labels(self) -> tuple[str, ...]:
        """Names of the cells, in the order of the counts."""
        if self.kind != QUANTILES:
            return (*map(_short, self.numbers), *self.words, "other", "missing")
        if not self.edges:
            return ("any", "missing")
        inner = zip(self.edges, self.edges[1:], strict=False)
        middle = [f"{_short(low)} – {_short(high)}" for low, high in inner]
        return (f"≤ {_short(self.edges[0])}", *middle, f"> {_short(self.edges[-1])}", "missing")


@dataclass(frozen=True)
class Tally:
    """One feature counted in other rows, by the cells and the grid of its profile.

    Attributes:
        counts: Rows per cell, as in the profile.
        n: Rows.
        mean: Mean of known values.
        sd: Their standard deviation.
        below: Known values less than each point of the profile's grid.
        upto: Known values less than or equal to it.
        before: Mean distance by which values lie before the grid, over all known values.
        beyond: Mean distance by which they lie beyond it.
    """

    counts: tuple[int, ...]
    n: int
    mean: float
    sd: float
    below: np.ndarray
    upto: np.ndarray
    before: float
    beyond: float


def column(frame: Any, name: str) -> np.ndarray:
    """One column of a polars or pandas frame, or of a mapping of arrays.

    Returns:
        float64 with NaN for missing; for words an object array with None.

    Raises:
        TrialOpsError: There is no such column.
    """
    import numpy as np

    names = frame.keys() if isinstance(frame, Mapping) else frame.columns
    if name not in names:
        raise TrialOpsError(
            "A feature that is to be watched is absent.",
            where=f"column {name}",
            fix="Build the features with the definitions the model was trained on.",
        )
    held = frame[name]
    if hasattr(held, "dtype") and str(held.dtype) in ("String", "Categorical", "Enum", "Null"):
        import polars as pl

        return held.cast(pl.Float64 if held.dtype == pl.Null else pl.String).to_numpy()
    values = held.to_numpy() if hasattr(held, "to_numpy") else np.asarray(held)
    if values.dtype.kind in "OUS":
        if all(item is None or isinstance(item, float | int) for item in values):
            return np.array([np.nan if item is None else item for item in values], dtype=np.float64)
        return np.array([None if item is None or item != item else str(item) for item in values], dtype=object)
    return np.asarray(values, dtype=np.float64)


def describe(name: str, values: np.ndarray) -> FeatureProfile:
    """Profile of one column, from one sort of it.

    Args:
        name: Feature.
        values: Column from :func:`column`.
    """
    import numpy as np

    if values.dtype == object:
        return _describe_words(name, values)
    known = _known(values)
    size = known.size
    starts = np.flatnonzero(np.r_[True, known[1:] != known[:-1]]) if size else np.empty(0, dtype=np.int64)
    grid = known[starts] if starts.size <= GRID + 1 else np.unique(known[_places(size, GRID)])
    below, upto = _around(known, grid)
    if starts.size <= VALUES:
        kind, edges, numbers = NUMBERS, grid[:0], grid
    else:
        kind, numbers = QUANTILES, grid[:0]
        edges = np.unique(known[_places(size, BINS)[1:-1]])
        edges = edges[edges < known[-1]]  # an edge at the greatest value would leave nothing above it
    counts = _cells(kind, edges, grid, below, upto, size, len(values))
    mean, sd = _moments(known)
    return FeatureProfile(
        name=name,
        kind=kind,
        edges=tuple(edges.tolist()),
        numbers=tuple(numbers.tolist()),
        words=(),
        counts=counts,
        n=len(values),
        mean=mean,
        sd=sd,
        grid=tuple(grid.tolist()),
        below=tuple(below.tolist()),
        upto=tuple(upto.tolist()),
    )


def tally(profile: FeatureProfile, values: np.ndarray) -> Tally:
    """Count a column by a profile's cells and grid.

    Raises:
        TrialOpsError: The column holds words where the reference has numbers, or the other way round.
    """
    import numpy as np

    cells_only = np.empty(0, dtype=np.int64)
    if (values.dtype == object) == profile.numeric:
        raise TrialOpsError(
            "A feature has numbers in the one data set and words in the other.",
            where=f"column {profile.name}",
            fix="Build the features with the definitions the model was trained on.",
        )
    if not profile.numeric:
        held = np.bincount(assign(profile, values), minlength=len(profile.counts))
        return Tally(tuple(held.tolist()), len(values), math.nan, math.nan, cells_only, cells_only, 0.0, 0.0)
    known, grid = _known(values), np.array(profile.grid)
    below, upto = _around(known, grid)
    counts = _cells(profile.kind, np.array(profile.edges), grid, below, upto, known.size, len(values))
    mean, sd = _moments(known)
    before = beyond = 0.0
    if known.size and grid.size:
        before = float((grid[0] - known[: below[0]]).sum() / known.size)
        beyond = float((known[upto[-1] :] - grid[-1]).sum() / known.size)
    return Tally(counts, len(values), mean, sd, below, upto, before, beyond)


def assign(profile: FeatureProfile, values: np.ndarray) -> np.ndarray:
    """Cell of every row, shape (n,): what slices of the rows are counted by.

    Args:
        profile: The feature.
        values: Column from :func:`column`.
    """
    import numpy as np

    missing = len(profile.counts) - 1
    if not profile.numeric:
        place = {word: i for i, word in enumerate(profile.words)}
        return np.array([missing if v is None else place.get(v, missing - 1) for v in values], dtype=np.int64)
    if profile.kind == QUANTILES:
        found = np.searchsorted(np.array(profile.edges), values, side="left")
    else:
        numbers = np.array(profile.numbers, dtype=np.float64)
        found = np.searchsorted(numbers, values)
        held = numbers[np.minimum(found, numbers.size - 1)] == values if numbers.size else np.zeros(len(values), bool)
        found = np.where(held, found, missing - 1)
    return np.where(np.isfinite(values), found, missing)


def _known(values: np.ndarray) -> np.ndarray:
    """Finite values, sorted: numpy puts NaN last, after infinity."""
    import numpy as np

    ordered = np.sort(values)
    return ordered[np.searchsorted(ordered, -np.inf, "right") : np.searchsorted(ordered, np.inf, "left")]


def _places(size: int, steps: int) -> np.ndarray:
    """Positions of the order statistics at 0, 1/steps, ... 1 (inverse of the empirical distribution)."""
    import numpy as np

    return np.maximum(-(-size * np.arange(steps + 1) // steps) - 1, 0)


def _around(known: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    return np.searchsorted(known, grid, "left"), np.searchsorted(known, grid, "right")


def _cells(
    kind: str, edges: np.ndarray, grid: np.ndarray, below: np.ndarray, upto: np.ndarray, known: int, n: int
) -> tuple[int, ...]:
    import numpy as np

    if kind == QUANTILES:  # every edge is a point of the grid
        cells = np.diff(np.r_[0, upto[np.searchsorted(grid, edges)], known])
        return (*cells.tolist(), n - known)
    cells = upto - below
    return (*cells.tolist(), known - int(cells.sum()), n - known)


def _moments(known: np.ndarray) -> tuple[float, float]:
    mean = float(known.mean()) if known.size else math.nan
    return mean, float(known.std(ddof=1)) if known.size > 1 else math.nan


def _describe_words(name: str, values: np.ndarray) -> FeatureProfile:
    import numpy as np

    known = [value for value in values if value is not None]
    words, counts = np.unique(np.array(known, dtype=str), return_counts=True)
    order = np.lexsort((words, -counts))[:WORDS]
    kept = tuple(str(words[i]) for i in order)
    held = [int(counts[i]) for i in order]
    cells = (*held, len(known) - sum(held), len(values) - len(known))
    return FeatureProfile(name, TEXT, (), (), kept, cells, len(values), math.nan, math.nan, (), (), ())


def _short(value: float) -> str:
    return f"{value:.4g}"
