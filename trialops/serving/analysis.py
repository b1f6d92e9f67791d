"""Judging a rollout step: recorded samples and a policy in, checks out. Pure functions, no clock, no network.

Errors and outcomes are judged over the whole rollout so far by tests that may be looked at at any time; latency,
parity and distribution are judged within the step, against limits.

Sources: Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference, JASA
22:209-212 (interval for a proportion); Siddiqi, N. (2006), Credit Risk Scorecards (population stability
index).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trialops.models.calibration import log_losses
from trialops.models.discrimination import wilson
from trialops.serving.policy import CHECKS
from trialops.serving.sequential import error_evidence, lower_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trialops.serving.policy import CanaryPolicy, LatencyLimit

COMPARING = ("distribution", "log_loss", "calibration")
"""Checks that need a stable model; a first release is judged without them."""
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
        offline: float64 [m], the same bundle's prediction made offline; NaN where it is not known.
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
        reference: float64 [N], the stable model's prediction for every row; NaN where it is not known; None
            without a stable model.
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


def analyse(samples: Samples, policy: CanaryPolicy, before: Sequence[Samples] = ()) -> tuple[Check, ...]:
    """Judge one step.

    Args:
        samples: The step's recorded answers.
        policy: Limits.
        before: Those of the steps and attempts before, oldest first, over the same rows.

    Returns:
        One check per entry of policy.CHECKS, in that order.
    """
    within: dict[str, Callable[[Samples, CanaryPolicy], Check]] = {
        "bundle_digest": _bundle_digest,
        "parity": _parity,
        "probability_range": _probability_range,
        "latency_p50": lambda s, p: _latency(s, "latency_p50", 0.50, p.latency_p50),
        "latency_p99": lambda s, p: _latency(s, "latency_p99", 0.99, p.latency_p99),
        "distribution": _distribution,
    }
    so_far = {check.name: check for check in harm(samples, policy, before)}
    return tuple(so_far.get(name) or within[name](samples, policy) for name in CHECKS)


def harm(samples: Samples, policy: CanaryPolicy, before: Sequence[Samples] = ()) -> tuple[Check, ...]:
    """The sequential tests alone, which may be looked at in the middle of a step.

    Args:
        samples: As for `analyse`.
        policy: As for `analyse`.
        before: As for `analyse`.
    """
    steps = [*before, samples]
    rows = _outcomes(steps)
    return (_error_rate(steps, policy), _log_loss(samples, rows, policy), _calibration(samples, rows, policy))


def analyse_run(
    steps: Sequence[Samples], checks: Sequence[Check], policy: CanaryPolicy, *, live: bool = False
) -> tuple[Check, ...]:
    """Judge the run as a whole, after its last step.

    Args:
        steps: Every step's samples.
        checks: Every step's checks.
        policy: Limits.
        live: Whether callers sent what they liked, so that the policy's list for that holds.

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
    required = policy.required_live if live else policy.required
    for name in (name for name in required if stable or name not in COMPARING):
        judged = sum(check.name == name and check.passed is not None for check in checks)
        note = "" if judged else "no step had enough evidence"
        out.append(Check(OVERALL, f"{name}_evidence", None, float(judged), 1.0, judged >= 1, judged, note))
    return tuple(out)


def _error_rate(steps: Sequence[Samples], policy: CanaryPolicy) -> Check:
    n, errors = sum(len(s.candidate.ok) for s in steps), sum(s.candidate.errors for s in steps)
    stable = [s.stable for s in steps if s.stable is not None]
    stable_n = sum(len(arm.ok) for arm in stable)
    evidence, needed = float(error_evidence(errors, n, policy.error_rate_max)), 1.0 / policy.alpha["error_rate"]
    return Check(
        steps[-1].percent,
        "error_rate",
        sum(arm.errors for arm in stable) / stable_n if stable_n else None,
        errors / n if n else None,
        policy.error_rate_max,
        evidence < needed if n else None,
        n,
        f"evidence {evidence:.3g} of {needed:.3g} that it is above the limit" if n else "no requests",
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
        known = _comparable(arm)
        with np.errstate(invalid="ignore"):  # infinity less infinity is no agreement either
            gap = np.abs(arm.probability[known] - arm.offline[known])
        return float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0))

    limit, arm = policy.parity_max_difference, samples.candidate
    if arm.ok.any() and not _comparable(arm).any():
        return Check(samples.percent, "parity", None, None, limit, None, 0, "no offline predictions to compare with")
    return _exact(samples, "parity", limit, difference)


