"""OMOP tables into a database: all of them, or nothing.

PostgreSQL takes rows by COPY, SQLite by prepared statements, DuckDB straight from Arrow; each in one transaction, with
the keys that `cdm_ddl` declares checked before it is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.standards import cdm

if TYPE_CHECKING:
    import polars as pl

BATCH = 50_000
"""Rows handed to a database at a time."""
Progress = Callable[[str, float | None], None]


def load(
    url: str,
    tables: Mapping[str, pl.DataFrame],
    *,
    schema: str | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Create the CDM in a database and fill it.

    Args:
        url: SQLAlchemy URL: ``sqlite:///file``, ``postgresql+psycopg://...`` or ``duckdb:///file``.
        tables: Rows by table name, in the exact shape of the model.
        schema: Schema to put the tables in, for PostgreSQL and DuckDB; it is created when absent.
        replace: Whether tables of the model that are there already are dropped first.
        progress: Told what is loaded and how far.

    Returns:
        Rows by table.

    Raises:
        TrialOpsError: When the tables break a key or a required field, when tables are there already, or when the
            database refuses; nothing has been changed then.
    """
    dialect = _dialect(url)
    problems = violations(tables)
    if problems.height:
        first = problems.row(0, named=True)
        raise TrialOpsError(
            f"{int(problems['rows'].sum()):,} values break the CDM's rules: {first['rule']}",
            where=f"{first['table']}.{first['field']}",
            fix="Load tables that the standardize step has written; nothing was changed in the database.",
        )
    writer = {"sqlite": _sqlalchemy, "postgresql": _sqlalchemy, "duckdb": _duckdb}[dialect]
    writer(url, dialect, tables, schema, replace, progress)
    return {name: tables[name].height if name in tables else 0 for name in cdm.spec()}


