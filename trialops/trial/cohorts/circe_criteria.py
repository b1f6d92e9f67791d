"""Criteria and groups of criteria of a cohort expression, read from JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trialops.trial.cohorts.circe_node import (
    Node,
    anything,
    concept,
    day,
    day_or_none,
    days,
    flag,
    number,
    one_of,
    plain_text,
    refuse,
    whole,
)
from trialops.trial.cohorts.domains import COUNTED, DEMOGRAPHICS, DOMAINS, Attribute
from trialops.trial.cohorts.expression import (
    ALL_DAYS,
    Concepts,
    Correlated,
    Criterion,
    DateAdjustment,
    DateRange,
    Demographic,
    Endpoint,
    Group,
    NumberRange,
    Occurrence,
    TextFilter,
    Value,
    Window,
)

OPERATORS = ("lt", "lte", "eq", "!eq", "gt", "gte", "bt", "!bt")
TEXT_OPERATORS = ("contains", "startsWith", "endsWith", "!contains", "!startsWith", "!endsWith")


def read_criterion(value: Any, path: str) -> Criterion:
    """A criterion: an object with one key, its domain."""
    if not isinstance(value, Mapping) or len(value) != 1:
        raise refuse(path, "one criterion is needed here, named by its domain")
    name, content = next(iter(value.items()))
    if name not in DOMAINS:
        raise refuse(f"{path}.{name}", f"{name} is not supported; supported are {', '.join(DOMAINS)}")
    domain, place = DOMAINS[name], f"{path}.{name}"
    known = ["CorrelatedCriteria", "DateAdjustment", "IntervalUnit", "First"]
    known += ["CodesetId"] if name != "ObservationPeriod" else ["UserDefinedPeriod"]
    known += [domain.source_name] if domain.source_name else []
    known = [key for key in known if not (key == "First" and name == "Death")]
    node = Node.of(content if content is not None else {}, place, [*known, *_attribute_keys(domain.attributes)])
    if node.get("IntervalUnit", plain_text, "day") != "day":
        raise refuse(node.at("IntervalUnit"), "only days are supported")
    period = Node.of(
        node.get("UserDefinedPeriod", anything, {}), node.at("UserDefinedPeriod"), ("StartDate", "EndDate")
    )
    return Criterion(
        domain=name,
        codeset=node.get("CodesetId", whole, None),
        source_codeset=node.get(domain.source_name, whole, None) if domain.source_name else None,
        first=node.get("First", flag, False),
        attributes=_attributes(node, domain.attributes),
        adjustment=node.get("DateAdjustment", _adjustment, None),
        period_start=period.get("StartDate", day_or_none, None),
        period_end=period.get("EndDate", day_or_none, None),
        correlated=node.get("CorrelatedCriteria", read_group, None),
    )


def _attribute_keys(known: Mapping[str, Attribute]) -> list[str]:
    keys = list(known)
    keys += [f"{name}CS" for name, item in known.items() if item.kind == "concepts"]
    return keys + [item.exclude for item in known.values() if item.exclude]


def _attributes(node: Node, known: Mapping[str, Attribute]) -> tuple[tuple[str, Value], ...]:
    """The attributes that restrict something, in the order of their names."""
    found: dict[str, Value] = {}
    for name, item in known.items():
        if item.kind == "concepts":
            listed = _concepts(node, name, item.exclude)
            if listed is not None:
                found[name] = listed
            selected: Concepts | None = node.get(f"{name}CS", _selection, None)
            if selected is not None:
                found[f"{name}CS"] = selected
        elif name in node.value:
            reader: dict[str, Callable[[Any, str], Value]] = {
                "number": _number_range,
                "date": _date_range,
                "text": _text_filter,
                "flag": flag,
            }
            value = node.need(name, reader[item.kind])
            if value is not False:
                found[name] = value
    return tuple(sorted(found.items()))


def _concepts(node: Node, name: str, exclude: str) -> Concepts | None:
    ids = node.each(name, concept)
    turned = node.get(exclude, flag, False) if exclude else False
    return Concepts(ids=tuple(sorted(set(ids))), exclude=turned) if ids else None


def _selection(value: Any, path: str) -> Concepts | None:
    node = Node.of(value, path, ("CodesetId", "IsExclusion"))
    codeset = node.get("CodesetId", whole, None)
    return None if codeset is None else Concepts(codeset=codeset, exclude=node.get("IsExclusion", flag, False))


def _number_range(value: Any, path: str) -> NumberRange:
    node = Node.of(value, path, ("Value", "Op", "Extent"))
    op = node.need("Op", lambda v, p: one_of(v, p, OPERATORS))
    extent = node.need("Extent", number) if op.endswith("bt") else None
    return NumberRange(op, node.need("Value", number), extent)


def _date_range(value: Any, path: str) -> DateRange:
    node = Node.of(value, path, ("Value", "Op", "Extent"))
    op = node.need("Op", lambda v, p: one_of(v, p, OPERATORS))
    extent = node.need("Extent", day) if op.endswith("bt") else None
    return DateRange(op, node.need("Value", day), extent)


def _text_filter(value: Any, path: str) -> TextFilter:
    node = Node.of(value, path, ("Text", "Op"))
    return TextFilter(node.need("Op", lambda v, p: one_of(v, p, TEXT_OPERATORS)), node.need("Text", plain_text))


def _adjustment(value: Any, path: str) -> DateAdjustment:
    node = Node.of(value, path, ("StartWith", "StartOffset", "EndWith", "EndOffset"))

    def ends(v: Any, p: str) -> str:
        return one_of(v, p, ("START_DATE", "END_DATE"))

    return DateAdjustment(
        node.get("StartWith", ends, "START_DATE"),
        node.get("StartOffset", whole, 0),
        node.get("EndWith", ends, "END_DATE"),
        node.get("EndOffset", whole, 0),
    )


def read_group(value: Any, path: str) -> Group:
    """A group of criteria."""
    node = Node.of(value, path, ("Type", "Count", "CriteriaList", "DemographicCriteriaList", "Groups"))
    kind = node.get("Type", plain_text, "ALL").upper()
    one_of(kind, node.at("Type"), ("ALL", "ANY", "AT_LEAST", "AT_MOST"))
    counted = kind.startswith("AT_")
    return Group(
        type=kind,  # type: ignore[arg-type]
        count=node.need("Count", whole) if counted else 0,
        criteria=node.each("CriteriaList", _correlated),
        demographics=node.each("DemographicCriteriaList", _demographic),
        groups=node.each("Groups", read_group),
    )


def _demographic(value: Any, path: str) -> Demographic:
    node = Node.of(value, path, _attribute_keys(DEMOGRAPHICS))
    return Demographic(_attributes(node, DEMOGRAPHICS))


def _correlated(value: Any, path: str) -> Correlated:
    known = ("Criteria", "StartWindow", "EndWindow", "Occurrence", "RestrictVisit", "IgnoreObservationPeriod")
    node = Node.of(value, path, known)
    criterion = node.need("Criteria", read_criterion)
    same_visit = node.get("RestrictVisit", flag, False)
    occurrence = node.get("Occurrence", _occurrence, Occurrence())
    if not DOMAINS[criterion.domain].visit and (same_visit or occurrence.column == "VISIT_ID"):
        raise refuse(path, f"{criterion.domain} has no visit")
    return Correlated(
        criterion=criterion,
        start_window=node.get("StartWindow", lambda v, p: _window(v, p, event_end=False), ALL_DAYS),
        # An end window without a word about it is about the end of the event.
        end_window=node.get("EndWindow", lambda v, p: _window(v, p, event_end=True), None),
        occurrence=occurrence,
        same_visit=same_visit,
        ignore_observation_period=node.get("IgnoreObservationPeriod", flag, False),
    )


def _window(value: Any, path: str, *, event_end: bool) -> Window:
    node = Node.of(value, path, ("Start", "End", "UseIndexEnd", "UseEventEnd"))
    return Window(
        node.need("Start", _endpoint),
        node.need("End", _endpoint),
        node.get("UseIndexEnd", flag, False),
        node.get("UseEventEnd", flag, event_end),
    )


def _endpoint(value: Any, path: str) -> Endpoint:
    node = Node.of(value, path, ("Days", "TimeUnitValue", "TimeUnit", "Coeff"))
    coeff = node.need("Coeff", whole)
    if coeff not in (-1, 1):
        raise refuse(node.at("Coeff"), "-1 (before) or 1 (after) is needed here")
    return Endpoint(days(node, "Days", "TimeUnitValue", "TimeUnit", None), coeff)


def _occurrence(value: Any, path: str) -> Occurrence:
    node = Node.of(value, path, ("Type", "Count", "IsDistinct", "CountColumn"))
    kind = node.need("Type", whole)
    if kind not in (0, 1, 2):
        raise refuse(node.at("Type"), "0 (exactly), 1 (at most) or 2 (at least) is needed here")
    distinct = node.get("IsDistinct", flag, False)
    column = node.get("CountColumn", lambda v, p: one_of(v, p, tuple(COUNTED)), "DOMAIN_CONCEPT")
    return Occurrence(kind, node.need("Count", whole), distinct, column if distinct else "DOMAIN_CONCEPT")
