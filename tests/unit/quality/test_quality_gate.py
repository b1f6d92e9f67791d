"""Check types one by one, the score, and the gate."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.quality.checks import REGISTRY
from trialops.quality.engine import ClinicalDataValidatorOperator, QualityReport
from trialops.quality.evaluation import registry
from trialops.quality.rules import default_rules, parse

LIMITS = {
    "LB": {"ALB": {"unit": "g/L", "min": 5, "max": 80}, "NA": {"unit": "mmol/L", "min": 95, "max": 200.5}},
    "unitless": {"LB": ["PH"]},
}


def book(*rules: dict[str, Any], gate: float = 95.0) -> Any:
    head = {"version": "t", "gate": gate, "fatal_cap": 94.9, "weights": {"fatal": 5, "major": 3, "minor": 1}}
    filled = [{"id": f"R{i}", "severity": "major", "domain": "AE"} | rule for i, rule in enumerate(rules)]
    return parse(head | {"rules": filled}, LIMITS)


def check(tables: dict[str, pl.DataFrame], *rules: dict[str, Any]) -> QualityReport:
    return ClinicalDataValidatorOperator().run(tables, book(*rules))


def outcome(tables: dict[str, dict[str, list[Any]]], **rule: Any) -> tuple[str, int | None, int | None]:
    frames = {domain: pl.DataFrame(columns) for domain, columns in tables.items()}
    row = check(frames, rule).results.row(0, named=True)
    return row["status"], row["violated"], row["denominator"]


AE = {"USUBJID": ["a", "a", "b"], "AESEQ": [1, 2, 1], "AESER": ["Y", "N", None], "AESTDY": [1, 5, 9]}
AE |= {"AEENDY": [3, 4, None], "AEOUT": ["FATAL", "RECOVERED", "FATAL"]}
LB = {
    "LBTESTCD": ["ALB", "ALB", "ALB", "NA", "PH", "ALB"],
    "LBSTRESN": [40.0, 400.0, 4.0, 140.0, 5.0, None],
    "LBSTRESU": ["g/L", "g/L", "g/dL", None, None, None],
}
DM = {
    "USUBJID": ["a", "b", "c", "d"],
    "SITEID": ["1", "1", "2", None],
    "ACTARMCD": ["X", "Y", "Scrnfail", None],
}
EMPTY: dict[str, Any] = {"AE": {"USUBJID": [], "AESER": []}}
NA, ERROR = ("not applicable", None, None), ("error", None, None)

CASES: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, int | None, int | None]]] = [
    ("required_table", {"AE": AE}, {}, ("pass", 0, 1)),
    ("required_table", {}, {}, ("fail", 1, 1)),
    ("required_table", EMPTY, {}, ("fail", 1, 1)),
    ("required_column", {"AE": AE}, {"columns": ["AESER", "AESEQ"]}, ("pass", 0, 2)),
    ("required_column", {"AE": AE}, {"columns": ["AESER", "AEREL"]}, ("fail", 1, 2)),
    ("required_column", {}, {"columns": ["AESER"]}, NA),
    ("required_column", {"AE": AE}, {}, ERROR),
    ("column_type", {"AE": AE}, {"column": "AESEQ", "type": "integer"}, ("pass", 0, 1)),
    ("column_type", {"AE": AE}, {"column": "AESEQ", "type": "text"}, ("fail", 1, 1)),
    ("column_type", {"AE": AE | {"AEX": [None] * 3}}, {"column": "AEX", "type": "date"}, ("pass", 0, 1)),
    ("column_type", {"AE": AE}, {"column": "AEX", "type": "date"}, NA),
    ("column_type", {"AE": AE}, {"column": "AESEQ", "type": "colour"}, ERROR),
    ("pattern", {"AE": AE}, {"column": "AEOUT", "pattern": "^[A-Z]+$"}, ("pass", 0, 3)),
    ("pattern", {"AE": AE}, {"column": "AEOUT", "pattern": "^F"}, ("fail", 1, 3)),
    ("pattern", {"AE": AE}, {"column": "AEOUT", "pattern": "("}, ERROR),
    ("completeness", {"AE": AE}, {"column": "AESEQ"}, ("pass", 0, 3)),
    ("completeness", {"AE": AE}, {"column": "AESER"}, ("fail", 1, 3)),
    ("completeness", {"AE": AE}, {"column": "AESER", "threshold": 34}, ("pass", 1, 3)),
    ("completeness", {"AE": AE}, {"column": "AESER", "where": {"AESEQ": [1]}}, ("fail", 1, 2)),
    ("completeness", {"AE": AE}, {"column": "AESER", "where": {"AESTAT": "missing"}}, ("fail", 1, 3)),
    ("completeness", {"AE": AE}, {"column": "AESER", "where": {"AESTAT": "present"}}, NA),
    ("completeness", {"AE": AE}, {"column": "AEREL"}, NA),
    ("completeness", {"AE": AE}, {"column": "AESER", "where": {"AEOUT": "odd"}}, ERROR),
    ("value_set", {"AE": AE}, {"column": "AESER", "values": ["Y", "N"]}, ("pass", 0, 2)),
    ("value_set", {"AE": AE}, {"column": "AESER", "values": ["Y"]}, ("fail", 1, 2)),
    ("value_set", EMPTY, {"column": "AESER", "values": ["Y"]}, NA),
    ("value_set", {"AE": AE}, {"column": "AESER", "values": 7}, ERROR),
    ("unique_key", {"AE": AE}, {"columns": ["USUBJID", "AESEQ"]}, ("pass", 0, 3)),
    ("unique_key", {"AE": AE}, {"columns": ["USUBJID"]}, ("fail", 2, 3)),
    ("unique_key", {"AE": AE}, {"columns": ["USUBJID", "AEX"]}, NA),
    ("unique_key", {"AE": AE}, {}, ERROR),
    ("foreign_key", {"AE": AE, "DM": DM}, {"column": "USUBJID", "table": "DM"}, ("pass", 0, 3)),
    (
        "foreign_key",
        {"AE": AE, "DM": DM},
        {"column": "USUBJID", "table": "DM", "reference_where": {"USUBJID": ["a"]}},
        ("fail", 1, 3),
    ),
    ("foreign_key", {"AE": AE}, {"column": "USUBJID", "table": "DM"}, NA),
    (
        "foreign_key",
        {"AE": AE, "DM": DM | {"USUBJID": [1, 2, 3, 4]}},
        {"column": "USUBJID", "table": "DM"},
        ERROR,
    ),
    ("range", {"AE": AE}, {"column": "AESTDY", "min": 1, "max": 9}, ("pass", 0, 3)),
    ("range", {"AE": AE}, {"column": "AEENDY", "min": 4}, ("fail", 1, 2)),
    ("range", {"AE": AE}, {"column": "AEX", "max": 4}, NA),
    ("range", {"AE": AE}, {"column": "AESER", "min": 4}, ERROR),
    ("range", {"LB": LB}, {"domain": "LB", "limits": "LB"}, ("fail", 1, 2)),
    (
        "range",
        {"LB": LB},
        {"domain": "LB", "limits": "LB", "where": {"LBSTRESN": {"max": 100}}},
        ("pass", 0, 1),
    ),
    ("range", {"AE": AE}, {"domain": "LB", "limits": "LB"}, NA),
    ("range", {"LB": LB}, {"domain": "LB", "limits": "XX"}, ERROR),
    ("day_order", {"AE": AE}, {"start": "AESTDY", "end": "AESTDY"}, ("pass", 0, 3)),
    ("day_order", {"AE": AE}, {"start": "AESTDY", "end": "AEENDY"}, ("fail", 1, 2)),
    ("day_order", {"AE": AE}, {"start": "AESTDY", "end": "AEXDY"}, NA),
    ("day_order", {"AE": AE}, {"start": "AESTDY", "end": "AESER"}, ERROR),
    ("consistency", {"AE": AE}, {"when": {"AESEQ": [2]}, "then": {"AESER": ["N"]}}, ("pass", 0, 1)),
    (
        "consistency",
        {"AE": AE},
        {"when": {"any": [{"AEOUT": ["FATAL"]}, {"AESDTH": ["Y"]}]}, "then": {"AESER": ["Y"]}},
        ("fail", 1, 2),
    ),
    (
        "consistency",
        {"AE": AE},
        {"when": {"AEOUT": ["X"]}, "then": {"AESER": ["Y"]}},
        ("not applicable", 0, 0),
    ),
    ("consistency", {"AE": AE}, {"when": {"any": [{"AEX": ["Y"]}]}, "then": {"AESER": ["Y"]}}, NA),
    ("consistency", {"AE": AE}, {"when": {"AEOUT": 3}, "then": {"AESER": ["Y"]}}, ERROR),
    ("site_size", {"DM": DM}, {"domain": "DM", "minimum": 1}, ("pass", 0, 2)),
    ("site_size", {"DM": DM}, {"domain": "DM", "minimum": 2}, ("fail", 1, 2)),
    ("site_size", {"DM": {"USUBJID": ["a"]}}, {"domain": "DM", "minimum": 2}, NA),
    ("site_size", {"DM": DM}, {"domain": "DM"}, ERROR),
    ("unit_present", {"LB": LB}, {"domain": "LB", "where": {"LBTESTCD": ["ALB"]}}, ("pass", 0, 3)),
    ("unit_present", {"LB": LB}, {"domain": "LB"}, ("fail", 1, 4)),
    ("unit_present", {"AE": AE}, {"domain": "LB"}, NA),
    ("unit_present", {"LB": LB | {"LBTESTCD": [1, 2, 3, 4, 5, 6]}}, {"domain": "LB"}, ERROR),
    ("treated_has_exposure", {"DM": DM, "EX": {"USUBJID": ["a", "b"]}}, {"domain": "DM"}, ("pass", 0, 2)),
    ("treated_has_exposure", {"DM": DM, "EX": {"USUBJID": ["a"]}}, {"domain": "DM"}, ("fail", 1, 2)),
    ("treated_has_exposure", {"DM": DM}, {"domain": "DM"}, NA),
    ("treated_has_exposure", {"DM": DM | {"ACTARMCD": [1, 2, 3, 4]}, "EX": DM}, {"domain": "DM"}, ERROR),
]


@pytest.mark.parametrize(("kind", "tables", "rule", "expected"), CASES)
def test_check_type(kind: str, tables: Any, rule: dict[str, Any], expected: Any) -> None:
    assert outcome(tables, check=kind, **rule) == expected


def test_every_check_type_is_tested_for_pass_and_fail() -> None:
    own = {name for name, function in REGISTRY.items() if function.__module__ == "trialops.quality.checks"}
    for status in ("pass", "fail"):
        assert {kind for kind, _, _, expected in CASES if expected[0] == status} == own


def test_one_broken_rule_does_not_hide_the_others() -> None:
    good = {"check": "completeness", "column": "AESEQ"}
    bad = {"check": "range", "column": "AESER", "min": 4}
    report = check({"AE": pl.DataFrame(AE)}, good, bad, good | {"column": "AESER"}, {"check": "nothing"})
    assert report.results["status"].to_list() == ["pass", "error", "fail", "error"]
    assert report.score == 50.0


def test_error_detail_has_no_values() -> None:
    frame = pl.DataFrame(AE | {"AESER": ["01-701-1015", "x", "y"]})
    detail = check({"AE": frame}, {"check": "range", "column": "AESER", "min": 4}).results["detail"].item()
    assert detail and "1015" not in detail


def test_queries_name_row_and_pseudonym() -> None:
    frame = pl.DataFrame(AE).with_columns(_SOURCE=pl.lit("delivery 2/AE"))
    rule = {"check": "consistency", "when": {"AEOUT": ["FATAL"]}, "then": {"AESER": ["Y"]}}
    tell = {
        "check": "completeness",
        "column": "AEENDY",
        "threshold": 50,
        "query": "minor",
        "message": "no end",
    }
    queries = check({"AE": frame}, tell, rule | {"query": "critical", "message": "fatal"}).queries
    assert queries.rows() == [
        ("R1", "critical", "AE", "b", "AESEQ 1", 2, "fatal"),
        ("R0", "minor", "AE", "b", "AESEQ 1", 2, "no end"),
    ]


def test_queries_are_ordered_as_the_table_and_name_a_visit_by_its_number() -> None:
    frame = pl.DataFrame({"USUBJID": ["a"] * 3, "VISITNUM": [2.0, 3.1, 10.0], "VISIT": [None, "X", None]})
    queries = check(
        {"SV": frame}, {"domain": "SV", "check": "completeness", "column": "VISIT", "query": "minor"}
    ).queries
    assert queries["record"].to_list() == ["VISITNUM 2", "VISITNUM 10"]


def test_a_column_that_is_empty_throughout_is_one_question() -> None:
    frame = pl.DataFrame(AE).with_columns(AEREL=pl.lit(None, pl.String))
    report = check({"AE": frame}, {"check": "completeness", "column": "AEREL", "query": "minor", "message": "cause"})
    assert report.results.select("status", "violated").row(0) == ("fail", 3)
    assert report.queries.rows() == [("R0", "minor", "AE", None, None, None, "cause")]


def test_an_optional_column_that_was_not_delivered_judges_nobody() -> None:
    frame = pl.DataFrame(AE).with_columns(AEENDY=pl.lit(None, pl.Int32))
    ended = {"check": "consistency", "when": {"AEOUT": ["RECOVERED"]}, "then": {"AEENDY": "present"}}
    report = check({"AE": frame}, ended, {"check": "completeness", "column": "AEENDY"})
    assert report.results["status"].to_list() == ["not applicable", "fail"]


def test_only_the_newest_version_is_judged() -> None:
    frame = pl.DataFrame(
        {
            "USUBJID": ["a", "a", "b"],
            "AESEQ": [1, 1, 1],
            "AESER": [None, "Y", "N"],
            "_SOURCE": ["delivery 2/AE", "delivery 10/AE", "delivery 2/AE"],
        }
    )
    key = {"check": "unique_key", "columns": ["USUBJID", "AESEQ"]}
    report = check({"AE": frame}, {"check": "completeness", "column": "AESER"}, key)
    assert report.results.select("status", "denominator").rows() == [("pass", 2), ("pass", 2)]


def test_score_weighs_by_severity() -> None:
    rules = [
        {"check": "completeness", "column": "AESEQ", "severity": "fatal"},
        {"check": "completeness", "column": "AESER", "severity": "minor"},
        {"check": "completeness", "column": "AEX", "severity": "major"},
    ]
    report = check({"AE": pl.DataFrame(AE)}, *rules)
    assert report.score == pytest.approx(100 * 5 / 6)  # the rule that does not apply counts nowhere
    assert report.findings == {"fatal": 0, "major": 0, "minor": 1}
    assert not report.passed and report.threshold == 95.0
    assert report.decision()["explanation"] == report.explanation


@pytest.mark.parametrize("bad", [{"column": "AESER"}, {"column": 3}])
def test_fatal_failure_or_error_keeps_the_gate_shut(bad: dict[str, Any]) -> None:
    good = [{"check": "completeness", "column": "AESEQ"}] * 99
    rules = [{**rule, "id": f"G{i}"} for i, rule in enumerate(good)]
    report = check({"AE": pl.DataFrame(AE)}, *rules, {"check": "completeness", "severity": "fatal"} | bad)
    assert report.score == 94.9 and not report.passed
    assert check({"AE": pl.DataFrame(AE)}, *rules).passed


def test_nothing_to_judge_does_not_pass() -> None:
    report = check({}, {"check": "completeness", "column": "AESER"})
    assert (report.score, report.passed) == (0.0, False)


def test_rule_book_is_checked() -> None:
    with pytest.raises(TrialOpsError, match="incomplete"):
        book({"check": "completeness", "severity": "grave"})
    with pytest.raises(TrialOpsError, match="share an id"):
        book({"check": "completeness", "id": "A"}, {"check": "completeness", "id": "A"})


def test_own_rules_use_known_check_types_and_queries() -> None:
    own = default_rules()
    assert {rule.check for rule in own.rules} <= set(registry())
    assert {rule.query for rule in own.rules} <= {"", "critical", "major", "minor"}
    assert own.fatal_cap < own.gate == 95.0
