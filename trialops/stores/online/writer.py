"""Writing online features: the newest row per subject, in Feast's layout, never over a newer one.

Feast's Redis store compares times in the client, so two writers can pass each other; its SQL stores do not compare at
all. Here the comparison happens where the data are, in the same atomic operation as the write. A row of the same time
as the stored one replaces it (Feast's Redis store drops it): study time has whole days, and a correction that becomes
known on the day of an earlier value must reach the store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.stores.online.layout import Entity
from trialops.stores.online.reader import store_kind
from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Written:
    """What a write did.

    Attributes:
        subjects: Subjects in the frame.
        written: Of these, subjects whose values are now the frame's.
        kept: Of these, subjects whose stored values were newer and stayed.
    """

    subjects: int
    written: int

    @property
    def kept(self) -> int:
        """Subjects whose stored values were newer."""
        return self.subjects - self.written


@dataclass(frozen=True)
class Batch:
    """The newest row of each of n subjects, sorted by subject, over p columns.

    Attributes:
        subjects: Pseudonyms, or the values of other join keys.
        event_us: int64 [n], microseconds since 1970 UTC.
        created_us: int64 [n], or None where the frame has no such column.
        values: float64 [n, p], NaN where there is no value.
    """

    subjects: Sequence[Entity]
    event_us: NDArray[np.int64]
    created_us: NDArray[np.int64] | None
    values: NDArray[np.float64]

    def part(self, start: int, size: int) -> Batch:
        """Some of the rows."""
        some = slice(start, start + size)
        created = None if self.created_us is None else self.created_us[some]
        return Batch(self.subjects[some], self.event_us[some], created, self.values[some])


class OnlineWriter(ABC):
    """Writes the views of one service; use it as a context manager."""

    #: Subjects written in one atomic operation; readers and other writers come in between.
    size = 500

    def __init__(self, spec: FeatureServiceSpec) -> None:
        self.spec = spec
        self._ready = False

    def write(self, view: str, frame: pl.DataFrame, progress: Progress | None = None) -> Written:
        """Write the newest row per subject of a view.

        Args:
            view: Name of the view.
            frame: subject_id, event_timestamp (datetime UTC), optionally created, and every column of the view;
                several rows of a subject are allowed.
            progress: Called with the view's name and the fraction done.

        Raises:
            TrialOpsError: A column is missing or of another type, a key or time is null, or the store fails.
        """
        spec = self.spec.view(view)
        batch = prepared(spec, self.spec.join_keys, frame)
        if not self._ready:
            self._open()
            self._ready = True
        written = 0
        for start in range(0, len(batch.subjects), self.size):
            written += self._put(spec, batch.part(start, self.size))
            if progress:
                progress(view, min(1.0, (start + self.size) / len(batch.subjects)))
        written += self._end(spec)
        return Written(len(batch.subjects), written)

    @abstractmethod
    def _open(self) -> None:
        """Reach the store, and make what all views of the service need in it."""

    @abstractmethod
    def _put(self, view: ViewSpec, batch: Batch) -> int:
        """Write rows atomically; returns how many subjects' values are known to be theirs now."""

    def _end(self, view: ViewSpec) -> int:
        """Wait for what is under way; returns as :meth:`_put` does."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Give back connections."""

    def __enter__(self) -> OnlineWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_writer(url: str, spec: FeatureServiceSpec) -> OnlineWriter:
    """A writer to the store at a URL (see `reader.open_reader`).

    Raises:
        TrialOpsError: The URL names no store that is known here, or its driver is not installed.
    """
    kind = store_kind(url)
    if kind == "sqlite":
        from trialops.stores.online.sqlite_writer import SqliteWriter

        return SqliteWriter(url, spec)
    if kind == "redis":
        from trialops.stores.online.redis_writer import RedisWriter

        return RedisWriter(url, spec)
    from trialops.stores.online.postgres_writer import PostgresWriter

    return PostgresWriter(url, spec)


def write_view(
    url: str, spec: FeatureServiceSpec, view: str, frame: pl.DataFrame, progress: Progress | None = None
) -> Written:
    """Write one view with a writer of its own (see `OnlineWriter.write`)."""
    with open_writer(url, spec) as writer:
        return writer.write(view, frame, progress)


def prepared(view: ViewSpec, join_keys: tuple[str, ...], frame: pl.DataFrame) -> Batch:
    """The newest row per subject: by event time, then by the time it was created.

    Raises:
        TrialOpsError: A column is missing or of another type, or a key or time is null.
    """
    import polars as pl

    keys, has_created = list(join_keys), "created" in frame.columns
    moments = ["event_timestamp", *(["created"] if has_created else [])]
    if missing := [c for c in (*keys, "event_timestamp", *view.columns) if c not in frame.columns]:
        raise TrialOpsError(
            f"The column {missing[0]} is missing.",
            where=f"feature view {view.name}",
            fix="Give the keys, event_timestamp and every feature of the view: a row is written as a whole.",
        )
    types = frame.schema
    wrong = [c for c in keys if types[c] != pl.String]
    wrong += [c for c in moments if getattr(types[c], "time_zone", "") != "UTC"]
    wrong += [c for c in view.columns if not (types[c].is_numeric() or types[c] == pl.Null)]
    if wrong:
        raise TrialOpsError(
            f"The column {wrong[0]} has another type than it must have.",
            where=f"feature view {view.name}",
            fix="Times are datetimes in UTC, features are numbers, keys are text.",
        )
    empty = frame.select(*keys, *moments).null_count()
    if nulls := [c for c in empty.columns if empty[c][0]]:
        raise TrialOpsError(
            f"{empty[nulls[0]][0]} rows have no {nulls[0]}.",
            where=f"feature view {view.name}",
            fix="Leave these rows out, or complete them.",
        )
    rows = frame.select(*keys, *moments, *view.columns).sort(*keys, *moments, maintain_order=True)
    rows = rows.unique(keys, keep="last", maintain_order=True)
    times = [rows[c].dt.cast_time_unit("us").to_physical().to_numpy() for c in moments]
    values = rows.select(pl.col(c).cast(pl.Float64) for c in view.columns)
    return Batch(
        rows[keys[0]].to_list() if len(keys) == 1 else rows.select(keys).rows(),
        times[0],
        times[1] if has_created else None,
        values.to_numpy().reshape(rows.height, len(view.columns)),
    )
