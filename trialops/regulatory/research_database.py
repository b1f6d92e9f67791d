"""OMOP tables into a research database, and proof that what arrived is what was sent.

The tables are de-identified. The database is read back table by table, and compared by number of rows and by digest
of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.standards import cdm
from trialops.standards.cdm_load import load
from trialops.stores.digest import table_digest

if TYPE_CHECKING:
    import polars as pl

    from trialops.pages import Page
    from trialops.stores.context import Step
    from trialops.stores.lake import Manifest


@dataclass(frozen=True)
class Loaded:
    """One table: rows and digests sent and found."""

    table: str
    sent: int
    found: int
    digest_sent: str
    digest_found: str

    @property
    def equal(self) -> bool:
        """Whether the table arrived as it was sent."""
        return self.sent == self.found and self.digest_sent == self.digest_found


def export_cdm(
    url: str,
    tables: Mapping[str, pl.DataFrame],
    *,
    schema: str = "",
    replace: bool = False,
    progress: Callable[[str, float | None], None] | None = None,
) -> list[Loaded]:
    """Load OMOP tables into a database, all or nothing, and compare what arrived.

    Args:
        url: SQLAlchemy URL of SQLite, DuckDB or PostgreSQL; without a password (see `check_target`).
        tables: Rows by CDM table.
        schema: Schema for PostgreSQL and DuckDB.
        replace: Whether CDM tables that are there are replaced.
        progress: Called with a message and the fraction done.

    Returns:
        One line per table that has rows.

    Raises:
        TrialOpsError: The target is refused, the tables break the CDM, or what arrived is not what was sent.
    """
    check_target(url)
    if not any(frame.height for frame in tables.values()):
        raise TrialOpsError("There are no OMOP rows to export", fix="Run data_pipeline or data_standardization first.")
    load(url, tables, schema=schema or None, replace=replace, progress=progress)
    done = []
    for name, frame in sorted(tables.items()):
        found = read_table(url, name, schema)
        done.append(Loaded(name, frame.height, found.height, _digest(frame), _digest(found)))
    wrong = [item.table for item in done if not item.equal]
    if wrong:
        raise TrialOpsError(
            f"{len(wrong)} table(s) in the database are not what was sent: {', '.join(wrong)}",
            where="target database",
            fix="Do not use this database; find out who else writes to it, and export again with replace.",
        )
    return done


def newest_load(run: Step) -> Manifest:
    """The newest load that standardization has kept and that still verifies.

    Raises:
        TrialOpsError: There is none.
    """
    from trialops.standards.omop_run import DATASET

    kept = run.lake.last_validated(DATASET)
    if kept is None:
        raise TrialOpsError(
            "There are no OMOP tables",
            where=f"data set {DATASET}",
            fix="Run data_pipeline or data_standardization first.",
        )
    return kept


def newest_cdm(run: Step) -> dict[str, pl.DataFrame]:
    """The tables of :func:`newest_load`.

    Raises:
        TrialOpsError: There is none.
    """
    from trialops.standards.omop_run import DATASET, tables_of

    return tables_of(run.read_snapshot(f"validated/{DATASET}", newest_load(run).snapshot))


def check_target(url: str) -> None:
    """Refuse a target that is no database we load, or that carries a password.

    Raises:
        TrialOpsError: Parameters of a run are recorded, so a password may not be among them.
    """
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise TrialOpsError(
            "The target is not a database URL",
            where="target",
            fix="sqlite:///FILE, duckdb:///FILE or postgresql+psycopg://USER@HOST/NAME",
        ) from None
    if parsed.password:
        raise TrialOpsError(
            "The target holds a password, and the parameters of a run are recorded",
            where="target",
            fix="Leave it out; give it as PGPASSWORD, in a PGPASSFILE, or by the service account.",
        )
    local = ("localhost", "127.0.0.1", "::1", "", None)
    secure = parsed.query.get("sslmode") in ("require", "verify-ca", "verify-full")
    if parsed.get_backend_name() == "postgresql" and parsed.host not in local and not secure:
        raise TrialOpsError(
            "Patient data leave this machine encrypted only",
            where="target",
            fix="Add ?sslmode=verify-full (or require) to the URL.",
        )


def read_table(url: str, name: str, schema: str = "") -> pl.DataFrame:
    """One CDM table of a database, in the types of the model."""
    import polars as pl

    wanted = cdm.schema(name)
    columns = ", ".join(_selected(column, kind) for column, kind in wanted.items())
    place = f'"{schema}"."{name}"' if schema else f'"{name}"'
    query = f"SELECT {columns} FROM {place}"
    if url.startswith("duckdb"):
        import duckdb

        path = url.partition("://")[2].removeprefix("/")
        connection = duckdb.connect(path, read_only=True)
        try:
            frame = connection.sql(query).pl()
        finally:
            connection.close()
    else:
        import sqlalchemy as sa

        engine = sa.create_engine(url)
        with engine.connect() as reading:
            rows = [tuple(row) for row in reading.exec_driver_sql(query)]
        engine.dispose()
        frame = pl.DataFrame(rows, schema=list(wanted), orient="row", infer_schema_length=None)
    casts = []
    for column, kind in wanted.items():
        value = pl.col(column)
        if frame.schema[column] == pl.String and kind == pl.Date:
            value = value.str.to_date("%Y-%m-%d")
        elif frame.schema[column] == pl.String and kind == pl.Datetime:
            value = value.str.to_datetime("%Y-%m-%d %H:%M:%S%.f")
        casts.append(value.cast(kind))
    return frame.select(casts)


def _selected(column: str, kind: pl.DataType) -> str:
    """A column as it is selected: PostgreSQL would hand numbers out as decimals."""
    return f'CAST("{column}" AS double precision) AS "{column}"' if kind.is_float() else f'"{column}"'


def _digest(frame: pl.DataFrame) -> str:
    """Digest of the values, whatever their order."""
    ordered = frame.select(sorted(frame.columns)).sort(sorted(frame.columns), nulls_last=False)
    return table_digest(ordered.to_arrow())


def research_page(done: list[Loaded], target: str, purpose: str) -> Page:
    """What was loaded; counts of rows, small ones suppressed."""
    import sqlalchemy as sa

    from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed

    filled = [item for item in done if item.sent]
    rows = [[i.table, suppressed(i.sent), suppressed(i.found), i.digest_sent[:16], i.equal] for i in done]
    shown = sa.make_url(target).render_as_string(hide_password=True)
    return Page(
        "Research database",
        [
            Section(
                "Loaded",
                [
                    Facts({"tables with rows": len(filled), "rows": sum(i.sent for i in filled), "target": shown}),
                    Text(f"Purpose: {purpose}"),
                    Figure(plots.bars([i.table for i in filled], [i.sent for i in filled], xlabel="rows"), "Rows."),
                ],
            ),
            Section("Compared after loading", [Table(["table", "rows sent", "rows found", "digest", "equal"], rows)]),
        ],
        verdict=Verdict("loaded", "good", "Rows and digests in the database equal what was sent"),
    )
