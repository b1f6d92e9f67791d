"""Patient data ingestion end to end: a whole delivery, then the same with an addition and a FHIR server beside it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.local.main_job import Home, states
from tests.support.fhir_server import FhirData, serve
from trialops.settings import Settings
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot
from trialops.stores.sealed import unseal
from trialops.stores.vault import open_vault
from trialops.synthetic import generate

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Ingested:
    """A delivery, the same with a correction and a server beside it, and what both runs left."""

    home: Home
    source: Path
    first: dict[str, Any]
    second: dict[str, Any]
    resources: list[dict[str, Any]]

    def step(self, run: dict[str, Any], name: str) -> dict[str, Any]:
        """Record of a step."""
        return json.loads((self.home.path / "runs" / run["run_id"] / "steps" / name / "record.json").read_text())

    def read(self, run: dict[str, Any], step: str, artifact: str) -> dict[str, pl.DataFrame]:
        """Tables a step wrote."""
        snapshot = Snapshot.from_dict(json.loads(self.home.output(run["run_id"], step, artifact).read_text()))
        lake = Lake(str(self.home.path / "lake"), open_store(str(self.home.path)))
        return {name: lake.read(ref) for name, ref in snapshot.tables.items()}

    def held(self, run: dict[str, Any]) -> dict[str, pl.DataFrame]:
        """FHIR tables a run's intake handed on."""
        document = json.loads(self.home.output(run["run_id"], "ingest-fhir", "raw").read_text())
        vault = open_vault(Settings(home=self.home.path))
        return unseal(document, vault=vault, objects=open_store(str(self.home.path)))

    def pseudonym(self, patient: str) -> str:
        """What the patient is called in clean tables."""
        number = next(
            r["identifier"][0]["value"]
            for r in self.resources
            if r["resourceType"] == "ResearchSubject" and r["individual"]["reference"] == f"Patient/{patient}"
        )
        return open_vault(Settings(home=self.home.path)).pseudonym("subject", number)


def ingest(home: Home, source: Path, *more: str) -> dict[str, Any]:
    done = home.trialops("run", "patient_data_ingestion", "--source", str(source), *more)
    assert done.returncode == 0, done.stdout + done.stderr
    return home.run()


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    folder = tmp_path_factory.mktemp("patient data")
    source = folder / "delivery"
    generate(source, subjects=6, sites=2, seed=3)
    home = Home(folder / "home")
    first = ingest(home, source)
    lines = (source / "fhir" / "bundle-0000.ndjson").read_text().splitlines()
    return Ingested(home, source, first, {}, [e["resource"] for line in lines for e in json.loads(line)["entry"]])


@pytest.fixture(scope="module")
def ingested(delivered: Ingested) -> Ingested:
    home, source, resources = delivered.home, delivered.source, delivered.resources
    # A day later the folder has one more file: a weight corrected, and a line that is broken.
    weight = next(r for r in resources if r["resourceType"] == "Observation" and r["code"]["text"] == "WEIGHT")
    corrected = {**weight, "status": "corrected", "meta": {"versionId": "2", "lastUpdated": "2026-02-01T00:00:00Z"}}
    addition = json.dumps(corrected) + '\n{"resourceType":"Patient","id":"sacr\n'
    (source / "fhir" / "bundle-0001.ndjson").write_text(addition)
    # And a server is asked too: it has a patient who gave no consent, and the refusal of one who had given it.
    permits = [r for r in resources if r["resourceType"] == "Consent" and r["status"] == "active"]
    refusal = {**permits[0], "id": "refusal", "status": "rejected", "dateTime": "2026-02-01"}
    data = FhirData()
    data.put({"resourceType": "Patient", "id": "silent", "gender": "other"}, "2026-02-01T00:00:00Z")
    data.put(refusal, "2026-02-01T00:00:00Z")
    with serve(data) as server:
        second = ingest(home, source, "--set", f"server={server.url}")
    return replace(delivered, second=second, resources=[*resources, corrected, refusal])


