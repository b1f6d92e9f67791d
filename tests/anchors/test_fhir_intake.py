"""Ten Synthea patients as bundles and a bulk export of 100: every resource is accounted for, and all are sound R4."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from tests.support.fhir_zone import Zone
from trialops.intake.fhir_account import FhirIntake
from trialops.intake.fhir_tables import patient_of


@dataclass(frozen=True)
class Loaded:
    """What came out of the anchors, twice."""

    zone: Zone
    first: FhirIntake
    second: FhirIntake
    before: dict[str, list[tuple[str, str]]]
    source: Path


@pytest.fixture(scope="module")
def loaded(anchors: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    zone = Zone(tmp_path_factory.mktemp("home"))
    first = zone.deliver(anchors / "fhir-r4")
    before = zone.content()
    return Loaded(zone, first, zone.deliver(anchors / "fhir-r4"), before, anchors / "fhir-r4")


def input_resources(source: Path) -> list[dict[str, object]]:
    """Every resource of the input, read without our intake."""
    found = [
        e["resource"] for p in sorted((source / "bundles").glob("*.json")) for e in json.loads(p.read_text())["entry"]
    ]
    for path in sorted((source / "bulk").glob("*.ndjson")):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return found


def test_dispositions_sum_to_the_input(loaded: Loaded) -> None:
    resources = input_resources(loaded.source)
    assert len(resources) == 8556 == 4120 + 100 + 639 + 3697
    first = loaded.first
    assert first.total("read") == len(resources)
    assert first.total("loaded") + first.total("quarantined") + first.total("ignored") == len(resources)
    # Two clinics share an organisation and a practitioner, written twice; everything else is there once.
    assert dict(first.ignored.select("reason", "rows").iter_rows()) == {"DUPLICATE": 2}
    per_file = first.dispositions.filter(pl.col("read") > 0)
    assert per_file.height == 13


def test_everything_is_sound_r4(loaded: Loaded) -> None:
    assert loaded.first.quarantine.is_empty()
    assert loaded.first.checked == 8554


def test_types_and_ids_are_those_of_the_input(loaded: Loaded) -> None:
    expected = {(r["resourceType"], r["id"]) for r in input_resources(loaded.source)}
    assert {(kind, own) for kind, rows in loaded.before.items() for own, _ in rows} == expected
    assert Counter(kind for kind, _ in expected)["Patient"] == 110


def test_references_inside_the_bundles_lead_to_resources(loaded: Loaded) -> None:
    tables = loaded.zone.tables()
    held = {f"{kind}/{own}" for kind, frame in tables.items() for own in frame["id"]}
    bundles = {k: f.filter(pl.col("_SOURCE").str.starts_with("bundles/")) for k, f in tables.items()}
    assert not any(f["json"].str.contains('"reference":"urn:', literal=True).any() for f in bundles.values())
    references = {
        r
        for frame in bundles.values()
        for text in frame["json"]
        for r in re.findall(r'"reference":"([^"#][^"]*)"', text)
    }
    assert len(references) > 1000 and references <= held
    patients = {patient_of(f"Patient/{own}") for own in tables["Patient"]["id"]}
    personal = pl.concat([f for k, f in tables.items() if k not in ("Organization", "Practitioner")])
    assert personal["subject"].null_count() == 0 and set(personal["subject"]) <= patients


def test_the_same_delivery_again_is_recognised_and_not_checked_again(loaded: Loaded) -> None:
    second = loaded.second
    assert (second.total("loaded"), second.total("ignored"), second.checked) == (0, 8556, 0)
    assert loaded.zone.content() == loaded.before
    assert loaded.zone.zone.held().seq == 1


def test_names_of_patients_stand_in_no_count(loaded: Loaded) -> None:
    names = {
        part.rstrip("0123456789") for p in (loaded.source / "bundles").glob("*.json") for part in p.stem.split("_")[:2]
    }
    said = loaded.first.dispositions.write_csv() + loaded.first.ignored.write_csv()
    assert len(names) == 20 and not [name for name in names if name in said]
