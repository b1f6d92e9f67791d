"""SQLite: what a file says of itself, and its upkeep."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.operations.database_facts import DatabaseFacts, ForeignKey, IndexFacts, TableFacts

if TYPE_CHECKING:
    from sqlalchemy import Engine

BUSY_SECONDS = 30


def open_file(engine: Engine) -> sqlite3.Connection:
    """A connection of its own to the engine's file, without a transaction."""
    connection = sqlite3.connect(str(engine.url.database), timeout=BUSY_SECONDS, isolation_level=None)
    connection.execute("PRAGMA recursive_triggers = ON")
    return connection


def look(engine: Engine) -> DatabaseFacts:
    """Ask the file; see database_facts.look."""
    path = Path(str(engine.url.database))
    with closing(open_file(engine)) as connection:
        one = lambda query: connection.execute(query).fetchone()[0]  # noqa: E731
        pages, free, page = one("PRAGMA page_count"), one("PRAGMA freelist_count"), one("PRAGMA page_size")
        names = [
            n
            for (n,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
            )
        ]
        known = _analyzed(connection)
        sizes = _sizes(connection)
        tables = tuple(
            TableFacts(
                name,
                int(one(f"SELECT count(*) FROM {_quoted(name)}")),
                size=sizes.get(name, 0),
                analyzed=name in known,
            )
            for name in names
        )
        indexes, keys = [], []
        for name in names:
            for row in connection.execute(f"PRAGMA index_list({_quoted(name)})").fetchall():
                columns = tuple(
                    c[2] or "expression" for c in connection.execute(f"PRAGMA index_info({_quoted(row[1])})")
                )
                where = str(one(f"SELECT coalesce(max(sql), '') FROM sqlite_master WHERE name = '{row[1]}'"))
                condition = where.split(" WHERE ", 1)[1] if " WHERE " in where else ""
                indexes.append(IndexFacts(row[1], name, columns, condition, bool(row[2]), size=sizes.get(row[1], 0)))
            by_key: dict[int, list[tuple[int, str, str]]] = {}
            for key in connection.execute(f"PRAGMA foreign_key_list({_quoted(name)})"):
                by_key.setdefault(key[0], []).append((key[1], key[3], key[2]))
            keys += [
                ForeignKey(name, tuple(column for _, column, _ in sorted(parts)), parts[0][2])
                for parts in by_key.values()
            ]
        problems = tuple(str(p) for (p,) in connection.execute("PRAGMA quick_check(20)") if p != "ok")
    return DatabaseFacts(
        kind="sqlite",
        server=sqlite3.sqlite_version,
        size=path.stat().st_size if path.exists() else pages * page,
        tables=tables,
        indexes=tuple(sorted(indexes, key=lambda i: (i.table, i.name))),
        foreign_keys=tuple(keys),
        freelist=(int(free), int(pages)),
        problems=problems,
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _analyzed(connection: sqlite3.Connection) -> set[str]:
    try:
        return {str(row[0]) for row in connection.execute("SELECT DISTINCT tbl FROM sqlite_stat1")}
    except sqlite3.OperationalError:
        return set()


def _sizes(connection: sqlite3.Connection) -> dict[str, int]:
    """Bytes per table and index, where the library was built to tell (dbstat)."""
    try:
        return {str(n): int(s) for n, s in connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name")}
    except sqlite3.OperationalError:
        return {}


def tend(engine: Engine, statements: Sequence[str]) -> list[tuple[str, str]]:
    """Run VACUUM, ANALYZE and the like; returns each with its error, empty where it succeeded."""
    done = []
    with closing(open_file(engine)) as connection:
        for statement in statements:
            try:
                connection.execute(statement).fetchall()
                done.append((statement, ""))
            except sqlite3.Error as error:
                done.append((statement, type(error).__name__))
    return done
