"""What a search may try, and how one candidate is fitted and scored.

Two families: penalised logistic regression (median fill and standardisation kept in the bundle) and LightGBM.
Every fit is a function of data, parameters and seed only: one thread, fixed row order, no clock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.booster import without_ranges
from trialops.models.calibration import log_loss

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.split import Folds

KINDS = ("logistic", "lightgbm")
BINNING = ("max_bin", "min_data_in_bin")  # parameters of the bins that a candidate may carry
BASELINE_PARAMS: Mapping[str, float] = {"C": 1.0, "l1_ratio": 0.0}


@dataclass(frozen=True)
class Candidate:
    """One configuration to try.

    Attributes:
        number: Position in the drawn list; ties between equal scores go to the lower one.
        kind: "logistic" or "lightgbm".
        params: Hyperparameters.
    """

    number: int
    kind: str
    params: Mapping[str, float | int]


@dataclass(frozen=True)
class Rounds:
    """Most boosting rounds, and how many without improvement end the fit."""

    most: int
    patience: int


@dataclass(frozen=True)
class Score:
    """Cross-validated score of a candidate.

    Attributes:
        log_loss: Mean negative log likelihood per subject over the out-of-fold predictions, natural log.
            Lower is better.
        auroc: Mean area under the ROC curve over folds; second opinion, not the objective.
        rounds: Boosting rounds chosen; 0 for logistic.
        out_of_fold: Prediction of each row by the model that did not see its site, shape (n,).
        curve: Learning curve, mean log loss over folds after each boosting round; empty for logistic.
        stopped: Round at which the fit was given up; 0 where it was not.
    """

    log_loss: float
    auroc: float
    rounds: int
    out_of_fold: np.ndarray
    curve: tuple[float, ...] = ()
    stopped: int = 0


def usable_features(x: np.ndarray, features: Sequence[str]) -> tuple[list[int], list[str]]:
    """Leave out features that carry nothing.

    Args:
        x: Training matrix of shape (n, p).
        features: Names of its columns.

    Returns:
        Positions kept, and one note per feature dropped.
    """
    import numpy as np

    keep, notes = [], []
    for position, name in enumerate(features):
        known = x[~np.isnan(x[:, position]), position]
        if known.size == 0:
            notes.append(f"{name}: dropped, all {len(x)} values missing")
        elif known.min() == known.max() and known.size == len(x):
            notes.append(f"{name}: dropped, constant")
        elif known.min() == known.max():
            notes.append(f"{name}: dropped, constant where known ({len(x) - known.size} missing)")
        else:
            keep.append(position)
    return keep, notes


def fit_logistic(
    x: np.ndarray, y: np.ndarray, params: Mapping[str, float | int], seed: int, weight: np.ndarray | None = None
) -> dict[str, Any]:
    """Fit penalised logistic regression on median-filled, standardised features.

    Args:
        x: Matrix of shape (n, p), NaN where missing.
        y: Labels of shape (n,).
        params: `C`, the inverse penalty, and `l1_ratio`, 0 (ridge) to 1 (lasso). The intercept is not
            penalised.
        seed: Seed of the elastic-net solver's row order.
        weight: Weight of each row in the likelihood, shape (n,); 1 by default.

    Returns:
        `fill`, `centre`, `scale`, `coefficients` (lists of p) and `intercept`.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    known = ~np.isnan(x)
    fill = np.array([np.median(x[known[:, j], j]) if known[:, j].any() else 0.0 for j in range(x.shape[1])])
    filled = np.where(known, x, fill)
    centre, scale = filled.mean(axis=0), filled.std(axis=0)
    scale[scale == 0] = 1.0
    ratio = float(params["l1_ratio"])
    solver = (
        {"solver": "newton-cholesky", "tol": 1e-8} if ratio == 0 else {"solver": "saga", "tol": 1e-5, "max_iter": 5000}
    )
    model = LogisticRegression(C=float(params["C"]), l1_ratio=ratio, random_state=seed, **solver)
    model.fit((filled - centre) / scale, y, sample_weight=weight)
    return {
        "fill": fill.tolist(),
        "centre": centre.tolist(),
        "scale": scale.tolist(),
        "coefficients": model.coef_[0].tolist(),
        "intercept": float(model.intercept_[0]),
    }


