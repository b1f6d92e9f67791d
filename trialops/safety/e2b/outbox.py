"""The outbox of safety reports: what was released, on its way, taken or rejected, as append-only rows.

A message is one released version of one case for one authority. Its rows are numbered without gaps, so of two senders
that both want it the second to write finds its number taken. The row that announces an act is written before the act.
The content is encrypted by the vault under the digest the rows carry; it is never written twice with another content.

==============  =======================================================================================================
``queued``      written, checked, waiting
``sending``     a sender has it until the time in `until`; after that it may be taken over
``failed``      could not be handed over, or it is not known whether it was; tried again from `until` on
``sent``        the gateway has it
``acknowledged``  the authority has taken it
``rejected``    it does not pass the check (`cause` check, never sent), or the gateway or the authority rejects it
``superseded``  a later version of the case went in its place before it was ever tried
==============  =======================================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

PURPOSE = "reports"
"""The vault's data key for messages and acknowledgements."""

NEXT: Mapping[str, frozenset[str]] = {
    "": frozenset({"queued", "rejected"}),
    "queued": frozenset({"sending", "sent", "superseded"}),
    "sending": frozenset({"sending", "sent", "failed", "rejected"}),
    "failed": frozenset({"sending", "sent", "rejected", "queued"}),
    "sent": frozenset({"acknowledged", "rejected"}),
    "acknowledged": frozenset(),
    "rejected": frozenset({"queued", "rejected", "superseded"}),
    "superseded": frozenset(),
}
"""What may follow a state; what follows `rejected` is for messages that the check stopped, unsent."""

WAITING = ("queued", "sending", "failed")


class Taken(TrialOpsError):
    """Somebody else has written the message's next row."""


@dataclass(frozen=True)
class Message:
    """A message as its newest row leaves it.

    Attributes:
        message_id: Number of the batch (N.1.2), which holds this one report; the key under which nothing is sent twice.
        seq: Number of the newest row.
        state: One of the states above.
        case_id: Case.
        case_version: Version of the case.
        authority: Whom it is for.
        digest: SHA-256 of the message in the clear; empty where the check stopped it before one was kept.
        due: When the report is due at the latest, UTC; empty where it has no clock.
        until: See the states; UTC.
        attempt: Tries so far.
        detail: Cause, codes, receipt; never content of the case.
        at: When the row was written, UTC.
        actor: Who wrote it.
    """

    message_id: str
    seq: int
    state: str
    case_id: str
    case_version: int
    authority: str
    digest: str
    due: str
    until: str
    attempt: int
    detail: Mapping[str, Any] = field(default_factory=dict)
    at: str = ""
    actor: str = ""

    @property
    def lane(self) -> tuple[str, str]:
        """Case and authority: within a lane, versions go in order."""
        return self.case_id, self.authority

    @property
    def waiting(self) -> bool:
        """Whether it still has to reach the gateway."""
        return self.state in WAITING


def utc_text(when: datetime) -> str:
    """A time as the database holds it: UTC, ISO 8601, microseconds, final Z."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_time(text: str) -> datetime:
    """The inverse of `utc_text`."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


@dataclass(frozen=True, order=True)
class Version:
    """A version of a case for an authority."""

    case_id: str
    number: int
    authority: str = "FDA"

    def __str__(self) -> str:
        """In words."""
        return f"{self.case_id} version {self.number} for {self.authority}"


