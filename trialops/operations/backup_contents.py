"""What a database holds, told in SQL: rows and an order-independent checksum per table, its structure, its sequences.

The checksum of a table is the pair of sums, over its rows, of two 64-bit halves of a hash of the row's text: equal for
the same rows in any order, different when a value, a NULL or a repeated row differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Connection

_SYSTEM = "('pg_catalog', 'information_schema', 'pg_toast')"

SETTINGS = (
    "SET LOCAL timezone = 'UTC'",
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL intervalstyle = 'postgres'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL search_path = ''",
)
"""What the text of a row or of a definition depends on."""

TABLES = f"""
SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN {_SYSTEM} AND NOT EXISTS (
       SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
 ORDER BY 1, 2"""

CHECKSUM = """
SELECT count(*), coalesce(sum(('x' || substr(h, 1, 16))::bit(64)::bigint::numeric), 0)::text,
       coalesce(sum(('x' || substr(h, 17, 16))::bit(64)::bigint::numeric), 0)::text
  FROM (SELECT encode(sha256(convert_to(t::text, 'UTF8')), 'hex') AS h FROM {table} t) q"""

STRUCTURE: Mapping[str, str] = {
    "columns": f"""
        SELECT n.nspname || '.' || c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
               || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END || coalesce(' default '
               || pg_get_expr(d.adbin, d.adrelid), '') || a.attidentity::text || a.attgenerated::text,
               ', ' ORDER BY a.attname)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relkind IN ('r', 'v', 'm', 'p') AND n.nspname NOT IN {_SYSTEM} GROUP BY 1""",
    "constraints": f"""
        SELECT n.nspname || '.' || coalesce(t.relname, '') || '.' || k.conname, pg_get_constraintdef(k.oid)
          FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
          LEFT JOIN pg_class t ON t.oid = k.conrelid WHERE n.nspname NOT IN {_SYSTEM} AND k.contype <> 't'""",
    "indexes": f"""
        SELECT schemaname || '.' || indexname, indexdef FROM pg_indexes WHERE schemaname NOT IN {_SYSTEM}""",
    "triggers": f"""
        SELECT n.nspname || '.' || c.relname || '.' || t.tgname, pg_get_triggerdef(t.oid)
               || ' enabled ' || t.tgenabled::text
          FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT t.tgisinternal AND n.nspname NOT IN {_SYSTEM}""",
    "functions": f"""
        SELECT n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
               pg_get_functiondef(p.oid)
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.prokind IN ('f', 'p') AND n.nspname NOT IN {_SYSTEM} AND NOT EXISTS (
               SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')""",
}


@dataclass(frozen=True)
class TableContents:
    """Rows of a table, and their checksum."""

    rows: int
    checksum: str


@dataclass(frozen=True)
class DatabaseContents:
    """What a database holds at one moment.

    Attributes:
        tables: Name to rows and checksum.
        structure: Kind to name to SHA-256 of the definition: columns, constraints, indexes, triggers, functions.
        sequences: Name to the last value handed out.
    """

    tables: dict[str, TableContents]
    structure: dict[str, dict[str, str]] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain form."""
        return {
            "tables": {name: [one.rows, one.checksum] for name, one in sorted(self.tables.items())},
            "structure": {kind: dict(sorted(names.items())) for kind, names in sorted(self.structure.items())},
            "sequences": dict(sorted(self.sequences.items())),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatabaseContents:
        """Rebuild from :meth:`as_dict`."""
        return cls(
            {str(n): TableContents(int(rows), str(checksum)) for n, (rows, checksum) in data["tables"].items()},
            {str(kind): dict(names) for kind, names in data["structure"].items()},
            {str(n): int(value) for n, value in data["sequences"].items()},
        )


def contents_of_postgres(connection: Connection) -> DatabaseContents:
    """What a PostgreSQL database holds, as the connection's transaction sees it."""
    for setting in SETTINGS:
        connection.exec_driver_sql(setting)
    tables = {}
    for row in connection.exec_driver_sql(TABLES).all():
        table = quoted(row.schema, row.name).replace("%", "%%")  # the driver takes a % for a placeholder
        rows, first, second = connection.exec_driver_sql(CHECKSUM.format(table=table)).one()
        tables[f"{row.schema}.{row.name}"] = TableContents(int(rows), f"{first}:{second}")
    structure = {
        kind: {str(name): _sha(str(text)) for name, text in connection.exec_driver_sql(query).all()}
        for kind, query in STRUCTURE.items()
    }
    sequences = {
        f"{row[0]}.{row[1]}": int(row[2])
        for row in connection.exec_driver_sql(
            "SELECT schemaname, sequencename, coalesce(last_value, 0) FROM pg_sequences "
            f"WHERE schemaname NOT IN {_SYSTEM}"
        )
    }
    return DatabaseContents(tables, structure, sequences)


