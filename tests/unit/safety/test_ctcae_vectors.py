"""Boundary vectors from the NCI's text: every term, at, just under and just over every limit, in every printed unit.

The table below is written from the sentences of CTCAE v4.03 and v5.0, not from the criteria file: for each term and
unit the limit of every grade, strict ("beyond") unless it says from.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from trialops.safety.criteria import VERSIONS, criteria
from trialops.safety.ctcae import grade

BOTH = ("4.03", "5.0")
V4, V5 = ("4.03",), ("5.0",)
LIVER: dict[str, tuple[float, ...]] = {
    "ALT": (1, 3, 5, 20),
    "AST": (1, 3, 5, 20),
    "ALP": (1, 2.5, 5, 20),
    "GGT": (1, 2.5, 5, 20),
    "BILI": (1, 1.5, 3, 10),
}
NAMES = {
    "ALT": "Alanine aminotransferase increased",
    "AST": "Aspartate aminotransferase increased",
    "ALP": "Alkaline phosphatase increased",
    "GGT": "GGT increased",
    "BILI": "Blood bilirubin increased",
}
FROM = 0.5
"""Added to a grade in the table: the limit itself belongs to it."""

# term, versions, test, unit, side, limit of normal (None: not looked at), {grade: limit}
TABLE: list[tuple[str, tuple[str, ...], str, str, str, float | None, dict[float, float]]] = [
    ("Anemia", BOTH, "HGB", "g/L", "low", 120, {1: 120, 2: 100, 3: 80}),
    ("Anemia", BOTH, "HGB", "g/dL", "low", 12, {1: 12, 2: 10, 3: 8}),
    ("Anemia", BOTH, "HGB", "mmol/L", "low", 7.4, {1: 7.4, 2: 6.2, 3: 4.9}),
    ("Leukocytosis", BOTH, "WBC", "10*9/L", "high", None, {3: 100}),
    ("Leukocytosis", BOTH, "WBC", "/uL", "high", None, {3: 100_000}),
    ("Activated partial thromboplastin time prolonged", BOTH, "APTT", "s", "high", 36, {1: 36, 2: 54, 3: 90}),
    ("Blood lactate dehydrogenase increased", V5, "LDH", "U/L", "high", 250, {1: 250}),
    ("CD4 lymphocytes decreased", BOTH, "CD4", "10*9/L", "low", 0.7, {1: 0.7, 2: 0.5, 3: 0.2, 4: 0.05}),
    ("CD4 lymphocytes decreased", BOTH, "CD4", "/uL", "low", 700, {1: 700, 2: 500, 3: 200, 4: 50}),
    ("Cholesterol high", BOTH, "CHOL", "mmol/L", "high", 5.2, {1: 5.2, 2: 7.75, 3: 10.34, 4: 12.92}),
    ("Cholesterol high", BOTH, "CHOL", "mg/dL", "high", 200, {1: 200, 2: 300, 3: 400, 4: 500}),
    ("CPK increased", BOTH, "CK", "U/L", "high", 200, {1: 200, 2: 500, 3: 1000, 4: 2000}),
    ("Haptoglobin decreased", BOTH, "HAPTOG", "g/L", "low", 0.3, {1: 0.3}),
    ("Hemoglobin increased", V5, "HGB", "g/L", "high", 160, {1: 160, 2: 180, 3: 200}),
    ("Hemoglobin increased", V5, "HGB", "g/dL", "high", 16, {1: 16, 2: 18, 3: 20}),
    ("INR increased", V5, "INR", "", "high", None, {1: 1.2, 2: 1.5, 3: 2.5}),
    ("Lipase increased", BOTH, "LIPASE", "U/L", "high", 60, {1: 60, 2: 90, 3: 120, 4: 300}),
    ("Serum amylase increased", BOTH, "AMYLASE", "U/L", "high", 100, {1: 100, 2: 150, 3: 200, 4: 500}),
    ("Lymphocyte count decreased", BOTH, "LYM", "10*9/L", "low", 1.1, {1: 1.1, 2: 0.8, 3: 0.5, 4: 0.2}),
    ("Lymphocyte count decreased", BOTH, "LYM", "/uL", "low", 1100, {1: 1100, 2: 800, 3: 500, 4: 200}),
    ("Lymphocyte count increased", BOTH, "LYM", "10*9/L", "high", None, {2: 4, 3: 20}),
    ("Lymphocyte count increased", BOTH, "LYM", "/uL", "high", None, {2: 4000, 3: 20_000}),
    ("Neutrophil count decreased", BOTH, "NEUT", "10*9/L", "low", 1.8, {1: 1.8, 2: 1.5, 3: 1.0, 4: 0.5}),
    ("Neutrophil count decreased", BOTH, "NEUT", "/uL", "low", 1800, {1: 1800, 2: 1500, 3: 1000, 4: 500}),
    ("Platelet count decreased", BOTH, "PLAT", "10*9/L", "low", 150, {1: 150, 2: 75, 3: 50, 4: 25}),
    ("Platelet count decreased", BOTH, "PLAT", "/uL", "low", 150_000, {1: 150_000, 2: 75_000, 3: 50_000, 4: 25_000}),
    ("White blood cell decreased", BOTH, "WBC", "10*9/L", "low", 4.5, {1: 4.5, 2: 3, 3: 2, 4: 1}),
    ("White blood cell decreased", BOTH, "WBC", "/uL", "low", 4500, {1: 4500, 2: 3000, 3: 2000, 4: 1000}),
    ("Acidosis", BOTH, "PH", "", "low", 7.35, {1: 7.35, 3: 7.3}),
    ("Alkalosis", BOTH, "PH", "", "high", 7.45, {1: 7.45, 3: 7.5}),
    ("Hypercalcemia", BOTH, "CA", "mmol/L", "high", 2.6, {1: 2.6, 2: 2.9, 3: 3.1, 4: 3.4}),
    ("Hypercalcemia", BOTH, "CA", "mg/dL", "high", 10.5, {1: 10.5, 2: 11.5, 3: 12.5, 4: 13.5}),
    ("Hypercalcemia (Ionized)", BOTH, "CAION", "mmol/L", "high", 1.3, {1: 1.3, 2: 1.5, 3: 1.6, 4: 1.8}),
    ("Hyperglycemia (Fasting)", V4, "GLUC", "mmol/L", "high", 6.1, {1: 6.1, 2: 8.9, 3: 13.9, 4: 27.8}),
    ("Hyperglycemia (Fasting)", V4, "GLUC", "mg/dL", "high", 110, {1: 110, 2: 160, 3: 250, 4: 500}),
    ("Hyperglycemia", V4, "GLUC", "mmol/L", "high", None, {3: 13.9, 4: 27.8}),
    ("Hyperglycemia", V4, "GLUC", "mg/dL", "high", None, {3: 250, 4: 500}),
    ("Hyperkalemia", BOTH, "K", "mmol/L", "high", 5.1, {1: 5.1, 2: 5.5, 3: 6, 4: 7}),
    ("Hyperkalemia", BOTH, "K", "mEq/L", "high", 5.1, {1: 5.1, 2: 5.5, 3: 6, 4: 7}),
    ("Hypermagnesemia", BOTH, "MG", "mmol/L", "high", 1.05, {1: 1.05, 3: 1.23, 4: 3.3}),
    ("Hypermagnesemia", BOTH, "MG", "mg/dL", "high", 2.6, {1: 2.6, 3: 3, 4: 8}),
    ("Hypernatremia", BOTH, "SODIUM", "mmol/L", "high", 145, {1: 145, 2: 150, 3: 155, 4: 160}),
    ("Hypernatremia", BOTH, "SODIUM", "mEq/L", "high", 145, {1: 145, 2: 150, 3: 155, 4: 160}),
    ("Hypertriglyceridemia", BOTH, "TRIG", "mmol/L", "high", None, {1 + FROM: 1.71, 2: 3.42, 3: 5.7, 4: 11.4}),
    ("Hypertriglyceridemia", BOTH, "TRIG", "mg/dL", "high", None, {1 + FROM: 150, 2: 300, 3: 500, 4: 1000}),
    ("Hyperuricemia", V4, "URATE", "umol/L", "high", 420, {3: 420, 4: 590}),
    ("Hyperuricemia", V4, "URATE", "mmol/L", "high", 0.42, {3: 0.42, 4: 0.59}),
    ("Hyperuricemia", V4, "URATE", "mg/dL", "high", 7, {3: 7, 4: 10}),
    ("Hyperuricemia", V5, "URATE", "mg/dL", "high", 7, {3: 7}),
    ("Hyperuricemia", V5, "URATE", "umol/L", "high", 420, {3: 420}),
    ("Hypoalbuminemia", BOTH, "ALB", "g/L", "low", 35, {1: 35, 2: 30, 3: 20}),
    ("Hypoalbuminemia", BOTH, "ALB", "g/dL", "low", 3.5, {1: 3.5, 2: 3, 3: 2}),
    ("Hypocalcemia", BOTH, "CA", "mmol/L", "low", 2.15, {1: 2.15, 2: 2, 3: 1.75, 4: 1.5}),
    ("Hypocalcemia", BOTH, "CA", "mg/dL", "low", 8.6, {1: 8.6, 2: 8, 3: 7, 4: 6}),
    ("Hypocalcemia (Ionized)", BOTH, "CAION", "mmol/L", "low", 1.15, {1: 1.15, 2: 1, 3: 0.9, 4: 0.8}),
    ("Hypoglycemia", BOTH, "GLUC", "mmol/L", "low", 3.9, {1: 3.9, 2: 3, 3: 2.2, 4: 1.7}),
    ("Hypoglycemia", BOTH, "GLUC", "mg/dL", "low", 70, {1: 70, 2: 55, 3: 40, 4: 30}),
    ("Hypokalemia", BOTH, "K", "mmol/L", "low", 3.5, {2: 3.5, 3: 3, 4: 2.5}),
    ("Hypokalemia", BOTH, "K", "mEq/L", "low", 3.5, {2: 3.5, 3: 3, 4: 2.5}),
    ("Hypomagnesemia", BOTH, "MG", "mmol/L", "low", 0.7, {1: 0.7, 2: 0.5, 3: 0.4, 4: 0.3}),
    ("Hypomagnesemia", BOTH, "MG", "mg/dL", "low", 1.7, {1: 1.7, 2: 1.2, 3: 0.9, 4: 0.7}),
    ("Hyponatremia", V4, "SODIUM", "mEq/L", "low", 135, {1: 135, 3: 130, 4: 120}),
    ("Hyponatremia", V4, "SODIUM", "mmol/L", "low", 135, {1: 135, 3: 130, 4: 120}),
    ("Hyponatremia", V5, "SODIUM", "mmol/L", "low", 135, {1: 135, 3 + FROM: 129, 4: 120}),
    ("Hyponatremia", V5, "SODIUM", "mEq/L", "low", 135, {1: 135, 3 + FROM: 129, 4: 120}),
    ("Hypophosphatemia", V4, "PHOS", "mmol/L", "low", 0.85, {1: 0.85, 2: 0.8, 3: 0.6, 4: 0.3}),
    ("Hypophosphatemia", V4, "PHOS", "mg/dL", "low", 2.6, {1: 2.6, 2: 2.5, 3: 2, 4: 1}),
    # With a normal baseline, or at it: multiples of the ULN. Bilirubin in both systems; enzymes have one.
    *(
        (NAMES[test], BOTH, test, "U/L", "high", 40.0, {g + 1.0: 40 * m for g, m in enumerate(multiples)})
        for test, multiples in LIVER.items()
        if test != "BILI"
    ),
    (NAMES["BILI"], BOTH, "BILI", "umol/L", "high", 20, {1: 20, 2: 30, 3: 60, 4: 200}),
    (NAMES["BILI"], BOTH, "BILI", "mg/dL", "high", 1.2, {1: 1.2, 2: 1.8, 3: 3.6, 4: 12}),
    ("Creatinine increased", BOTH, "CREAT", "mg/dL", "high", 1.2, {1: 1.2, 2: 1.8, 3: 3.6, 4: 7.2}),
    ("Creatinine increased", BOTH, "CREAT", "umol/L", "high", 100, {1: 100, 2: 150, 3: 300, 4: 600}),
    ("Fibrinogen decreased", BOTH, "FIBRINO", "g/L", "low", 3, {1: 3, 2: 2.25, 3: 1.5, 4: 0.75}),
    ("Fibrinogen decreased", BOTH, "FIBRINO", "mg/dL", "low", 300, {1: 300, 2: 225, 3: 150, 4: 75}),
    ("Fibrinogen decreased", BOTH, "FIBRINO", "g/L", "low", 1.6, {1: 1.6, 2: 1.2, 3: 0.8, 4: 0.5}),
    ("Fibrinogen decreased", BOTH, "FIBRINO", "mg/dL", "low", 160, {1: 160, 2: 120, 3: 80, 4: 50}),
    ("Hemoglobin increased", V4, "HGB", "g/L", "high", 160, {1: 160, 2: 180, 3: 200}),
    ("Hemoglobin increased", V4, "HGB", "g/dL", "high", 16, {1: 16, 2: 18, 3: 20}),
    ("INR increased", V4, "INR", "", "high", 1.1, {1: 1.1, 2: 1.65, 3: 2.75}),
]

# By the result alone, where the text names symptoms or treatment beside it.
ALONE: list[tuple[str, tuple[str, ...], str, str, str, float | None, dict[float, float]]] = [
    ("Hypokalemia", BOTH, "K", "mmol/L", "low", 3.5, {1: 3.5, 3: 3, 4: 2.5}),
    ("Hyperuricemia", V5, "URATE", "mg/dL", "high", 7, {1: 7}),
    ("Hyperuricemia", V4, "URATE", "mg/dL", "high", 7, {1: 7, 4: 10}),
    ("Hyperuricemia", V4, "URATE", "umol/L", "high", 420, {1: 420, 4: 590}),
    ("Hyponatremia", V5, "SODIUM", "mmol/L", "low", 135, {1: 135, 2 + FROM: 129, 3 + FROM: 124, 4: 120}),
    ("Lipase increased", V5, "LIPASE", "U/L", "high", 60, {1: 60, 2: 90, 3: 300}),
    ("Serum amylase increased", V5, "AMYLASE", "U/L", "high", 100, {1: 100, 2: 150, 3: 500}),
    ("INR increased", V5, "INR", "", "high", None, {1: 1.2, 2: 1.5, 3: 2.5}),
    ("INR increased", V4, "INR", "", "high", 1.1, {1: 1.1, 2: 1.65, 3: 2.75}),
]


def expected(value: float, side: str, limits: dict[float, float]) -> int:
    """The highest grade whose limit the value is beyond; on the limit only where it belongs to the grade."""
    found = 0
    for mark, limit in limits.items():
        belongs = mark != int(mark)
        beyond = value < limit if side == "low" else value > limit
        if beyond or (belongs and value == limit):
            found = max(found, int(mark))
    return found


def check(entry: tuple[Any, ...], version: str, alone: bool) -> int:
    term, _, test, unit, side, normal, limits = entry
    values = sorted(
        {round(limit * (1 + step), 12) for limit in limits.values() for step in (0, 1.2e-4, -1.2e-4, 0.05, -0.05)}
    )
    frame = pl.DataFrame({"TEST": test, "VALUE": values, "UNIT": unit, "SPECIMEN": "blood", "AT_BASELINE": True})
    frame = frame.with_columns(
        pl.lit(normal if side == "low" else None, pl.Float64).alias("LLN"),
        pl.lit(normal if side == "high" else None, pl.Float64).alias("ULN"),
        FASTING=pl.lit("Fasting" in term),
    )
    found = grade(frame, version, alone=alone).filter(pl.col("TERM") == term)
    assert found["GRADE"].to_list() == [expected(v, side, limits) for v in values], (term, unit, values)
    assert found["GRADE"].max() == max(int(mark) for mark in limits)
    return len(values)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_limit_in_every_unit(version: str) -> None:
    entries = [entry for entry in TABLE if version in entry[1]]
    assert {entry[0] for entry in entries} == {c.term for c in criteria(version).items}
    assert sum(check(entry, version, False) for entry in entries) > 700


@pytest.mark.parametrize("version", VERSIONS)
def test_every_limit_by_the_result_alone(version: str) -> None:
    entries = [entry for entry in ALONE if version in entry[1]]
    assert {entry[0] for entry in entries} == {c.term for c in criteria(version).items if c.assumes}
    for entry in entries:
        check(entry, version, True)


@pytest.mark.parametrize("version", VERSIONS)
def test_both_unit_systems_are_in_the_table(version: str) -> None:
    """Every criterion with absolute limits is tried in SI and in a conventional unit; /uL is the NCI's /mm3."""
    from trialops.standards.units import ucum_code

    tried: dict[str, set[str]] = {}
    for term, versions, test, unit, *_ in TABLE:
        if version in versions:
            tried.setdefault(term, set()).add(ucum_code(unit, test))
    for criterion in criteria(version).items:
        if criterion.units and not criterion.unitless:
            wanted = criterion.us or criterion.units[1]
            if criterion.term.endswith("(Ionized)"):
                continue  # The text prints mmol/L alone; mg/dL is converted, see test_ctcae.
            assert {criterion.units[0], wanted} <= tried[criterion.term], criterion.term


