"""Reading online features: one request for all views and subjects, decoded into a matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.stores.online.layout import Entity
from trialops.stores.online.spec import NEVER, FeatureServiceSpec, OnlineRows
from trialops.stores.online.vector import day_ordinals, day_start_us

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class OnlineReader(ABC):
    """Reads the features of one service; safe to use from several threads."""

    def __init__(self, spec: FeatureServiceSpec) -> None:
        self.spec = spec

    def read(self, subjects: Sequence[Entity], study_day: int | NDArray[np.int64] | None = None) -> OnlineRows:
        """Features of some subjects; one that is not in the store is a row of NaN with found False.

        Args:
            subjects: Pseudonyms, n of them; a subject may be named twice. For a service of other entities the values of
                its join keys, as tuples where there are several.
            study_day: Study day asked for, one for all or int64 [n]; values of a view with a time to live that are
                older on this day are NaN. Without it nothing expires.

        Returns:
            The rows, in the order of `subjects`.

        Raises:
            TrialOpsError: The store cannot be reached, was never written, or holds something else.
        """
        import numpy as np

        if len(subjects) == 0:
            values = np.empty((0, len(self.spec.columns)))
            event_us = np.empty((0, len(self.spec.views)), np.int64)
        else:
            values, event_us = self._fetch(subjects)
        return judged(self.spec, values, event_us, study_day)

    def each(self, subjects: Sequence[Entity]) -> list[tuple[tuple[float, ...], tuple[int, ...]]]:
        """Values and event times of a few subjects, one after the other, in plain numbers; nothing expires.

        Raises:
            TrialOpsError: As :meth:`read`.
        """
        values, event_us = self._fetch(subjects)
        return list(zip(map(tuple, values.tolist()), map(tuple, event_us.tolist()), strict=True))

    @abstractmethod
    def _fetch(self, subjects: Sequence[Entity]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Values [n, p] and event times [n, v] of at least one subject."""

    @abstractmethod
    def ping(self) -> None:
        """Reach the store.

        Raises:
            TrialOpsError: It cannot be reached, or was never written.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back connections."""

    def __enter__(self) -> OnlineReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_reader(url: str, spec: FeatureServiceSpec, *, seconds: float = 5.0) -> OnlineReader:
    """A reader of the store at a URL.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` (as redis-py takes them), ``sqlite:///path`` or
            ``postgresql://...``.
        spec: What to read.
        seconds: How long to wait for a store that does not answer.

    Raises:
        TrialOpsError: The URL names no store that is known here, or its driver is not installed.
    """
    kind = store_kind(url)
    if kind == "sqlite":
        from trialops.stores.online.sqlite import SqliteReader

        return SqliteReader(url, spec, seconds)
    if kind == "redis":
        from trialops.stores.online.redis import RedisReader

        return RedisReader(url, spec, seconds)
    from trialops.stores.online.postgres import PostgresReader

    return PostgresReader(url, spec, seconds)


def store_kind(url: str) -> str:
    """``sqlite``, ``redis`` or ``postgresql``.

    Raises:
        TrialOpsError: The URL is of another kind; it is not repeated, since it may hold a password.
    """
    scheme = url.partition("://")[0].partition("+")[0]
    kinds = {"sqlite": "sqlite", "redis": "redis", "rediss": "redis", "unix": "redis", "postgresql": "postgresql"}
    if scheme not in kinds or "://" not in url:
        raise TrialOpsError(
            "The URL of the online store is of no kind that is known here.",
            where="TRIALOPS_ONLINE_URL",
            fix="Use sqlite:///path, redis://host:port/db, rediss://... or postgresql://....",
        )
    return kinds[scheme]


def judged(
    spec: FeatureServiceSpec,
    values: NDArray[np.float64],
    event_us: NDArray[np.int64],
    study_day: int | NDArray[np.int64] | None,
) -> OnlineRows:
    """Rows with expired values taken out; for a caller who knows the day only after reading.

    Args:
        spec: What was read.
        values: float64 [n, p]; changed in place.
        event_us: int64 [n, v].
        study_day: As for :meth:`OnlineReader.read`.
    """
    import numpy as np

    known = event_us != NEVER
    expired = np.zeros(event_us.shape, bool)
    if study_day is not None and spec.expiring:
        asked = day_ordinals(study_day, len(event_us))
        for number, columns, days in spec.expiring:
            old = known[:, number] & (event_us[:, number] < day_start_us(asked - days))
            if old.any():
                expired[:, number] = old
                values[old, columns] = np.nan
    return OnlineRows(values, event_us, known.any(axis=1), expired)