def predict_logistic(fitted: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Probabilities of shape (n,) from what `fit_logistic` returned."""
    import numpy as np

    filled = np.where(np.isnan(x), np.array(fitted["fill"]), x)
    scaled = (filled - np.array(fitted["centre"])) / np.array(fitted["scale"])
    return 1 / (1 + np.exp(-(scaled @ np.array(fitted["coefficients"]) + fitted["intercept"])))


def lightgbm_params(params: Mapping[str, float | int], seed: int) -> dict[str, Any]:
    """LightGBM parameters that make a fit repeatable to the bit."""
    return {
        **params,
        "objective": "binary",
        "metric": "binary_logloss",
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "feature_pre_filter": False,
        "verbosity": -1,
    }


def fit_lightgbm(
    x: np.ndarray,
    y: np.ndarray,
    params: Mapping[str, float | int],
    rounds: int,
    seed: int,
    features: Sequence[str],
    weight: np.ndarray | None = None,
) -> str:
    """Fit LightGBM for a fixed number of rounds, rows weighted where `weight` of shape (n,) is given.

    Returns:
        The model in LightGBM's text form, without the extremes of the training set.
    """
    import lightgbm

    data = lightgbm.Dataset(x, label=y, weight=weight, feature_name=list(features), free_raw_data=False)
    fitted = lightgbm.train(lightgbm_params(params, seed), data, num_boost_round=max(rounds, 1))
    return without_ranges(fitted.model_to_string())


def cross_validate(
    candidate: Candidate,
    x: np.ndarray,
    y: np.ndarray,
    folds: Folds,
    rounds: Rounds,
    seed: int,
    cuts: Sequence[tuple[int, float]] = (),
    bins: Bins | None = None,
) -> Score:
    """Score a candidate by site-grouped cross-validation.

    LightGBM runs all folds round by round; one number of rounds, the one with the lowest mean validation
    loss, serves every fold and the final refit.

    Args:
        candidate: What to score.
        x: Training matrix of shape (n, p).
        y: Labels of shape (n,).
        folds: Folds by site.
        rounds: Limits on boosting rounds.
        seed: Seed of the fits.
        cuts: (boosting round, loss): the fit is given up when its mean loss at that round is higher.
        bins: Bins of this matrix and these folds, used again by every trial; None makes them.

    Returns:
        The score, with the out-of-fold predictions.
    """
    import numpy as np

    out = np.empty(len(y), dtype=np.float64)
    parts = [(np.flatnonzero(folds.fold != k), np.flatnonzero(folds.fold == k)) for k in range(folds.count)]
    if candidate.kind == "logistic":
        for rest, part in parts:
            out[part] = predict_logistic(fit_logistic(x[rest], y[rest], candidate.params, seed), x[part])
        return Score(log_loss(y, out), fold_auroc(y, out, folds), 0, out)

    boosted = _boost(candidate, (bins or Bins()).of(x, y, parts, candidate.params, seed), rounds, seed, cuts)
    for (_, part), booster in zip(parts, boosted.boosters, strict=True):
        out[part] = booster.predict(x[part], num_iteration=boosted.chosen, num_threads=1)
    return Score(
        log_loss(y, out), fold_auroc(y, out, folds), boosted.chosen, out, tuple(boosted.curve), boosted.stopped
    )


@dataclass(frozen=True)
class _Boosted:
    """Boosters of the folds, the rounds chosen for them, their learning curve and the round of giving up (or 0)."""

    boosters: Sequence[Any]
    chosen: int
    curve: Sequence[float]
    stopped: int


def _boost(
    candidate: Candidate,
    data: Sequence[tuple[Any, Any]],
    rounds: Rounds,
    seed: int,
    cuts: Sequence[tuple[int, float]],
) -> _Boosted:
    """Boost all folds round by round, as `lightgbm.cv` does; that one would bin and split the data for every call."""
    import lightgbm
    import numpy as np

    boosters = []
    for fitted, left_out in data:
        boosters.append(lightgbm.Booster(lightgbm_params(candidate.params, seed), fitted))
        boosters[-1].add_valid(left_out, "valid")
    limits, curve = dict(cuts), []
    best, chosen = float("inf"), 1
    for done in range(1, rounds.most + 1):
        for booster in boosters:
            booster.update()
        curve.append(float(np.mean([booster.eval_valid()[0][2] for booster in boosters])))
        if curve[-1] > limits.get(done, float("inf")):
            return _Boosted(boosters, done, curve, done)
        if curve[-1] < best:
            best, chosen = curve[-1], done
        elif done - chosen >= rounds.patience:
            break
    return _Boosted(boosters, chosen, curve, 0)


class Bins:
    """The folds of one training set in LightGBM's bins, made once for all trials of a thread.

    A set in bins serves any parameters but those of the bins themselves. Each thread has its own: LightGBM does not
    say that two boosters may share one. A copy for another process starts empty.
    """

    def __init__(self) -> None:
        self._made = threading.local()

    def __reduce__(self) -> tuple[type[Bins], tuple[()]]:
        return Bins, ()

    def of(
        self,
        x: np.ndarray,
        y: np.ndarray,
        parts: Sequence[tuple[np.ndarray, np.ndarray]],
        params: Mapping[str, float | int],
        seed: int,
    ) -> Sequence[tuple[Any, Any]]:
        """What each fold fits on and is left out of it, as LightGBM data sets; always called with the same data."""
        import lightgbm

        own = lightgbm_params({name: params[name] for name in BINNING if name in params}, seed)
        made = self._made.__dict__.setdefault("sets", {})
        key = tuple(sorted(own.items()))
        if key not in made:
            whole = lightgbm.Dataset(x, label=y, params=own).construct()
            made[key] = [(whole.subset(rest).construct(), whole.subset(part).construct()) for rest, part in parts]
        return list(made[key])


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra in one thread: on small matrices more only wait for each other, and sums keep their order."""
    import sklearn.linear_model  # noqa: F401 -- loads every library that is to be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def fold_auroc(y: np.ndarray, p: np.ndarray, folds: Folds) -> float:
    """Mean AUROC over the folds that hold both classes; NaN when none does."""
    import numpy as np

    from trialops.models.discrimination import auroc

    areas = [auroc(y[folds.fold == k], p[folds.fold == k]) for k in range(folds.count)]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")
