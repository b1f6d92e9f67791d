"""Feast's SQLite online store: one table per view, one row per subject and feature."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from trialops.errors import TrialOpsError
from trialops.stores.online import layout
from trialops.stores.online.reader import OnlineReader
from trialops.stores.online.spec import FeatureServiceSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Keys in one statement; SQLite takes 32,766 parameters, and each view takes its own.
_KEYS = 2000


def sqlite_path(url: str) -> Path:
    """The file of a ``sqlite:///path`` URL."""
    return Path(url.partition(":///")[2])


class SqliteReader(OnlineReader):
    """Reads the file without ever creating or locking it for writing; one connection per thread."""

    def __init__(self, url: str, spec: FeatureServiceSpec, seconds: float = 5.0) -> None:
        super().__init__(spec)
        self.seconds = seconds
        self.path = sqlite_path(url)
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            address = f"file:{quote(str(self.path.resolve()))}?mode=ro"
            connection = sqlite3.connect(address, uri=True, check_same_thread=False, timeout=self.seconds)
            self._local.connection = connection
            with self._lock:
                self._open.append(connection)
        return connection

    def _statement(self, keys: int) -> str:
        marks = ",".join(["?"] * keys)
        return " UNION ALL ".join(
            f"SELECT {number}, entity_key, feature_name, value, event_ts "
            f"FROM {layout.quoted(layout.table_name(self.spec.project, view.name))} WHERE entity_key IN ({marks})"
            for number, view in enumerate(self.spec.views)
        )

    def _fetch(self, subjects: Sequence[layout.Entity]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        from trialops.stores.online.tables import Collector

        keys = layout.entity_keys(subjects, self.spec.join_keys)
        collector = Collector(self.spec, keys)
        distinct = list(collector.rows)
        step = max(1, min(_KEYS, 30_000 // max(1, len(self.spec.views))))
        try:
            connection = self._connection()
            for start in range(0, len(distinct), step):
                some = distinct[start : start + step]
                found = connection.execute(self._statement(len(some)), some * len(self.spec.views))
                collector.add(found, layout.sqlite_us)
        except sqlite3.Error as error:
            raise self._failed(error) from None
        return collector.matrices()

    def ping(self) -> None:
        """Open the file and look for the views' tables."""
        try:
            self._connection().execute(self._statement(1), [b""] * len(self.spec.views)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def _failed(self, error: sqlite3.Error) -> TrialOpsError:
        if not self.path.exists() or "no such table" in str(error):
            return TrialOpsError(
                "The online store holds no features yet.",
                where=str(self.path),
                fix="Materialise them first: trialops run feature_engineering.",
            )
        return TrialOpsError(
            f"The online store cannot be read ({type(error).__name__}).",
            where=str(self.path),
            fix="Check that the file is an online store and can be read by this account.",
        )

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()
