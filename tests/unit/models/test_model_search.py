"""The search: repeatable, resumable, the same on either backend."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.models import search_backends
from trialops.models.bundle import Bundle
from trialops.models.evaluation import ClinicalModelEvaluatorOperator
from trialops.models.search import SearchResult, choose_threshold, search
from trialops.models.search_course import Course, Outcome, Trial
from trialops.models.split import split_sites
from trialops.models.task import Task


@pytest.fixture(scope="module")
def parts(trial_frame: pl.DataFrame, task: Task) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Training and held-out part."""
    return split_sites(trial_frame, task).parts(trial_frame)


@pytest.fixture(scope="module")
def found(parts: tuple[pl.DataFrame, pl.DataFrame], task: Task, tmp_path_factory: Any) -> SearchResult:
    """An in-process search."""
    return search(parts[0], task, trials=8, seed=3, backend="inprocess", storage=tmp_path_factory.mktemp("search"))


def test_the_winner_has_the_lowest_log_loss(found: SearchResult) -> None:
    assert found.trials["number"].to_list() == list(range(8))
    assert found.log_loss == found.trials["log_loss"].min()
    assert found.kind == found.trials.sort("log_loss", "number")["kind"][0]
    assert found.log_loss < found.baseline_log_loss
    assert found.trials.filter(pl.col("kind") == "lightgbm")["rounds"].min() >= 1
    document = json.dumps(found.as_dict(), allow_nan=False)
    assert len(found.as_dict()["trials"]) == 8 and found.as_dict()["digest"] == found.digest
    assert str(found.bundle.parent) not in document and "seconds" not in found.as_dict(), (
        "it depends on no place or clock"
    )


def test_useless_features_are_reported_and_absent(found: SearchResult) -> None:
    features = Bundle.load(found.bundle).features
    assert not {"alt_uln_ratio", "ae_ongoing"} & set(features)
    assert {note.split(":")[0] for note in found.notes} == {"alt_uln_ratio", "ae_ongoing"}
    assert set(Bundle.load(found.baseline).features) == {"age", "sex_female"}


def test_the_winner_finds_the_signal_on_unseen_sites(
    found: SearchResult,
    parts: tuple[pl.DataFrame, pl.DataFrame],
    task: Task,
    separation: Callable[[float], float],
) -> None:
    operator = ClinicalModelEvaluatorOperator(task, replicates=100)
    result = operator.run(Bundle.load(found.bundle), parts[1])
    assert result.verdict == "better than chance"
    assert result.auroc.low < separation(1.5) < result.auroc.high
    assert operator.run(Bundle.load(found.baseline), parts[1]).verdict == "not shown to be better than chance"


