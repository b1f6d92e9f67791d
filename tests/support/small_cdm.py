"""A CDM of a few rows in shorthand, for cohorts worked out by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import polars as pl

from trialops.standards import cdm
from trialops.trial.cohorts.circe import read_expression
from trialops.trial.cohorts.concept_sets import TableOf
from trialops.trial.cohorts.evaluate import CdmTables

YEAR = 2000


def day(text: str | dt.date) -> dt.date:
    """A date from "MM-DD" of the year 2000, or from "YYYY-MM-DD"."""
    if isinstance(text, dt.date):
        return text
    return dt.date.fromisoformat(text if len(text) > 5 else f"{YEAR}-{text}")


def small_cdm(
    *,
    periods: Sequence[tuple[int, str, str]] = ((1, "01-01", "2001-01-01"),),
    conditions: Sequence[tuple[Any, ...]] = (),
    drugs: Sequence[tuple[Any, ...]] = (),
    measurements: Sequence[tuple[Any, ...]] = (),
    visits: Sequence[tuple[Any, ...]] = (),
    deaths: Sequence[tuple[int, str]] = (),
    births: dict[int, int] | None = None,
) -> dict[str, pl.DataFrame]:
    """Tables.

    Args:
        periods: person, first day, last day of observation.
        conditions: person, concept, start, end or None (optional: visit).
        drugs: person, concept, start, end or None (optional: days of supply).
        measurements: person, concept, day, value (optional: range low, range high, unit).
        visits: person, concept, start, end.
        deaths: person, day.
        births: person -> year of birth; 1950 by default.
    """
    persons = sorted({p[0] for p in periods})
    rows: dict[str, list[dict[str, Any]]] = {
        "person": [
            {
                "person_id": p,
                "gender_concept_id": 8532 if p % 2 else 8507,
                "year_of_birth": (births or {}).get(p, 1950),
                "race_concept_id": 0,
                "ethnicity_concept_id": 0,
            }
            for p in persons
        ],
        "observation_period": [
            {
                "observation_period_id": n,
                "person_id": p,
                "observation_period_start_date": day(a),
                "observation_period_end_date": day(b),
                "period_type_concept_id": 0,
            }
            for n, (p, a, b) in enumerate(periods)
        ],
        "condition_occurrence": [
            {
                "condition_occurrence_id": n,
                "person_id": p,
                "condition_concept_id": c,
                "condition_start_date": day(a),
                "condition_end_date": None if b is None else day(b),
                "condition_type_concept_id": 0,
                "visit_occurrence_id": more[0] if more else None,
            }
            for n, (p, c, a, b, *more) in enumerate(conditions)
        ],
        "drug_exposure": [
            {
                "drug_exposure_id": n,
                "person_id": p,
                "drug_concept_id": c,
                "drug_exposure_start_date": day(a),
                "drug_exposure_end_date": None if b is None else day(b),
                "days_supply": more[0] if more else None,
                "drug_type_concept_id": 0,
            }
            for n, (p, c, a, b, *more) in enumerate(drugs)
        ],
        "measurement": [
            {
                "measurement_id": n,
                "person_id": p,
                "measurement_concept_id": c,
                "measurement_date": day(a),
                "value_as_number": v,
                "range_low": more[0] if more else None,
                "range_high": more[1] if len(more) > 1 else None,
                "measurement_type_concept_id": 0,
            }
            for n, (p, c, a, v, *more) in enumerate(measurements)
        ],
        "visit_occurrence": [
            {
                "visit_occurrence_id": n,
                "person_id": p,
                "visit_concept_id": c,
                "visit_start_date": day(a),
                "visit_end_date": day(b),
                "visit_type_concept_id": 0,
            }
            for n, (p, c, a, b) in enumerate(visits)
        ],
        "death": [{"person_id": p, "death_date": day(a)} for p, a in deaths],
    }
    return {
        name: cdm.conform(name, pl.DataFrame(lines, infer_schema_length=None)) if lines else cdm.empty(name)
        for name, lines in rows.items()
    }


def concept_set(number: int, *concepts: int, **more: Any) -> dict[str, Any]:
    """A concept set in JSON."""
    items = [{"concept": {"CONCEPT_ID": c}} for c in concepts]
    return {"id": number, "name": f"set {number}", "expression": {"items": items}, **more}


def expression(*primary: dict[str, Any], limits: str = "All", **more: Any) -> dict[str, Any]:
    """An expression in JSON: every limit alike, sets 1, 2 and 3 of the concepts 1, 2 and 3."""
    return {
        "ConceptSets": [concept_set(n, n) for n in (1, 2, 3)],
        "PrimaryCriteria": {
            "CriteriaList": list(primary),
            "ObservationWindow": {"PriorDays": 0, "PostDays": 0},
            "PrimaryCriteriaLimit": {"Type": limits},
        },
        "QualifiedLimit": {"Type": limits},
        "ExpressionLimit": {"Type": limits},
        **more,
    }


def members(
    tables: dict[str, pl.DataFrame],
    document: dict[str, Any],
    *,
    vocabulary: TableOf | None = None,
    study_days: bool = False,
) -> list[tuple[int, str, str]]:
    """Memberships: person, first and last day as text (the year 2000 left out)."""
    opened = CdmTables(tables, study_days=study_days, vocabulary=vocabulary)
    rows = opened.evaluate(read_expression(document)).members.rows()
    opened.close()
    return [(p, str(a).removeprefix(f"{YEAR}-"), str(b).removeprefix(f"{YEAR}-")) for p, a, b in rows]
