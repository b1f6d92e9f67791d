"""The canary policy: limits as data, with a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError

DEFAULT = Path(__file__).parent / "policies" / "canary.yaml"
CHECKS = (
    "error_rate",
    "bundle_digest",
    "parity",
    "probability_range",
    "latency_p50",
    "latency_p99",
    "distribution",
    "log_loss",
    "calibration",
)
SEQUENTIAL = ("error_rate", "log_loss", "calibration")
"""Checks over the whole rollout so far, valid at every look; they end a rollout at once."""


@dataclass(frozen=True)
class LatencyLimit:
    """Limit of one latency quantile: max(ratio x stable, stable + floor).

    Args:
        ratio: Multiple of the stable model's quantile.
        floor_seconds: Seconds above the stable model's quantile that are always allowed.
        min_requests: Requests each model needs before the quantile is judged.
    """

    ratio: float
    floor_seconds: float
    min_requests: int


@dataclass(frozen=True)
class CanaryPolicy:
    """Steps and limits of a canary; the fields are explained in policies/canary.yaml."""

    steps_percent: tuple[int, ...]
    mirror: bool
    requests_per_step: int
    look_every: int
    request_timeout_seconds: float
    candidate_timeout_seconds: float
    max_consecutive_failures: int
    confidence: float
    alpha: Mapping[str, float]
    error_rate_max: float
    latency_attempts: int
    latency_p50: LatencyLimit
    latency_p99: LatencyLimit
    parity_max_difference: float
    distribution_edges: tuple[float, ...]
    distribution_max_psi: float
    distribution_min_rows: int
    log_loss_max_increase: float
    log_loss_min_rows: int
    calibration_max_gap: float
    calibration_min_rows: int
    required: tuple[str, ...]
    required_live: tuple[str, ...]
    digest: str

    @classmethod
    def from_dict(cls, content: dict[str, Any], *, where: str = "canary policy") -> CanaryPolicy:
        """Check a policy document.

        Args:
            content: As in policies/canary.yaml.
            where: Named in an error.

        Raises:
            TrialOpsError: A field is missing, unknown or out of range.
        """
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        try:
            latency, distribution, log_loss = content["latency"], content["distribution"], content["log_loss"]
            calibration = content["calibration"]
            policy = cls(
                steps_percent=tuple(content["steps_percent"]),
                mirror=bool(content["mirror"]),
                requests_per_step=int(content["requests_per_step"]),
                look_every=int(content["look_every"]),
                request_timeout_seconds=float(content["request_timeout_seconds"]),
                candidate_timeout_seconds=float(content["candidate_timeout_seconds"]),
                max_consecutive_failures=int(content["max_consecutive_failures"]),
                confidence=float(content["confidence"]),
                alpha={name: float(content["alpha"][name]) for name in SEQUENTIAL},
                error_rate_max=float(content["error_rate"]["max"]),
                latency_attempts=int(latency["attempts"]),
                latency_p50=LatencyLimit(**latency["p50"]),
                latency_p99=LatencyLimit(**latency["p99"]),
                parity_max_difference=float(content["parity"]["max_difference"]),
                distribution_edges=tuple(map(float, distribution["edges"])),
                distribution_max_psi=float(distribution["max_psi"]),
                distribution_min_rows=int(distribution["min_rows"]),
                log_loss_max_increase=float(log_loss["max_increase"]),
                log_loss_min_rows=int(log_loss["min_rows"]),
                calibration_max_gap=float(calibration["max_gap"]),
                calibration_min_rows=int(calibration["min_rows"]),
                required=tuple(content["required"]),
                required_live=tuple(content["required_live"]),
                digest=hashlib.sha256(text.encode()).hexdigest(),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TrialOpsError(
                f"the canary policy cannot be read: {type(error).__name__} {error}",
                where=where,
                fix=f"compare it with {DEFAULT.name}, which explains every field",
            ) from error
        problem = policy._problem()
        if problem:
            raise TrialOpsError(f"the canary policy is not usable: {problem}", where=where, fix="correct the field")
        return policy

    def _problem(self) -> str:
        steps, edges = self.steps_percent, self.distribution_edges
        if not steps or list(steps) != sorted(set(steps)) or steps[0] < 0 or steps[-1] != 100:
            return "steps_percent must rise and end at 100"
        if min(self.requests_per_step, self.look_every, self.latency_attempts, self.max_consecutive_failures) < 1:
            return "requests_per_step, look_every, latency.attempts and max_consecutive_failures must be at least 1"
        if not all(0 < alpha < 0.5 for alpha in self.alpha.values()) or not 0 < self.error_rate_max < 1:
            return "alpha must be between 0 and 0.5, error_rate.max between 0 and 1"
        if not 0.5 < self.confidence < 1:
            return "confidence must be between 0.5 and 1"
        if list(edges) != sorted(set(edges)) or edges[0] > 0 or edges[-1] < 1:
            return "distribution.edges must rise and span 0 to 1"
        unknown = [name for name in (*self.required, *self.required_live) if name not in CHECKS]
        return f"required names no check: {', '.join(unknown)}" if unknown else ""


def load_policy(path: Path = DEFAULT) -> CanaryPolicy:
    """Read a canary policy.

    Args:
        path: YAML file.

    Raises:
        TrialOpsError: The file is absent or not a policy.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TrialOpsError(
            f"the canary policy cannot be read: {type(error).__name__}",
            where=str(path),
            fix="give a YAML file",
        ) from error
    return CanaryPolicy.from_dict(content if isinstance(content, dict) else {}, where=str(path))
