"""Time to an event: Kaplan-Meier, log-rank, restricted mean and cumulative incidence. numpy alone.

Times are in any one unit; a time of an event and a censoring at the same value are taken in that order, as everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

_TIE = 1e-12
"""What a product of fractions may be off when it is compared with a probability."""


@dataclass(frozen=True)
class KaplanMeier:
    """A product-limit estimate at every distinct time, shape (times,).

    Attributes:
        times: Distinct times, ascending.
        at_risk: Under observation just before each time.
        events: Events at it.
        censored: Observations that end at it without the event.
        survival: Estimate just after it.
        error: Greenwood's standard error of ``survival``; NaN where nobody survives.
        low: Pointwise lower limit on the log(-log) scale; NaN where nobody survives, 1 before the first event.
        high: Upper limit.
        level: Confidence of the limits.
    """

    times: Floats
    at_risk: Ints
    events: Ints
    censored: Ints
    survival: Floats
    error: Floats
    low: Floats
    high: Floats
    level: float

    def at(self, times: Floats | list[float]) -> tuple[Floats, Floats, Floats]:
        """Estimate and limits at given times; 1 before the first, the last value after the last."""
        import numpy as np

        place = np.searchsorted(self.times, np.asarray(times, dtype=np.float64), side="right")
        one = np.ones(1)
        survival, low, high = (np.concatenate([one, v])[place] for v in (self.survival, self.low, self.high))
        return survival, low, high

    def numbers_at_risk(self, times: Floats | list[float]) -> Ints:
        """How many are still under observation just before given times."""
        import numpy as np

        place = np.searchsorted(self.times, np.asarray(times, dtype=np.float64), side="left")
        return np.concatenate([self.at_risk, [0]])[place].astype(np.int64)

    def quantile(self, probability: float = 0.5) -> tuple[float | None, float | None, float | None]:
        """Time by which a share has had the event, with limits (Brookmeyer and Crowley 1982 on the log(-log) scale).

        Args:
            probability: The share; 0.5 gives the median.

        Returns:
            First time at which survival, its lower and its upper limit are at most ``1 - probability``; None where
            that is never.
        """
        import numpy as np

        def first(values: Floats) -> float | None:
            reached = np.flatnonzero(np.nan_to_num(values, nan=0.0) <= 1 - probability + _TIE)
            return float(self.times[reached[0]]) if len(reached) else None

        gone = self.survival <= 0
        return first(self.survival), first(self.low), first(np.where(gone & np.isnan(self.high), 1.0, self.high))

    def restricted_mean(self, until: float) -> tuple[float, float]:
        """Mean time free of the event up to a horizon, and its standard error (Irwin 1949; Karrison 1987).

        Args:
            until: The horizon, in the unit of the times; beyond the last time the last value is carried on.
        """
        import numpy as np

        inside = self.times < until
        edges = np.concatenate([[0.0], self.times[inside], [until]])
        heights = np.concatenate([[1.0], self.survival[inside]])
        areas = heights * np.diff(edges)
        # Area under the curve from each time to the horizon.
        remaining = np.cumsum(areas[::-1])[::-1][1:]
        risk, dead = self.at_risk[inside].astype(np.float64), self.events[inside].astype(np.float64)
        alive = risk - dead
        terms = np.where(alive > 0, remaining**2 * dead / np.where(alive > 0, risk * alive, 1.0), 0.0)
        return float(areas.sum()), float(math.sqrt(terms.sum()))


@dataclass(frozen=True)
class LogRank:
    """A log-rank test.

    Attributes:
        groups: Labels in order.
        observed: Events by group.
        expected: Events by group where hazards are equal.
        statistic: Chi-square.
        degrees: Degrees of freedom.
        p: Two-sided p-value.
    """

    groups: tuple[str, ...]
    observed: tuple[float, ...]
    expected: tuple[float, ...]
    statistic: float
    degrees: int
    p: float


@dataclass(frozen=True)
class Incidence:
    """Cumulative incidence of one cause among competing ones, shape (times,).

    Attributes:
        times: Distinct times, ascending.
        events: Events of this cause at each.
        incidence: Share that has left by this cause.
        error: Standard error (delta method, Marubini and Valsecchi 1995).
        low: Lower limit on the log(-log) scale.
        high: Upper limit.
    """

    times: Floats
    events: Ints
    incidence: Floats
    error: Floats
    low: Floats
    high: Floats

    def at(self, times: Floats | list[float]) -> Floats:
        """Incidence at given times; 0 before the first."""
        import numpy as np

        place = np.searchsorted(self.times, np.asarray(times, dtype=np.float64), side="right")
        return np.concatenate([[0.0], self.incidence])[place]


def kaplan_meier(time: Floats, event: npt.NDArray[np.bool_], *, level: float = 0.95) -> KaplanMeier:
    """Product-limit estimate (Kaplan and Meier 1958) with Greenwood's variance and log(-log) limits.

    Args:
        time: Time to event or censoring, shape (n,), finite and not negative.
        event: Whether the event happened, shape (n,).
        level: Confidence of the limits.

    Raises:
        TrialOpsError: There is nobody, or a time is negative or not a number.
    """
    import numpy as np

    time, event = _checked(time, event)
    times, at_risk, events, total = _risk_table(time, event)
    n, d = at_risk.astype(np.float64), events.astype(np.float64)
    survival: Floats = np.cumprod(1 - d / n, dtype=np.float64)
    alive = n > d
    terms = np.where(alive, d / (n * np.where(alive, n - d, 1.0)), np.inf)
    spread = np.cumsum(terms)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(survival > 0, survival * np.sqrt(spread), np.nan)
        scale = np.sqrt(spread) / np.abs(np.log(survival))
        low, high = _log_log(survival, scale, level)
    return KaplanMeier(times, at_risk, events, total - events, survival, error, low, high, level)


def log_rank(
    time: Floats, event: npt.NDArray[np.bool_], group: list[str], *, strata: list[str] | None = None
) -> LogRank:
    """Log-rank test of two or more groups (Mantel 1966; Peto and Peto 1972), stratified where strata are given.

    Args:
        time: Time to event or censoring, shape (n,).
        event: Whether the event happened, shape (n,).
        group: Group of each subject.
        strata: Stratum of each subject; hazards are compared within strata only.

    Raises:
        TrialOpsError: Fewer than two groups, or as in :func:`kaplan_meier`.
    """
    import numpy as np

    time, event = _checked(time, event)
    labels, member = np.unique(np.asarray(group, dtype=str), return_inverse=True)
    if len(labels) < 2:
        raise TrialOpsError("A log-rank test compares two groups or more", where="survival", fix="Name the groups.")
    k = len(labels)
    observed, expected, variance = np.zeros(k), np.zeros(k), np.zeros((k, k))
    _, layer = np.unique(np.asarray(strata if strata else ["all"] * len(time), dtype=str), return_inverse=True)
    for one in range(int(layer.max()) + 1):
        inside = layer == one
        t, e, g = time[inside], event[inside], member[inside]
        at = np.unique(t[e])
        # (event times, groups): at risk just before, and events at each time.
        risk = np.stack([(g == j).sum() - np.searchsorted(np.sort(t[g == j]), at, side="left") for j in range(k)], 1)
        dead = np.stack([np.bincount(np.searchsorted(at, t[e & (g == j)]), minlength=len(at)) for j in range(k)], 1)
        n, d = risk.sum(1).astype(np.float64), dead.sum(1).astype(np.float64)
        share = risk / n[:, None]
        observed += dead.sum(0)
        expected += (d[:, None] * share).sum(0)
        weight = np.where(n > 1, d * (n - d) / np.where(n > 1, n - 1, 1.0), 0.0)
        variance += np.diag((weight[:, None] * share).sum(0)) - (weight[:, None] * share).T @ share
    # A group without anybody at risk at any event time adds nothing to compare.
    used = np.flatnonzero(np.diag(variance) > _TIE)
    degrees = max(len(used) - 1, 0)
    difference = (observed - expected)[used][:degrees]
    inner = variance[np.ix_(used, used)][:degrees, :degrees]
    statistic = float(difference @ np.linalg.solve(inner, difference)) if degrees else 0.0
    p = chi_square_tail(statistic, degrees) if degrees else 1.0
    return LogRank(tuple(map(str, labels)), tuple(observed.tolist()), tuple(expected.tolist()), statistic, degrees, p)


def cumulative_incidence(time: Floats, cause: list[str], *, level: float = 0.95) -> dict[str, Incidence]:
    """Share that has left by each of several competing causes (Aalen and Johansen 1978).

    One minus Kaplan-Meier with the other causes as censoring would overstate each of them.

    Args:
        time: Time to the event or censoring, shape (n,).
        cause: Cause of each event, "" for a censored observation.
        level: Confidence of the limits.

    Returns:
        By cause, sorted; at every time the incidences and survival sum to one.
    """
    import numpy as np

    names = np.asarray(cause, dtype=str)
    time, event = _checked(time, names != "")
    times, at_risk, events, _ = _risk_table(time, event)
    n, d = at_risk.astype(np.float64), events.astype(np.float64)
    survival = np.cumprod(1 - d / n)
    before = np.concatenate([[1.0], survival[:-1]])
    alive = np.where(n > d, n - d, 1.0)
    loss = np.where(n > d, d / (n * alive), 0.0)
    found = {}
    for name in sorted(set(names.tolist()) - {""}):
        of_cause = np.bincount(np.searchsorted(times, time[names == name]), minlength=len(times))
        dj = of_cause.astype(np.float64)
        incidence = np.cumsum(before * dj / n)
        # Delta method; sums over event times expanded so that one pass of cumulative sums does.
        s1, s2, s3 = np.cumsum(loss), np.cumsum(incidence * loss), np.cumsum(incidence**2 * loss)
        own = np.cumsum(before**2 * (n - dj) * dj / n**3)
        c1, c2 = np.cumsum(before * dj / n**2), np.cumsum(incidence * before * dj / n**2)
        variance = incidence**2 * s1 - 2 * incidence * s2 + s3 + own - 2 * (incidence * c1 - c2)
        error = np.sqrt(np.maximum(variance, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = error / (incidence * np.abs(np.log(incidence)))
            low, high = _log_log(incidence, scale, level)
        low, high = np.where(incidence <= 0, 0.0, low), np.where(incidence <= 0, 0.0, high)
        found[name] = Incidence(times, of_cause.astype(np.int64), incidence, error, low, high)
    return found


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(chi-square > statistic) for whole degrees of freedom, in closed form (Abramowitz and Stegun 26.4.4, 26.4.5)."""
    if statistic <= 0:
        return 1.0
    half = statistic / 2
    if degrees % 2 == 0:
        term = total = math.exp(-half)
        for i in range(1, degrees // 2):
            term *= half / i
            total += term
        return min(total, 1.0)
    total = math.erfc(math.sqrt(half))
    term = math.exp(-half) * math.sqrt(half) / math.gamma(1.5)
    for i in range(1, (degrees - 1) // 2 + 1):
        total += term
        term *= half / (i + 0.5)
    return min(total, 1.0)


def _checked(time: Floats, event: npt.NDArray[np.bool_]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    import numpy as np

    time, event = np.asarray(time, dtype=np.float64), np.asarray(event, dtype=bool)
    if time.ndim != 1 or time.shape != event.shape or not len(time) or not np.all(np.isfinite(time) & (time >= 0)):
        raise TrialOpsError(
            "Times to an event must be finite, not negative, and one for each subject",
            where="survival",
            fix="Leave out subjects without a start or an end.",
        )
    return time, event


def _risk_table(time: Floats, event: npt.NDArray[np.bool_]) -> tuple[Floats, Ints, Ints, Ints]:
    """Distinct times; at risk, events and all observations that end at each."""
    import numpy as np

    times, place, total = np.unique(time, return_inverse=True, return_counts=True)
    events = np.bincount(place, weights=event, minlength=len(times)).astype(np.int64)
    at_risk = len(time) - np.concatenate([[0], np.cumsum(total)[:-1]])
    return times, at_risk.astype(np.int64), events, total.astype(np.int64)


def _log_log(value: Floats, error: Floats, level: float) -> tuple[Floats, Floats]:
    """Limits of a probability from its standard error on the log(-log) scale; 1 where it is 1."""
    import numpy as np

    z = NormalDist().inv_cdf(0.5 + level / 2)
    low, high = value ** np.exp(z * error), value ** np.exp(-z * error)
    certain = value >= 1
    lost = value <= 0
    low = np.where(certain, 1.0, np.where(lost, np.nan, low))
    high = np.where(certain, 1.0, np.where(lost, np.nan, high))
    return low, high
