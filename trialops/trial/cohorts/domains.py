"""What can be asked of each domain: table, columns and attributes of an OHDSI criterion over OMOP CDM 5.4.

In the SQL of an attribute `c` is the event (its table's columns, and e_start, e_end), `d` the person, `pr` the
provider, `v` the visit, `cs` the care site; `AGE(x)` becomes the age on day x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "date", "text", "concepts", "flag"]


@dataclass(frozen=True)
class Attribute:
    """How an attribute is looked at.

    Attributes:
        kind: What its value is.
        sql: Expression compared with the value; for a flag the condition itself.
        joins: Tables it needs beside the event's.
        exclude: Name of the flag beside it that turns a list of concepts round.
    """

    kind: Kind
    sql: str
    joins: tuple[str, ...] = ()
    exclude: str = ""


@dataclass(frozen=True)
class Domain:
    """A criterion's table.

    Attributes:
        table: Name in the CDM.
        key: Column that tells the rows of a person on one day apart.
        start: First day.
        end: Last day.
        concept: Standard concept.
        source: Source concept; empty where the table has none.
        source_name: Attribute with the concept set of the source concept.
        source_value: Column with the value of the source.
        visit: Column with the visit; empty where the table has none.
        attributes: By name in ATLAS.
    """

    table: str
    key: str
    start: str
    end: str
    concept: str
    attributes: Mapping[str, Attribute]
    source: str = ""
    source_name: str = ""
    source_value: str = ""
    visit: str = "visit_occurrence_id"


AGE = Attribute("number", "AGE(c.e_start)", ("d",))
GENDER = Attribute("concepts", "d.gender_concept_id", ("d",))
STARTED = Attribute("date", "c.e_start")
ENDED = Attribute("date", "c.e_end")
SPECIALTY = Attribute("concepts", "pr.specialty_concept_id", ("pr",))
VISIT_TYPE = Attribute("concepts", "v.visit_concept_id", ("v",))
LENGTH = Attribute("number", "(c.e_end - c.e_start)")
_EVENT = {
    "OccurrenceStartDate": STARTED,
    "Age": AGE,
    "Gender": GENDER,
    "ProviderSpecialty": SPECIALTY,
    "VisitType": VISIT_TYPE,
}
_ERA = {
    "EraStartDate": STARTED,
    "EraEndDate": ENDED,
    "EraLength": LENGTH,
    "AgeAtStart": AGE,
    "AgeAtEnd": Attribute("number", "AGE(c.e_end)", ("d",)),
    "Gender": GENDER,
}
LOW, HIGH = 4155143, 4155142
"""Concepts of a value below and above normal, for `Abnormal`."""


def _type(column: str, name: str) -> Attribute:
    return Attribute("concepts", f"c.{column}", exclude=f"{name}Exclude")


def _concepts(column: str) -> Attribute:
    return Attribute("concepts", f"c.{column}")


def _number(sql: str) -> Attribute:
    return Attribute("number", sql)


DOMAINS: Mapping[str, Domain] = {
    "ConditionOccurrence": Domain(
        "condition_occurrence",
        "condition_occurrence_id",
        "t.condition_start_date",
        "coalesce(t.condition_end_date, t.condition_start_date + 1)",
        "t.condition_concept_id",
        {
            **_EVENT,
            "OccurrenceEndDate": ENDED,
            "ConditionType": _type("condition_type_concept_id", "ConditionType"),
            "ConditionStatus": _concepts("condition_status_concept_id"),
            "StopReason": Attribute("text", "c.stop_reason"),
        },
        "t.condition_source_concept_id",
        "ConditionSourceConcept",
        "condition_source_value",
    ),
    "DrugExposure": Domain(
        "drug_exposure",
        "drug_exposure_id",
        "t.drug_exposure_start_date",
        "coalesce(t.drug_exposure_end_date, t.drug_exposure_start_date + CAST(t.days_supply AS INTEGER), "
        "t.drug_exposure_start_date + 1)",
        "t.drug_concept_id",
        {
            **_EVENT,
            "OccurrenceEndDate": ENDED,
            "DrugType": _type("drug_type_concept_id", "DrugType"),
            "StopReason": Attribute("text", "c.stop_reason"),
            "Refills": _number("c.refills"),
            "Quantity": _number("c.quantity"),
            "DaysSupply": _number("c.days_supply"),
            "RouteConcept": _concepts("route_concept_id"),
            "LotNumber": Attribute("text", "c.lot_number"),
        },
        "t.drug_source_concept_id",
        "DrugSourceConcept",
        "drug_source_value",
    ),
    "Measurement": Domain(
        "measurement",
        "measurement_id",
        "t.measurement_date",
        "t.measurement_date + 1",
        "t.measurement_concept_id",
        {
            **_EVENT,
            "MeasurementType": _type("measurement_type_concept_id", "MeasurementType"),
            "Operator": _concepts("operator_concept_id"),
            "ValueAsNumber": _number("c.value_as_number"),
            "ValueAsConcept": _concepts("value_as_concept_id"),
            "Unit": _concepts("unit_concept_id"),
            "RangeLow": _number("c.range_low"),
            "RangeHigh": _number("c.range_high"),
            "RangeLowRatio": _number("(c.value_as_number / nullif(c.range_low, 0))"),
            "RangeHighRatio": _number("(c.value_as_number / nullif(c.range_high, 0))"),
            "Abnormal": Attribute(
                "flag",
                "(c.value_as_number < c.range_low OR c.value_as_number > c.range_high "
                f"OR c.value_as_concept_id IN ({HIGH}, {LOW}))",
            ),
        },
        "t.measurement_source_concept_id",
        "MeasurementSourceConcept",
        "measurement_source_value",
    ),
    "Observation": Domain(
        "observation",
        "observation_id",
        "t.observation_date",
        "t.observation_date + 1",
        "t.observation_concept_id",
        {
            **_EVENT,
            "ObservationType": _type("observation_type_concept_id", "ObservationType"),
            "ValueAsNumber": _number("c.value_as_number"),
            "ValueAsString": Attribute("text", "c.value_as_string"),
            "ValueAsConcept": _concepts("value_as_concept_id"),
            "Qualifier": _concepts("qualifier_concept_id"),
            "Unit": _concepts("unit_concept_id"),
        },
        "t.observation_source_concept_id",
        "ObservationSourceConcept",
        "observation_source_value",
    ),
    "ProcedureOccurrence": Domain(
        "procedure_occurrence",
        "procedure_occurrence_id",
        "t.procedure_date",
        "t.procedure_date + 1",
        "t.procedure_concept_id",
        {
            **_EVENT,
            "ProcedureType": _type("procedure_type_concept_id", "ProcedureType"),
            "Modifier": _concepts("modifier_concept_id"),
            "Quantity": _number("c.quantity"),
        },
        "t.procedure_source_concept_id",
        "ProcedureSourceConcept",
        "procedure_source_value",
    ),
    "VisitOccurrence": Domain(
        "visit_occurrence",
        "visit_occurrence_id",
        "t.visit_start_date",
        "t.visit_end_date",
        "t.visit_concept_id",
        {
            "OccurrenceStartDate": STARTED,
            "OccurrenceEndDate": ENDED,
            "Age": AGE,
            "Gender": GENDER,
            "ProviderSpecialty": SPECIALTY,
            "VisitType": _type("visit_type_concept_id", "VisitType"),
            "VisitLength": LENGTH,
            "PlaceOfService": Attribute("concepts", "cs.place_of_service_concept_id", ("cs",)),
        },
        "t.visit_source_concept_id",
        "VisitSourceConcept",
        "visit_source_value",
    ),
    "Death": Domain(
        "death",
        "person_id",
        "t.death_date",
        "t.death_date + 1",
        "coalesce(t.cause_concept_id, 0)",
        {
            "OccurrenceStartDate": STARTED,
            "Age": AGE,
            "Gender": GENDER,
            "DeathType": _type("death_type_concept_id", "DeathType"),
        },
        "t.cause_source_concept_id",
        "DeathSourceConcept",
        "cause_source_value",
        "",
    ),
    "DrugEra": Domain(
        "drug_era",
        "drug_era_id",
        "t.drug_era_start_date",
        "t.drug_era_end_date",
        "t.drug_concept_id",
        {**_ERA, "OccurrenceCount": _number("c.drug_exposure_count"), "GapDays": _number("c.gap_days")},
        visit="",
    ),
    "ConditionEra": Domain(
        "condition_era",
        "condition_era_id",
        "t.condition_era_start_date",
        "t.condition_era_end_date",
        "t.condition_concept_id",
        {**_ERA, "OccurrenceCount": _number("c.condition_occurrence_count")},
        visit="",
    ),
    "ObservationPeriod": Domain(
        "observation_period",
        "observation_period_id",
        "t.observation_period_start_date",
        "t.observation_period_end_date",
        "t.period_type_concept_id",
        {
            "PeriodStartDate": STARTED,
            "PeriodEndDate": ENDED,
            "PeriodType": _concepts("period_type_concept_id"),
            "PeriodLength": LENGTH,
            "AgeAtStart": AGE,
            "AgeAtEnd": Attribute("number", "AGE(c.e_end)", ("d",)),
        },
        visit="",
    ),
}

DEMOGRAPHICS: Mapping[str, Attribute] = {
    "Age": Attribute("number", "AGE(p.start_date)", ("d",)),
    "Gender": GENDER,
    "Race": Attribute("concepts", "d.race_concept_id", ("d",)),
    "Ethnicity": Attribute("concepts", "d.ethnicity_concept_id", ("d",)),
    "OccurrenceStartDate": Attribute("date", "p.start_date"),
    "OccurrenceEndDate": Attribute("date", "p.end_date"),
}
"""Attributes of the person at the index event `p`."""

COUNTED = {"DOMAIN_CONCEPT": "a.e_concept", "START_DATE": "a.e_start", "VISIT_ID": "a.e_visit"}
"""What distinct occurrences may be counted by."""
