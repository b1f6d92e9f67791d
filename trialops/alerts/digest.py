"""Digests: what happened over a day or a week, for those who are not paged; each sent once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from trialops.alerts.measures import ended_runs
from trialops.alerts.outbox import WAITING, AlertOutbox
from trialops.alerts.register import AlertRegister, Entry, Known, utc_text, utc_time
from trialops.alerts.routes import DigestPlan, Routes
from trialops.alerts.telling import CONSOLE
from trialops.alerts.thresholds import SEVERITIES

if TYPE_CHECKING:
    from sqlalchemy import Engine

GRAVEST_FIRST = tuple(reversed(SEVERITIES))


@dataclass(frozen=True)
class Digest:
    """What happened in a period.

    Attributes:
        name: daily or weekly, as the routes call it.
        begin: Start, UTC.
        end: End, UTC; not part of it.
        begun: Episodes that began, by severity.
        ended: Episodes that ended.
        taken: Episodes that somebody took.
        seconds_to_take: Median time from the beginning of an episode to its acknowledgement; None where none was taken.
        open: Alerts that fire at the end, gravest and oldest first.
        undelivered: Messages that have not reached their receiver.
        runs: Pipeline -> runs that ended, and those that failed.
    """

    name: str
    begin: datetime
    end: datetime
    begun: dict[str, int]
    ended: int
    taken: int
    seconds_to_take: float | None
    open: Sequence[Known]
    undelivered: int
    runs: dict[str, tuple[int, int]]

    def lines(self) -> list[str]:
        """The digest in plain sentences."""
        begun = ", ".join(f"{self.begun.get(name, 0)} {name}" for name in GRAVEST_FIRST)
        failed = {name: ends for name, ends in self.runs.items() if ends[1]}
        total = sum(ends[0] for ends in self.runs.values())
        lines = [
            f"From {self.begin:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC.",
            f"Alerts that began: {begun}. Ended: {self.ended}. Taken by somebody: {self.taken}"
            + (
                f", half of them within {span_words(self.seconds_to_take)}."
                if self.seconds_to_take is not None
                else "."
            ),
            f"Runs: {total}, of which {sum(ends[1] for ends in failed.values())} failed"
            + (
                ": " + ", ".join(f"{name} {ends[1]} of {ends[0]}" for name, ends in sorted(failed.items()))
                if failed
                else ""
            )
            + ".",
            f"Open now: {len(self.open)}. Messages not delivered: {self.undelivered}.",
        ]
        for alert in self.open[:10]:
            who = f", taken by {alert.acknowledged}" if alert.acknowledged else ""
            lines.append(f"- {alert.severity} {alert.name} since {alert.since[:16]}Z: {alert.summary}{who}")
        return lines + ([f"- and {len(self.open) - 10} more"] if len(self.open) > 10 else [])


def span_words(seconds: float) -> str:
    """A time span for a reader: 40 s, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def period(plan: DigestPlan, zone: str, now: datetime) -> tuple[datetime, datetime]:
    """The last period of a plan that is over: it ends at the plan's local time, a weekly one on a Monday."""
    local = now.astimezone(ZoneInfo(zone))
    day = local.date()
    if local.time().replace(tzinfo=None) < plan.at:
        day -= timedelta(days=1)
    if plan.days == 7:
        day -= timedelta(days=day.weekday())
    end = datetime.combine(day, plan.at, ZoneInfo(zone))
    begin = datetime.combine(day - timedelta(days=plan.days), plan.at, ZoneInfo(zone))
    return begin.astimezone(UTC), end.astimezone(UTC)


def compile_digest(register: AlertRegister, outbox: AlertOutbox, name: str, begin: datetime, end: datetime) -> Digest:
    """Sum a period up, from the history alone: asked for later, it says the same of what began, ended and was taken."""
    entries = register.history(before=utc_text(end))
    inside = [entry for entry in entries if entry.at >= utc_text(begin)]
    last: dict[str, Known] = {entry.alert.fingerprint: entry.alert for entry in entries}
    order = {name: rank for rank, name in enumerate(GRAVEST_FIRST)}
    times = seconds_to_take(inside)
    return Digest(
        name,
        begin,
        end,
        dict(Counter(entry.alert.severity for entry in inside if entry.event == "firing")),
        sum(1 for entry in inside if entry.event == "resolved"),
        len(times),
        median(times) if times else None,
        sorted((a for a in last.values() if a.firing), key=lambda a: (order[a.severity], a.since, a.fingerprint)),
        len(outbox.messages(states=(*WAITING, "dead"))),
        ended_runs(register.engine, end - begin, end),
    )


def seconds_to_take(entries: Sequence[Entry]) -> list[float]:
    """From the beginning of an episode to its acknowledgement, for each that was taken, in the order they were."""
    return [
        (utc_time(entry.alert.acknowledged_at) - utc_time(entry.alert.since)).total_seconds()
        for entry in entries
        if entry.event == "acknowledged"
    ]


def queue_digests(register: AlertRegister, outbox: AlertOutbox, routes: Routes, now: datetime) -> list[Digest]:
    """Queue every digest whose period is over and that was not queued yet; returns those queued by this."""
    from trialops.stores.database import writing

    made = []
    for plan in routes.digests:
        begin, end = period(plan, routes.time_zone, now)
        receiver = plan.receiver if routes.receivers[plan.receiver].address else CONSOLE
        if _queued(register.engine, register.study, plan, end):
            continue
        digest = compile_digest(register, outbox, plan.name, begin, end)
        content: dict[str, Any] = {
            "title": f"{plan.name.capitalize()} summary to {end:%Y-%m-%d}: {sum(digest.begun.values())} alerts, "
            f"{len(digest.open)} open",
            "severity": "info",
            "digest": [plan.name, utc_text(end)],
            "text": digest.lines(),
        }
        with writing(register.engine) as connection:
            register.lock(connection)
            if outbox.queue(connection, "digest", receiver, [plan.name, utc_text(end)], content, now):
                made.append(digest)
    return made


def _queued(engine: Engine, study: str, plan: DigestPlan, end: datetime) -> bool:
    """Whether the digest of a period was queued for anybody, were it for the console when nobody had an address."""
    import sqlalchemy as sa

    from trialops.alerts.outbox import message_key
    from trialops.stores.database import reading
    from trialops.stores.tables import alert_messages as table

    tells = [plan.name, utc_text(end)]
    keys = [message_key(study, "digest", name, tells) for name in (plan.receiver, CONSOLE)]
    query = sa.select(table.c.id).where(table.c.study == study, table.c.message.in_(keys)).limit(1)
    with reading(engine) as connection:
        return connection.execute(query).first() is not None
