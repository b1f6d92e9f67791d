"""Day 1, and the day on which a row was known: from what there is, and never before anybody could know."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

from tests.support.raw_trial import SUBJECTS, by_subject, run, table, trial
from trialops.features.labels import label
from trialops.features.views import feature_views
from trialops.models.task import load_task
from trialops.privacy.page import privacy_page

ONE, TWO = SUBJECTS[0], SUBJECTS[1]


def exposed(**columns: Any) -> pl.DataFrame:
    """One dose of the first subject."""
    row = {"USUBJID": ONE, "EXSEQ": 1.0, "EXTRT": "X", "EXDOSE": 1.0, "EXSTDTC": "2014-01-10"}
    return table("EX", [row | columns])


def without(frame: pl.DataFrame, subject: str, **values: Any) -> pl.DataFrame:
    """The frame with other values for one subject."""
    here = pl.col("USUBJID") == subject
    kind = frame.schema
    return frame.with_columns(
        pl.when(here).then(pl.lit(v, kind.get(c, pl.String))).otherwise(pl.col(c) if c in kind else None).alias(c)
        for c, v in values.items()
    )


@pytest.mark.parametrize(
    ("dm", "ex", "day", "source"),
    [
        ({}, {}, 9, "RFSTDTC"),
        ({"RFSTDTC": "2014-01"}, {}, 1, "EXSTDTC"),
        ({"RFSTDTC": None}, {}, 1, "EXSTDTC"),
        ({"RFSTDTC": "2014-01", "RFXSTDTC": "2014-01-08"}, {}, 3, "RFXSTDTC"),
        ({"RFSTDTC": "2014-01", "RFXSTDTC": "2014-01"}, {}, 1, "EXSTDTC"),
        ({"RFSTDTC": "2014-01"}, {"EXSTDTC": "2014-01"}, None, "first contact"),
    ],
)
def test_day_one_of_a_treated_subject(dm: dict[str, Any], ex: dict[str, Any], day: int | None, source: str) -> None:
    tables = trial() | {"EX": exposed(**ex)}
    tables["DM"] = without(tables["DM"], ONE, **dm)
    result = run(tables=tables)
    assert by_subject(result, "EX", ONE)["EXSTDY"] == [day]
    days = dict(result.report.day_one)
    assert days.pop("first contact, treated") == (source == "first contact")
    # The second subject has RFSTDTC, the third a contact alone, the fourth nothing exact.
    expected = {"RFSTDTC": 1, "RFXSTDTC": 0, "EXSTDTC": 0, "first contact": 1, "none": 1}
    expected[source] += 1
    assert days == expected


def test_partial_start_that_day_one_does_not_fall_in_is_counted() -> None:
    tables = trial() | {"EX": exposed()}
    tables["DM"] = without(tables["DM"], ONE, RFSTDTC="2014-03")
    assert run(tables=tables).report.day_one_outside == 1
    tables["DM"] = without(tables["DM"], ONE, RFSTDTC="2014-01")
    assert run(tables=tables).report.day_one_outside == 0


def test_the_correction_of_a_dose_moves_day_one() -> None:
    tables = trial()
    first, fixed = exposed(), exposed(EXSTDTC="2014-01-12").drop("_SOURCE", "_ROW", "_RECEIVED")
    tables["EX"] = pl.concat([first, table("EX", fixed.to_dicts(), dt.date(2014, 4, 1))])
    tables["DM"] = without(tables["DM"], ONE, RFSTDTC=None)
    assert by_subject(run(tables=tables), "EX", ONE)["EXSTDY"] == [-2, 1]


def test_demographics_without_collection_date_are_known_at_first_contact() -> None:
    tables = trial()
    tables["DM"] = tables["DM"].drop("DMDTC").with_columns(RFICDTC=pl.Series(["2013-12-20", None, None, None]))
    result = run(tables=tables)
    assert by_subject(result, "DM", ONE)["KNOWNDY"] == [-13]  # consent
    # No consent and no visit: the first exact date of the subject, here day 1 itself.
    assert by_subject(result, "DM", TWO)["KNOWNDY"] == [1]
    assert result.tables["DM"]["KNOWNDY"].null_count() == 1  # the subject without any exact date
    assert feature_views(result.tables)["demographics"].height == 3


def medication(**columns: Any) -> dict[str, Any]:
    return {"USUBJID": ONE, "CMSEQ": 1.0, "CMTRT": "x", "CMDECOD": "ASPIRIN", "CMSTDTC": "1998"} | columns


VISITS = [
    {"USUBJID": ONE, "VISITNUM": 1.0, "SVSTDTC": "2013-12-26"},
    {"USUBJID": ONE, "VISITNUM": 7.0, "SVSTDTC": "2014-02-20"},
    {"USUBJID": ONE, "VISITNUM": 9.0, "SVSTDTC": "2014-03-31"},
]


@pytest.mark.parametrize(
    ("columns", "day"),
    [
        ({"CMDTC": "2014-02-20", "VISITNUM": 1.0}, 50),  # collected
        ({"VISITNUM": 7.0}, 50),  # the visit
        ({"VISITNUM": 7.0, "CMSTDTC": "2014-02-22"}, 52),  # a visit cannot know what starts later
        ({"VISITNUM": 8.0}, -7),  # a visit that did not happen: its own date, not before first contact
        ({}, -7),
        ({"CMSTDTC": "2014-02"}, 58),  # last day it can mean
        ({"CMSTDTC": None}, 89),  # undated: the last day of the subject
    ],
)
def test_medication_is_known_when_it_was_told(columns: dict[str, Any], day: int) -> None:
    row = {"VISITNUM": None, "CMDTC": None} | medication(**columns)
    frame = table("CM", [row]).with_columns(
        pl.col("VISITNUM").cast(pl.Float64), pl.col("CMDTC", "CMSTDTC").cast(pl.String)
    )
    result = run(tables=trial() | {"SV": table("SV", VISITS), "CM": frame})
    assert by_subject(result, "CM", ONE)["KNOWNDY"] == [day]


@pytest.mark.parametrize(("start", "day"), [("1998", -7), (None, -7), ("2014-01-20", 19)])
def test_history_is_known_from_the_first_contact(start: str | None, day: int) -> None:
    row = {"USUBJID": ONE, "MHSEQ": 1.0, "MHTERM": "x", "MHDECOD": "ASTHMA", "MHSTDTC": start}
    frame = table("MH", [row]).with_columns(pl.col("MHSTDTC").cast(pl.String))
    result = run(tables=trial() | {"SV": table("SV", VISITS), "MH": frame})
    assert by_subject(result, "MH", ONE)["KNOWNDY"] == [day]


def test_no_row_is_known_before_first_contact_or_never() -> None:
    rows = [medication(CMSEQ=float(i), CMSTDTC=d) for i, d in enumerate(("1998", "2013", "2013-12", None, "2014-02"))]
    result = run(tables=trial() | {"SV": table("SV", VISITS), "CM": table("CM", rows)})
    for domain in ("DM", "AE", "SV", "CM"):
        known = by_subject(result, domain, ONE)["KNOWNDY"]
        assert known and all(day is not None and day >= -7 for day in known), domain


def test_optional_columns_that_were_not_delivered_are_there_and_empty() -> None:
    tables = trial() | {"EX": exposed(EXDOSE=2.0)}
    tables["DM"] = without(tables["DM"], ONE, ARMCD="A")
    ds = {"USUBJID": ONE, "DSSEQ": 1.0, "DSDECOD": "COMPLETED", "DSCAT": "DISPOSITION EVENT", "DSSTDTC": "2014-06-01"}
    tables["DS"] = table("DS", [ds])
    lab = {"USUBJID": ONE, "LBSEQ": 1.0, "LBTESTCD": "ALB", "LBORRES": "40", "LBSTRESN": 40.0, "LBSTRESU": "g/L"}
    tables["LB"] = table("LB", [lab | {"LBDTC": "2014-01-03"}])
    tables["CM"] = table("CM", [medication()]).drop("CMDECOD")
    result = run(tables=tables)
    clean = result.tables
    assert clean["DM"].schema["RACE"] == pl.String and clean["DM"]["RACE"].null_count() == 4
    assert clean["EX"].schema["EXENDY"] == pl.Int32 and "EXENDTC" not in clean["EX"].columns
    assert clean["LB"].schema["LBSTNRHI"] == pl.Float64 and clean["LB"].schema["LBNRIND"] == pl.String
    assert clean["CM"].schema["CMDOSE"] == pl.Float64
    assert {"DM.RACE", "EX.EXENDTC", "LB.LBSTNRHI", "CM.CMDECOD"} <= set(result.report.absent_columns)
    assert "AE.AEENDTC" not in result.report.absent_columns
    assert "EXENDTC" not in result.report.columns.filter(pl.col("domain") == "EX")["column"].to_list()
    limited = run("limited", tables).tables
    assert limited["EX"].schema["EXENDTC"] == pl.String and "EXENDY" in limited["EX"].columns
    feature_views(clean)
    assert label(clean, load_task())["group_race"].null_count() == 4
    assert "EX.EXENDTC" in str(privacy_page(result.report))
