"""The database: SQLite embedded, PostgreSQL in a cluster; migrations, promotion log.

Transactions are opened by `reading` and `writing`. A plain `engine.begin()` is a writer's transaction too:
SQLite gives it BEGIN IMMEDIATE, so that a read-then-write never fails half-way because another process wrote
in between.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row
    from sqlalchemy.engine import URL

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30
MIGRATION_LOCK = 0x7472_6961_6C01
"""PostgreSQL advisory lock held while the schema is upgraded."""

PROMOTION_ACTIONS = ("register", "promote", "rollback", "hold", "reject", "unchanged")

_engines: dict[tuple[int, str], Engine] = {}
_engines_lock = threading.Lock()


def utc_now() -> str:
    """The time now: UTC, ISO 8601, microseconds, final Z (27 characters, so text order is time order)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def canonical(value: object) -> str:
    """JSON text that depends on the value alone: sorted keys, no blanks, ASCII, no NaN.

    Raises:
        TypeError: The value holds something that JSON cannot express.
        ValueError: The value holds NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def connect(url: str) -> Engine:
    """The engine for a database URL, one per process.

    Args:
        url: `sqlite:///folder/file.db` or `postgresql://user:password@host:port/name`.

    Returns:
        The engine. A forked child gets one of its own, because connections cannot be shared between
        processes.

    Raises:
        TrialOpsError: The URL is malformed, in memory, or names another kind of database.
    """
    key = (os.getpid(), url)
    with _engines_lock:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = _create(url)
    return engine


def close() -> None:
    """Close the connections of this process's engines that are not in use; an engine opens new ones when it is used."""
    with _engines_lock:
        own = [engine for (process, _), engine in _engines.items() if process == os.getpid()]
    for engine in own:
        engine.dispose()


def _create(url: str) -> Engine:
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise TrialOpsError(
            "The database URL cannot be read.",
            where="database_url",
            fix="Use sqlite:///folder/file.db or postgresql://user:password@host:port/name.",
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _create_sqlite(parsed)
    if backend in ("postgresql", "postgres"):
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            hide_parameters=True,  # a failed statement's message must not carry its values
            connect_args={"connect_timeout": 10, "application_name": "trialops"},
        )
    raise TrialOpsError(
        f"Databases of kind {backend!r} are not supported.",
        where="database_url",
        fix="Use sqlite:///folder/file.db or postgresql://user:password@host:port/name.",
    )


