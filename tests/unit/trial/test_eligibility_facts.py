"""Single facts: edges of limits, units, windows, partial dates, what is missing."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from tests.support.enrolment_trial import lab, one_rule, small_trial
from trialops.trial.eligibility import evaluate
from trialops.trial.eligibility_criteria import parse_criteria

WINDOW = {"of": "screening", "from": -28, "to": 0}


def outcome(rule: dict[str, Any], **domains: list[dict[str, Any]]) -> bool | None:
    """What the rule says of S1."""
    found = evaluate(small_trial(**domains), one_rule(rule)).verdicts["C1"].to_list()
    assert len(found) == 1
    return found[0]  # type: ignore[no-any-return]


def missing(rule: dict[str, Any], **domains: list[dict[str, Any]]) -> str:
    """What is missing for an unknown."""
    found = evaluate(small_trial(**domains), one_rule(rule))
    assert found.verdicts["C1"].to_list() == [None]
    return str(found.evidence["missing"].to_list()[0])


def value(**more: Any) -> dict[str, Any]:
    return {"value": {"test": "CREAT", "unit": "mg/dL", "window": WINDOW, **more}}


@pytest.mark.parametrize(
    ("text", "at_least", "above", "at_most", "below"),
    [
        ("1.5", True, False, True, False),
        ("1.4", False, False, True, True),
        ("1.6", True, True, False, False),
        ("<1.5", False, False, True, True),
        ("<=1.5", None, False, True, None),
        (">1.5", True, True, False, False),
        (">=1.5", True, None, None, False),
        ("<1.6", None, None, None, None),
        (">1.4", None, None, None, None),
        ("TRACE", None, None, None, None),
    ],
)
def test_limits_at_just_under_and_just_over(
    text: str, at_least: bool | None, above: bool | None, at_most: bool | None, below: bool | None
) -> None:
    wanted = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    items = [{"id": op, "kind": "inclusion", "text": op, "reference": "-", "rule": value(**{op: 1.5})} for op in wanted]
    criteria = parse_criteria({"protocol": "T", "version": 1, "criteria": items})
    assert evaluate(small_trial(LB=[lab(text)]), criteria).verdicts.select(list(wanted)).row(0, named=True) == wanted


def test_values_are_compared_in_one_unit_or_not_at_all() -> None:
    in_si = {"value": {"test": "CREAT", "unit": "umol/L", "above": 132.5, "window": WINDOW}}
    assert outcome(in_si, LB=[lab("1.5")]) is True, "1.5 mg/dL are 132.6 umol/L"
    assert outcome(in_si, LB=[lab("1.49")]) is False
    assert outcome(in_si, LB=[lab("133", "umol/L")]) is True
    for unit in ("", "furlong", "U/L", "mmHg"):
        assert missing(in_si, LB=[lab("200", unit)]) == "the unit does not convert"
    assert missing(in_si, LB=[lab("high")]) == "the result is no number"


def test_a_value_in_limits_of_its_own_row() -> None:
    rule = {"value": {"test": "ALT", "unit": "ULN", "above": 2, "window": WINDOW}}
    assert outcome(rule, LB=[lab("81", "U/L", test="ALT", LBORNRHI="40")]) is True
    assert outcome(rule, LB=[lab("80", "U/L", test="ALT", LBORNRHI="40")]) is False
    assert missing(rule, LB=[lab("80", "U/L", test="ALT", LBORNRHI="")]) == "the row has no reference limit"


def test_the_result_in_standard_form_helps_where_the_original_is_no_number() -> None:
    row = lab("see report", LBSTRESN=133.0, LBSTRESU="umol/L")
    assert outcome(value(above=1.5), LB=[row]) is True


def test_what_is_missing_is_said_in_words() -> None:
    assert missing(value(above=1)) == "the domain is not delivered"
    assert missing(value(above=1), LB=[lab("1", test="ALT")]) == "no CREAT result within 28 days before screening"
    assert missing(value(above=1), LB=[lab("1", day="2020-02-05")]) == "no CREAT result within 28 days before screening"
    assert (
        missing(value(above=1), LB=[lab("1", LBSTAT="NOT DONE")]) == "no CREAT result within 28 days before screening"
    )
    assert missing(value(above=1), LB=[lab("9", day="2020")]) == "the date is partial or missing"
    nobody = small_trial([{"DMDTC": "2020-03"}], LB=[lab("1")])
    found = evaluate(nobody, one_rule(value(above=1))).evidence["missing"].to_list()
    assert found == ["the day the window starts from is not known"]
    young = small_trial([{"AGE": None}])
    assert evaluate(young, one_rule({"age": {"at_least": 18}})).evidence["missing"].to_list() == ["no age in DM"]


def test_evidence_points_at_the_row() -> None:
    rows = [lab("1.0", day="2020-02-20"), lab("2.0", day="2020-03-01"), lab("9", day="2020-03-08")]
    found = evaluate(small_trial(LB=rows), one_rule(value(above=1.5), kind="exclusion"))
    row = found.evidence.row(0, named=True)
    assert (row["domain"], row["sequence"], row["day"], row["outcome"], row["bars"]) == ("LB", 2, -4, "met", True)
    assert row["value_class"] == "within the limits" and row["missing"] is None


def test_only_facts_that_say_what_the_criterion_says_are_its_evidence() -> None:
    rule = {
        "all": [
            {"any": [{"age": {"at_least": 50}}, {"subject": {"SEX": "M"}}]},
            {"none": [{"age": {"above": 80}}, {"subject": {"SEX": "F"}}]},
        ]
    }
    found = evaluate(small_trial(), one_rule(rule))
    assert found.verdicts["C1"].to_list() == [False]
    assert found.evidence["fact"].to_list() == [4], "S1 is a woman: the second part fails by that alone"


def test_the_last_of_a_day_is_the_later_by_the_clock() -> None:
    rows = [lab("2", day="2020-03-04T15:00"), lab("1", day="2020-03-04T08:00"), lab("1", day="2020-03-04")]
    assert outcome(value(above=1.5), LB=rows) is True
    assert outcome(value(above=1.5, pick="first"), LB=rows[:2]) is False
    assert outcome(value(above=1.5), LB=rows[1:]) is False
    same = [lab("1", day="2020-03-04"), lab("2", day="2020-03-04")]
    assert outcome(value(above=1.5), LB=same) is True, "the higher --SEQ where nothing else tells"


def test_a_partial_date_that_may_be_the_one_sought_leaves_it_open() -> None:
    exact, vague = lab("1", day="2020-02-29"), lab("2", day="2020-02")
    assert missing(value(above=1.5), LB=[exact, vague]).startswith("a row with a partial date may be the one")
    assert outcome(value(above=1.5), LB=[lab("1", day="2020-03-01"), vague]) is False
    assert outcome(value(above=1.5), LB=[exact, lab("1", day="2020-02")]) is False, "it says the same"


def test_any_and_all() -> None:
    rows = [lab("1", day="2020-03-01"), lab("2", day="2020-03-04")]
    assert outcome(value(above=1.5, pick="any"), LB=rows) is True
    assert outcome(value(above=1.5, pick="all"), LB=rows) is False
    assert outcome(value(above=1.5, pick="any"), LB=[rows[0], lab("?", day="2020-03-02")]) is None
    assert outcome(value(above=1.5, pick="all"), LB=[rows[1], lab("?", day="2020-03-02")]) is None


HISTORY = {"domain": "MH", "where": {"MHDECOD": "ASTHMA"}}


def condition(**more: Any) -> dict[str, Any]:
    return {"has": {"domain": "MH", "where": {"MHDECOD": "Asthma"}, **more}}


def history(term: str | None = "ASTHMA", start: str = "2019", **more: Any) -> dict[str, Any]:
    return {"MHDECOD": term, "MHSTDTC": start, "MHDTC": "2020-03-05", **more}


def test_what_no_row_means_is_said_by_the_criterion() -> None:
    other = [history("GOUT")]
    assert outcome(condition(), MH=other) is False
    elsewhere = [history("GOUT", USUBJID="S9")]
    assert missing(condition(), MH=elsewhere) == "no MH rows of the subject"
    assert outcome(condition(absence="closed"), MH=elsewhere) is False
    assert outcome(condition(absence="open"), MH=other) is None
    denied = [history(MHOCCUR="N", MHPRESP="Y")]
    assert outcome(condition(absence="open"), MH=denied) is False
    assert outcome(condition(), MH=denied) is False, "a question that was answered with no is no asthma"


def test_rows_that_may_be_it() -> None:
    assert missing(condition(), MH=[history(None)]) == "the term is not coded"
    assert missing(condition(), MH=[history(MHSTAT="NOT DONE", MHOCCUR="")]) == "the question was not answered"
    assert outcome(condition(), MH=[history(None), history()]) is True, "one for certain is enough"


def test_what_was_recorded_had_begun() -> None:
    window = {"of": "screening"}
    assert outcome(condition(window=window), MH=[history(start="2020")]) is True, "recorded at screening"
    assert outcome(condition(window=window), MH=[history(start="")]) is True
    late = history(start="2020", MHDTC="2020-06-01")
    assert missing(condition(window=window), MH=[late]) == "the date is partial or missing"


def test_a_treatment_going_on_in_a_window() -> None:
    rule = {
        "has": {
            "domain": "CM",
            "where": {"CMDECOD": "TIMOLOL"},
            "window": {"of": "screening", "from": -14, "to": 0, "overlaps": True},
        }
    }

    def taken(start: str, end: str, **more: Any) -> list[dict[str, Any]]:
        return [{"CMDECOD": "TIMOLOL", "CMSTDTC": start, "CMENDTC": end, "CMENRTPT": "", **more}]

    assert outcome(rule, CM=taken("2010", "", CMENRTPT="ONGOING")) is True
    assert outcome(rule, CM=taken("2010", "2020-02-19")) is False, "stopped the day before the window"
    assert outcome(rule, CM=taken("2010", "2020-02-20")) is True
    assert outcome(rule, CM=taken("2010", "2020")) is None
    assert outcome(rule, CM=taken("2010", "")) is None, "nothing says whether it went on"
    assert outcome(rule, CM=taken("2020-03-01", "2020")) is True, "it cannot have ended before it began"
    assert outcome(rule, CM=taken("2020-03-06", "2020-03-09")) is False


def test_counts() -> None:
    rule = {"count": {"domain": "MH", "where": {"MHDECOD": ["ASTHMA", "GOUT"]}, "at_least": 2}}
    assert outcome(rule, MH=[history(), history("GOUT")]) is True
    assert outcome(rule, MH=[history()]) is False
    assert missing(rule, MH=[history(), history(None)]) == "the term is not coded"
    at_most = {"count": {"domain": "MH", "where": {"MHDECOD": "ASTHMA"}, "at_most": 1, "absence": "open"}}
    assert outcome(at_most, MH=[history(), history()]) is False
    assert missing(at_most, MH=[history()]) == "how many MH rows the subject has is not known"


def test_order_in_time() -> None:
    rule = {
        "order": {
            "first": {"domain": "MH", "where": {"MHDECOD": "ASTHMA"}},
            "then": {"domain": "MH", "where": {"MHDECOD": "GOUT"}},
            "least_days": 1,
            "most_days": 31,
        }
    }
    asthma = history(start="2019-05-01")
    assert outcome(rule, MH=[asthma, history("GOUT", "2019-05-02")]) is True
    assert outcome(rule, MH=[asthma, history("GOUT", "2019-06-01")]) is True
    assert outcome(rule, MH=[asthma, history("GOUT", "2019-06-02")]) is False
    assert outcome(rule, MH=[asthma, history("GOUT", "2019-05-01")]) is False
    assert outcome(rule, MH=[asthma, history("GOUT", "2019-05")]) is None
    assert outcome(rule, MH=[asthma]) is False
    alone = {"order": {"first": HISTORY, "then": HISTORY, "least_days": 0}}
    assert outcome(alone, MH=[asthma]) is False, "a row does not follow itself"
    assert outcome(alone, MH=[asthma, asthma]) is True


def test_what_came_after_randomisation_decides_nothing() -> None:
    rule = value(above=1.5)
    rule["value"]["window"] = {"of": "screening", "from": -28, "to": 60}
    rows = [lab("1", day="2020-03-04"), lab("2", day="2020-03-20")]
    entered = {"ARMCD": "A", "RFSTDTC": "2020-03-10"}
    assert evaluate(small_trial([entered], LB=rows), one_rule(rule)).verdicts["C1"].to_list() == [False]
    assert outcome(rule, LB=rows) is True, "a subject who is not randomised is judged on all there is"


def test_the_investigator_decides_where_nothing_else_can() -> None:
    rule = {"investigator": {}}
    subjects = [{"ARMCD": "A", "RFSTDTC": "2020-03-10"}, {"ARMCD": ""}, {"ARMCD": "Scrnfail"}]
    exception = [{"USUBJID": "S3", "IETESTCD": "c1", "IEDTC": "2020-03-05"}]
    trial = small_trial(subjects, IE=exception)
    assert evaluate(trial, one_rule(rule)).verdicts["C1"].to_list() == [True, None, False]
    assert evaluate(trial, one_rule(rule, kind="exclusion")).verdicts["C1"].to_list() == [False, None, True]


def test_a_code_that_never_occurs_is_noted_not_refused() -> None:
    found = evaluate(small_trial(LB=[lab("1", test="CREATIN")]), one_rule(value(above=1)))
    assert found.notes == ("No row of LB has the test code CREAT (there is CREATIN): criteria on it stay unknown.",)
    assert found.outcomes().row(0) == ("C1", "inclusion", 0, 0, 1)


def test_order_of_rows_changes_nothing() -> None:
    rows = [lab("1", day="2020-03-01"), lab("2", day="2020-03-04"), lab("3", day="2020-02-20")]
    trial = small_trial(LB=rows)
    turned = type(trial)("T", {**trial.tables, "LB": trial.table("LB").reverse()}, "digest")
    first, second = (evaluate(t, one_rule(value(above=1.5))) for t in (trial, turned))
    assert first.verdicts.equals(second.verdicts) and first.evidence.equals(second.evidence)
    assert isinstance(first.evidence, pl.DataFrame)
