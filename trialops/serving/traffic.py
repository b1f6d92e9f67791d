"""What a rollout does to traffic, whatever carries it: the router here, KServe on a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from trialops.serving.routing import Backend, read_routing, write_routing


class Traffic(Protocol):
    """A way to split traffic. Every call may be repeated and then changes nothing."""

    def set_share(self, percent: int, *, step: int, attempt: int) -> None:
        """Give the candidate a share; 0 is the shadow.

        Args:
            percent: Share in per cent.
            step: Number of the rollout's step, for the record.
            attempt: Attempt at it, for the record.
        """
        ...

    def promote(self) -> None:
        """Make the candidate the stable model."""
        ...

    def abort(self) -> None:
        """Give all traffic to the stable model and take the candidate out."""
        ...


class RouterTraffic:
    """Traffic through the project's router.

    Args:
        file: The router's routing file.
        candidate: The candidate's server.
        rollout: Id of the rollout; also the salt of the assignment, so that not always the same subjects go first.
        mirror: Whether both models are asked about every request.
        candidate_timeout: Seconds the candidate has before the stable model answers in its place.
        breaker: Failures in a row after which the router stops asking the candidate.
    """

    def __init__(
        self,
        file: Path,
        candidate: Backend,
        rollout: str,
        *,
        mirror: bool = True,
        candidate_timeout: float = 1.0,
        breaker: int = 10,
    ) -> None:
        self._file, self._candidate, self._rollout = file, candidate, rollout
        self._mirror, self._timeout, self._breaker = mirror, candidate_timeout, breaker

    def set_share(self, percent: int, *, step: int, attempt: int) -> None:
        """Give the candidate a share; 0 is the shadow."""
        routing = read_routing(self._file)
        wanted = replace(
            routing,
            candidate=self._candidate,
            percent=float(percent),
            mirror=self._mirror and routing.stable is not None,
            rollout=self._rollout,
            step=step,
            attempt=attempt,
            salt=self._rollout,
            candidate_timeout=self._timeout,
            breaker=self._breaker,
        )
        if wanted != routing:
            write_routing(self._file, wanted)

    def promote(self) -> None:
        """Make the candidate the stable model; the stable one is kept for a rollback."""
        routing = read_routing(self._file)
        if routing.stable != self._candidate:
            write_routing(self._file, replace(routing, candidate=self._candidate).promoted())

    def abort(self) -> None:
        """Give all traffic to the stable model and take the candidate out."""
        routing = read_routing(self._file)
        if routing.candidate is not None:
            write_routing(self._file, routing.aborted())
