"""MedicalCodingOperator: a status for everything, decisions remembered, nothing dropped."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.support.coding_dictionaries import write_dictionaries
from trialops.errors import TrialOpsError
from trialops.standards.coding import STATUSES, Coded, MedicalCodingOperator
from trialops.standards.dictionaries import load_dictionaries
from trialops.standards.review import ReviewQueue
from trialops.stores.database import connect, migrate
from trialops.synthetic.wordlists import CONDITIONS, DIAGNOSIS

LB = pl.DataFrame(
    {
        "LBTESTCD": ["GLUC", "GLUC", "GLUC", "XQ", "KETONES", "SODIUM"],
        "LBTEST": ["Glucose", "Glucose", "Glucose", "Xylophone", "Ketones", "Sodium"],
        "LBORRES": ["90", "91", "5.0", "1", "NEGATIVE", "140"],
        "LBORRESU": ["mg/dL", "mg/dL", "mmol/L", "mg/dL", "NO UNITS", "mEq/L"],
        "LBCAT": ["CHEMISTRY", "CHEMISTRY", "CHEMISTRY", "CHEMISTRY", "URINALYSIS", ""],
        "LBLOINC": [None, "", "", "", "", "2951-2"],
    }
)
AE = pl.DataFrame({"AETERM": ["HEADACHE", "headache", "queasy feelng", "", None]})
MH = pl.DataFrame({"MHTERM": ["VERBATIM 1", "VERBATIM 2"], "MHDECOD": ["ANOREXIA", "SOMETHING QUITE ELSE"]})
CM = pl.DataFrame({"CMTRT": ["ASPIRIN", "UNHEARD OF"]})


def condition(code: str, onset: str, system: str = "http://hl7.org/fhir/sid/icd-10-cm", text: str = "cough") -> str:
    coding = [{"system": system, "code": code}] if code else []
    return json.dumps({"code": {"coding": coding, "text": text}, "onsetDateTime": onset})


def observation(code: str, unit: str, display: str = "", value: float | None = 1.0) -> str:
    body = {"code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}]}}
    quantity = {"valueQuantity": {"value": value, "code": unit}} if value is not None else {}
    return json.dumps(body | quantity)


def by_text(coded: Coded, kind: str) -> dict[str, tuple[str, str]]:
    return {c.source.verbatim: (c.status, c.code) for c in coded.codings if c.source.kind == kind}


@pytest.fixture
def queue(tmp_path: Path) -> ReviewQueue:
    engine = connect(f"sqlite:///{tmp_path}/coding.db")
    migrate(engine)
    return ReviewQueue(engine, "trial")


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    operator = MedicalCodingOperator(load_dictionaries(write_dictionaries(tmp_path)))
    coded = operator.run({"LB": LB, "AE": AE, "MH": MH, "CM": CM})
    assert {c.status for c in coded.codings} <= set(STATUSES)
    rows = {kind: sum(c.source.rows for c in coded.codings if c.source.kind == kind) for kind in ("lab", "event")}
    assert rows == {"lab": 6, "event": 3}  # two events have no text
    assert coded.table()["rows"].sum() == 6 + 3 + 2 + 2
    for coding in coded.codings:
        assert (coding.status in ("auto", "remembered")) == bool(coding.code)
        assert coding.code or coding.reason


def test_statuses(tmp_path: Path) -> None:
    operator = MedicalCodingOperator(load_dictionaries(write_dictionaries(tmp_path)))
    coded = operator.run({"LB": LB, "AE": AE, "CM": CM})
    labs = [
        (c.source.verbatim, c.source.context["unit"], c.status, c.code) for c in coded.codings if c.source.kind == "lab"
    ]
    assert ("Glucose", "mg/dL", "auto", "2345-7") in labs
    assert ("Glucose", "mmol/L", "auto", "14749-6") in labs
    assert ("Xylophone", "mg/dL", "review", "") in labs
    assert ("Ketones", "NO UNITS", "auto", "2514-8") in labs
    assert ("Sodium", "mEq/L", "auto", "2951-2") in labs
    assert by_text(coded, "event") == {
        "HEADACHE": ("auto", "90000001"),
        "headache": ("auto", "90000001"),
        "queasy feelng": ("review", ""),
    }
    assert by_text(coded, "medication") == {"ASPIRIN": ("auto", "D1"), "UNHEARD OF": ("review", "")}


def test_without_a_dictionary_events_stay_uncoded_with_a_reason() -> None:
    coded = MedicalCodingOperator().run({"ae": AE, "cm": CM})
    assert {c.status for c in coded.codings} == {"rejected"}
    assert {c.reason for c in coded.codings} == {"no MedDRA was given", "no WHODrug was given"}


@pytest.mark.slow
def test_history_is_coded_by_its_words() -> None:
    coded = MedicalCodingOperator().run({"MH": MH})
    assert by_text(coded, "condition") == {"ANOREXIA": ("auto", "R63.0"), "SOMETHING QUITE ELSE": ("review", "")}


@pytest.mark.slow
def test_what_is_taken_from_words_is_the_code_a_site_reported() -> None:
    """The synthesized trial states both: the words (in British spelling) and the ICD-10-CM code."""
    reported = {row[0]: row[2] for row in (DIAGNOSIS, *CONDITIONS)}
    coded = MedicalCodingOperator().run({"MH": pl.DataFrame({"MHTERM": list(reported)})})
    taken = {c.source.verbatim: c.code for c in coded.codings if c.status == "auto"}
    assert len(taken) >= 10
    assert taken == {term: reported[term] for term in taken}


def test_fhir_conditions_by_date() -> None:
    rows = [condition("R05", "2021-09-30"), condition("R05", "2021-10-01"), condition("R05", "2021-09-01T10:00:00Z")]
    rows += [
        condition("r059", "2022"),
        condition("E11", "2022-01-01"),
        condition("123", "2022", "http://snomed.info/sct"),
    ]
    coded = MedicalCodingOperator().run({"Condition": pl.DataFrame({"json": rows})})
    found = {(c.source.code, c.source.day): (c.status, c.code, c.source.rows) for c in coded.codings}
    assert found == {
        ("R05", "2021-07-01"): ("auto", "R05", 2),
        ("R05", "2021-10-01"): ("review", "", 1),
        ("r059", ""): ("auto", "R05.9", 1),
        ("E11", "2022-01-01"): ("review", "", 1),
    }
    waiting = {item.context["code"]: item for item in coded.waiting}
    assert "no longer valid since 2021-10-01" in waiting["R05"].reason
    assert "R05.9" in {candidate.code for candidate in waiting["R05"].candidates}


def test_fhir_observations_are_checked() -> None:
    rows = [
        observation("2345-7", "mg/dL", "Glucose"),
        observation("2345-7", "mmol/L", "Glucose"),
        observation("2345-6", "mg/dL", "Glucose"),
        observation("72166-2", "", "Tobacco smoking status", None),
    ]
    coded = MedicalCodingOperator().run({"clean_fhir/observation": pl.DataFrame({"json": rows})})
    found = {(c.source.code, c.source.context["unit"]): (c.status, c.reason) for c in coded.codings}
    assert found["2345-7", "mg/dL"] == ("auto", "came with the data")
    assert found["2345-7", "mmol/L"][0] == "review" and "contradicts the property MCnc" in found["2345-7", "mmol/L"][1]
    assert found["2345-6", "mg/dL"][0] == "review" and "check digit" in found["2345-6", "mg/dL"][1]
    assert found["72166-2", ""][0] == "auto"


def test_decisions_are_remembered(queue: ReviewQueue) -> None:
    first = MedicalCodingOperator().run({"LB": LB})
    assert queue.add(first.waiting, run_id="r1") == 1
    assert queue.add(first.waiting, run_id="r2") == 0
    item = queue.items()[0]
    assert (item.verbatim, item.state) == ("Xylophone", "open")
    queue.decide(item.item, "accept", actor="ann", reason="meant glucose", code="2345-7", display="Glucose")
    second = MedicalCodingOperator(remembered=queue.decided()).run({"LB": LB})
    coding = next(c for c in second.codings if c.source.verbatim == "Xylophone")
    assert (coding.status, coding.code, coding.reason) == ("remembered", "2345-7", "decided by ann")
    assert second.waiting == []


def test_rejections_are_remembered(queue: ReviewQueue) -> None:
    first = MedicalCodingOperator().run({"LB": LB})
    queue.add(first.waiting)
    queue.decide(queue.items()[0].item, "reject", actor="ann", reason="no such test")
    second = MedicalCodingOperator(remembered=queue.decided()).run({"LB": LB})
    coding = next(c for c in second.codings if c.source.verbatim == "Xylophone")
    assert (coding.status, coding.code) == ("rejected", "") and "no such test" in coding.reason


def test_a_decision_does_not_reach_a_code_that_was_right_on_its_day(queue: ReviewQueue) -> None:
    table = {"Condition": pl.DataFrame({"json": [condition("R05", "2021-09-01"), condition("R05", "2022-01-01")]})}
    first = MedicalCodingOperator().run(table)
    queue.add(first.waiting)
    queue.decide(queue.items()[0].item, "accept", actor="ann", reason="unspecified", code="R05.9", display="Cough")
    second = MedicalCodingOperator(remembered=queue.decided()).run(table)
    assert {c.source.day: (c.status, c.code) for c in second.codings} == {
        "2021-07-01": ("auto", "R05"),
        "2022-01-01": ("remembered", "R05.9"),
    }


def test_same_input_same_table(tmp_path: Path) -> None:
    dictionaries = load_dictionaries(write_dictionaries(tmp_path))
    shuffled = {"LB": LB.reverse(), "AE": AE.reverse()}
    one = MedicalCodingOperator(dictionaries).run({"LB": LB, "AE": AE}).table()
    assert one.equals(MedicalCodingOperator(dictionaries).run(shuffled).table())


def test_empty_tables() -> None:
    coded = MedicalCodingOperator().run({"LB": LB.clear(), "AE": pl.DataFrame({"USUBJID": ["a"]})})
    assert coded.codings == () and coded.table().height == 0


def test_components_are_coded_too() -> None:
    part = json.loads(observation("8480-6", "mm[Hg]", "Systolic blood pressure"))
    body = json.loads(observation("85354-9", "", "Blood pressure", None)) | {"component": [part, part]}
    coded = MedicalCodingOperator().run({"Observation": pl.DataFrame({"json": [json.dumps(body)]})})
    assert {(c.source.code, c.source.rows, c.status) for c in coded.codings} == {
        ("8480-6", 2, "auto"),
        ("85354-9", 1, "auto"),
    }


@pytest.mark.parametrize("text", ["{bad", "[]", '{"code": 5}', '{"valueQuantity": {"value": "a"}}', None])
def test_unreadable_resources_are_named(text: str | None) -> None:
    rows = [observation("2345-7", "mg/dL"), text]
    with pytest.raises(TrialOpsError, match="Resource 2|CodeableConcept"):
        MedicalCodingOperator().run({"Observation": pl.DataFrame({"json": rows})})
