"""Small random CDMs and random cohort expressions over them, dense enough that windows, limits and ends matter."""

from __future__ import annotations

import datetime as dt
from random import Random
from typing import Any

import polars as pl

from tests.support.cohort_oracle import Cdm, Row
from trialops.standards import cdm as model

CONCEPTS = (1, 2, 3, 4)
ANCESTORS = ((1, 1), (1, 2), (3, 3), (3, 4))
SOURCES = ("Alpha", "beta", None)
FIRST = dt.date(2000, 1, 1) - dt.timedelta(days=20)
LENGTH = 90
MALE, FEMALE = 8507, 8532


def random_cdm(random: Random, persons: int = 6) -> Cdm:
    """Rows of all tables that criteria look at."""
    made: Cdm = {name: [] for name in TABLES}
    for person in range(1, persons + 1):
        made["person"].append(
            {
                "person_id": person,
                "gender_concept_id": random.choice((MALE, FEMALE)),
                "year_of_birth": random.choice((1930, 1935, 1936, 1960)),
                "race_concept_id": random.choice((8527, 8516)),
                "ethnicity_concept_id": 38003564,
            }
        )
        begun = FIRST + dt.timedelta(days=random.randint(0, 20))
        half = begun + dt.timedelta(days=random.randint(10, 60))
        periods = [(begun, half)]
        if random.random() < 0.5:
            later = half + dt.timedelta(days=random.randint(2, 10))
            periods.append((later, later + dt.timedelta(days=random.randint(0, 40))))
        for first, last in periods:
            made["observation_period"].append(
                {
                    **_own(made, "observation_period", person),
                    "observation_period_start_date": first,
                    "observation_period_end_date": last,
                    "period_type_concept_id": random.choice(CONCEPTS),
                }
            )
        for _ in range(random.randint(0, 3)):
            first, last = _span(random, 6)
            made["visit_occurrence"].append(
                {
                    **_own(made, "visit_occurrence", person),
                    "visit_concept_id": random.choice(CONCEPTS),
                    "visit_start_date": first,
                    "visit_end_date": last,
                    "visit_type_concept_id": random.choice((7, 8)),
                    "visit_source_concept_id": random.choice(CONCEPTS),
                    "visit_source_value": random.choice(SOURCES),
                }
            )
        visits = [v["visit_occurrence_id"] for v in made["visit_occurrence"] if v["person_id"] == person] + [None]
        for _ in range(random.randint(0, 5)):
            first, last = _span(random, 20)
            made["condition_occurrence"].append(
                {
                    **_own(made, "condition_occurrence", person),
                    **_coded(random, "condition"),
                    "condition_start_date": first,
                    "condition_end_date": random.choice((last, None)),
                    "visit_occurrence_id": random.choice(visits),
                }
            )
        for _ in range(random.randint(0, 5)):
            first, last = _span(random, 15)
            made["drug_exposure"].append(
                {
                    **_own(made, "drug_exposure", person),
                    **_coded(random, "drug"),
                    "drug_exposure_start_date": first,
                    "drug_exposure_end_date": random.choice((last, None)),
                    "days_supply": random.choice((None, 0, 5, 10)),
                    "quantity": random.choice((None, 1.0, 2.5)),
                    "refills": random.choice((None, 0, 1)),
                    "visit_occurrence_id": random.choice(visits),
                    "study_treatment": random.random() < 0.3,
                }
            )
        for _ in range(random.randint(0, 7)):
            made["measurement"].append(
                {
                    **_own(made, "measurement", person),
                    **_coded(random, "measurement"),
                    "measurement_date": _span(random, 0)[0],
                    "value_as_number": random.choice((None, 1.0, 2.0, 3.5)),
                    "range_low": random.choice((None, 0.0, 1.0, 2.0)),
                    "range_high": random.choice((None, 2.0, 3.0)),
                    "unit_concept_id": random.choice((None, 5, 6)),
                    "value_as_concept_id": random.choice((None, None, 4155142)),
                    "visit_occurrence_id": random.choice(visits),
                }
            )
        for name in ("observation", "procedure_occurrence"):
            stem = name.split("_")[0]
            for _ in range(random.randint(0, 2)):
                made[name].append(
                    {
                        **_own(made, name, person),
                        **_coded(random, stem),
                        f"{stem}_date": _span(random, 0)[0],
                        "value_as_number": random.choice((None, 1.0, 2.0)),
                        "quantity": random.choice((None, 1, 2)),
                        "visit_occurrence_id": random.choice(visits),
                    }
                )
        for name, stem, count in (("drug_era", "drug", "exposure"), ("condition_era", "condition", "occurrence")):
            for _ in range(random.randint(0, 2)):
                first, last = _span(random, 30)
                made[name].append(
                    {
                        **_own(made, name, person),
                        f"{stem}_concept_id": random.choice(CONCEPTS),
                        f"{name}_start_date": first,
                        f"{name}_end_date": last,
                        f"{stem}_{count}_count": random.randint(1, 3),
                        **({"gap_days": random.randint(0, 3)} if name == "drug_era" else {}),
                    }
                )
        if random.random() < 0.3:
            made["death"].append(
                {
                    "person_id": person,
                    "death_date": _span(random, 0)[0],
                    "death_type_concept_id": random.choice((7, 8)),
                    "cause_concept_id": random.choice((*CONCEPTS, None)),
                    "cause_source_concept_id": random.choice(CONCEPTS),
                    "cause_source_value": random.choice(SOURCES),
                }
            )
    return made


