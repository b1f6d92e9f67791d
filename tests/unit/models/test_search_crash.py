"""A search killed with SIGKILL in the middle: finished trials are kept, the result is that of an uninterrupted one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from trialops.models.bundle import Bundle
from trialops.models.search import SearchResult, search
from trialops.models.search_course import Ledger
from trialops.models.split import split_sites
from trialops.models.task import Task

TRIALS, DONE = 10, 5
ROOT = Path(__file__).resolve().parents[3]

#: Searches in a process of its own. Every fit is noted in a file; in the first attempt fits from number 5 on never end.
SCRIPT = """
import os, sys, time
from pathlib import Path
import polars as pl
from trialops.models import search_backends
from trialops.models.search import search
from trialops.models.search_course import Trial
from trialops.models.task import load_task

backend, folder, hold = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
notes = str(folder / "fits.txt")

def noted(trial, problem):
    with open(notes, "a") as file:
        file.write(f"{trial.candidate.number}\\n")
    while trial.candidate.number >= hold:
        time.sleep(0.1)
    return search_backends.run_trial_itself(trial, problem)

def noted_on_ray(config, problem):
    from trialops.models import search_backends
    trial = Trial.loads(config["trial"])
    with open(notes, "a") as file:
        file.write(f"{trial.candidate.number}\\n")
    while trial.candidate.number >= hold:
        time.sleep(0.1)
    outcome = search_backends.run_trial(trial, problem)
    return {"outcome": outcome.dumps(), "log_loss": outcome.log_loss}

search_backends.run_trial_itself = search_backends.run_trial
if backend == "inprocess":
    search_backends.run_trial = noted
search_backends._ray_trial = noted_on_ray
found = search(
    pl.read_parquet(folder / "train.parquet"), load_task(), trials=10, seed=3, backend=backend, storage=folder / "work"
)
(folder / "digest.txt").write_text(found.digest)
(folder / "bundle.txt").write_text(str(found.bundle))
"""


@pytest.fixture(scope="module")
def train(trial_frame: pl.DataFrame, task: Task) -> pl.DataFrame:
    return split_sites(trial_frame, task).parts(trial_frame)[0]


@pytest.fixture(scope="module")
def uninterrupted(train: pl.DataFrame, task: Task, tmp_path_factory: Any) -> SearchResult:
    folder = tmp_path_factory.mktemp("whole")
    return search(train, task, trials=TRIALS, seed=3, backend="inprocess", storage=folder)


def start(backend: str, folder: Path, hold: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, backend, str(folder), str(hold)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "errors.txt").open("ab"),
        start_new_session=True,
    )


def fits(folder: Path) -> list[int]:
    notes = folder / "fits.txt"
    return [int(line) for line in notes.read_text().split()] if notes.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["inprocess", "ray"])
def test_killed_in_the_middle_and_restarted(
    backend: str, train: pl.DataFrame, uninterrupted: SearchResult, tmp_path: Path
) -> None:
    train.write_parquet(tmp_path / "train.parquet")
    first = start(backend, tmp_path, hold=DONE)
    deadline, kept = time.monotonic() + 240, set[int]()
    # the record of a generation's last trial is there a moment before a fit of the next one begins
    while (len(kept) < DONE or len(fits(tmp_path)) <= DONE) and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.1)
        folders = list((tmp_path / "work").glob("search-*/trials"))
        kept = set(Ledger(folders[0]).read()) if folders else set()
    assert kept == set(range(DONE)), (tmp_path / "errors.txt").read_text()[-2000:]
    helpers = psutil.Process(first.pid).children(recursive=True)  # Ray's own processes outlive a killed driver
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    for helper in helpers:
        with contextlib.suppress(psutil.NoSuchProcess):
            helper.kill()
    begun = fits(tmp_path)
    assert len(begun) > DONE, "it was killed in the middle of a fit"

    second = start(backend, tmp_path, hold=TRIALS)
    assert second.wait(timeout=240) == 0, (tmp_path / "errors.txt").read_text()[-2000:]
    fitted = fits(tmp_path)[len(begun) :]
    assert sorted(fitted) == list(range(DONE, TRIALS)), "finished trials are not fitted again, the others once"
    assert (tmp_path / "digest.txt").read_text() == uninterrupted.digest
    bundle = Path((tmp_path / "bundle.txt").read_text())
    assert Bundle.load(bundle).digest == uninterrupted.digest
    for file in uninterrupted.bundle.iterdir():
        assert (bundle / file.name).read_bytes() == file.read_bytes()
