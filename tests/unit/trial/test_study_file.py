"""The study file: what is read, and that every slip in it is named."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from trialops.errors import TrialOpsError
from trialops.trial.study_file import parse_study, study_file

LEAST = {"number": "X1", "title": "A trial", "planned_enrolment": 10, "blinded": True}


def test_the_shipped_file_describes_the_synthetic_trial() -> None:
    from trialops.synthetic import protocol as made

    study = study_file()
    assert study.number == made.STUDY and study.protocol["title"] == made.TITLE
    assert study.protocol["treatment_days"] == made.PLANNED_DAYS
    assert study.protocol["follow_up_days"] == made.FOLLOW_UP
    assert [(a["code"], a["name"]) for a in study.protocol["arms"]] == [(code, name) for code, name, _ in made.ARMS]
    assert [(v["number"], v["name"], v["day"]) for v in study.protocol["visits"]] == list(made.VISITS)
    assert study.safety["products"][0]["name"] == made.TREATMENT
    assert study.milestones["dates"]["first_site_activated"]["planned"] == made.FIRST_ACTIVATION
    assert study.blinded


def test_it_is_read_only_and_named_by_its_content() -> None:
    study = parse_study({"protocol": LEAST})
    with pytest.raises(TypeError):
        study.protocol["number"] = "Y"  # type: ignore[index]
    assert study.digest == parse_study({"protocol": dict(reversed(LEAST.items())), "version": 2}).digest
    assert study.digest != parse_study({"protocol": {**LEAST, "planned_enrolment": 11}}).digest
    assert study.sites == {} and study.beside("a/b.yaml").parts[-2:] == ("a", "b.yaml")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"protocol": {**LEAST, "titel": "x"}}, r"protocol.titel is unknown \(did you mean title\?\)"),
        ({"protocol": LEAST, "safty": {}}, r"safty is unknown \(did you mean safety\?\)"),
        ({"protocol": LEAST, "safety": {"products": [{"name": "A"}]}}, r"safety.products\[1\].role is missing"),
        ({"protocol": {**LEAST, "blinded": "yes"}}, "protocol.blinded must be true or false"),
        ({"protocol": {**LEAST, "phase": "2"}}, "protocol.phase must be one of I, I/II"),
        ({"protocol": {**LEAST, "planned_enrolment": None}}, "protocol.planned_enrolment is empty"),
        ({"protocol": LEAST, "sites": {701: {"country": "USA"}}}, "sites.701 must be in quotes"),
        ({"protocol": LEAST, "sites": {"701": {"activated": "2023"}}}, "sites.701.activated must be a day"),
        ({"protocol": LEAST, "milestones": {"dates": {"lsi": {}}}}, "milestones.dates.lsi is unknown"),
        ({"protocol": LEAST, "safety": {"products": "A"}}, "safety.products must be a list"),
        ({"safety": {}}, "protocol is missing"),
        ([], "not a YAML mapping"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_a_slip_is_named(document: object, told: str) -> None:
    with pytest.raises(TrialOpsError, match=told):
        parse_study(document)


def test_every_fault_is_told_at_once_and_a_missing_file_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("protocol: {number: 1, blinded: maybe}\nsende: {}\n")
    with pytest.raises(TrialOpsError) as caught:
        study_file(str(file))
    assert caught.value.where == "mine.yaml" and "5 faults" in caught.value.what
    file.write_text("a: [")
    with pytest.raises(TrialOpsError, match="cannot be read"):
        study_file(str(file))
    with pytest.raises(TrialOpsError, match="cannot be read"):
        study_file(str(tmp_path / "none.yaml"))


def test_a_value_that_is_needed_and_not_stated_says_where() -> None:
    study = parse_study({"protocol": LEAST})
    with pytest.raises(TrialOpsError, match="safety.ind_number"):
        study.require("safety", "ind_number")
    assert study.require("protocol", "planned_enrolment") == 10
    assert study_file().milestones["dates"]["last_subject_in"]["planned"] == date(2024, 1, 31)
