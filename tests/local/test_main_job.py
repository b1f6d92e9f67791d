"""The main job, end to end on a small synthesized trial, through the command line and kfp.local."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.local.main_job import Home, kill_in_new_step, states
from trialops.synthetic import generate

STEPS = (
    "ingest-sdtm",
    "check-consent",
    "deidentify",
    "quality-gate",
    "build-features",
    "build-training-set",
    "search-model",
    "evaluate-model",
    "assess-fairness",
    "current-champion",
    "compare-with-champion",
    "register-model",
    "hold-release",
    "conclude-release",
    "release-dossier",
    "notify",
)
PURE = ("deidentify", "build-features", "build-training-set", "search-model", "evaluate-model", "assess-fairness")
SET = ("--set", "trials=2")
RESULTS = re.compile("(ORRES|STRESC|ORNRLO|ORNRHI|STNRC)$")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    generate(folder / "out", subjects=260, sites=10, seed=4, formats=("sdtm",))
    return folder / "out" / "sdtm"


@pytest.fixture(scope="module")
def finished(trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home after one uninterrupted run."""
    home = Home(tmp_path_factory.mktemp("home"))
    done = home.trialops("run", "scheduled_retraining", "--source", str(trial), *SET)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def test_leaves_a_dossier_a_page_and_a_verified_trail(finished: Home) -> None:
    run = finished.run()
    assert run["state"] == "succeeded"
    page = (finished.path / "runs" / run["run_id"] / "index.html").read_text()
    for heading in ("Decisions", "Steps", "Lineage", "Audit extract", "Hold-out of whole sites"):
        assert heading in page
    dossier = finished.output(run["run_id"], "release-dossier", "dossier")
    contents = json.loads((dossier / "contents.json").read_text())
    assert {"model_card.md", "decision.json", "approval.md", "lineage.json", "model/bundle.json"} <= set(contents)
    lineage = json.loads((dossier / "lineage.json").read_text())
    assert {step["step"] for step in lineage["steps"]} >= set(STEPS[:11])
    audit = json.loads((dossier / "audit_extract.json").read_text())
    assert audit["verified"] and len(audit["events"]) > 30
    assert finished.trialops("audit", "verify").returncode == 0


def test_no_identifier_outside_the_vault(finished: Home, trial: Path) -> None:
    """No identifier of the delivery is in any file of the home, whatever its kind.

    What can be equal by chance is looked for so that chance does not find it: a subject's USUBJID and the dates of
    birth and first dose anywhere; SUBJID, six digits, as a whole number that is no decimal; SITEID, three digits, as
    a whole word of a text column that is not a column of results.
    """
    import polars as pl
    import pyreadstat

    dm = pyreadstat.read_xport(str(trial / "dm.xpt"), output_format="polars")[0]
    day = pl.col("RFSTDTC").str.slice(0, 10)
    # Whatever was written today carries today's date.
    starts = dm.filter(day < str(date.today() - timedelta(days=2))).select(day)
    born = dm.filter(pl.col("BRTHDTC").str.len_chars() >= 10)["BRTHDTC"].str.slice(0, 10)
    anywhere = re.compile("|".join({*dm["USUBJID"], *born, *starts["RFSTDTC"]} - {""}).encode())
    numbers, sites = {s.encode() for s in dm["SUBJID"]}, set(dm["SITEID"])
    assert len(born) > 200 and starts.height > 200 and len(numbers) == dm.height and len(sites) == 10
    whole = re.compile(rb"(?<![0-9A-Za-z.])\d{6}(?![0-9A-Za-z]|\.\d)")
    tables = 0
    for path in finished.path.rglob("*"):
        if not path.is_file() or path.name == "uv.lock":  # the platform's own, with the days its packages came out
            continue
        content, name = path.read_bytes(), path.relative_to(finished.path)
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            content += frame.write_ndjson().encode()
            texts = [c for c, kind in frame.schema.items() if kind == pl.String and not RESULTS.search(c)]
            words = {w for c in texts for t in frame[c].drop_nulls().unique() for w in re.findall(r"\w+", t)}
            tables += 1
            assert not words & sites, name
        assert not anywhere.search(content), name
        assert not numbers.intersection(whole.findall(content)), name
    assert tables > 15


def test_second_run_with_nothing_new_reuses_and_says_so(finished: Home, trial: Path) -> None:
    before = finished.state()
    again = finished.trialops("run", "scheduled_retraining", "--source", str(trial), *SET)
    assert again.returncode == 0, again.stdout
    found = states(finished.run())
    assert {step: found[step] for step in PURE} == dict.fromkeys(PURE, "reused")
    assert "nothing new since" in again.stdout and f"{len(PURE)} reused" in again.stdout
    assert finished.state() == before


@pytest.mark.timeout(600)
def test_killed_in_every_step_and_resumed_equals_uninterrupted(finished: Home, trial: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    first = finished.runs()[0]
    lasted = {step["step"]: step["inside_seconds"] for step in first["steps"]}
    killed: set[str] = set()
    for attempt in range(3 * len(STEPS)):
        arguments = ("--source", str(trial), *SET) if attempt == 0 else ("--resume",)
        process = home.start("run", "scheduled_retraining", *arguments)
        step = kill_in_new_step(home, process, killed, lasted)
        killed |= {step} - {""}
        if home.run()["state"] == "succeeded":
            break
    ended = home.run()
    assert ended["state"] == "succeeded" and len(home.runs()) == 1
    assert killed == set(STEPS)

    assert home.state() == {table: versions[:1] for table, versions in finished.state().items()}
    for step, artifact in (
        ("search-model", "model"),
        ("search-model", "search"),
        ("evaluate-model", "evaluation"),
        ("assess-fairness", "fairness"),
        ("compare-with-champion", "comparison"),
    ):
        one = finished.output(first["run_id"], step, artifact)
        two = home.output(ended["run_id"], step, artifact)
        files = [p.relative_to(one) for p in one.rglob("*") if p.is_file()] if one.is_dir() else [Path()]
        assert [(one / f).read_bytes() for f in files] == [(two / f).read_bytes() for f in files], step
    assert home.trialops("audit", "verify").returncode == 0
    assert _versions(home) == 1


def test_no_half_written_files(finished: Home) -> None:
    assert [p for p in finished.path.rglob("*.partial")] == []


def _versions(home: Home) -> int:
    from trialops.stores.registry import ModelRegistry

    registry = ModelRegistry(f"sqlite:///{home.path / 'mlflow.db'}", str(home.path / "models"))
    return len(registry._client.search_model_versions("name = 'withdrawal'"))
