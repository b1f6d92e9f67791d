"""Rows of the SQL stores, one per subject and feature, into a matrix."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, cycle, repeat
from typing import TYPE_CHECKING, Any

from trialops.stores.online import layout
from trialops.stores.online.spec import NEVER, FeatureServiceSpec, ViewSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trialops.stores.online.writer import Batch


class Collector:
    """Puts rows in any order into place; subjects may repeat, columns not asked for are passed over."""

    def __init__(self, spec: FeatureServiceSpec, keys: Sequence[bytes]) -> None:
        import numpy as np

        self.spec = spec
        #: Distinct key -> its row.
        self.rows: dict[bytes, int] = {}
        self._position = np.array([self.rows.setdefault(key, len(self.rows)) for key in keys])
        self._columns: list[dict[str, int]] = []
        for view in spec.views:
            start = sum(len(columns) for columns in self._columns)
            self._columns.append({name: start + number for number, name in enumerate(view.columns)})
        self._places: list[int] = []
        self._values: list[bytes] = []
        self._times: dict[tuple[int, int], int] = {}

    def add(self, found: Iterable[Sequence[Any]], to_us: Callable[[Any], int]) -> None:
        """Take rows of (view number, entity key, feature, value, event time).

        Args:
            found: The rows.
            to_us: From the event time to microseconds since 1970.
        """
        width = len(self.spec.columns)
        for view, key, feature, value, moment in found:
            column = self._columns[view].get(feature)
            if column is None:
                continue
            row = self.rows[bytes(key)]
            self._places.append(row * width + column)
            self._values.append(value)
            at = (row, view)
            us = to_us(moment)
            if us > self._times.get(at, -(1 << 62)):
                self._times[at] = us

    def matrices(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Values [n, p] and event times [n, v], in the order of the keys given."""
        import numpy as np

        values = np.full(len(self.rows) * len(self.spec.columns), np.nan)
        values[np.array(self._places, np.int64)] = decode_column(self._values)
        times = np.full((len(self.rows), len(self.spec.views)), NEVER, np.int64)
        for (row, view), us in self._times.items():
            times[row, view] = us
        return values.reshape(len(self.rows), -1)[self._position], times[self._position]


def decode_column(cells: Sequence[bytes | None]) -> NDArray[np.float64]:
    """feast.types.Value cells as numbers [n], NaN where they hold nothing.

    Raises:
        TrialOpsError: A cell holds something that is not a number.
    """
    import numpy as np

    data = b"".join([cell or _NOTHING for cell in cells])
    if len(data) == 9 * len(cells):
        packed = np.frombuffer(data, np.uint8).reshape(-1, 9)
        if (packed[:, 0] == layout.DOUBLE[0]).all():
            return np.ascontiguousarray(packed[:, 1:]).view("<f8").reshape(-1)
    return np.array([layout.decode_number(cell) for cell in cells])


#: A double that is not a number, for a cell that holds nothing.
_NOTHING = layout.DOUBLE + b"\x00\x00\x00\x00\x00\x00\xf8\x7f"


def long_rows(
    view: ViewSpec, join_keys: Sequence[str], batch: Batch, moment: Callable[[int], Any]
) -> Iterator[tuple[Any, ...]]:
    """A batch as the SQL stores hold it: key, feature, value, value as text, event time, time it was created.

    By subject, then by feature name: one order for all writers.

    Args:
        view: The view.
        join_keys: Of its service.
        batch: Its rows.
        moment: From microseconds since 1970 to what the store takes for a time.
    """
    order = sorted(range(len(view.columns)), key=view.columns.__getitem__)
    keys = layout.entity_keys(batch.subjects, join_keys)
    numbers = batch.values[:, order].ravel().tolist()
    double, width = struct.Struct("<d").pack, len(order)
    times = [moment(us) for us in batch.event_us.tolist()]
    created = repeat(None, len(keys)) if batch.created_us is None else map(moment, batch.created_us.tolist())
    return zip(
        chain.from_iterable(repeat(key, width) for key in keys),
        cycle([view.columns[place] for place in order]),
        [layout.NULL if x != x else layout.DOUBLE + double(x) for x in numbers],
        [None if x != x else str(x) for x in numbers],
        chain.from_iterable(repeat(time, width) for time in times),
        chain.from_iterable(repeat(time, width) for time in created),
        strict=False,
    )
