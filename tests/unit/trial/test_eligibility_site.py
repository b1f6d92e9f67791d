"""Verdict and site: TI, IE, disagreement; and what changed between two evaluations."""

from __future__ import annotations

import polars as pl

from tests.support.enrolment_trial import lab, one_rule, small_trial
from trialops.trial.eligibility import ELIGIBLE, NOT_ELIGIBLE, UNDECIDED, evaluate
from trialops.trial.eligibility_change import GONE, NEW, changes, moves
from trialops.trial.eligibility_criteria import parse_criteria
from trialops.trial.eligibility_site import QUERY, compare_with_site, coverage
from trialops.trial.tables import TrialTables

CREATININE = {"value": {"test": "CREAT", "unit": "mg/dL", "above": 1.5, "window": {"of": "screening"}}}
IN = {"ARMCD": "A", "RFSTDTC": "2020-03-10"}
OUT = {"ARMCD": "Scrnfail"}


def of(subject: int, value: str) -> dict[str, object]:
    return {**lab(value), "USUBJID": f"S{subject}"}


def test_a_disagreement_with_the_site_is_a_query() -> None:
    subjects = [IN, IN, IN, OUT, OUT, {}, IN, OUT]
    rows = [of(1, "2"), of(2, "1"), of(4, "2"), of(5, "1"), of(6, "2"), of(7, "1"), of(8, "2")]
    recorded = [{"USUBJID": "S5", "IETESTCD": "EX1", "IESEQ": 7.0}, {"USUBJID": "S7", "IETESTCD": "ex1", "IESEQ": 9.0},
                {"USUBJID": "S8", "IETESTCD": "EX1", "IESEQ": 1.0}]  # fmt: skip
    trial = small_trial(subjects, LB=rows, IE=recorded)
    found = compare_with_site(trial, evaluate(trial, one_rule(CREATININE, kind="exclusion", code="EX1")))
    assert tuple(found.columns) == QUERY
    said = [(r["rule"], r["severity"], r["USUBJID"], r["domain"], r["sequence"]) for r in found.iter_rows(named=True)]
    assert said == [
        ("ELIG001", "critical", "S1", "LB", 1),
        ("ELIG002", "major", "S5", "IE", 7),
        ("ELIG002", "major", "S7", "IE", 9),
        ("ELIG003", "major", "S3", "LB", None),
        ("ELIG004", "minor", "S4", "LB", 3),
    ], "S2 and S8 agree; S6 is still being screened"
    without = TrialTables("T", {k: v for k, v in trial.tables.items() if k != "IE"}, "d")
    rules = compare_with_site(without, evaluate(without, one_rule(CREATININE, kind="exclusion")))["rule"].to_list()
    assert rules == ["ELIG001", "ELIG003"], "without IE nothing can be missing from it"


def test_what_is_left_to_the_investigator_is_no_disagreement() -> None:
    trial = small_trial([IN, OUT], IE=[{"USUBJID": "S2", "IETESTCD": "C1"}])
    found = evaluate(trial, one_rule({"investigator": {}}))
    assert compare_with_site(trial, found).is_empty()
    assert coverage(trial, found.criteria).judged_by_site == ("C1",)


def test_criteria_of_the_protocol_without_a_rule_are_listed() -> None:
    ti = pl.DataFrame(
        {
            "IETESTCD": ["INCL01", "INCL01", "EXCL01", "EXCL02"],
            "IETEST": ["Aged 50", "Aged 50 or over", "Creatinine", "Investigator's judgement"],
            "TIVERS": ["1", "2", "1", "1"],
        }
    )
    trial = small_trial()
    whole = TrialTables("T", {**trial.tables, "TI": ti}, "d")
    items = [
        {"id": "a", "code": "excl01", "kind": "exclusion", "text": "t", "reference": "r", "rule": CREATININE},
        {"id": "b", "code": "EXCL09", "kind": "exclusion", "text": "t", "reference": "r", "rule": CREATININE},
    ]
    found = coverage(whole, parse_criteria({"protocol": "T", "version": 1, "criteria": items}))
    assert found.listed == 3 and found.not_in_ti == ("EXCL09",)
    assert found.without_rule == (("EXCL02", "Investigator's judgement"), ("INCL01", "Aged 50 or over"))
    assert coverage(trial, one_rule(CREATININE)).delivered is False


def test_a_new_evaluation_says_who_changed_and_because_of_which_row() -> None:
    criteria = one_rule(CREATININE, kind="exclusion")
    before = evaluate(small_trial([{}, {}, {}, {}], LB=[of(1, "1"), of(3, "1"), of(4, "1")]), criteria)
    rows = [of(1, "1"), of(3, "1"), of(4, "1"), {**of(1, "2"), "LBDTC": "2020-03-05"}, of(2, "1")]
    after = evaluate(small_trial([{}, {}, {}, {"USUBJID": "S9"}], LB=rows), criteria)
    found = changes(before.verdicts, after.verdicts, before.evidence, after.evidence)
    assert found.rows() == [
        ("S1", "verdict", ELIGIBLE, NOT_ELIGIBLE, "C1", "not met", "met", "LB 1", "LB 4"),
        ("S2", "verdict", UNDECIDED, ELIGIBLE, "C1", "unknown", "not met", None, "LB 5"),
        ("S4", GONE, ELIGIBLE, None, None, None, None, None, None),
        ("S9", NEW, None, UNDECIDED, None, None, None, None, None),
    ]
    assert moves(found) == [
        (UNDECIDED, ELIGIBLE, 1), (ELIGIBLE, GONE, 1), (ELIGIBLE, NOT_ELIGIBLE, 1), (NEW, UNDECIDED, 1)
    ]  # fmt: skip
    same = changes(after.verdicts, after.verdicts, after.evidence, after.evidence)
    assert same.is_empty() and moves(same) == []


def test_an_outcome_that_changes_no_verdict_is_told_too() -> None:
    items = [
        {"id": "C1", "kind": "exclusion", "text": "t", "reference": "r", "rule": CREATININE},
        {"id": "C2", "kind": "inclusion", "text": "t", "reference": "r", "rule": {"age": {"at_least": 90}}},
    ]
    criteria = parse_criteria({"protocol": "T", "version": 1, "criteria": items})
    before, after = (evaluate(small_trial(LB=[of(1, value)]), criteria) for value in ("1", "2"))
    found = changes(before.verdicts, after.verdicts, before.evidence, after.evidence)
    assert found.select("change", "before", "after", "criterion").rows() == [
        ("outcome", NOT_ELIGIBLE, NOT_ELIGIBLE, "C1")
    ]
    fewer = parse_criteria({"protocol": "T", "version": 2, "criteria": items[:1]})
    again = evaluate(small_trial(LB=[of(1, "2")]), fewer)
    dropped = changes(after.verdicts, again.verdicts, after.evidence, again.evidence)
    assert dropped.select("criterion", "outcome_before", "outcome_after").rows() == [("C2", "not met", "not judged")]
