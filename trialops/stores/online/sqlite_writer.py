"""Feast's SQLite online store, written: an upsert that looks at the time, which Feast's own does not."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.stores.online import layout
from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec
from trialops.stores.online.sqlite import sqlite_path
from trialops.stores.online.tables import long_rows
from trialops.stores.online.writer import Batch, OnlineWriter

if TYPE_CHECKING:
    from pathlib import Path


class SqliteWriter(OnlineWriter):
    """Writes a transaction for every few thousand subjects; other writers wait for it, readers for its end alone."""

    size = 5000

    def __init__(self, url: str, spec: FeatureServiceSpec) -> None:
        super().__init__(spec)
        self.path: Path = sqlite_path(url)
        self._connection: sqlite3.Connection | None = None

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Transactions are begun and ended here.
            self._connection = sqlite3.connect(self.path, timeout=120, isolation_level=None)
            for view in self.spec.views:
                table = layout.table_name(self.spec.project, view.name)
                self._connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {layout.quoted(table)} (entity_key BLOB, feature_name TEXT, "
                    "value BLOB, value_text TEXT, vector_value BLOB, event_ts timestamp, created_ts timestamp, "
                    "PRIMARY KEY(entity_key, feature_name))"
                )
                self._connection.execute(
                    f"CREATE INDEX IF NOT EXISTS {layout.quoted(table + '_ek')} ON {layout.quoted(table)} (entity_key)"
                )
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from None

    def _put(self, view: ViewSpec, batch: Batch) -> int:
        rows = long_rows(view, self.spec.join_keys, batch, layout.sqlite_seconds)
        statement = (
            f"INSERT INTO {layout.quoted(layout.table_name(self.spec.project, view.name))} AS held "
            "(entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, "
            "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts "
            "WHERE held.event_ts IS NULL OR held.event_ts <= excluded.event_ts"
        )
        connection = self._connection
        assert connection is not None  # opened by `write`
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                changed = connection.executemany(statement, rows).rowcount
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._failed(error) from None
        return changed // len(view.columns)

    def _failed(self, error: Exception) -> TrialOpsError:
        return TrialOpsError(
            f"The online store cannot be written ({type(error).__name__}).",
            where=str(self.path),
            fix="Check that the folder can be written and that no other program holds the file.",
        )

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection, self._ready = None, False
