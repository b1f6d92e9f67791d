"""Time a hyperparameter search against plain Optuna, and find the size from which Ray pays.

    python benchmarks/search.py --trials 20 --repeats 5
    python benchmarks/search.py --trials 20 --repeats 3 --ray --subjects 2000 --subjects 16000
    python benchmarks/search.py --quality 6

Plain Optuna is what an engineer would write without this project: a study in memory, in two threads. Three of them:

* `optuna_same`: the configurations, folds, early stopping and rungs of the search, and a fit of the winner: what the
  course and its records cost;
* `optuna_choosing`: Optuna chooses by itself (TPE, successive halving), which is not repeatable, with the settings of
  the search that make single fits fast (bins, linear algebra in one thread);
* `optuna_defaults`: the same without these settings, as the documentation of the libraries shows it.

Candidate and baselines run in turn, so that a slow moment of the machine hits all. Prints one JSON object: seconds of
each run, ratios of the medians, whether every repeatable search found the same model, and peak memory of this process.

`--quality N` compares what is found instead, on N training sets with a linear and N with a curved signal: the best
cross-validated log loss, and the log loss of the refitted winner on fresh subjects.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trialops.models.bundle import Bundle
from trialops.models.calibration import log_loss
from trialops.models.candidates import (
    Candidate,
    cross_validate,
    fit_lightgbm,
    fit_logistic,
    lightgbm_params,
    one_thread,
    predict_logistic,
)
from trialops.models.design_matrix import inputs, labels
from trialops.models.search import search
from trialops.models.search_course import Course
from trialops.models.search_space import load_space
from trialops.models.split import site_folds
from trialops.models.task import Task, load_task

WORKERS = 2
OPTUNA = ("optuna_same", "optuna_choosing", "optuna_defaults")


def trial(task: Task, subjects: int, sites: int, seed: int, *, curved: bool = False) -> pl.DataFrame:
    """A synthetic training set: three informative features among noise, a tenth of the values missing."""
    rng = np.random.default_rng(seed)
    x = {name: rng.normal(size=subjects) for name in task.features}
    x["age"], x["sex_female"] = (
        rng.normal(75, 8, subjects).round(),
        rng.integers(0, 2, subjects).astype(float),
    )
    risk = x["ae_count"] + 0.7 * x["visit_delay_days"] - 0.5 * x["weight_change_pct"]
    if curved:  # what no line can follow
        risk = 1.5 * np.abs(x["ae_count"]) - 1.2 + x["visit_delay_days"] * np.sign(x["weight_change_pct"])
    label = (rng.random(subjects) < 1 / (1 + np.exp(-risk))).astype(np.int8)
    gaps = {name: np.where(rng.random(subjects) < 0.1, np.nan, values) for name, values in x.items()}
    return pl.DataFrame(
        {
            "subject_id": [f"P{i:06d}" for i in range(subjects)],
            "site_id": [f"S{k:02d}" for k in rng.integers(0, sites, subjects)],
            "label": label,
            **gaps,
        }
    )


def plain_optuna(
    frame: pl.DataFrame, task: Task, tried: list[tuple[Candidate, tuple[tuple[int, float], ...]]]
) -> float:
    """Best log loss of the given configurations with plain Optuna in two threads; the winner is fitted again."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    x, y = inputs(frame, task.features), labels(frame)
    folds, rounds = site_folds(frame, task), load_space().rounds
    study = optuna.create_study(direction="minimize")
    for number in range(len(tried)):
        study.enqueue_trial({"number": number})

    def objective(asked: optuna.Trial) -> float:
        candidate, cuts = tried[asked.suggest_int("number", 0, len(tried) - 1)]
        score = cross_validate(candidate, x, y, folds, rounds, 0, cuts)
        asked.set_user_attr("rounds", score.rounds)
        return score.log_loss

    with one_thread():
        study.optimize(objective, n_trials=len(tried), n_jobs=WORKERS)
        best = study.best_trial
        winner = tried[best.params["number"]][0]
        if winner.kind == "logistic":
            fit_logistic(x, y, winner.params, 0)
        else:
            fit_lightgbm(x, y, winner.params, best.user_attrs["rounds"], 0, task.features)
    return float(study.best_value)


