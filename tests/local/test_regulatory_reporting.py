"""The reporting pipeline as a person runs it: made, listed, signed, fetched, made again, and one changed byte found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.local.main_job import Home, states
from trialops.intake.sdtm import read_folder
from trialops.synthetic import generate

pytestmark = pytest.mark.slow
SAFETY = {"TRIALOPS_ROLE": "safety physician"}
WHEN = ("--set", "kinds=dsmb,trial_progress", "--set", "cut=2024-03-31", "--set", "as_of=2024-04-02")
WHO = ("--user", "alovelace", "--passphrase", "correct horse battery")
NAME = "trialops01-dsmb-blinded-2024-03-31"


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    generate(folder / "out", subjects=80, sites=3, seed=8, formats=("sdtm",))
    return folder / "out" / "sdtm"


def test_reports_from_delivery_to_signature(trial: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    run = home.trialops("run", "regulatory_reporting", "--source", str(trial), *WHEN)
    assert run.returncode == 0, run.stdout + run.stderr
    assert set(states(home.run())) == {"ingest-sdtm", "generate-reports", "notify"}
    listed = json.loads(home.trialops("documents", "list", "--json").stdout)
    assert {one["document"] for one in listed} == {NAME, NAME.replace("dsmb", "trial_progress")}
    # What the orchestrator and everybody else can see has no subject in it.
    subjects = read_folder(trial).tables["DM"]["USUBJID"].to_list()
    open_ = b"".join(p.read_bytes() for p in (home.path / "runs").rglob("*") if p.is_file())
    assert b"2 documents" in open_ and not any(subject.encode() in open_ for subject in subjects)

    out = tmp_path / "out"
    refused = home.trialops("documents", "get", NAME, "--to", str(out), "--purpose", "for the board's open session")
    assert refused.returncode != 0 and not out.exists()
    enrolled = home.trialops("audit", "enrol", "--name", "Ada Lovelace", *WHO)
    assert enrolled.returncode == 0, enrolled.stdout + enrolled.stderr
    signed = home.trialops("documents", "sign", NAME, *WHO, **SAFETY)
    assert signed.returncode == 0, signed.stdout + signed.stderr
    got = home.trialops(
        "documents", "get", NAME, "--to", str(out), "--purpose", "for the board's open session", **SAFETY
    )
    assert got.returncode == 0, got.stdout + got.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in manifest["files"]} == manifest[
        "files"
    ]
    assert any(subject.encode() in (out / f"{NAME}.html").read_bytes() for subject in subjects)

    again = home.trialops("run", "regulatory_reporting", "--source", str(trial), *WHEN, "--set", "stamp=2026-01-01")
    assert again.returncode == 0 and len(json.loads(home.trialops("documents", "list", "--json").stdout)) == 2
    kept = next((home.path / "documents").rglob("*.html"))
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(bytes(data))
    checks = [home.trialops("documents", "check", one["document"]).returncode for one in listed]
    assert sorted(checks) == [0, 1]