TABLES = (
    "person",
    "observation_period",
    "visit_occurrence",
    "condition_occurrence",
    "drug_exposure",
    "measurement",
    "observation",
    "procedure_occurrence",
    "death",
    "drug_era",
    "condition_era",
)


def as_frames(rows: Cdm) -> dict[str, pl.DataFrame]:
    """The same as tables of the CDM."""
    made = {}
    for name, lines in rows.items():
        frame = pl.DataFrame(lines, infer_schema_length=None) if lines else model.empty(name)
        whole = model.conform(name, frame)
        if name == "drug_exposure" and lines:
            flags = frame.select("drug_exposure_id", "study_treatment")
            whole = whole.join(flags, on="drug_exposure_id", how="left", maintain_order="left")
        made[name] = whole
    return made


def _own(made: Cdm, table: str, person: int) -> Row:
    return {f"{table}_id": 1 + len(made[table]), "person_id": person}


def _coded(random: Random, stem: str) -> Row:
    return {
        f"{stem}_concept_id": random.choice((0, *CONCEPTS)),
        f"{stem}_source_concept_id": random.choice(CONCEPTS),
        f"{stem}_source_value": random.choice(SOURCES),
        f"{stem}_type_concept_id": random.choice((7, 8)),
    }


def _span(random: Random, longest: int) -> tuple[dt.date, dt.date]:
    first = FIRST + dt.timedelta(days=random.randint(0, LENGTH))
    return first, first + dt.timedelta(days=random.randint(0, longest))


# -- expressions -----------------------------------------------------------------------------------------------


def random_expression(random: Random) -> dict[str, Any]:
    """A cohort expression in JSON."""
    made: dict[str, Any] = {
        "ConceptSets": [_concept_set(random, number) for number in range(3)],
        "PrimaryCriteria": {
            "CriteriaList": [_criterion(random, 0) for _ in range(random.choice((1, 1, 2)))],
            "ObservationWindow": {"PriorDays": random.choice((0, 0, 5)), "PostDays": random.choice((0, 0, 7))},
            "PrimaryCriteriaLimit": {"Type": _limit(random)},
        },
        "QualifiedLimit": {"Type": _limit(random)},
        "ExpressionLimit": {"Type": _limit(random)},
        "InclusionRules": [
            {"name": f"rule {n}", "expression": _group(random, 1)} for n in range(random.choice((0, 1, 2)))
        ],
        "CensoringCriteria": [_criterion(random, 1)] if random.random() < 0.3 else [],
        "CollapseSettings": {"CollapseType": "ERA", "EraPad": random.choice((0, 0, 1, 10))},
        "CensorWindow": {},
    }
    if random.random() < 0.3:
        made["AdditionalCriteria"] = _group(random, 1)
    strategy = random.random()
    if strategy < 0.3:
        field = random.choice(("StartDate", "EndDate"))
        made["EndStrategy"] = {"DateOffset": {"DateField": field, "Offset": random.choice((-3, 0, 1, 30))}}
    elif strategy < 0.6:
        era = {
            "DrugCodesetId": random.randint(0, 2),
            "GapDays": random.choice((0, 3, 10)),
            "Offset": random.choice((0, 5)),
        }
        if random.random() < 0.3:
            era["DaysSupplyOverride"] = random.choice((1, 9))
        made["EndStrategy"] = {"CustomEra": era}
    if random.random() < 0.2:
        made["CensorWindow"] = {"StartDate": "2000-01-05", "EndDate": "2000-01-30"}
    return made


