"""Whatever a table holds, the engine counts what a plain loop counts, and never takes silence for a pass."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.quality.engine import ClinicalDataValidatorOperator
from trialops.quality.evaluation import evaluate
from trialops.quality.rules import RuleBook, parse

HEAD = {"version": "p", "gate": 95.0, "fatal_cap": 94.9, "weights": {"fatal": 5, "major": 3, "minor": 1}}
TEXT = st.sampled_from(["Y", "N", "", "X", None])
NUMBER = st.one_of(st.none(), st.integers(-5, 5))
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", None]), TEXT, NUMBER, NUMBER), max_size=12)
SCHEMA = {"ID": pl.String, "FLAG": pl.String, "START": pl.Int64, "END": pl.Int64}


def book(*rules: dict[str, Any]) -> RuleBook:
    items = [{"id": f"R{i}", "severity": "major", "domain": "T", **rule} for i, rule in enumerate(rules)]
    return parse(HEAD | {"rules": items}, {})


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


RULES: list[tuple[dict[str, Any], Any, Any]] = [
    ({"check": "completeness", "column": "FLAG"}, lambda r, all_: True, lambda r, all_: r[1] is None),
    (
        {"check": "value_set", "column": "FLAG", "values": ["Y", "N"]},
        lambda r, all_: r[1] is not None,
        lambda r, all_: r[1] not in ("Y", "N"),
    ),
    (
        {"check": "value_set", "column": "FLAG", "values": [*"ABCDEFGHIJKLMN", "Y"]},
        lambda r, all_: r[1] is not None,
        lambda r, all_: r[1] not in [*"ABCDEFGHIJKLMN", "Y"],
    ),
    (
        {"check": "range", "column": "START", "min": -1, "max": 3},
        lambda r, all_: r[2] is not None,
        lambda r, all_: not -1 <= r[2] <= 3,
    ),
    (
        {"check": "day_order", "start": "START", "end": "END"},
        lambda r, all_: r[2] is not None and r[3] is not None,
        lambda r, all_: r[2] > r[3],
    ),
    (
        {"check": "unique_key", "columns": ["ID", "START"]},
        lambda r, all_: r[0] is not None and r[2] is not None,
        lambda r, all_: sum((o[0], o[2]) == (r[0], r[2]) for o in all_) > 1,
    ),
    (
        {"check": "consistency", "when": {"FLAG": ["Y"]}, "then": {"END": "present"}},
        lambda r, all_: r[1] == "Y",
        lambda r, all_: r[3] is None,
    ),
    (
        {"check": "foreign_key", "column": "ID", "table": "T", "reference_where": {"FLAG": ["N"]}},
        lambda r, all_: r[0] is not None,
        lambda r, all_: r[0] not in {o[0] for o in all_ if o[1] == "N"},
    ),
    (
        {"check": "no_overlap", "key": ["ID"], "start": "START", "end": "END"},
        lambda r, all_: r[2] is not None and r[3] is not None,
        None,
    ),
]


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_counts_are_those_of_a_plain_loop(rows: list[tuple[Any, ...]]) -> None:
    results = evaluate({"T": frame(rows)}, book(*(rule for rule, _, _ in RULES))).results
    for (rule, applies, violates), row in zip(RULES, results.iter_rows(named=True), strict=True):
        asked = [r for r in rows if applies(r, rows)]
        if not asked:
            assert row["status"] == "not applicable", rule
            continue
        assert row["denominator"] == len(asked), rule
        if violates is not None:
            wrong = sum(violates(r, rows) for r in asked)
            assert row["violated"] == wrong, rule
            assert row["status"] == ("fail" if wrong else "pass"), rule
        assert 0 <= row["violated"] <= row["denominator"]


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(len(RULES))), ROWS)
def test_the_order_of_the_rules_and_of_the_rows_changes_nothing(order: list[int], rows: list[tuple[Any, ...]]) -> None:
    rules = [RULES[i][0] for i in range(len(RULES))]
    straight = evaluate({"T": frame(rows)}, book(*rules)).results
    turned = evaluate({"T": frame(rows[::-1])}, book(*(rules[i] for i in order))).results
    columns = ("status", "violated", "denominator")
    expected = straight.select(columns).rows()
    assert turned.select(columns).rows() == [expected[i] for i in order]


@settings(max_examples=40, deadline=None)
@given(ROWS, st.lists(st.sampled_from(["missing table", "missing column", "broken", "unknown"]), max_size=5))
def test_silence_never_raises_the_score(rows: list[tuple[Any, ...]], silent: list[str]) -> None:
    """Rules that do not apply or end in an error change neither sum of the score, and a fatal error shuts the gate."""
    kinds: dict[str, dict[str, Any]] = {
        "missing table": {"domain": "NONE", "check": "completeness", "column": "X"},
        "missing column": {"check": "value_set", "column": "X", "values": ["Y"]},
        "broken": {"check": "range", "column": "FLAG", "min": 1},
        "unknown": {"check": "no such check"},
    }
    spoken = [{"check": "completeness", "column": "FLAG"}, {"check": "completeness", "column": "END"}]
    run = ClinicalDataValidatorOperator().run
    alone = run({"T": frame(rows)}, book(*spoken))
    more = run({"T": frame(rows)}, book(*spoken, *(kinds[name] for name in silent)))
    assert more.score == alone.score and more.passed == alone.passed
    statuses = more.results["status"].to_list()[2:]
    assert set(statuses) <= {"not applicable", "error"}
    if rows:
        fatal = run({"T": frame(rows)}, book(*spoken, {**kinds["unknown"], "severity": "fatal"}))
        assert not fatal.passed and fatal.score < 95


def test_empty_tables_and_columns_of_nothing() -> None:
    rules = [rule for rule, _, _ in RULES]
    empty = evaluate({"T": frame([])}, book(*rules)).results
    assert set(empty["status"]) == {"not applicable"}
    nothing = frame([(None, None, None, None)] * 3)
    for table in (nothing, nothing.with_columns(pl.lit(None, pl.Null).alias(c) for c in SCHEMA)):
        statuses = evaluate({"T": table}, book(*rules)).results["status"].to_list()
        assert statuses[0] == "fail" and set(statuses[1:]) <= {"not applicable", "error"}
    assert set(evaluate({}, book(*rules)).results["status"]) == {"not applicable"}


def test_what_would_raise_the_score_does() -> None:
    """Mending what the losses name, in their order, opens the gate when the explanation says so."""
    rows = [("a", None, 1, 2), ("b", "Y", 3, 1), ("b", "Q", 9, None)]
    rules = [rule for rule, _, _ in RULES[:7]] + [{"check": "completeness", "column": "ID"}] * 20
    report = ClinicalDataValidatorOperator().run({"T": frame(rows)}, book(*rules))
    assert not report.passed and report.losses
    total = sum(loss.points for loss in report.losses)
    assert abs(report.score + total - 100) < 1e-9
    assert any(line.startswith("It passes once these do: R0") for line in report.explanation)
    assert all(loss.to_mend >= 1 for loss in report.losses)
