"""Counts of a table shown so that none of 1 to 10 persons can be worked out from those that are shown.

The persons behind a table fall into cells: two persons are in one cell when every figure counts both or neither. A
figure is then a sum of cells, a row of zeros and ones over them, and whoever reads the table can work out exactly the
linear combinations of the rows shown. Figures are shown in the order of their weight, each only if afterwards no group
of cells with 1 to 10 persons is such a combination.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.pages.page import SMALLEST_CELL, suppressed

if TYPE_CHECKING:
    import numpy as np

HIDDEN = "–"
"""What stands for a figure that is left out so that a small one cannot be worked out."""
MOST_GROUPS = 20_000
"""Groups of cells looked at for one figure; where there are more, the figure is left out."""
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Figure:
    """A figure of a table.

    Attributes:
        name: Unique within the table.
        cells: The cells whose persons it counts.
        weight: How much it is wanted.
        withheld: It may not be shown nor be worked out, for a reason that lies outside this table.
    """

    name: str
    cells: frozenset[Hashable]
    weight: int = 1
    withheld: bool = False


@dataclass(frozen=True)
class Shown:
    """What a page may show, by figure: the count itself, "<11", or HIDDEN."""

    values: Mapping[str, int | str]
    exact: Mapping[str, int]

    def __getitem__(self, name: str) -> int | str:
        """What is shown for a figure."""
        return self.values[name]

    def count(self, name: str) -> int | None:
        """The count, where it is shown."""
        value = self.values[name]
        return value if isinstance(value, int) else None


def small(count: int) -> bool:
    """Whether a count of persons may not be told."""
    return 0 < count < SMALLEST_CELL


def protect(cells: Mapping[Hashable, int], figures: Sequence[Figure]) -> Shown:
    """Decide which figures of a table are shown.

    Args:
        cells: Persons by cell.
        figures: What the table would show.
    """
    import numpy as np

    filled = sorted((cell for cell, count in cells.items() if count), key=repr)
    counts = np.array([cells[cell] for cell in filled], dtype=np.int64)

    def row(figure: Figure) -> np.ndarray:
        return np.array([cell in figure.cells for cell in filled], dtype=np.float64)

    exact = {f.name: sum(cells.get(cell, 0) for cell in f.cells) for f in figures}
    secret = [row(f) for f in figures if f.withheld and exact[f.name]]
    rows: list[np.ndarray] = []
    shown: set[str] = set()
    for figure in sorted(figures, key=lambda f: -f.weight):
        if figure.withheld or small(exact[figure.name]):
            continue
        candidate = [*rows, row(figure)]
        if exact[figure.name] == 0 or not _tells(np.array(candidate), counts, secret):
            shown.add(figure.name)
            rows = candidate if exact[figure.name] else rows
    values: dict[str, int | str] = {}
    for figure in figures:
        count = exact[figure.name]
        hidden = suppressed(count) if small(count) and not figure.withheld else HIDDEN
        values[figure.name] = count if figure.name in shown else hidden
    return Shown(values, exact)


def _tells(rows: np.ndarray, counts: np.ndarray, secret: Sequence[np.ndarray]) -> bool:
    """Whether the rows shown lead to a group of 1 to 10 persons, or to a figure that is withheld.

    A combination of the rows has the same coefficient for cells that no row tells apart, so those count as one.
    """
    import numpy as np

    distinct, place = np.unique(rows, axis=1, return_inverse=True)
    place = place.reshape(-1)
    merged = np.bincount(place, weights=counts, minlength=distinct.shape[1])
    _, sizes, basis = np.linalg.svd(distinct, full_matrices=False)
    basis = basis[sizes > _TOLERANCE * max(sizes.max(initial=0.0), 1.0)]

    def reached(groups: np.ndarray) -> bool:
        left = groups - (groups @ basis.T) @ basis
        return bool((np.abs(left).max(axis=1) < _TOLERANCE).any())

    for wanted in secret:
        together = np.zeros((1, distinct.shape[1]))
        together[0, place] = wanted
        if (together[0, place] == wanted).all() and reached(together):
            return True
    groups = _small_groups(merged)
    return groups is None or (len(groups) > 0 and reached(groups))


def _small_groups(counts: np.ndarray) -> np.ndarray | None:
    """All groups of cells with fewer persons than the smallest cell, as rows; None where there are too many."""
    import numpy as np

    found: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    for cell in np.flatnonzero(counts < SMALLEST_CELL):
        count = int(counts[cell])
        found += [(n + count, (*group, int(cell))) for n, group in found if n + count < SMALLEST_CELL]
        if len(found) > MOST_GROUPS:
            return None
    rows = np.zeros((len(found) - 1, len(counts)))
    for place, (_, group) in enumerate(found[1:]):
        rows[place, list(group)] = 1.0
    return rows
