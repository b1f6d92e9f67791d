"""Data types of values as Define-XML names them, with lengths and significant digits read off the data."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.regulatory.standard import Variable

if TYPE_CHECKING:
    import polars as pl

DAY = r"^\d{4}-\d{2}-\d{2}$"
MOMENT = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?$"
PART_DAY = r"^\d{4}(-\d{2}(-\d{2})?)?$"
PART_MOMENT = r"^\d{4}(-\d{2}(-\d{2}(T\d{2}(:\d{2}(:\d{2}(\.\d+)?)?)?)?)?)?(Z|[+-]\d{2}:\d{2})?$"
NUMBER = r"^-?\d+(\.\d+)?$"
EXACT_DIGITS = 15
"""Whole numbers of up to so many digits are exact as doubles; longer ones are described as floats."""


@dataclass(frozen=True)
class Typed:
    """Type of a variable's values.

    Attributes:
        data_type: ODM data type: text, integer, float, date, datetime, partialDate, partialDatetime,
            incompleteDatetime or durationDatetime.
        length: Longest value in characters; None for dates and durations, which have none in Define-XML.
        digits: Most decimals of a float; None for others.
        width: Bytes a character value takes in a transport file; at least 1.
    """

    data_type: str
    length: int | None
    digits: int | None
    width: int


def conform(name: str, series: pl.Series, variable: Variable) -> pl.Series:
    """A column in the type its variable has in a transport file: String or Float64.

    A character variable that is missing everywhere often arrives as a number, and a code may too.

    Raises:
        TrialOpsError: A numeric variable holds text that is no number.
    """
    import polars as pl

    if variable.kind == "number":
        cast = series.cast(pl.Float64, strict=False)
        lost = int((cast.is_null() & series.is_not_null() & (series.cast(pl.String) != "")).sum())
        if lost:
            raise TrialOpsError(
                f"{lost} value(s) of {variable.name} are not numbers, of {len(series)} rows",
                where=f"{name}, column {variable.name}",
                fix="The standard makes it a number: correct the values, or move the text to a SUPP-- record.",
            )
        return cast.fill_nan(None)
    if series.dtype.is_numeric():
        whole = series.cast(pl.Float64).fill_nan(None)
        return pl.Series(series.name, [None if v is None else plain(v) for v in whole], pl.String)
    text = series.cast(pl.String).str.strip_chars_end(" ")
    return pl.select(pl.when(text != "").then(text)).to_series().rename(series.name)


def plain(value: float) -> str:
    """A number as digits, without an exponent: the shortest text that gives the same double back."""
    return format(Decimal(repr(value)).normalize(), "f") if value else "0"


def typed(series: pl.Series, kind: str) -> Typed:
    """Type, length and significant digits of a column.

    Args:
        series: Values.
        kind: "text", "number", "time", "duration", or "result": text that counts as a number where all of it is one.
    """
    import polars as pl

    present = series.drop_nulls()
    if kind == "number":
        return _number([plain(v) for v in present.unique()])
    present = present.filter(present != "")
    width = max(int(present.str.len_bytes().max() or 0), 1)  # type: ignore[arg-type]
    if kind == "duration":
        return Typed("durationDatetime", None, None, width)
    if kind == "time":
        return Typed(_time(present), None, None, width)
    if kind == "result" and len(present) and present.str.contains(NUMBER).all():
        return _number(present.unique().to_list())
    length = max(int(present.cast(pl.String).str.len_chars().max() or 0), 1)  # type: ignore[arg-type]
    return Typed("text", length, None, width)


def _number(texts: list[str]) -> Typed:
    width = max((len(t) for t in texts), default=1)
    digits = max((len(t.partition(".")[2]) for t in texts), default=0)
    if digits == 0 and width <= EXACT_DIGITS:
        return Typed("integer", width, None, width)
    return Typed("float", width, digits, width)


def _time(present: pl.Series) -> str:
    for pattern, name in (
        (DAY, "date"),
        (MOMENT, "datetime"),
        (PART_DAY, "partialDate"),
        (PART_MOMENT, "partialDatetime"),
    ):
        if len(present) and present.str.contains(pattern).all():
            return name
    return "incompleteDatetime" if len(present) else "date"
