"""The outbox of alert messages: what was decided to be told, and how far it has come, as rows that are only added.

A message is written in the transaction that decides to tell; sending comes after. Its rows are numbered without gaps:
of two senders that want it the second finds its number taken.

===========  ==========================================================================================================
``queued``   waiting
``sending``  a sender has it until the time in `until`; after that another may take it over
``failed``   could not be handed over; tried again from `until` on
``sent``     the receiver's server has taken it
``dead``     could not be handed over for as long as the routes allow; left to a person
===========  ==========================================================================================================

A sender that dies between taking a message and noting that it was sent leaves it unknown whether it went out. It is
sent again, under the same key: mail has it as Message-ID, a webhook as Idempotency-Key, PagerDuty as its deduplication
key, so that a receiver that looks at them sees one message. Chat services take no such key: there the same message may
be seen twice. It is never lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from trialops.alerts.register import utc_text, utc_time
from trialops.stores.database import canonical

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

NEXT: Mapping[str, frozenset[str]] = {
    "": frozenset({"queued"}),
    "queued": frozenset({"sending"}),
    "sending": frozenset({"sending", "sent", "failed", "dead"}),
    "failed": frozenset({"sending", "dead"}),
    "sent": frozenset(),
    "dead": frozenset({"queued"}),
}
WAITING = ("queued", "sending", "failed")
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)


@dataclass(frozen=True)
class Message:
    """A message as its newest row leaves it.

    Attributes:
        key: The key under which it takes effect once; 64 hexadecimal digits.
        seq: Number of the newest row.
        state: See above.
        kind: group, page, digest or test.
        receiver: Who is told.
        until: End of the lease, or time of the next try; UTC text.
        attempt: Tries so far.
        content: What is told: title, lines, alerts; nothing of a subject.
        detail: How the last try ended.
        queued: When it was first written, UTC text.
        at: When the newest row was written, UTC text.
    """

    key: str
    seq: int
    state: str
    kind: str
    receiver: str
    until: str
    attempt: int
    content: Mapping[str, Any]
    detail: Mapping[str, Any] = field(default_factory=dict)
    queued: str = ""
    at: str = ""


def message_key(study: str, kind: str, receiver: str, tells: Sequence[Any]) -> str:
    """The key of a message: the same study, kind, receiver and told things give the same key."""
    return hashlib.sha256(canonical([study, kind, receiver, list(tells)]).encode()).hexdigest()


def backoff(key: str, attempt: int) -> timedelta:
    """How long to wait after a failed attempt: doubling from 30 s up to an hour, spread by a fifth by the key."""
    spread = 0.9 + 0.2 * int(hashlib.sha256(f"{key}{attempt}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return min(FIRST_WAIT * 2.0 ** min(attempt - 1, 12), LONGEST_WAIT) * spread


class AlertOutbox:
    """The messages of one study.

    Args:
        engine: The database, migrated.
        study: The study.
        actor: Who acts.
        run_id: The run acted in.
    """

    def __init__(self, engine: Engine, study: str, *, actor: str = "", run_id: str = "") -> None:
        """See the class."""
        self.engine, self.study, self.actor, self.run_id = engine, study, actor, run_id

    def queue(
        self,
        connection: Connection,
        kind: str,
        receiver: str,
        tells: Sequence[Any],
        content: Mapping[str, Any],
        now: datetime,
    ) -> Message | None:
        """Write a message once, in the transaction that decides it; None where its key is there already."""
        import sqlalchemy as sa

        from trialops.stores.tables import alert_messages as table

        key = message_key(self.study, kind, receiver, tells)
        there = sa.select(table.c.id).where(table.c.study == self.study, table.c.message == key).limit(1)
        if connection.execute(there).first() is not None:
            return None
        first = Message(key, 0, "", kind, receiver, "", 0, dict(content), queued=utc_text(now))
        return self._write(connection, first, "queued", now)

    def messages(
        self, *, states: Sequence[str] = (), after: str = "", connection: Connection | None = None
    ) -> list[Message]:
        """Messages as they stand, oldest first; of some states, or queued from a time on, where given."""
        import sqlalchemy as sa

        from trialops.stores.database import reading
        from trialops.stores.tables import alert_messages as table

        newest = (
            sa.select(table.c.message, sa.func.max(table.c.seq).label("seq"), sa.func.min(table.c.id).label("f"))
            .where(table.c.study == self.study)
            .group_by(table.c.message)
            .subquery()
        )
        first = table.alias("first")
        query = (
            sa.select(table, first.c.at.label("queued"))
            .join(newest, (table.c.message == newest.c.message) & (table.c.seq == newest.c.seq))
            .join(first, first.c.id == newest.c.f)
            .where(table.c.study == self.study)
            .order_by(newest.c.f)
        )
        if states:
            query = query.where(table.c.state.in_(states))
        if after:
            query = query.where(first.c.at >= after)
        with reading(self.engine) if connection is None else nullcontext(connection) as at:
            return [_message(row) for row in at.execute(query)]

    def message(self, key: str) -> Message | None:
        """The message whose key begins so; None where there is none or more than one."""
        found = [message for message in self.messages() if message.key.startswith(key)]
        return found[0] if len(found) == 1 else None

    def due(self, now: datetime) -> list[Message]:
        """Messages that may be taken at a time, oldest first."""
        return [m for m in self.messages(states=WAITING) if not m.until or utc_time(m.until) <= now]

    def take(self, message: Message, now: datetime, lease: timedelta) -> Message | None:
        """Take a message for the time of a lease; None where another sender was faster."""
        unknown = {"taken_over": True} if message.state == "sending" else {}
        taken = replace(message, attempt=message.attempt + 1)
        return self.finish(taken, "sending", now, until=now + lease, **unknown)

    def finish(
        self, message: Message, state: str, now: datetime, *, until: datetime | None = None, **detail: Any
    ) -> Message | None:
        """Write a message's next row: how a try ended; None where another sender has written in between."""
        import sqlalchemy as sa

        from trialops.stores.database import writing

        try:
            with writing(self.engine) as connection:
                return self._write(connection, message, state, now, until=until, **detail)
        except sa.exc.IntegrityError:
            return None

    def revive(self, message: Message, now: datetime) -> Message | None:
        """Queue a dead message again."""
        return self.finish(replace(message, attempt=0), "queued", now)

    def _write(
        self,
        connection: Connection,
        message: Message,
        state: str,
        now: datetime,
        *,
        until: datetime | None = None,
        **detail: Any,
    ) -> Message:
        from trialops.errors import TrialOpsError
        from trialops.stores.tables import alert_messages as table

        if state not in NEXT[message.state]:
            raise TrialOpsError(f"A message that is {message.state} cannot become {state}", where=message.key[:12])
        after = replace(
            message,
            seq=message.seq + 1,
            state=state,
            until=utc_text(until) if until else "",
            detail=detail,
            at=utc_text(now),
        )
        row = {name: getattr(after, name) for name in ("at", "seq", "state", "kind", "receiver", "until", "attempt")}
        row |= {"study": self.study, "message": after.key, "actor": self.actor, "run_id": self.run_id}
        row |= {"content": canonical(dict(after.content)), "detail": canonical(detail)}
        connection.execute(table.insert(), row)
        return after


def _message(row: Row[Any]) -> Message:
    return Message(
        key=row.message,
        seq=row.seq,
        state=row.state,
        kind=row.kind,
        receiver=row.receiver,
        until=row.until,
        attempt=row.attempt,
        content=json.loads(row.content),
        detail=json.loads(row.detail),
        queued=row.queued,
        at=row.at,
    )
