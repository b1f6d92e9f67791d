"""Study days as numbers and as timestamps.

An SDTM study day has no day 0: day 1 is the reference start, day -1 the day before it (SDTMIG 3.4, section
4.4.4). Arithmetic is done on the *ordinal*, which closes that gap (day 1 -> 0, day -1 -> -1). Feast wants
timestamps, so day 1 stands at 2000-01-01 UTC for every subject; no calendar date of any subject can be
recovered from it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

DAY_ONE = datetime(2000, 1, 1, tzinfo=UTC)


def ordinal_of(day: int) -> int:
    """Ordinal of a study day: days after day 1, negative before it.

    Raises:
        TrialOpsError: The day is 0, which does not exist.
    """
    if day == 0:
        raise TrialOpsError(
            "Study day 0 does not exist.", fix="Use day 1 for the reference start, -1 for the day before."
        )
    return day - 1 if day > 0 else day


def timestamp_of(day: int) -> datetime:
    """Timestamp (UTC midnight) of a study day.

    Raises:
        TrialOpsError: The day is 0.
    """
    return DAY_ONE + timedelta(days=ordinal_of(day))


def day_of(timestamp: datetime) -> int:
    """Study day of a timestamp; a time within the day counts as that day.

    Raises:
        TrialOpsError: The timestamp has no time zone.
    """
    if timestamp.tzinfo is None:
        raise TrialOpsError("A study timestamp needs a time zone.", fix="Use UTC.")
    ordinal = (timestamp - DAY_ONE).days
    return ordinal + 1 if ordinal >= 0 else ordinal


def ordinal(day: pl.Expr) -> pl.Expr:
    """Study day (any integer type) -> ordinal (Int32). Check for day 0 first, here it passes for day 1."""
    import polars as pl

    day = day.cast(pl.Int32)
    return pl.when(day > 0).then(day - 1).otherwise(day)


def day(ordinal: pl.Expr) -> pl.Expr:
    """Ordinal -> study day (Int32)."""
    import polars as pl

    ordinal = ordinal.cast(pl.Int32)
    return pl.when(ordinal >= 0).then(ordinal + 1).otherwise(ordinal)


def timestamp(ordinal: pl.Expr) -> pl.Expr:
    """Ordinal -> timestamp (datetime, microseconds, UTC)."""
    import polars as pl

    return (pl.lit(DAY_ONE).cast(pl.Datetime("us", "UTC")) + pl.duration(days=ordinal)).cast(pl.Datetime("us", "UTC"))
