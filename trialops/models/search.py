"""Hyperparameter search that gives the same model every time.

A regulated run must be repeatable: from the same data and seed, an inspector must get the same winner,
whether the search ran on Ray or in process, on one worker or eight, at once or in two halves. A trial's outcome
depends on its parameters, the data and the seed only; and what is tried next, and which fit is given up, is decided
between generations of trials, from complete ones (`search_course`). A sampler or scheduler that looks at whichever
trials have finished by now (Tune's ASHA) would make the winner depend on timing.

The objective is the log loss under cross-validation grouped by site: a proper score that rewards calibration
and, unlike AUROC, changes smoothly in small samples. Equal scores go to the lower trial number.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.calibration import log_loss
from trialops.models.candidates import (
    BASELINE_PARAMS,
    Candidate,
    Score,
    cross_validate,
    fit_lightgbm,
    fit_logistic,
    one_thread,
    usable_features,
)
from trialops.models.design_matrix import inputs, labels, values
from trialops.models.discrimination import Estimate, auroc
from trialops.models.internal_external import InternalExternal, internal_external
from trialops.models.interval import make_interval_table
from trialops.models.record import plain
from trialops.models.search_backends import Problem, run_inprocess, run_ray, seconds_of_one
from trialops.models.search_course import Course, Outcome, Progress, Records, as_document
from trialops.models.search_space import SPACE, Space, load_space
from trialops.models.selection import loss_difference
from trialops.models.split import Folds, site_folds
from trialops.models.temporal import TemporalScore, temporal_score

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from trialops.models.task import Task

BACKENDS = ("auto", "ray", "inprocess")
_PASSING = ("bundle", "baseline", "backend", "seconds")


@dataclass(frozen=True)
class FoldScore:
    """Internal-external validation: the winner's configuration judged on sites left out of its fit."""

    sites: tuple[str, ...]
    n: int
    events: int
    log_loss: float
    auroc: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        kind: Family of the winner.
        params: Its hyperparameters, with `rounds` for LightGBM.
        log_loss: Its cross-validated log loss.
        auroc: Its cross-validated AUROC, mean over folds.
        baseline_log_loss: Same for the prespecified model.
        baseline_auroc: Same for the prespecified model.
        threshold: Decision threshold chosen on out-of-fold predictions.
        gain: Log loss that the winner saves against the prespecified model, per subject, paired on the same
            left-out subjects, with an interval that takes sites as the independent units.
        folds: The winner's score on each group of left-out sites.
        sites: The same site by site, summarised over sites.
        temporal: The winner's configuration fitted on those enrolled first and judged on those enrolled last; None
            where the data do not tell, or the task does not ask for it.
        trials: One row per trial: number, kind, log_loss, auroc, rounds, stopped and every hyperparameter.
        curves: Learning curve of each boosted trial, thinned: number, stopped, curve of (round, log loss).
        bundle: Folder of the winner refitted on all training subjects.
        baseline: Folder of the prespecified model.
        digest: Digest of the winner's bundle.
        backend: Where the trials ran.
        seconds: Wall-clock time of the search.
        notes: Dropped features, and what a reader should know of the folds.
    """

    kind: str
    params: Mapping[str, float | int]
    log_loss: float
    auroc: float
    baseline_log_loss: float
    baseline_auroc: float
    threshold: float
    gain: Estimate
    folds: tuple[FoldScore, ...]
    sites: InternalExternal
    trials: pl.DataFrame
    curves: tuple[dict[str, Any], ...]
    temporal: TemporalScore | None
    bundle: Path
    baseline: Path
    digest: str
    backend: str
    seconds: float
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """What was found, as JSON values; where and how fast it ran is left out, since it must not matter."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in _PASSING}
        return plain(found)


