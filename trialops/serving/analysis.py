"""Judging a canary step: recorded samples and a policy in, checks out. Pure functions, no clock, no network.

Sources: Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference, JASA
22:209-212 (interval for a proportion); Siddiqi, N. (2006), Credit Risk Scorecards (population stability
index).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from trialops.models.calibration import log_losses
from trialops.models.discrimination import wilson
from trialops.serving.policy import CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trialops.serving.policy import CanaryPolicy, LatencyLimit

OVERALL = -1
"""Step number of the checks over the whole run."""


@dataclass(frozen=True)
class Arm:
    """What one model answered in one step, one entry per request.

    Args:
        row: int [m], index of the row asked about.
        ok: bool [m], whether a valid answer with status 200 came.
        seconds: float64 [m], latency.
        probability: float64 [m], the answer; NaN where not ok.
        offline: float64 [m], the same bundle's prediction made offline.
        same_bundle: bool [m], whether the answer named the expected bundle digest.
    """

    row: NDArray[np.int64]
    ok: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    probability: NDArray[np.float64]
    offline: NDArray[np.float64]
    same_bundle: NDArray[np.bool_]

    @property
    def errors(self) -> int:
        """Requests without a valid answer."""
        return int((~self.ok).sum())

    def quantile(self, q: float) -> float | None:
        """Latency quantile of the answered requests, in seconds; None without any."""
        return float(np.quantile(self.seconds[self.ok], q)) if self.ok.any() else None


@dataclass(frozen=True)
class Samples:
    """What was recorded in one step.

    Args:
        percent: Share of traffic the candidate answered.
        candidate: The candidate's answers.
        stable: The stable model's answers; None where there is no stable model yet.
        reference: float64 [N], the stable model's offline prediction for every row of the replay, or None.
        labels: float64 [N], outcome of every row (0, 1, NaN when unknown), or None.
    """

    percent: int
    candidate: Arm
    stable: Arm | None
    reference: NDArray[np.float64] | None = None
    labels: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Check:
    """One comparison with its limit.

    Args:
        percent: Step; -1 for the whole run.
        name: Which check.
        stable: The stable model's value, None where there is none.
        candidate: The candidate's value.
        limit: What the candidate's value (or its bound, see note) may not exceed.
        passed: None when there was not enough evidence to judge.
        n: Requests or rows behind the candidate's value.
        note: Bound or reason, in words.
    """

    percent: int
    name: str
    stable: float | None
    candidate: float | None
    limit: float
    passed: bool | None
    n: int
    note: str = ""


def bounds(errors: int, n: int, confidence: float) -> tuple[float, float]:
    """One-sided lower and upper Wilson bounds of a proportion.

    Args:
        errors: Successes of the binomial count.
        n: Trials; 0 gives (0, 1).
        confidence: Of each bound on its own, such as 0.95.
    """
    interval = wilson(errors, n, 2 * confidence - 1)
    return interval.low, interval.high


def stability_index(expected: NDArray[np.float64], actual: NDArray[np.float64], edges: Sequence[float]) -> float:
    """Population stability index over fixed bins; half a count is added to each bin, so none is empty.

    Args:
        expected: Values of the reference, in [edges[0], edges[-1]].
        actual: Values compared with it.
        edges: Rising bin edges; the last bin is closed.
    """
    shares = []
    for values in (expected, actual):
        counts = np.histogram(values, bins=np.asarray(edges))[0] + 0.5
        shares.append(counts / counts.sum())
    e, a = shares
    return float(((a - e) * np.log(a / e)).sum())


def analyse(samples: Samples, policy: CanaryPolicy) -> tuple[Check, ...]:
    """Judge one step.

    Args:
        samples: The step's recorded answers.
        policy: Limits.

    Returns:
        One check per entry of policy.CHECKS, in that order.
    """
    by_name: dict[str, Callable[[Samples, CanaryPolicy], Check]] = {
        "error_rate": _error_rate,
        "bundle_digest": _bundle_digest,
        "parity": _parity,
        "probability_range": _probability_range,
        "latency_p50": lambda s, p: _latency(s, "latency_p50", 0.50, p.latency_p50),
        "latency_p99": lambda s, p: _latency(s, "latency_p99", 0.99, p.latency_p99),
        "distribution": _distribution,
        "log_loss": _log_loss,
    }
    return tuple(by_name[name](samples, policy) for name in CHECKS)


def analyse_run(steps: Sequence[Samples], checks: Sequence[Check], policy: CanaryPolicy) -> tuple[Check, ...]:
    """Judge the run as a whole, after its last step.

    Args:
        steps: Every step's samples.
        checks: Every step's checks.
        policy: Limits.

    Returns:
        The error rate over all steps with its upper bound, and one check of each required name's evidence.
    """
    n, errors = sum(len(s.candidate.ok) for s in steps), sum(s.candidate.errors for s in steps)
    stable = [s.stable for s in steps if s.stable is not None]
    stable_n, stable_errors = sum(len(arm.ok) for arm in stable), sum(arm.errors for arm in stable)
    upper = bounds(errors, n, policy.confidence)[1]
    out = [
        Check(
            OVERALL,
            "error_rate",
            stable_errors / stable_n if stable_n else None,
            errors / n if n else None,
            policy.error_rate_max,
            upper <= policy.error_rate_max,
            n,
            f"upper bound {upper:.4g}",
        )
    ]
    for name in policy.required:
        judged = sum(check.name == name and check.passed is not None for check in checks)
        note = "" if judged else "no step had enough evidence"
        out.append(Check(OVERALL, f"{name}_evidence", None, float(judged), 1.0, judged >= 1, judged, note))
    return tuple(out)


def _error_rate(samples: Samples, policy: CanaryPolicy) -> Check:
    arm, stable = samples.candidate, samples.stable
    n = len(arm.ok)
    low, _ = bounds(arm.errors, n, policy.confidence)
    return Check(
        samples.percent,
        "error_rate",
        stable.errors / len(stable.ok) if stable is not None and len(stable.ok) else None,
        arm.errors / n if n else None,
        policy.error_rate_max,
        low <= policy.error_rate_max if n else None,
        n,
        f"lower bound {low:.4g}" if n else "no requests",
    )


def _worst(samples: Samples, value: Callable[[Arm], float]) -> tuple[float | None, float | None, int]:
    """A value of each arm over its answered requests (None without any), and the candidate's count."""
    arms = (samples.stable, samples.candidate)
    stable, candidate = (value(arm) if arm is not None and arm.ok.any() else None for arm in arms)
    return stable, candidate, int(samples.candidate.ok.sum())


