"""Criteria that are written wrongly are refused: the criterion, the key and what to do are named."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.support.enrolment_trial import lab, one_rule, small_trial
from trialops.errors import TrialOpsError
from trialops.trial.eligibility import evaluate
from trialops.trial.eligibility_criteria import load_criteria, parse_criteria
from trialops.trial.eligibility_rules import leaves
from trialops.trial.study_file import study_file

GOOD: dict[str, Any] = {"value": {"test": "CREAT", "unit": "mg/dL", "above": 1.5}}
HAS: dict[str, Any] = {"has": {"domain": "MH", "where": {"MHDECOD": "ASTHMA"}}}


def changed(rule: dict[str, Any], fact: str, **more: Any) -> dict[str, Any]:
    made = deepcopy(rule)
    made[fact] = {k: v for k, v in {**made[fact], **more}.items() if v is not None}
    return made


WRONG = {
    "unknown fact": ({"hass": {}}, "hass is unknown here", "Did you mean has?"),
    "two facts": ({**GOOD, **HAS}, "has 2 keys", "One of all"),
    "unknown operator": (changed(GOOD, "value", above=None, at_lest=1), "at_lest is unknown here", "at_least"),
    "no limit": (changed(GOOD, "value", above=None), "compares with nothing", "at_least, above"),
    "unknown unit": (changed(GOOD, "value", unit="furlong"), "'furlong' is no unit", "UCUM"),
    "limit as text": (changed(GOOD, "value", above="high"), "must be a whole number or a number", "Correct"),
    "limit as flag": (changed(GOOD, "value", above=True), "must be a whole number or a number", "Correct"),
    "unknown key": (changed(GOOD, "value", windw={}), "windw is unknown here", "Did you mean window?"),
    "unknown pick": (changed(GOOD, "value", pick="latest"), "unknown value 'latest'", "most_recent"),
    "no test": (changed(GOOD, "value", test=None), "test is missing", "Add test"),
    "no rows": ({"has": {"domain": "MH"}}, "where is missing", "which rows"),
    "domain of three": (changed(HAS, "has", domain="MHX"), "no domain", "Two letters"),
    "demographics": (changed(HAS, "has", domain="DM"), "no domain", "use subject"),
    "treatment": (changed(HAS, "has", domain="EX"), "tells the treatment", "No criterion"),
    "drug levels": (changed(GOOD, "value", domain="PC"), "tells the treatment", "No criterion"),
    "arm": ({"subject": {"ARMCD": "A"}}, "ARMCD is unknown here", "One of SEX"),
    "column in lower case": (changed(HAS, "has", where={"mhdecod": "X"}), "no name of an SDTM column", "Upper-case"),
    "injection": (changed(HAS, "has", where={'X" OR 1=1 --': "X"}), "no name of an SDTM column", "Upper-case"),
    "no values": (changed(HAS, "has", where={"MHDECOD": []}), "a list of texts", "quotes"),
    "flag as value": (changed(HAS, "has", where={"MHOCCUR": [False]}), "a list of texts", "quotes"),
    "window backwards": (
        changed(HAS, "has", window={"of": "screening", "from": 5, "to": 0}),
        "is after to",
        "negative",
    ),
    "unknown anchor": (changed(HAS, "has", window={"of": "birth"}), "unknown value 'birth'", "One of screening"),
    "empty group": ({"all": []}, "is empty", "List the parts"),
    "deep": ({"all": [{"none": [changed(GOOD, "value", unit="x y")]}]}, "is no unit", "UCUM"),
    "no mapping": ({"all": ["text"]}, "a mapping is expected", "key: value"),
    "gap backwards": (
        {"order": {"first": HAS["has"], "then": HAS["has"], "least_days": 5, "most_days": 1}},
        "is less than least_days",
        "Exchange",
    ),
    "age unit": ({"age": {"at_least": 5, "unit": "decades"}}, "unknown value 'decades'", "years"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_criterion_and_key(name: str) -> None:
    rule, what, fix = WRONG[name]
    with pytest.raises(TrialOpsError) as caught:
        one_rule(rule)
    assert what in caught.value.what and fix in caught.value.fix
    assert caught.value.where.startswith("criteria: criterion C1.rule")


def test_the_file_itself() -> None:
    item = {"id": "C1", "kind": "inclusion", "text": "t", "reference": "r", "rule": HAS}
    for document, what in (
        ([], "a mapping is expected"),
        ({"protocol": "T", "version": 1, "criteria": []}, "holds no criteria"),
        ({"protocol": "T", "version": 1}, "criteria is missing"),
        ({"protocol": "T", "version": 1, "criteria": [item, item]}, "Two criteria have the id C1"),
        ({"protocol": "T", "version": 1, "criteria": [{**item, "kind": "entry"}]}, "unknown value 'entry'"),
        ({"protocol": "T", "version": 1, "criteria": [{**item, "note": 1}]}, "note is unknown here"),
        ({"protocol": "T", "version": 1, "criteria": [item], "more": 1}, "more is unknown here"),
    ):
        with pytest.raises(TrialOpsError, match=what):
            parse_criteria(document)


def test_columns_are_checked_against_the_tables() -> None:
    trial = small_trial(MH=[{"MHDECOD": "ASTHMA", "MHSTDTC": "2019"}])
    with pytest.raises(TrialOpsError, match="MH has no column MHDECODE") as caught:
        evaluate(trial, one_rule({"has": {"domain": "MH", "where": {"MHDECODE": "ASTHMA"}}}))
    assert "criterion C1, where.MHDECODE" in caught.value.where and caught.value.fix == "Did you mean MHDECOD?"
    with pytest.raises(TrialOpsError, match="DM has no column RACE"):
        evaluate(trial, one_rule({"subject": {"RACE": "WHITE"}}))
    no_number = small_trial(LB=[lab("1")])
    no_number.tables["LB"].drop_in_place("LBSEQ")
    with pytest.raises(TrialOpsError, match="LB has no LBSEQ"):
        evaluate(no_number, one_rule(GOOD))


def test_values_never_become_part_of_the_statement() -> None:
    odd = "X' OR '1'='1"
    trial = small_trial(MH=[{"MHDECOD": odd.upper(), "MHSTDTC": "2019"}])
    assert evaluate(trial, one_rule({"has": {"domain": "MH", "where": {"MHDECOD": odd}}})).verdicts["C1"].to_list() == [
        True
    ]
    assert evaluate(trial, one_rule({"has": {"domain": "MH", "where": {"MHDECOD": "X"}}})).verdicts["C1"].to_list() == [
        False
    ]


def test_the_shipped_criteria_show_every_fact_and_belong_to_the_shipped_study() -> None:
    stated = study_file()
    found = load_criteria(stated.beside(str(stated.eligibility["criteria"])))
    assert found.protocol == stated.number
    kinds = {type(leaf).__name__ for c in found.criteria for leaf in leaves(c.rule)}
    assert kinds >= {"Age", "Has", "Count", "Value", "Order", "Investigator"}
    assert {c.inclusion for c in found.criteria} == {True, False}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("criteria: [")
    for name in ("broken.yaml", "absent.yaml"):
        with pytest.raises(TrialOpsError, match="cannot be read"):
            load_criteria(tmp_path / name)
