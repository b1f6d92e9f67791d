"""Decision-curve analysis: what acting on the model is worth against treating everybody or nobody.

Vickers and Elkin, Medical Decision Making 2006;26:565. A threshold probability pt states that one missed
event weighs as much as (1 - pt) / pt needless interventions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit over a range of threshold probabilities, in net events found per subject.

    Attributes:
        thresholds: Threshold probabilities.
        model: Net benefit of acting on the model.
        treat_all: Net benefit of acting on everybody; that of acting on nobody is 0.
        useful_share: Share of the thresholds at which the model beats both.
    """

    thresholds: tuple[float, ...]
    model: tuple[float, ...]
    treat_all: tuple[float, ...]
    useful_share: float

    def as_dict(self) -> dict[str, Any]:
        """The curve as JSON values."""
        return plain(self)


def net_benefit(y: np.ndarray, p: np.ndarray, thresholds: np.ndarray, prevalence: float | None = None) -> np.ndarray:
    """Net benefit of acting where the prediction reaches the threshold.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Predicted probabilities of shape (n,).
        thresholds: Threshold probabilities within (0, 1), shape (t,).
        prevalence: Share of events in the population, for a case-control sample; else the sample's own.

    Returns:
        Net benefit of shape (t,): sensitivity x prevalence - false-positive rate x (1 - prevalence) x pt / (1
        - pt).
    """
    import numpy as np

    events, others = np.sort(p[y == 1]), np.sort(p[y == 0])
    share = float(y.mean()) if prevalence is None else prevalence
    hit = 1 - np.searchsorted(events, thresholds, side="left") / max(len(events), 1)
    alarm = 1 - np.searchsorted(others, thresholds, side="left") / max(len(others), 1)
    return hit * share - alarm * (1 - share) * thresholds / (1 - thresholds)


def decision_curve(
    y: np.ndarray,
    p: np.ndarray,
    low: float,
    high: float,
    *,
    points: int = 71,
    prevalence: float | None = None,
) -> DecisionCurve:
    """Net benefit of model and treat-all over an even range of thresholds.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Predicted probabilities of shape (n,).
        low: Lowest threshold.
        high: Highest threshold.
        points: Number of thresholds.
        prevalence: Population share of events, for a case-control sample.

    Returns:
        The curve.
    """
    import numpy as np

    at = np.linspace(low, high, points)
    model = net_benefit(y, p, at, prevalence)
    everybody = net_benefit(y, np.ones(len(y)), at, prevalence)
    useful = float(np.mean(model > np.maximum(everybody, 0.0) + 1e-12))
    return DecisionCurve(tuple(at.tolist()), tuple(model.tolist()), tuple(everybody.tolist()), useful)