RELATIVE = {"ALT": (1.5, 3, 5, 20), "AST": (1.5, 3, 5, 20), "ALP": (2, 2.5, 5, 20), "GGT": (2, 2.5, 5, 20)}


@pytest.mark.parametrize("test", [*RELATIVE, "BILI"])
def test_v5_grades_an_abnormal_baseline_by_its_multiples(test: str) -> None:
    multiples = RELATIVE.get(test, (1, 1.5, 3, 10))
    base = 70.0
    # The lower end of grade 1 belongs to it ("1.5 - 3.0 x baseline"), but for bilirubin ("> 1.0 - 1.5").
    first = 1 if test == "BILI" else 1 + FROM
    limits = {first: base * multiples[0]} | {g: base * multiples[g - 1] for g in (2, 3, 4)}
    values = [limit * (1 + step) for limit in limits.values() for step in (0, 1.2e-4, -1.2e-4)]
    frame = pl.DataFrame(
        {
            "TEST": test,
            "VALUE": values,
            "UNIT": "U/L",
            "ULN": 40.0,
            "BASE": base,
            "BASE_HIGH": True,
            "SPECIMEN": "blood",
        }
    )
    assert grade(frame, "5.0")["GRADE"].to_list() == [expected(round(v, 9), "high", limits) for v in values]
    # Version 4.03 knows no baseline.
    v4 = {g + 1.0: 40 * m for g, m in enumerate(LIVER[test])}
    assert grade(frame, "4.03")["GRADE"].to_list() == [expected(v, "high", v4) for v in values]


