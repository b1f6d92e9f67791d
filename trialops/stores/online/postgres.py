"""Feast's PostgreSQL online store, read: one table per view, one row per subject and feature."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.online import layout
from trialops.stores.online.reader import OnlineReader
from trialops.stores.online.spec import FeatureServiceSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def postgres_pool(url: str, *, seconds: float, size: int = 8) -> Any:
    """Connections to a PostgreSQL URL (libpq's or SQLAlchemy's form), in UTC.

    Raises:
        TrialOpsError: The driver is not installed.
    """
    try:
        import psycopg_pool
    except ModuleNotFoundError:
        raise TrialOpsError(
            "The PostgreSQL online store needs psycopg and psycopg-pool.",
            where="online store",
            fix="Install them, or use a Redis or SQLite online store.",
        ) from None
    return psycopg_pool.ConnectionPool(
        "postgresql://" + url.partition("://")[2],
        min_size=0,
        max_size=size,
        timeout=seconds,
        open=True,
        check=psycopg_pool.ConnectionPool.check_connection,
        configure=_configure,
        kwargs={"connect_timeout": max(2, int(seconds))},
    )


def _configure(connection: Any) -> None:
    """Feast writes UTC without a zone, which PostgreSQL takes for the session's zone."""
    connection.execute("SET TIME ZONE 'UTC'")
    connection.commit()


def failed(error: Exception) -> TrialOpsError:
    """The error for a database that does not answer as it should; its own message may quote a row."""
    import psycopg

    if isinstance(error, psycopg.errors.UndefinedTable):
        return TrialOpsError(
            "The online store holds no features yet.",
            where="PostgreSQL online store",
            fix="Materialise them first: trialops run feature_engineering.",
        )
    return TrialOpsError(
        f"The PostgreSQL online store does not answer as it should ({type(error).__name__}).",
        where="TRIALOPS_ONLINE_URL",
        fix="Check the address, the account's rights and that the database is Feast's own.",
    )


class PostgresReader(OnlineReader):
    """Reads over a pool of connections, all views in one statement."""

    def __init__(self, url: str, spec: FeatureServiceSpec, seconds: float = 5.0) -> None:
        super().__init__(spec)
        self._pool = postgres_pool(url, seconds=seconds)
        self._statement = " UNION ALL ".join(
            f"SELECT {number}, entity_key, feature_name, value, event_ts "
            f"FROM {layout.quoted(layout.table_name(spec.project, view.name))} WHERE entity_key = ANY(%(keys)s)"
            for number, view in enumerate(spec.views)
        )

    def _rows(self, keys: list[bytes]) -> list[tuple[Any, ...]]:
        import psycopg
        import psycopg_pool

        try:
            with self._pool.connection() as connection:
                found = connection.execute(self._statement, {"keys": keys}, binary=True).fetchall()
        except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
            raise failed(error) from None
        return list(found)

    def _fetch(self, subjects: Sequence[layout.Entity]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        from trialops.stores.online.tables import Collector

        collector = Collector(self.spec, layout.entity_keys(subjects, self.spec.join_keys))
        collector.add(self._rows(list(collector.rows)), lambda moment: (moment - _EPOCH) // _US)
        return collector.matrices()

    def ping(self) -> None:
        """Reach the database and look for the views' tables."""
        self._rows([b""])

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()
