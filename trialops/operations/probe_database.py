"""The database: connects, takes a row and gives it back, replicates, has connections left."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from trialops.operations.health import Finding
from trialops.operations.reach import trouble

if TYPE_CHECKING:
    from trialops.operations.probing import Ask

TABLE = "health_states"
_ROW = (
    f"INSERT INTO {TABLE} (at, run_id, pipeline, component, state, detail) "  # noqa: S608  a constant
    "VALUES ('', 'probe', 'probe', 'probe', 'unknown', '')"
)
_COLUMNS = "(at text, run_id text, pipeline text, component text, state text, detail text)"
_COUNT = f"SELECT count(*) FROM {TABLE} WHERE run_id = 'probe'"  # noqa: S608  a constant
_ASKED = "a row written, read and rolled back"
_STATES = {
    "53300": ("all connections are taken", "Raise max_connections or use a pooler; find out who holds them."),
    "53100": ("its disk is full", "Make room, or enlarge the volume."),
    "28P01": ("the password is refused", "Correct CLINICAL_DB_PASSWORD."),
    "28000": ("the account is refused", "Correct the account, and pg_hba.conf."),
    "3D000": ("the database does not exist", "Create it, or correct CLINICAL_DB_NAME."),
    "57P03": ("it is starting up or shutting down", "Look again in a minute; then read its log."),
    "25006": ("it is read-only: a standby, or default_transaction_read_only", "Point the address at the primary."),
    "42501": ("the account may not write", "Grant the account its rights on the schema."),
}
_WORDS = (
    ("too many clients", "53300"),
    ("too many connections", "53300"),
    ("remaining connection slots", "53300"),
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("pg_hba.conf", "28000"),
    ("does not exist", "3D000"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
)


def probe(ask: Ask) -> Iterator[Finding]:
    """PostgreSQL or SQLite, by the address."""
    return _sqlite(ask) if ask.address.startswith("sqlite") else _postgresql(ask)


def _postgresql(ask: Ask) -> Iterator[Finding]:
    import psycopg

    milliseconds = int(ask.seconds * 1000)
    try:
        connection = psycopg.connect(
            **_login(ask.address),
            connect_timeout=max(2, int(ask.seconds)),
            options=f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
            application_name="trialops health",
        )
    except psycopg.Error as error:
        yield _refused(ask, "reach", error, "a connection")
        return
    with connection:
        yield ask.say("reach", "healthy", f"PostgreSQL {connection.info.server_version // 10000} answers",
                      asked="a connection")  # fmt: skip
        for check, asked, look in (
            ("write and read", _ASKED, _written),
            ("connections", "pg_stat_activity", _connections),
            ("replication", "pg_stat_replication", _replication),
        ):
            try:
                found = look(ask, connection)
            except psycopg.Error as error:
                found = _refused(ask, check, error, asked)
            yield found
            if connection.broken:
                return
            connection.rollback()  # whatever a check did, the next begins anew


def _login(url: str) -> dict[str, Any]:
    """A SQLAlchemy address as psycopg's arguments."""
    parts = urlsplit(url)
    login = {
        "host": parts.hostname,
        "port": parts.port,
        "dbname": parts.path.strip("/"),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        **dict(parse_qsl(parts.query)),
    }
    return {name: value for name, value in login.items() if value}


def _written(ask: Ask, connection: Any) -> Finding:
    """A row in the table kept for it, or, where the schema is older, in a temporary one: no trace either way."""
    if connection.execute("SELECT pg_is_in_recovery()").fetchone()[0]:
        detail, fix = _STATES["25006"]
        return ask.say("write and read", "broken", detail, asked=_ASKED, fix=f"{fix} ({ask.variable})")
    there = connection.execute("SELECT to_regclass(%s)", (TABLE,)).fetchone()[0]
    if there is None:
        connection.execute(f"CREATE TEMPORARY TABLE {TABLE} {_COLUMNS}")
    connection.execute(_ROW)
    (found,) = connection.execute(_COUNT).fetchone()
    return _came_back(ask, found)


def _came_back(ask: Ask, found: int) -> Finding:
    return ask.say(
        "write and read", "healthy" if found else "broken",
        "a row came back" if found else "a row just written did not come back", asked=_ASKED,
        fix="Stop writing to it; look at its log.",
    )  # fmt: skip