def _comparable(arm: Arm) -> NDArray[np.bool_]:
    """Answers with an offline prediction beside them; one that is no number has to be explained in any case."""
    return arm.ok & ~(np.isnan(arm.offline) & np.isfinite(arm.probability))


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


def _distinct(arms: Sequence[Arm]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows with a usable answer, in the order they came; a row asked twice is not two rows of evidence."""
    row = np.concatenate([arm.row for arm in arms])
    probability = np.concatenate([arm.probability for arm in arms])
    ok = np.concatenate([arm.ok for arm in arms])
    usable = ok & (probability >= 0) & (probability <= 1)
    row, probability = row[usable], probability[usable]
    first = np.sort(np.unique(row, return_index=True)[1])
    return row[first], probability[first]


def _distribution(samples: Samples, policy: CanaryPolicy) -> Check:
    row, probability = _distinct([samples.candidate])
    limit, name = policy.distribution_max_psi, "distribution"
    if samples.reference is None:
        return Check(samples.percent, name, None, None, limit, None, len(row), "no stable model")
    known = ~np.isnan(samples.reference[row])
    row, probability = row[known], probability[known]
    if len(row) < policy.distribution_min_rows:
        note = f"{len(row)} distinct rows; {policy.distribution_min_rows} are needed"
        return Check(samples.percent, name, 0.0, None, limit, None, len(row), note)
    psi = stability_index(samples.reference[row], probability, policy.distribution_edges)
    return Check(samples.percent, name, 0.0, psi, limit, psi <= limit, len(row), "population stability index")


def _outcomes(steps: Sequence[Samples]) -> NDArray[np.float64]:
    """Rows so far whose outcome and both predictions are known: float64 [n, 3] of outcome, candidate and stable."""
    last = steps[-1]
    if last.labels is None or last.reference is None:
        return np.empty((0, 3))
    row, probability = _distinct([s.candidate for s in steps])
    table = np.column_stack([last.labels[row], probability, last.reference[row]])
    return table[~np.isnan(table).any(axis=1)]


def _unjudged(samples: Samples, name: str, limit: float, n: int, needed: int) -> Check:
    if samples.labels is None or samples.reference is None:
        note = "no labels" if samples.labels is None else "no stable model"
    else:
        note = f"{n} labelled rows; {needed} are needed"
    return Check(samples.percent, name, None, None, limit, None, n, note)


def _log_loss(samples: Samples, rows: NDArray[np.float64], policy: CanaryPolicy) -> Check:
    limit, name, n, needed = policy.log_loss_max_increase, "log_loss", len(rows), max(2, policy.log_loss_min_rows)
    if n < needed:
        return _unjudged(samples, name, limit, n, needed)
    candidate, stable = (log_losses(rows[:, 0], rows[:, k]) for k in (1, 2))
    increase, planned = candidate - stable, policy.requests_per_step
    low = float(lower_bounds(increase, policy.alpha[name], planned, least=needed)[-1])
    note = f"increase {increase.mean():.4g}, lower bound {low:.4g}, must not exceed the limit"
    return Check(samples.percent, name, float(stable.mean()), float(candidate.mean()), limit, low <= limit, n, note)


def _calibration(samples: Samples, rows: NDArray[np.float64], policy: CanaryPolicy) -> Check:
    limit, name, n, needed = policy.calibration_max_gap, "calibration", len(rows), max(2, policy.calibration_min_rows)
    if n < needed:
        return _unjudged(samples, name, limit, n, needed)
    candidate, stable = (rows[:, k] - rows[:, 0] for k in (1, 2))
    half, planned = policy.alpha[name] / 2, policy.requests_per_step  # too high and too low are two tests
    low = max(float(lower_bounds(sign * candidate, half, planned, least=needed)[-1]) for sign in (1, -1))
    gaps = abs(float(stable.mean())), abs(float(candidate.mean()))
    # Where the population has changed, both models are off, and going back would help nobody.
    passed = low <= limit or gaps[1] <= gaps[0]
    note = f"mean prediction less outcome rate {candidate.mean():.4g}, lower bound of its size {low:.4g}"
    return Check(samples.percent, name, *gaps, limit, passed, n, note)
