"""Feast's PostgreSQL online store, written: an upsert that looks at the time, which Feast's own does not."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta

from trialops.stores.online import layout
from trialops.stores.online.postgres import failed, postgres_pool
from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec
from trialops.stores.online.tables import long_rows
from trialops.stores.online.writer import Batch, OnlineWriter

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


class PostgresWriter(OnlineWriter):
    """Writes a transaction for every few thousand subjects, rows in one order, so that writers cannot deadlock."""

    size = 2000

    def __init__(self, url: str, spec: FeatureServiceSpec) -> None:
        super().__init__(spec)
        self._pool = postgres_pool(url, seconds=30.0, size=1)

    def _open(self) -> None:
        import psycopg
        import psycopg_pool

        try:
            with self._pool.connection() as connection:
                # IF NOT EXISTS alone fails where two sessions create a table at once.
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (zlib.crc32(self.spec.project.encode()),))
                for view in self.spec.views:
                    table = layout.table_name(self.spec.project, view.name)
                    connection.execute(
                        f"CREATE TABLE IF NOT EXISTS {layout.quoted(table)} (entity_key BYTEA, feature_name TEXT, "
                        "value BYTEA, value_text TEXT NULL, vector_value BYTEA NULL, event_ts TIMESTAMPTZ, "
                        "created_ts TIMESTAMPTZ, PRIMARY KEY(entity_key, feature_name))"
                    )
                    connection.execute(
                        f"CREATE INDEX IF NOT EXISTS {layout.quoted(table + '_ek')} "
                        f"ON {layout.quoted(table)} (entity_key)"
                    )
        except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
            raise failed(error) from None

    def _put(self, view: ViewSpec, batch: Batch) -> int:
        import psycopg
        import psycopg_pool

        columns = [list(column) for column in zip(*long_rows(view, self.spec.join_keys, batch, _moment), strict=True)]
        statement = (
            f"INSERT INTO {layout.quoted(layout.table_name(self.spec.project, view.name))} AS held "
            "(entity_key, feature_name, value, value_text, event_ts, created_ts) "
            "SELECT * FROM unnest(%b::bytea[], %b::text[], %b::bytea[], %b::text[], %b::timestamptz[], "
            "%b::timestamptz[]) ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value, "
            "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts "
            "WHERE held.event_ts IS NULL OR held.event_ts <= excluded.event_ts"
        )
        try:
            with self._pool.connection() as connection:
                changed = connection.execute(statement, columns).rowcount
        except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
            raise failed(error) from None
        return int(changed) // len(view.columns)

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
