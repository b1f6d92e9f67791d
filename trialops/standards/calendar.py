"""The study-day calendar: full dates for data that, under Safe Harbor, have none finer than a year.

OMOP needs a date in every event. Strict de-identification leaves a year and the day relative to the subject's start.
Here study day 1 is 1 January 2000 for everybody, there is no day 0 (SDTM), and the year of birth follows from the age
alone. Such a date orders events and measures intervals; it says nothing about when something happened, and every page
that shows one must say so.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

STUDY_EPOCH = datetime.date(2000, 1, 1)
"""The date of study day 1."""

STUDY_DAY_URL = "urn:trialops:study-day"
"""URL of the FHIR extension that carries a study day beside a date cut to its year."""

NOTE = (
    "Dates in these tables are study days on a calendar that starts on 2000-01-01 for every subject: "
    "intervals are exact, no date is a real one."
)


def date_of(day: int) -> datetime.date:
    """The calendar date of a study day.

    Raises:
        ValueError: For day 0, which does not exist.
    """
    if day == 0:
        raise ValueError("there is no study day 0")
    return STUDY_EPOCH + datetime.timedelta(days=day - 1 if day > 0 else day)


def day_of(date: datetime.date) -> int:
    """The study day of a calendar date; the inverse of :func:`date_of`."""
    days = (date - STUDY_EPOCH).days
    return days + 1 if days >= 0 else days


def dates(day: pl.Expr) -> pl.Expr:
    """Study days as Date; null for null and for 0."""
    import polars as pl

    days = day.cast(pl.Int64)
    offset = pl.when(days > 0).then(days - 1).when(days < 0).then(days)
    return pl.lit(STUDY_EPOCH) + pl.duration(days=offset)


def days(date: pl.Expr) -> pl.Expr:
    """Calendar dates as study days (Int64); the inverse of :func:`dates`."""
    import polars as pl

    offset = (date.cast(pl.Date) - pl.lit(STUDY_EPOCH)).dt.total_days()
    return pl.when(offset >= 0).then(offset + 1).otherwise(offset)


def birth_year(age: pl.Expr) -> pl.Expr:
    """Year of birth on this calendar: 2000 less the age in completed years (Int64)."""
    import polars as pl

    return STUDY_EPOCH.year - age.cast(pl.Float64).floor().cast(pl.Int64)
