"""The evidence pack: what is there, what is missing, and that nothing in it can be changed."""

from __future__ import annotations

import datetime as dt
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.homes import leave, live_in
from trialops.alerts.raise_alert import Alert, raise_alert
from trialops.errors import TrialOpsError
from trialops.governance import evidence_pack
from trialops.governance.signatures import Signatures
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.run_log import finish_run, record_run

TODAY = dt.datetime.now(dt.UTC).date()
SPAN = ("this", TODAY, TODAY + dt.timedelta(1))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    live_in(tmp_path / "home", monkeypatch)
    yield Step("look", {}, settings())
    leave()


def _opened(archive: bytes) -> dict[str, object]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: json.loads(opened.read(name)) for name in opened.namelist()}


def _changed(archive: bytes, name: str, data: bytes | None) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as opened, zipfile.ZipFile(made, "w") as out:
        for item in opened.namelist():
            if item != name:
                out.writestr(item, opened.read(item))
        if data is not None:
            out.writestr(name, data)
    return made.getvalue()


def test_a_pack_is_whole_signed_and_shows_what_is_missing(run: Step) -> None:
    record_run(run.engine, "r1", "data_privacy", code_version="1.2.3")
    finish_run(run.engine, "r1", "succeeded")
    Signatures(run.engine, run.vault, cost=2**10).enrol("olga", "Olga Officer", "a long passphrase 1")
    Signatures(run.engine, run.vault).sign(
        user="olga", passphrase="a long passphrase 1", meaning="approved", kind="model", record="m", digest="a" * 64
    )
    raise_alert(run, Alert("SecurityDormant", "warning", {"area": "security", "finding": "f1"}, "again"))
    raise_alert(run, Alert("DataQualityLow", "warning", {"area": "data"}, "low"))
    backup = {"step": "verify-backup", "run_id": "r1", "state": "finished", "started": f"{TODAY}T03:00:00+00:00"}
    run.objects.put("runs/r1/steps/verify-backup/record.json", json.dumps(backup).encode())
    pack = evidence_pack.build(run, *SPAN)
    files = _opened(pack.archive)
    assert files["changes.json"]["runs"] == [["1.2.3", "data_privacy", "succeeded", 1]]
    assert [(s["by"], s["holds"]) for s in files["changes.json"]["signatures"]] == [("Olga Officer", True)]
    assert [(a["alert"], [e["event"] for e in a["events"]]) for a in files["alerts.json"]] == [
        ("SecurityDormant", ["firing"])
    ]
    assert files["backups.json"][0]["state"] == "finished" and files["chain.json"]["ok"]
    lacking = {c["criterion"].split(": ")[1]: c["missing"] for c in files["controls.json"]}
    assert lacking["CC7.5"] == [] and lacking["CC7.1"] == ["scans.json"] and lacking["CC6.1"] == ["access_reviews.json"]
    # Criteria 6 to 8 are all there, whether they have evidence or not.
    assert {name[:3] for name in lacking} == {"CC6", "CC7", "CC8"}

    assert evidence_pack.check(pack.archive) == [] and evidence_pack.stored(run, "this") == pack.archive
    for name, data, problem in (
        ("backups.json", b"[]", "backups.json was altered"),
        ("alerts.json", None, "alerts.json is missing"),
        ("more.json", b"1", "more.json is not in the manifest"),
    ):
        assert evidence_pack.check(_changed(pack.archive, name, data)) == [problem]
    manifest = json.dumps(files["manifest.json"]).replace("this", "that").encode()
    assert evidence_pack.check(_changed(pack.archive, "manifest.json", manifest)) == [
        "the manifest's signature does not hold"
    ]
    assert evidence_pack.check(b"x") == ["the archive or its manifest cannot be read"]
    signed = evidence_pack.sign(run, "this", pack.archive, user="olga", passphrase="a long passphrase 1")
    assert signed.digest == pack.manifest["digest"]
    with pytest.raises(TrialOpsError):
        evidence_pack.sign(run, "this", b"x", user="olga", passphrase="a long passphrase 1")


def test_another_period_has_nothing_of_this_one(run: Step) -> None:
    raise_alert(run, Alert("SecurityDormant", "warning", {"area": "security"}, "again"))
    before = ("before", TODAY - dt.timedelta(40), TODAY - dt.timedelta(10))
    files = _opened(evidence_pack.build(run, *before).archive)
    assert files["alerts.json"] == [] and files["changes.json"]["runs"] == []


def test_scans_are_counted_by_severity(run: Step, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    trivy = {
        "Results": [{"Vulnerabilities": [{"Severity": "CRITICAL"}, {"Severity": "LOW"}]}, {"Vulnerabilities": None}]
    }
    (scans / "trivy.json").write_text(json.dumps(trivy))
    (scans / "grype.json").write_text(json.dumps({"matches": [{"vulnerability": {"severity": "High"}}]}))
    (scans / "z.sarif").write_text(json.dumps({"runs": [{"results": [{"level": "error"}, {"level": "odd"}]}]}))
    found = {one["file"]: {k: n for k, n in one["found"].items() if n} for one in evidence_pack.read_scans(str(scans))}
    assert found == {
        "trivy.json": {"critical": 1, "low": 1},
        "grype.json": {"high": 1},
        "z.sarif": {"high": 1, "unknown": 1},
    }
    (scans / "bad.json").write_text("[]")
    with pytest.raises(TrialOpsError):
        evidence_pack.read_scans(str(scans))
