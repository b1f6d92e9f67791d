"""The CDM as data, its rows in shape, and the study-day calendar."""

from __future__ import annotations

import datetime

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.standards import calendar, cdm


def test_tables_and_fields() -> None:
    fields = [field for table in cdm.spec().values() for field in table.fields]
    assert (len(cdm.spec()), len(fields)) == (39, 432)
    assert sum(f.required for f in fields) == 180
    assert sum(f.primary_key for f in fields) == 28
    assert sum(f.foreign_table is not None for f in fields) == 176


def test_foreign_keys_name_fields_that_exist() -> None:
    for table in cdm.spec().values():
        for field in table.fields:
            if field.foreign_table:
                assert field.foreign_field == cdm.table(field.foreign_table).primary_key


def test_unknown_table() -> None:
    with pytest.raises(TrialOpsError, match="no table 'persons'"):
        cdm.table("persons")


def test_conform_orders_cuts_and_fills() -> None:
    frame = pl.DataFrame({"location_id": [2, 1], "city": ["x" * 60, "y"], "unknown": [1, 1]})
    made = cdm.conform("location", frame)
    assert made.columns == [f.name for f in cdm.table("location").fields]
    assert made["location_id"].to_list() == [1, 2]
    assert made["city"].str.len_chars().to_list() == [1, 50]
    assert made.schema == cdm.empty("location").schema


@pytest.mark.parametrize(
    ("day", "date"),
    [(1, "2000-01-01"), (2, "2000-01-02"), (-1, "1999-12-31"), (366, "2000-12-31"), (-365, "1999-01-01")],
)
def test_calendar(day: int, date: str) -> None:
    expected = datetime.date.fromisoformat(date)
    assert calendar.date_of(day) == expected
    assert calendar.day_of(expected) == day
    frame = pl.DataFrame({"day": [day]}).select(date=calendar.dates(pl.col("day")))
    assert frame["date"].to_list() == [expected]
    assert frame.select(calendar.days(pl.col("date"))).item() == day


def test_calendar_has_no_day_zero() -> None:
    with pytest.raises(ValueError, match="no study day 0"):
        calendar.date_of(0)
    frame = pl.DataFrame({"day": [0, None]}, schema={"day": pl.Int32})
    assert frame.select(calendar.dates(pl.col("day"))).to_series().null_count() == 2


def test_birth_year() -> None:
    assert pl.DataFrame({"age": [63.0, 89.9, None]}).select(
        calendar.birth_year(pl.col("age"))
    ).to_series().to_list() == [
        1937,
        1911,
        None,
    ]
