"""OMOP back to FHIR: valid resources under their own ids, with their codes, dates and values."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fhir_samples import (
    LOINC,
    RXNORM,
    SNOMED,
    about,
    concept,
    encounter,
    measured,
    patient,
    quantity,
    released,
    tables,
)
from trialops.intake.fhir_tables import resources_of
from trialops.standards import omop_back, vocabulary
from trialops.standards.fhir_source import read_fhir
from trialops.standards.omop import build
from trialops.standards.omop_page import returned_page


def there_and_back(*resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Resources by id after FHIR -> OMOP -> FHIR; all of them valid."""
    back = omop_back.back_to_fhir(build(read_fhir(tables(*resources)), vocabulary.none()))
    assert back.faults == []
    assert back.invalid == 0
    return {r["id"]: r for frame in back.tables.values() for r in resources_of(frame)}


def test_observations() -> None:
    pressure = measured(
        "bp",
        code=concept(LOINC, "85354-9"),
        valueQuantity=None,
        component=[
            {"code": concept(LOINC, "8480-6"), "valueQuantity": quantity(120, "mm[Hg]")},
            {"code": concept(LOINC, "8462-4"), "valueQuantity": quantity(80.5, "mm[Hg]")},
        ],
    )
    low = measured(
        "low", valueQuantity={**quantity(5.5, "mmol/L"), "comparator": "<"}, referenceRange=[{"low": {"value": 3}}]
    )
    text = measured("text", valueQuantity=None, valueString="turbid", category=None)
    coded = measured("coded", valueQuantity=None, valueCodeableConcept=concept(SNOMED, "10828004"))
    local = measured("local", valueQuantity={"value": 1, "unit": "drops"}, code={"text": "own test"})
    found = there_and_back(patient(), encounter(), pressure, low, text, coded, local)
    assert [c["valueQuantity"]["value"] for c in found["bp"]["component"]] == [120, 80.5]
    assert found["bp"]["code"]["coding"][0]["code"] == "85354-9"
    assert "valueQuantity" not in found["bp"]
    for original in (low, text, coded):
        same = found[original["id"]]
        for name in (
            "valueQuantity",
            "valueString",
            "valueCodeableConcept",
            "code",
            "effectiveDateTime",
            "encounter",
            "subject",
        ):
            assert same.get(name) == original.get(name), (original["id"], name)
    assert found["low"]["referenceRange"][0]["low"]["value"] == 3
    assert found["local"]["valueQuantity"] == {"value": 1, "unit": "drops"}
    assert found["local"]["code"] == {"text": "own test"}


def test_people_visits_and_places() -> None:
    home = patient(
        birthDate="1950-07",
        deceasedDateTime="2021-02-03T04:05:06+01:00",
        generalPractitioner=[{"reference": "Practitioner/d"}],
        address=[{"line": ["Main St 1"], "city": "X", "state": "MA", "postalCode": "02136", "country": "US"}],
    )
    stay = encounter("stay", serviceProvider={"reference": "Organization/o"}, **{"class": {"code": "IMP"}})
    ward = encounter("ward", partOf={"reference": "Encounter/stay"})
    site = {"resourceType": "Organization", "id": "o", "name": "Clinic"}
    found = there_and_back(home, stay, ward, site, {"resourceType": "Practitioner", "id": "d", "gender": "male"})
    for name in ("gender", "birthDate", "deceasedDateTime", "generalPractitioner", "address"):
        assert found["p1"][name] == home[name]
    assert found["stay"]["period"] == stay["period"]
    assert found["stay"]["class"]["code"] == "IMP"
    assert found["stay"]["serviceProvider"] == {"reference": "Organization/o"}
    assert found["ward"]["partOf"] == {"reference": "Encounter/stay"}
    assert found["o"]["name"] == "Clinic"
    assert found["d"]["gender"] == "male"


@pytest.mark.parametrize(
    "original",
    [
        about(
            "Condition",
            "x",
            clinicalStatus=concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "resolved"),
            code=concept(SNOMED, "38341003"),
            onsetDateTime="2020-01-02",
            abatementDateTime="2020-02-03",
        ),
        about(
            "Procedure", "x", status="completed", code=concept(SNOMED, "1"), performedDateTime="2020-01-02T03:04:05Z"
        ),
        about(
            "Immunization",
            "x",
            status="completed",
            vaccineCode=concept(SNOMED, "1"),
            occurrenceDateTime="2020-01-02",
            lotNumber="L7",
        ),
        about("AllergyIntolerance", "x", code=concept(SNOMED, "1"), onsetDateTime="2020-01-02"),
        about(
            "MedicationRequest",
            "x",
            status="unknown",
            intent="order",
            medicationCodeableConcept=concept(RXNORM, "1"),
            authoredOn="2020-01-02",
            dosageInstruction=[{"text": "one a day"}],
        ),
        about(
            "MedicationAdministration",
            "x",
            status="completed",
            medicationCodeableConcept=concept(RXNORM, "1"),
            effectivePeriod={"start": "2020-01-02", "end": "2020-01-09"},
        ),
        about(
            "MedicationStatement",
            "x",
            status="unknown",
            medicationCodeableConcept={"text": "herbs"},
            effectivePeriod={"start": "2020-01-02", "end": "2020-01-09"},
        ),
    ],
    ids=lambda original: original["resourceType"],
)
def test_events(original: dict[str, Any]) -> None:
    same = there_and_back(patient(), original)["x"]
    assert {name: same.get(name) for name in original} == original


def test_other_types_come_back_as_the_type_of_their_table() -> None:
    event = about("AdverseEvent", "ae", actuality="actual", event={"text": "RASH"}, date="2020-01-02")
    found = there_and_back(patient(), event)["ae"]
    assert (found["resourceType"], found["code"]["text"], found["onsetDateTime"]) == ("Condition", "RASH", "2020-01-02")


def test_study_days_come_back_as_study_days() -> None:
    day = {"extension": [{"url": "urn:trialops:study-day", "valueInteger": -4}]}
    value = measured(effectiveDateTime="2014", _effectiveDateTime=day, encounter=None)
    found = there_and_back(released(), value)
    assert found["o1"]["_effectiveDateTime"] == day
    assert "effectiveDateTime" not in found["o1"]
    assert "birthDate" not in found["p1"]


def test_an_invalid_resource_is_counted_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {
        "Patient": [{"resourceType": "Patient", "id": "p", "gender": "X"}, {"resourceType": "Patient", "id": "q"}]
    }
    monkeypatch.setattr(omop_back, "to_fhir", lambda _: broken)
    back = omop_back.back_to_fhir(build(read_fhir({}), vocabulary.none()))
    assert back.counts == [("Patient", 2, 1, 1)]
    assert back.faults[0][:2] == ("Patient", "Patient.gender")
    page = returned_page(back)
    assert page.verdict is not None
    assert (page.verdict.tone, page.verdict.label) == ("bad", "1 invalid resources")
