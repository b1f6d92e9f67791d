"""The register of alerts: one row for everything that happens to an alert, never changed.

An alert is known by the fingerprint of its name, severity and labels. From its first cause to its end is an *episode*;
while it lasts, the same cause again is counted and nobody is told twice. Each row holds the alert as it stands after
what happened, so the newest row of a fingerprint is its state and the rows before are its history.

=================  ====================================================================================================
``pending``        a rule's condition holds, not yet for as long as the rule asks
``cleared``        it stopped to hold before that
``firing``         an episode begins
``repeated``       the same cause again
``handed``         Alertmanager has it
``notified``       a message that tells it was queued
``escalated``      a page of the next level was queued
``acknowledged``   somebody has taken it; nobody is paged or reminded any more
``resolved``       the episode is over
=================  ====================================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trialops.alerts.thresholds import Severity
from trialops.stores.database import canonical

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

RULE, EVENT, ALERTMANAGER = "rule", "event", "alertmanager"
"""Where an alert comes from: an embedded rule, a call of `raise_alert`, or Alertmanager's own rules."""

VOLATILE = frozenset({"run_id", "workflow", "pod", "instance"})
"""Labels that differ from one occurrence to the next: kept and shown, no part of what an alert is."""


def utc_text(when: datetime) -> str:
    """A time as the database holds it: UTC, ISO 8601, microseconds, final Z."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_time(text: str) -> datetime:
    """The inverse of `utc_text`; takes any ISO 8601 time with a zone."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def fingerprint(name: str, severity: str, labels: Mapping[str, str]) -> str:
    """SHA-256 of what an alert is: its name, severity and labels without the volatile ones."""
    kept = {key: value for key, value in labels.items() if key not in VOLATILE and key not in ("alertname", "severity")}
    return hashlib.sha256(canonical({"alertname": name, "severity": severity, "labels": kept}).encode()).hexdigest()


@dataclass(frozen=True)
class Known:
    """An alert as its newest row leaves it.

    Attributes:
        fingerprint: See `fingerprint`.
        seq: Number of the newest row; 0 where there is none.
        episode: 1, 2, 3, ...
        origin: rule, event or alertmanager.
        state: pending, firing, resolved, cleared, or empty.
        name: Name of the alert.
        severity: info, warning or critical.
        labels: Labels, volatile ones included.
        summary: One sentence.
        runbook: Heading of the page of runbooks, or an address.
        since: When the episode began (or the condition began to hold), UTC text.
        seen: When the cause was last there, UTC text.
        ended: When it was resolved, UTC text.
        count: Occurrences in the episode.
        acknowledged: Who has taken it; empty while nobody has.
        acknowledged_at: When, UTC text.
        told: Receiver -> status it was told last, when, and in which group.
        level: Highest level of escalation paged.
        paged: When the last page was queued, UTC text.
        handed: When Alertmanager first took it in this episode, UTC text.
    """

    fingerprint: str
    seq: int = 0
    episode: int = 0
    origin: str = EVENT
    state: str = ""
    name: str = ""
    severity: Severity = "warning"
    labels: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    runbook: str = ""
    since: str = ""
    seen: str = ""
    ended: str = ""
    count: int = 0
    acknowledged: str = ""
    acknowledged_at: str = ""
    told: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    level: int = 0
    paged: str = ""
    handed: str = ""

    @property
    def firing(self) -> bool:
        """Whether the episode lasts."""
        return self.state == "firing"

    @property
    def area(self) -> str:
        """Whom it concerns."""
        return self.labels.get("area", "")

    def matches(self, matchers: Iterable[Mapping[str, Any]]) -> bool:
        """Whether every matcher holds: {name, value, regex}; alertname and severity are names too."""
        import re

        every = {**self.labels, "alertname": self.name, "severity": self.severity}
        return all(
            bool(re.fullmatch(m["value"], every.get(m["name"], "")))
            if m.get("regex")
            else every.get(m["name"], "") == m["value"]
            for m in matchers
        )


@dataclass(frozen=True)
class Entry:
    """One row of an alert's history."""

    at: str
    event: str
    actor: str
    run_id: str
    alert: Known


