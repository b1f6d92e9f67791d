"""A few FHIR resources, as short as they can be, for tests of the mapping."""

from __future__ import annotations

from typing import Any

import polars as pl

from trialops.intake.fhir_tables import to_tables

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
UCUM = "http://unitsofmeasure.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
Resource = dict[str, Any]


def concept(system: str, code: str, text: str | None = None) -> Resource:
    """A CodeableConcept."""
    return {"coding": [{"system": system, "code": code}], **({"text": text} if text else {})}


def quantity(value: float, unit: str) -> Resource:
    """A Quantity in UCUM."""
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def patient(key: str = "p1", **more: Any) -> Resource:
    """A woman born in 1950."""
    return {"resourceType": "Patient", "id": key, "gender": "female", "birthDate": "1950-03-04", **more}


def released(key: str = "p1", age: int = 63, **more: Any) -> Resource:
    """A patient as Safe Harbor leaves one: a year of birth, and the age on day 1 beside it."""
    beside = {"extension": [{"url": "urn:trialops:age", "valueInteger": age}]}
    return patient(key, birthDate="1950", _birthDate=beside, **more)


def about(kind: str, key: str, subject: str = "p1", **more: Any) -> Resource:
    """A resource about a patient."""
    element = "patient" if kind in ("Immunization", "AllergyIntolerance") else "subject"
    return {"resourceType": kind, "id": key, element: {"reference": f"Patient/{subject}"}, **more}


def encounter(key: str = "e1", subject: str = "p1", day: str = "2020-05-01", **more: Any) -> Resource:
    """An ambulatory encounter of one day."""
    period = {"start": f"{day}T08:00:00+02:00", "end": f"{day}T09:00:00+02:00"}
    made = {"status": "finished", "class": {"code": "AMB"}, "period": period, **more}
    return about("Encounter", key, subject, **made)


def measured(key: str = "o1", subject: str = "p1", **more: Any) -> Resource:
    """A glucose of 5.5 mmol/L at an encounter."""
    made = {
        "status": "final",
        "category": [concept(CATEGORY, "laboratory")],
        "code": concept(LOINC, "2345-7"),
        "encounter": {"reference": "Encounter/e1"},
        "effectiveDateTime": "2020-05-01T08:30:00+02:00",
        "valueQuantity": quantity(5.5, "mmol/L"),
        **more,
    }
    return about("Observation", key, subject, **{name: value for name, value in made.items() if value is not None})


def tables(*resources: Resource) -> dict[str, pl.DataFrame]:
    """Resource tables."""
    return to_tables(resources)
