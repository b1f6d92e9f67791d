"""The policy of transfer jobs, from policy.yaml: polling, deadlines, quotas, what counts as evidence."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from trialops.stores.digest import document_digest


@dataclass(frozen=True)
class StepPolicy:
    """One step: provider (empty for a step of our own), seconds from its start to its deadline, jobs at one time."""

    provider: str
    deadline_seconds: float
    concurrent: int


@dataclass(frozen=True)
class Policy:
    """See policy.yaml."""

    version: int
    digest: str
    polling: Mapping[str, float]
    settle_seconds: float
    margin_seconds: float
    attempts: int
    steps: Mapping[str, StepPolicy]
    retry: Mapping[str, float]
    evidence: Mapping[str, Any]
    backup: Mapping[str, int]
    blinded: tuple[str, ...]
    durations: Mapping[str, float]

    def delay(self, look: int, rng: random.Random) -> float:
        """Seconds to wait after the look of this number (0, 1, ...): growing, capped, jittered."""
        full = min(self.polling["first_seconds"] * self.polling["factor"] ** look, self.polling["cap_seconds"])
        return full * (1 - self.polling["jitter"] * rng.random())

    def retry_delay(self, attempt: int) -> float:
        """Seconds before a failed step is run again (attempt 1, 2, ...)."""
        return float(
            min(self.retry["first_seconds"] * self.retry["factor"] ** (attempt - 1), self.retry["cap_seconds"])
        )

    def faster(self, factor: float) -> Policy:
        """The same policy with every wait shortened, for rehearsals and tests; deadlines stay."""
        polling = {**self.polling, **{k: self.polling[k] * factor for k in ("first_seconds", "cap_seconds")}}
        retry = {**self.retry, **{k: self.retry[k] * factor for k in ("first_seconds", "cap_seconds")}}
        return replace(self, polling=polling, retry=retry, settle_seconds=self.settle_seconds * factor)


def parse(data: Mapping[str, Any]) -> Policy:
    """A policy from the content of its file."""
    return Policy(
        version=int(data["version"]),
        digest=document_digest(data),
        polling=data["polling"],
        settle_seconds=float(data["starting"]["settle_seconds"]),
        margin_seconds=float(data["starting"]["margin_seconds"]),
        attempts=int(data["attempts"]),
        steps={
            name: StepPolicy(str(s["provider"]), float(s["deadline_seconds"]), int(s["concurrent"]))
            for name, s in data["steps"].items()
        },
        retry=data["retry"],
        evidence=data["evidence"],
        backup=data["backup"],
        blinded=tuple(data["blinded"]),
        durations=data["durations"],
    )


@cache
def transfer_policy() -> Policy:
    """The platform's policy; TRIALOPS_TRANSFER_HASTE shortens its waits by a factor, to rehearse against a stand-in."""
    import os

    import yaml

    policy = parse(yaml.safe_load((Path(__file__).parent / "policy.yaml").read_text()))
    haste = os.environ.get("TRIALOPS_TRANSFER_HASTE", "")
    return policy.faster(float(haste)) if haste else policy
