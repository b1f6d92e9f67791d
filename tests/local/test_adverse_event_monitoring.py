"""Adverse event monitoring as a person runs it: grading, cases, clocks, a release by hand, the hand-over, the blind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.local.main_job import Home, states
from trialops.intake.sdtm import read_folder
from trialops.regulatory.cut import make_cut
from trialops.safety.blinding import leaks
from trialops.synthetic import generate
from trialops.trial.tables import TrialTables

pytestmark = pytest.mark.slow
PHYSICIAN = {"TRIALOPS_ROLE": "safety physician"}
WHY = ("--purpose", "End-to-end test of the case register")
STEPS = {
    "ingest-sdtm",
    "grade-adverse-events",
    "assess-safety-cases",
    "screen-trial-events",
    "hand-over-reports",
    "notify",
}


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    generate(folder / "out", subjects=70, sites=3, seed=8, formats=("sdtm",))
    return folder / "out" / "sdtm"


@pytest.fixture(scope="module")
def home(trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("home"))
    done = made.trialops("run", "adverse_event_monitoring", "--source", str(trial))
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def in_the_clear(trial: Path) -> TrialTables:
    intake = read_folder(trial)
    files = {path.name: path.read_bytes() for path in sorted(trial.glob("*.xpt"))}
    return TrialTables(intake.study, make_cut(intake.tables, files).tables, "")


def summary(home: Home, step: str) -> dict[str, int]:
    record = home.path / "runs" / home.run()["run_id"] / "steps" / step / "record.json"
    found: dict[str, int] = json.loads(record.read_text())["metrics"]
    return found


def test_a_delivery_becomes_cases_with_clocks(home: Home, trial: Path) -> None:
    assert {step for step, state in states(home.run()).items() if state == "ran"} == STEPS
    first = summary(home, "assess-safety-cases")
    # What can be counted in the delivery itself: events of a subject that are serious or may be.
    ae = in_the_clear(trial).table("AE")
    flagged = {
        (row["USUBJID"], row["AESPID"])
        for row in ae.to_dicts()
        if "Y" in (row["AESER"], row["AESDTH"], row["AESLIFE"], row["AESHOSP"], row["AESDISAB"], row["AESCONG"])
    }
    assert first["new_cases"] == first["cases"] >= len(flagged) > 3
    assert first["open_clocks"] == first["overdue"] > 0, "the trial lies in the past"
    page = (home.path / "runs" / home.run()["run_id"] / "index.html").read_text()
    assert "Safety cases" in page and "reports overdue" in page and "US-" in page


def test_a_physician_looks_unblinds_and_releases_and_nobody_else(home: Home) -> None:
    listed = json.loads(home.trialops("safety", "cases", "--json").stdout)
    case = next(c["case"] for c in listed if "SUSAR" in c["decision"])
    refused = home.trialops("safety", "case", case, *WHY, TRIALOPS_ROLE="data engineer")
    assert refused.returncode != 0 and "may not use this" in refused.stdout + refused.stderr
    shown = home.trialops("safety", "case", case, *WHY, **PHYSICIAN)
    assert shown.returncode == 0 and "Blinded study product" in shown.stdout
    enrolled = home.trialops("audit", "enrol", "--user", "doc", "--name", "Dr Doc", "--passphrase", "long passphrase 1")
    assert enrolled.returncode == 0, enrolled.stderr
    released = home.trialops(
        "safety", "release", case, "--user", "doc", "--passphrase", "long passphrase 1", *WHY,
        "--reason", "Looked at in the test", **PHYSICIAN,
    )  # fmt: skip
    assert released.returncode == 0 and "Signed by:  Dr Doc" in released.stdout, released.stdout + released.stderr
    assert re.search(r"FDA: (released|decided)", released.stdout)


def test_nothing_in_the_home_tells_an_arm_or_a_subject(home: Home, trial: Path) -> None:
    """After runs and a release: every file of the stores, those encrypted by the vault apart."""
    tables = in_the_clear(trial)
    assert leaks(home.path, tables, where="home") == []
    subjects = set(tables.table("DM")["USUBJID"])
    for path in sorted((home.path / "runs").rglob("*")):
        if path.suffix in (".html", ".json", ".jsonl") and path.is_file():
            assert not any(subject in path.read_text() for subject in subjects), path.name
