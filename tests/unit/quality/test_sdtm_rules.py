"""SDTM check types one by one: pass, fail, not applicable."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from trialops.quality import checks_sdtm
from trialops.quality.checks import REGISTRY
from trialops.quality.evaluation import evaluate
from trialops.quality.rules import parse

LIMITS = {
    "windows": {"default": {"before": 3, "after": 3}, "visits": {5.0: {"before": 0, "after": 10}}},
    "terms": {"female": ["PREGNAN"], "male": ["PROSTAT"]},
}
NA = ("not applicable", None, None)

AE: dict[str, list[Any]] = {
    "USUBJID": ["a", "a", "b"],
    "AEDECOD": ["PREGNANCY", "HEADACHE", "BENIGN PROSTATIC HYPERPLASIA"],
    "AESTDTC": ["2024-01-10", "2024-01", None],
    "AESTDY": [10.0, None, -1.0],
}
DM: dict[str, list[Any]] = {
    "USUBJID": ["a", "b"],
    "SEX": ["F", "M"],
    "RFSTDTC": ["2024-01-01", "2024-02-01"],
    "DTHDY": [30, None],
}
EX: dict[str, list[Any]] = {
    "USUBJID": ["a", "a", "b"],
    "EXTRT": ["X", "X", "X"],
    "EXSTDY": [1, 10, 1],
    "EXENDY": [9, 20, 5],
}
LB: dict[str, list[Any]] = {
    "USUBJID": ["a", "a", "b"],
    "LBTESTCD": ["GLUC", "GLUC", "GLUC"],
    "LBTEST": ["Glucose", "Glucose", "Glucose"],
    "LBORRES": ["90", "200", "NEGATIVE"],
    "LBORRESU": ["mg/dL", "mg/dL", None],
    "LBORNRLO": ["70", "70", None],
    "LBORNRHI": ["110", "110", None],
    "LBSTRESC": ["4.995", "11.1", "NEGATIVE"],
    "LBSTRESN": [4.995, 11.1, None],
    "LBSTRESU": ["mmol/L", "mmol/L", None],
    "LBNRIND": ["NORMAL", "HIGH", None],
    "LBBLFL": ["Y", None, "Y"],
    "LBDY": [1, 15, 1],
}
SV: dict[str, list[Any]] = {"USUBJID": ["a", "a"], "VISITNUM": [4.0, 5.0], "VISITDY": [14.0, 28.0], "SVSTDY": [16, 38]}
DS: dict[str, list[Any]] = {"DSCAT": ["D"] * 3, "DSDECOD": ["COMPLETED", "COMPLETED", "SCREEN FAILURE"]}
SUPP: dict[str, list[Any]] = {
    "RDOMAIN": ["LB", "DM"],
    "USUBJID": ["a", "b"],
    "IDVAR": ["LBDY", ""],
    "IDVARVAL": ["15", ""],
}


def with_values(table: dict[str, list[Any]], **change: list[Any]) -> dict[str, list[Any]]:
    return {**table, **change}


CASES: list[tuple[str, str, dict[str, Any], dict[str, Any], tuple[str, int | None, int | None]]] = [
    ("iso8601", "AE", {"AE": AE}, {}, ("pass", 0, 2)),
    ("iso8601", "AE", {"AE": with_values(AE, AESTDTC=["2024-02-30", "10JAN2024", None])}, {}, ("fail", 2, 2)),
    ("iso8601", "EX", {"EX": EX}, {}, NA),
    ("no_day_zero", "AE", {"AE": AE}, {}, ("pass", 0, 2)),
    ("no_day_zero", "AE", {"AE": with_values(AE, AESTDY=[0.0, None, -1.0])}, {}, ("fail", 1, 2)),
    ("no_day_zero", "DS", {"DS": DS}, {}, NA),
    ("day_matches_date", "AE", {"AE": AE, "DM": DM}, {"date": "AESTDTC", "day": "AESTDY"}, ("pass", 0, 1)),
    (
        "day_matches_date",
        "AE",
        {"AE": with_values(AE, AESTDTC=["2024-01-11", None, "2024-01-31"]), "DM": DM},
        {"date": "AESTDTC", "day": "AESTDY"},
        ("fail", 1, 2),
    ),
    ("day_matches_date", "AE", {"AE": AE}, {"date": "AESTDTC", "day": "AESTDY"}, NA),
    ("subject_order", "LB", {"LB": LB, "DM": DM}, {"column": "LBDY", "table": "DM", "bound": "DTHDY"}, ("pass", 0, 2)),
    (
        "subject_order",
        "LB",
        {"LB": with_values(LB, LBDY=[1, 31, 99]), "DM": DM},
        {"column": "LBDY", "table": "DM", "bound": "DTHDY"},
        ("fail", 1, 2),
    ),
    (
        "subject_order",
        "LB",
        {"LB": LB, "DM": with_values(DM, DTHDY=[2, 1])},
        {"column": "LBDY", "table": "DM", "bound": "DTHDY", "relation": "from"},
        ("fail", 1, 3),
    ),
    ("subject_order", "LB", {"LB": LB}, {"column": "LBDY", "table": "DM", "bound": "DTHDY"}, NA),
    (
        "subject_extreme",
        "DM",
        {"DM": with_values(DM, RFXSTDY=[1, 1]), "EX": EX},
        {"column": "RFXSTDY", "table": "EX", "of": "EXSTDY", "which": "first"},
        ("pass", 0, 2),
    ),
    (
        "subject_extreme",
        "DM",
        {"DM": with_values(DM, RFXENDY=[20, 6]), "EX": EX},
        {"column": "RFXENDY", "table": "EX", "of": "EXENDY", "which": "last"},
        ("fail", 1, 2),
    ),
    ("standard_agrees", "LB", {"LB": LB}, {}, ("pass", 0, 2)),
    ("standard_agrees", "LB", {"LB": with_values(LB, LBSTRESN=[5.0, None, 3.0])}, {}, ("fail", 3, 3)),
    ("standard_agrees", "LB", {"LB": {"LBSTRESC": ["1"]}}, {}, NA),
    ("original_agrees", "LB", {"LB": LB}, {"tolerance": 0.005}, ("pass", 0, 2)),
    (
        "original_agrees",
        "LB",
        {"LB": with_values(LB, LBSTRESN=[90.0, 11.1, None])},
        {"tolerance": 0.005},
        ("fail", 1, 2),
    ),
    ("range_indicator", "LB", {"LB": LB}, {}, ("pass", 0, 2)),
    ("range_indicator", "LB", {"LB": with_values(LB, LBNRIND=["LOW", "NORMAL", "HIGH"])}, {}, ("fail", 2, 2)),
    (
        "range_indicator",
        "LB",
        {"LB": with_values(LB, LBORRES=["70", "110", "x"], LBNRIND=["NORMAL"] * 3)},
        {},
        ("pass", 0, 2),
    ),
    ("visit_window", "SV", {"SV": SV}, {"column": "SVSTDY", "limits": "windows"}, ("pass", 0, 2)),
    (
        "visit_window",
        "SV",
        {"SV": with_values(SV, SVSTDY=[18, 27])},
        {"column": "SVSTDY", "limits": "windows"},
        ("fail", 2, 2),
    ),
    (
        "visit_window",
        "SV",
        {"SV": with_values(SV, VISITDY=[1.0, None], SVSTDY=[-3, 9])},
        {"column": "SVSTDY", "limits": "windows"},
        ("pass", 0, 1),
    ),
    ("one_value", "LB", {"LB": LB}, {"key": ["LBTESTCD"], "column": "LBTEST"}, ("pass", 0, 3)),
    (
        "one_value",
        "LB",
        {"LB": with_values(LB, LBTEST=["Glucose", "glucose", "Glucose"])},
        {"key": ["LBTESTCD"], "column": "LBTEST"},
        ("fail", 1, 3),
    ),
    ("at_most_one", "LB", {"LB": LB}, {"where": {"LBBLFL": ["Y"]}, "key": ["USUBJID", "LBSPEC"]}, ("pass", 0, 2)),
    (
        "at_most_one",
        "LB",
        {"LB": with_values(LB, LBBLFL=["Y", "Y", "Y"])},
        {"where": {"LBBLFL": ["Y"]}, "key": ["USUBJID", "LBTESTCD"]},
        ("fail", 2, 3),
    ),
    ("no_overlap", "EX", {"EX": EX}, {"key": ["USUBJID"], "start": "EXSTDY", "end": "EXENDY"}, ("pass", 0, 3)),
    (
        "no_overlap",
        "EX",
        {"EX": with_values(EX, EXENDY=[12, 20, 5])},
        {"key": ["USUBJID"], "start": "EXSTDY", "end": "EXENDY"},
        ("fail", 1, 3),
    ),
    ("sex_terms", "AE", {"AE": AE, "DM": DM}, {"column": "AEDECOD", "limits": "terms"}, ("pass", 0, 2)),
    (
        "sex_terms",
        "AE",
        {"AE": AE, "DM": with_values(DM, SEX=["M", "F"])},
        {"column": "AEDECOD", "limits": "terms"},
        ("fail", 2, 2),
    ),
    ("sex_terms", "AE", {"AE": AE}, {"column": "AEDECOD", "limits": "terms"}, NA),
    ("not_constant", "DS", {"DS": DS}, {"column": "DSDECOD", "besides": [], "least": 2}, ("pass", 0, 1)),
    (
        "not_constant",
        "DS",
        {"DS": DS},
        {"column": "DSDECOD", "besides": ["SCREEN FAILURE"], "least": 2},
        ("fail", 1, 1),
    ),
    ("not_constant", "DS", {"DS": DS}, {"column": "DSDECOD", "besides": [], "least": 9}, NA),
    ("supp_keys", "SUPPLB", {"SUPPLB": SUPP, "LB": LB, "DM": DM}, {}, ("pass", 0, 2)),
    (
        "supp_keys",
        "SUPPLB",
        {"SUPPLB": with_values(SUPP, IDVARVAL=["16", ""]), "LB": LB, "DM": DM},
        {},
        ("fail", 1, 2),
    ),
    ("supp_keys", "SUPPLB", {"SUPPLB": {"USUBJID": ["a"]}}, {}, NA),
    ("relrec_keys", "RELREC", {"RELREC": SUPP, "LB": LB, "DM": DM}, {}, ("pass", 0, 2)),
    ("relrec_keys", "RELREC", {"RELREC": SUPP, "DM": DM}, {}, ("fail", 1, 2)),
    ("relrec_keys", "RELREC", {}, {}, NA),
]


@pytest.mark.parametrize(("kind", "domain", "tables", "rule", "expected"), CASES)
def test_check_type(kind: str, domain: str, tables: Any, rule: dict[str, Any], expected: Any) -> None:
    frames = {name: pl.DataFrame(columns) for name, columns in tables.items()}
    head = {"version": "t", "gate": 95.0, "fatal_cap": 94.9, "weights": {"major": 3}}
    item = {"id": "R", "domain": domain, "severity": "major", "check": kind, **rule}
    row = evaluate(frames, parse(head | {"rules": [item]}, LIMITS)).results.row(0, named=True)
    assert (row["status"], row["violated"], row["denominator"]) == expected, row["detail"]


def sexed(swapped: int) -> dict[str, pl.DataFrame]:
    """Twenty women and twenty men with ranges of their sex, the first few women booked as men."""
    sex = ["F"] * 20 + ["M"] * 20
    high = [34.0 if s == "F" else 43.0 for s in sex]
    ids = [f"s{i}" for i in range(40)]
    lb = pl.DataFrame({"USUBJID": ids, "LBTESTCD": ["ALT"] * 40, "LBSTNRLO": [6.0] * 40, "LBSTNRHI": high})
    booked = ["M"] * swapped + sex[swapped:]
    return {"DM": pl.DataFrame({"USUBJID": ids, "SEX": booked}), "LB": lb}


@pytest.mark.parametrize(("swapped", "expected"), [(0, ("pass", 0, 40)), (2, ("fail", 2, 40))])
def test_reference_ranges_tell_the_sex(swapped: int, expected: tuple[str, int, int]) -> None:
    head = {"version": "t", "gate": 95.0, "fatal_cap": 94.9, "weights": {"major": 3}}
    item = {"id": "R", "domain": "DM", "severity": "major", "check": "sex_ranges", "least": 5, "share": 0.85}
    row = evaluate(sexed(swapped), parse(head | {"rules": [item]}, {})).results.row(0, named=True)
    assert (row["status"], row["violated"], row["denominator"]) == expected


def test_one_sex_trials_are_not_judged_by_ranges() -> None:
    women = {name: frame.head(20) for name, frame in sexed(0).items()}
    head = {"version": "t", "gate": 95.0, "fatal_cap": 94.9, "weights": {"major": 3}}
    item = {"id": "R", "domain": "DM", "severity": "major", "check": "sex_ranges", "least": 5, "share": 0.85}
    assert evaluate(women, parse(head | {"rules": [item]}, {})).results["status"].to_list() == ["not applicable"]


def test_every_sdtm_check_type_is_tested_for_pass_and_fail() -> None:
    own = {name for name, function in REGISTRY.items() if function.__module__ == checks_sdtm.__name__}
    for status in ("pass", "fail"):
        assert {kind for kind, _, _, _, expected in CASES if expected[0] == status} | {"sex_ranges"} == own
