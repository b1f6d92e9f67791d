"""Row checks one by one, and the dates they rest on."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.intake import partial_dates, quarantine
from trialops.intake.domains import catalog

RECEIVED = dt.date(2015, 1, 1)


def reasons(domain: str, **columns: Any) -> list[str]:
    """The reasons of a two-row table whose second row has the given values; [] when both rows load."""
    sound: dict[str, dict[str, Any]] = {
        "DM": {"USUBJID": "S", "RFSTDTC": "2014-01-02", "DMDTC": "2014-01-01", "BRTHDTC": "1950-01-01"},
        "AE": {"USUBJID": "S", "AESEQ": "1", "AESTDTC": "2014-01-02", "AEENDTC": "2014-01-03"},
        "SV": {"USUBJID": "S", "VISITNUM": "1", "SVSTDTC": "2014-01-02"},
    }
    base = {"STUDYID": "T1", "DOMAIN": domain} | sound[domain]
    key = "USUBJID" if domain == "DM" else catalog().domains[domain].key[1]
    rows = [base, base | {key: "2"} | columns]
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.lit("f.xpt").alias("_SOURCE"),
        pl.int_range(1, 3, dtype=pl.Int64).alias("_ROW"),
        pl.lit(None, pl.Date).alias("_RECEIVED"),
        pl.lit(RECEIVED).alias("_received_by"),
    )
    spec = catalog().domains[domain]
    checks = quarantine.row_checks(spec, frame.columns, set(base), "T1")
    if domain != "DM":
        checks.append(quarantine.orphan_check(pl.Series("USUBJID", ["S"])))
    loaded, bad = quarantine.split(frame, spec, checks)
    assert loaded.height + bad.height == 2
    if bad.height:
        assert bad.select("file", "row", "domain").row(0) == ("f.xpt", 2, domain)
    return bad["all_reasons"].to_list()


@pytest.mark.parametrize(
    ("domain", "change", "reason"),
    [
        ("AE", {"USUBJID": None}, "MISSING_SUBJECT"),
        ("AE", {"USUBJID": "X"}, "ORPHAN_SUBJECT"),
        ("AE", {"AESEQ": "1"}, "DUPLICATE_KEY"),
        ("AE", {"AESEQ": None}, "MISSING_KEY"),
        ("AE", {"AESEQ": "two"}, "NOT_A_NUMBER"),
        ("AE", {"STUDYID": "T2"}, "WRONG_STUDY"),
        ("AE", {"STUDYID": None}, "WRONG_STUDY"),
        ("AE", {"DOMAIN": "CM"}, "WRONG_DOMAIN"),
        ("AE", {"AESTDTC": "02JAN2014"}, "DATE_NOT_ISO8601"),
        ("AE", {"AESTDTC": "2014-13-01"}, "DATE_IMPOSSIBLE"),
        ("AE", {"AESTDTC": "2014-02-30"}, "DATE_IMPOSSIBLE"),
        ("AE", {"AEENDTC": "2014-02-03T25:00"}, "DATE_IMPOSSIBLE"),
        ("AE", {"AESTDTC": "1899-12-31"}, "DATE_BEFORE_1900"),
        ("AE", {"AEENDTC": "2015-01-02"}, "DATE_AFTER_RECEIPT"),
        ("AE", {"AEENDTC": "2014-01-01"}, "END_BEFORE_START"),
        ("AE", {"AEENDTC": "2013"}, "END_BEFORE_START"),
        ("DM", {"USUBJID": "S"}, "DUPLICATE_SUBJECT"),
        ("DM", {"BRTHDTC": "2014-01-05", "DMDTC": "2014-01-01"}, "BIRTH_AFTER_CONTACT"),
        ("SV", {"VISITNUM": "1"}, "DUPLICATE_KEY"),
    ],
)
def test_fault_is_found(domain: str, change: dict[str, Any], reason: str) -> None:
    assert reason in reasons(domain, **change)[0].split(";")


@pytest.mark.parametrize(
    "change",
    [
        {"AESTDTC": "2014"},
        {"AESTDTC": "2014-01"},
        {"AESTDTC": "2014---02", "AEENDTC": None},
        {"AESTDTC": "--01-02"},
        {"AESTDTC": None},
        {"AEENDTC": "2014-01-02T10:30:00"},
        {"AEENDTC": "2014"},
        {"AESTDTC": "2014-01-01/2014-01-03"},
        {"AEENDTC": "2015-01-01"},
        {"AEENDTC": "2015"},
    ],
)
def test_legal_rows_load(change: dict[str, Any]) -> None:
    assert reasons("AE", **change) == []


def test_all_reasons_are_kept_in_order() -> None:
    assert reasons("AE", STUDYID="T2", AEENDTC="soon") == ["WRONG_STUDY;DATE_NOT_ISO8601"]


def test_a_faulty_row_does_not_make_a_sound_one_a_duplicate() -> None:
    frame = pl.DataFrame(
        {
            "STUDYID": ["T2", "T1", "T1"],
            "USUBJID": ["S", "S", "S"],
            "_SOURCE": ["dm.xpt"] * 3,
            "_ROW": [1, 2, 3],
            "_RECEIVED": pl.Series([None] * 3, dtype=pl.Date),
        }
    )
    spec = catalog().domains["DM"]
    checks = quarantine.row_checks(spec, frame.columns, {"STUDYID", "USUBJID"}, "T1")
    loaded, bad = quarantine.split(frame, spec, checks)
    assert loaded["_ROW"].to_list() == [2]
    assert bad.select("row", "reason").rows() == [(1, "WRONG_STUDY"), (3, "DUPLICATE_SUBJECT")]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2003", dt.date(2003, 1, 1), dt.date(2003, 12, 31)),
        ("2014-05", dt.date(2014, 5, 1), dt.date(2014, 5, 31)),
        ("2012-02", dt.date(2012, 2, 1), dt.date(2012, 2, 29)),
        ("2014-05-06T10:00", dt.date(2014, 5, 6), dt.date(2014, 5, 6)),
        ("2003---15", dt.date(2003, 1, 1), dt.date(2003, 12, 31)),
        ("2012-01-05/2012-03", dt.date(2012, 1, 5), dt.date(2012, 3, 31)),
        ("--12-15", None, None),
        ("2014-02-30", None, None),
        ("soon", None, None),
    ],
)
def test_partial_dates_give_bounds(text: str, first: dt.date | None, last: dt.date | None) -> None:
    row = pl.DataFrame({"D": [text]}).select(a=partial_dates.earliest("D"), b=partial_dates.latest("D"))
    assert row.row(0) == (first, last)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)), min_size=1), st.sampled_from([4, 7, 10]))
def test_bounds_contain_the_date_they_were_cut_from(dates: list[dt.date], precision: int) -> None:
    frame = pl.DataFrame({"D": [d.isoformat()[:precision] for d in dates], "t": dates})
    inside = frame.select(
        (partial_dates.earliest("D") <= pl.col("t")) & (pl.col("t") <= partial_dates.latest("D")),
    ).to_series()
    assert inside.all() and inside.null_count() == 0
    assert not frame.select(partial_dates.not_iso("D") | partial_dates.impossible("D")).to_series().any()
