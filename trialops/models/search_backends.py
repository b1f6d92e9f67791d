"""Where the trials of a search run: local or cluster Ray, or this process. Both can resume.

A backend gets a list of numbered candidates and returns one row per candidate. It decides nothing: neither
what is tried nor which wins depends on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.candidates import Candidate, Rounds, cross_validate

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.split import Folds

Progress = Callable[[str, float], None]

#: Read by Ray when it is imported or started: no usage report, no per-trial log files, no `uv run` for its
#: workers.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # snapshot of finished trials: the most a killed search loses
}


@dataclass(frozen=True)
class Problem:
    """All that a trial's outcome depends on.

    Attributes:
        x: Training matrix of shape (n, p), rows sorted by subject.
        y: Labels of shape (n,).
        folds: Folds by site.
        candidates: What to try.
        rounds: Limits on boosting rounds.
        seed: Seed of every fit.
    """

    x: np.ndarray
    y: np.ndarray
    folds: Folds
    candidates: tuple[Candidate, ...]
    rounds: Rounds
    seed: int


@dataclass(frozen=True)
class Outcome:
    """Score of one candidate."""

    number: int
    log_loss: float
    auroc: float
    rounds: int


def run_trial(number: int, problem: Problem) -> Outcome:
    """Score one candidate."""
    p = problem
    score = cross_validate(p.candidates[number], p.x, p.y, p.folds, p.rounds, p.seed)
    return Outcome(number, score.log_loss, score.auroc, score.rounds)


def run_inprocess(problem: Problem, storage: Path, *, workers: int, progress: Progress | None) -> list[Outcome]:
    """Run the trials in threads of this process, recorded in an Optuna journal.

    Args:
        problem: What to try on what.
        storage: Folder of the journal; finished trials found there are not run again.
        workers: Threads.
        progress: Told after every trial.

    Returns:
        One outcome per candidate, by number.
    """
    import optuna
    import sklearn.linear_model  # noqa: F401 -- before the threads: two that import it at once see half a module
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.JournalStorage(JournalFileBackend(str(storage / "optuna.journal")))
    study = optuna.create_study(study_name="search", storage=journal, load_if_exists=True, direction="minimize")
    total = len(problem.candidates)

    def numbers(*states: TrialState) -> set[int]:
        found = study.get_trials(deepcopy=False, states=states)
        return {
            int(t.params["number"] if "number" in t.params else t.system_attrs["fixed_params"]["number"]) for t in found
        }

    waiting, done = numbers(TrialState.WAITING), numbers(TrialState.COMPLETE)
    for number in sorted(set(range(total)) - done - waiting):
        study.enqueue_trial({"number": number})
    finished = len(done)

    def objective(trial: optuna.Trial) -> float:
        outcome = run_trial(trial.suggest_int("number", 0, total - 1), problem)
        trial.set_user_attr("auroc", outcome.auroc)
        trial.set_user_attr("rounds", outcome.rounds)
        return outcome.log_loss

    def told(_study: optuna.Study, _trial: optuna.trial.FrozenTrial) -> None:
        nonlocal finished
        finished += 1
        if progress:
            progress(f"trial {finished} of {total}", finished / total)

    if finished < total:
        study.optimize(objective, n_trials=total - finished, n_jobs=min(workers, total - finished), callbacks=[told])
    rows = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        number = int(trial.params["number"])
        rows[number] = Outcome(
            number, float(trial.value), float(trial.user_attrs["auroc"]), int(trial.user_attrs["rounds"])
        )
    return [rows[number] for number in range(total)]


def run_ray(
    problem: Problem, storage: Path, *, workers: int, progress: Progress | None, address: str | None
) -> list[Outcome]:
    """Run the trials as Ray Tune trials.

    Args:
        problem: What to try on what.
        storage: Folder of the experiment, shared by all nodes on a cluster; an unfinished experiment there is
            resumed.
        workers: Trials at a time.
        progress: Told after every trial.
        address: Ray cluster to join; None starts a local one and stops it afterwards.

    Returns:
        One outcome per candidate, by number.

    Raises:
        TrialOpsError: Ray does not start, or a trial failed.
    """
    with _ray(workers, address):
        from ray import tune

        name = "ray"
        trainable = tune.with_resources(tune.with_parameters(_ray_trial, problem=problem), {"cpu": 1})
        experiment = str((storage / name).resolve())
        with _listening(progress, len(problem.candidates)) as resumed:
            if tune.Tuner.can_restore(experiment):
                tuner = tune.Tuner.restore(experiment, trainable, resume_unfinished=True, restart_errored=True)
                resumed(sum("log_loss" in (result.metrics or {}) for result in tuner.get_results()))
            else:
                tuner = tune.Tuner(
                    trainable,
                    param_space={"number": tune.grid_search(list(range(len(problem.candidates))))},
                    tune_config=tune.TuneConfig(
                        metric="log_loss", mode="min", max_concurrent_trials=workers, reuse_actors=True
                    ),
                    run_config=tune.RunConfig(
                        name=name,
                        storage_path=str(storage.resolve()),
                        verbose=0,
                        callbacks=[_listener_class()()],
                    ),
                )
            grid = tuner.fit()
        if grid.errors:
            raise TrialOpsError(
                f"{len(grid.errors)} of {len(problem.candidates)} trials failed: {type(grid.errors[0]).__name__}.",
                where=experiment,
                fix="Read error.txt in the trial's folder there and run again: finished trials are kept.",
            )
        rows = {int(r.config["number"]): r.metrics for r in grid}
    missing = sorted(set(range(len(problem.candidates))) - set(rows))
    if missing:
        raise TrialOpsError(
            f"{len(missing)} trials have no result.",
            where=experiment,
            fix="Delete this folder and run the search again.",
        )
    return [
        Outcome(n, float(rows[n]["log_loss"]), float(rows[n]["auroc"]), int(rows[n]["rounds"])) for n in sorted(rows)
    ]


def _ray_trial(config: dict[str, Any], problem: Problem) -> dict[str, float]:
    outcome = run_trial(int(config["number"]), problem)
    return {"log_loss": outcome.log_loss, "auroc": outcome.auroc, "rounds": outcome.rounds}


@contextmanager
def _ray(workers: int, address: str | None) -> Iterator[None]:
    """Ray for the length of a search. A Ray that the caller started is used and left alone."""
    os.environ.update({key: value for key, value in RAY_ENVIRONMENT.items() if key not in os.environ})
    import ray

    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
    except Exception as error:
        ray.shutdown()
        raise TrialOpsError(
            f"Ray did not start: {type(error).__name__}.",
            where=f"Ray address {address or 'local'}",
            fix="Check the address and free memory, or search in process: SEARCH_BACKEND=inprocess.",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


# Tune pickles its callbacks into the experiment: the callback holds nothing and looks its listener up here.
_listeners: list[Callable[[], None]] = []


@contextmanager
def _listening(progress: Progress | None, total: int) -> Iterator[Callable[[int], None]]:
    finished = 0

    def resumed(trials: int) -> None:
        nonlocal finished
        finished = trials

    def told() -> None:
        nonlocal finished
        finished += 1
        if progress:
            progress(f"trial {finished} of {total}", min(finished / total, 1.0))

    _listeners.append(told)
    try:
        yield resumed
    finally:
        _listeners.remove(told)


def _listener_class() -> type:
    from ray import tune

    class TrialFinished(tune.Callback):
        """Tells the search's listener that a trial is done."""

        def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
            from trialops.models import search_backends  # not a global: that would be pickled

            for told in list(search_backends._listeners):
                told()

    return TrialFinished
