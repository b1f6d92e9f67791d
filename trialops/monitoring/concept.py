"""Concept drift: whether the relation of inputs and outcome has changed, seen in the residuals.

Of a calibrated model the residual, outcome minus prediction, has mean 0 whatever the inputs are. A shift of its mean
along time is therefore a change of the concept, not of the population. ADWIN (Bifet and Gavalda, SIAM International
Conference on Data Mining 2007, p. 443) keeps the longest window whose two parts agree wherever it is cut; it needs no
window length, and its confidence bounds how often it cuts where nothing has changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np

CHANGED, STABLE, INSUFFICIENT = "concept drift", "no concept drift", "insufficient evidence"
#: Buckets of one size before the two oldest are merged; the paper's M.
BUCKETS = 5


class Adwin:
    """An adaptive window over values within [0, 1].

    Args:
        delta: Confidence parameter: the bound on the probability of a false cut at one step.
        least: Fewest values on each side of a cut.
        every: A cut is looked for after every so many values.

    The window is a list of buckets, newest last; a bucket of level k holds 2**k values as their sums alone, so memory
    grows with the logarithm of the window.
    """

    def __init__(self, delta: float, *, least: int = 30, every: int = 8) -> None:
        self.delta, self.least, self.every = delta, least, every
        self._levels: list[list[tuple[float, float]]] = [[]]
        self._seen = 0
        self.width, self._sum, self._squares = 0, 0.0, 0.0

    @property
    def mean(self) -> float:
        """Mean of the window; NaN before the first value."""
        return self._sum / self.width if self.width else math.nan

    def add(self, value: float) -> bool:
        """Take a value in.

        Returns:
            Whether older values were dropped because the mean has changed since.
        """
        self._levels[0].append((value, value * value))
        self._seen += 1
        self.width += 1
        self._sum += value
        self._squares += value * value
        level = 0
        while len(self._levels[level]) > BUCKETS:
            first, second = self._levels[level][:2]
            del self._levels[level][:2]
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append((first[0] + second[0], first[1] + second[1]))
            level += 1
        changed = False
        if self._seen % self.every == 0:
            while self._cut():
                changed = True
        return changed

    def _cut(self) -> bool:
        """Drop the oldest bucket where some cut of the window shows two different means."""
        n = self.width
        if n < 2 * self.least:
            return False
        variance = max(self._squares / n - (self._sum / n) ** 2, 0.0)
        spread = math.log(2 * math.log(n) / self.delta)
        older, total = 0, 0.0
        for level in range(len(self._levels) - 1, -1, -1):
            for bucket_sum, _ in self._levels[level]:
                older += 1 << level
                total += bucket_sum
                newer = n - older
                if newer < self.least:
                    return False
                if older < self.least:
                    continue
                weight = 1 / older + 1 / newer
                bound = math.sqrt(2 * weight * variance * spread) + 2 / 3 * weight * spread
                if abs(total / older - (self._sum - total) / newer) > bound:
                    self._drop()
                    return True
        return False

    def _drop(self) -> None:
        level = len(self._levels) - 1
        value, square = self._levels[level].pop(0)
        self.width -= 1 << level
        self._sum -= value
        self._squares -= square
        while len(self._levels) > 1 and not self._levels[-1]:
            self._levels.pop()


@dataclass(frozen=True)
class ConceptReport:
    """What the residuals show along time.

    Attributes:
        verdict: "concept drift", "no concept drift" or "insufficient evidence".
        n: Residuals, in the order of their predictions.
        changes: Number of the residual, from 0, at which each change was noticed.
        recent: Residuals in the window that is left, all since the last change.
        mean: Mean residual in it; 0 is right, above 0 the model predicts too low.
        trace: Mean of the window after each twentieth of the residuals.
        delta: Confidence parameter.
        reason: In words.
    """

    verdict: str
    n: int
    changes: tuple[int, ...]
    recent: int
    mean: float
    trace: tuple[float, ...]
    delta: float
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return plain(self)


def concept_drift(residuals: np.ndarray, *, delta: float, least: int) -> ConceptReport:
    """Look for changes of the mean residual along time.

    Args:
        residuals: Outcome minus prediction, within [-1, 1], shape (n,), oldest first.
        delta: ADWIN's confidence parameter.
        least: Fewest residuals to say anything; half of it is the least on each side of a cut.

    Returns:
        The report.
    """
    import numpy as np

    values = (np.asarray(residuals, dtype=np.float64) + 1) / 2
    if len(values) < least:
        reason = f"{len(values)} matured predictions; {least} are needed"
        return ConceptReport(INSUFFICIENT, len(values), (), len(values), math.nan, (), delta, reason)
    window = Adwin(delta, least=max(least // 2, 1))
    marks = set(np.unique(np.linspace(1, len(values), 20).astype(int)).tolist())
    changes, trace = [], []
    for number, value in enumerate(values.tolist(), start=1):
        if window.add(value):
            changes.append(number - 1)
        if number in marks:
            trace.append(2 * window.mean - 1)
    mean = 2 * window.mean - 1
    if changes:
        reason = (
            f"the mean residual changed; since then it is {mean:+.3f} over {window.width} predictions, "
            "0 is that of a calibrated model"
        )
    else:
        reason = f"one mean residual, {mean:+.3f}, fits all {len(values)} predictions"
    return ConceptReport(
        CHANGED if changes else STABLE, len(values), tuple(changes), window.width, mean, tuple(trace), delta, reason
    )
