"""What the router is told: which servers there are and how traffic is split, as a file replaced as a whole.

The file is the router's only memory. Whoever controls a rollout writes it and may die: the router goes on as the
file says, also after a restart of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trialops.errors import TrialOpsError

STABLE: Literal["stable"] = "stable"
CANDIDATE: Literal["candidate"] = "candidate"
FORMAT = 1


@dataclass(frozen=True)
class Backend:
    """A model server.

    Attributes:
        host: Address.
        port: Port.
        version: Model version it serves.
        digest: Digest of the bundle it must answer with; empty: any.
        features: Inputs it takes; of a request with one tensor for each feature it is sent these alone, so that one
            request suits two models. Empty: requests pass as they are.
    """

    host: str
    port: int
    version: str
    digest: str = ""
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Routing:
    """How requests are routed.

    Attributes:
        model: Model name.
        stable: Server of the model in use; None for a first release, which has the candidate alone or, once that
            was taken out, nothing.
        candidate: Server of the model on trial; None outside a rollout.
        previous: Server of the model that was stable before; where a rollback can go at once.
        percent: Share of the candidate, 0 to 100, of the units a request may be about.
        mirror: Whether the model that does not answer a request is asked too, after the answer has left.
        rollout: Id of the rollout or experiment; part of every record.
        step: Step of the rollout.
        attempt: Attempt at the step.
        salt: Of the assignment; another salt puts other subjects into the candidate's share.
        candidate_timeout: Seconds the candidate has before the stable model answers in its place.
        breaker: Failures in a row after which the candidate is no longer asked until this document changes.
    """

    model: str
    stable: Backend | None
    candidate: Backend | None = None
    previous: Backend | None = None
    percent: float = 0.0
    mirror: bool = False
    rollout: str = ""
    step: int = 0
    attempt: int = 1
    salt: str = "canary"
    candidate_timeout: float = 1.0
    breaker: int = 10

    def promoted(self) -> Routing:
        """The candidate in the stable model's place, the stable model kept as the one before."""
        if self.candidate is None:
            return self
        return replace(self, stable=self.candidate, previous=self.stable, candidate=None, percent=0.0, mirror=False)

    def aborted(self) -> Routing:
        """All traffic on the stable model."""
        return replace(self, candidate=None, percent=0.0, mirror=False)

    def rolled_back(self) -> Routing:
        """All traffic on the stable model of before."""
        return replace(self.aborted(), stable=self.previous, previous=None)


def read_routing(path: Path) -> Routing:
    """Read the file.

    Raises:
        TrialOpsError: It is absent or not a routing.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        for name in ("stable", "candidate", "previous"):
            found = content.get(name)
            content[name] = Backend(**(found | {"features": tuple(found["features"])})) if found else None
        routing = Routing(**content)
        if not 0 <= routing.percent <= 100:
            raise ValueError("out of range")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrialOpsError(
            f"the routing file cannot be read: {type(error).__name__}",
            where=str(path),
            fix="write it with trialops.serving.routing.write_routing",
        ) from error
    return routing


def write_routing(path: Path, routing: Routing) -> None:
    """Replace the file as a whole; a reader sees the old one or the new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with staged.open("wb") as file:
        file.write(json.dumps({"format": FORMAT, **asdict(routing)}, indent=1, sort_keys=True).encode())
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def unit_of(subject: str) -> str:
    """The name of a subject in assignments and records: 16 hexadecimal digits of a SHA-256, not the pseudonym."""
    return hashlib.sha256(f"subject\0{subject}".encode()).hexdigest()[:16]


def point(unit: str, salt: str) -> float:
    """Where a unit falls in [0, 1): the same place for the same salt, unrelated places for different ones."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{unit}".encode()).digest()[:7], "big") / 2**56


def assign(unit: str, percent: float, salt: str = "canary") -> bool:
    """Whether a unit belongs to the candidate's share.

    The same unit always falls the same way, and a unit in a small share is in every larger one.

    Args:
        unit: Any identifier.
        percent: Share of the candidate, 0 to 100.
        salt: Of the rollout.
    """
    return point(unit, salt) < percent / 100
