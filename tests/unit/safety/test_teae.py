"""Treatment-emergent events: the classes of the rule, the delivered flag, and every partial date against the truth."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.safety.teae import (
    AFTER,
    BEFORE,
    FLAGGED,
    MAYBE,
    NO_DATE,
    NO_FLAG,
    NO_START,
    ON,
    UNFLAGGED,
    UNTREATED,
    WINDOW,
    WORSENED,
    TeaePolicy,
    compare_rules,
    teae_policy,
    treatment_emergent,
)
from trialops.trial.tables import TrialTables

FIRST, LAST = date(2014, 3, 10), date(2014, 6, 20)
TEXT = {c: pl.String for c in ("USUBJID", "AEDECOD", "AESPID", "AESEV", "AESTDTC", "AEENDTC", "AEDTC")}


def trial(events: list[dict[str, Any]], doses: list[tuple[str, Any, Any]] | None = None) -> TrialTables:
    rows = [
        {"USUBJID": "a", "AEDECOD": "RASH", "AESPID": f"E{i}"} | e | {"AESEQ": i + 1.0} for i, e in enumerate(events)
    ]
    ae = pl.DataFrame(rows, schema=TEXT | {"AESEQ": pl.Float64})
    doses = [("a", str(FIRST), str(LAST))] if doses is None else doses
    ex = pl.DataFrame(doses, schema=["USUBJID", "EXSTDTC", "EXENDTC"], orient="row").cast(pl.String)
    subjects = sorted({"a", *ae["USUBJID"]})
    dm = pl.DataFrame({"STUDYID": "T", "USUBJID": subjects, "ARMCD": "P"})
    return TrialTables("T", {"DM": dm, "EX": ex, "AE": ae}, "")


def basis(onset: Any, **more: Any) -> tuple[Any, str]:
    found = treatment_emergent(trial([{"AESTDTC": onset} | more]))
    return found["TEAE"][0], found["TEAE_BASIS"][0]


@pytest.mark.parametrize(
    ("onset", "flag", "why"),
    [
        ("2014-03-09", False, BEFORE),
        ("2014-03-10", True, ON),
        ("2014-06-20", True, ON),
        ("2014-06-21", True, WINDOW),
        ("2014-07-20", True, WINDOW),
        ("2014-07-21", False, AFTER),
        ("2014-02", False, BEFORE),
        ("2014-03", True, MAYBE),
        ("2014-05", True, ON),
        ("2014-07", True, MAYBE),
        ("2014-08", False, AFTER),
        ("2014", True, MAYBE),
        ("2013", False, BEFORE),
        ("", True, NO_DATE),
        (None, True, NO_DATE),
        ("--05-07", True, NO_DATE),
    ],
)
def test_the_class_of_an_onset(onset: Any, flag: bool, why: str) -> None:
    assert basis(onset) == (flag, why)


def test_the_end_and_the_collection_bound_a_partial_onset() -> None:
    assert basis("2014-03", AEENDTC="2014-03-09") == (False, BEFORE)
    assert basis("2014", AEDTC="2014-03-01") == (False, BEFORE)
    assert basis(None, AEENDTC="2014-02") == (False, BEFORE)
    assert basis("2014-03", AEENDTC="2014-03-10") == (True, MAYBE)
    # An end before the onset contradicts it: it proves nothing.
    assert basis("2014-03-12", AEENDTC="2014-03-01") == (True, ON)


def test_best_case_counts_only_what_is_sure() -> None:
    strict = replace(teae_policy(), worst_case=False)
    found = treatment_emergent(
        trial([{"AESTDTC": "2014-03"}, {"AESTDTC": None}, {"AESTDTC": "2014-05"}]), policy=strict
    )
    assert found["TEAE"].to_list() == [False, False, True]


def test_exposure_decides() -> None:
    events = [{"AESTDTC": "2016-01-01", "USUBJID": s} for s in ("a", "b", "c", "d")]
    doses = [("a", str(FIRST), None), ("b", "2014-03", None), ("d", str(FIRST), str(LAST))]
    found = treatment_emergent(trial(events, doses))
    assert found["TEAE_BASIS"].to_list() == [ON, NO_START, UNTREATED, AFTER]
    assert found["TEAE"].to_list() == [True, True, False, False]


def test_a_worsening_of_an_earlier_event_counts_from_the_row_that_records_it() -> None:
    same = {"AESTDTC": "2014-03-01", "AESPID": "E1"}
    events = [
        same | {"AESEV": "MILD", "AEDTC": "2014-03-08"},
        same | {"AESEV": "MILD", "AEDTC": "2014-04-01"},
        same | {"AESEV": "SEVERE", "AEDTC": "2014-05-01"},
        # Another event, never recorded before the first dose: a worsening cannot be told.
        {"AESTDTC": "2014-03-02", "AESPID": "E2", "AESEV": "SEVERE", "AEDTC": "2014-05-01"},
    ]
    assert treatment_emergent(trial(events))["TEAE_BASIS"].to_list() == [BEFORE, BEFORE, WORSENED, BEFORE]
    without = replace(teae_policy(), worsening=False)
    assert treatment_emergent(trial(events), policy=without)["TEAE"].to_list() == [False] * 4


def test_the_delivered_flag_and_the_difference() -> None:
    made = trial([{"AESTDTC": "2014-04-01"}, {"AESTDTC": "2014-04-01"}, {"AESTDTC": "2014-01-01"}])
    supp = pl.DataFrame(
        {"USUBJID": "a", "IDVAR": "AESEQ", "IDVARVAL": ["1", " 2"], "QNAM": "AETRTEM", "QVAL": ["Y", "N"]}
    )
    made = TrialTables("T", {**made.tables, "SUPPAE": supp}, "")
    found = treatment_emergent(made, "reported")
    assert found["TEAE"].to_list() == [True, False, None]
    assert found["TEAE_BASIS"].to_list() == [FLAGGED, UNFLAGGED, NO_FLAG]
    both = compare_rules(made)
    assert both.filter("differs").select("basis", "sponsor", "reported", "rows").rows() == [(ON, True, False, 1)]
    assert both["rows"].sum() == 3


def test_without_any_flag_the_reported_rule_says_nothing() -> None:
    assert treatment_emergent(trial([{"AESTDTC": "2014-04-01"}]), "reported")["TEAE"].to_list() == [None]


@pytest.mark.parametrize("rule", ["sponsor", "reported"])
def test_no_event_is_no_event(rule: Any) -> None:
    found = treatment_emergent(trial([]), rule)
    assert found.height == 0 and found.columns == ["USUBJID", "AESEQ", "TEAE", "TEAE_BASIS"]
    assert compare_rules(trial([])).height == 0


def test_a_rule_or_policy_that_is_none_is_refused() -> None:
    with pytest.raises(TrialOpsError, match="no rule"):
        treatment_emergent(trial([{"AESTDTC": "2014"}]), "other")  # type: ignore[arg-type]
    content: dict[str, Any] = {"version": "1", "reported": {"qualifiers": [], "yes": [], "no": []}}
    content["sponsor"] = {"window_days": 30, "partial": "hope", "worsening": True, "same_event": [], "severity": []}
    with pytest.raises(TrialOpsError, match="hope"):
        TeaePolicy.from_dict(content)


days = st.integers(-400, 500).map(lambda n: FIRST + timedelta(days=n))


@st.composite
def histories(draw: st.DrawFn) -> tuple[date, dict[str, Any]]:
    """A true onset, and what could truly have been written about it."""
    onset = draw(days)
    text = str(onset)[: draw(st.sampled_from([0, 4, 7, 10]))]
    end = onset + timedelta(days=draw(st.integers(0, 200)))
    seen = onset + timedelta(days=draw(st.integers(0, 60)))
    row = {"AESTDTC": text or None}
    row["AEENDTC"] = str(end)[: draw(st.sampled_from([0, 4, 7, 10]))] or None
    row["AEDTC"] = str(seen)[: draw(st.sampled_from([0, 7, 10]))] or None
    return onset, row


@given(st.lists(histories(), min_size=60, max_size=60), st.integers(0, 90))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_no_true_onset_in_the_period_is_missed_and_none_outside_is_sure(
    drawn: list[tuple[date, dict[str, Any]]], window: int
) -> None:
    made = trial([row for _, row in drawn])
    end = LAST + timedelta(days=window)
    inside = [FIRST <= onset <= end for onset, _ in drawn]
    worst = replace(teae_policy(), window_days=window, worsening=False)
    generous = treatment_emergent(made, policy=worst)["TEAE"].to_list()
    sure = treatment_emergent(made, policy=replace(worst, worst_case=False))["TEAE"].to_list()
    for truth, maybe, certain, (_, row) in zip(inside, generous, sure, drawn, strict=True):
        assert maybe or not truth, row
        assert truth or not certain, row
        if len(row["AESTDTC"] or "") == 10:
            assert maybe == certain == truth, row
