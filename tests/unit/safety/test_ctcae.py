"""The grading engine: what is missing, which unit rules, bounds, specimens, digits; the language of the criteria."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.safety.criteria import Condition, condition, criteria
from trialops.safety.ctcae import (
    AT_LEAST,
    BOUND,
    IN_RANGE,
    NO_BASE,
    NO_BASE_RANGE,
    NO_LLN,
    NO_RESULT,
    NO_SPECIMEN,
    NO_ULN,
    NOT_BLOOD,
    NOT_FASTING,
    OUTPUTS,
    grade,
)


def one(term: str, version: str = "5.0", **row: Any) -> dict[str, Any]:
    """The graded row of one result under one term."""
    number = {"VALUE", "LLN", "ULN", "BASE"}
    typed = {k: float(v) if k in number and v is not None else v for k, v in row.items()}
    found = grade(pl.DataFrame([typed], infer_schema_length=None), version).filter(pl.col("TERM") == term)
    assert found.height == 1
    return found.row(0, named=True)


ALT = "Alanine aminotransferase increased"


def test_a_baseline_that_is_missing_is_never_grade_0_above_the_range() -> None:
    row: dict[str, Any] = {"TEST": "ALT", "UNIT": "U/L", "ULN": 40}
    for value in (41, 121, 900):
        found = one(ALT, VALUE=value, **row)
        assert (found["GRADE"], found["REASON"]) == (None, NO_BASE)
    within = one(ALT, VALUE=40, **row)
    assert (within["GRADE"], within["NOTE"]) == (0, IN_RANGE)
    unclear = one(ALT, VALUE=100, BASE=60, **row)
    assert (unclear["GRADE"], unclear["REASON"]) == (None, NO_BASE_RANGE)
    high = one(ALT, VALUE=100, BASE_HIGH=True, **row)
    assert (high["GRADE"], high["REASON"]) == (None, NO_BASE)


def test_a_limit_of_normal_that_is_missing_is_a_reason() -> None:
    assert one(ALT, TEST="ALT", VALUE=30, BASE=20, BASE_HIGH=False)["REASON"] == NO_ULN
    assert one(ALT, TEST="ALT", VALUE=300, BASE=50, BASE_HIGH=True)["REASON"] == NO_ULN
    assert one(ALT, "4.03", TEST="ALT", VALUE=30)["REASON"] == NO_ULN
    mild = one("Anemia", TEST="HGB", VALUE=11, UNIT="g/dL")
    assert (mild["GRADE"], mild["REASON"]) == (None, NO_LLN)
    # An absolute limit needs none.
    assert one("Anemia", TEST="HGB", VALUE=9.9, UNIT="g/dL")["GRADE"] == 2


def test_a_grade_that_could_be_higher_says_so() -> None:
    found = one("Creatinine increased", TEST="CREAT", VALUE=2.0, UNIT="mg/dL", ULN=1.2)
    assert (found["GRADE"], found["NOTE"]) == (2, AT_LEAST)
    nothing = one("Creatinine increased", TEST="CREAT", VALUE=1.0, UNIT="mg/dL", ULN=1.2)
    assert (nothing["GRADE"], nothing["REASON"]) == (None, NO_BASE)


def test_at_the_baseline_there_is_no_change_and_the_range_rules() -> None:
    row: dict[str, Any] = {"TEST": "ALT", "UNIT": "U/L", "ULN": 40, "BASE": 150, "BASE_HIGH": True}
    assert one(ALT, VALUE=150, AT_BASELINE=True, **row)["GRADE"] == 2
    assert one(ALT, VALUE=150, AT_BASELINE=False, **row)["GRADE"] == 0


def test_the_unit_system_a_result_was_collected_in_rules() -> None:
    calcium: dict[str, Any] = {"TEST": "CA", "ULN": 10.5, "LLN": 8.5}
    # 11.6 mg/dL is 2.894 mmol/L: beyond 11.5, not beyond 2.9.
    assert one("Hypercalcemia", VALUE=11.6, UNIT="mg/dL", **calcium)["GRADE"] == 2
    molar = one("Hypercalcemia", VALUE=2.894, UNIT="mmol/L", TEST="CA", ULN=2.62)
    assert (molar["GRADE"], molar["COMPARED_UNIT"]) == (1, "mmol/L")
    # Where the text prints one system the other is converted into it: 7.3 mg/dL is 1.82 mmol/L.
    ionized = one("Hypercalcemia (Ionized)", TEST="CAION", VALUE=7.3, UNIT="mg/dL", ULN=5.2)
    assert (ionized["GRADE"], ionized["COMPARED_UNIT"]) == (4, "mmol/L")
    assert ionized["COMPARED"] == pytest.approx(7.3 * 10 / 40.078, rel=1e-6)


@pytest.mark.parametrize(
    ("unit", "value"), [("g/L", 99.0), ("g/dL", 9.9), ("mmol/L", 6.1), ("mg/mL", 99.0), ("g/100mL", 9.9)]
)
def test_spellings_and_other_units_of_a_kind_are_read(unit: str, value: float) -> None:
    assert one("Anemia", TEST="HGB", VALUE=value, UNIT=unit, LLN=value * 1.2)["GRADE"] == 2


@pytest.mark.parametrize("unit", ["/mm3", "cells/mm3", "/uL"])
def test_counts_per_cubic_millimetre(unit: str) -> None:
    assert [one("Neutrophil count decreased", TEST="NEUT", VALUE=v, UNIT=unit)["GRADE"] for v in (999, 500)] == [3, 3]
    assert one("Neutrophil count decreased", TEST="NEUT", VALUE=499, UNIT=unit)["GRADE"] == 4


def test_the_baseline_may_be_in_another_unit() -> None:
    row: dict[str, Any] = {"TEST": "BILI", "VALUE": 51.3, "UNIT": "umol/L", "ULN": 20.5, "BASE_HIGH": True}
    # 2.0 mg/dL is 34.2 umol/L: 51.3 is 1.5 times that, not more.
    assert one("Blood bilirubin increased", BASE=2.0, BASE_UNIT="mg/dL", **row)["GRADE"] == 1
    lost = one("Blood bilirubin increased", BASE=2.0, BASE_UNIT="furlong", **row)
    assert lost["REASON"] == NO_BASE


def test_units_that_say_nothing_are_a_reason() -> None:
    assert one("Anemia", TEST="HGB", VALUE=9, UNIT="furlong")["REASON"] == "the unit cannot be compared with g/L"
    assert one("Anemia", TEST="HGB", VALUE=9)["REASON"] == "no unit"


def test_a_bound_is_graded_where_it_decides() -> None:
    low: dict[str, Any] = {"TEST": "GLUC", "UNIT": "mg/dL", "LLN": 70}
    found = one("Hypoglycemia", VALUE=40, SIGN="<", **low)
    assert (found["GRADE"], found["NOTE"]) == (3, AT_LEAST)
    assert one("Hypoglycemia", VALUE=90, SIGN="<", **low)["REASON"] == BOUND
    assert one("Hypoglycemia", VALUE=90, SIGN=">", **low)["GRADE"] == 0
    assert one("Hypoglycemia", VALUE=50, SIGN=">", **low)["REASON"] == BOUND
    high: dict[str, Any] = {"TEST": "ALT", "UNIT": "U/L", "ULN": 40, "BASE": 20, "BASE_HIGH": False}
    assert one(ALT, VALUE=5, SIGN="<", **high)["GRADE"] == 0
    assert one(ALT, VALUE=50, SIGN="<", **high)["REASON"] == BOUND
    assert one(ALT, VALUE=800, SIGN=">", **high)["GRADE"] == 4


def test_only_blood_is_graded() -> None:
    assert one("Hypoglycemia", TEST="GLUC", VALUE=1, UNIT="mmol/L", SPECIMEN="other")["REASON"] == NOT_BLOOD
    assert one("Acidosis", TEST="PH", VALUE=5)["REASON"] == NO_SPECIMEN
    assert one("Acidosis", TEST="PH", VALUE=7.2, SPECIMEN="blood", LLN=7.35)["GRADE"] == 3


def test_no_result_is_no_grade() -> None:
    for value in (None, float("nan")):
        frame = pl.DataFrame(
            {"TEST": ["K"], "VALUE": [value], "UNIT": ["mmol/L"]}, schema_overrides={"VALUE": pl.Float64}
        )
        assert grade(frame)["REASON"].to_list() == [NO_RESULT, NO_RESULT]


def test_glucose_of_version_4_needs_to_be_fasting_for_the_low_grades() -> None:
    row: dict[str, Any] = {"TEST": "GLUC", "VALUE": 200, "UNIT": "mg/dL", "ULN": 100, "LLN": 70}
    assert one("Hyperglycemia (Fasting)", "4.03", FASTING=True, **row)["GRADE"] == 2
    unknown = one("Hyperglycemia", "4.03", **row)
    assert (unknown["GRADE"], unknown["NOTE"]) == (0, NOT_FASTING)
    assert one("Hyperglycemia", "4.03", FASTING=False, **row)["NOTE"] == ""
    assert "Hyperglycemia" in criteria("5.0").text_only


def test_assumptions_are_named_and_can_be_left_out() -> None:
    frame = pl.DataFrame({"TEST": ["URATE"], "VALUE": [9.0], "UNIT": ["mg/dL"], "ULN": [7.0]})
    assumed, alone = grade(frame), grade(frame, alone=True)
    assert (assumed["GRADE"][0], assumed["NOTE"][0]) == (3, "assumes physiologic consequences")
    assert (alone["GRADE"][0], alone["NOTE"][0]) == (1, "")


def test_comparison_is_by_significant_digits() -> None:
    # 0.1 * 3 is a hair above 0.3.
    row = {"TEST": ["MG"], "VALUE": [0.1 * 3], "UNIT": ["mmol/L"], "LLN": [0.7]}
    assert grade(pl.DataFrame(row)).filter(pl.col("TERM") == "Hypomagnesemia")["GRADE"].to_list() == [3]
    coarse = pl.DataFrame({"TEST": ["K"], "VALUE": [5.54], "UNIT": ["mmol/L"], "ULN": [5.0]})
    assert grade(coarse).filter(pl.col("GRADE") > 0)["GRADE"].to_list() == [2]
    assert grade(coarse, digits=2).filter(pl.col("GRADE") > 0)["GRADE"].to_list() == [1]


def test_loinc_serves_where_there_is_no_test_code_and_order_is_kept() -> None:
    frame = pl.DataFrame(
        {"TEST": [None, "XYZ", "K"], "LOINC": ["718-7", "718-7", None], "VALUE": [9.0, 9.0, 7.5]}
        | {"UNIT": ["g/dL", "g/dL", "mmol/L"], "LLN": [12.0, 12.0, 3.5], "ULN": [16.0, 16.0, 5.0]}
    )
    found = grade(frame)
    assert tuple(found.columns) == OUTPUTS
    assert found["ROW"].to_list() == [0, 0, 2, 2]
    assert dict(zip(found["TERM"], found["GRADE"], strict=True)) == {
        "Anemia": 2,
        "Hemoglobin increased": 0,
        "Hyperkalemia": 4,
        "Hypokalemia": 0,
    }


def test_nothing_gives_nothing() -> None:
    empty = pl.DataFrame(schema={"TEST": pl.String, "VALUE": pl.Float64})
    assert grade(empty).height == 0 and tuple(grade(empty).columns) == OUTPUTS


@pytest.mark.parametrize(
    ("text", "units", "read"),
    [
        ("< LLN", 0, Condition("<", "LLN")),
        ("> 2.5 ULN", 0, Condition(">", "ULN", 2.5)),
        ("< 100 | 10 | 6.2", 3, Condition("<", "value", 1.0, (100, 10, 6.2))),
        ("<= 129", 1, Condition("<=", "value", 1.0, (129,))),
        ("> ULN + 40 | 4", 2, Condition(">", "ULN", 1.0, (40, 4))),
        (">= 1.5 baseline if baseline abnormal", 0, Condition(">=", "baseline", 1.5, (), "baseline abnormal")),
        ("decrease >= 25 % if below LLN", 2, Condition(">=", "decrease %", 25, (), "below LLN")),
        ("increase > 60", 1, Condition(">", "increase", 60)),
    ],
)
def test_conditions_are_read(text: str, units: int, read: Condition) -> None:
    assert condition(text, units) == read


@pytest.mark.parametrize(
    ("text", "units"), [("about 5", 1), ("< 100 | 10", 3), ("< 5", 0), ("> ULN if tired", 0), ("> ULN + 4", 2), ("", 1)]
)
def test_what_is_no_condition_is_refused(text: str, units: int) -> None:
    with pytest.raises(TrialOpsError):
        condition(text, units)


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(TrialOpsError, match=r"6\.0"):
        criteria("6.0")
