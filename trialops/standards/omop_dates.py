"""Dates of OMOP rows from ISO 8601 text of any precision, or from study days."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.standards import calendar

if TYPE_CHECKING:
    import polars as pl


def first_day(text: str, day: str, *, study_days: bool) -> pl.Expr:
    """The first day that a date can mean, as Date.

    Under study days the day beside the date counts alone: a bare year has no place on that calendar.

    Args:
        text: Column of dates or date-times; a time zone is not converted, the day is the one on the wall where it
            was written.
        day: Column of study days.
        study_days: Whether dates are study days.
    """
    import polars as pl

    if study_days:
        return calendar.dates(pl.col(day))
    # "2012" and "2012-03" become whole when the start of the year is hung on and the rest is cut off.
    whole = (pl.col(text).str.head(10) + "-01-01").str.head(10)
    return whole.str.to_date("%Y-%m-%d", strict=False)


def last_day(text: str, day: str, *, study_days: bool) -> pl.Expr:
    """The last day that a date can mean, as Date; see :func:`first_day`."""
    import polars as pl

    first = first_day(text, day, study_days=study_days)
    if study_days:
        return first
    length = pl.col(text).str.len_bytes()
    return (
        pl.when(length == 7)
        .then(first.dt.month_end())
        .when(length == 4)
        .then(pl.date(first.dt.year(), 12, 31))
        .otherwise(first)
    )


def moment(text: str, *, study_days: bool) -> pl.Expr:
    """Date and time as Datetime where the text has a time; no time is made up."""
    import polars as pl

    if study_days:
        return pl.lit(None, pl.Datetime("us"))
    column = pl.col(text)
    minute = column.str.len_bytes() == 16
    whole = pl.when(minute).then(column + ":00").when(column.str.len_bytes() >= 19).then(column.str.head(19))
    return whole.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="us")


def zone(text: str) -> pl.Expr:
    """The time zone at the end of a date-time: "Z" or an offset; null without one."""
    import polars as pl

    column = pl.col(text)
    offset = column.str.tail(6)
    return pl.when(column.str.len_bytes() >= 25).then(offset).when(column.str.ends_with("Z")).then(pl.lit("Z"))
