"""A small OMOP database without a fault, for tests that plant one."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl

from trialops.standards import cdm

PERSONS = 40
AS_OF = dt.date(2024, 6, 1)
FEMALE, MALE = 8532, 8507
TYPE = 32817

CONCEPTS = [
    (FEMALE, "Gender", "Gender"),
    (MALE, "Gender", "Gender"),
    (8527, "Race", "Race"),
    (38003564, "Ethnicity", "Ethnicity"),
    (TYPE, "Type Concept", "Type Concept"),
    (9202, "Visit", "Visit"),
    (201826, "Condition", "Disorder"),
    (194696, "Condition", "Disorder"),
    (4090861, "Condition", "Disorder"),
    (4000001, "Condition", "Disorder"),
    (19019073, "Drug", "Clinical Drug"),
    (1125315, "Drug", "Ingredient"),
    (4301351, "Procedure", "Procedure"),
    (3000963, "Measurement", "Lab Test"),
    (8713, "Unit", "Unit"),
    (8840, "Unit", "Unit"),
    (4005823, "Observation", "Clinical Finding"),
    (756265, "Metadata", "CDM"),
    (0, "Metadata", "Undefined"),
]


def _concepts() -> list[dict[str, Any]]:
    valid = {"valid_start_date": dt.date(1970, 1, 1), "valid_end_date": dt.date(2099, 12, 31)}
    return [
        {
            "concept_id": number,
            "concept_name": f"concept {number}",
            "domain_id": domain,
            "vocabulary_id": "T",
            "concept_class_id": name,
            "standard_concept": "S" if number else None,
            "concept_code": str(number),
            **valid,
        }
        for number, domain, name in CONCEPTS
    ]


def _of_person(i: int) -> dict[str, list[dict[str, Any]]]:
    """Rows of a person, by table."""
    begun = dt.date(2022, 1, 3) + dt.timedelta(days=i)
    over = begun + dt.timedelta(days=3)
    own, visit = {"person_id": i}, {"person_id": i, "visit_occurrence_id": 500 + i}
    female = i % 2 == 0
    rows: dict[str, list[dict[str, Any]]] = {
        "person": [
            {
                **own,
                "gender_concept_id": FEMALE if female else MALE,
                "year_of_birth": 1950 + i % 20,
                "race_concept_id": 8527,
                "ethnicity_concept_id": 38003564,
                "gender_source_value": "F" if female else "M",
            }
        ],
        "observation_period": [
            {
                **own,
                "observation_period_id": 1 + i,
                "observation_period_start_date": begun,
                "observation_period_end_date": begun + dt.timedelta(days=200),
                "period_type_concept_id": TYPE,
            }
        ],
        "visit_occurrence": [
            {
                **visit,
                "visit_concept_id": 9202,
                "visit_start_date": begun,
                "visit_end_date": over,
                "visit_type_concept_id": TYPE,
                "visit_source_value": "AMB",
                "visit_source_concept_id": 9202,
            }
        ],
        "condition_occurrence": [
            {
                **visit,
                "condition_occurrence_id": 1 + i,
                "condition_concept_id": 194696 if i % 4 == 0 else 4000001 if i == 3 else 201826,
                "condition_start_date": begun,
                "condition_end_date": over,
                "condition_type_concept_id": TYPE,
                "condition_source_value": "E11" if i % 4 else "N94",
                "condition_source_concept_id": 201826,
            }
        ],
        "condition_era": [
            {
                **own,
                "condition_era_id": 1 + i,
                "condition_concept_id": 201826,
                "condition_era_start_date": begun,
                "condition_era_end_date": over,
            }
        ],
        "drug_exposure": [
            {
                **visit,
                "drug_exposure_id": 1 + i,
                "drug_concept_id": 19019073,
                "drug_exposure_start_date": begun,
                "drug_exposure_end_date": over,
                "drug_type_concept_id": TYPE,
                "quantity": 30.0,
                "days_supply": 30,
                "drug_source_value": "RX1",
                "drug_source_concept_id": 19019073,
            }
        ],
        "drug_era": [
            {
                **own,
                "drug_era_id": 1 + i,
                "drug_concept_id": 1125315,
                "drug_era_start_date": begun,
                "drug_era_end_date": over,
            }
        ],
        "procedure_occurrence": [
            {
                **visit,
                "procedure_occurrence_id": 1 + i,
                "procedure_concept_id": 4301351,
                "procedure_date": begun,
                "procedure_type_concept_id": TYPE,
                "procedure_source_value": "P1",
                "procedure_source_concept_id": 4301351,
            }
        ],
        "measurement": [
            {
                **visit,
                "measurement_id": 1 + 3 * i + k,
                "measurement_concept_id": 3000963,
                "measurement_date": begun + dt.timedelta(days=k),
                "measurement_type_concept_id": TYPE,
                "value_as_number": 13.0 + k,
                "unit_concept_id": 8713,
                "unit_source_value": "g/dL",
                "measurement_source_value": "718-7",
                "measurement_source_concept_id": 3000963,
            }
            for k in range(3)
        ],
        "observation": [
            {
                **visit,
                "observation_id": 1 + i,
                "observation_concept_id": 4005823,
                "observation_date": begun,
                "observation_type_concept_id": TYPE,
                "observation_source_value": "smoker",
            }
        ],
    }
    if i % 10 == 0:
        died = begun + dt.timedelta(days=150)
        rows["death"] = [{**own, "death_date": died, "death_type_concept_id": TYPE}]
    return rows


def omop_database(persons: int = PERSONS) -> dict[str, pl.DataFrame]:
    """All 39 tables; those a small trial does not fill are empty."""
    rows: dict[str, list[dict[str, Any]]] = {"concept": _concepts()}
    for i in range(persons):
        for name, more in _of_person(i).items():
            rows.setdefault(name, []).extend(more)
    rows["concept_ancestor"] = [
        {
            "ancestor_concept_id": 4090861,
            "descendant_concept_id": descendant,
            "min_levels_of_separation": 0,
            "max_levels_of_separation": 1,
        }
        for descendant in (4090861, 4000001)
    ]
    vocabularies = {
        "vocabulary": {"vocabulary_id": "T", "vocabulary_name": "test", "vocabulary_reference": "x"},
        "domain": None,
        "concept_class": None,
    }
    rows["vocabulary"] = [{**vocabularies["vocabulary"], "vocabulary_concept_id": 756265}]  # type: ignore[dict-item]
    for table, column in (("domain", 1), ("concept_class", 2)):
        names = sorted({str(concept[column]) for concept in CONCEPTS})
        rows[table] = [{f"{table}_id": n, f"{table}_name": n, f"{table}_concept_id": 756265} for n in names]
    return {
        name: cdm.conform(name, pl.DataFrame(rows[name], infer_schema_length=None)) if name in rows else cdm.empty(name)
        for name in cdm.spec()
    }
