"""One pass over the alerts: rules, Alertmanager, groups; everything decided in transactions that hold the lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from trialops.alerts.alertmanager import Alertmanager, Posted, mark_handed, ours_to_tell, postable
from trialops.alerts.guard import guard_of
from trialops.alerts.measures import Measured
from trialops.alerts.outbox import AlertOutbox
from trialops.alerts.rules import broken, settle_rules
from trialops.alerts.telling import Telling

if TYPE_CHECKING:
    from trialops.alerts.register import AlertRegister, Known
    from trialops.alerts.routes import Routes
    from trialops.alerts.thresholds import Thresholds


@dataclass(frozen=True)
class Settled:
    """What a pass came to.

    Attributes:
        events: Rows written by the rules, by event.
        broken: Rules that hold.
        unread: Metrics that could not be read, and why.
        posted: What Alertmanager did; None where there is none.
        queued: Messages queued, by kind.
        alerts: All alerts afterwards.
        silenced: Fingerprints silenced.
        inhibited: Fingerprints inhibited.
    """

    events: Mapping[str, int]
    broken: int
    unread: Mapping[str, str]
    posted: Posted | None
    queued: Mapping[str, int]
    alerts: Sequence[Known] = field(repr=False, default=())
    silenced: frozenset[str] = frozenset()
    inhibited: frozenset[str] = frozenset()

    @property
    def quiet(self) -> frozenset[str]:
        """Fingerprints that nobody is told of now."""
        return self.silenced | self.inhibited

    def numbers(self) -> dict[str, int]:
        """Counts for metrics and the decision."""
        firing = Counter(alert.severity for alert in self.alerts if alert.firing)
        return {
            "rules_broken": self.broken,
            "metrics_unread": len(self.unread),
            "firing": firing.total(),
            "critical": firing["critical"],
            "warning": firing["warning"],
            "info": firing["info"],
            "acknowledged": sum(1 for alert in self.alerts if alert.firing and alert.acknowledged),
            "silenced": len(self.silenced),
            "inhibited": len(self.inhibited),
            "queued": sum(self.queued.values()),
            "begun": self.events.get("firing", 0),
            "ended": self.events.get("resolved", 0),
        }


def evaluate(
    register: AlertRegister, measured: Measured | None, thresholds: Thresholds, now: datetime
) -> tuple[dict[str, int], int]:
    """Bring the register in line with what was measured; returns rows written by event, and rules that hold.

    Args:
        register: The alerts.
        measured: What was measured; None where Prometheus evaluates the rules, so that only old events end.
        thresholds: The rules.
        now: The time.
    """
    from trialops.stores.database import writing

    found = broken(thresholds, measured.samples) if measured else []
    unread = measured.unread if measured else [metric.name for metric in thresholds.metrics]
    guard = guard_of(register.engine)
    with writing(register.engine) as connection:
        register.lock(connection)
        return settle_rules(register, connection, found, unread, thresholds, guard, now), len(found)


def settle(
    register: AlertRegister,
    routes: Routes,
    now: datetime,
    alertmanager: Alertmanager | None = None,
) -> tuple[Telling, Posted | None]:
    """Hand alerts on: to Alertmanager first, and to the outbox what is ours to tell.

    Args:
        register: The alerts.
        routes: Who is told.
        now: The time.
        alertmanager: Where there is one.
    """
    from trialops.stores.database import writing

    due = [alert for alert in register.known().values() if postable(alert, now)] if alertmanager else []
    posted = alertmanager.post(due, now) if alertmanager else None
    reached = posted is not None and posted.reached
    outbox = AlertOutbox(register.engine, register.study, actor=register.actor, run_id=register.run_id)
    with writing(register.engine) as connection:
        telling = Telling(
            register, outbox, routes, connection, now, suppressed=posted.suppressed if posted else frozenset()
        )
        if reached:
            mark_handed(telling, due)
        telling.tell_groups(ours_to_tell(telling, reached))
    return telling, posted


def one_pass(
    register: AlertRegister,
    routes: Routes,
    thresholds: Thresholds,
    measured: Measured | None,
    now: datetime,
    alertmanager: Alertmanager | None = None,
) -> Settled:
    """Evaluate and settle; see both."""
    events, holding = evaluate(register, measured, thresholds, now)
    telling, posted = settle(register, routes, now, alertmanager)
    return Settled(
        events,
        holding,
        measured.unread if measured else {},
        posted,
        dict(telling.queued),
        tuple(telling.alerts.values()),
        telling.silenced,
        telling.inhibited,
    )


def escalate(register: AlertRegister, routes: Routes, now: datetime, suppressed: frozenset[str] = frozenset()) -> int:
    """Queue the pages that are due; returns how many."""
    from trialops.stores.database import writing

    outbox = AlertOutbox(register.engine, register.study, actor=register.actor, run_id=register.run_id)
    with writing(register.engine) as connection:
        telling = Telling(register, outbox, routes, connection, now, suppressed=suppressed)
        telling.escalate()
    return telling.queued["page"]
