"""The gate with a real lake: what is validated, what is fallen back to, what is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.homes import leave, live_in
from trialops.alerts.notification import of_run
from trialops.errors import TrialOpsError
from trialops.governance.lineage import run_records
from trialops.quality.engine import ClinicalDataValidatorOperator, QualityReport
from trialops.quality.gate import apply_gate
from trialops.quality.rules import parse
from trialops.stores import step
from trialops.stores.context import Step
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot

RULES = {
    "version": "t1",
    "gate": 95.0,
    "fatal_cap": 94.9,
    "weights": {"fatal": 5, "major": 3, "minor": 1},
    "rules": [{"id": "AE1", "severity": "major", "domain": "AE", "check": "completeness", "column": "AESER"}],
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


def events_table(*serious: str | None) -> pl.DataFrame:
    n = len(serious)
    return pl.DataFrame({"USUBJID": [f"p{i}" for i in range(n)], "AESEQ": [1] * n, "AESER": list(serious)})


def judge(run: Step, frame: pl.DataFrame) -> tuple[Snapshot, QualityReport]:
    ref = run.lake.write("clean/ae", frame, run_id=run.run_id, step=run.name)
    return Snapshot({"AE": ref}), ClinicalDataValidatorOperator().run({"AE": frame}, parse(RULES, {}))


def gate(frame: pl.DataFrame) -> tuple[Any, Snapshot, Step]:
    with step("quality-gate", dataset="clean") as run:
        snapshot, report = judge(run, frame)
        passed = apply_gate(run, snapshot, report, "clean")
    return passed, snapshot, run


def alerts(run: Step) -> list[Any]:
    return [event for event in run.trail.events() if event.action == "alert.quality"]


def test_good_data_is_validated_once() -> None:
    passed, snapshot, run = gate(events_table("Y", "N"))
    assert (passed.outcome, passed.snapshot) == ("pass", snapshot)
    again, same, run = gate(events_table("Y", "N"))
    assert again.snapshot.digest == same.digest
    chain = run.lake.manifests("clean")
    assert [link.sequence for link in chain] == [1], "the same content twice is one link"
    assert chain[0].snapshot.digest == snapshot.digest and chain[0].evidence["score"] == 100.0
    assert alerts(run) == []
    assert run.decision is not None and run.decision["decision"] == "pass"
    assert run.decision["policy"] == {"rules": "t1", "gate": "score >= 95"}


def test_bad_data_falls_back_to_the_newest_validated_version_and_alerts(home: Path) -> None:
    gate(events_table("Y"))
    _, newest, _ = gate(events_table("Y", "N"))
    passed, failing, run = gate(events_table("Y", None))
    assert passed.outcome == "fallback" and passed.snapshot == newest
    assert run.lake.read(passed.snapshot.tables["AE"])["AESER"].to_list() == ["Y", "N"]
    # Nothing is restored over the newer data: the failing version stays the newest one of the table.
    assert [v["version"] for v in run.lake.versions("clean/ae")][0] == failing.tables["AE"].version == 2
    assert [link.sequence for link in run.lake.manifests("clean")] == [1, 2]

    told = alerts(run)
    assert len(told) == 1 and (told[0].object, told[0].version) == ("clean", "2")
    assert told[0].detail["score"] == 0.0 and told[0].detail["threshold"] == 95.0 and told[0].detail["major"] == 1
    assert run.decision is not None and run.decision["numbers"]["validated"] == 2
    records = run_records(open_store(str(home)), "run-1")
    assert of_run("run-1", "p", "SUCCEEDED", records).severity == "warning"


def test_fallback_skips_a_validated_version_whose_files_are_damaged(home: Path) -> None:
    _, oldest, _ = gate(events_table("Y"))
    _, newest, run = gate(events_table("Y", "N"))
    from trialops.stores.lake import data_files

    for file in data_files(run.lake._open("clean/ae", newest.tables["AE"].version)):
        Path(file.removeprefix("file://")).write_bytes(b"damaged")
    passed, _, run = gate(events_table(None, None, "Y"))
    assert passed.outcome == "fallback" and passed.snapshot == oldest
    assert alerts(run)[0].version == "1"
    damaged = [event for event in run.trail.events() if event.action == "alert.integrity"]
    assert len(damaged) == 1 and "clean/ae@1" in damaged[0].version


def test_first_delivery_that_fails_is_an_error_with_the_numbers(home: Path) -> None:
    with pytest.raises(TrialOpsError) as caught:
        gate(events_table("Y", None))
    error = caught.value
    assert "0.00" in error.what and "95" in error.what and "no earlier version" in error.what
    assert error.where == "data set clean" and "p0" not in str(error) and error.fix
    objects = open_store(str(home))
    record = run_records(objects, "run-1")[0]
    assert record["state"] == "failed" and record["error"] == error.as_dict()
    assert record["decision"]["decision"] == "fail"
    assert list(objects.list("validated/clean")) == []


def test_another_data_set_has_a_chain_of_its_own() -> None:
    gate(events_table("Y"))
    with pytest.raises(TrialOpsError, match="no earlier version"), step("quality-gate", dataset="other") as run:
        apply_gate(run, *judge(run, events_table(None)), "other")


def test_manifest_that_was_altered_stops_the_fallback(home: Path) -> None:
    gate(events_table("Y"))
    gate(events_table("Y", "N"))
    first = home / "validated" / "clean" / "000001.json"
    body = json.loads(first.read_text())
    body["evidence"]["score"] = 99.0
    first.write_text(json.dumps(body, sort_keys=True, separators=(",", ":")))
    with pytest.raises(TrialOpsError, match="chain of validated versions is broken"):
        gate(events_table(None))


def test_a_gate_that_reports_stops_nothing_and_validates_nothing() -> None:
    for frame, outcome in ((events_table("Y"), "pass"), (events_table(None), "fail")):
        with step("validate-data", dataset="clean") as run:
            snapshot, report = judge(run, frame)
            passed = apply_gate(run, snapshot, report, "clean", "report")
        assert (passed.outcome, passed.snapshot) == (outcome, snapshot)
        assert run.decision is not None and run.decision["decision"] == outcome
        assert run.decision["policy"]["mode"] == "report"
    assert run.lake.manifests("clean") == [] and len(alerts(run)) == 1


def test_a_gate_that_blocks_stops_the_step() -> None:
    with pytest.raises(TrialOpsError, match="below the gate") as caught, step("validate-data") as run:
        snapshot, report = judge(run, events_table(None))
        apply_gate(run, snapshot, report, "clean", "block")
    assert caught.value.fix and len(alerts(run)) == 1
    with step("validate-data") as run:
        snapshot, report = judge(run, events_table("Y"))
        assert apply_gate(run, snapshot, report, "clean", "block").outcome == "pass"
    assert len(run.lake.manifests("clean")) == 1


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(TrialOpsError, match="gate mode"), step("validate-data") as run:
        snapshot, report = judge(run, events_table("Y"))
        apply_gate(run, snapshot, report, "clean", "perhaps")