def _limit(random: Random) -> str:
    return random.choice(("First", "Last", "All", "All"))


def _concept_set(random: Random, number: int) -> dict[str, Any]:
    items = [
        {
            "concept": {"CONCEPT_ID": random.choice(CONCEPTS)},
            "includeDescendants": random.random() < 0.4,
            "isExcluded": random.random() < 0.15,
        }
        for _ in range(random.choice((1, 2, 3)))
    ]
    made: dict[str, Any] = {"id": number, "name": f"set {number}", "expression": {"items": items}}
    if random.random() < 0.3:
        made["sourceValues"] = [random.choice(("alpha", "BETA"))]
    if random.random() < 0.3:
        made["studyTreatment"] = True
    return made


def _numbers(random: Random, values: tuple[float, ...]) -> dict[str, Any]:
    op = random.choice(("lt", "lte", "eq", "!eq", "gt", "gte", "bt", "!bt"))
    first, last = sorted((random.choice(values), random.choice(values)))
    return {"Op": op, "Value": first, **({"Extent": last} if op.endswith("bt") else {})}


def _days(random: Random) -> dict[str, Any]:
    op = random.choice(("lt", "gte", "bt", "!bt"))
    first, last = sorted(_span(random, 0)[0].isoformat() for _ in range(2))
    return {"Op": op, "Value": first, **({"Extent": last} if op.endswith("bt") else {})}


def _list(random: Random, values: tuple[int, ...]) -> list[dict[str, int]]:
    return [{"CONCEPT_ID": random.choice(values)}]


DOMAINS = (
    "ConditionOccurrence",
    "DrugExposure",
    "Measurement",
    "Measurement",
    "Observation",
    "ProcedureOccurrence",
    "VisitOccurrence",
    "Death",
    "DrugEra",
    "ConditionEra",
    "ObservationPeriod",
)


def _criterion(random: Random, depth: int) -> dict[str, Any]:
    domain = random.choice(DOMAINS)
    made: dict[str, Any] = {}
    if domain != "ObservationPeriod" and random.random() < 0.7:
        made["CodesetId"] = random.randint(0, 2)
    if domain != "Death" and random.random() < 0.3:
        made["First"] = True
    sourced = {
        "ConditionOccurrence": "Condition",
        "DrugExposure": "Drug",
        "Measurement": "Measurement",
        "Observation": "Observation",
        "ProcedureOccurrence": "Procedure",
        "VisitOccurrence": "Visit",
        "Death": "Death",
    }
    if domain in sourced and random.random() < 0.15:
        made[f"{sourced[domain]}SourceConcept"] = random.randint(0, 2)
    ages = (40, 64, 65, 70)
    era = domain.endswith("Era")
    options: list[tuple[str, Any]] = []
    if era or domain == "ObservationPeriod":
        word = "Era" if era else "Period"
        options += [(f"{word}Length", _numbers(random, (0, 5, 20))), (f"{word}StartDate", _days(random))]
        options += [("AgeAtStart", _numbers(random, ages)), ("AgeAtEnd", _numbers(random, ages))]
    else:
        options += [("Age", _numbers(random, ages)), ("OccurrenceStartDate", _days(random))]
    if domain != "ObservationPeriod":
        options.append(("Gender", _list(random, (MALE, FEMALE))))
    if domain in ("ConditionOccurrence", "DrugExposure", "VisitOccurrence"):
        options.append(("OccurrenceEndDate", _days(random)))
    kinds = {
        "ConditionOccurrence": "ConditionType",
        "DrugExposure": "DrugType",
        "Measurement": "MeasurementType",
        "ProcedureOccurrence": "ProcedureType",
        "VisitOccurrence": "VisitType",
        "ObservationPeriod": "PeriodType",
    }
    if domain in kinds:
        values = CONCEPTS if domain == "ObservationPeriod" else (7, 8)
        options.append((kinds[domain], _list(random, values)))
    if domain in ("ConditionOccurrence", "DrugExposure", "Measurement", "Observation", "ProcedureOccurrence"):
        options.append(("VisitType", _list(random, CONCEPTS)))
    if domain == "Measurement":
        options += [
            ("ValueAsNumber", _numbers(random, (1, 2, 3.5))),
            ("RangeLow", _numbers(random, (1, 2))),
            ("RangeHigh", _numbers(random, (2, 3))),
            ("RangeLowRatio", _numbers(random, (0.5, 1, 2))),
            ("RangeHighRatio", _numbers(random, (0.5, 1))),
            ("Unit", _list(random, (5, 6))),
            ("Abnormal", True),
        ]
    if domain == "DrugExposure":
        options += [("DaysSupply", _numbers(random, (0, 5))), ("Quantity", _numbers(random, (1, 2.5)))]
    if era:
        options.append(("OccurrenceCount", _numbers(random, (1, 2))))
    if domain == "DrugEra":
        options.append(("GapDays", _numbers(random, (0, 2))))
    for name, value in random.sample(options, random.choice((0, 0, 1, 2))):
        made[name] = value
        if name in ("ConditionType", "DrugType", "MeasurementType") and random.random() < 0.4:
            made[f"{name}Exclude"] = True
    if random.random() < 0.1:
        made["DateAdjustment"] = {
            "StartWith": random.choice(("START_DATE", "END_DATE")),
            "StartOffset": random.choice((0, 3)),
            "EndWith": random.choice(("START_DATE", "END_DATE")),
            "EndOffset": random.choice((0, 7)),
        }
    if depth < 2 and random.random() < 0.2:
        made["CorrelatedCriteria"] = _group(random, depth + 1)
    return {domain: made}


