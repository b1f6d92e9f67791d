"""De-identification: what leaves, what stays, days and shifts, and the search for leftovers."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.raw_trial import SUBJECTS, Keys, by_subject, run, table, trial
from trialops.errors import TrialOpsError
from trialops.intake.domains import current_rows
from trialops.privacy.deidentify import HIPAAComplianceOperator
from trialops.privacy.needles import Needles
from trialops.privacy.policy import default_policy, parse
from trialops.privacy.scan import scan


class Colliding(Keys):
    def pseudonyms(self, kind: str, values: list[str]) -> list[str]:
        return ["same"] * len(values)


def test_strict_leaves_no_identifier_and_no_date() -> None:
    result = run()
    dm, ae = result.tables["DM"], result.tables["AE"]
    gone = {"SUBJID", "BRTHDTC", "INVNAM", "RFSTDTC", "DMDTC", "_RECEIVED", "_ROW", "BRTHDY"}
    assert not gone & set(dm.columns)
    assert not {"AETERM", "AESPID", "AESTDTC", "AESECRET"} & set(ae.columns)
    assert {"AEDECOD", "AESTDY", "AEENDY", "AEDY", "KNOWNDY", "_SOURCE"} <= set(ae.columns)
    assert not any(kind.is_temporal() for t in result.tables.values() for kind in t.schema.values())
    everything = "".join(t.write_csv() for t in result.tables.values())
    assert not any(text in everything for text in [*SUBJECTS, "2014-", "Springfield", "Who"])
    assert set(dm["COUNTRY"]) == {"USA"}
    assert dm["SITEID"].n_unique() == 2
    assert ae["AESEQ"].dtype == pl.Int64
    assert set(ae["USUBJID"]) <= set(dm["USUBJID"])


def test_days_follow_sdtm() -> None:
    result = run()
    first = by_subject(result, "AE", SUBJECTS[0])
    assert first["AESTDY"] == [-1, 19]  # the day before day 1 is -1; the source's 99 is computed again
    assert first["AEENDY"] == [1, None]
    assert first["AEDY"] == [15, 15]
    assert by_subject(result, "DM", SUBJECTS[0])["RFSTDY"] == [1]
    assert result.tables["AE"].schema["AESTDY"] == pl.Int32
    assert by_subject(result, "AE", SUBJECTS[1])["AESTDY"] == [None]
    assert by_subject(result, "SV", SUBJECTS[2])["VISITDY"] == [-7.0]
    assert result.report.day_disagreements == {"AESTDTC": 3}


def test_screen_failure_counts_from_first_contact() -> None:
    result = run()
    assert by_subject(result, "SV", SUBJECTS[2])["SVSTDY"] == [1]  # earlier than DMDTC
    assert by_subject(result, "DM", SUBJECTS[2])["DMDY"] == [3]
    assert by_subject(result, "AE", SUBJECTS[2])["AESTDY"] == [-2]
    assert result.report.subjects_without_reference == 1  # only partial dates: RFSTDTC 2014-05, DMDTC 2014


def test_known_day() -> None:
    result = run()
    # Collected on day 15; the second event starts on day 19 and cannot be known before.
    assert by_subject(result, "AE", SUBJECTS[0])["KNOWNDY"] == [15, 19]
    # Collected some time in March: known for certain on its last day, 31 days after 28 February.
    assert by_subject(result, "AE", SUBJECTS[1])["KNOWNDY"] == [32]
    # No collection date and no visit: its own date, two days before the first contact, which comes first.
    assert by_subject(result, "AE", SUBJECTS[2])["AESTDY"] == [-2]
    assert by_subject(result, "AE", SUBJECTS[2])["KNOWNDY"] == [1]
    assert by_subject(result, "DM", SUBJECTS[0])["KNOWNDY"] == [-7]
    assert by_subject(result, "DM", SUBJECTS[3])["KNOWNDY"] == [None]  # no exact date to count from


@pytest.mark.parametrize("mode", ["strict", "limited"])
def test_correction_is_known_on_receipt_and_its_folder_loses_the_date(mode: str) -> None:
    tables = trial()
    for day in (dt.date(2014, 6, 1), dt.date(2014, 4, 1)):
        again = table("AE", tables["AE"].drop("_SOURCE", "_ROW", "_RECEIVED").head(1).to_dicts(), day)
        tables["AE"] = pl.concat([tables["AE"], again])
    ae = by_subject(run(mode, tables), "AE", SUBJECTS[0])
    known = {s: k for s, k, seq in zip(ae["_SOURCE"], ae["KNOWNDY"], ae["AESEQ"], strict=True) if seq == 1}
    assert known == {"delivery 1/AE": 15, "delivery 2/AE": 90, "delivery 3/AE": 151}
    newest = current_rows("AE", run(mode, tables).tables["AE"])
    assert newest["_SOURCE"].to_list().count("delivery 3/AE") == 1 and newest.height == 4


def test_corrected_start_moves_day_one() -> None:
    tables = trial()
    row = tables["DM"].drop("_SOURCE", "_ROW", "_RECEIVED").head(1).to_dicts()[0] | {"RFSTDTC": "2014-01-01"}
    tables["DM"] = pl.concat([tables["DM"], table("DM", [row], dt.date(2014, 4, 1))])
    assert by_subject(run(tables=tables), "AE", SUBJECTS[0])["AESTDY"] == [1, 20]


def test_ages_over_89_are_one_category() -> None:
    result = run()
    ages = {s: by_subject(result, "DM", s)["AGE"][0] for s in SUBJECTS}
    units = [by_subject(result, "DM", s)["AGEU"][0] for s in SUBJECTS]
    assert list(ages.values()) == [63.0, 90.0, 89.0, 90.0]  # 1,100 months are 91 years
    assert units == ["YEARS"] * 4
    assert result.report.capped_ages == 2
    assert run("limited").report.capped_ages == 0


def test_limited_shifts_every_date_of_a_subject_by_the_same_days() -> None:
    result = run("limited")
    raw, clean = trial(), by_subject(result, "AE", SUBJECTS[0])
    offset = dt.timedelta(days=Keys().offset_days(SUBJECTS[0]))
    moved = [dt.date.fromisoformat(d) + offset for d in ("2014-01-01", "2014-01-20")]
    assert clean["AESTDTC"] == [d.isoformat() for d in moved]
    dm = by_subject(result, "DM", SUBJECTS[0])
    assert dm["BRTHDTC"] == [(dt.date(1950, 12, 26) + offset).isoformat()]
    assert clean["AESTDY"] == [-1, 19]
    partial = by_subject(result, "AE", SUBJECTS[1])
    assert [len(partial["AESTDTC"][0]), len(partial["AEENDTC"][0])] == [7, 4]
    assert "AETERM" not in result.tables["AE"].columns
    assert "not Safe Harbor" in result.report.label and "Safe Harbor" in run().report.label
    assert raw["AE"].height == result.tables["AE"].height


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.dates(dt.date(1990, 1, 1), dt.date(2030, 1, 1)), min_size=2, max_size=6))
def test_shift_keeps_intervals_and_time_of_day(dates: list[dt.date]) -> None:
    tables = {"DM": trial()["DM"].head(1)}
    rows = [{"STUDYID": "T1", "USUBJID": SUBJECTS[0], "VISITNUM": float(i)} for i in range(len(dates))]
    sv = table("SV", [r | {"SVSTDTC": f"{d}T10:30"} for r, d in zip(rows, dates, strict=True)])
    out = run("limited", tables | {"SV": sv}).tables["SV"].sort("VISITNUM")["SVSTDTC"].to_list()
    assert all(text.endswith("T10:30") for text in out)
    moved = [dt.date.fromisoformat(text[:10]) for text in out]
    assert [d - moved[0] for d in moved] == [d - dates[0] for d in dates]
    assert moved[0] != dates[0]


def test_off_keeps_values_and_adds_days() -> None:
    result = run("off")
    ae = result.tables["AE"]
    assert ae.filter(pl.col("USUBJID") == SUBJECTS[0])["AESTDY"].to_list() == [-1, 19]
    assert {"AETERM", "AESTDTC", "AESECRET", "KNOWNDY"} <= set(ae.columns)
    assert "_RECEIVED" not in ae.columns
    with pytest.raises(TrialOpsError, match="not declared synthetic"):
        HIPAAComplianceOperator().run(trial(), "off", Keys())


def test_report_says_what_was_done() -> None:
    report = run().report
    assert report.unlisted_columns == ["AE.AESECRET"]
    assert {"AE.AETERM", "DM.SUBJID", "DM.INVNAM", "DM.BRTHDTC", "AE.AESECRET"} <= set(report.dropped_columns)
    assert report.identifiers["A"] == ["DM.INVNAM"]
    assert report.identifiers["B"] == ["DM.SITEID"]
    assert report.identifiers["FT"] == ["AE.AETERM"]
    assert report.subjects == 4
    assert sum(report.actions().values()) == report.columns.height
    assert report.scanned["values"] > 0
    assert report.as_dict()["mode"] == "strict"


def test_unknown_mode_missing_dm_and_collisions_are_errors() -> None:
    with pytest.raises(TrialOpsError, match="no de-identification mode"):
        run("harbour")
    with pytest.raises(TrialOpsError, match="needs DM"):
        run(tables={"AE": trial()["AE"]})
    with pytest.raises(TrialOpsError, match="same pseudonym"):
        HIPAAComplianceOperator().run(trial(), "strict", Colliding())


def test_rows_without_a_subject_in_dm_are_set_aside() -> None:
    tables = trial()
    tables["AE"] = tables["AE"].with_columns(
        USUBJID=pl.Series([SUBJECTS[0], None, "01-999-9999", SUBJECTS[2]], dtype=pl.String)
    )
    result = run(tables=tables)
    assert result.tables["AE"].height == 2
    assert result.quarantine.select("file", "row", "reason").rows() == [
        ("ae.xpt", 2, "MISSING_SUBJECT"),
        ("ae.xpt", 3, "ORPHAN_SUBJECT"),
    ]
    assert result.quarantine["message"].to_list() == [
        "USUBJID is empty",
        "the subject has no usable row in DM",
    ]


@pytest.mark.parametrize(
    "leak",
    ["seen 01-701-1015 today", "1015", "on 2014-01-02", "2 JAN 2014", "01/02/2014", "a@b.org", "123-45-6789"],
)
def test_an_identifier_in_a_kept_column_stops_the_release(leak: str) -> None:
    tables = trial()
    tables["AE"] = tables["AE"].with_columns(AEDECOD=pl.Series(["FALL", leak, "FALL", "FALL"]))
    with pytest.raises(TrialOpsError) as caught:
        run(tables=tables)
    assert "AE.AEDECOD" in caught.value.where
    assert leak not in str(caught.value)


def test_results_may_equal_a_short_subject_number() -> None:
    lab = {"LB": pl.DataFrame({"LBORRES": ["1015"], "LBTESTCD": ["PLAT"]})}
    subject = Needles(tokens=("1015",))
    assert scan(lab, subject, "strict", default_policy()) == {"columns": 2, "values": 2, "identifiers": 1}
    with pytest.raises(TrialOpsError, match="still hold identifiers"):
        scan({"LB": pl.DataFrame({"LBTESTCD": ["1015"]})}, subject, "strict", default_policy())


def test_a_date_column_is_found_in_strict_mode() -> None:
    with pytest.raises(TrialOpsError) as caught:
        scan({"LB": pl.DataFrame({"D": [dt.date(2014, 1, 2)]})}, Needles(), "strict", default_policy())
    assert "LB.D: a date column" in caught.value.where


def test_reference_time_points_lose_dates_only() -> None:
    tables = trial()
    points = ["SCREENING", "2014-01-02", None, "FIRST DOSE"]
    tables["AE"] = tables["AE"].with_columns(AEENTPT=pl.Series(points))
    result = run(tables=tables)
    kept = by_subject(result, "AE", SUBJECTS[0])["AEENTPT"] + by_subject(result, "AE", SUBJECTS[2])["AEENTPT"]
    assert kept == ["SCREENING", None, "FIRST DOSE"]


def test_order_of_raw_identifiers_is_not_kept() -> None:
    for frame in run().tables.values():
        assert frame["USUBJID"].is_sorted()


def test_policy_finds_the_narrowest_rule() -> None:
    policy = default_policy()
    names = {c: policy.rule("DM", c).name for c in ("BRTHDTC", "RFICDTC", "DMDTC")}  # type: ignore[union-attr]
    assert names == {"BRTHDTC": "birth", "RFICDTC": "dates", "DMDTC": "dates"}
    drug, treatment = policy.rule("CM", "CMTRT"), policy.rule("EX", "EXTRT")
    assert drug and treatment and (drug.strict, treatment.strict) == ("drop", "keep")
    assert policy.rule("AE", "AESECRET") is None


def test_policy_with_an_unknown_action_is_refused() -> None:
    group = {"name": "x", "columns": ["A"], "strict": "hide", "limited": "keep"}
    data = {"version": "1", "groups": [group], "age_over": 89, "age_capped": 90, "first_contact": {}}
    with pytest.raises(TrialOpsError, match="not usable"):
        parse(data)