def test_folds_report_sites_left_out(found: SearchResult, parts: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    assert sum(fold.n for fold in found.folds) == len(parts[0])
    sites = [site for fold in found.folds for site in fold.sites]
    assert sorted(sites) == sorted(set(parts[0]["site_id"]))
    weighted = sum(fold.log_loss * fold.n for fold in found.folds) / len(parts[0])
    assert weighted == pytest.approx(found.log_loss)


def test_row_order_storage_and_frame_type_do_not_matter(
    found: SearchResult, parts: tuple[pl.DataFrame, pl.DataFrame], task: Task, tmp_path: Path
) -> None:
    shuffled = parts[0].sample(fraction=1.0, shuffle=True, seed=4).to_pandas()
    again = search(shuffled, task, trials=8, seed=3, backend="inprocess", storage=tmp_path, workers=1)
    assert again.digest == found.digest
    for one, other in ((found.bundle, again.bundle), (found.baseline, again.baseline)):
        files = [{f.name: f.read_bytes() for f in folder.iterdir()} for folder in (one, other)]
        assert files[0] == files[1]


def test_a_search_broken_off_resumes_to_the_same_result(
    found: SearchResult,
    parts: tuple[pl.DataFrame, pl.DataFrame],
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_trial, ran = search_backends.run_trial, []

    def breaks(trial: Trial, problem: search_backends.Problem) -> Outcome:
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(trial.candidate.number)
        return run_trial(trial, problem)

    arguments = {"trials": 8, "seed": 3, "backend": "inprocess", "storage": tmp_path, "workers": 1}
    monkeypatch.setattr(search_backends, "run_trial", breaks)
    with pytest.raises(KeyboardInterrupt):
        search(parts[0], task, **arguments)
    first = list(ran)

    def counts(trial: Trial, problem: search_backends.Problem) -> Outcome:
        ran.append(trial.candidate.number)
        return run_trial(trial, problem)

    monkeypatch.setattr(search_backends, "run_trial", counts)
    messages: list[str] = []
    resumed = search(parts[0], task, progress=lambda message, _: messages.append(message), **arguments)
    assert resumed.digest == found.digest
    assert sorted(ran) == list(range(8)) and len(first) == 3
    assert "trial 8 of 8" in messages and "trial 3 of 8" not in messages
    assert search(parts[0], task, **arguments).digest == found.digest
    assert len(ran) == 8


@pytest.mark.parametrize(("first", "expected"), [(599 * 2 / 7, "inprocess"), (601 * 2 / 7, "ray")])
def test_auto_takes_ray_from_the_declared_seconds_on(
    first: float,
    expected: str,
    found: SearchResult,
    parts: tuple[pl.DataFrame, pl.DataFrame],
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seven trials are left in two workers after one that took so long; Ray itself is not needed to see the choice."""
    seconds_of_one, chosen = search_backends.seconds_of_one, []

    def slow(problem: search_backends.Problem, course: Course) -> float:
        assert seconds_of_one(problem, course) > 0
        return first

    def on_ray(problem: search_backends.Problem, course: Course, storage: Path, **_: Any) -> None:
        chosen.append(storage.name)
        search_backends.run_inprocess(problem, course, workers=1)

    monkeypatch.setattr("trialops.models.search.seconds_of_one", slow)
    monkeypatch.setattr("trialops.models.search.run_ray", on_ray)
    result = search(parts[0], task, trials=8, seed=3, backend="auto", storage=tmp_path, workers=2)
    assert result.backend == expected and len(chosen) == (expected == "ray")
    assert result.digest == found.digest


def test_other_data_is_another_search(
    found: SearchResult, parts: tuple[pl.DataFrame, pl.DataFrame], task: Task
) -> None:
    storage = found.bundle.parent.parent
    other = search(parts[0].head(150), task, trials=3, seed=3, backend="inprocess", storage=storage)
    assert other.bundle.parent != found.bundle.parent
    assert Bundle.load(found.bundle).digest == found.digest


def test_the_threshold_rules(task: Task) -> None:
    from dataclasses import replace

    from sklearn.metrics import roc_curve

    from trialops.models.task import ThresholdPlan

    rng = np.random.default_rng(0)
    y = (rng.random(200) < 0.3).astype(np.int8)
    p = 1 / (1 + np.exp(-(rng.normal(size=200) + y)))
    alarm, hit, cuts = roc_curve(y, p, drop_intermediate=False)
    assert choose_threshold(y, p, task) == pytest.approx(cuts[np.argmax(hit - alarm)])
    assert choose_threshold(y, p, replace(task, threshold=ThresholdPlan("prevalence", None))) == y.mean()
    assert choose_threshold(y, p, replace(task, threshold=ThresholdPlan("fixed", 0.35))) == 0.35


def test_what_cannot_be_searched_is_refused(
    parts: tuple[pl.DataFrame, pl.DataFrame], task: Task, tmp_path: Path
) -> None:
    train = parts[0]
    with pytest.raises(TrialOpsError, match="cannot be searched"):
        search(train, task, backend="spark", storage=tmp_path)
    with pytest.raises(TrialOpsError, match="cannot be searched"):
        search(train, task, trials=0, backend="inprocess", storage=tmp_path)
    with pytest.raises(TrialOpsError, match="same outcome"):
        search(train.filter(pl.col("label") == 0), task, backend="inprocess", storage=tmp_path)
    with pytest.raises(TrialOpsError, match="is absent") as error:
        search(train.drop("bmi"), task, backend="inprocess", storage=tmp_path)
    assert error.value.where == "training set, column bmi"
    with pytest.raises(TrialOpsError, match="infinite"):
        search(train.with_columns(bmi=pl.lit(float("inf"))), task, backend="inprocess", storage=tmp_path)
    with pytest.raises(TrialOpsError, match="not numeric"):
        search(train.with_columns(bmi=pl.lit("thin")), task, backend="inprocess", storage=tmp_path)
    with pytest.raises(TrialOpsError, match="labels are neither"):
        search(train.with_columns(label=pl.lit(2)), task, backend="inprocess", storage=tmp_path)


@pytest.mark.slow
def test_ray_finds_the_same_model_and_leaves_nothing_running(
    found: SearchResult, parts: tuple[pl.DataFrame, pl.DataFrame], task: Task, tmp_path: Path
) -> None:
    import psutil

    arguments = {"trials": 8, "seed": 3, "storage": tmp_path}
    messages: list[str] = []
    before = {child.pid for child in psutil.Process(os.getpid()).children(recursive=True)}
    lock = threading.Lock()  # a step's progress holds what cannot be sent to another process either

    def progress(message: str, _: float) -> None:
        with lock:
            messages.append(message)

    result = search(parts[0], task, backend="ray", progress=progress, **arguments)
    assert result.digest == found.digest
    assert result.trials.equals(found.trials)
    assert messages.count("trial 8 of 8") == 1
    # every trial is on record, so a second call runs none and does not start Ray
    again = search(parts[0], task, backend="ray", progress=lambda m, _: messages.append(m), **arguments)
    assert again.digest == found.digest
    assert messages.count("trial 1 of 8") == 1
    children = psutil.Process(os.getpid()).children(recursive=True)
    _, alive = psutil.wait_procs([child for child in children if child.pid not in before], timeout=20)
    assert not [child.pid for child in alive]
