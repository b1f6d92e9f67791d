"""Judging a rollout step: recorded samples and a policy in, checks out. Pure functions, no clock, no network.

Errors and outcomes are judged over the whole rollout so far by tests that may be looked at at any time; latency,
parity and distribution are judged within the step, against limits.

Sources: Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference, JASA
22:209-212 (interval for a proportion); Siddiqi, N. (2006), Credit Risk Scorecards (population stability
index).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trialops.models.discrimination import wilson
from trialops.serving.guards import harm
from trialops.serving.policy import CHECKS
from trialops.serving.samples import Arm, Check, Samples, distinct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trialops.serving.policy import CanaryPolicy, LatencyLimit

COMPARING = ("distribution", "log_loss", "calibration")
"""Checks that need a stable model; a first release is judged without them."""
OVERALL = -1
"""Step number of the checks over the whole run."""


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


def _distribution(samples: Samples, policy: CanaryPolicy) -> Check:
    row, probability = distinct([samples.candidate])
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