def _create_sqlite(parsed: URL) -> Engine:
    import sqlalchemy as sa

    if parsed.database in (None, "", ":memory:"):
        raise TrialOpsError(
            "The database must be a file: an audit trail in memory would not outlive the process.",
            where="database_url",
            fix="Use sqlite:///folder/file.db.",
        )
    Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        parsed.set(drivername="sqlite+pysqlite"),
        hide_parameters=True,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver opens no transaction of its own; "begin" below does
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA recursive_triggers = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a committed audit event survives a power cut
        _use_wal(connection)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("trialops_read", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _use_wal(connection: Any) -> None:
    """Switch the file to write-ahead logging; the switch ignores busy_timeout, so wait for others here."""
    import sqlite3
    import time

    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                return
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write: committed at the end of the block, rolled back on an exception."""
    with engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads one consistent state and never waits for a writer."""
    with engine.connect() as connection:
        options: dict[str, Any] = {"trialops_read": True}
        if engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        yield connection.execution_options(**options)


def revisions() -> list[str]:
    """The schema revisions this program knows, oldest first, read from the migration files' names."""
    return sorted(
        name[:4] for name in os.listdir(MIGRATIONS / "versions") if name[:4].isdigit() and name.endswith(".py")
    )


def schema_version(engine: Engine) -> str:
    """The database's schema revision; an empty string where nothing has been created yet.

    Raises:
        TrialOpsError: The database cannot be reached.
    """
    import sqlalchemy as sa

    try:
        with reading(engine) as connection:
            return _version(connection)
    except sa.exc.OperationalError as error:
        raise TrialOpsError(
            "The database cannot be opened.",
            where=engine.url.render_as_string(hide_password=True),
            fix="Check that the server runs and the user may connect, or that the folder can be written.",
        ) from error


def _version(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        found = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    else:
        # Not to_regclass: it answers from a cache that a wait for the migration lock does not refresh.
        found = (
            "SELECT 1 FROM pg_catalog.pg_tables "
            "WHERE schemaname = ANY (current_schemas(false)) AND tablename = 'alembic_version'"
        )
    if connection.exec_driver_sql(found).first() is None:
        return ""
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return "" if row is None else str(row[0])


def migrate(engine: Engine) -> list[str]:
    """Bring the schema to the newest revision, in one transaction.

    Processes that do this at once wait for the first one and then find nothing left to do.

    Args:
        engine: From `connect`.

    Returns:
        The revisions applied, oldest first; empty where the schema was up to date.

    Raises:
        TrialOpsError: The database cannot be reached, or a newer program has already migrated it.
    """
    known = revisions()
    current = schema_version(engine)
    if current == known[-1]:
        return []
    with _migration_lock(engine), writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        current = _version(connection)
        if current and current not in known:
            raise TrialOpsError(
                f"The database has schema {current}; this program knows schemas up to {known[-1]}.",
                where=engine.url.render_as_string(hide_password=True),
                fix="Run the version of TrialOps that migrated it, or a newer one.",
            )
        pending = [revision for revision in known if revision > current]
        if pending:
            _upgrade(connection)
        return pending


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _migration_lock(engine: Engine) -> Iterator[None]:
    """SQLite: an exclusive lock on a file beside the database. PostgreSQL locks inside the transaction."""
    if engine.dialect.name != "sqlite":
        yield
        return
    import fcntl

    path = f"{engine.url.database}.migrate.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def lock_row(connection: Connection, name: str) -> None:
    """PostgreSQL: writers of one name take turns even before its row exists. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        import sqlalchemy as sa

        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})


@dataclass(frozen=True)
class Promotion:
    """One entry of the append-only promotion log: what happened to a model's alias, and on which decision."""

    id: int
    at: str
    model: str
    version: str
    alias: str
    action: str
    from_version: str
    to_version: str
    reason: str
    decision: dict[str, Any]
    run_id: str
    actor: str


def record_promotion(
    engine: Engine,
    *,
    model: str,
    version: str,
    alias: str,
    action: str,
    from_version: str = "",
    to_version: str = "",
    reason: str = "",
    decision: Mapping[str, Any] | None = None,
    run_id: str = "",
    actor: str,
    connection: Connection | None = None,
) -> Promotion:
    """Append to the promotion log.

    Args:
        engine: From `connect`, migrated.
        model: Registered model name.
        version: The version judged.
        alias: The alias concerned ("champion", "challenger").
        action: One of PROMOTION_ACTIONS.
        from_version: The version the alias pointed to before; empty where it did not exist.
        to_version: The version it points to now.
        reason: One sentence for a reader.
        decision: The gate's numbers and the policy it applied, JSON values.
        run_id: The run that decided.
        actor: Who, or which service.
        connection: A transaction from `writing` to append in; None for one of its own.

    Raises:
        TrialOpsError: The action is unknown, or the decision is not JSON.
    """
    from trialops.stores.tables import promotions as table

    if action not in PROMOTION_ACTIONS:
        raise TrialOpsError(
            f"{action!r} is not a promotion action.",
            where="promotions",
            fix=f"Use one of {', '.join(PROMOTION_ACTIONS)}.",
        )
    try:
        text = canonical(dict(decision or {}))
    except (TypeError, ValueError) as error:
        raise TrialOpsError(
            "The decision holds a value that is not JSON.",
            where="promotions",
            fix="Use numbers, text, lists and objects; no NaN.",
        ) from error
    values = {
        "at": utc_now(),
        "model": model,
        "version": version,
        "alias": alias,
        "action": action,
        "from_version": from_version,
        "to_version": to_version,
        "reason": reason,
        "decision": text,
        "run_id": run_id,
        "actor": actor,
    }
    with writing(engine) if connection is None else nullcontext(connection) as at:
        row = at.execute(table.insert().values(**values).returning(table)).one()
    return _promotion(row)


def promotions(engine: Engine, model: str = "", *, connection: Connection | None = None) -> list[Promotion]:
    """The promotion log, oldest first, of one model or of all; as a transaction sees it where one is given."""
    import sqlalchemy as sa

    from trialops.stores.tables import promotions as table

    query = sa.select(table).order_by(table.c.id)
    if model:
        query = query.where(table.c.model == model)
    with reading(engine) if connection is None else nullcontext(connection) as at:
        return [_promotion(row) for row in at.execute(query)]


def _promotion(row: Row[Any]) -> Promotion:
    fields = dict(row._mapping)
    return Promotion(**(fields | {"decision": json.loads(fields["decision"])}))