def test_every_branch_ran_and_every_item_is_counted(delivered: Ingested) -> None:
    ran = {name: state for name, state in states(delivered.first).items() if state == "ran"}
    expected = {"find-sdtm", "ingest-sdtm", "check-consent", "deidentify", "ingest-hl7", "deidentify-labs", "find-fhir",
                "ingest-fhir", "deidentify-fhir"}  # fmt: skip
    assert expected <= set(ran)
    fhir = delivered.step(delivered.first, "ingest-fhir")["metrics"]
    assert fhir["read"] == fhir["loaded"] + fhir["quarantined"] + fhir["ignored"]
    assert fhir["quarantined"] == 0 and fhir["loaded"] > 500
    assert delivered.step(delivered.first, "deidentify-labs")["metrics"]["results"] > 100


def test_an_addition_is_merged_and_the_rest_recognised(ingested: Ingested) -> None:
    before = ingested.step(ingested.first, "ingest-fhir")["metrics"]
    after = ingested.step(ingested.second, "ingest-fhir")["metrics"]
    assert (after["loaded"], after["quarantined"]) == (3, 1)
    assert after["ignored"] == before["read"] == after["read"] - 4
    old, new = ingested.held(ingested.first), ingested.held(ingested.second)
    assert new["Observation"].height == old["Observation"].height
    assert new["Consent"].height == old["Consent"].height + 1
    changed = new["Observation"].join(old["Observation"], on=["id", "digest"], how="anti")
    assert changed.height == 1 and '"status":"corrected"' in changed["json"][0]
    quarantine = ingested.read(ingested.second, "ingest-fhir", "quarantine")["rows"]
    assert quarantine.select("file", "row", "reason").rows() == [("bundle-0001.ndjson", 2, "CUT_OFF")]


def test_the_trial_itself_is_not_done_twice(ingested: Ingested) -> None:
    for name in ("ingest-sdtm", "ingest-hl7"):
        assert ingested.step(ingested.second, name)["metrics"]["nothing_new_since"] == ingested.first["run_id"]
    lake = Lake(str(ingested.home.path / "lake"), open_store(str(ingested.home.path)))
    for table in ("clean/dm", "clean/lb", "clean_labs/lb", "quarantine/intake"):
        assert len(lake.versions(table)) == 1, table
    assert len(lake.versions("clean_fhir/patient")) == 2


def test_a_refusal_shuts_the_door_at_the_next_reading(ingested: Ingested) -> None:
    refused = ingested.resources[-1]["patient"]["reference"].removeprefix("Patient/")
    name = ingested.pseudonym(refused)
    before = ingested.read(ingested.first, "deidentify-fhir", "clean")
    after = ingested.read(ingested.second, "deidentify-fhir", "clean")
    assert before["Observation"].filter(pl.col("subject") == name).height > 0
    assert all(frame.filter(pl.col("subject") == name).is_empty() for frame in after.values())
    # The trial's own record stays: it rests on the consent to take part, and is as the first run left it.
    assert states(ingested.second)["deidentify"] == "reused"
    assert name in ingested.read(ingested.first, "deidentify", "clean")["DM"]["USUBJID"].to_list()


def test_nothing_identifiable_lies_in_the_clear(ingested: Ingested) -> None:
    people = [r for r in ingested.resources if r["resourceType"] == "Patient"]
    secrets = {p["id"] for p in people} | {p["name"][0]["family"] for p in people if len(p["name"][0]["family"]) > 5}
    secrets |= {p["telecom"][0]["value"] for p in people} | {p["address"][0]["line"][0] for p in people}
    for path in sorted(ingested.home.path.rglob("*")):
        if path.is_file() and path.suffix in (".html", ".json", ".jsonl", ".txt"):
            text = path.read_text("utf-8", "replace")
            # A patient's number of six digits stands in some duration by chance: it counts as a whole number alone.
            found = [s for s in secrets if re.search(rf"(?<![\w.]){re.escape(s)}(?![\w.]*\d)", text)]
            assert not found, path.relative_to(ingested.home.path)


def test_a_patient_without_consent_is_held_and_not_released(ingested: Ingested) -> None:
    assert "silent" in ingested.held(ingested.second)["Patient"]["id"].to_list()
    name = open_vault(Settings(home=ingested.home.path)).pseudonym("subject", "Patient/silent")
    assert name not in ingested.read(ingested.second, "deidentify-fhir", "clean")["Patient"]["subject"].to_list()
