"""Where the trials of a search run: local or cluster Ray, or this process.

A backend takes trials from the course of the search and tells it their outcomes. It decides nothing: neither what
is tried nor which wins depends on it, and a search begun on one may be finished on the other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.candidates import Bins, Rounds, cross_validate, one_thread
from trialops.models.search_course import Course, Outcome, Trial

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from trialops.models.split import Folds

POINTS = 30  # of a learning curve that is kept
OBJECT_STORE = 100_000_000  # bytes of a local Ray's, beside the training set; its least is 75 MiB

#: Read by Ray when it is imported or started: no usage report, no per-trial log files, no `uv run` for its
#: workers.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # finished trials are kept by the course, not by Tune's snapshots
}


@dataclass(frozen=True)
class Problem:
    """All that a trial's outcome depends on, but the trial.

    Attributes:
        x: Training matrix of shape (n, p), rows sorted by subject.
        y: Labels of shape (n,).
        folds: Folds by site.
        rounds: Limits on boosting rounds.
        seed: Seed of every fit.
        rungs: Boosting rounds that every learning curve must show.
        bins: The matrix in LightGBM's bins, by thread.
    """

    x: np.ndarray
    y: np.ndarray
    folds: Folds
    rounds: Rounds
    seed: int
    rungs: tuple[int, ...] = ()
    bins: Bins = field(default_factory=Bins, compare=False)


def run_trial(trial: Trial, problem: Problem) -> Outcome:
    """Score one configuration."""
    p = problem
    score = cross_validate(trial.candidate, p.x, p.y, p.folds, p.rounds, p.seed, trial.cuts, p.bins)
    curve = _thinned(score.curve, (*p.rungs, score.rounds))
    return Outcome(trial.candidate.number, score.log_loss, score.auroc, score.rounds, score.stopped, curve)


def _thinned(curve: tuple[float, ...], always: tuple[int, ...]) -> tuple[tuple[int, float], ...]:
    """(round, loss) at evenly spaced rounds, the last one, and those that must be there."""
    last = len(curve)
    step = max(1, last // POINTS)
    rounds = {*range(1, last + 1, step), last, *(r for r in always if r <= last)} - {0}
    return tuple((r, curve[r - 1]) for r in sorted(rounds))


def run_inprocess(problem: Problem, course: Course, *, workers: int) -> None:
    """Run the course's trials in threads of this process; LightGBM leaves the interpreter lock while it boosts.

    Args:
        problem: What to try on.
        course: Hands out trials and takes outcomes.
        workers: Threads.
    """
    from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

    import sklearn.linear_model  # noqa: F401 -- before the threads: two that import it at once see half a module

    running: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while not course.finished:
                while len(running) < workers and (trial := course.take()):
                    running.add(pool.submit(run_trial, trial, problem))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    course.tell(future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def seconds_of_one(problem: Problem, course: Course) -> float:
    """Run the course's next trial here and say how long it took; 0 where there is none left."""
    trial = course.take()
    if trial is None:
        return 0.0
    started = time.perf_counter()
    course.tell(run_trial(trial, problem))
    return time.perf_counter() - started


def run_ray(problem: Problem, course: Course, storage: Path, *, workers: int, address: str | None) -> None:
    """Run the course's trials as Ray Tune trials, on actors that are used again for the next one.

    Args:
        problem: What to try on.
        course: Hands out trials and takes outcomes.
        storage: Folder for what Tune writes while it runs.
        workers: Trials at a time.
        address: Ray cluster to join; None starts a local one and stops it afterwards.

    Raises:
        TrialOpsError: Ray does not start, or a trial failed.
    """
    if course.finished:
        return
    with _ray(workers, address, problem.x.nbytes):
        import ray
        from ray import tune

        storage.mkdir(parents=True, exist_ok=True)
        trainable = tune.with_resources(tune.with_parameters(_ray_trial, problem=problem), {"cpu": 1})
        at_once = workers if address is None else max(1, int(ray.cluster_resources().get("CPU", workers)))
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                metric="log_loss",
                mode="min",
                search_alg=_searcher(course),
                num_samples=course.total - course.kept,
                max_concurrent_trials=at_once,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
            ),
            # A name of its own: an earlier attempt that was killed left its folder behind.
            run_config=tune.RunConfig(
                name=f"ray-{course.kept:04d}-{os.getpid()}", storage_path=str(storage.resolve()), verbose=0
            ),
        )
        grid = tuner.fit()
    if grid.errors:
        raise TrialOpsError(
            f"{len(grid.errors)} of {course.total} trials failed: {type(grid.errors[0]).__name__}.",
            where=str(storage),
            fix="Read error.txt in the trial's folder there and run again: finished trials are kept.",
        )
    if not course.finished:
        raise TrialOpsError(
            "Ray ended before every trial had a result.",
            where=str(storage),
            fix="Run again: finished trials are kept.",
        )


def _ray_trial(config: dict[str, Any], problem: Problem) -> dict[str, str | float]:
    with one_thread():
        outcome = run_trial(Trial.loads(config["trial"]), problem)
    return {"outcome": outcome.dumps(), "log_loss": outcome.log_loss}


def _searcher(course: Course) -> Any:
    """The course as Tune's search algorithm: it lives in the driver, and so do the records of finished trials."""
    from ray.tune.search import Searcher

    class Generations(Searcher):
        """Suggests the trials of the course; waits while a generation is incomplete."""

        def suggest(self, trial_id: str) -> dict[str, Any] | None:
            trial = course.take()
            if trial is not None:
                return {"number": trial.candidate.number, "trial": trial.dumps()}
            return Searcher.FINISHED if course.finished else None

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            if result and "outcome" in result and not error:
                course.tell(Outcome.loads(result["outcome"]))

        def save(self, checkpoint_path: str) -> None:
            """Nothing to save: the course keeps every finished trial itself."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing to restore."""

        def __reduce__(self) -> tuple[Any, ...]:
            """Tune keeps its parts as bytes; the course, and the step it reports to, stay here."""
            return Searcher, ("log_loss", "min")

    return Generations(metric="log_loss", mode="min")


@contextmanager
def _ray(workers: int, address: str | None, matrix: int) -> Iterator[None]:
    """Ray for the length of a search on a matrix of so many bytes. One that the caller started is left alone."""
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
            # The store holds the training set and short answers; Ray would take a third of the machine's memory.
            store = OBJECT_STORE + 4 * matrix
            ray.init(address="local", num_cpus=workers, include_dashboard=False, object_store_memory=store, **quiet)
    except Exception as error:
        ray.shutdown()
        raise TrialOpsError(
            f"Ray did not start: {type(error).__name__}.",
            where=f"Ray address {address or 'local'}",
            fix="Check the address and free memory, or search in process: TRIALOPS_SEARCH_BACKEND=inprocess.",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
