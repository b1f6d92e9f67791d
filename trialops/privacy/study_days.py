"""Dates become days: study day, the day a row was known, and the shifted dates of a limited data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.intake import partial_dates
from trialops.intake.domains import RECEIVED, catalog, current_rows

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.policy import Policy

REFERENCE = "_reference"
OFFSET = "_offset"


def day_column(column: str) -> str:
    """Name of the study-day column of a date column: LBDTC -> LBDY."""
    return column[:-3] + "DY"


def study_day(date: pl.Expr, reference: pl.Expr) -> pl.Expr:
    """SDTM study day as Int32: 1 on the reference day, -1 the day before, never 0 (SDTMIG 3.3, 4.4.4)."""
    import polars as pl

    days = (date - reference).dt.total_days()
    return pl.when(days >= 0).then(days + 1).otherwise(days).cast(pl.Int32)


def references(tables: dict[str, pl.DataFrame], policy: Policy) -> pl.DataFrame:
    """Day 1 of every subject in DM.

    It is RFSTDTC of the newest version of the DM row. Without one, it is the first contact: the earliest
    exact date among the columns the policy names.

    Returns:
        USUBJID and `_reference` (Date; null when the subject has no exact date at all).
    """
    import polars as pl

    dm = current_rows("DM", tables["DM"])
    starts = dm.group_by("USUBJID").agg(partial_dates.exact_day("RFSTDTC").min().alias("start"))
    contacts = [
        tables[domain].select("USUBJID", contact=partial_dates.exact_day(column))
        for domain, columns in policy.first_contact.items()
        if domain in tables
        for column in columns
        if column in tables[domain].columns
    ]
    none = pl.DataFrame(schema={"USUBJID": pl.String, "contact": pl.Date})
    first = pl.concat([none, *contacts]).group_by("USUBJID").agg(pl.col("contact").min())
    joined = starts.join(first, on="USUBJID", how="left")
    return joined.select("USUBJID", pl.coalesce("start", "contact").alias(REFERENCE))


def known_day(domain: str, columns: list[str]) -> pl.Expr:
    """The study day on which the sponsor could know this version of the row, as Int32.

    The last day the collection date can mean, but not before the row's own date; without a collection date
    the last day the row's own date can mean; and never before the receipt of the correction that brought it.
    """
    import polars as pl

    spec = catalog().domains.get(domain)
    own = spec.own if spec and spec.own in columns else None
    collected = spec.collected if spec and spec.collected in columns else None
    day: pl.Expr = pl.lit(None, dtype=pl.Date)
    if collected and own:
        latest = partial_dates.latest(collected)
        both = pl.max_horizontal(latest, partial_dates.earliest(own))
        day = pl.when(latest.is_not_null()).then(both).otherwise(partial_dates.latest(own))
    elif collected or own:
        day = partial_dates.latest(collected or own or "")
    if RECEIVED in columns:
        day = pl.max_horizontal(day, pl.col(RECEIVED))
    return study_day(day, pl.col(REFERENCE)).alias("KNOWNDY")


def shifted(column: str) -> pl.Expr:
    """The date text moved by `_offset` days at the precision it has.

    Exact dates move exactly, time of day kept. A month or a year moves with its middle, so that on average no
    interval grows or shrinks. A text with an unknown component before a known one is cut back to what comes
    before it.
    """
    import polars as pl

    parts = pl.col(column).str.split("/")
    first, last = _shifted(parts.list.first()), _shifted(parts.list.last())
    interval = pl.col(column).str.contains("/", literal=True)
    return pl.when(interval).then(pl.concat_str([first, last], separator="/")).otherwise(first)


def _shifted(text: pl.Expr) -> pl.Expr:
    import polars as pl

    offset = pl.duration(days=pl.col(OFFSET))
    day = text.str.extract(r"^(\d{4}-\d{2}-\d{2})", 1).str.to_date("%Y-%m-%d", strict=False)
    month = (text.str.extract(r"^(\d{4}-\d{2})(?:$|-)", 1) + "-15").str.to_date("%Y-%m-%d", strict=False)
    year = (text.str.extract(r"^(\d{4})(?:$|-)", 1) + "-07-02").str.to_date("%Y-%m-%d", strict=False)
    exact = pl.concat_str([(day + offset).dt.to_string("%Y-%m-%d"), text.str.slice(10)])
    return (
        pl.when(day.is_not_null())
        .then(exact)
        .when(month.is_not_null())
        .then((month + offset).dt.to_string("%Y-%m"))
        .otherwise((year + offset).dt.to_string("%Y"))
    )
