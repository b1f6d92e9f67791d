"""The reference bundles and bulk files in OMOP CDM 5.4, judged by the published specification itself."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.athena import vocabulary_for
from tests.support.fhir_bundles import resources_in, tables_of
from trialops.intake.fhir_tables import resources_of
from trialops.standards import omop_delta, vocabulary
from trialops.standards.fhir_source import read_fhir
from trialops.standards.omop import build
from trialops.standards.omop_back import back_to_fhir
from trialops.standards.omop_cdm import Cdm
from trialops.stores.digest import table_digest

TYPES = {"integer": int, "float": float, "date": dt.date, "datetime": dt.datetime}


@dataclass(frozen=True)
class Data:
    """Resources, their vocabulary, and both mapped."""

    tables: dict[str, pl.DataFrame]
    words: vocabulary.Vocabulary
    made: Cdm
    plain: Cdm


@pytest.fixture(scope="module", params=["bundles", "bulk"])
def data(request: pytest.FixtureRequest, anchors: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = anchors / "fhir-r4" / request.param
    tables = tables_of(sorted(folder.glob("*.*json")))
    store = tmp_path_factory.mktemp(request.param)
    words = vocabulary.load(vocabulary_for(tables).write(store / "athena"), store / "store")
    return Data(tables, words, build(read_fhir(tables), words), build(read_fhir(tables), vocabulary.none()))


def specification(anchors: Path) -> dict[str, list[dict[str, str]]]:
    """Fields of each table as published."""
    made: dict[str, list[dict[str, str]]] = {}
    with (anchors / "omop-cdm-5.4" / "OMOP_CDMv5.4_Field_Level.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["cdmTableName"]:
                made.setdefault(row["cdmTableName"].lower(), []).append(row)
    return made


def violations(
    tables: dict[str, pl.DataFrame], spec: dict[str, list[dict[str, str]]]
) -> list[tuple[str, str, str, int]]:
    """An independent reading of the specification, value by value in plain Python."""
    rows = {name: tables[name].rows(named=True) if name in tables else [] for name in spec}
    keys = {
        (name, field["cdmFieldName"].lower()): {row[field["cdmFieldName"].lower()] for row in rows[name]}
        for name, fields in spec.items()
        for field in fields
        if field["isPrimaryKey"] == "Yes"
    }
    domains = {row["concept_id"]: row["domain_id"] for row in rows["concept"]}
    found: Counter[tuple[str, str, str]] = Counter()
    for name, fields in spec.items():
        if name in tables:
            assert tables[name].columns == [f["cdmFieldName"].strip('"').lower() for f in fields], name
        for field in fields:
            column, kind = field["cdmFieldName"].strip('"').lower(), field["cdmDatatype"].lower()
            seen = Counter(row[column] for row in rows[name])
            for value, count in seen.items():
                if value is None:
                    if field["isRequired"] == "Yes":
                        found[(name, column, "required")] += count
                    continue
                if kind.startswith("varchar"):
                    length = kind[8:-1]
                    fits = isinstance(value, str) and (length == "max" or len(value) <= int(length))
                else:
                    fits = type(value) is TYPES[kind]
                if not fits:
                    found[(name, column, kind)] += count
                if field["isPrimaryKey"] == "Yes" and count > 1:
                    found[(name, column, "unique")] += count - 1
                if field["isForeignKey"] == "Yes":
                    target = (field["fkTableName"].lower(), field["fkFieldName"].lower())
                    if value not in keys[target]:
                        found[(name, column, "foreign key")] += count
                    wanted = field["fkDomain"].split(", ")
                    if field["fkDomain"] != "NA" and value != 0 and domains.get(value) not in wanted:
                        found[(name, column, f"domain {field['fkDomain']}")] += count
    return [(*key, count) for key, count in sorted(found.items())]


def test_no_violation_of_the_specification(data: Data, anchors: Path) -> None:
    spec = specification(anchors)
    assert sum(len(fields) for fields in spec.values()) == 432
    for made in (data.made, data.plain):
        assert violations(dict(made.tables), spec) == []


def test_the_checker_finds_what_is_wrong(data: Data, anchors: Path) -> None:
    """A checker that finds nothing must be seen to find something."""
    spec = specification(anchors)
    person = data.plain.tables["person"]
    wrong = {
        "required": person.with_columns(year_of_birth=pl.lit(None, pl.Int64)),
        "foreign key": person.with_columns(gender_concept_id=pl.lit(1, pl.Int64)),
        "domain Gender": person.with_columns(gender_concept_id=pl.lit(9201, pl.Int64)),
        "unique": pl.concat([person, person.head(1)]),
        "varchar(50)": person.with_columns(person_source_value=pl.lit("x" * 51)),
        "integer": person.with_columns(pl.col("year_of_birth").cast(pl.Float64)),
    }
    for rule, frame in wrong.items():
        assert rule in {found[2] for found in violations({**data.plain.tables, "person": frame}, spec)}, rule


def test_dispositions_sum_to_the_input(data: Data) -> None:
    read = {kind: frame.height for kind, frame in data.tables.items()}
    for made in (data.made, data.plain):
        given = {row["kind"]: row for row in made.dispositions().iter_rows(named=True)}
        assert {kind: row["read"] for kind, row in given.items()} == read
        for row in given.values():
            assert row["loaded"] + row["quarantined"] + row["ignored"] == row["read"]
            assert all(row[name] >= 0 for name in ("loaded", "quarantined", "ignored"))
        # Counted again from the rows: what is called loaded has left a row.
        loaded = made.provenance.select("kind", "source_id").unique().group_by("kind").len()
        assert dict(loaded.iter_rows()) == {kind: row["loaded"] for kind, row in given.items() if row["loaded"]}
    assert sum(read.values()) in (4118, 4436)


def test_the_bulk_files(anchors: Path) -> None:
    """100 patients, 639 conditions, 3,697 encounters: all are loaded."""
    tables = tables_of(sorted((anchors / "fhir-r4" / "bulk").glob("*.ndjson")))
    made = build(read_fhir(tables), vocabulary.none())
    assert {row[0]: row[2] for row in made.dispositions().iter_rows()} == {
        "Patient": 100,
        "Condition": 639,
        "Encounter": 3697,
    }
    assert made.tables["visit_occurrence"].height == 3697
    assert made.tables["condition_occurrence"].height == 639
    assert made.tables["condition_occurrence"]["visit_occurrence_id"].null_count() == 0
    assert made.tables["person"].height == 100


def test_values_and_dates_against_the_source(data: Data) -> None:
    """Every quantity of the bundles, read with the standard library, is a row with its number, unit and day."""
    if "Observation" not in data.tables:
        pytest.skip("the bulk files have no observations")
    expected: Counter[tuple[Any, ...]] = Counter()
    for text in data.tables["Observation"]["json"]:
        one = json.loads(text)
        for part in (one, *one.get("component", [])):
            if "valueQuantity" in part:
                value = part["valueQuantity"]
                code = part["code"]["coding"][0]["code"]
                expected[(code, float(value["value"]), value["code"], one["effectiveDateTime"][:19])] += 1
    rows = data.plain.tables["measurement"].filter(pl.col("value_as_number").is_not_null())
    more = data.plain.tables["observation"].filter(pl.col("value_as_number").is_not_null())
    found = Counter(
        (row[f"{n}_source_value"], row["value_as_number"], row["unit_source_value"], row[f"{n}_datetime"].isoformat())
        for n, frame in (("measurement", rows), ("observation", more))
        for row in frame.iter_rows(named=True)
    )
    assert expected.total() == 1606
    assert found == expected


def test_incremental_equals_full(data: Data) -> None:
    """Yesterday's data with one day missing, one resource different and one gone, brought up to date."""
    dated = data.tables["Encounter"].with_columns(
        day=pl.col("json").str.extract(r'"period":\{"end":"[^"]*","start":"(\d{4}-\d{2}-\d{2})')
    )
    last = dated["day"].drop_nulls().max()
    yesterday = dict(data.tables)
    yesterday["Encounter"] = dated.filter(pl.col("day") != last).drop("day")
    changed = data.tables["Condition"].with_columns(
        pl.when(pl.int_range(pl.len()) == 3).then(pl.col("json").str.replace("active", "inactive")).otherwise("json"),
        digest=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("0" * 64)).otherwise("digest"),
    )
    extra = (
        data.tables["Patient"]
        .head(1)
        .with_columns(
            id=pl.lit("gone"),
            subject=pl.lit("gone"),
            digest=pl.lit("1" * 64),
            json=pl.col("json").str.replace_all(data.tables["Patient"]["id"][0], "gone"),
        )
    )
    yesterday |= {"Condition": changed, "Patient": pl.concat([data.tables["Patient"], extra])}
    before = build(read_fhir(yesterday), data.words)
    after = omop_delta.update(before, omop_delta.index(yesterday), data.tables, data.words)
    checksums = [
        {n: table_digest(f.to_arrow()) for n, f in {**made.tables, "p": made.provenance, "o": made.outcomes}.items()}
        for made in (before, after, data.made)
    ]
    assert checksums[1] == checksums[2]
    assert checksums[0] != checksums[2]


