"""Drift of what comes in, end to end: a model released on the first half of a trial, then the whole of it.

The other half has come since. In one trial it is like the first; in the other its systolic pressure and ALT are one
standard deviation higher.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.recruited import first_recruited
from tests.support.released import TASK, Released, release
from trialops.monitoring.drift_rows import reference_key
from trialops.monitoring.reference import Reference
from trialops.stores.objects import open_store
from trialops.synthetic import generate
from trialops.synthetic.planted import Drift, Planted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TRIAL: dict[str, Any] = {"subjects": 420, "sites": 6, "seed": 1, "formats": ("sdtm",)}
PLANTED = Planted(drift=Drift(after=0.5, shifts={"SYSBP": 1.0, "ALT": 1.0}))


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trials")
    generate(folder / "same", **TRIAL)
    generate(folder / "shifted", planted=PLANTED, **TRIAL)
    first_recruited(folder / "same" / "sdtm", folder / "early", 0.5)
    return folder


@pytest.fixture(scope="module")
def released(trials: Path, tmp_path_factory: pytest.TempPathFactory) -> Released:
    return release(tmp_path_factory.mktemp("drift"), trials / "early")


def take_in(released: Released, source: Path) -> None:
    done = released.home.trialops("run", "data_pipeline", "--source", str(source))
    assert done.returncode == 0, done.stdout + done.stderr


def ran(
    released: Released, pipeline: str, step: str, artifact: str, *more: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a pipeline: the document of a step, and its record."""
    done = released.home.trialops("run", pipeline, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = released.home.path / "runs" / released.home.run()["run_id"] / "steps" / step
    return json.loads((folder / f"{artifact}.json").read_text()), json.loads((folder / "record.json").read_text())


def test_from_nothing_new_over_no_drift_to_planted_drift(released: Released, trials: Path) -> None:
    # Nobody has come since the training set was made.
    document, record = ran(released, "data_drift_detection", "detect-drift", "drift")
    assert document["verdict"] == "insufficient evidence" and record["metrics"]["current_rows"] == 0
    stored = open_store(str(released.home.path)).get(reference_key(TASK, "1"))
    reference = Reference.from_dict(json.loads(stored))
    assert reference.names == tuple(released.bundle.features)
    assert reference.source["bundle"] == released.bundle.digest

    # The other half looks like the first.
    take_in(released, trials / "same")
    document, record = ran(released, "data_drift_detection", "detect-drift", "drift")
    assert record["decision"]["decision"] == document["verdict"] == "no drift"
    assert document["n_current"] > 120 and document["reference"] == reference.digest
    assert document["multivariate"]["importance"]["state"] == "stable"

    # The other half has changed: those two features, and nothing else.
    take_in(released, trials / "shifted")
    document, record = ran(released, "data_drift_detection", "detect-drift", "drift", "--set", "evidently=true")
    assert document["verdict"] == "drift" and document["alert"]
    drifted = {item["name"] for item in document["features"] if item["state"] == "drift"}
    assert drifted == {"systolic_bp", "alt_uln_ratio"}
    classifier = document["multivariate"]["classifier"]
    assert classifier["state"] == "drift" and {name for name, _ in classifier["drivers"][:2]} == drifted
    run = released.home.path / "runs" / released.home.run()["run_id"]
    assert json.loads((run / "notification.json").read_text())["severity"] == "warning"
    page = (run / "steps" / "detect-drift" / "page.html").read_text()
    assert "systolic_bp" in page and page.count("<svg") >= 3
    subjects = pl.concat(frame.select("subject_id") for frame in compared(released)).to_series()
    assert not any(subject in page for subject in subjects)
    assert "systolic_bp" in next(run.glob("artifacts/**/evidently-report/report")).read_text()

    # The features of the two builds: new values at old moments, and the same two features.
    document, record = ran(released, "feature_validation", "validate-features", "validation")
    assert document["verdict"] == "drift", document["reasons"]
    assert any("rewritten" in reason for reason in document["reasons"])
    assert {"systolic_bp", "alt", "alt_uln_ratio"} <= {item["feature"] for item in document["restated"]}
    assert {item["state"] for item in document["contracts"]} == {"met"}


def compared(released: Released) -> list[pl.DataFrame]:
    with released.step() as run:
        frames = [run.read_latest(f"drift_{TASK}/{name}") for name in ("reference", "current")]
    return [frame for frame in frames if frame is not None]
