"""One inference request on its way to one model or both, and what is noted of it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from trialops.serving.route_request import Asked, answered, narrowed
from trialops.serving.routing import CANDIDATE, STABLE, Backend, Routing
from trialops.serving.upstream import Reply, Unreachable

if TYPE_CHECKING:
    from trialops.serving.call_log import CallLog

    Scope = dict[str, Any]

SHADOW = "shadow"
STABLE_TIMEOUT = 60.0


class Asks(Protocol):
    """What a call needs of the router."""

    calls: CallLog

    async def ask(self, backend: Backend, scope: Scope, body: bytes, arm: str, seconds: float) -> Reply:
        """Send a request on to a server."""
        ...

    def count(self, arm: str, *, ok: bool, refused: bool, seconds: float) -> None:
        """Count what a model made of a request."""
        ...


class Call:
    """One inference request.

    Attributes:
        started: When it came in, on the performance counter.
        outcomes: What each model asked made of it.
    """

    def __init__(self, router: Asks, scope: Scope, body: bytes, routing: Routing, request: Asked | None) -> None:
        self.started = time.perf_counter()
        self.outcomes: dict[str, dict[str, Any]] = {}
        self._router, self._scope, self._body, self._routing, self._request = router, scope, body, routing, request
        self._candidate_refused = False

    async def by_candidate(self, *, mirror: bool = False) -> Reply | None:
        """The candidate's answer, or None where it is not one to give to a caller."""
        routing = self._routing
        assert routing.candidate is not None
        alone = routing.stable is None
        started = time.perf_counter()
        limit = STABLE_TIMEOUT if alone else routing.candidate_timeout
        try:
            reply = await self._ask(routing.candidate, SHADOW if mirror else CANDIDATE, limit)
        except Unreachable:
            reply = None
        outcome = self._note(CANDIDATE, reply, time.perf_counter() - started, mirror)
        # What the candidate refuses as malformed, the stable model must refuse too: else it is the candidate's error.
        self._candidate_refused = reply is not None and 400 <= reply.status < 500
        if self._candidate_refused and STABLE in self.outcomes and not self.outcomes[STABLE]["ok"]:
            outcome["refused"] = True
        if not self._candidate_refused or STABLE in self.outcomes or alone:
            self._count(CANDIDATE)
        if alone:
            return reply or no_answer()
        expected = routing.candidate.digest
        return reply if outcome["ok"] and (not expected or outcome["digest"] == expected) else None

    async def by_stable(self, *, mirror: bool = False) -> Reply:
        """The stable model's answer."""
        routing = self._routing
        started = time.perf_counter()
        try:
            assert routing.stable is not None
            reply = await self._ask(routing.stable, SHADOW if mirror else STABLE, STABLE_TIMEOUT)
        except Unreachable:
            reply = None
        outcome = self._note(STABLE, reply, time.perf_counter() - started, mirror)
        outcome["refused"] = reply is not None and 400 <= reply.status < 500
        self._count(STABLE)
        if self._candidate_refused and CANDIDATE in self.outcomes:
            self.outcomes[CANDIDATE]["refused"] = outcome["refused"]
            self._count(CANDIDATE)
        return reply or no_answer()

    async def _ask(self, backend: Backend, arm: str, seconds: float) -> Reply:
        body = self._body if self._request is None else narrowed(self._body, backend.features)
        return await self._router.ask(backend, self._scope, body, arm, seconds)

    def _note(self, arm: str, reply: Reply | None, seconds: float, mirror: bool) -> dict[str, Any]:
        found = answered(reply.body) if reply is not None and reply.status == 200 else None
        self.outcomes[arm] = {
            "status": reply.status if reply is not None else 0,
            "ok": found is not None,
            "refused": False,
            "seconds": round(seconds, 7),
            "probability": found.probability if found is not None else None,
            "digest": found.digest if found is not None else "",
            "mirror": mirror,
        }
        return self.outcomes[arm]

    def _count(self, arm: str) -> None:
        outcome = self.outcomes[arm]
        name = f"{arm}_mirror" if outcome["mirror"] else arm
        self._router.count(name, ok=outcome["ok"], refused=outcome["refused"], seconds=outcome["seconds"])

    def record(self, served: str, chosen: bool) -> None:
        """Write down the request: unit and answers, nothing of its content."""
        routing, request = self._routing, self._request
        if request is None:
            return
        self._router.calls.write(
            {
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "request": request.id,
                "unit": request.unit,
                "model": routing.model,
                "rollout": routing.rollout,
                "step": routing.step,
                "attempt": routing.attempt,
                "percent": routing.percent,
                "assigned": CANDIDATE if chosen else STABLE,
                "served": served,
                "calls": self.outcomes,
            }
        )


def no_model() -> Reply:
    """The answer while nothing is in service."""
    return json_reply(503, {"error": "no model is in service"})


def no_answer() -> Reply:
    """The answer when a model server gives none."""
    return json_reply(503, {"error": "the model server does not answer"})


def json_reply(status: int, document: dict[str, Any]) -> Reply:
    """A document as an answer."""
    return Reply(status, [(b"content-type", b"application/json")], json.dumps(document).encode())
