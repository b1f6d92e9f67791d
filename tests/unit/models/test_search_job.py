"""A search as a RayJob: the step asks, the job's own command answers in its own process, the result is the same."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from kubernetes.client.exceptions import ApiException

from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.models.ray_job import Target
from trialops.models.search import search
from trialops.models.search_job import on_cluster
from trialops.models.split import TRAIN, split_sites
from trialops.models.task import Task
from trialops.settings import settings
from trialops.stores.context import ONLY, Step
from trialops.stores.refs import Snapshot

TARGET = Target("trials", "registry/app:1")
ROOT = Path(__file__).resolve().parents[3]


class Cluster:
    """What KubeRay does for us: takes a job, runs its entrypoint on a node, says how it ended."""

    def __init__(self, home: Path, *, broken: bool = False) -> None:
        self.home, self.broken = home, broken
        self.jobs: dict[str, dict[str, Any]] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.created = self.deleted = 0

    def create_namespaced_custom_object(self, *place: Any) -> None:
        manifest = place[-1]
        name = manifest["metadata"]["name"]
        if name in self.jobs:
            raise ApiException(status=409)
        self.created += 1
        self.jobs[name] = manifest
        command = shlex.split(manifest["spec"]["entrypoint"])
        container = manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
        given = {item["name"]: item["value"] for item in container["env"]}
        environment = {
            **os.environ,
            **given,
            "TRIALOPS_HOME": "/nowhere/at/all" if self.broken else str(self.home),
            "TRIALOPS_SEARCH_BACKEND": "inprocess",
            "TRIALOPS_ACTOR": "job",
            "PYTHONPATH": str(ROOT),
        }
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.running[name] = subprocess.Popen([sys.executable, *command[1:]], env=environment, **quiet)

    def get_namespaced_custom_object(self, *place: Any) -> dict[str, Any]:
        name = place[-1]
        if name not in self.jobs:
            raise ApiException(status=404)
        code = self.running[name].poll()
        state = "Running" if code is None else "Complete" if code == 0 else "Failed"
        return {**self.jobs[name], "status": {"jobDeploymentStatus": state}}

    def delete_namespaced_custom_object(self, *place: Any) -> None:
        self.deleted += 1
        del self.jobs[place[-1]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    live_in(tmp_path / "home", monkeypatch)
    yield Step("search-model", {}, settings())
    leave()


@pytest.fixture
def training(run: Step, trial_frame: pl.DataFrame, task: Task) -> Snapshot:
    held = split_sites(trial_frame, task).held_out_sites
    split = pl.when(pl.col("site_id").is_in(list(held))).then(pl.lit("held out")).otherwise(pl.lit(TRAIN))
    ref = run.lake.write("training/withdrawal", trial_frame.with_columns(split=split), run_id="run-1", step="test")
    return Snapshot({ONLY: ref})


@pytest.mark.slow
def test_the_job_finds_what_a_search_here_finds(run: Step, training: Snapshot, task: Task, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "home")
    asked = {"task": "withdrawal", "trials": 3, "seed": 3, "api": cluster, "poll_seconds": 0.1}
    found = on_cluster(run, TARGET, training, **asked)
    rows = run.read_snapshot("training", training)[ONLY].filter(pl.col("split") == TRAIN)
    here = search(
        rows, task, trials=3, seed=3, backend="inprocess", storage=tmp_path, training={"digest": training.digest}
    )
    assert found.digest == here.digest
    assert found.as_dict() == here.as_dict()
    for one, other in ((found.bundle, here.bundle), (found.baseline, here.baseline)):
        assert {f.name: f.read_bytes() for f in one.iterdir()} == {f.name: f.read_bytes() for f in other.iterdir()}
    again = on_cluster(run, TARGET, training, **asked)
    assert again.digest == here.digest and cluster.created == 1, "a step tried again finds the result"


@pytest.mark.slow
def test_a_job_that_fails_says_so_and_is_replaced_by_the_next_attempt(
    run: Step, training: Snapshot, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path / "home", broken=True)
    asked = {"task": "withdrawal", "trials": 2, "seed": 3, "api": cluster, "poll_seconds": 0.1}
    with pytest.raises(TrialOpsError, match="ended without a result: Failed"):
        on_cluster(run, TARGET, training, **asked)
    cluster.broken = False
    assert on_cluster(run, TARGET, training, **asked).digest
    assert (cluster.created, cluster.deleted) == (2, 1)
