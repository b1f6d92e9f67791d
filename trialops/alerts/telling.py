"""Deciding who is told what: silences and inhibition, groups, waiting, news and reminders, levels of escalation.

The register is the one truth about what was told, whichever way it goes: Alertmanager that calls back and the
platform's own grouping both end in `tell`, which queues a message only where it holds news for its receiver.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trialops.alerts.register import AlertRegister, Known, utc_text, utc_time
from trialops.alerts.routes import Escalation, Route, Routes
from trialops.alerts.silences import Silence, silences

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from trialops.alerts.outbox import AlertOutbox

MOST_TOLD = 20
"""A message names so many alerts and counts the rest."""


@dataclass
class Telling:
    """One pass, in one transaction that holds the register's lock.

    Attributes:
        register: The alerts.
        outbox: Where messages go.
        routes: Who is told.
        connection: The transaction.
        now: The time.
        alerts: All alerts as they stand; kept up to date.
        suppressed: Fingerprints that Alertmanager holds back by a silence or an inhibition of its own.
        silenced: Fingerprints silenced now.
        inhibited: Fingerprints inhibited now.
        queued: Messages queued, by kind.
    """

    register: AlertRegister
    outbox: AlertOutbox
    routes: Routes
    connection: Connection
    now: datetime
    suppressed: frozenset[str] = frozenset()
    alerts: dict[str, Known] = field(default_factory=dict)
    silenced: frozenset[str] = frozenset()
    inhibited: frozenset[str] = frozenset()
    queued: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        """Read the state under the lock."""
        self.register.lock(self.connection)
        self.alerts = self.register.known(connection=self.connection)
        firing = [alert for alert in self.alerts.values() if alert.firing]
        own = silenced(firing, silences(self.register, connection=self.connection), self.now)
        self.silenced = own | self.suppressed
        self.inhibited = inhibited(firing, self.routes)

    def quiet(self, alert: Known) -> bool:
        """Whether nobody is told of an alert now."""
        return alert.fingerprint in self.silenced or alert.fingerprint in self.inhibited

    def write(self, event: str, alert: Known, **changes: Any) -> Known:
        """Append a row for an alert."""
        after = self.register.write(self.connection, event, alert, self.now, **changes)
        self.alerts[after.fingerprint] = after
        return after

    # -- groups ------------------------------------------------------------------------------------------------

    def tell_groups(self, ready: Iterable[Known]) -> None:
        """Tell of groups on the platform's own account, where they have waited long enough.

        Args:
            ready: The firing alerts that are the platform's to tell; what was told and has ended comes by itself.
        """
        wanted = {alert.fingerprint for alert in ready}
        groups: dict[tuple[str, str], list[Known]] = defaultdict(list)
        for alert in self.alerts.values():
            route = self.routes.route(alert)
            if alert.firing or owes_end(alert, route):
                groups[route.name, route.group(alert)].append(alert)
        by_name = {route.name: route for route in self.routes.routes}
        for (name, group), members in sorted(groups.items()):
            route = by_name[name]
            told = [t["at"] for m in self._all_of(route, group) for t in m.told.values() if t.get("group") == group]
            lasts = any(m.firing and known_to_fire(m) for m in members)
            fresh = [
                m
                for m in members
                if m.firing and m.fingerprint in wanted and not self.quiet(m) and not known_to_fire(m)
            ]
            if told and self.now < utc_time(max(told)) + route.interval:
                continue
            if fresh and not lasts and self.now < min(utc_time(m.since) for m in fresh) + route.wait:
                continue
            if any(m.told or m.fingerprint in wanted for m in members):
                self.tell(route, group, [m for m in members if m.told or m.fingerprint in wanted])

    def _all_of(self, route: Route, group: str) -> list[Known]:
        if not hasattr(self, "_groups"):
            self._groups: dict[str, list[Known]] = defaultdict(list)
            for alert in self.alerts.values():
                self._groups[self.routes.route(alert).group(alert)].append(alert)
        return self._groups[group]

    def tell(self, route: Route, group: str, members: Sequence[Known]) -> int:
        """Queue one message for each receiver for whom there is news, or for whom a reminder is due.

        Args:
            route: The route of the group.
            group: Its name.
            members: Alerts of it that fire, or have ended and not been told to have.

        Returns:
            Messages queued.
        """
        told = 0
        members = [self.alerts[m.fingerprint] for m in members if m.firing or owes_end(m, route)]
        spoken = [m for m in members if not m.firing or not self.quiet(m)]
        configured = [name for name in route.receivers if self.routes.receivers[name].address]
        for receiver in configured or [CONSOLE]:
            news = [m for m in spoken if told_to(m, receiver) != status(m)]
            late = [
                m
                for m in spoken
                if m.firing and not m.acknowledged and m not in news and self._reminder(m, receiver, route)
            ]
            if not news and not late:
                continue
            said = [m for m in spoken if m.firing or m in news]
            self._queue("group", receiver, group, said, ends=not any(m.firing for m in said))
            for alert in news or late:
                before = self.alerts[alert.fingerprint]
                note = {"status": status(alert), "at": utc_text(self.now), "group": group}
                self.write("notified", before, told={**before.told, receiver: note})
            told += 1
        return told + self._tell_paged(members, set(configured or [CONSOLE]), group)

    def _tell_paged(self, members: Sequence[Known], others: set[str], group: str) -> int:
        """Tell those who were paged that it has ended."""
        ended = [self.alerts[m.fingerprint] for m in members if not m.firing]
        paged = sorted({name for m in ended for name in m.told} - others)
        for receiver in paged:
            news = [m for m in ended if told_to(m, receiver) == "firing"]
            if news:
                self._queue("group", receiver, group, news, ends=True)
            for alert in news:
                before = self.alerts[alert.fingerprint]
                note = {"status": "resolved", "at": utc_text(self.now), "group": ""}
                self.write("notified", before, told={**before.told, receiver: note})
        return len(paged)

    def _reminder(self, alert: Known, receiver: str, route: Route) -> bool:
        note = alert.told.get(receiver)
        return bool(note) and self.now >= utc_time(str(note["at"])) + route.repeat if note else False

    # -- escalation --------------------------------------------------------------------------------------------

    def escalate(self) -> None:
        """Page every level that is due; alerts of one group that are due at once share a page."""
        due: dict[tuple[str, int, str], list[Known]] = defaultdict(list)
        for alert in self.alerts.values():
            route = self.routes.route(alert)
            policy = self.routes.escalations[route.escalation]
            if not alert.firing or alert.acknowledged or self.quiet(alert) or alert.severity not in policy.severities:
                continue
            for level in due_levels(alert, policy, self.now):
                due[policy.name, level, route.group(alert)].append(alert)
        for (name, level, group), alerts in sorted(due.items()):
            policy = self.routes.escalations[name]
            step = policy.levels[min(level, len(policy.levels)) - 1]
            people = [p for p in self.routes.paged(step, self.now) if self.routes.receivers[p].address] or [CONSOLE]
            for person in people:
                self._queue("page", person, group, alerts, level=level, tells=[level])
            for alert in alerts:
                before = self.alerts[alert.fingerprint]
                note = {"status": "firing", "at": utc_text(self.now), "group": ""}
                told = {**before.told, **{p: note for p in people if p not in before.told}}
                self.write("escalated", before, level=level, paged=utc_text(self.now), told=told)

    def _queue(
        self,
        kind: str,
        receiver: str,
        group: str,
        alerts: Sequence[Known],
        *,
        ends: bool = False,
        level: int = 0,
        tells: Sequence[Any] = (),
    ) -> None:
        current = [self.alerts[alert.fingerprint] for alert in alerts]
        key = [group, *tells, *sorted([a.fingerprint, a.episode, a.seq] for a in current)]
        if self.outbox.queue(
            self.connection, kind, receiver, key, content(group, current, ends=ends, level=level), self.now
        ):
            self.queued[kind] += 1


CONSOLE = "console"
"""The receiver that is always there: the log of the run, and the page."""


def status(alert: Known) -> str:
    """What is told of an alert: firing or resolved."""
    return "firing" if alert.firing else "resolved"


def told_to(alert: Known, receiver: str) -> str:
    """What a receiver was told last of an alert."""
    return str(alert.told.get(receiver, {}).get("status", "resolved"))


def known_to_fire(alert: Known) -> bool:
    """Whether a group's message has told that an alert fires; a page to somebody on duty is none."""
    return any(note["status"] == "firing" and note["group"] for note in alert.told.values())