def _connections(ask: Ask, connection: Any) -> Finding:
    used, most, kept = connection.execute(
        "SELECT count(*), current_setting('max_connections')::int, "
        "current_setting('superuser_reserved_connections')::int "
        "FROM pg_stat_activity WHERE backend_type = 'client backend'"
    ).fetchone()
    share = used / max(1, most - kept)
    return ask.judge(
        "connections",
        share,
        "connections_share",
        f"{used} of {most - kept} connections are in use",
        broken="connections_broken_share",
        asked="pg_stat_activity",
        fix="Find out who holds them (pg_stat_activity); use a pooler, or raise max_connections.",
    )


def _replication(ask: Ask, connection: Any) -> Finding:
    wanted = int(ask.limits["replicas"])
    asked = "pg_stat_replication"
    count, streaming, lag = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE state = 'streaming'), "
        "coalesce(extract(epoch FROM max(replay_lag)), 0)::float FROM pg_stat_replication"
    ).fetchone()
    if streaming < max(wanted, count):
        return ask.say(
            "replication", "degraded" if streaming else "broken",
            f"{streaming} replicas stream, {max(wanted, count)} should", value=streaming, threshold=max(wanted, count),
            asked=asked, fix="Look at the standbys' logs and the slots (pg_replication_slots).",
        )  # fmt: skip
    words = f"{streaming} replicas, the slowest {lag:.1f} s behind" if streaming else "no replicas, none expected"
    return ask.judge(
        "replication", lag, "replication_lag", words, broken="replication_lag_broken", asked=asked,
        fix="Look at the standby's disk and the network between them.",
    )  # fmt: skip


def _refused(ask: Ask, check: str, error: Any, asked: str) -> Finding:
    """What PostgreSQL answered: its state code, or, while connecting, where libpq gives none, its words."""
    code = getattr(error, "sqlstate", None) or next((c for mark, c in _WORDS if mark in str(error)), "")
    if code in _STATES:
        detail, fix = _STATES[code]
        return ask.say(check, "broken", detail, asked=asked, fix=f"{fix} ({ask.variable})")
    met = trouble(error, ask.seconds)
    return ask.say(check, met.state, met.detail, asked=asked, fix=f"{met.fix} ({ask.variable})")


def _sqlite(ask: Ask) -> Iterator[Finding]:
    file = Path(ask.address.removeprefix("sqlite:///"))
    if not file.is_file():
        yield ask.say("reach", "unknown", "the file is not there", asked="the file",
                      fix=f"Restore it from a backup, or correct {ask.variable}.")  # fmt: skip
        return
    try:
        connection = sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=ask.seconds, isolation_level=None)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        yield _sqlite_refused(ask, "reach", error)
        return
    try:
        yield ask.say("reach", "healthy", "the file opens", asked="the file")
        try:
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone():
                connection.execute(f"CREATE TABLE {TABLE} {_COLUMNS}")
            connection.execute(_ROW)
            (found,) = connection.execute(_COUNT).fetchone()
            connection.execute("ROLLBACK")
            yield _came_back(ask, found)
        except sqlite3.Error as error:
            yield _sqlite_refused(ask, "write and read", error)
    finally:
        connection.close()


def _sqlite_refused(ask: Ask, check: str, error: sqlite3.Error) -> Finding:
    name = getattr(error, "sqlite_errorname", "") or ""
    for mark, state, detail, fix in (
        ("SQLITE_BUSY", "degraded", "another program has held it for writing", "Find out which; end it if it hangs."),
        ("SQLITE_READONLY", "broken", "it cannot be written", "Correct the owner or mode of file and folder."),
        ("SQLITE_CANTOPEN", "broken", "it cannot be opened", "Correct the owner or mode of file and folder."),
        ("SQLITE_FULL", "broken", "the disk is full", "Make room."),
        ("SQLITE_CORRUPT", "broken", "the file is damaged", "Restore it from a backup."),
        ("SQLITE_NOTADB", "broken", "the file is no database", "Restore it from a backup."),
    ):
        if name.startswith(mark):
            return ask.say(check, state, detail, asked=_ASKED, fix=fix)  # type: ignore[arg-type]
    return ask.failed(check, error, asked=_ASKED)
