"""Feature engineering and backfill through the command line, after one run that validates a trial."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import polars as pl
import pytest

from tests.local.main_job import Home, states
from trialops.features.definition_file import load
from trialops.features.engineering import services
from trialops.features.versions import feature_set
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.online.reader import open_reader
from trialops.stores.refs import Snapshot
from trialops.synthetic import generate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("features")
    generate(folder / "trial", subjects=150, sites=6, seed=3, formats=("sdtm",))
    home = Home(folder / "home")
    done = home.trialops("run", "data_pipeline", "--source", str(folder / "trial"))
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def record(home: Home, step: str) -> dict[str, Any]:
    path = home.path / "runs" / home.run()["run_id"] / "steps" / step / "record.json"
    return dict(json.loads(path.read_text()))


def lake(home: Home) -> Lake:
    return Lake(str(home.path / "lake"), open_store(str(home.path)))


def tables(home: Home, step: str) -> dict[str, pl.DataFrame]:
    """Feature tables a step of the newest run has written."""
    snapshot = Snapshot.from_dict(json.loads(home.output(home.run()["run_id"], step, "features").read_text()))
    return {name: lake(home).read(ref) for name, ref in snapshot.tables.items()}


def test_engineering_fills_both_stores_alike(home: Home) -> None:
    done = home.trialops("run", "feature_engineering")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(states(home.run()).values()) == {"ran"}
    views, definitions = tables(home, "engineer-features"), load()
    assert sorted(views) == sorted(definitions.all_views)
    assert all(f.height for n, f in views.items() if n not in ("ecg", "comorbidity")), "the trial has neither"
    for name in views:
        files = pl.read_parquet(home.path / "features" / "current" / f"{name}.parquet")
        assert files.select(views[name].columns).equals(views[name]), name
    online = record(home, "update-online-features")["metrics"]
    assert online["different"] == 0 and online["compared"] > 5000
    assert record(home, "engineer-features")["metrics"]["feature_set"] == feature_set().name

    # The default study day of a request: the latest day that is known of the subject.
    follow = views["follow_up"].group_by("subject_id", maintain_order=True).last()
    subject, day = follow.select("subject_id", "followup_day").row(7)
    service = services(definitions)[0].narrowed(["followup_day"])
    with open_reader(f"sqlite:///{home.path / 'features' / 'online.db'}", service) as reader:
        assert reader.read([subject]).values[0, 0] == day
    page = (home.path / "runs" / home.run()["run_id"] / "index.html").read_text()
    assert "mmHg/day" in page and "days_since_weight" in page and "systolic_bp_mean_28d" in page
    assert not [s for s in follow["subject_id"] if s in page]


def test_a_killed_backfill_goes_on_and_ends_as_one_pass(home: Home) -> None:
    assert home.trialops("run", "feature_engineering").returncode == 0
    one_pass = tables(home, "engineer-features")
    arguments = ("run", "feature_backfill", "--set", "window_days=28", "--set", "block_subjects=8")
    process = home.start(*arguments)
    marks = home.path / "backfills"
    while process.poll() is None and len(list(marks.rglob("done/*.json"))) < 30:
        time.sleep(0.005)
    assert process.poll() is None, "the backfill was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in marks.rglob("done/*.json")}
    assert len(kept) >= 30

    done = home.trialops("run", "feature_backfill", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = record(home, "backfill-features")["metrics"]
    assert metrics["windows_found"] >= 30 and metrics["windows"] > 0
    rebuilt = tables(home, "backfill-features")
    assert list(rebuilt) == list(one_pass)
    assert all(rebuilt[name].equals(one_pass[name]) for name in one_pass)
    assert metrics["changed"] == 0, "the same logic"
    version = feature_set().name
    assert {t for t in lake(home).tables() if f"/{version}/" in t} == {f"features/{version}/{n}" for n in one_pass}
    assert not list(marks.rglob("*.arrow")), "the tables hold the rows now"
    assert record(home, "rebuild-training-sets")["metrics"]["tasks"] == 1
    assert lake(home).versions("training/withdrawal")
    assert home.trialops("audit", "verify").returncode == 0
