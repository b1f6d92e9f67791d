"""Decision-curve analysis: what acting on the model is worth against treating everybody or nobody.

Vickers and Elkin, Medical Decision Making 2006;26:565. A threshold probability pt states that one missed
event weighs as much as (1 - pt) / pt needless interventions. With censored outcomes the events among those acted on
are Kaplan and Meier's (Vickers et al., BMC Medical Informatics 2008;8:53); in a case-control sample the share of
events is the population's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.discrimination import Estimate, z_value
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


def net_benefit_difference(
    y: np.ndarray, new: np.ndarray, other: np.ndarray, low: float, high: float, *, points: int = 71, level: float = 0.95
) -> Estimate:
    """Net benefit that one model has over another, averaged over an even range of thresholds.

    Net benefit is a mean over subjects, and so is a difference of two on the same subjects: its interval is that of a
    mean of paired contributions.

    Args:
        y: Labels 0 and 1 of shape (n,).
        new: Predictions of one model, shape (n,).
        other: Predictions of the other, shape (n,).
        low: Lowest threshold.
        high: Highest threshold.
        points: Number of thresholds.
        level: Confidence level.

    Returns:
        The difference in net events found per subject; positive when the first model is worth more.
    """
    import math

    import numpy as np

    at = np.linspace(low, high, points)
    odds = np.cumsum(at / (1 - at)) / points  # what a false alarm costs, summed over the thresholds it reaches
    flagged_new, flagged_other = (np.searchsorted(at, p, side="right") for p in (new, other))
    cost = np.concatenate([[0.0], odds])
    worth = np.where(y == 1, (flagged_new - flagged_other) / points, -(cost[flagged_new] - cost[flagged_other]))
    value = float(worth.mean())
    if len(y) < 2:
        return Estimate(value, -1.0, 1.0, "not estimable: one subject", level)
    reach = z_value(level) * float(worth.std(ddof=1)) / math.sqrt(len(y))
    return Estimate(value, value - reach, value + reach, "paired mean over subjects", level)


def survival_share(time: np.ndarray, event: np.ndarray, horizon: float) -> float:
    """Share still free of the event at a time, Kaplan and Meier.

    Args:
        time: Time of event or censoring, shape (n,).
        event: 1 where the event happened, shape (n,).
        horizon: The time, in the same unit.

    Returns:
        The share; NaN when everybody is censored before the horizon and the last one's follow-up ends before it.
    """
    import numpy as np

    if len(time) == 0 or (time < horizon).all() and event[time == time.max()].max() == 0:
        return float("nan")
    moments = np.unique(time[(event == 1) & (time <= horizon)])
    at_risk = len(time) - np.searchsorted(np.sort(time), moments, side="left")
    failed = np.array([np.sum((time == moment) & (event == 1)) for moment in moments])
    return float(np.prod(1 - failed / at_risk))


def net_benefit_survival(
    time: np.ndarray, event: np.ndarray, p: np.ndarray, thresholds: np.ndarray, horizon: float
) -> np.ndarray:
    """Net benefit of acting where the predicted risk of the event by a time reaches the threshold.

    Args:
        time: Time of event or censoring, shape (n,).
        event: 1 where the event happened, shape (n,).
        p: Predicted probability of the event by the horizon, shape (n,).
        thresholds: Threshold probabilities within (0, 1), shape (t,).
        horizon: The time the predictions are for.

    Returns:
        Net benefit of shape (t,): among those flagged, events less non-events weighed by pt / (1 - pt), events and
        non-events by the horizon estimated by Kaplan and Meier; 0 where nobody is flagged, NaN where those flagged
        are not followed to the horizon.
    """
    import numpy as np

    values = np.zeros(len(thresholds))
    for k, threshold in enumerate(thresholds):
        flag = p >= threshold
        if not flag.any():
            continue
        free, share = survival_share(time[flag], event[flag], horizon), float(flag.mean())
        values[k] = share * ((1 - free) - free * threshold / (1 - threshold))
    return values
