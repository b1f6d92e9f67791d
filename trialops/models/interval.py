"""Venn-Abers prediction intervals: what a model's score has meant for subjects it had not seen.

For a score s, two isotonic regressions are fitted to the calibration scores and labels, one with (s, 0) added
and one with (s, 1). Their values at s are p0 <= p1. Where calibration subjects and the new one are
exchangeable, one of the two is a perfectly calibrated probability, whatever the model (Vovk and Petej,
Venn-Abers predictors, UAI 2014). So [p0, p1] bounds the *calibrated probability* of the event; it is not a
range in which the outcome, a yes or no, falls with some confidence. It is narrow where many calibration
subjects have scores like this one. Calibration scores here are out-of-fold predictions while the served
model is refitted on all rows, so the guarantee is approximate, as for every cross-fitted calibrator.

Both regressions are step functions of s, so they are computed once and looked up. For the regression with
(s, 1), the value at s is

    max over a, min over b of (Y_b + 1 - Y_a) / (W_b + 1 - W_a)

with W and Y the running counts of subjects and events below (a) and from (b) the place of s (the min-max
formula of isotonic regression: Barlow et al., Statistical inference under order restrictions, 1972, 1.4).
The one with (s, 0) is its mirror image. Between two scores, p1 has the value of the next score above and p0 of
the next below.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np

METHOD = "venn-abers"
MIN_EACH = 10
"""Fewest events and fewest non-events that make a table; with less, the interval is nearly [0, 1] everywhere."""


@dataclass(frozen=True)
class IntervalTable:
    """Both step functions of a Venn-Abers predictor.

    Attributes:
        low_from: Rising scores from which p0 has the value in `low`; below the first it is 0.
        low: Values of p0, rising.
        high_to: Rising scores up to which p1 has the value in `high`; above the last it is 1.
        high: Values of p1, rising.
        n: Calibration subjects.
        events: Events among them.
    """

    low_from: tuple[float, ...]
    low: tuple[float, ...]
    high_to: tuple[float, ...]
    high: tuple[float, ...]
    n: int
    events: int

    def bounds(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p0 and p1 of scores of shape (n,), each of shape (n,)."""
        low_from, low, high_to, high = self._arrays
        return (
            low[low_from.searchsorted(scores, side="right")],
            high[high_to.searchsorted(scores, side="left")],
        )

    def bound(self, score: float) -> tuple[float, float]:
        """p0 and p1 of one score, as :meth:`bounds` gives them."""
        below, above = bisect_right(self.low_from, score), bisect_left(self.high_to, score)
        return (
            self.low[below - 1] if below else 0.0,
            self.high[above] if above < len(self.high) else 1.0,
        )

    def around(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bounds a caller is given: p0 and p1, widened where they do not hold the answer itself.

        A model that is not calibrated answers outside [p0, p1] for some scores. Widened, the interval still covers what
        [p0, p1] covers, and nobody is told a risk beside its own interval.
        """
        import numpy as np

        low, high = self.bounds(scores)
        return np.minimum(low, scores), np.maximum(high, scores)

    def around_one(self, score: float) -> tuple[float, float]:
        """As :meth:`around`, of one score."""
        low, high = self.bound(score)
        return min(low, score), max(high, score)

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        import numpy as np

        return (
            np.array(self.low_from, dtype=np.float64),
            np.array((0.0, *self.low)),
            np.array(self.high_to, dtype=np.float64),
            np.array((*self.high, 1.0)),
        )

    def as_dict(self) -> dict[str, Any]:
        """The table as JSON values."""
        return {
            "method": METHOD,
            "n": self.n,
            "events": self.events,
            "low_from": list(self.low_from),
            "low": list(self.low),
            "high_to": list(self.high_to),
            "high": list(self.high),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> IntervalTable:
        """Rebuild from :meth:`as_dict`.

        Raises:
            TrialOpsError: It is not such a table.
        """
        try:
            if content["method"] != METHOD:
                raise ValueError
            steps = {name: tuple(float(v) for v in content[name]) for name in ("low_from", "low", "high_to", "high")}
            if any(list(v) != sorted(v) for v in steps.values()):
                raise ValueError
            if len(steps["low"]) != len(steps["low_from"]) or len(steps["high"]) != len(steps["high_to"]):
                raise ValueError
            return cls(**steps, n=int(content["n"]), events=int(content["events"]))
        except (KeyError, TypeError, ValueError):
            raise TrialOpsError(
                "The interval table of the bundle cannot be read.",
                where="interval.json",
                fix="Use the TrialOps version that wrote it, or train the model again.",
            ) from None


def make_interval_table(scores: np.ndarray, labels: np.ndarray) -> IntervalTable | None:
    """Venn-Abers table from predictions of subjects the predicting model had not seen.

    Args:
        scores: Out-of-fold probabilities of shape (n,).
        labels: 0 or 1 of shape (n,).

    Returns:
        The table, or None with fewer than 10 events or non-events.

    Raises:
        TrialOpsError: Shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    import numpy as np

    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if scores.shape != labels.shape or scores.ndim != 1 or not np.isfinite(scores).all():
        raise TrialOpsError(
            "An interval table needs one finite score for each label.",
            where="make_interval_table",
            fix="Pass the out-of-fold predictions and the labels of the same rows.",
        )
    if not np.isin(labels, (0, 1)).all():
        raise TrialOpsError("A label is neither 0 nor 1.", where="make_interval_table", fix="Leave out open outcomes.")
    events = int(labels.sum())
    if min(events, len(labels) - events) < MIN_EACH:
        return None
    at, place = np.unique(scores, return_inverse=True)
    weight = np.bincount(place).astype(np.float64)
    hits = np.bincount(place, weights=labels)
    upper = _with_an_event(weight, hits)
    # (s, 0) is (s, 1) with labels and order reversed.
    lower = 1.0 - _with_an_event(weight[::-1], (weight - hits)[::-1])[::-1]
    first = np.r_[True, lower[1:] > lower[:-1]]
    last = np.r_[upper[1:] > upper[:-1], True]
    return IntervalTable(
        low_from=tuple(at[first].tolist()),
        low=tuple(lower[first].tolist()),
        high_to=tuple(at[last].tolist()),
        high=tuple(upper[last].tolist()),
        n=len(labels),
        events=events,
    )


def _with_an_event(weight: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Isotonic value at each distinct score when one subject with the event is added there, shape (k,).

    The slope of the line that touches the running counts left of the place and those right of it, moved by
    (1, 1), from below. Found by Dinkelbach's iteration, which starts at the value of the place before (values
    rise with the score) and ends after two or three passes; halving keeps it from going round in a circle.
    """
    import numpy as np

    w, y = np.r_[0.0, weight.cumsum()], np.r_[0.0, hits.cumsum()]
    found = np.empty(len(weight))
    slope = 0.0
    for place in range(len(weight)):
        left_w, left_y = w[: place + 1], y[: place + 1]
        right_w, right_y = w[place + 1 :] + 1.0, y[place + 1 :] + 1.0
        below, above = slope, 1.0
        while True:
            a = int((left_y - slope * left_w).argmin())
            b = int((right_y - slope * right_w).argmin())
            better = float((right_y[b] - left_y[a]) / (right_w[b] - left_w[a]))
            if abs(better - slope) <= 1e-15 or above - below <= 1e-15:
                break
            below, above = (slope, above) if better > slope else (below, slope)
            slope = better if below <= better <= above else (below + above) / 2
        found[place] = slope
    return np.maximum.accumulate(found)
