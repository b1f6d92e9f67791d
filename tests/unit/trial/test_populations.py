"""Who counts as randomised, treated and failed, and from when to when a subject was dosed."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from trialops.trial.populations import populations
from trialops.trial.tables import TrialTables, cut_at


def trial(arms: dict[str, Any], doses: list[tuple[Any, ...]], **more: list[Any]) -> TrialTables:
    dm = pl.DataFrame({"USUBJID": list(arms), "ARMCD": list(arms.values()), **more}, infer_schema_length=None)
    ex = pl.DataFrame(
        doses,
        schema={"USUBJID": pl.String, "EXDOSE": pl.Float64, "EXSTDTC": pl.String, "EXENDTC": pl.String},
        orient="row",
    )
    return TrialTables("T1", {"DM": dm.with_columns(STUDYID=pl.lit("T1")), "EX": ex}, "digest")


def row(frame: pl.DataFrame, subject: str) -> dict[str, Any]:
    return frame.filter(pl.col("USUBJID") == subject).row(0, named=True)


def test_arms_say_who_is_randomised_and_who_failed() -> None:
    arms = {"a": "Pbo", "b": "Scrnfail", "c": "NOTASSGN", "d": None, "e": " ", "f": "SCRNFAIL"}
    reasons = [None, None, None, "SCREEN FAILURE", "NOT ASSIGNED", None]
    found = populations(trial(arms, [], ARMNRS=reasons))
    assert found.columns == ["USUBJID", "randomised", "treated", "screen_failure", "first_dose", "last_dose"]
    assert found.filter("randomised")["USUBJID"].to_list() == ["a"]
    assert found.filter("screen_failure")["USUBJID"].to_list() == ["b", "d", "f"]
    assert not found["treated"].any() and found["first_dose"].null_count() == 6


def test_a_placebo_of_dose_nought_treats_and_a_row_without_dose_and_start_does_not() -> None:
    doses = [
        ("a", 0.0, "2014-01-02", "2014-01-10"),
        ("a", 0.0, "2014-01-11", "2014-02-01"),
        ("b", None, None, None),
        ("b", None, "", ""),
    ]
    found = populations(trial({"a": "P", "b": "P"}, doses))
    first = row(found, "a")
    assert first["treated"] and (first["first_dose"], first["last_dose"]) == (date(2014, 1, 2), date(2014, 2, 1))
    assert not row(found, "b")["treated"]


def test_what_was_not_done_is_no_dose() -> None:
    made = trial({"a": "P"}, [("a", 5.0, "2014-01-02", "2014-01-02")])
    ex = made.tables["EX"].with_columns(EXOCCUR=pl.lit("N"))
    assert not populations(TrialTables("T1", {**made.tables, "EX": ex}, ""))["treated"].any()


def test_exposure_without_an_end_has_no_last_dose() -> None:
    doses = [("a", 5.0, "2014-01-02", "2014-01-10"), ("a", 5.0, "2014-01-11", None), ("b", 5.0, "2014-01-02", "")]
    doses += [("b", 5.0, "2014-01-05", "2014-02-01")]
    found = populations(trial({"a": "A", "b": "A"}, doses))
    assert row(found, "a")["last_dose"] is None
    # An early row left open is a gap in the data: the later row has an end.
    assert row(found, "b")["last_dose"] == date(2014, 2, 1)


def test_partial_dates_of_ex_fall_back_to_dm() -> None:
    made = trial({"a": "A"}, [("a", 5.0, "2014-01", "2014")], RFXSTDTC=["2014-01-02"], RFXENDTC=["2014-05-06"])
    found = row(populations(made), "a")
    assert found["treated"] and (found["first_dose"], found["last_dose"]) == (date(2014, 1, 2), date(2014, 5, 6))


def test_exposure_that_goes_on_at_the_cut_is_open() -> None:
    made = trial({"a": "A"}, [("a", 5.0, "2014-01-02", "2014-06-01")], RFICDTC=["2013-12-01"])
    assert row(populations(cut_at(made, date(2014, 3, 1))), "a")["last_dose"] is None
    assert row(populations(made), "a")["last_dose"] == date(2014, 6, 1)
