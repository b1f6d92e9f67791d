"""Report rows as numbers: products, events and strata become codes, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

MISSING = "(missing)"
CONFLICTING = "(conflicting)"
EVERYTHING = "(all)"
KEPT_ROWS = 1000
"""Rows set aside whose place is kept; the others are counted."""
_BITS = 12


@dataclass(frozen=True)
class Block:
    """Some rows of reports.

    Attributes:
        report: Report ids, Arrow int64 or large_string, without nulls.
        product: Code of each row's product.
        event: Code of each row's event.
        stratum: Code of each row's stratum.
    """

    report: pa.Array
    product: NDArray[np.int64]
    event: NDArray[np.int64]
    stratum: NDArray[np.int64]


@dataclass
class Vocabulary:
    """Names in the order in which they were first met; the code of a name is its place. Surrounding blanks go."""

    names: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    _array: pa.Array | None = None

    def place(self, name: str) -> int:
        """Code of a name, new or known."""
        known = self.places.get(name)
        if known is None:
            known = self.places[name] = len(self.names)
            self.names.append(name)
        return known

    def codes(self, column: pa.Array, missing: str | None = None) -> NDArray[np.int64]:
        """Codes of a column of text; rows without one get -1, or the code of ``missing``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not pa.types.is_dictionary(column.type):
            column = pc.dictionary_encode(column.cast(pa.string()))
        absent = -1 if missing is None else self.place(missing)
        values = pc.utf8_trim_whitespace(column.dictionary.cast(pa.string()))
        # Names known from earlier batches are looked up together; only new ones cost a step each.
        places = pc.fill_null(pc.index_in(values, value_set=self._known()), -1).to_numpy(zero_copy_only=False)
        places = np.append(places.astype(np.int64), absent)
        for place in np.flatnonzero(places[:-1] < 0):
            name = values[int(place)].as_py()
            places[place] = self.place(name) if name else absent
        return places[pc.fill_null(column.indices.cast(pa.int64()), len(values)).to_numpy(zero_copy_only=False)]

    def _known(self) -> pa.Array:
        import pyarrow as pa

        if self._array is None or len(self._array) != len(self.names):
            self._array = pa.array(self.names, pa.string())
        return self._array


@dataclass
class Coder:
    """Turns tables of report rows into blocks, and keeps account of rows it had to set aside.

    Attributes:
        strata: Names of the stratum columns, at most five.
        rows: Rows seen so far.
        aside: Rows set aside, by reason.
        places: The first rows set aside: number in the input from 1, reason.
    """

    strata: Sequence[str] = ()
    products: Vocabulary = field(default_factory=Vocabulary)
    events: Vocabulary = field(default_factory=Vocabulary)
    layers: Vocabulary = field(default_factory=Vocabulary)
    rows: int = 0
    aside: dict[str, int] = field(default_factory=dict)
    places: list[tuple[int, str]] = field(default_factory=list)
    _levels: list[Vocabulary] = field(default_factory=list)
    _known: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.strata) > 5:
            raise TrialOpsError("At most five stratum columns", where="strata", fix="Leave some out.")
        self._levels = [Vocabulary() for _ in self.strata]
        # Reports whose rows disagree about the stratum get the first code, which no row has.
        self.layers.place(CONFLICTING)
        if not self.strata:
            self.layers.place(EVERYTHING)

    def block(self, table: pa.RecordBatch) -> Block:
        """Code one batch with the columns report, product, event and the strata."""
        import pyarrow as pa
        import pyarrow.compute as pc

        report = table.column("report")
        if not pa.types.is_int64(report.type):
            report = pc.utf8_trim_whitespace(report.cast(pa.large_string()))
        product = self.products.codes(table.column("product"))
        event = self.events.codes(table.column("event"))
        stratum = self._stratum(table)
        named = pc.is_valid(report)
        if not pa.types.is_int64(report.type):
            named = pc.fill_null(pc.not_equal(report, ""), False)
        named = named.to_numpy(zero_copy_only=False)
        usable = named & (product >= 0) & (event >= 0)
        if not usable.all():
            self._set_aside(named, product, event)
            report = report.filter(pa.array(usable))
            product, event, stratum = product[usable], event[usable], stratum[usable]
        self.rows += table.num_rows
        return Block(report, product, event, stratum)

    def _stratum(self, table: pa.RecordBatch) -> NDArray[np.int64]:
        if not self.strata:
            return np.ones(table.num_rows, np.int64)
        packed = np.zeros(table.num_rows, np.int64)
        for name, levels in zip(self.strata, self._levels, strict=True):
            codes = levels.codes(table.column(name), MISSING)
            if len(levels.names) > 1 << _BITS:
                raise TrialOpsError(
                    f"A stratum column has more than {1 << _BITS} different values",
                    where=name,
                    fix="Group its values first: ages in bands, dates by year.",
                )
            packed = (packed << _BITS) | codes
        different, inverse = np.unique(packed, return_inverse=True)
        return np.array([self._layer(int(value)) for value in different], np.int64)[inverse]

    def _layer(self, packed: int) -> int:
        known = self._known.get(packed)
        if known is None:
            mask, n = (1 << _BITS) - 1, len(self.strata)
            words = [self._levels[i].names[(packed >> (_BITS * (n - 1 - i))) & mask] for i in range(n)]
            known = self._known[packed] = self.layers.place(" | ".join(words))
        return known

    def _set_aside(self, named: NDArray[np.bool_], product: NDArray[np.int64], event: NDArray[np.int64]) -> None:
        left = np.ones(named.size, bool)
        for reason, missing in (("no report id", ~named), ("no product", product < 0), ("no event", event < 0)):
            rows = np.flatnonzero(missing & left)
            left &= ~missing
            if rows.size:
                self.aside[reason] = self.aside.get(reason, 0) + int(rows.size)
                room = max(0, KEPT_ROWS - len(self.places))
                self.places += [(self.rows + int(row) + 1, reason) for row in rows[:room]]
