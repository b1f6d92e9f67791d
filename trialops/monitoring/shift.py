"""Covariate shift of all features together: can a classifier tell current rows from the reference's?

A regularised logistic regression on the standardised features, their squares and whether they are missing, so that a
change of location, of spread or of missingness in several features at once is seen, is cross-validated. Its area under
the ROC curve is 0.5 where the two are alike (Lopez-Paz and Oquab, Revisiting classifier two-sample tests, ICLR 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.record import plain
from trialops.monitoring.drift import DRIFT, INSUFFICIENT, NO_DRIFT
from trialops.monitoring.drift_policy import DriftPolicy, load_drift_policy
from trialops.monitoring.sampling import matrix

if TYPE_CHECKING:
    import numpy as np

CLIP = 5.0
"""Standardised values are cut here: one wild value must not make the fit."""


@dataclass(frozen=True)
class Shift:
    """What the classifier found.

    Attributes:
        state: "drift", "no drift" or "insufficient evidence".
        auroc: Mean area over the folds; NaN with too few rows.
        low: Lower bound, one-sided at the policy's level; DeLong's variance.
        standard_error: Of the area.
        n_reference: Rows used of the reference.
        n_current: Rows used of the current data.
        drivers: Feature and its part in the separation, the greatest first; parts sum to 1.
    """

    state: str
    auroc: float
    low: float
    standard_error: float
    n_reference: int
    n_current: int
    drivers: tuple[tuple[str, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return plain(self)


def domain_classifier(
    reference: Any, current: Any, features: Sequence[str], policy: DriftPolicy | None = None
) -> Shift:
    """Cross-validate a classifier of current against reference rows.

    The area is averaged over the folds: every fold's rows are new to the model that scores them, and scores of
    different models are not mixed. Its variance is the mean of DeLong's over the folds times 1/folds + 1/(folds - 1):
    the folds' models share rows, so their areas are not independent (Nadeau and Bengio, Machine Learning 52 (2003)).

    Args:
        reference: Rows the model learnt from.
        current: Rows that came after; one per subject.
        features: Numeric features.
        policy: The policy; the shipped one by default.

    Raises:
        TrialOpsError: A feature is absent.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    from trialops.models.candidates import fit_logistic, predict_logistic
    from trialops.models.discrimination import delong, z_value

    policy = policy or load_drift_policy()
    limits = policy.classifier
    before = matrix(reference, features, most=limits.rows, seed=policy.seed)
    now = matrix(current, features, most=limits.rows, seed=policy.seed + 1)
    if len(before) < policy.min_reference_rows or len(now) < policy.min_rows:
        return Shift(INSUFFICIENT, math.nan, math.nan, math.nan, len(before), len(now), ())
    x, owner = _design(before, now)
    y = np.r_[np.zeros(len(before), dtype=np.int8), np.ones(len(now), dtype=np.int8)]
    fold = _folds(y, limits.folds, policy.seed)
    areas, variances = np.empty(limits.folds), np.empty(limits.folds)
    parts = np.zeros(len(features))
    for k in range(limits.folds):
        rest, part = fold != k, fold == k
        with threadpool_limits(1, "blas"):  # a fit this small takes longer on threads that wait for each other
            fitted = fit_logistic(x[rest], y[rest], {"C": limits.penalty, "l1_ratio": 0.0}, policy.seed)
        found, covariance = delong(y[part], predict_logistic(fitted, x[part])[None, :])
        areas[k], variances[k] = found[0], covariance[0, 0]
        # The mean score of current rows less that of reference rows is a sum over the columns.
        weight = np.array(fitted["coefficients"]) / np.array(fitted["scale"])
        apart = weight * (x[part & (y == 1)].mean(axis=0) - x[part & (y == 0)].mean(axis=0))
        parts += np.bincount(owner, weights=apart, minlength=len(features))
    area = float(areas.mean())
    error = math.sqrt(float(variances.mean()) * (1 / limits.folds + 1 / (limits.folds - 1)))
    low = float(area - z_value(1 - 2 * limits.alpha) * error)
    told_apart = low > 0.5 and area >= limits.relevant_auroc
    positive = np.maximum(parts, 0.0)
    shares = positive / positive.sum() if positive.sum() > 0 else positive
    order = np.argsort(-shares, kind="stable")
    return Shift(
        state=DRIFT if told_apart else NO_DRIFT,
        auroc=area,
        low=low,
        standard_error=error,
        n_reference=len(before),
        n_current=len(now),
        drivers=tuple((features[j], float(shares[j])) for j in order),
    )


def _design(before: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns for the classifier, and the feature each belongs to.

    Location and spread are the reference's; a value that is missing stands at its mean and is marked.
    """
    import warnings

    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a feature without any value
        centre, spread = np.nanmean(before, axis=0), np.nanstd(before, axis=0)
    centre = np.where(np.isfinite(centre), centre, 0.0)
    spread = np.where(np.isfinite(spread) & (spread > 0), spread, 1.0)
    both = np.vstack([before, now])
    missing = np.isnan(both)
    z = np.where(missing, 0.0, np.clip((both - centre) / spread, -CLIP, CLIP))
    marked = np.flatnonzero(missing.any(axis=0))
    everyone = np.arange(both.shape[1])
    squares = np.where(missing, 1.0, z * z)
    return np.hstack([z, squares, missing[:, marked]]), np.r_[everyone, everyone, marked]


def _folds(y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of every row, shape (n,), either side spread evenly."""
    import numpy as np

    rng = np.random.default_rng(seed)
    fold = np.empty(len(y), dtype=np.int64)
    for side in (0, 1):
        rows = np.flatnonzero(y == side)
        fold[rng.permutation(rows)] = np.arange(len(rows)) % folds
    return fold