class Outbox:
    """The outbox of one study.

    Args:
        engine: The database, migrated.
        study: The study.
        vault: Encrypts messages and acknowledgements.
        objects: Keeps them.
        actor: Who acts.
        run_id: The run acted in.
        clock: The time now; given in tests and where a step has its `as_of`.
    """

    def __init__(
        self,
        engine: Engine,
        study: str,
        vault: Vault,
        objects: ObjectStore,
        *,
        actor: str = "",
        run_id: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """See the class."""
        self.engine, self.study, self.vault, self.objects = engine, study, vault, objects
        self.actor, self.run_id, self.clock = actor, run_id, clock

    # -- content -----------------------------------------------------------------------------------------------

    def keep(self, data: bytes, kind: str) -> tuple[str, str]:
        """Encrypt and keep bytes; returns their SHA-256 and the object's key. The same bytes twice are kept once."""
        digest = hashlib.sha256(data).hexdigest()
        key = self._key(digest, kind)
        try:
            if self.vault.opens(self.objects.get(key), context=key):
                return digest, key
        except KeyError:
            pass
        self.objects.put(key, self.vault.encrypt(PURPOSE, data, context=key))
        return digest, key

    def _key(self, digest: str, kind: str) -> str:
        return f"{PURPOSE}/{self.vault.id}/{kind}/{digest}"

    def content(self, message: Message) -> bytes:
        """A message's XML, checked against its digest.

        Raises:
            TrialOpsError: It is missing or is not what was queued.
        """
        key = self._key(message.digest, "messages")
        try:
            data = self.vault.decrypt(self.objects.get(key), context=key)
        except KeyError:
            raise TrialOpsError(
                "The content of a queued message is missing", where=message.message_id, fix="Restore the object store."
            ) from None
        if hashlib.sha256(data).hexdigest() != message.digest:
            raise TrialOpsError("The content of a message is not what was queued", where=message.message_id)
        return data

    # -- rows --------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, connection: Connection | None = None) -> Iterator[Connection]:
        """The given transaction, or one of its own."""
        from trialops.stores.database import writing

        if connection is not None:
            yield connection
            return
        with writing(self.engine) as own:
            yield own

    def messages(self, connection: Connection | None = None) -> list[Message]:
        """All messages as they stand, in the order they were queued."""
        import sqlalchemy as sa

        from trialops.stores.database import reading
        from trialops.stores.tables import report_events as table

        newest = (
            sa.select(table.c.message_id, sa.func.max(table.c.seq).label("seq"), sa.func.min(table.c.id).label("first"))
            .where(table.c.study == self.study)
            .group_by(table.c.message_id)
            .subquery()
        )
        query = (
            sa.select(table)
            .join(newest, (table.c.message_id == newest.c.message_id) & (table.c.seq == newest.c.seq))
            .where(table.c.study == self.study)
            .order_by(newest.c.first)
        )
        if connection is not None:
            return [_message(row) for row in connection.execute(query)]
        with reading(self.engine) as own:
            return [_message(row) for row in own.execute(query)]

    def message(self, message_id: str) -> Message | None:
        """One message as it stands."""
        rows = self.history(message_id)
        return rows[-1] if rows else None

    def history(self, message_id: str) -> list[Message]:
        """All rows of a message, oldest first."""
        import sqlalchemy as sa

        from trialops.stores.database import reading
        from trialops.stores.tables import report_events as table

        query = (
            sa.select(table).where(table.c.study == self.study, table.c.message_id == message_id).order_by(table.c.seq)
        )
        with reading(self.engine) as connection:
            return [_message(row) for row in connection.execute(query)]

    def append(
        self,
        message: Message,
        state: str,
        *,
        until: datetime | None = None,
        attempt: int | None = None,
        connection: Connection | None = None,
        **detail: Any,
    ) -> Message:
        """Write a message's next row.

        Args:
            message: As the caller knows it.
            state: The next state.
            until: End of the lease, or time of the next try.
            attempt: Tries so far; as before where it is not given.
            connection: A transaction to write in.
            detail: JSON values for a reader.

        Raises:
            Taken: Somebody else wrote in between.
            TrialOpsError: The state cannot follow the one before.
        """
        import sqlalchemy as sa

        if state not in NEXT[message.state if message.seq else ""]:
            raise TrialOpsError(
                f"A message that is {message.state or 'new'} cannot become {state}", where=message.message_id
            )
        after = Message(
            message_id=message.message_id,
            seq=message.seq + 1,
            state=state,
            case_id=message.case_id,
            case_version=message.case_version,
            authority=message.authority,
            digest=message.digest,
            due=message.due,
            until=utc_text(until) if until else "",
            attempt=message.attempt if attempt is None else attempt,
            detail=detail,
            at=utc_text(self.clock()),
            actor=self.actor,
        )
        try:
            with self.transaction(connection) as at:
                at.execute(_insert(self.study, after, self.run_id))
        except sa.exc.IntegrityError:
            raise Taken(
                "Another sender has this message", where=f"{message.message_id}, row {after.seq}", fix="Leave it to it."
            ) from None
        return after

    # -- entering ----------------------------------------------------------------------------------------------

    def queue(self, message_id: str, case: Version, data: bytes, *, due: str = "", **detail: Any) -> Message:
        """Queue a message once; what is queued already with the same content is left as it stands.

        A version of the case that waits and was never tried gives way, and hands on its due time.

        Args:
            message_id: Number of the message.
            case: Version of a case, and the authority it is for.
            data: The message.
            due: When it is due at the latest, UTC text; empty for none.
            detail: JSON values for a reader.

        Raises:
            TrialOpsError: The message exists with another content.
        """
        digest, _ = self.keep(data, "messages")
        with self.transaction() as connection:
            known = self.messages(connection)
            existing = next((each for each in known if each.message_id == message_id), None)
            if existing and not unsent_reject(existing):
                if existing.digest == digest or existing.state == "superseded":
                    return existing
                raise TrialOpsError(
                    "A message of this number exists with another content",
                    where=message_id,
                    fix="Release a new version of the case; a message that was queued is never changed.",
                )
            for other in known:
                if other.lane != (case.case_id, case.authority) or other.case_version >= case.number:
                    continue
                if other.state == "rejected" or _untried(other):
                    due = min((text for text in (due, other.due) if text), default="")
                if unsent_reject(other) or _untried(other):
                    self.append(other, "superseded", connection=connection, by=message_id)
            return self.append(_new(message_id, case, digest, due, existing), "queued", connection=connection, **detail)

    def stop(self, message_id: str, case: Version, *, due: str = "", rules: Sequence[str]) -> Message:
        """Note that a version of a case does not pass the check and was not sent; once per set of rules."""
        existing = self.message(message_id)
        if existing and not (unsent_reject(existing) and list(existing.detail.get("rules", [])) != list(rules)):
            return existing
        return self.append(_new(message_id, case, "", due, existing), "rejected", cause="check", rules=list(rules))

    def reported_before(self, case: Version) -> bool:
        """Whether an earlier version of a case has left for the authority, or may have."""
        return any(
            each.lane == (case.case_id, case.authority)
            and each.case_version < case.number
            and (each.state in ("sending", "failed", "sent", "acknowledged") or each.attempt > 0)
            for each in self.messages()
        )


def _new(message_id: str, case: Version, digest: str, due: str, existing: Message | None) -> Message:
    """A message before its next row, which is the first where there is none yet."""
    seq, state = (existing.seq, existing.state) if existing else (0, "")
    return Message(message_id, seq, state, case.case_id, case.number, case.authority, digest, due, "", 0)


def unsent_reject(message: Message) -> bool:
    """Whether the check stopped a message before it was sent."""
    return message.state == "rejected" and message.detail.get("cause") == "check"


def _untried(message: Message) -> bool:
    return message.state == "queued" and message.attempt == 0


def _insert(study: str, message: Message, run_id: str) -> Any:
    from trialops.stores.database import canonical
    from trialops.stores.tables import report_events as table

    values = {name: value for name, value in vars(message).items() if name not in ("state", "detail")}
    return table.insert().values(
        **values, study=study, event=message.state, detail=canonical(dict(message.detail)), run_id=run_id
    )


def _message(row: Row[Any]) -> Message:
    return Message(
        message_id=row.message_id,
        seq=row.seq,
        state=row.event,
        case_id=row.case_id,
        case_version=row.case_version,
        authority=row.authority,
        digest=row.digest,
        due=row.due,
        until=row.until,
        attempt=row.attempt,
        detail=json.loads(row.detail),
        at=row.at,
        actor=row.actor,
    )
