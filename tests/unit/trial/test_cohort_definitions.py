"""Definitions: what is refused and where, the YAML form, files as ATLAS exports them, versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_cdm import concept_set, expression
from trialops.errors import TrialOpsError
from trialops.stores.objects import open_store
from trialops.trial.cohorts.circe import read_expression
from trialops.trial.cohorts.circe_json import digest, write_expression
from trialops.trial.cohorts.definitions import SHIPPED, definitions, imported, in_folder, keep, read_definition
from trialops.trial.cohorts.expression import Concepts, CustomEra, NumberRange
from trialops.trial.cohorts.yaml_form import to_circe

CONDITION = {"ConditionOccurrence": {"CodesetId": 1}}
WINDOW = {"Start": {"Coeff": -1}, "End": {"Coeff": 1}}


def near(**more: Any) -> dict[str, Any]:
    one = {"Criteria": CONDITION, "StartWindow": WINDOW, "Occurrence": {"Type": 2, "Count": 1}, **more}
    return {"Type": "ALL", "CriteriaList": [one], "DemographicCriteriaList": [], "Groups": []}


RULE = "$.InclusionRules[0].expression.CriteriaList[0]"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (expression({"Specimen": {}}), "$.PrimaryCriteria.CriteriaList[0].Specimen"),
        (expression({"DrugExposure": {"EffectiveDrugDose": {}}}),
         "$.PrimaryCriteria.CriteriaList[0].DrugExposure.EffectiveDrugDose"),
        (expression({"Death": {"First": True}}), "$.PrimaryCriteria.CriteriaList[0].Death.First"),
        (expression({"ObservationPeriod": {"CodesetId": 1}}),
         "$.PrimaryCriteria.CriteriaList[0].ObservationPeriod.CodesetId"),
        (expression(CONDITION, Something=1), "$.Something"),
        (expression(CONDITION, EndStrategy={"Other": {}}), "$.EndStrategy.Other"),
        (expression(CONDITION, EndStrategy={"DateOffset": {"OffsetUnit": "hour", "OffsetUnitValue": 1}}),
         "$.EndStrategy.DateOffset.OffsetUnit"),
        (expression(CONDITION, CollapseSettings={"CollapseType": "NONE"}), "$.CollapseSettings.CollapseType"),
        (expression(CONDITION, CensorWindow={"StartDate": "yesterday"}), "$.CensorWindow.StartDate"),
        (expression(CONDITION, InclusionRules=[{"expression": near(Occurrence={"Type": 3, "Count": 1})}]),
         f"{RULE}.Occurrence.Type"),
        (expression(CONDITION, InclusionRules=[{"expression": near(EndWindow={**WINDOW, "Tail": 1})}]),
         f"{RULE}.EndWindow.Tail"),
        (expression(CONDITION, InclusionRules=[{"expression": near(Criteria={"DrugEra": {}}, RestrictVisit=True)}]),
         RULE),
        (expression(CONDITION, InclusionRules=[{"expression": {"Type": "AT_LEAST"}}]),
         "$.InclusionRules[0].expression.Count"),
        (expression({"ConditionOccurrence": {"CodesetId": 7}}), "$.ConceptSets"),
        (expression({"ConditionOccurrence": {"Age": {"Op": "near", "Value": 3}}}),
         "$.PrimaryCriteria.CriteriaList[0].ConditionOccurrence.Age.Op"),
        (expression({"ConditionOccurrence": {"GenderCS": {"CodesetId": 9}}}), "$.ConceptSets"),
        (expression(), "$.PrimaryCriteria.CriteriaList"),
        ({}, "$.PrimaryCriteria"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_its_path(document: dict[str, Any], path: str) -> None:
    with pytest.raises(TrialOpsError) as error:
        read_expression(document)
    assert error.value.where == path


def test_null_and_empty_lists_restrict_nothing() -> None:
    """As ATLAS writes them: null for what is not set, empty lists of concepts, false flags."""
    plain = read_expression(expression(CONDITION))
    content = {
        "CodesetId": 1,
        "First": None,
        "Gender": [],
        "ConditionTypeExclude": False,
        "Age": None,
        "Specimen": None,
    }
    content.pop("Specimen")
    atlas = expression({"ConditionOccurrence": content}, EndStrategy=None, CensorWindow={}, AdditionalCriteria=None)
    assert read_expression(atlas) == plain and digest(read_expression(atlas)) == digest(plain)


def test_the_digest_is_about_meaning() -> None:
    """Display texts and the order of keys do not count; a bound does."""
    first = expression({"ConditionOccurrence": {"CodesetId": 1, "Age": {"Op": "gt", "Value": 18.0}}})
    second = json.loads(json.dumps(first, sort_keys=True))
    second["ConceptSets"][0]["expression"]["items"][0]["concept"]["CONCEPT_NAME"] = "shown in ATLAS"
    second["PrimaryCriteria"]["CriteriaList"][0]["ConditionOccurrence"]["Age"]["Value"] = 18
    assert digest(read_expression(first)) == digest(read_expression(second))
    second["PrimaryCriteria"]["CriteriaList"][0]["ConditionOccurrence"]["Age"]["Op"] = "gte"
    assert digest(read_expression(first)) != digest(read_expression(second))


YAML = {
    "name": "test",
    "study_days": True,
    "concept_sets": {
        "rash": {"source": ["Rash"], "concepts": [{"id": 1, "descendants": True}, 2]},
        "patch": {"study_treatment": True},
    },
    "entry": {
        "any_of": [{"condition": {"of": "rash", "first": True, "age": "65 to 80", "study_day": "2 to 30"}}],
        "observed": {"before": 7},
    },
    "rules": [
        {
            "name": "exposed",
            "at_least": {
                "count": 1,
                "of": [
                    {"drug": {"of": "patch"}, "occurs": "exactly 2", "within": [-14, 0], "distinct": "start_date"},
                    {"age": ">= 70", "gender": "F"},
                    {"any_of": [{"visit": {}, "same_visit": True, "from": "end", "within": [1, "any"]}]},
                ],
            },
        }
    ],
    "exit": {"while_exposed": "patch", "gap": 7, "extra": 3},
    "censor_at": [{"death": None}],
    "merge_within": 5,
    "between": {"end": "2000-12-31"},
}


def test_the_yaml_form_is_the_same_expression() -> None:
    found = read_expression(to_circe(YAML))
    assert read_expression(write_expression(found)) == found
    rash, patch = found.concept_sets
    assert rash.source_values == ("RASH",) and [i.concept for i in rash.items] == [1, 2] and patch.study_treatment
    entry = found.primary[0]
    assert entry.first and dict(entry.attributes)["Age"] == NumberRange("bt", 65, 80)
    days = dict(entry.attributes)["OccurrenceStartDate"]
    assert (str(days.value), str(days.extent)) == ("2000-01-02", "2000-01-30")  # type: ignore[union-attr]
    group = found.rules[0].group
    exposed, person, inner = group.criteria[0], group.demographics[0], group.groups[0]
    assert (group.type, group.count) == ("AT_LEAST", 1)
    assert (exposed.start_window.start.days, exposed.start_window.start.coeff) == (14, -1)
    assert (exposed.start_window.end.days, exposed.occurrence.type, exposed.occurrence.count) == (0, 0, 2)
    assert exposed.occurrence.distinct and exposed.occurrence.column == "START_DATE"
    assert dict(person.attributes)["Gender"] == Concepts(ids=(8532,))
    assert inner.type == "ANY" and inner.criteria[0].same_visit and inner.criteria[0].start_window.from_index_end
    assert inner.criteria[0].start_window.end.days is None
    assert found.end == CustomEra(1, 7, 3) and found.era_pad == 5 and str(found.censor_end) == "2000-12-31"
    assert found.censoring[0].domain == "Death" and found.study_days and found.prior_days == 7


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"entrance": {}}, "top.entrance"),
        ({"entry": {"any_of": [{"condition": {"severity": "MILD"}}]}}, "entry.any_of[0].condition.severity"),
        ({"entry": {"any_of": [{"condition": {"of": "none"}}]}}, "entry.any_of[0].condition.of"),
        ({"entry": {"any_of": [{"condition": {"age": "about 60"}}]}}, "entry.any_of[0].condition.age"),
        ({"rules": [{"name": "x", "all_of": [{"death": {}, "occurs": "twice"}]}]}, "rules[0].all_of[0].occurs"),
        ({"rules": [{"name": "x", "all_of": [{"death": {}, "within": ["soon", 0]}]}]}, "rules[0].all_of[0].within"),
        ({"exit": {"while_exposed": "other"}}, "exit.while_exposed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faults_in_yaml_are_named(change: dict[str, Any], where: str) -> None:
    with pytest.raises(TrialOpsError) as error:
        to_circe({**YAML, **change}, "file.yaml")
    assert error.value.where == f"file.yaml: {where}"


def test_files_of_atlas_with_and_without_their_frame(tmp_path: Path) -> None:
    content = expression(CONDITION)
    (tmp_path / "Plain One.json").write_text(json.dumps(content))
    framed = {"id": 7, "name": "A title", "description": "Words", "expressionType": "SIMPLE_EXPRESSION"}
    (tmp_path / "framed.json").write_text(json.dumps({**framed, "expression": content}))
    (tmp_path / "text.json").write_text(json.dumps({**framed, "expression": json.dumps(content)}))
    found = {one.name: one for one in in_folder(tmp_path)}
    assert set(found) == {"plain-one", "framed", "text"}
    assert len({one.digest for one in found.values()}) == 1 and len({one.id for one in found.values()}) == 3
    assert found["framed"].title == "A title" and found["text"].description == "Words"
    (tmp_path / "broken.json").write_text(json.dumps({**framed, "expression": {**content, "Other": 1}}))
    with pytest.raises(TrialOpsError) as error:
        in_folder(tmp_path)
    assert error.value.where == "$.expression.Other"


def test_versions_of_imported_definitions(tmp_path: Path) -> None:
    objects = open_store(str(tmp_path))
    assert definitions(objects)[0] == in_folder(SHIPPED)
    one = read_definition(SHIPPED / "treated.yaml")
    assert keep(objects, one, who="a", at="t1") == (1, True)
    assert keep(objects, one, who="b", at="t2") == (1, False)
    changed = read_expression({**write_expression(one.expression), "CollapseSettings": {"EraPad": 3}})
    other = type(one)(one.name, one.title, one.description, one.compare, changed)
    assert keep(objects, other, who="a", at="t3") == (2, True)
    found, source = definitions(objects)
    assert found == imported(objects) == [other] and source == "imported definitions"


def test_a_concept_set_twice_is_refused() -> None:
    document = expression(CONDITION)
    document["ConceptSets"].append(concept_set(2, 5))
    with pytest.raises(TrialOpsError) as error:
        read_expression(document)
    assert error.value.where == "$.ConceptSets[3].id"
