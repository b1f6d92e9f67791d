"""The OMOP CDM 5.4 as SQLAlchemy tables and as DDL for SQLite, DuckDB and PostgreSQL.

Keys of rows are BIGINT (they are 63-bit hashes), concepts INTEGER, as in the vocabularies. Foreign keys are checked
at commit where the database can do that, since tables refer to each other in circles: every concept has a domain, and
every domain is a concept. DuckDB checks at once and cannot add a key later, so there the four vocabulary tables that
concept refers to, and references of a table to itself, stay undeclared; :data:`UNDECLARED` names them and
`cdm_load.load` checks them itself.

This is one of the modules that import SQLAlchemy at their top; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from trialops.errors import TrialOpsError
from trialops.standards import cdm

DIALECTS = ("sqlite", "duckdb", "postgresql")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _undeclared() -> frozenset[tuple[str, str]]:
    circle = {"domain", "vocabulary", "concept_class"}
    return frozenset(
        (table.name, field.name)
        for table in cdm.spec().values()
        for field in table.fields
        if field.foreign_table == table.name or (table.name == "concept" and field.foreign_table in circle)
    )


UNDECLARED = _undeclared()
"""Foreign keys that DuckDB is not told of: (table, field)."""


def metadata(dialect: str = "postgresql", schema: str | None = None) -> sa.MetaData:
    """All 39 tables with primary keys, required fields and foreign keys.

    Args:
        dialect: sqlite, duckdb or postgresql.
        schema: Database schema to put them in.
    """
    if dialect not in DIALECTS:
        raise TrialOpsError(f"There is no CDM for {dialect}", fix=f"One of: {', '.join(DIALECTS)}.")
    made = sa.MetaData(schema=schema)
    for table in cdm.spec().values():
        sa.Table(table.name, made, *(_column(table, field, dialect, schema) for field in table.fields))
    return made


def ddl(dialect: str, schema: str | None = None, tables: Sequence[str] | None = None) -> list[str]:
    """CREATE TABLE statements in an order that a database accepts.

    Args:
        dialect: sqlite, duckdb or postgresql.
        schema: Database schema.
        tables: Only these; all by default.
    """
    made = metadata(dialect, schema)
    speaks = sqlite.dialect() if dialect == "sqlite" else postgresql.dialect()
    wanted = [made.tables[f"{schema}.{name}" if schema else name] for name in creation_order()]
    found = [str(CreateTable(t).compile(dialect=speaks)).strip() for t in wanted if tables is None or t.name in tables]
    if dialect == "postgresql":
        # The circle is closed after both ends exist.
        found += [
            _added(made, name, field, schema) for name, field in _CLOSED_LATER if tables is None or name in tables
        ]
    return found


def creation_order() -> list[str]:
    """Tables, each after those it refers to; the circle of the vocabulary tables starts with concept."""
    left = dict(cdm.spec())
    order: list[str] = []
    while left:
        ready = [
            name
            for name, table in left.items()
            if not any(
                f.foreign_table in left and f.foreign_table != name and (name, f.name) not in UNDECLARED
                for f in table.fields
            )
        ]
        order += ready
        for name in ready:
            del left[name]
    return order


_CLOSED_LATER = tuple(sorted(pair for pair in UNDECLARED if pair[0] == "concept"))


def _added(made: sa.MetaData, name: str, field: str, schema: str | None) -> str:
    place = f"{schema}." if schema else ""
    target = cdm.table(name).by_name[field]
    return (
        f"ALTER TABLE {place}{name} ADD CONSTRAINT fk_{name}_{field} FOREIGN KEY ({field}) REFERENCES "
        f"{place}{target.foreign_table} ({target.foreign_field}) DEFERRABLE INITIALLY DEFERRED"
    )


def _column(table: cdm.Table, field: cdm.Field, dialect: str, schema: str | None) -> sa.Column[Any]:
    keys = []
    declared = not (dialect == "duckdb" and (table.name, field.name) in UNDECLARED)
    late = dialect == "postgresql" and (table.name, field.name) in _CLOSED_LATER
    if field.foreign_table and declared and not late:
        target = f"{schema}.{field.foreign_table}" if schema else field.foreign_table
        deferred = {} if dialect == "duckdb" else {"deferrable": True, "initially": "DEFERRED"}
        keys.append(sa.ForeignKey(f"{target}.{field.foreign_field}", **deferred))  # type: ignore[arg-type]
    return sa.Column(
        field.name,
        _type(field),
        *keys,
        primary_key=field.primary_key,
        nullable=not field.required,
        autoincrement=False,
    )


def _type(field: cdm.Field) -> sa.types.TypeEngine[Any]:
    made: sa.types.TypeEngine[Any]
    if field.type == "integer":
        concept = field.name.endswith("concept_id") or "concept_id_" in field.name or field.foreign_table == "concept"
        made = sa.Integer() if concept or not _is_key(field) else _BIG
    elif field.type == "float":
        made = sa.Double()
    elif field.type == "date":
        made = sa.Date()
    elif field.type == "datetime":
        made = sa.DateTime()
    elif field.type == "text":
        made = sa.Text()
    else:
        made = sa.String(field.length)
    return made


def _is_key(field: cdm.Field) -> bool:
    """Whether a field holds the key of a row, here or in another table."""
    return field.name.endswith("_id") or field.name.startswith("fact_id")
