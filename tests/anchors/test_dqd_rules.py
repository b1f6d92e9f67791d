"""Our OMOP rules are the Data Quality Dashboard's: every instantiation, threshold and severity of its CSV files."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trialops.quality.dqd import dqd_data, omop_rules

PREFIX = "OMOP_CDMv5.4_"
FLAGS = {"plausibleValueLow", "plausibleValueHigh", "fkDomain", "fkClass"}
"""Field checks switched on by their value; the others by "Yes"."""
TIMES = {"DATEADD(dd,1,GETDATE())": "tomorrow", "YEAR(GETDATE())+1": "next-year"}
FLOOR = {
    "cdmField": 432,
    "cdmDatatype": 432,
    "measureValueCompleteness": 432,
    "plausibleGender": 287,
    "plausibleUnitConceptIds": 181,
    "isRequired": 180,
    "isForeignKey": 177,
}


@pytest.fixture(scope="module")
def files(anchors: Path) -> dict[str, list[dict[str, str]]]:
    folder = anchors / "ohdsi-dqd-5.4"
    found = {}
    for name in ("Check_Descriptions", "Table_Level", "Field_Level", "Concept_Level"):
        with (folder / f"{PREFIX}{name}.csv").open(newline="") as file:
            found[name] = list(csv.DictReader(file))
    return found


def _argument(check: str, row: dict[str, str]) -> str:
    """What a check is told besides its field, as our rules write it."""
    if check == "cdmDatatype" or check == "cdmField":
        return row["cdmDatatype"].lower()
    if check == "isForeignKey":
        return f"{row['fkTableName']}.{row['fkFieldName']}".lower()
    if check == "sourceValueCompleteness":
        return row["standardConceptFieldName"].lower()
    if check == "plausibleTemporalAfter":
        return f"{row['plausibleTemporalAfterTableName']}.{row['plausibleTemporalAfterFieldName']}".lower()
    if check == "plausibleStartBeforeEnd":
        return row["plausibleStartBeforeEndFieldName"].lower()
    if check in FLAGS:
        value = row[check].strip("'")
        return TIMES.get(value, value)
    return ""


def _expected(files: dict[str, list[dict[str, str]]]) -> Counter[tuple[Any, ...]]:
    severity = {row["checkName"]: row["severity"] for row in files["Check_Descriptions"]}
    found: Counter[tuple[Any, ...]] = Counter()
    for row in files["Table_Level"]:
        name = row["cdmTableName"].lower()
        found[("cdmTable", name, "", "", "", 0.0, severity["cdmTable"])] += 1
        for check in severity:
            if row.get(check) == "Yes" and check != "isRequired":
                found[(check, name, "", "", "", float(row[f"{check}Threshold"]), severity[check])] += 1
    fields = [row["checkName"] for row in files["Check_Descriptions"] if row["checkLevel"] == "FIELD"]
    for row in files["Field_Level"]:
        name, field = row["cdmTableName"].lower(), row["cdmFieldName"].lower()
        for check in fields:
            if check in ("cdmField", "cdmDatatype"):
                on = True
            elif check in FLAGS:
                on = row[check] != "" and (check not in ("fkDomain", "fkClass") or row["isForeignKey"] == "Yes")
            else:
                on = row[check] == "Yes"
            if on:
                threshold = 0.0 if check == "cdmField" else float(row[f"{check}Threshold"])
                found[(check, name, field, "", _argument(check, row), threshold, severity[check])] += 1
    for row in files["Concept_Level"]:
        name, field = row["cdmTableName"].lower(), row["cdmFieldName"].lower()
        for check in ("plausibleGender", "plausibleGenderUseDescendants", "plausibleUnitConceptIds"):
            limit = row[f"{check}Threshold"]
            if limit:
                argument = " ".join(row[check].lower().replace(",", " ").split())
                concept = "+".join(row["conceptId"].replace(",", " ").split())
                found[(check, name, field, concept, argument, float(limit), severity[check])] += 1
    return found


def test_every_instantiation_is_the_dashboards(files: dict[str, list[dict[str, str]]]) -> None:
    ours: Counter[tuple[Any, ...]] = Counter()
    for rule in omop_rules().rules:
        concept = rule.id.rsplit(".", 1)[1] if rule.arguments["level"] == "concept" else ""
        field, argument = rule.arguments.get("column", ""), rule.arguments.get("argument", "")
        ours[(rule.check, rule.domain, field, concept, argument, rule.threshold, rule.severity)] += 1
    expected = _expected(files)
    assert ours - expected == Counter() and expected - ours == Counter()
    counts = Counter(rule.check for rule in omop_rules().rules)
    assert {check: counts[check] for check in FLOOR} == FLOOR
    assert (len(counts), sum(counts.values())) == (27, 2757)


def test_levels_severities_and_categories_are_the_dashboards(files: dict[str, list[dict[str, str]]]) -> None:
    theirs = {
        row["checkName"]: (row["checkLevel"], row["severity"], row["kahnContext"], row["kahnCategory"])
        for row in files["Check_Descriptions"]
    }
    assert {
        name: (level.upper(), severity, context.capitalize(), category.capitalize())
        for name, (_, level, severity, context, category, *_) in dqd_data()["checks"].items()
    } == theirs


def test_no_sentence_of_the_source_is_used(files: dict[str, list[dict[str, str]]]) -> None:
    theirs = {row["checkDescription"].strip().lower() for row in files["Check_Descriptions"]}
    assert not theirs & {str(item[-1]).lower() for item in dqd_data()["checks"].values()}
