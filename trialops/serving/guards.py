"""The guards that may end a rollout at any look: errors and known outcomes over all steps so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trialops.models.calibration import log_losses
from trialops.serving.samples import Check, Samples, distinct
from trialops.serving.sequential import error_evidence, lower_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trialops.serving.policy import CanaryPolicy


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


def _outcomes(steps: Sequence[Samples]) -> NDArray[np.float64]:
    """Rows so far whose outcome and both predictions are known: float64 [n, 3] of outcome, candidate and stable."""
    last = steps[-1]
    if last.labels is None or last.reference is None:
        return np.empty((0, 3))
    row, probability = distinct([s.candidate for s in steps])
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
