from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.features import study_time

KNOWN = {
    1: datetime(2000, 1, 1, tzinfo=UTC),
    -1: datetime(1999, 12, 31, tzinfo=UTC),
    28: datetime(2000, 1, 28, tzinfo=UTC),
    -14: datetime(1999, 12, 18, tzinfo=UTC),
    366: datetime(2000, 12, 31, tzinfo=UTC),
}


@pytest.mark.parametrize(("day", "moment"), KNOWN.items())
def test_days_and_timestamps_correspond(day: int, moment: datetime) -> None:
    assert study_time.timestamp_of(day) == moment
    assert study_time.day_of(moment) == day
    assert study_time.day_of(moment + timedelta(hours=23)) == day


def test_expressions_agree_with_scalars() -> None:
    days = [d for d in range(-400, 400) if d != 0]
    frame = pl.DataFrame({"day": days}, schema={"day": pl.Int32})
    out = frame.select(
        o=study_time.ordinal(pl.col("day")),
        t=study_time.timestamp(study_time.ordinal(pl.col("day"))),
        back=study_time.day(study_time.ordinal(pl.col("day"))),
    )
    assert out["o"].to_list() == [study_time.ordinal_of(d) for d in days]
    assert out["t"].dtype == pl.Datetime("us", "UTC")
    assert out["t"].to_list() == [study_time.timestamp_of(d) for d in days]
    assert out["back"].to_list() == days
    assert out["o"].diff().drop_nulls().unique().to_list() == [1]  # no gap where day 0 would be


def test_day_zero_and_naive_times_are_refused() -> None:
    with pytest.raises(TrialOpsError, match="day 0"):
        study_time.timestamp_of(0)
    with pytest.raises(TrialOpsError, match="time zone"):
        study_time.day_of(datetime(2000, 1, 1))
    east = datetime(2000, 1, 2, 1, tzinfo=timezone(timedelta(hours=5)))
    assert study_time.day_of(east) == 1  # still the first day in UTC


def test_null_days_stay_null() -> None:
    frame = pl.DataFrame({"d": [None, 5]}, schema={"d": pl.Int32})
    assert frame.select(study_time.timestamp(study_time.ordinal(pl.col("d")))).to_series()[0] is None