def owes_end(alert: Known, route: Route) -> bool:
    """Whether somebody was told that an alert fires, and not yet that it has ended."""
    return alert.state == "resolved" and any(note["status"] == "firing" for note in alert.told.values())


def due_levels(alert: Known, policy: Escalation, now: datetime) -> list[int]:
    """Levels to page now, from 1 on; beyond the last level it is paged again after each `again`.

    A pass that comes late pages every level it finds due, once.
    """
    since = utc_time(alert.since)
    due = [n for n, level in enumerate(policy.levels, start=1) if now >= since + level.after and n > alert.level]
    last = len(policy.levels)
    if alert.level >= last and alert.paged and now >= utc_time(alert.paged) + policy.again:
        due.append(alert.level + 1)
    return due


def silenced(alerts: Sequence[Known], known: Sequence[Silence], now: datetime) -> frozenset[str]:
    """Fingerprints of alerts that a silence covers."""
    lasting = [silence for silence in known if silence.ends > utc_text(now)]
    return frozenset(a.fingerprint for a in alerts if any(silence.covers(a, now) for silence in lasting))


def inhibited(firing: Sequence[Known], routes: Routes) -> frozenset[str]:
    """Fingerprints of alerts that a graver one of the same thing makes needless."""
    found: set[str] = set()
    for rule in routes.inhibitions:
        sources: dict[tuple[tuple[str, str], ...], set[str]] = defaultdict(set)
        keyed = [alert for alert in firing if rule.key(alert)]
        for alert in keyed:
            if rule.fits(alert, rule.source):
                sources[rule.key(alert)].add(alert.fingerprint)
        for alert in keyed:
            others = sources.get(rule.key(alert), set()) - {alert.fingerprint}
            if others and rule.fits(alert, rule.target):
                found.add(alert.fingerprint)
    return frozenset(found)


