"""From SDTM findings to graded results: what is read, the baseline, periods, calcium, QTcF."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import trialops.safety.grading_policy
from tests.support.graded_trial import alt, lab, trial
from trialops.errors import TrialOpsError
from trialops.safety.ecg import DELIVERED, DISAGREE, FROM_RATE, FROM_RR, e14_categories, fridericia, qtc_results
from trialops.safety.graded import graded_results
from trialops.safety.grading_policy import GradingPolicy, grading_policy, grading_policy_of
from trialops.safety.results import BEFORE, CORRECTED, FOLLOW_UP, ON, UNCORRECTED, UNDATED, results
from trialops.trial.study_file import SHIPPED, study_file

POLICY = grading_policy()


def test_the_original_result_is_preferred_and_the_standard_one_stands_in() -> None:
    standard = {"STRESN": 50.0, "STRESU": "umol/L", "STNRLO": 3.0, "STNRHI": 20.0}
    rows = [
        lab("BILI", "2.9", "2014-02-01", ORRESU="mg/dL", ORNRLO=0.2, ORNRHI=1.2, **standard),
        lab("BILI", "see comment", "2014-02-02", ORRESU="mg/dL", ORNRLO=0.2, ORNRHI=1.2, **standard),
        lab("BILI", "2.9", "2014-02-03", ORRESU="mg/dL", **standard),
        lab("BILI", " <0.2", "2014-02-04", ORRESU="mg/dL", ORNRLO=0.2, ORNRHI=1.2),
        lab("BILI", "TRACE", "2014-02-05"),
    ]
    found = results(trial(LB=rows), "LB", POLICY)
    assert found.select("VALUE", "UNIT", "ULN", "SIGN").rows() == [
        (2.9, "mg/dL", 1.2, None),
        (50.0, "umol/L", 20.0, None),
        (50.0, "umol/L", 20.0, None),
        (0.2, "mg/dL", 1.2, "<"),
        (None, None, None, None),
    ]


def test_the_baseline_is_the_flagged_result_else_the_last_before_the_dose() -> None:
    rows = [
        alt(30, "2014-01-02"),
        alt(60, "2014-01-10"),
        alt(90, "2014-01-11"),
        alt(None, "2014-01-09", BLFL="Y"),
        lab("AST", 80, "2014-01-02", ORRESU="U/L", ORNRHI=40, BLFL="Y"),
        lab("AST", 20, "2014-01-09", ORRESU="U/L", ORNRHI=40),
        lab("AST", 20, "2014-02-09", ORRESU="U/L", ORNRHI=40),
    ]
    found = results(trial(LB=rows), "LB", POLICY)
    assert found.filter("IS_BASELINE").select("TEST", "VALUE", "BASE_HIGH").rows() == [
        ("ALT", 60.0, True),
        ("AST", 80.0, True),
    ]
    assert found["AT_BASELINE"].to_list() == [True, True, False, True, True, False, False]
    # A result between the flagged baseline and the dose is before treatment, and compared with it.
    assert found["PERIOD"].to_list() == [BEFORE, BEFORE, ON, BEFORE, BEFORE, BEFORE, ON]


@pytest.mark.parametrize(
    ("more", "high"),
    [
        ({"NRIND": "HIGH"}, True),
        ({"NRIND": "NORMAL"}, False),
        ({"NRIND": "LOW"}, False),
        ({}, True),
        ({"ORNRHI": None}, None),
    ],
)
def test_whether_a_baseline_was_abnormal(more: dict[str, Any], high: bool | None) -> None:
    rows = [alt(60, "2014-01-02") | more, alt(90, "2014-02-01")]
    assert results(trial(LB=rows), "LB", POLICY)["BASE_HIGH"].to_list() == [high, high]


def test_periods() -> None:
    rows = [alt(30, day) for day in ("2014-01-01", "2014-01-11", "2014-07-30", "2014-07-31", "", "2014-02")]
    found = results(trial(LB=rows), "LB", POLICY)
    assert found["PERIOD"].to_list() == [BEFORE, ON, ON, FOLLOW_UP, UNDATED, ON]
    untreated = results(trial(treated=False, LB=rows), "LB", POLICY)
    assert set(untreated["PERIOD"]) == {BEFORE, UNDATED} and untreated["AT_BASELINE"].all()


def test_positions_have_a_baseline_of_their_own() -> None:
    pulse = {"TESTCD": "SYSBP", "ORRESU": "mmHg"}
    rows = [
        pulse | {"ORRES": 120, "POS": "SUPINE", "DTC": "2014-01-02"},
        pulse | {"ORRES": 100, "POS": "STANDING", "DTC": "2014-01-02"},
        pulse | {"ORRES": 130, "POS": "STANDING", "DTC": "2014-02-02"},
    ]
    assert results(trial(VS=rows), "VS", POLICY)["BASE"].to_list() == [120.0, 100.0, 100.0]


def test_calcium_is_corrected_for_albumin_in_its_own_unit() -> None:
    rows = [
        lab("CA", 8.0, "2014-02-01", ORRESU="mg/dL"),
        lab("ALB", 3.0, "2014-02-01", ORRESU="g/dL"),
        lab("CA", 2.0, "2014-02-02", ORRESU="mmol/L"),
        lab("ALB", 30, "2014-02-02", ORRESU="g/L"),
        lab("CA", 2.0, "2014-02-03", ORRESU="mmol/L"),
    ]
    found = results(trial(LB=rows), "LB", POLICY).filter(pl.col("TEST") == "CA")
    assert found["VALUE"].to_list() == pytest.approx([8.8, 2.2, 2.0])
    assert found["REMARK"].to_list() == [CORRECTED, CORRECTED, UNCORRECTED]
    plain = results(trial(LB=rows), "LB", replace(POLICY, correct_calcium=False))
    assert plain.filter(pl.col("TEST") == "CA")["VALUE"].to_list() == [8.0, 2.0, 2.0]


def test_specimens() -> None:
    rows = [
        lab("GLUC", 1.0, "2014-02-01", ORRESU="mmol/L", SPEC=spec, CAT=category)
        for spec, category in (("URINE", None), ("SERUM", None), (None, "URINALYSIS"), (None, "CHEMISTRY"))
    ]
    assert results(trial(LB=rows), "LB", POLICY)["SPECIMEN"].to_list() == ["other", "blood", "other", ""]
    graded = graded_results(trial(LB=rows), POLICY).filter(pl.col("TERM") == "Hypoglycemia")
    assert graded.sort("SEQ")["GRADE"].to_list() == [None, 4, None, 4]


def test_grades_stand_beside_those_of_the_baseline() -> None:
    rows = [
        alt(60, "2014-01-02"),
        alt(200, "2014-02-01"),
        lab("ALT", 130, "2014-02-01", USUBJID="b", ORRESU="U/L", ORNRHI=40),
    ]
    found = graded_results(trial(LB=rows), POLICY)
    columns = ("USUBJID", "GRADE", "BASE_GRADE", "PROVISIONAL", "IS_BASELINE", "REASON")
    # b has no baseline: not graded, and what it would be after a normal one is shown beside.
    assert found.select(columns).rows() == [
        ("a", 1, 1, None, True, ""),
        ("a", 2, 1, None, False, ""),
        ("b", None, None, 2, False, "no baseline"),
    ]
    v4 = graded_results(trial(LB=rows), POLICY, "4.03")
    assert v4["GRADE"].to_list() == [1, 2, 2]


def ecg(test: str, value: float, day: str, **more: Any) -> dict[str, Any]:
    return {"TESTCD": test, "STRESN": value, "STRESU": "ms" if test != "HR" else "beats/min", "DTC": day} | more


@pytest.mark.parametrize(
    ("qt", "rr", "wanted"),
    # RR whose cube roots are 0.7, 0.8, 0.9, 1, 1.1 and 1.2 s.
    [(350, 343, 500), (400, 512, 500), (405, 729, 450), (400, 1000, 400), (440, 1331, 400), (480, 1728, 400)],
)
def test_fridericia(qt: float, rr: float, wanted: float) -> None:
    found = pl.DataFrame({"qt": [float(qt)], "rr": [float(rr)]}).select(fridericia(pl.col("qt"), pl.col("rr"))).item()
    assert found == pytest.approx(wanted, abs=1e-9)


def test_fridericia_of_nonsense_is_nothing() -> None:
    frame = pl.DataFrame({"qt": [400.0, 400.0, None, -1.0], "rr": [0.0, None, 800.0, 800.0]})
    assert frame.select(fridericia(pl.col("qt"), pl.col("rr"))).to_series().to_list() == [None] * 4


def test_qtc_is_taken_or_computed_and_says_which() -> None:
    rows = [
        ecg("QTCF", 444.4, "2014-02-01"),
        ecg("QT", 300, "2014-02-01"),
        ecg("QT", 400, "2014-02-02"),
        ecg("RR", 0.8, "2014-02-02", STRESU="s"),
        ecg("HR", 75, "2014-02-02"),
        ecg("QT", 400, "2014-02-03"),
        ecg("HR", 75, "2014-02-03"),
        ecg("QT", 400, "2014-02-04"),
        ecg("RR", 400, "2014-02-04"),
        ecg("HR", 75, "2014-02-04"),
        ecg("QT", 400, "2014-02-05"),
    ]
    found = qtc_results(trial(EG=rows), POLICY)
    assert found.select("VALUE", "REMARK").rows() == [
        (444.0, DELIVERED),
        (431.0, FROM_RR),
        (431.0, FROM_RATE),
        (None, DISAGREE),
    ]
    graded = graded_results(trial(EG=rows), POLICY)
    assert graded.filter(pl.col("GRADE").is_null())["REASON"].to_list()[-1] == DISAGREE


def test_replicates_are_averaged_and_the_baseline_is_theirs() -> None:
    rows = [ecg("QTCF", v, "2014-01-09", REPNUM=i, BLFL="Y") for i, v in enumerate((430, 440, 450))]
    rows += [ecg("QTCF", v, "2014-02-01", REPNUM=i) for i, v in enumerate((500, 501, 502))]
    found = qtc_results(trial(EG=rows), POLICY)
    assert found.select("VALUE", "BASE", "IS_BASELINE").rows() == [(440.0, 440.0, True), (501.0, 440.0, False)]
    assert e14_categories(found, POLICY).rows() == [
        ("QTcF > 450 ms", 1, 1),
        ("QTcF > 480 ms", 1, 1),
        ("QTcF > 500 ms", 1, 1),
        ("increase > 30 ms", 1, 1),
        ("increase > 60 ms", 1, 1),
    ]


@pytest.mark.parametrize(
    ("value", "base", "v5", "v4"),
    [(449, 400, 0, 0), (450, 400, 1, 1), (480, 430, 1, 1), (481, 430, 2, 2), (500, 450, 2, 2), (501, 450, 3, 3)]
    + [(460, 400, 1, 1), (461, 400, 3, 1), (430, 360, 3, 0)],
)
def test_qtc_grades(value: int, base: int, v5: int, v4: int) -> None:
    made = trial(EG=[ecg("QTCF", base, "2014-01-09"), ecg("QTCF", value, "2014-02-01")])
    grades = [graded_results(made, POLICY, version)["GRADE"].to_list()[-1] for version in ("5.0", "4.03")]
    assert grades == [v5, v4]
    alone = graded_results(made, POLICY, "4.03")["GRADE_ALONE"].to_list()[-1]
    assert alone == min(v4, 2)


VITALS: list[tuple[str, str, str, list[tuple[float, int]]]] = [
    ("SYSBP", "mmHg", "Hypertension", [(119, 0), (120, 1), (139, 1), (140, 2), (159, 2), (160, 3)]),
    ("DIABP", "mmHg", "Hypertension", [(79, 0), (80, 1), (90, 2), (99, 2), (100, 3)]),
    ("SYSBP", "mmHg", "Hypotension", [(90, 0), (89, 1), (85, 1), (84, 2), (80, 2), (79, 3)]),
    ("PULSE", "BEATS/MIN", "Sinus tachycardia", [(100, 0), (101, 1), (115, 1), (116, 2), (130, 2), (131, 3)]),
    ("PULSE", "BEATS/MIN", "Sinus bradycardia", [(55, 0), (54, 1), (50, 1), (49, 2), (45, 2), (44, 3)]),
    ("TEMP", "C", "Fever", [(37.9, 0), (38.0, 1), (39.0, 1), (39.1, 2), (40.0, 2), (40.1, 3)]),
    ("TEMP", "F", "Fever", [(100.3, 0), (100.4, 1), (102.2, 1), (102.3, 2), (104.0, 2), (104.1, 3)]),
    ("WEIGHT", "kg", "Weight loss", [(95.1, 0), (95, 1), (90, 2), (80.1, 2), (80, 3)]),
    ("WEIGHT", "kg", "Weight gain", [(104.9, 0), (105, 1), (110, 2), (119.9, 2), (120, 3)]),
]


@pytest.mark.parametrize(("test", "unit", "term", "steps"), VITALS, ids=[f"{t} {n} {u}" for t, u, n, _ in VITALS])
def test_vital_signs(test: str, unit: str, term: str, steps: list[tuple[float, int]]) -> None:
    base = {"TESTCD": test, "ORRES": 100 if test == "WEIGHT" else steps[0][0], "ORRESU": unit, "DTC": "2014-01-02"}
    rows = [base] + [
        base | {"ORRES": value, "DTC": f"2014-02-{day:02}"} for day, (value, _) in enumerate(steps, start=1)
    ]
    found = graded_results(trial(VS=rows), POLICY).filter(pl.col("TERM") == term)
    assert found["GRADE"].to_list()[1:] == [grade for _, grade in steps]


def test_a_weight_in_pounds_is_compared_with_kilograms() -> None:
    rows = [{"TESTCD": "WEIGHT", "ORRES": 100, "ORRESU": "kg", "DTC": "2014-01-02"}]
    rows += [{"TESTCD": "WEIGHT", "ORRES": 209.4, "ORRESU": "LB", "DTC": "2014-02-02"}]
    found = graded_results(trial(VS=rows), POLICY).filter(pl.col("TERM") == "Weight loss")
    assert found["GRADE"].to_list() == [0, 1]


def test_a_trial_without_findings_has_none() -> None:
    assert graded_results(trial(), POLICY).height == 0


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("", "ctcae", "7"), ("detection", "query_grade", "x"), ("detection", "query_from_grade", 9)],
)
def test_a_policy_that_says_something_else_is_refused(section: str, key: str, value: Any) -> None:
    file = Path(trialops.safety.grading_policy.__file__).with_name("grading.yaml")
    content = yaml.safe_load(file.read_text("utf-8"))
    (content[section] if section else content)[key] = value
    with pytest.raises(TrialOpsError):
        GradingPolicy.from_dict(content)


def test_a_study_may_have_a_policy_of_its_own(tmp_path: Path) -> None:
    shipped = Path(trialops.safety.grading_policy.__file__).with_name("grading.yaml").read_text("utf-8")
    (tmp_path / "own.yaml").write_text(shipped.replace("query_from_grade: 3", "query_from_grade: 2"))
    study = yaml.safe_load(SHIPPED.read_text("utf-8"))
    study["safety"] |= {"grading_policy": "own.yaml", "ctcae_version": "4.03"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    own = grading_policy_of(study_file(str(tmp_path / "study.yaml")))
    assert (own.query_from_grade, own.ctcae) == (2, "4.03") and own.digest != POLICY.digest
    assert grading_policy_of(study_file()) == POLICY
    for wrong in ({"ctcae_version": "7"}, {"grading_policy": "absent.yaml"}):
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study | {"safety": study["safety"] | wrong}))
        with pytest.raises(TrialOpsError):
            grading_policy_of(study_file(str(tmp_path / "study.yaml")))
