"""SDTM dates: ISO 8601 text of any precision, turned into the earliest and latest day it can mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

# A component that is not known is a hyphen ("2003---15"), or is left off on the right ("2003").
_PATTERN = (
    r"^(?P<y>\d{4}|-)(?:-(?P<m>\d{2}|-)(?:-(?P<d>\d{2}|-)"
    r"(?:T(?P<h>\d{2}|-)(?::(?P<n>\d{2}|-)(?::(?P<s>\d{2}|-)(?:[.,]\d+)?)?)?(?:Z|[+-]\d{2}:?\d{2})?)?)?)?$"
)
EARLIEST_YEAR = 1900


def _parts(text: pl.Expr) -> pl.Expr:
    return text.str.extract_groups(_PATTERN)


def _known(groups: pl.Expr, field: str) -> pl.Expr:
    """The component as text, null where it is missing or a hyphen."""
    import polars as pl

    value = groups.struct.field(field)
    return pl.when(value != "-").then(value)


def _bound(text: pl.Expr, side: Literal["earliest", "latest"]) -> pl.Expr:
    import polars as pl

    groups = _parts(text)
    year, month = _known(groups, "y"), _known(groups, "m")
    # A day without its month says nothing about the bounds.
    day = pl.when(month.is_not_null()).then(_known(groups, "d"))
    first = pl.concat_str([year, month.fill_null("01"), day.fill_null("01")], separator="-")
    start = first.str.to_date("%Y-%m-%d", strict=False)
    if side == "earliest":
        return start
    december = pl.concat_str([year, pl.lit("-12-31")]).str.to_date("%Y-%m-%d", strict=False)
    year_end = pl.when(start.is_not_null()).then(december)
    bound = pl.when(day.is_not_null()).then(start).when(month.is_not_null()).then(start.dt.month_end())
    return bound.otherwise(year_end)


def earliest(column: str) -> pl.Expr:
    """First day the text can mean, as Date; null when the year is not known or the text is no date.

    Args:
        column: Name of a character column with ISO 8601 dates, date-times or intervals ("a/b").
    """
    import polars as pl

    return _bound(pl.col(column).str.split("/").list.first(), "earliest")


def latest(column: str) -> pl.Expr:
    """Last day the text can mean, as Date; see `earliest`."""
    import polars as pl

    return _bound(pl.col(column).str.split("/").list.last(), "latest")


def exact_day(column: str) -> pl.Expr:
    """The day as Date where the text names exactly one, else null."""
    import polars as pl

    first = earliest(column)
    return pl.when(first == latest(column)).then(first)


def not_iso(column: str) -> pl.Expr:
    """True where the text is there and is not ISO 8601 in the form SDTM allows."""
    import polars as pl

    start, end = _ends(column)
    one_interval = pl.col(column).str.count_matches("/") <= 1
    return pl.col(column).is_not_null() & ~(start.str.contains(_PATTERN) & end.str.contains(_PATTERN) & one_interval)


def impossible(column: str) -> pl.Expr:
    """True where the text has the right form but no calendar has that day or clock that time."""
    start, end = _ends(column)
    return _impossible(start) | _impossible(end)


def _ends(column: str) -> tuple[pl.Expr, pl.Expr]:
    import polars as pl

    ends = pl.col(column).str.split("/")
    return ends.list.first(), ends.list.last()


def _impossible(text: pl.Expr) -> pl.Expr:
    import polars as pl

    groups = _parts(text)
    # Year 2000 is a leap year: "--02-29" without a year can be right.
    year = _known(groups, "y").fill_null("2000")
    month, day = _known(groups, "m"), _known(groups, "d")
    date = pl.concat_str([year, month.fill_null("01"), day.fill_null("01")], separator="-")
    no_day = date.str.to_date("%Y-%m-%d", strict=False).is_null()
    no_time = (
        (_known(groups, "h").cast(pl.Int16) > 23).fill_null(False)
        | (_known(groups, "n").cast(pl.Int16) > 59).fill_null(False)
        | (_known(groups, "s").cast(pl.Int16) > 60).fill_null(False)
    )
    return text.str.contains(_PATTERN).fill_null(False) & (no_day | no_time)
