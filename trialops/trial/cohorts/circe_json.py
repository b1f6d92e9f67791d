"""An expression written as cohort-expression JSON: the canonical form that is digested, kept, and read by ATLAS.

What is ours stands in keys that ATLAS leaves aside (`sourceValues`, `studyTreatment`, `StudyDays`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from trialops.stores.digest import document_digest
from trialops.trial.cohorts.domains import DOMAINS
from trialops.trial.cohorts.expression import (
    Concepts,
    ConceptSet,
    Correlated,
    Criterion,
    CustomEra,
    DateOffset,
    DateRange,
    Endpoint,
    Expression,
    Group,
    NumberRange,
    TextFilter,
    Value,
    Window,
)


def digest(expression: Expression) -> str:
    """SHA-256 of the canonical JSON: two definitions that mean the same the same way have one digest."""
    return document_digest(write_expression(expression))


def write_expression(expression: Expression) -> dict[str, Any]:
    """The canonical JSON; reading it gives the same expression."""
    made: dict[str, Any] = {
        "ConceptSets": [_concept_set(item) for item in expression.concept_sets],
        "PrimaryCriteria": {
            "CriteriaList": [_criterion(item) for item in expression.primary],
            "ObservationWindow": {"PriorDays": expression.prior_days, "PostDays": expression.post_days},
            "PrimaryCriteriaLimit": {"Type": expression.primary_limit},
        },
        "QualifiedLimit": {"Type": expression.qualified_limit},
        "ExpressionLimit": {"Type": expression.expression_limit},
        "InclusionRules": [
            {"name": rule.name, "description": rule.description, "expression": _group(rule.group)}
            for rule in expression.rules
        ],
        "CensoringCriteria": [_criterion(item) for item in expression.censoring],
        "CollapseSettings": {"CollapseType": "ERA", "EraPad": expression.era_pad},
        "CensorWindow": _period(expression.censor_start, expression.censor_end),
    }
    if expression.additional is not None:
        made["AdditionalCriteria"] = _group(expression.additional)
    if expression.study_days:
        made["StudyDays"] = True
    if isinstance(expression.end, DateOffset):
        made["EndStrategy"] = {"DateOffset": {"DateField": expression.end.date_field, "Offset": expression.end.offset}}
    elif isinstance(expression.end, CustomEra):
        era: dict[str, Any] = {"DrugCodesetId": expression.end.codeset, "GapDays": expression.end.gap_days}
        era["Offset"] = expression.end.offset
        if expression.end.days_supply is not None:
            era["DaysSupplyOverride"] = expression.end.days_supply
        made["EndStrategy"] = {"CustomEra": era}
    return made


def _period(start: dt.date | None, end: dt.date | None) -> dict[str, str]:
    named = {"StartDate": start, "EndDate": end}
    return {name: day.isoformat() for name, day in named.items() if day is not None}


def _concept_set(item: ConceptSet) -> dict[str, Any]:
    items = [
        {
            "concept": {"CONCEPT_ID": one.concept},
            "isExcluded": one.excluded,
            "includeDescendants": one.descendants,
            "includeMapped": one.mapped,
        }
        for one in item.items
    ]
    made: dict[str, Any] = {"id": item.id, "name": item.name, "expression": {"items": items}}
    if item.source_values:
        made["sourceValues"] = list(item.source_values)
    if item.study_treatment:
        made["studyTreatment"] = True
    return made


def _criterion(item: Criterion) -> dict[str, Any]:
    domain = DOMAINS[item.domain]
    exclude = {name: known.exclude for name, known in domain.attributes.items() if known.exclude}
    made: dict[str, Any] = _attributes(item.attributes, exclude)
    if item.codeset is not None:
        made["CodesetId"] = item.codeset
    if item.source_codeset is not None:
        made[domain.source_name] = item.source_codeset
    if item.first:
        made["First"] = True
    if item.adjustment is not None:
        made["DateAdjustment"] = {
            "StartWith": item.adjustment.start_with,
            "StartOffset": item.adjustment.start_offset,
            "EndWith": item.adjustment.end_with,
            "EndOffset": item.adjustment.end_offset,
        }
    if item.period_start or item.period_end:
        made["UserDefinedPeriod"] = _period(item.period_start, item.period_end)
    if item.correlated is not None:
        made["CorrelatedCriteria"] = _group(item.correlated)
    return {item.domain: made}


def _attributes(attributes: Sequence[tuple[str, Value]], exclude: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in attributes:
        made[name] = _value(value)
        if isinstance(value, Concepts) and value.exclude and value.codeset is None:
            made[exclude[name]] = True
    return made


def _value(value: Value) -> Any:
    if isinstance(value, NumberRange):
        return _range(value.op, value.value, value.extent)
    if isinstance(value, DateRange):
        return _range(value.op, value.value.isoformat(), value.extent.isoformat() if value.extent else None)
    if isinstance(value, TextFilter):
        return {"Text": value.text, "Op": value.op}
    if isinstance(value, Concepts):
        if value.codeset is not None:
            return {"CodesetId": value.codeset, "IsExclusion": value.exclude}
        return [{"CONCEPT_ID": one} for one in value.ids]
    return value


def _range(op: str, value: Any, extent: Any) -> dict[str, Any]:
    return {"Op": op, "Value": value, **({} if extent is None else {"Extent": extent})}


def _group(group: Group) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Type": group.type,
        "CriteriaList": [_correlated(item) for item in group.criteria],
        "DemographicCriteriaList": [_attributes(item.attributes, {}) for item in group.demographics],
        "Groups": [_group(item) for item in group.groups],
    }
    if group.type.startswith("AT_"):
        made["Count"] = group.count
    return made


def _correlated(item: Correlated) -> dict[str, Any]:
    occurrence: dict[str, Any] = {"Type": item.occurrence.type, "Count": item.occurrence.count}
    if item.occurrence.distinct:
        occurrence |= {"IsDistinct": True, "CountColumn": item.occurrence.column}
    made: dict[str, Any] = {
        "Criteria": _criterion(item.criterion),
        "StartWindow": _window(item.start_window),
        "Occurrence": occurrence,
    }
    if item.end_window is not None:
        made["EndWindow"] = _window(item.end_window)
    if item.same_visit:
        made["RestrictVisit"] = True
    if item.ignore_observation_period:
        made["IgnoreObservationPeriod"] = True
    return made


def _window(window: Window) -> dict[str, Any]:
    return {
        "Start": _endpoint(window.start),
        "End": _endpoint(window.end),
        "UseIndexEnd": window.from_index_end,
        "UseEventEnd": window.of_event_end,
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    made: dict[str, Any] = {"Coeff": endpoint.coeff}
    return made if endpoint.days is None else {"Days": endpoint.days, **made}