@one_thread()
def search(
    train: Any,
    task: Task,
    *,
    trials: int = 20,
    seed: int = 0,
    backend: str = "auto",
    storage: Path,
    progress: Progress | None = None,
    training: Mapping[str, Any] | None = None,
    created_by: str = "",
    workers: int = 2,
    ray_address: str | None = None,
    space: Path = SPACE,
    ledger: Records | None = None,
) -> SearchResult:
    """Search, refit the winner on all training subjects and write its bundle.

    Args:
        train: Training part (polars or pandas), one row per subject; row order does not matter.
        task: The task.
        trials: Number of configurations.
        seed: Seed of the configurations, folds and fits.
        backend: "ray", "inprocess", or "auto": Ray where a cluster is given or the trials would take long enough
            here to pay for it. The result is the same.
        storage: Folder for trial records and bundles. A search that was killed resumes when called again with
            the same data, task, trials, seed and storage.
        progress: Called with a message and the fraction done.
        training: Reference of the training set (table, version, digest), kept in the bundle.
        created_by: Run id, kept in the bundle; leave it out where the same data must give the same bundle.
        workers: Trials at a time.
        ray_address: Ray cluster to join; None starts a local Ray.
        space: YAML file of the search space.
        ledger: Where finished trials are kept; None keeps them below the storage folder.

    Returns:
        The result.

    Raises:
        TrialOpsError: The data cannot be searched, an argument is out of range, Ray does not start or a trial
        fails.
    """
    started = time.perf_counter()
    if backend not in BACKENDS or trials < 1:
        raise TrialOpsError(
            f"Backend {backend!r} with {trials} trials cannot be searched.",
            where="search",
            fix=f"Use one of {', '.join(BACKENDS)} and at least one trial.",
        )
    order = values(train, "subject_id").astype(str).argsort(kind="stable")
    frame = train.iloc[order] if hasattr(train, "iloc") else train[order.tolist()]
    x_all, y = inputs(frame, task.features), labels(frame)
    keep, notes = usable_features(x_all, task.features)
    if not keep:
        raise TrialOpsError(
            f"None of the {len(task.features)} features varies.",
            where="training set",
            fix="Check that the feature views hold data up to the landmark.",
        )
    features, x = [task.features[k] for k in keep], x_all[:, keep]
    folds = site_folds(frame, task, seed=seed)
    loaded = load_space(space)
    problem = Problem(x, y, folds, loaded.rounds, seed, loaded.plan.rungs)
    home = storage / f"search-{_digest(problem, features, trials, loaded)[:16]}"
    if progress:
        progress(f"searching {trials} configurations", 0.0)
    course = Course(trials, seed, loaded, ledger or home / "trials", progress=progress)
    backend = _run(problem, course, home, backend, workers, ray_address, loaded.plan.ray_from_seconds)
    outcomes, candidates = course.outcomes(), course.candidates
    best = min((o for o in outcomes if not o.stopped), key=lambda o: (o.log_loss, o.number))
    winner = candidates[best.number]
    score = cross_validate(winner, x, y, folds, loaded.rounds, seed, bins=problem.bins)
    reference = {
        **(training or {}),
        "rows": len(y),
        "events": int(y.sum()),
        "sites": sorted({str(site) for site in values(frame, "site_id")}),
    }
    common = {"training": reference, "created_by": created_by}
    model = fit_bundle(
        winner, x, y, features, score, task, seed, name=task.name, notes=(*notes, *folds.notes), **common
    )
    base, base_score = _baseline(x, y, features, folds, task, seed, loaded.rounds, common)
    site = values(frame, "site_id")
    if progress:
        progress(f"winner: trial {best.number} ({winner.kind}), log loss {best.log_loss:.4f}", 1.0)
    return SearchResult(
        kind=winner.kind,
        params=model.params,
        log_loss=best.log_loss,
        auroc=best.auroc,
        baseline_log_loss=base_score.log_loss,
        baseline_auroc=base_score.auroc,
        threshold=model.threshold,
        gain=loss_difference(y, base_score.out_of_fold, score.out_of_fold, site),
        folds=_fold_scores(y, score.out_of_fold, folds),
        sites=internal_external(y, score.out_of_fold, site),
        trials=_trial_table(candidates, outcomes),
        curves=tuple(as_document(course)),
        temporal=temporal_score(frame, x, features, winner, score.rounds, task, seed),
        bundle=model.save(home / "model"),
        baseline=base.save(home / "baseline"),
        digest=model.digest,
        backend=backend,
        seconds=time.perf_counter() - started,
        notes=(*notes, *folds.notes),
    )


def _run(
    problem: Problem,
    course: Course,
    home: Path,
    backend: str,
    workers: int,
    address: str | None,
    pays_from: float,
) -> str:
    """Run the course to its end; returns where."""
    if backend == "auto" and not address:
        # Timed on a trial that has to be run anyhow: what a search costs depends on more than its size.
        left = course.total - course.kept - 1
        backend = "ray" if seconds_of_one(problem, course) * left / workers > pays_from else "inprocess"
    if backend == "inprocess":
        run_inprocess(problem, course, workers=workers)
        return backend
    run_ray(problem, course, home / "tune", workers=workers, address=address)
    return "ray"