@pytest.mark.parametrize(
    ("version", "test", "unit", "base", "uln", "value", "grade_"),
    [
        ("4.03", "CREAT", "mg/dL", 0.8, 1.2, 0.81, 1),
        ("4.03", "CREAT", "mg/dL", 0.8, 1.2, 0.8, 0),
        ("5.0", "CREAT", "mg/dL", 0.8, 1.2, 0.81, 0),
        ("5.0", "CREAT", "mg/dL", 0.7, 1.2, 1.06, 2),
        ("5.0", "CREAT", "mg/dL", 0.7, 1.2, 1.05, 0),
        ("5.0", "CREAT", "mg/dL", 0.7, 1.2, 2.11, 3),
        ("4.03", "INR", "", 1.0, 1.2, 1.01, 1),
        ("4.03", "INR", "", 1.0, 1.2, 2.51, 3),
        ("5.0", "INR", "", 0.9, None, 1.0, 1),
        ("5.0", "INR", "", 0.9, None, 2.26, 3),
        ("4.03", "HGB", "g/L", 165, 160, 165, 0),
        ("4.03", "HGB", "g/L", 165, 160, 185.1, 2),
        ("4.03", "HGB", "g/dL", 16.5, 16, 18.5, 1),
        ("4.03", "HGB", "g/dL", 16.5, 16, 18.501, 2),
        ("4.03", "HGB", "g/dL", 16.5, 16, 20.501, 3),
        ("4.03", "HGB", "g/dL", 16.5, 16, 20.5, 2),
        ("4.03", "HGB", "g/dL", 15, 16, 18.01, 2),
    ],
)
def test_changes_from_the_baseline(
    version: str, test: str, unit: str, base: float, uln: float | None, value: float, grade_: int
) -> None:
    frame = pl.DataFrame({"TEST": [test], "VALUE": [value], "UNIT": [unit], "BASE": [base], "BASE_HIGH": [False]})
    frame = frame.with_columns(ULN=pl.lit(uln, pl.Float64), LLN=pl.lit(0.1))
    found = grade(frame, version).filter(pl.col("DIRECTION") == "high")
    assert found["GRADE"].to_list() == [grade_]


@pytest.mark.parametrize(
    ("version", "value", "base", "grade_"),
    [
        # LLN 2 g/L. v4: the fall counts wherever it ends; v5: only where the result is below the range.
        ("4.03", 7.49, 10, 2),
        ("4.03", 7.5, 10, 2),
        ("4.03", 7.51, 10, 1),
        ("4.03", 10, 10, 0),
        ("4.03", 5, 10, 3),
        ("4.03", 2.5, 10, 4),
        ("5.0", 5, 10, 0),
        ("5.0", 1.9, 2.6, 2),
        ("5.0", 1.9, 2.5, 1),
        ("5.0", 1.9, 3.8, 3),
        ("5.0", 1.9, 3.79, 2),
        ("5.0", 1.9, 7.6, 4),
    ],
)
def test_fibrinogen_by_its_fall(version: str, value: float, base: float, grade_: int) -> None:
    for unit, scale in (("g/L", 1.0), ("mg/dL", 100.0)):
        row = {"TEST": "FIBRINO", "VALUE": value * scale, "UNIT": unit, "LLN": 2.0 * scale, "BASE": float(base) * scale}
        assert grade(pl.DataFrame([row]), version)["GRADE"].to_list() == [grade_]
