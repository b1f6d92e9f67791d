"""OHDSI cohort-expression JSON (Circe, as ATLAS exports it) read strictly: what is not supported is refused by path.

A key without a value (null) counts as absent. ATLAS carries names and codes of concepts along for display; a concept's
meaning is its id, so those are not read.
"""

from __future__ import annotations

from typing import Any

from trialops.trial.cohorts.circe_criteria import read_criterion, read_group
from trialops.trial.cohorts.circe_node import (
    Node,
    anything,
    concept,
    day_or_none,
    days,
    flag,
    one_of,
    plain_text,
    refuse,
    whole,
)
from trialops.trial.cohorts.expression import ConceptItem, Concepts, ConceptSet, CustomEra, DateOffset, Expression, Rule

KEYS = (
    "Title",
    "cdmVersionRange",
    "PrimaryCriteria",
    "AdditionalCriteria",
    "ConceptSets",
    "QualifiedLimit",
    "ExpressionLimit",
    "InclusionRules",
    "EndStrategy",
    "CensoringCriteria",
    "CollapseSettings",
    "CensorWindow",
    "StudyDays",
)
ERA_KEYS = (
    "DrugCodesetId",
    "GapDays",
    "GapUnit",
    "GapUnitValue",
    "Offset",
    "OffsetUnit",
    "OffsetUnitValue",
    "DaysSupplyOverride",
)
LIMITS = {"first": "First", "last": "Last", "all": "All"}


def read_expression(document: Any, path: str = "$") -> Expression:
    """Read a cohort expression.

    Args:
        document: Parsed JSON.
        path: Where it stands in its file.

    Raises:
        TrialOpsError: Something in it is wrong or not supported; `where` is its path.
    """
    node = Node.of(document, path, KEYS)
    primary = Node.of(
        node.need("PrimaryCriteria", anything),
        node.at("PrimaryCriteria"),
        ("CriteriaList", "ObservationWindow", "PrimaryCriteriaLimit"),
    )
    observed = Node.of(
        primary.get("ObservationWindow", anything, {}), primary.at("ObservationWindow"), ("PriorDays", "PostDays")
    )
    censor = Node.of(node.get("CensorWindow", anything, {}), node.at("CensorWindow"), ("StartDate", "EndDate"))
    found = Expression(
        concept_sets=node.each("ConceptSets", _concept_set),
        primary=primary.each("CriteriaList", read_criterion),
        prior_days=observed.get("PriorDays", whole, 0),
        post_days=observed.get("PostDays", whole, 0),
        primary_limit=primary.get("PrimaryCriteriaLimit", _limit, "First"),
        additional=node.get("AdditionalCriteria", read_group, None),
        qualified_limit=node.get("QualifiedLimit", _limit, "First"),
        rules=node.each("InclusionRules", _rule),
        expression_limit=node.get("ExpressionLimit", _limit, "First"),
        end=node.get("EndStrategy", _end, None),
        censoring=node.each("CensoringCriteria", read_criterion),
        era_pad=node.get("CollapseSettings", _collapse, 0),
        censor_start=censor.get("StartDate", day_or_none, None),
        censor_end=censor.get("EndDate", day_or_none, None),
        study_days=node.get("StudyDays", flag, False),
    )
    if not found.primary:
        raise refuse(primary.at("CriteriaList"), "there is no event that starts a membership")
    if len(found.rules) > 60:
        raise refuse(node.at("InclusionRules"), "more than 60 inclusion rules")
    _check_sets(found, path)
    return found


def _check_sets(found: Expression, path: str) -> None:
    """Every concept set that is named must be there, once."""
    ids = [item.id for item in found.concept_sets]
    for number, one in enumerate(ids):
        if one in ids[:number]:
            raise refuse(f"{path}.ConceptSets[{number}].id", f"a second concept set {one}")
    named = {c for one in found.criteria() for c in (one.codeset, one.source_codeset) if c is not None}
    lists = [v for one in found.criteria() for _, v in one.attributes if isinstance(v, Concepts)]
    lists += [v for one in found.demographics() for _, v in one.attributes if isinstance(v, Concepts)]
    named |= {v.codeset for v in lists if v.codeset is not None}
    if isinstance(found.end, CustomEra):
        named.add(found.end.codeset)
    lost = sorted(named - set(ids))
    if lost:
        raise refuse(f"{path}.ConceptSets", f"concept set {lost[0]} is named in a criterion, but is not among them")


def _limit(value: Any, path: str) -> Any:
    node = Node.of(value, path, ("Type",))
    name = node.get("Type", plain_text, "First")
    if name.lower() not in LIMITS:
        raise refuse(node.at("Type"), "one of First, Last, All is needed here")
    return LIMITS[name.lower()]


def _concept_set(value: Any, path: str) -> ConceptSet:
    node = Node.of(value, path, ("id", "name", "expression", "sourceValues", "studyTreatment"))
    inner = Node.of(node.get("expression", anything, {}), node.at("expression"), ("items", "isExcluded"))
    return ConceptSet(
        id=node.need("id", whole),
        name=node.get("name", plain_text, ""),
        items=inner.each("items", _item),
        source_values=tuple(sorted({text.upper() for text in node.each("sourceValues", plain_text)})),
        study_treatment=node.get("studyTreatment", flag, False),
    )


def _item(value: Any, path: str) -> ConceptItem:
    node = Node.of(value, path, ("concept", "isExcluded", "includeDescendants", "includeMapped"))
    return ConceptItem(
        concept=node.need("concept", concept),
        descendants=node.get("includeDescendants", flag, False),
        mapped=node.get("includeMapped", flag, False),
        excluded=node.get("isExcluded", flag, False),
    )


def _rule(value: Any, path: str) -> Rule:
    node = Node.of(value, path, ("name", "description", "expression"))
    return Rule(
        node.get("name", plain_text, f"Rule at {path}"),
        node.get("description", plain_text, ""),
        node.need("expression", read_group),
    )


def _end(value: Any, path: str) -> DateOffset | CustomEra | None:
    node = Node.of(value, path, ("DateOffset", "CustomEra"))
    if len(node.value) > 1:
        raise refuse(path, "only one way to end a membership can be given")
    return node.get("DateOffset", _offset, None) or node.get("CustomEra", _era, None)


def _offset(value: Any, path: str) -> DateOffset:
    node = Node.of(value, path, ("DateField", "Offset", "OffsetUnit", "OffsetUnitValue"))
    field = node.get("DateField", lambda v, p: one_of(v, p, ("StartDate", "EndDate")), "StartDate")
    return DateOffset(field, days(node, "Offset", "OffsetUnitValue", "OffsetUnit", 0) or 0)  # type: ignore[arg-type]


def _era(value: Any, path: str) -> CustomEra:
    node = Node.of(value, path, ERA_KEYS)
    return CustomEra(
        node.need("DrugCodesetId", whole),
        days(node, "GapDays", "GapUnitValue", "GapUnit", 0) or 0,
        days(node, "Offset", "OffsetUnitValue", "OffsetUnit", 0) or 0,
        node.get("DaysSupplyOverride", whole, None),
    )


def _collapse(value: Any, path: str) -> int:
    node = Node.of(value, path, ("CollapseType", "EraPad", "EraPadUnit", "EraPadUnitValue"))
    node.get("CollapseType", lambda v, p: one_of(v, p, ("ERA",)), "ERA")
    return days(node, "EraPad", "EraPadUnitValue", "EraPadUnit", 0) or 0
