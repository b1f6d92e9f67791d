"""A clock that tests move, a register on a database of its own, and alerts to raise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from trialops.alerts.alertmanager import Alertmanager
from trialops.alerts.delivery import Delivered, Links, deliver
from trialops.alerts.lifecycle import escalate, settle
from trialops.alerts.outbox import AlertOutbox, Message
from trialops.alerts.raise_alert import Alert, occurred
from trialops.alerts.register import AlertRegister, Known, fingerprint
from trialops.alerts.routes import Routes, load_routes
from trialops.alerts.transport import Outcome
from trialops.stores.database import connect, migrate, writing

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@dataclass
class Desk:
    """A register and an outbox under a clock that only the test moves."""

    engine: Engine
    routes: Routes = field(default_factory=load_routes)
    now: datetime = START
    alertmanager: Alertmanager | None = None
    sent: list[Message] = field(default_factory=list)

    @property
    def register(self) -> AlertRegister:
        return AlertRegister(self.engine, "study", actor="tester")

    @property
    def outbox(self) -> AlertOutbox:
        return AlertOutbox(self.engine, "study", actor="tester")

    def clock(self) -> datetime:
        return self.now

    def later(self, **span: float) -> datetime:
        self.now += timedelta(**span)
        return self.now

    def fire(self, alerts: Iterable[Alert]) -> None:
        """Raise alerts at the clock's time."""
        with writing(self.engine) as connection:
            self.register.lock(connection)
            known, entries = self.register.known(connection=connection), []
            for alert in alerts:
                key = fingerprint(alert.name, alert.severity, alert.labels)
                event, known[key] = occurred(known.get(key) or Known(key), alert, self.now)
                entries.append((event, known[key]))
            self.register.write_all(connection, entries, self.now)

    def end(self, name: str) -> None:
        """End the alerts of a name."""
        with writing(self.engine) as connection:
            self.register.lock(connection)
            known = self.register.known(connection=connection)
            self.register.end(connection, [k for k, a in known.items() if a.name == name], self.now)

    def settle(self) -> dict[str, int]:
        telling, _ = settle(self.register, self.routes, self.now, self.alertmanager)
        return dict(telling.queued)

    def escalate(self) -> int:
        return escalate(self.register, self.routes, self.now)

    def deliver(self, links: Links | None = None, **more: Any) -> Delivered:
        """Deliver to nobody but the test."""

        def send(address: str, message: Message, link: str) -> Outcome:
            self.sent.append(message)
            return Outcome(True, {})

        return deliver(self.outbox, self.routes, self.clock, links=links, **({"send": send} | more))

    def step(self) -> list[tuple[str, str, str]]:
        """One pass with delivery; what was sent: kind, receiver, title."""
        before = len(self.sent)
        self.settle()
        self.escalate()
        self.deliver()
        return [(m.kind, m.receiver, str(m.content["title"])) for m in self.sent[before:]]

    def alert(self, name: str) -> Known:
        return next(a for a in self.register.known().values() if a.name == name)


def database(folder: Path) -> Engine:
    """A migrated database in a file."""
    engine = connect(f"sqlite:///{folder}/alerts.db")
    migrate(engine)
    return engine


def addresses(routes: Routes) -> dict[str, str]:
    """An address for every receiver, by variable; nobody listens there."""
    return {receiver.variable: "json://127.0.0.1:9/nobody" for receiver in routes.receivers.values()}
