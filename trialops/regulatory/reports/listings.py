"""Line listings: serious events, deaths, withdrawals. Identifiable; they live in sealed documents alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.regulatory.documents.content import Cell, DataTable, rows_of
from trialops.safety.seriousness import NOT_SERIOUS

if TYPE_CHECKING:
    import polars as pl

    from trialops.regulatory.reports.basis import Basis

EVENT_COLUMNS = (
    "Subject", "Country", "Age, sex", "Treatment", "System organ class", "Preferred term", "Onset (day)", "Outcome",
    "Criteria", "Investigator", "Sponsor", "Expected",
)  # fmt: skip
DISCONTINUED_FOR_EVENT = ("ADVERSE EVENT", "DEATH")


def serious_events(basis: Basis, number: str, *, period: bool, related: bool) -> DataTable:
    """Serious events one by one, as ICH E2F section 7.2 lists them.

    Args:
        basis: The trial at its cut.
        number: Number of the listing.
        period: Events with an onset in the reporting period alone; an onset that may lie in it counts.
        related: Those suspected by investigator or sponsor alone (reactions); not assessed counts.
    """
    import polars as pl

    found = basis.in_safety.filter(pl.col("SERIOUS") != NOT_SERIOUS)
    if related:
        suspected = pl.col("RELATED_INVESTIGATOR").fill_null(True) | pl.col("RELATED_SPONSOR").fill_null(False)
        found = found.filter(suspected)
    if period:
        found = found.filter((pl.col("ONSET_LATEST") >= basis.since).fill_null(True))
    what = "Serious adverse reactions" if related else "Serious adverse events"
    when = f"onset {basis.since.isoformat()} to {basis.cut.isoformat()}" if period else f"to {basis.cut.isoformat()}"
    return event_listing(basis, number, f"{what}, {when}", found)


def event_listing(basis: Basis, number: str, title: str, events: pl.DataFrame) -> DataTable:
    """Some events of treated subjects, one by one.

    Args:
        basis: The trial at its cut.
        number: Number of the listing.
        title: Its title.
        events: Rows of `Basis.in_safety`.
    """
    return DataTable(
        number,
        title,
        basis.safety_population,
        EVENT_COLUMNS,
        rows_of(_event_rows(basis, events)),
        (
            "Seriousness by every criterion of ICH E2A. Events marked * meet one while the site says not serious; the "
            "site is asked.",
            "Expected by the reference safety information in force at onset.",
        ),
        listing=True,
    )


def _event_rows(basis: Basis, events: pl.DataFrame) -> list[list[Cell]]:
    joined = events.join(
        basis.subjects.select("USUBJID", "COUNTRY", "AGE", "SEX"),
        on="USUBJID",
        how="left",
        maintain_order="left",
        suffix="_DM",
    ).sort("ONSET_EARLIEST", "USUBJID", "AESEQ", nulls_last=True)

    def word(value: bool | None, yes: str, no: str) -> str:
        return "not assessed" if value is None else yes if value else no

    return [
        [
            row["USUBJID"] + ("" if row["SERIOUS"] == "serious" else " *"),
            row["COUNTRY"],
            f"{row['AGE']:g}, {row['SEX']}" if row["AGE"] is not None else row["SEX"],
            row["group"] if basis.audience == "unblinded" else "blinded",
            row["AEBODSYS"],
            row["AEDECOD"],
            f"{row['AESTDTC'] or 'unknown'}" + (f" ({row['DAY']})" if row["DAY"] is not None else ""),
            row.get("AEOUT"),
            ", ".join(row["CRITERIA"] or ()) or row["SERIOUS_BASIS"],
            word(row["RELATED_INVESTIGATOR"], "related", "not related"),
            word(row["RELATED_SPONSOR"], "related", "not related"),
            word(row["EXPECTED"], "expected", "unexpected"),
        ]
        for row in joined.iter_rows(named=True)
    ]


def deaths(basis: Basis, number: str, *, period: bool) -> DataTable:
    """Subjects who died, with the event that was fatal; from AE, DM and DS, whoever says so first.

    Args:
        basis: The trial at its cut.
        number: Number of the listing.
        period: Deaths in the reporting period alone; one without a date counts.
    """
    import polars as pl

    from trialops.intake.partial_dates import latest

    dm = basis.trial.table("DM")
    fatal = (
        basis.events.filter("FATAL")
        .group_by("USUBJID")
        .agg(cause=pl.col("AEDECOD").sort().str.join(", "), when=pl.col("AEENDTC").drop_nulls().max())
    )
    died = dm.filter((pl.col("DTHFL") == "Y") if "DTHFL" in dm.columns else pl.lit(False)).select("USUBJID")
    said = basis.trial.get("DS")
    if said is not None and "DSDECOD" in said.columns:
        died = pl.concat([died, said.filter(pl.col("DSDECOD").is_in(list(basis.policy.death_terms))).select("USUBJID")])
    who = pl.concat([died, fatal.select("USUBJID")]).unique().join(fatal, on="USUBJID", how="left")
    date = "DTHDTC" if "DTHDTC" in dm.columns else None
    dated = dm.select("USUBJID", stated=pl.col(date).replace("", None) if date else pl.lit(None, pl.String))
    rows = (
        who.join(dated, on="USUBJID", how="left")
        .with_columns(died=pl.coalesce("stated", "when"))
        .join(basis.subjects, on="USUBJID", how="left")
        .sort("USUBJID")
    )
    if period:
        rows = rows.filter((latest("died") >= basis.since).fill_null(True))
    cells: list[list[Cell]] = [
        [
            row["USUBJID"],
            f"{row['AGE']:g}, {row['SEX']}" if row["AGE"] is not None else row["SEX"],
            (row["group"] if row["treated"] else "not treated")
            if basis.audience == "unblinded"
            else ("blinded" if row["treated"] else "not treated"),
            row["first_dose"].isoformat() if row["first_dose"] else None,
            row["died"],
            row["cause"] or "no fatal event reported",
        ]
        for row in rows.iter_rows(named=True)
    ]
    when = f"from {basis.since.isoformat()} to {basis.cut.isoformat()}" if period else f"to {basis.cut.isoformat()}"
    everybody = basis.population("All subjects", basis.subjects)
    columns = ("Subject", "Age, sex", "Treatment", "First dose", "Died", "Fatal event")
    return DataTable(number, f"Subjects who died, {when}", everybody, columns, rows_of(cells), listing=True)


def withdrawals(basis: Basis, number: str, *, period: bool) -> DataTable:
    """Subjects who left the trial in association with an adverse event, thought to be related or not (312.33(b)(4))."""
    import polars as pl

    from trialops.intake.partial_dates import latest

    ds = basis.trial.table("DS")
    left = ds.filter(pl.col("DSDECOD").is_in(DISCONTINUED_FOR_EVENT))
    if "DSCAT" in ds.columns:
        left = left.filter(pl.col("DSCAT") == "DISPOSITION EVENT")
    if period:
        left = left.filter((latest("DSSTDTC") >= basis.since).fill_null(True))
    named = (
        basis.events.filter(pl.col("AEACN") == "DRUG WITHDRAWN")
        if "AEACN" in basis.events.columns
        else basis.events.clear()
    )
    cause = named.group_by("USUBJID").agg(events=pl.col("AEDECOD").unique().sort().str.join(", "))
    rows = left.join(cause, on="USUBJID", how="left").join(basis.subjects, on="USUBJID", how="left").sort("USUBJID")
    cells: list[list[Cell]] = [
        [
            row["USUBJID"],
            f"{row['AGE']:g}, {row['SEX']}" if row["AGE"] is not None else row["SEX"],
            row["group"] if basis.audience == "unblinded" else "blinded",
            row["DSDECOD"],
            row["DSSTDTC"],
            row["events"],
        ]
        for row in rows.iter_rows(named=True)
    ]
    when = f"from {basis.since.isoformat()} to {basis.cut.isoformat()}" if period else f"to {basis.cut.isoformat()}"
    return DataTable(
        number,
        f"Subjects who left for an adverse event or died, {when}",
        basis.population("All subjects", basis.subjects),
        ("Subject", "Age, sex", "Treatment", "Reason", "Date", "Events that led to withdrawal"),
        rows_of(cells),
        ("The last column: events whose action taken is withdrawal (AEACN); a dash where the delivery does not say.",),
        listing=True,
    )