def content(group: str, alerts: Sequence[Known], *, ends: bool = False, level: int = 0) -> dict[str, Any]:
    """What a message says: a title, one line for each alert, and the alerts it is about."""
    order = sorted(alerts, key=lambda a: (not a.firing, -_RANK[a.severity], a.since, a.fingerprint))
    firing = [alert for alert in order if alert.firing]
    gravest = (firing or order)[0]
    names = sorted({alert.name for alert in (firing or order)})
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    what = "RESOLVED" if ends else gravest.severity.upper()
    title = (
        f"[{what}] {gravest.name}{more}: {gravest.summary}"
        if level == 0
        else (f"[{what}, level {level}] {gravest.name}{more}: {gravest.summary}")
    )
    return {
        "title": title[:240],
        "severity": gravest.severity,
        "status": "resolved" if ends else "firing",
        "group": group,
        "level": level,
        "lines": [_line(alert) for alert in order[:MOST_TOLD]],
        "more": max(len(order) - MOST_TOLD, 0),
        "alerts": [[alert.fingerprint, alert.episode] for alert in firing],
    }


_RANK = {"info": 0, "warning": 1, "critical": 2}


def _line(alert: Known) -> dict[str, Any]:
    shown: Mapping[str, str] = {k: v for k, v in alert.labels.items() if k != "area"}
    return {
        "name": alert.name,
        "severity": alert.severity,
        "status": status(alert),
        "summary": alert.summary,
        "since": alert.since[:19] + "Z",
        "count": alert.count,
        "labels": dict(shown),
        "runbook": alert.runbook,
        "alert": alert.fingerprint[:12],
    }


def acknowledge(register: AlertRegister, chosen: Sequence[tuple[str, int]], who: str, now: datetime) -> list[Known]:
    """Note that somebody takes alerts: nobody is paged or reminded of them any more in this episode.

    Args:
        register: The alerts.
        chosen: Fingerprints or their beginnings, each with the episode that is meant; 0 for the one that lasts.
        who: Who takes them.
        now: The time.

    Returns:
        Those that were taken by this; none where they have ended or somebody has them already.
    """
    from trialops.stores.database import writing

    def meant(alert: Known) -> bool:
        return any(p and alert.fingerprint.startswith(p) and n in (0, alert.episode) for p, n in chosen)

    with writing(register.engine) as connection:
        register.lock(connection)
        taken = [
            ("acknowledged", replace(alert, acknowledged=who, acknowledged_at=utc_text(now)))
            for alert in register.known(connection=connection).values()
            if alert.firing and not alert.acknowledged and meant(alert)
        ]
        return register.write_all(connection, taken, now, actor=who)