def fit_bundle(
    candidate: Candidate,
    x: np.ndarray,
    y: np.ndarray,
    features: list[str],
    score: Score,
    task: Task,
    seed: int,
    *,
    name: str,
    notes: tuple[str, ...],
    **common: Any,
) -> Bundle:
    """Fit a candidate on all rows and choose its decision threshold on the out-of-fold predictions.

    Args:
        candidate: What to fit.
        x: Matrix of shape (n, p).
        y: Labels of shape (n,).
        features: Names of its columns.
        score: The candidate's cross-validated score.
        task: Gives the threshold rule.
        seed: Seed of the fit.
        name: Model name.
        notes: Notes for the bundle.
        **common: `training` and `created_by` of the bundle.

    Returns:
        The bundle, not yet written.
    """
    threshold = choose_threshold(y, score.out_of_fold, task)
    base = {
        "name": name,
        "kind": candidate.kind,
        "features": tuple(features),
        "threshold": threshold,
        "task": task.as_dict(),
        "notes": notes,
        "interval": make_interval_table(score.out_of_fold, y),
        **common,
    }
    if candidate.kind == "logistic":
        fitted = fit_logistic(x, y, candidate.params, seed)
        return Bundle(
            **base,
            params={**candidate.params, "seed": seed},
            fill=dict(zip(features, fitted["fill"], strict=True)),
            centre=tuple(fitted["centre"]),
            scale=tuple(fitted["scale"]),
            coefficients=tuple(fitted["coefficients"]),
            intercept=fitted["intercept"],
        )
    text = fit_lightgbm(x, y, candidate.params, score.rounds, seed, features)
    return Bundle(**base, params={**candidate.params, "rounds": score.rounds, "seed": seed}, booster=text)


def choose_threshold(y: np.ndarray, p: np.ndarray, task: Task) -> float:
    """Decision threshold by the task's rule.

    Args:
        y: Labels of shape (n,).
        p: Out-of-fold predictions of shape (n,).
        task: Gives the rule: "youden" maximises sensitivity + specificity (Youden, Cancer 1950;3:32),
            "prevalence" is the share of events, "fixed" is the declared value.

    Returns:
        The probability from which a subject is flagged.
    """
    import numpy as np

    if task.threshold.rule == "fixed" and task.threshold.value is not None:
        return task.threshold.value
    if task.threshold.rule == "prevalence":
        return float(y.mean())
    cuts = np.unique(p)
    hit = 1 - np.searchsorted(np.sort(p[y == 1]), cuts, side="left") / y.sum()
    alarm = 1 - np.searchsorted(np.sort(p[y == 0]), cuts, side="left") / (len(y) - y.sum())
    return float(cuts[np.argmax(hit - alarm)])


def _baseline(
    x: np.ndarray,
    y: np.ndarray,
    features: list[str],
    folds: Folds,
    task: Task,
    seed: int,
    rounds: Any,
    common: dict[str, Any],
) -> tuple[Bundle, Score]:
    """The prespecified model: ridge logistic regression on the task's baseline features, nothing tuned."""
    columns = [k for k, name in enumerate(features) if name in task.baseline_features]
    if not columns:
        raise TrialOpsError(
            "The baseline features do not vary in the training set.",
            where="task, key baseline_features",
            fix="Check that age and sex reach the training set.",
        )
    candidate = Candidate(-1, "logistic", dict(BASELINE_PARAMS))
    score = cross_validate(candidate, x[:, columns], y, folds, rounds, seed)
    names, title = [features[k] for k in columns], f"{task.name}-baseline"
    return fit_bundle(candidate, x[:, columns], y, names, score, task, seed, name=title, notes=(), **common), score


def _fold_scores(y: np.ndarray, p: np.ndarray, folds: Folds) -> tuple[FoldScore, ...]:
    rows = []
    for k, sites in enumerate(folds.groups):
        part = folds.fold == k
        rows.append(
            FoldScore(
                sites,
                int(part.sum()),
                int(y[part].sum()),
                log_loss(y[part], p[part]),
                auroc(y[part], p[part]),
            )
        )
    return tuple(rows)


def _trial_table(candidates: list[Candidate], outcomes: list[Outcome]) -> pl.DataFrame:
    import polars as pl

    names = sorted({name for candidate in candidates for name in candidate.params})
    rows = [
        {
            "number": o.number,
            "kind": candidates[o.number].kind,
            "log_loss": o.log_loss,
            "auroc": o.auroc,
            "rounds": o.rounds,
            "stopped": o.stopped,
            **{name: _number(candidates[o.number].params.get(name)) for name in names},
        }
        for o in outcomes
    ]
    schema = {
        "number": pl.Int64,
        "kind": pl.String,
        "log_loss": pl.Float64,
        "auroc": pl.Float64,
        "rounds": pl.Int64,
        "stopped": pl.Int64,
    }
    return pl.DataFrame(rows, schema={**schema, **dict.fromkeys(names, pl.Float64)})


def _number(value: float | int | None) -> float | None:
    return None if value is None else float(value)


def _digest(problem: Problem, features: list[str], trials: int, space: Space) -> str:
    """Identity of a search: what its trials' outcomes depend on, library versions included."""
    from importlib.metadata import version

    content = {
        "features": features,
        "trials": trials,
        "space": space.digest,
        "seed": problem.seed,
        "versions": {name: version(name) for name in ("lightgbm", "scikit-learn", "numpy", "optuna")},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for array in (problem.x, problem.y, problem.folds.fold):
        digest.update(array.tobytes())
    return digest.hexdigest()