def _group(random: Random, depth: int) -> dict[str, Any]:
    kind = random.choice(("ALL", "ANY", "AT_LEAST", "AT_MOST"))
    made: dict[str, Any] = {
        "Type": kind,
        "CriteriaList": [_correlated(random, depth) for _ in range(random.choice((0, 1, 1, 2)))],
        "DemographicCriteriaList": [_demographic(random)] if random.random() < 0.4 else [],
        "Groups": [_group(random, depth + 1)] if depth < 3 and random.random() < 0.25 else [],
    }
    if kind.startswith("AT_"):
        made["Count"] = random.choice((0, 1, 2))
    return made


def _demographic(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"Age": _numbers(random, (40, 64, 65, 70))},
            {"Gender": _list(random, (MALE, FEMALE)), "Race": _list(random, (8527, 8516))},
            {"OccurrenceStartDate": _days(random)},
            {"OccurrenceEndDate": _days(random)},
        )
    )


def _endpoint(random: Random, side: int) -> dict[str, Any]:
    coeff = random.choice((side, side, -side))
    return {"Coeff": coeff} if random.random() < 0.3 else {"Days": random.choice((0, 1, 5, 20)), "Coeff": coeff}


def _correlated(random: Random, depth: int) -> dict[str, Any]:
    criterion = _criterion(random, depth)
    visited = next(iter(criterion)) not in ("Death", "DrugEra", "ConditionEra", "ObservationPeriod")
    occurrence: dict[str, Any] = {"Type": random.choice((0, 1, 2)), "Count": random.choice((0, 1, 1, 2))}
    if random.random() < 0.3:
        columns = ("DOMAIN_CONCEPT", "START_DATE", "VISIT_ID") if visited else ("DOMAIN_CONCEPT", "START_DATE")
        occurrence |= {"IsDistinct": True, "CountColumn": random.choice(columns)}
    made: dict[str, Any] = {
        "Criteria": criterion,
        "StartWindow": {
            "Start": _endpoint(random, -1),
            "End": _endpoint(random, 1),
            "UseIndexEnd": random.random() < 0.2,
            "UseEventEnd": random.random() < 0.2,
        },
        "Occurrence": occurrence,
        "IgnoreObservationPeriod": random.random() < 0.3,
    }
    if random.random() < 0.2:
        made["EndWindow"] = {"Start": _endpoint(random, -1), "End": _endpoint(random, 1)}
    if visited and random.random() < 0.15:
        made["RestrictVisit"] = True
    return made
