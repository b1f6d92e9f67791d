"""PostgreSQL: what it says of itself, and its upkeep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trialops.operations.database_facts import DatabaseFacts, ForeignKey, IndexFacts, TableFacts

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_SYSTEM = "('pg_catalog', 'information_schema', 'pg_toast')"

# Bytes of a page that can hold rows, header of a row with its line pointer: PostgreSQL's page layout (documentation,
# "Database Page Layout"); the average width of a column is the planner's.
TABLES = f"""
SELECT n.nspname AS schema, c.relname AS name, c.oid AS oid, greatest(c.reltuples, 0)::bigint AS planned,
       coalesce(s.n_live_tup, 0) AS live, coalesce(s.n_dead_tup, 0) AS dead, pg_relation_size(c.oid) AS size,
       c.relpages AS pages, coalesce(s.seq_scan, 0) AS seq, coalesce(s.idx_scan, 0) AS idx,
       coalesce(s.last_analyze, s.last_autoanalyze) IS NOT NULL OR c.reltuples >= 0 AS analyzed,
       (SELECT sum((1 - null_frac) * avg_width) FROM pg_stats p
         WHERE p.schemaname = n.nspname AND p.tablename = c.relname AND NOT p.inherited) AS width
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
 WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN {_SYSTEM}
 ORDER BY 1, 2"""

INDEXES = f"""
SELECT n.nspname AS schema, i.relname AS name, t.relname AS "table", x.indisunique OR x.indisexclusion AS "unique",
       x.indisvalid AS valid, pg_relation_size(i.oid) AS size, coalesce(s.idx_scan, 0) AS scans, i.oid AS oid,
       coalesce(pg_get_expr(x.indpred, x.indrelid), '') AS "where", a.amname AS method,
       ARRAY(SELECT pg_get_indexdef(x.indexrelid, k, true) FROM generate_series(1, x.indnkeyatts) k) AS columns
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = i.relnamespace JOIN pg_am a ON a.oid = i.relam
  LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = x.indexrelid
 WHERE n.nspname NOT IN {_SYSTEM} AND i.relpersistence = 'p'
 ORDER BY 1, 3, 2"""

FOREIGN_KEYS = f"""
SELECT n.nspname AS schema, t.relname AS "table", r.relname AS refers,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(num, place)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.place) AS columns
  FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
 WHERE k.contype = 'f' AND n.nspname NOT IN {_SYSTEM}
 ORDER BY 1, 2, k.conname"""

STATE = """
SELECT current_setting('server_version') AS server, pg_database_size(current_database()) AS size,
       (SELECT max(age(datfrozenxid)) FROM pg_database) AS age,
       (SELECT extract(epoch FROM max(now() - xact_start)) FROM pg_stat_activity
         WHERE pid <> pg_backend_pid() AND state <> 'idle' AND backend_type = 'client backend') AS longest,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most,
       (SELECT extract(epoch FROM now() - coalesce(stats_reset, pg_postmaster_start_time())) / 86400
          FROM pg_stat_database WHERE datname = current_database()) AS counters"""

ARCHIVING = """
SELECT current_setting('wal_level') AS wal_level, current_setting('archive_mode') AS archive_mode,
       (current_setting('archive_command') NOT IN ('', '(disabled)')) AS has_command,
       coalesce(last_archived_time::text, '') AS last_archived, failed_count::text AS failed,
       coalesce(last_failed_time::text, '') AS last_failed
  FROM pg_stat_archiver"""

PAGE, PAGE_HEADER, ROW_HEADER = 8192, 24, 28


def look(engine: Engine) -> DatabaseFacts:
    """Ask the server; see database_facts.look."""
    from trialops.stores.database import reading

    with reading(engine) as connection:
        state = connection.exec_driver_sql(STATE).mappings().one()
        measures = _measures(connection)
        tables = [_table(row, measures) for row in connection.exec_driver_sql(TABLES).mappings()]
        indexes = [_index(row, measures) for row in connection.exec_driver_sql(INDEXES).mappings()]
        keys = [
            ForeignKey(_name(row["schema"], row["table"]), tuple(row["columns"]), row["refers"])
            for row in connection.exec_driver_sql(FOREIGN_KEYS).mappings()
        ]
        archiving = dict(connection.exec_driver_sql(ARCHIVING).mappings().one())
    return DatabaseFacts(
        kind="postgresql",
        server=str(state["server"]),
        size=int(state["size"]),
        tables=tuple(tables),
        indexes=tuple(indexes),
        foreign_keys=tuple(keys),
        counters_days=float(state["counters"]) if state["counters"] is not None else None,
        age=int(state["age"]),
        longest=float(state["longest"] or 0.0),
        connections=(int(state["used"]), int(state["most"])),
        archiving={name: str(value) for name, value in archiving.items()},
    )


def _name(schema: str, name: str) -> str:
    return name if schema == "public" else f"{schema}.{name}"


def _measures(connection: Connection) -> Callable[[str, int], float | None]:
    """Empty share of a relation by pgstattuple; None where the extension, or the right to use it, is missing."""
    found = connection.exec_driver_sql(
        "SELECT n.nspname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE p.proname = 'pgstattuple_approx' AND has_function_privilege(p.oid, 'execute')"
    ).scalar()
    if found is None:
        return lambda kind, oid: None

    def measure(kind: str, oid: int) -> float | None:
        if kind == "table":
            query = (
                f'SELECT approx_free_percent + dead_tuple_percent FROM "{found}".pgstattuple_approx({oid}::regclass)'
            )
        else:
            query = f'SELECT 100 - avg_leaf_density FROM "{found}".pgstatindex({oid}::regclass)'
        value = connection.exec_driver_sql(query).scalar()
        return None if value is None or value != value else max(0.0, min(1.0, float(value) / 100))

    return measure


def _table(row: Any, measure: Callable[[str, int], float | None]) -> TableFacts:
    measured = measure("table", row["oid"]) if row["size"] else None
    rows = int(row["live"]) or int(row["planned"])
    empty = measured
    if empty is None and row["width"] is not None and row["size"]:
        needed = rows * (float(row["width"]) + ROW_HEADER) / (PAGE - PAGE_HEADER) * PAGE
        empty = max(0.0, 1 - max(needed, PAGE) / int(row["size"]))
    return TableFacts(
        _name(row["schema"], row["name"]),
        rows,
        int(row["dead"]),
        int(row["size"]),
        empty,
        measured is not None,
        (int(row["seq"]), int(row["idx"])),
        bool(row["analyzed"]),
    )


def _index(row: Any, measure: Callable[[str, int], float | None]) -> IndexFacts:
    # A fresh b-tree leaves a tenth of its leaves free (fillfactor 90); that is no bloat.
    density = measure("index", row["oid"]) if row["method"] == "btree" and row["size"] > PAGE else None
    empty = None if density is None else max(0.0, density - 0.1)
    return IndexFacts(
        _name(row["schema"], row["name"]),
        _name(row["schema"], row["table"]),
        tuple(row["columns"]),
        str(row["where"]),
        bool(row["unique"]),
        bool(row["valid"]),
        int(row["size"]),
        int(row["scans"]),
        empty,
        density is not None,
    )


def tend(engine: Engine, statements: Sequence[str]) -> list[tuple[str, str]]:
    """Run statements that allow no transaction (VACUUM, REINDEX CONCURRENTLY).

    Returns:
        Statement and error; an empty text where it succeeded. One that waits for a lock gives up after a minute.
    """
    import sqlalchemy as sa

    done = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET lock_timeout = '60s'")
        try:
            for statement in statements:
                try:
                    connection.exec_driver_sql(statement.replace("%", "%%"))
                    done.append((statement, ""))
                except sa.exc.SQLAlchemyError as error:
                    done.append((statement, type(getattr(error, "orig", None) or error).__name__))
        finally:
            connection.exec_driver_sql("RESET lock_timeout")
    return done
