"""Whether a predicted 30 % happens in 30 %: recalibration intercept and slope, ICI, curve, Brier score.

Cox, Biometrika 1958;45:562 (intercept and slope); Austin and Steyerberg, Statistics in Medicine 2019;38:4051
(ICI, E50, E90); Van Calster et al., BMC Medicine 2019;17:230 (which to report).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.discrimination import Estimate, wilson, z_value
from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np

GRID = 200  # points of the smoothed curve for large sets
LEAST_FOR_CURVE = 20  # subjects; below, a smoothed curve follows single subjects


@dataclass(frozen=True)
class CurvePoint:
    """One bin of the calibration curve: mean prediction, observed share, subjects, events."""

    predicted: float
    observed: Estimate
    n: int
    events: int


@dataclass(frozen=True)
class Calibration:
    """Agreement of predicted and observed risk.

    Attributes:
        intercept: Calibration in the large: log odds to add to every prediction; 0 is right.
        slope: Factor on the log odds; 1 is right, below 1 means too extreme.
        ici: Mean absolute distance between prediction and smoothed observed risk.
        e50: Median of that distance.
        e90: Its 90th percentile.
        observed: Observed share of events.
        expected: Mean prediction.
        curve: Bins of equal size.
        notes: What could not be computed, and why.
    """

    intercept: Estimate
    slope: Estimate
    ici: float
    e50: float
    e90: float
    observed: float
    expected: float
    curve: tuple[CurvePoint, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The calibration as JSON values."""
        return plain(self)


def log_losses(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Negative log likelihood of each outcome, shape (n,), natural log; probabilities are kept 1e-15 from 0 and 1."""
    import numpy as np

    p = np.clip(p, 1e-15, 1 - 1e-15)
    return -np.where(y == 1, np.log(p), np.log1p(-p))


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean of :func:`log_losses`; lower is better."""
    return float(log_losses(y, p).mean())


def logit(p: np.ndarray) -> np.ndarray:
    """Log odds, probabilities kept 1e-9 away from 0 and 1."""
    import numpy as np

    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.log(p) - np.log1p(-p)


def newton_logistic(
    x: np.ndarray, y: np.ndarray, offset: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray] | None:
    """Maximum-likelihood logistic regression by Newton's method.

    Args:
        x: Design matrix of shape (n, k), intercept column included.
        y: Labels of shape (n,).
        offset: Fixed part of the log odds.

    Returns:
        Coefficients of shape (k,) and covariance of shape (k, k); None when it does not converge, as under
        separation.
    """
    import numpy as np

    beta = np.zeros(x.shape[1])
    for _ in range(50):
        eta = np.clip(x @ beta + offset, -35, 35)
        mean = 1 / (1 + np.exp(-eta))
        information = (x * (mean * (1 - mean))[:, None]).T @ x
        try:
            step = np.linalg.solve(information, x.T @ (y - mean))
        except np.linalg.LinAlgError:
            return None
        beta = beta + step
        if not np.isfinite(beta).all() or np.abs(beta).max() > 50:
            return None
        if np.abs(step).max() < 1e-9:
            return beta, np.linalg.inv(information)
    return None


def local_linear(x: np.ndarray, y: np.ndarray, at: np.ndarray, span: float = 0.75) -> np.ndarray:
    """Smooth by local lines with tricube weights over the nearest share of points (loess of degree 1).

    Args:
        x: Predictor of shape (n,).
        y: Response of shape (n,).
        at: Where to smooth, shape (m,).
        span: Share of the points in each neighbourhood.

    Returns:
        Smoothed response of shape (m,).
    """
    import numpy as np

    distance = np.abs(at[:, None] - x[None, :])
    nearest = min(len(x), max(2, math.ceil(span * len(x)))) - 1
    reach = np.maximum(np.partition(distance, nearest, axis=1)[:, nearest], 1e-12)
    weight = np.clip(1 - (distance / reach[:, None]) ** 3, 0, None) ** 3
    total = weight.sum(axis=1)
    # a neighbourhood of ties at the reach has no weight: fall back on equal weights
    weight[total <= 0] = (distance <= reach[:, None])[total <= 0]
    total = weight.sum(axis=1)
    mean_x, mean_y = weight @ x / total, weight @ y / total
    square = (weight * (x[None, :] - mean_x[:, None]) ** 2).sum(axis=1)
    cross = (weight * (x[None, :] - mean_x[:, None]) * y[None, :]).sum(axis=1)
    slope = np.divide(cross, square, out=np.zeros_like(cross), where=square > 1e-12)
    return mean_y + slope * (at - mean_x)


def _smooth_distance(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Absolute distance between prediction and smoothed observed risk, shape (n,)."""
    import numpy as np

    at = p if len(p) <= 2 * GRID else np.unique(np.quantile(p, np.linspace(0, 1, GRID)))
    smooth = np.clip(local_linear(p, y.astype(np.float64), at), 0, 1)
    if at is not p:
        smooth = np.interp(p, at, smooth)
    return np.abs(smooth - p)


def calibration(y: np.ndarray, p: np.ndarray, *, bins: int = 10, level: float = 0.95) -> Calibration:
    """Measure calibration.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Predicted probabilities of shape (n,).
        bins: Most points of the curve; fewer when a bin would hold under ten subjects.
        level: Confidence level.

    Returns:
        The calibration; what cannot be computed is NaN with a note.
    """
    import numpy as np

    notes: list[str] = []
    z, linear = z_value(level), logit(p)
    unknown = Estimate(math.nan, math.nan, math.nan, "not estimable", level)

    def wald(fit: tuple[np.ndarray, np.ndarray] | None, k: int, name: str) -> Estimate:
        if fit is None:
            notes.append(f"{name} could not be estimated: the outcomes are separated or all alike.")
            return unknown
        error = math.sqrt(float(fit[1][k, k]))
        value = float(fit[0][k])
        return Estimate(value, value - z * error, value + z * error, "Wald", level)

    one = np.ones((len(y), 1))
    intercept = wald(newton_logistic(one, y, linear), 0, "Calibration intercept")
    if np.ptp(linear) < 1e-9:
        notes.append("Calibration slope could not be estimated: every prediction is the same.")
        slope = unknown
    else:
        slope = wald(newton_logistic(np.column_stack([one, linear]), y), 1, "Calibration slope")
    ici = e50 = e90 = math.nan
    if len(y) >= LEAST_FOR_CURVE:
        distance = _smooth_distance(y, p)
        ici, (e50, e90) = float(distance.mean()), map(float, np.quantile(distance, [0.5, 0.9]))
    else:
        notes.append(f"ICI needs {LEAST_FOR_CURVE} subjects; there are {len(y)}.")
    points = []
    for part in np.array_split(np.argsort(p, kind="stable"), max(1, min(bins, len(y) // 10))):
        events = int(y[part].sum())
        points.append(CurvePoint(float(p[part].mean()), wilson(events, len(part), level), len(part), events))
    return Calibration(intercept, slope, ici, e50, e90, float(y.mean()), float(p.mean()), tuple(points), tuple(notes))


def brier(y: np.ndarray, p: np.ndarray) -> float:
    """Mean squared distance of prediction and outcome."""
    import numpy as np

    return float(np.mean((p - y) ** 2))


def scaled_brier(y: np.ndarray, p: np.ndarray) -> float:
    """One minus the Brier score over that of predicting the prevalence: 0 useless, 1 perfect."""
    reference = float(y.mean() * (1 - y.mean()))
    return 1 - brier(y, p) / reference if reference > 0 else math.nan