def _exact(samples: Samples, name: str, limit: float, value: Callable[[Arm], float]) -> Check:
    stable, candidate, n = _worst(samples, value)
    # The comparison stands on the stable model's answers too, so it must pass as well.
    passed = None if candidate is None else max(candidate, stable if stable is not None else 0.0) <= limit
    return Check(samples.percent, name, stable, candidate, limit, passed, n, "" if n else "no answers")


def _bundle_digest(samples: Samples, policy: CanaryPolicy) -> Check:
    return _exact(samples, "bundle_digest", 0.0, lambda arm: float((~arm.same_bundle[arm.ok]).sum()))


def _parity(samples: Samples, policy: CanaryPolicy) -> Check:
    def difference(arm: Arm) -> float:
        with np.errstate(invalid="ignore"):  # infinity less infinity is no agreement either
            gap = np.abs(arm.probability[arm.ok] - arm.offline[arm.ok])
        return float(np.where(np.isnan(gap), np.inf, gap).max())

    return _exact(samples, "parity", policy.parity_max_difference, difference)


def _probability_range(samples: Samples, policy: CanaryPolicy) -> Check:
    def outside(arm: Arm) -> float:
        p = arm.probability[arm.ok]
        return float((~((p >= 0) & (p <= 1))).sum())

    return _exact(samples, "probability_range", 0.0, outside)


def _latency(samples: Samples, name: str, q: float, limit: LatencyLimit) -> Check:
    arm, stable = samples.candidate, samples.stable
    n = int(arm.ok.sum())
    candidate, base = arm.quantile(q), stable.quantile(q) if stable is not None else None
    allowed = max((base or 0.0) * limit.ratio, (base or 0.0) + limit.floor_seconds)
    least = n if stable is None else min(n, int(stable.ok.sum()))
    if candidate is None or least < limit.min_requests:
        note = f"{least} answers; {limit.min_requests} are needed of each model"
        return Check(samples.percent, name, base, candidate, allowed, None, n, note)
    return Check(samples.percent, name, base, candidate, allowed, candidate <= allowed, n, "seconds")


def _distinct(arm: Arm) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows with a usable answer, once each: a row asked twice is not two rows of evidence."""
    usable = arm.ok & (arm.probability >= 0) & (arm.probability <= 1)
    row, first = np.unique(arm.row[usable], return_index=True)
    return row, arm.probability[usable][first]


def _distribution(samples: Samples, policy: CanaryPolicy) -> Check:
    row, probability = _distinct(samples.candidate)
    limit, name = policy.distribution_max_psi, "distribution"
    if samples.reference is None:
        return Check(samples.percent, name, None, None, limit, None, len(row), "no stable model")
    if len(row) < policy.distribution_min_rows:
        note = f"{len(row)} distinct rows; {policy.distribution_min_rows} are needed"
        return Check(samples.percent, name, 0.0, None, limit, None, len(row), note)
    psi = stability_index(samples.reference[row], probability, policy.distribution_edges)
    return Check(samples.percent, name, 0.0, psi, limit, psi <= limit, len(row), "population stability index")


def _log_loss(samples: Samples, policy: CanaryPolicy) -> Check:
    row, probability = _distinct(samples.candidate)
    limit, name = policy.log_loss_max_increase, "log_loss"
    if samples.labels is None or samples.reference is None:
        missing = "labels" if samples.labels is None else "stable model"
        return Check(samples.percent, name, None, None, limit, None, 0, f"no {missing}")
    known = ~np.isnan(samples.labels[row])
    row, probability = row[known], probability[known]
    n = len(row)
    if n < max(2, policy.log_loss_min_rows):
        return Check(
            samples.percent,
            name,
            None,
            None,
            limit,
            None,
            n,
            f"{n} labelled rows; {policy.log_loss_min_rows} are needed",
        )
    candidate, stable = (log_losses(samples.labels[row], p) for p in (probability, samples.reference[row]))
    increase = candidate - stable
    z = NormalDist().inv_cdf(policy.confidence)
    low = float(increase.mean() - z * increase.std(ddof=1) / np.sqrt(n))
    return Check(
        samples.percent,
        name,
        float(stable.mean()),
        float(candidate.mean()),
        limit,
        low <= limit,
        n,
        f"increase {increase.mean():.4g}, lower bound {low:.4g}, must not exceed the limit",
    )