def optuna_choosing(frame: pl.DataFrame, task: Task, trials: int, *, tuned: bool, seed: int = 0) -> Any:
    """The study where Optuna draws and prunes by itself, as its documentation shows it, in two threads."""
    import lightgbm
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    x, y = inputs(frame, task.features), labels(frame)
    space = load_space()
    folds, rounds = site_folds(frame, task, seed=seed), space.rounds
    fixed = space.sections["lightgbm"].content["fixed"] if tuned else {}
    parts = [(np.flatnonzero(folds.fold != k), np.flatnonzero(folds.fold == k)) for k in range(folds.count)]

    def objective(asked: optuna.Trial) -> float:
        if asked.suggest_categorical("kind", ["lightgbm", "logistic"]) == "logistic":
            params = {"C": asked.suggest_float("C", 1e-3, 10, log=True), "l1_ratio": asked.suggest_float("l1", 0, 1)}
            asked.set_user_attr("params", params)
            return cross_validate(Candidate(0, "logistic", params), x, y, folds, rounds, seed).log_loss
        drawn = {
            "learning_rate": asked.suggest_float("learning_rate", 0.02, 0.15, log=True),
            "num_leaves": asked.suggest_int("num_leaves", 3, 15),
            "min_data_in_leaf": asked.suggest_int("min_data_in_leaf", 5, 40),
            "feature_fraction": asked.suggest_float("feature_fraction", 0.4, 1.0),
            "lambda_l2": asked.suggest_float("lambda_l2", 0.01, 30, log=True),
            "max_depth": asked.suggest_int("max_depth", 2, 5),
            **fixed,
        }

        def prune(env: Any) -> None:
            asked.report(env.evaluation_result_list[0][2], env.iteration)
            if asked.should_prune():
                raise optuna.TrialPruned

        prune.order = 20  # type: ignore[attr-defined]
        found = lightgbm.cv(
            lightgbm_params(drawn, seed),
            lightgbm.Dataset(x, label=y, free_raw_data=False),
            num_boost_round=rounds.most,
            folds=parts,
            callbacks=[lightgbm.early_stopping(rounds.patience, verbose=False), prune],
        )
        asked.set_user_attr("params", drawn)
        asked.set_user_attr("rounds", len(found["valid binary_logloss-mean"]))
        return float(min(found["valid binary_logloss-mean"]))

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=40, reduction_factor=3)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    with one_thread() if tuned else contextlib.nullcontext():
        study.optimize(objective, n_trials=trials, n_jobs=WORKERS)
    return study


def what_was_tried(storage: Path, trials: int) -> list[tuple[Candidate, tuple[tuple[int, float], ...]]]:
    """Configurations and cuts of a finished search, so that plain Optuna does the same work."""
    folder = next(storage.glob("search-*")) / "trials"

    class Recorded(Course):
        """Notes the cuts of every generation while it is drawn again from the records."""

        def _cuts(self) -> Any:
            found = tuple(super()._cuts())
            seen.append((len(self.candidates), found))
            return iter(found)

    seen: list[tuple[int, tuple[tuple[int, float], ...]]] = []
    course = Recorded(trials, 0, load_space(), folder)
    starts = dict(seen)
    cuts: tuple[tuple[int, float], ...] = ()
    tried = []
    for candidate in course.candidates:
        cuts = starts.get(candidate.number, cuts)
        tried.append((candidate, cuts if candidate.kind == "lightgbm" else ()))
    return tried


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock, seconds of this process's CPU, and the result."""
    started, busy = time.perf_counter(), time.process_time()
    found = work()
    return round(time.perf_counter() - started, 2), round(time.process_time() - busy, 2), found