def quoted(*parts: str) -> str:
    """A name as SQL writes it."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def contents_of_sqlite(connection: sqlite3.Connection) -> DatabaseContents:
    """What a SQLite file holds, as the connection's transaction sees it."""
    connection.create_aggregate("row_sum", 1, _RowSum)  # type: ignore[arg-type]
    objects = connection.execute(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_master ORDER BY type, name"
    ).fetchall()
    tables = {}
    for kind, name, _ in objects:
        if kind != "table" or name.startswith("sqlite_"):
            continue
        columns = [row[1] for row in connection.execute(f"PRAGMA table_xinfo({quoted(name)})")]
        # quote() tells a NULL, a number, a text and a blob apart.
        values = " || char(31) || ".join(f"quote({quoted(column)})" for column in columns)
        rows, checksum = connection.execute(f"SELECT count(*), row_sum({values}) FROM {quoted(name)}").fetchone()
        tables[name] = TableContents(int(rows), str(checksum or "0:0"))
    structure: dict[str, dict[str, str]] = {}
    for kind, name, text in objects:
        if not name.startswith("sqlite_stat"):
            structure.setdefault(f"{kind}s", {})[name] = _sha(text)
    sequences = {}
    if any(name == "sqlite_sequence" for _, name, _ in objects):
        sequences = {str(n): int(v) for n, v in connection.execute("SELECT name, seq FROM sqlite_sequence")}
    return DatabaseContents(tables, structure, sequences)


class _RowSum:
    """The checksum of a table, as a SQL aggregate: SQLite has no hash of its own."""

    def __init__(self) -> None:
        self.first = self.second = 0

    def step(self, text: str) -> None:
        found = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        self.first += int.from_bytes(found[:8], "big", signed=True)
        self.second += int.from_bytes(found[8:16], "big", signed=True)

    def finalize(self) -> str:
        return f"{self.first}:{self.second}"


def compare(was: DatabaseContents, now: DatabaseContents) -> list[str]:
    """Where a restored database is not what was backed up, one sentence each; empty where it is.

    A sequence may have gone on: its values stand outside transactions.
    """
    found = []
    for name, one in sorted(was.tables.items()):
        other = now.tables.get(name)
        if other is None:
            found.append(f"table {name} is missing ({one.rows} rows)")
        elif other.rows != one.rows:
            found.append(f"table {name} holds {other.rows} rows instead of {one.rows}")
        elif other.checksum != one.checksum:
            found.append(f"table {name} holds other values in its {one.rows} rows")
    found += [f"table {name} was not backed up and is there" for name in sorted(set(now.tables) - set(was.tables))]
    for kind, names in sorted(was.structure.items()):
        there = now.structure.get(kind, {})
        for name, digest in sorted(names.items()):
            if there.get(name) != digest:
                found.append(f"{kind}: {name} is {'different' if name in there else 'missing'}")
        found += [f"{kind}: {name} was not backed up and is there" for name in sorted(set(there) - set(names))]
    for name, value in sorted(was.sequences.items()):
        if now.sequences.get(name, -1) < value:
            found.append(f"sequence {name} would hand out values again")
    return found


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