def test_omop_to_fhir_validates_and_keeps_what_it_had(data: Data) -> None:
    back = back_to_fhir(data.plain)
    assert back.invalid == 0
    originals = {(kind, r["id"]): r for kind, frame in data.tables.items() for r in resources_of(frame)}
    kept: Counter[tuple[str, bool]] = Counter()
    returned = 0
    for kind, frame in back.tables.items():
        for resource in resources_of(frame):
            original = originals.get((kind, resource["id"]))
            if original is None:
                continue
            returned += 1
            for name in COMPARED:
                if name in original:
                    kept[(name, _same(name, original[name], resource.get(name)))] += 1
    wrong = {name: count for (name, same), count in kept.items() if not same}
    assert wrong == {}
    loaded = data.plain.dispositions().filter(pl.col("kind").is_in(sorted(back.tables)))["loaded"].sum()
    assert returned == loaded


COMPARED = (
    *("birthDate", "deceasedDateTime", "gender", "subject", "patient", "encounter", "period"),
    *("onsetDateTime", "abatementDateTime", "effectiveDateTime", "performedPeriod", "authoredOn", "occurrenceDateTime"),
    *("valueQuantity", "valueCodeableConcept", "code", "vaccineCode", "medicationCodeableConcept", "component"),
)


def _same(name: str, before: Any, after: Any) -> bool:
    """Whether an element says the same; of several codings the first has to come back, displays not."""
    if name == "component":
        return len(before) == len(after or []) and all(
            _same(element, one[element], other.get(element))
            for one, other in zip(before, after, strict=True)
            for element in ("code", "valueQuantity", "valueCodeableConcept", "valueString")
            if element in one
        )
    if name in ("subject", "patient", "encounter"):
        return bool(after) and before["reference"] == after["reference"]
    if name == "valueQuantity":
        return bool(after) and all(before.get(k) == after.get(k) for k in ("value", "system", "code"))
    if isinstance(before, dict) and "coding" in before:
        first = before["coding"][0]
        return bool(after) and {"system": first["system"], "code": first["code"]} == {
            k: after["coding"][0][k] for k in ("system", "code")
        }
    return bool(before == after)


def test_a_bundle_is_what_its_file_says(anchors: Path) -> None:
    """The helper that reads the files loses nothing: 4,120 entries, two organisations' worth of them twice."""
    paths = sorted((anchors / "fhir-r4" / "bundles").glob("*.json"))
    entries = [r for path in paths for r in resources_in(path)]
    assert len(entries) == 4120
    assert len({(r["resourceType"], r["id"]) for r in entries}) == 4118
