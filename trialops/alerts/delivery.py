"""Working off the outbox: each message that is due is taken, handed over, and its end noted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from trialops.alerts.links import make_link
from trialops.alerts.outbox import AlertOutbox, Message, backoff
from trialops.alerts.register import utc_time
from trialops.alerts.telling import CONSOLE
from trialops.alerts.transport import Outcome, send

if TYPE_CHECKING:
    from trialops.alerts.routes import Routes

Send = Callable[[str, Message, str], Outcome]
FAILURES_BEFORE_OTHERS = 3
"""After so many failed attempts somebody else is told too."""


@dataclass(frozen=True)
class Links:
    """What is needed to put a link into a message; without an address there is none."""

    key: bytes = b""
    address: str = ""

    def to(self, message: Message, now: datetime) -> str:
        """The link by which the receiver takes the alerts of a message; empty where there is nothing to take."""
        if not self.address or not message.content.get("alerts"):
            return ""
        return f"{self.address.rstrip('/')}/ack?t={make_link(self.key, message.key, message.receiver, now)}"


@dataclass
class Delivered:
    """What a pass over the outbox came to: tries by how they ended."""

    ends: Counter[str] = field(default_factory=Counter)

    def numbers(self) -> dict[str, int]:
        """Counts for metrics and the decision."""
        return {name: self.ends[name] for name in ("sent", "failed", "dead", "lost_lease", "passed_on")}


def deliver(
    outbox: AlertOutbox,
    routes: Routes,
    clock: Callable[[], datetime],
    *,
    links: Links | None = None,
    send: Send = send,
    most: int = 1000,
) -> Delivered:
    """Hand over what is due.

    Args:
        outbox: The messages.
        routes: Addresses, lease, and how long is tried.
        clock: The time now.
        links: For the links to take alerts.
        send: Hands one message over.
        most: So many messages at most.
    """
    done, tried = Delivered(), set[str]()
    links = links or Links()
    while fresh := [m for m in outbox.due(clock()) if m.key not in tried][: most - len(tried)]:
        for waiting in fresh:
            tried.add(waiting.key)
            if message := outbox.take(waiting, clock(), routes.lease):
                outcome = _hand_over(routes, message, links, clock(), send)
                done.ends[_conclude(outbox, routes, message, outcome, clock(), done)] += 1
    return done


def _hand_over(routes: Routes, message: Message, links: Links, now: datetime, send: Send) -> Outcome:
    print(f"[{message.content.get('severity', 'info')}] {message.receiver}: {message.content['title']}")
    receiver = routes.receivers.get(message.receiver)
    if message.receiver == CONSOLE:
        return Outcome(True, {"schema": CONSOLE})
    if receiver is None or not receiver.address:
        return Outcome(False, {"reason": "the receiver has no address"})
    return send(receiver.address, message, links.to(message, now))


def _conclude(
    outbox: AlertOutbox, routes: Routes, message: Message, outcome: Outcome, now: datetime, done: Delivered
) -> str:
    """Note how a try ended; where it failed too often, tell somebody else as well."""
    if outcome.taken:
        return "sent" if outbox.finish(message, "sent", now, **outcome.detail) else "lost_lease"
    receiver = routes.receivers.get(message.receiver)
    other = receiver.otherwise if receiver else CONSOLE
    if message.attempt >= FAILURES_BEFORE_OTHERS and other:
        done.ends["passed_on"] += pass_on(outbox, routes, message, other, now)
    if now >= utc_time(message.queued) + routes.give_up_after:
        pass_on(outbox, routes, message, CONSOLE, now)
        return "dead" if outbox.finish(message, "dead", now, **outcome.detail) else "lost_lease"
    until = now + backoff(message.key, message.attempt)
    return "failed" if outbox.finish(message, "failed", now, until=until, **outcome.detail) else "lost_lease"


def pass_on(outbox: AlertOutbox, routes: Routes, message: Message, other: str, now: datetime) -> int:
    """Queue a copy of a message for another receiver, once; returns how many were queued."""
    from trialops.stores.database import writing

    if other != CONSOLE and not routes.receivers[other].address:
        other = CONSOLE
    with writing(outbox.engine) as connection:
        copy = outbox.queue(connection, message.kind, other, ["otherwise", message.key], message.content, now)
    return int(copy is not None)