class AlertRegister:
    """The alerts of one study.

    Args:
        engine: The database, migrated.
        study: The study.
        actor: Who acts.
        run_id: The run acted in.
    """

    def __init__(self, engine: Engine, study: str, *, actor: str = "", run_id: str = "") -> None:
        """See the class."""
        self.engine, self.study, self.actor, self.run_id = engine, study, actor, run_id

    def lock(self, connection: Connection) -> None:
        """Writers of one study take turns until the end of the transaction."""
        from trialops.stores.database import lock_row

        lock_row(connection, f"alerts:{self.study}")

    def known(
        self, fingerprints: Sequence[str] | None = None, *, connection: Connection | None = None
    ) -> dict[str, Known]:
        """All alerts as they stand, or those asked for; by fingerprint, in the order they first came."""
        import sqlalchemy as sa

        from trialops.stores.database import reading
        from trialops.stores.tables import alert_events as table

        newest = (
            sa.select(table.c.fingerprint, sa.func.max(table.c.seq).label("seq"), sa.func.min(table.c.id).label("f"))
            .where(table.c.study == self.study)
            .group_by(table.c.fingerprint)
        )
        if fingerprints is not None and len(fingerprints) <= 500:
            newest = newest.where(table.c.fingerprint.in_(sorted(set(fingerprints))))
        last = newest.subquery()
        query = (
            sa.select(table)
            .join(last, (table.c.fingerprint == last.c.fingerprint) & (table.c.seq == last.c.seq))
            .where(table.c.study == self.study)
            .order_by(last.c.f)
        )
        with reading(self.engine) if connection is None else nullcontext(connection) as at:
            return {row.fingerprint: _known(row) for row in at.execute(query)}

    def latest(self) -> str:
        """When the newest row was written, UTC text; empty where there is none."""
        import sqlalchemy as sa

        from trialops.stores.database import reading
        from trialops.stores.tables import alert_events as table

        with reading(self.engine) as connection:
            query = sa.select(sa.func.max(table.c.at)).where(table.c.study == self.study)
            return connection.execute(query).scalar_one() or ""

    def history(self, prefix: str = "", *, after: str = "", before: str = "") -> list[Entry]:
        """Rows in the order they were written.

        Args:
            prefix: Only of alerts whose fingerprint begins so.
            after: Only from this time on, UTC text.
            before: Only before this time, UTC text.
        """
        import sqlalchemy as sa

        from trialops.stores.database import reading
        from trialops.stores.tables import alert_events as table

        query = sa.select(table).where(table.c.study == self.study).order_by(table.c.id)
        if prefix:
            query = query.where(table.c.fingerprint.startswith(prefix, autoescape=True))
        if after:
            query = query.where(table.c.at >= after)
        if before:
            query = query.where(table.c.at < before)
        with reading(self.engine) as connection:
            return [Entry(row.at, row.event, row.actor, row.run_id, _known(row)) for row in connection.execute(query)]

    def end(self, connection: Connection, fingerprints: Sequence[str], now: datetime | None = None) -> list[Known]:
        """End the episodes that last of some alerts; the transaction holds the lock."""
        at = now or datetime.now(UTC)
        ending = [
            ("resolved", replace(alert, state="resolved", ended=utc_text(at)))
            for alert in self.known(fingerprints, connection=connection).values()
            if alert.firing and alert.fingerprint in fingerprints
        ]
        return self.write_all(connection, ending, at)

    def write(
        self, connection: Connection, event: str, alert: Known, now: datetime, *, actor: str = "", **changes: Any
    ) -> Known:
        """Append one row; returns the alert as it then stands. The transaction holds the lock."""
        return self.write_all(connection, [(event, replace(alert, **changes))], now, actor=actor)[0]

    def write_all(
        self, connection: Connection, entries: Sequence[tuple[str, Known]], now: datetime, *, actor: str = ""
    ) -> list[Known]:
        """Append rows, each an event and the alert after it; several of one alert follow each other."""
        from trialops.stores.tables import alert_events as table

        after: list[Known] = []
        last: dict[str, int] = {}
        for _, alert in entries:
            seq = max(last.get(alert.fingerprint, 0), alert.seq) + 1
            last[alert.fingerprint] = seq
            after.append(replace(alert, seq=seq))
        if after:
            connection.execute(
                table.insert(),
                [
                    {
                        "at": utc_text(now),
                        "study": self.study,
                        "fingerprint": alert.fingerprint,
                        "seq": alert.seq,
                        "event": event,
                        "episode": alert.episode,
                        "origin": alert.origin,
                        "detail": _detail(alert),
                        "actor": actor or self.actor,
                        "run_id": self.run_id,
                    }
                    for (event, _), alert in zip(entries, after, strict=True)
                ],
            )
        return after


_COLUMNS = ("fingerprint", "seq", "episode", "origin")


def _detail(alert: Known) -> str:
    return canonical({name: value for name, value in asdict(alert).items() if name not in _COLUMNS})


def _known(row: Any) -> Known:
    return Known(**{name: getattr(row, name) for name in _COLUMNS}, **json.loads(row.detail))