def compare(arguments: argparse.Namespace, subjects: int) -> dict[str, Any]:
    """All ways, in turn, on one training set."""
    task = load_task()
    frame = trial(task, subjects, arguments.sites, seed=0, curved=arguments.curved)
    ways = ["inprocess", "ray"] if arguments.ray else ["inprocess", *OPTUNA]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    losses: dict[str, float] = {}
    digests = set()
    with tempfile.TemporaryDirectory() as folder:

        def ours(backend: str, storage: Path) -> Any:
            return search(frame, task, trials=arguments.trials, backend=backend, storage=storage, workers=WORKERS)

        # Imports and the first use of every library are not part of the comparison.
        warm = Path(folder) / "warm"
        search(frame.head(300), task, trials=2, backend="inprocess", storage=warm)
        tried: list[tuple[Candidate, tuple[tuple[int, float], ...]]] = []
        for repeat in range(arguments.repeats):
            for way in ways:
                storage = Path(folder) / f"{way}-{repeat}"
                if way in ("inprocess", "ray"):
                    took, busy, found = timed(functools.partial(ours, way, storage))
                    digests.add(found.digest)
                    losses[way] = found.log_loss
                    tried = tried or what_was_tried(storage, arguments.trials)
                elif way == "optuna_same":
                    took, busy, losses[way] = timed(functools.partial(plain_optuna, frame, task, tried))
                else:
                    choosing = functools.partial(optuna_choosing, frame, task, arguments.trials)
                    took, busy, study = timed(functools.partial(choosing, tuned=way == "optuna_choosing"))
                    losses[way] = study.best_value
                print(f"{subjects} subjects, {way}: {took} s, {busy} s of CPU", file=sys.stderr, flush=True)
                seconds[way].append(took)
                cpu[way].append(busy)
    medians = {way: statistics.median(runs) for way, runs in seconds.items()}
    busy_medians = {way: statistics.median(runs) for way, runs in cpu.items()}
    ratios = {}
    for way in () if arguments.ray else OPTUNA:
        ratios[f"inprocess_to_{way}"] = medians["inprocess"] / medians[way]
        # On a busy machine the clock says little; Ray's work is done by other processes and is not in here.
        ratios[f"cpu_inprocess_to_{way}"] = busy_medians["inprocess"] / busy_medians[way]
    if arguments.ray:
        ratios["ray_to_inprocess"] = medians["ray"] / medians["inprocess"]
    return {
        "subjects": subjects,
        "seconds": seconds,
        "cpu_seconds": {way: runs for way, runs in cpu.items() if way != "ray"},
        "ratios": {name: round(value, 2) for name, value in ratios.items()},
        "best_log_loss": {way: round(loss, 5) for way, loss in losses.items()},
        "same_model": len(digests) == 1,
    }


def quality(arguments: argparse.Namespace, subjects: int) -> dict[str, Any]:
    """What the search and Optuna find on several training sets: losses under cross-validation and on fresh subjects."""
    task, rows = load_task(), []
    for shape in ("linear", "curved"):
        for seed in range(arguments.quality):
            frame = trial(task, subjects, arguments.sites, seed, curved=shape == "curved")
            fresh = trial(task, 20_000, arguments.sites, 1000 + seed, curved=shape == "curved")
            with tempfile.TemporaryDirectory() as folder:
                ours = search(
                    frame, task, trials=arguments.trials, seed=seed, backend="inprocess", storage=Path(folder)
                )
                bundle = Bundle.load(ours.bundle)
                on_fresh = log_loss(labels(fresh), bundle.predict(inputs(fresh, list(bundle.features))))
            study = optuna_choosing(frame, task, arguments.trials, tuned=False, seed=seed)
            rows.append({"shape": shape, "seed": seed, "kind": ours.kind, "cv": ours.log_loss, "fresh": on_fresh})
            rows[-1]["boosted"] = ours.trials.filter(pl.col("kind") == "lightgbm").height
            rows[-1] |= {"cv_optuna": study.best_value, "fresh_optuna": _fresh_loss(study, frame, fresh, task)}
    table = pl.DataFrame(rows)
    means = table.group_by("shape", maintain_order=True).agg(pl.col("cv", "fresh", "cv_optuna", "fresh_optuna").mean())
    return {"subjects": subjects, "rows": table.to_dicts(), "means": means.to_dicts()}


def _fresh_loss(study: Any, frame: pl.DataFrame, fresh: pl.DataFrame, task: Task) -> float:
    """Log loss on fresh subjects of the winner of Optuna, fitted again on the training set."""
    import lightgbm

    best = study.best_trial.user_attrs
    x, y, new = inputs(frame, task.features), labels(frame), inputs(fresh, task.features)
    if "rounds" not in best:
        return log_loss(labels(fresh), predict_logistic(fit_logistic(x, y, best["params"], 0), new))
    text = fit_lightgbm(x, y, best["params"], best["rounds"], 0, task.features)
    return log_loss(labels(fresh), np.asarray(lightgbm.Booster(model_str=text).predict(new)))


def main() -> int:
    """Run the comparison.

    Returns:
        0 when every repeatable search found the same model, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--subjects", type=int, action="append", help="may be repeated; 2000 by default")
    parser.add_argument("--sites", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="compare with a local Ray instead, start and stop included")
    parser.add_argument("--curved", action="store_true", help="a signal that boosting finds and no line does")
    parser.add_argument("--quality", type=int, default=0, metavar="N", help="compare what is found on 2 N sets")
    arguments = parser.parse_args()
    if arguments.quality:
        found = [quality(arguments, subjects) for subjects in arguments.subjects or [2000]]
        print(json.dumps({"trials": arguments.trials, "results": found}, indent=1))
        return 0
    results = [compare(arguments, subjects) for subjects in arguments.subjects or [2000]]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"trials": arguments.trials, "results": results, "peak_memory_mib": round(peak)}, indent=1))
    return 0 if all(result["same_model"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