def violations(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """What breaks the specification: table, field, rule, rows. Empty when nothing does.

    The rules: column there with its type, required values, text lengths, unique keys, foreign keys.
    """
    import polars as pl

    found: list[tuple[str, str, str, int]] = []
    for name, frame in tables.items():
        known = cdm.table(name)
        if dict(frame.schema) != dict(cdm.schema(name)):
            found.append((name, "", "columns and types", frame.height or 1))
            continue
        for field in known.fields:
            column = frame[field.name]
            if field.required and column.null_count():
                found.append((name, field.name, "required", column.null_count()))
            if field.length is not None:
                long = int((column.str.len_chars() > field.length).sum())
                if long:
                    found.append((name, field.name, f"at most {field.length} characters", long))
            if field.primary_key and column.n_unique() < frame.height:
                found.append((name, field.name, "unique", frame.height - column.n_unique()))
            if field.foreign_table and frame.height:
                lost = _lost(column, tables, field)
                if lost:
                    found.append((name, field.name, f"refers to {field.foreign_table}", lost))
    schema = {"table": pl.String, "field": pl.String, "rule": pl.String, "rows": pl.Int64}
    return pl.DataFrame(found, schema=schema, orient="row")


def _lost(column: pl.Series, tables: Mapping[str, pl.DataFrame], field: cdm.Field) -> int:
    """Values that the table referred to does not have."""
    used = column.drop_nulls()
    target = tables.get(field.foreign_table or "")
    if target is None:
        return used.len()
    there = target[field.foreign_field or ""]
    return int((~used.is_in(there.implode())).sum()) if used.len() else 0


def _dialect(url: str) -> str:
    kind = url.partition(":")[0].partition("+")[0]
    if kind not in ("sqlite", "postgresql", "duckdb"):
        raise TrialOpsError(
            f"A research database of kind {kind!r} is not supported",
            where="target",
            fix="SQLite, DuckDB or PostgreSQL.",
        )
    return kind


def _steps(
    tables: Mapping[str, pl.DataFrame], progress: Progress | None
) -> list[tuple[str, pl.DataFrame, Callable[[], None]]]:
    """Tables with rows in the order to fill them, each with a call that reports it."""
    from trialops.standards.cdm_ddl import creation_order

    named = [(name, tables[name]) for name in creation_order() if name in tables and tables[name].height]
    whole = sum(frame.height for _, frame in named) or 1
    made: list[tuple[str, pl.DataFrame, Callable[[], None]]] = []
    done = 0
    for name, frame in named:
        fraction = done / whole

        def say(name: str = name, fraction: float = fraction) -> None:
            if progress is not None:
                progress(f"loading {name}", fraction)

        made.append((name, frame, say))
        done += frame.height
    return made


def _sqlalchemy(
    url: str,
    dialect: str,
    tables: Mapping[str, pl.DataFrame],
    schema: str | None,
    replace: bool,
    progress: Progress | None,
) -> None:
    import sqlalchemy as sa

    from trialops.standards.cdm_ddl import ddl, metadata

    engine = sa.create_engine(url)
    place = schema if dialect == "postgresql" else None
    try:
        with engine.connect() as connection:
            if dialect == "sqlite":
                # The driver commits by itself before DDL unless it is told to leave transactions alone.
                connection.connection.driver_connection.isolation_level = None  # type: ignore[union-attr]
                connection.exec_driver_sql("PRAGMA foreign_keys = ON")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            if place:
                connection.execute(sa.schema.CreateSchema(place, if_not_exists=True))
            there = set(sa.inspect(connection).get_table_names(schema=place)) & set(cdm.spec())
            if there and not replace:
                raise _already(len(there))
            if there:
                _drop(connection, dialect, place, there)
            for statement in ddl(dialect, place):
                connection.exec_driver_sql(statement)
            made = metadata(dialect, place)
            for name, frame, say in _steps(tables, progress):
                say()
                if dialect == "postgresql":
                    _copy(connection, name, frame, place)
                else:
                    _insert(connection, made.tables[name], frame)
            if dialect == "sqlite":
                connection.exec_driver_sql("COMMIT")
            else:
                connection.commit()
    except (sa.exc.SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        raise _refused(error) from None
    finally:
        engine.dispose()


def _drop(connection: Any, dialect: str, schema: str | None, there: set[str]) -> None:
    from trialops.standards.cdm_ddl import creation_order

    more = " CASCADE" if dialect == "postgresql" else ""
    place = f"{schema}." if schema else ""
    for name in reversed(creation_order()):
        if name in there:
            connection.exec_driver_sql(f"DROP TABLE {place}{name}{more}")


def _insert(connection: Any, table: Any, frame: pl.DataFrame) -> None:
    """Rows by prepared statement, as text where SQLite keeps dates as text."""
    import polars as pl

    marks = ", ".join("?" for _ in frame.columns)
    names = ", ".join(f'"{name}"' for name in frame.columns)
    text = frame.with_columns(
        pl.col(pl.Date).dt.to_string("%Y-%m-%d"), pl.col(pl.Datetime).dt.to_string("%Y-%m-%d %H:%M:%S.%6f")
    )
    cursor = connection.connection.driver_connection.cursor()
    for start in range(0, text.height, BATCH):
        cursor.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", text.slice(start, BATCH).rows())


def _copy(connection: Any, name: str, frame: pl.DataFrame, schema: str | None) -> None:
    """Rows by COPY, as CSV that polars writes; an empty text is quoted, so null stays apart from it."""
    import io

    place = f'"{schema}".' if schema else ""
    columns = ", ".join(f'"{column}"' for column in frame.columns)
    cursor = connection.connection.driver_connection.cursor()
    with cursor.copy(f'COPY {place}"{name}" ({columns}) FROM STDIN (FORMAT csv)') as copy:
        for start in range(0, frame.height, BATCH):
            buffer = io.BytesIO()
            frame.slice(start, BATCH).write_csv(buffer, include_header=False, quote_style="non_numeric", null_value="")
            copy.write(buffer.getvalue())


def _duckdb(
    url: str,
    dialect: str,
    tables: Mapping[str, pl.DataFrame],
    schema: str | None,
    replace: bool,
    progress: Progress | None,
) -> None:
    import duckdb

    from trialops.standards.cdm_ddl import creation_order, ddl

    path = url.partition("://")[2].removeprefix("/")
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(path or ":memory:")
    try:
        found = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = ?", [schema or "main"]
        ).fetchall()
        there = {name for (name,) in found} & set(cdm.spec())
        if there and not replace:
            raise _already(len(there))
        connection.execute("BEGIN")
        if schema:
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        place = f'"{schema}".' if schema else ""
        for name in reversed(creation_order()):
            if name in there:
                connection.execute(f"DROP TABLE {place}{name}")
        for statement in ddl(dialect, schema):
            connection.execute(statement)
        for name, frame, say in _steps(tables, progress):
            say()
            rows = frame.to_arrow()
            connection.register("incoming", rows)
            columns = ", ".join(f'"{column}"' for column in frame.columns)
            connection.execute(f"INSERT INTO {place}{name} ({columns}) SELECT {columns} FROM incoming")
            connection.unregister("incoming")
        connection.execute("COMMIT")
    except duckdb.Error as error:
        raise _refused(error) from None
    finally:
        connection.close()


def _already(count: int) -> TrialOpsError:
    return TrialOpsError(
        f"The target holds {count} tables of the CDM already",
        where="target database",
        fix="Choose an empty database or schema, or say that they are to be replaced.",
    )


def _refused(error: Exception) -> TrialOpsError:
    # A database's message quotes values: only its kind is passed on.
    return TrialOpsError(
        f"The database refused the tables ({type(error).__name__}); nothing was changed",
        where="target database",
        fix="Check that it can be reached, has room, and that the user may create tables.",
    )
