"""Seriousness from every criterion, what the sites are asked, and the event table."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.safety_trial import study, subject, trial
from trialops.errors import TrialOpsError
from trialops.safety.blinding import blind
from trialops.safety.events import SafetyEvents, safety_events
from trialops.safety.safety_policy import important_terms, safety_policy


def judged(*events: dict[str, Any], died: dict[int, str] | None = None, **more: Any) -> SafetyEvents:
    made = trial([{"subject": 1, **event} for event in events])
    if died is not None:
        dm = made.table("DM")
        for number, day in died.items():
            who = pl.col("USUBJID") == subject(number)
            dm = dm.with_columns(
                DTHFL=pl.when(who).then(pl.lit("Y")).otherwise("DTHFL"),
                DTHDTC=pl.when(who).then(pl.lit(day)).otherwise("DTHDTC"),
            )
        made = type(made)(made.study, {**made.tables, "DM": dm}, made.source)
    return safety_events(made, safety_policy(study()), **more)


def rules(found: SafetyEvents) -> list[str]:
    return found.queries["rule"].to_list()


FATAL = {"AEOUT": "FATAL", "AEENDTC": "2023-03-04"}


@pytest.mark.parametrize(
    ("event", "state", "basis", "criteria", "asked"),
    [
        ({}, "not serious", "", [], []),
        ({"AESER": "Y", "AESHOSP": "Y"}, "serious", "flag", ["hospitalisation"], []),
        ({"AESER": "Y"}, "serious", "flag", [], ["SAF04"]),
        ({"AESDTH": "Y"}, "serious", "fatal", ["death"], ["SAF01", "SAF07"]),
        (FATAL, "serious", "fatal", ["death"], ["SAF01", "SAF07"]),
        (FATAL | {"AESER": "Y"}, "serious", "flag, fatal", ["death"], ["SAF07"]),
        ({"AESLIFE": "Y"}, "to confirm", "criterion", ["life-threatening"], ["SAF02"]),
        ({"AESHOSP": "Y"}, "to confirm", "criterion", ["hospitalisation"], ["SAF02"]),
        ({"AESDISAB": "Y"}, "to confirm", "criterion", ["disability"], ["SAF02"]),
        ({"AESCONG": "Y"}, "to confirm", "criterion", ["congenital anomaly"], ["SAF02"]),
        ({"AESMIE": "Y"}, "to confirm", "criterion", ["medically important"], ["SAF02"]),
        # Cancer and overdose are no criteria of ICH E2A: the list of important terms decides.
        ({"AESCAN": "Y"}, "not serious", "", [], []),
        ({"AESOD": "Y"}, "not serious", "", [], []),
        (
            {"AEDECOD": "Colon cancer", "AESCAN": "Y"},
            "to confirm",
            "important term",
            ["medically important"],
            ["SAF03"],
        ),
        ({"AESER": None}, "to confirm", "not stated", [], ["SAF05"]),
        ({"AESER": "Y", "AESLIFE": "Y", "AEREL": None}, "serious", "flag", ["life-threatening"], ["SAF08"]),
        ({"AESER": "Y", "AESLIFE": "Y", "AEREL": "WHO KNOWS"}, "serious", "flag", ["life-threatening"], ["SAF09"]),
        ({"AEREL": None}, "not serious", "", [], []),
    ],
)
def test_every_criterion_counts(
    event: dict[str, Any], state: str, basis: str, criteria: list[str], asked: list[str]
) -> None:
    found = judged(event)
    row = found.events.row(0, named=True)
    assert (row["SERIOUS"], row["SERIOUS_BASIS"], row["CRITERIA"]) == (state, basis, criteria)
    assert rules(found) == asked
    severities = dict(zip(found.queries["rule"], found.queries["severity"], strict=True))
    assert all(severities[r] == ("critical" if r in ("SAF01", "SAF06", "SAF07") else "major") for r in asked)


def test_a_death_told_by_demographics_is_the_event_that_ended_in_it() -> None:
    unresolved = {"AEOUT": "NOT RECOVERED/NOT RESOLVED"}
    found = judged(
        {"AEENDTC": "2023-03-09", **unresolved},
        {"AEENDTC": None, **unresolved, "AEDECOD": "COUGH"},
        {"AEENDTC": "2023-03-04", "AEDECOD": "RASH"},
        died={1: "2023-03-09"},
    )
    assert found.events["FATAL"].to_list() == [True, False, False]
    assert found.events["SERIOUS"].to_list() == ["serious", "to confirm", "not serious"]
    assert found.events["SERIOUS_BASIS"].to_list() == ["fatal", "going on at death", ""]
    assert rules(found) == ["SAF01"]


def test_a_death_without_an_event_is_asked_about_the_subject() -> None:
    found = judged({}, died={1: "2023-03-09", 2: "2023-04-01"})
    assert found.events["SERIOUS"].to_list() == ["not serious"]
    asked = found.queries.select("rule", "USUBJID", "domain", "sequence").rows()
    assert asked == [("SAF06", subject(1), "DM", None), ("SAF06", subject(2), "DM", None)]


def test_a_death_in_disposition_counts_like_one_in_demographics() -> None:
    ds = pl.DataFrame({"USUBJID": [subject(1)], "DSDECOD": ["DEATH"], "DSSTDTC": ["2023-03-04"]})
    made = trial([{"subject": 1, "AESDTH": "Y"}], DS=ds)
    found = safety_events(made, safety_policy(study()))
    assert rules(found) == ["SAF01"] and found.events["DIED"].to_list() == [True]


def test_what_the_site_has_answered_settles_doubt_and_never_a_death() -> None:
    made = [{"AESHOSP": "Y"}, {"AESDTH": "Y", "AEDECOD": "COUGH"}]
    answers = pl.DataFrame({"USUBJID": [subject(1)] * 2, "AESEQ": [1.0, 2.0]})
    found = judged(*made, confirmed=answers)
    assert found.events["SERIOUS"].to_list() == ["not serious", "serious"]
    assert found.events["SERIOUS_BASIS"].to_list() == ["confirmed by the site", "fatal"]


def test_the_table_has_both_assessors_side_by_side() -> None:
    sponsor = pl.DataFrame({"USUBJID": [subject(1)], "EVENT": ["SEQ2"], "RELATED": [True]})
    found = judged({"AEREL": "RELATED"}, {"AEREL": "NOT RELATED"}, {"AEREL": ""}, sponsor=sponsor).events
    assert found["RELATED_INVESTIGATOR"].to_list() == [True, False, None]
    assert found["RELATED_SPONSOR"].to_list() == [None, True, None]
    assert found["EVENT"].to_list() == ["SEQ1", "SEQ2", "SEQ3"]


def test_onset_expectedness_emergence_and_grade() -> None:
    found = judged(
        {"AESTDTC": "2023-03", "AETOXGR": "2"},
        {"AESTDTC": "2022-12-31", "AETOXGR": "4"},
        {"AEDECOD": "RASH", "AESTDTC": "2023-03-01", "AETOXGR": None},
    ).events
    assert found["ONSET_EARLIEST"].to_list() == [date(2023, 3, 1), date(2022, 12, 31), date(2023, 3, 1)]
    assert found["ONSET_LATEST"].to_list()[0] == date(2023, 3, 31)
    assert found["EXPECTED"].to_list() == [True, False, False]
    assert found["TEAE"].to_list() == [True, False, True]
    assert found["GRADE"].to_list() == [2, 4, None]
    assert found["LIFE_THREATENING"].to_list() == [False, True, False], "grade 4 is life-threatening"


def test_nothing_of_it_needs_the_treatment() -> None:
    made = trial([{"subject": n, "AESHOSP": "Y"} for n in range(1, 10)])
    policy = safety_policy(study())
    open_, blinded = safety_events(made, policy), safety_events(blind(made), policy)
    assert open_.events.equals(blinded.events) and open_.queries.equals(blinded.queries)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("# a comment\nPancreatitis acute\n\nSeizure\n", {"PANCREATITIS ACUTE", "SEIZURE"}),
        ("MedDRA Code;PT Name;SOC Name\n10033647;Pancreatitis acute;Gastro\n", {"PANCREATITIS ACUTE"}),
        (
            "Important medical events\nMedDRA Code\tPT Name\n1\tSeizure, partial\n2\tComa\n",
            {"SEIZURE, PARTIAL", "COMA"},
        ),
        ('code,"Preferred Term"\n1,"Sepsis, neonatal"\n', {"SEPSIS, NEONATAL"}),
        ("Seizure, with comma\n", {"SEIZURE, WITH COMMA"}),
    ],
)
def test_a_licensed_list_is_loaded_from_what_it_is_exported_as(tmp_path: Path, text: str, terms: set[str]) -> None:
    (tmp_path / "list.csv").write_text(text)
    assert important_terms(tmp_path / "list.csv") == terms


def test_a_list_that_is_empty_or_missing_is_said(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(TrialOpsError, match="empty"):
        important_terms(tmp_path / "list.txt")
    with pytest.raises(TrialOpsError, match="cannot be read"):
        important_terms(tmp_path / "none.txt")


def test_the_policy_says_what_it_is_made_of() -> None:
    policy = safety_policy(study())
    assert policy.digest != safety_policy(study(time_zone="UTC")).digest
    assert policy.digest != safety_policy(study(causality={"related": ["A"], "not_related": ["B"]})).digest
    assert policy.digest == safety_policy(study()).digest
    with pytest.raises(TrialOpsError, match="both ways"):
        safety_policy(study(causality={"related": ["POSSIBLE"], "not_related": ["possible"]}))
    with pytest.raises(TrialOpsError, match="time zone"):
        safety_policy(study(time_zone="Mars/Olympus"))
