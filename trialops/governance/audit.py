"""The audit trail of 21 CFR 11.10(e): computer-generated, time-stamped, append-only, chained.

A record's digest is SHA-256 over the canonical JSON of all its other fields, among them the digest of its
predecessor. Altering, removing, inserting or moving a record therefore breaks the chain at that record.
Cutting records off the end breaks nothing inside the chain; `anchor` writes the head to another store for
that, and `verify` compares it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.database import canonical, reading, utc_now, writing

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

GENESIS = "0" * 64
"""What the first record holds as its predecessor's digest."""

DETAIL_BYTES = 32_768
APPEND_LOCK = 0x7472_6961_6C02
"""PostgreSQL advisory lock that makes appenders take turns."""

_BATCH = 1_000
_INSERT = (
    "INSERT INTO audit_events "
    "(seq, at, actor, action, object, version, reason, run_id, detail, previous, digest) "
    "VALUES (:seq, :at, :actor, :action, :object, :version, :reason, :run_id, :detail, :previous, :digest)"
)


@dataclass(frozen=True)
class AuditEvent:
    """One record: who did what to which object, when, why.

    Attributes:
        seq: Position in the trail, from 1, without gaps.
        at: UTC, ISO 8601 with microseconds.
        actor: Person or service.
        action: Verb, such as "write", "promote", "sign", "reidentify".
        object: What was acted on: a table, model, record, pseudonym.
        version: Of the object.
        reason: Why; for a correction, the reason for change.
        run_id: The pipeline run it belongs to, or empty.
        detail: JSON values, old and new for a change.
        previous: Digest of the record before.
        digest: SHA-256, hexadecimal, of all of the above.
    """

    seq: int
    at: str
    actor: str
    action: str
    object: str
    version: str
    reason: str
    run_id: str
    detail: dict[str, Any]
    previous: str
    digest: str


@dataclass(frozen=True)
class Anchor:
    """The trail's head as it was written to another store."""

    seq: int
    digest: str
    at: str

    @classmethod
    def from_json(cls, data: bytes | str) -> Anchor:
        """Read what `AuditTrail.anchor` wrote.

        Raises:
            TrialOpsError: It is not an anchor.
        """
        try:
            fields = json.loads(data)
            return cls(seq=int(fields["seq"]), digest=str(fields["digest"]), at=str(fields["at"]))
        except (ValueError, KeyError, TypeError) as error:
            raise TrialOpsError(
                "This is not an audit anchor.",
                where="audit anchor",
                fix="Pass an object stored under audit/anchors/.",
            ) from error


@dataclass(frozen=True)
class Verification:
    """What `AuditTrail.verify` found.

    Attributes:
        ok: The chain is whole and agrees with every anchor given.
        checked: Records found whole before the first bad one, or all of them.
        head: Position and digest of the last record checked.
        bad: Position of the first record that was altered, deleted, inserted or moved; None when all is well.
        problem: What is wrong with it, in one sentence.
        anchors: Anchors compared.
    """

    ok: bool
    checked: int
    head: tuple[int, str]
    bad: int | None = None
    problem: str = ""
    anchors: int = 0

    def __bool__(self) -> bool:
        """Whether the trail is whole."""
        return self.ok


def digest_of(
    *,
    seq: int,
    at: str,
    actor: str,
    action: str,
    object: str,
    version: str,
    reason: str,
    run_id: str,
    detail: str,
    previous: str,
) -> str:
    """The digest a record must carry.

    Args:
        seq: And the other fields as in AuditEvent.
        at: UTC text.
        actor: Who.
        action: Verb.
        object: What.
        version: Of the object.
        reason: Why.
        run_id: Run.
        detail: The stored JSON text, as text: a changed blank in it is a change.
        previous: Digest of the record before.

    Returns:
        SHA-256 as 64 hexadecimal digits.
    """
    text = canonical(
        {
            "seq": seq,
            "at": at,
            "actor": actor,
            "action": action,
            "object": object,
            "version": version,
            "reason": reason,
            "run_id": run_id,
            "detail": detail,
            "previous": previous,
        }
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _recomputed(row: Row[Any], seq: int | None = None) -> str:
    """The digest of a stored row's fields; with `seq`, as if it stood there."""
    fields = {name: value for name, value in row._mapping.items() if name != "digest"}
    return digest_of(**(fields | ({} if seq is None else {"seq": seq})))


@dataclass(frozen=True)
class AuditTrail:
    """The trail in one database.

    Args:
        engine: From trialops.stores.database.connect, migrated.
    """

    engine: Engine = field(repr=False)

    def append(
        self,
        *,
        actor: str,
        action: str,
        object: str,
        version: str = "",
        reason: str = "",
        run_id: str = "",
        detail: Mapping[str, Any] | None = None,
        connection: Connection | None = None,
    ) -> AuditEvent:
        """Add a record at the end; appenders in other threads, processes and hosts take turns.

        Args:
            actor: Who; not empty.
            action: Verb; not empty.
            object: What; not empty.
            version: Of the object.
            reason: Why.
            run_id: The run it belongs to.
            detail: JSON values, at most 32 kB as text. No subject's values.
            connection: An open `writing` transaction the record is to stand or fall with; by default it gets
                its own.

        Returns:
            The record as stored.

        Raises:
            TrialOpsError: A field is empty or not text, or the detail is not JSON or too large. Nothing is
                stored.
        """
        fields = {
            "actor": actor,
            "action": action,
            "object": object,
            "version": version,
            "reason": reason,
            "run_id": run_id,
        }
        _check_text(fields)
        text = _detail_text(detail)
        if connection is not None:
            return _append(connection, fields, text)
        with writing(self.engine) as own:
            return _append(own, fields, text)

    def events(self, run_id: str | None = None, after: int = 0, limit: int | None = None) -> Iterator[AuditEvent]:
        """Records in order, read a page at a time so that no transaction stays open between two of them.

        Args:
            run_id: Only those of this run.
            after: Only those behind this position.
            limit: At most so many.
        """
        import sqlalchemy as sa

        from trialops.stores.tables import audit_events as table

        left = limit
        while left is None or left > 0:
            size = _BATCH if left is None else min(_BATCH, left)
            query = sa.select(table).where(table.c.seq > after).order_by(table.c.seq).limit(size)
            if run_id is not None:
                query = query.where(table.c.run_id == run_id)
            with reading(self.engine) as connection:
                rows = connection.execute(query).all()
            for row in rows:
                yield _event(row)
            if len(rows) < size:
                return
            after = rows[-1].seq
            left = None if left is None else left - len(rows)

    def head(self) -> tuple[int, str]:
        """Position and digest of the last record; (0, GENESIS) while there is none."""
        with reading(self.engine) as connection:
            return _head(connection)

    def anchor(self, store_put: Callable[[str, bytes], None]) -> Anchor:
        """Write the head to another store, where whoever can alter the database cannot alter it too.

        Args:
            store_put: Called with a key, which holds the position and so is new for each head, and the JSON
                to store there.

        Returns:
            The anchor written.
        """
        seq, digest = self.head()
        anchor = Anchor(seq=seq, digest=digest, at=utc_now())
        body = canonical({"format": 1, "seq": seq, "digest": digest, "at": anchor.at})
        store_put(f"audit/anchors/{seq:012d}-{digest[:16]}.json", body.encode("ascii"))
        return anchor

    def verify(
        self,
        anchor: Anchor | Iterable[Anchor] | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> Verification:
        """Check every record, its link to the one before, and the anchors, in one streamed pass.

        Args:
            anchor: One anchor or several; without, records cut off the end cannot be noticed.
            progress: Called with a message and the fraction done.

        Returns:
            The verification; its `bad` is the first record that is not as it was written.
        """
        from trialops.governance import chain

        anchors = [anchor] if isinstance(anchor, Anchor) else list(anchor or ())
        return chain.verify(self.engine, anchors, progress)


def _append(connection: Connection, fields: dict[str, str], detail: str) -> AuditEvent:
    import sqlalchemy as sa

    if connection.dialect.name == "postgresql":
        # Held to the end of the transaction; the head is read after it, so it is the committed one.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({APPEND_LOCK})")
    last, previous = _head(connection)
    values = {"seq": last + 1, "at": utc_now(), **fields, "detail": detail, "previous": previous}
    digest = digest_of(**values)  # type: ignore[arg-type]
    connection.execute(sa.text(_INSERT), values | {"digest": digest})
    return AuditEvent(**(values | {"digest": digest, "detail": json.loads(detail)}))  # type: ignore[arg-type]


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.exec_driver_sql("SELECT seq, digest FROM audit_events ORDER BY seq DESC LIMIT 1").first()
    return (0, GENESIS) if row is None else (int(row[0]), str(row[1]))


def _event(row: Row[Any]) -> AuditEvent:
    fields = dict(row._mapping)
    try:
        detail = json.loads(fields["detail"])
    except ValueError as error:
        raise TrialOpsError(
            f"Audit record {fields['seq']} has been altered: its detail is no longer JSON.",
            where="audit_events",
            fix="Verify the trail and restore the database from the last verified backup.",
        ) from error
    return AuditEvent(**(fields | {"detail": detail}))


def _check_text(fields: Mapping[str, str]) -> None:
    for name, value in fields.items():
        problem = ""
        if not isinstance(value, str):
            problem = "is not text"
        elif not value.strip() and name in ("actor", "action", "object"):
            problem = "is empty"
        elif "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            problem = "holds a character that no database stores"
        if problem:
            raise TrialOpsError(
                f"The audit field {name!r} {problem}.",
                where="audit_events",
                fix="Every record names who did what to which object.",
            )


def _detail_text(detail: Mapping[str, Any] | None) -> str:
    """The detail as canonical JSON text."""
    fix = "Use text keys, and numbers (no NaN), text, true, false, null, lists and objects as values."
    try:
        _check_keys(detail or {})
        text = canonical(dict(detail or {}))
    except (TypeError, ValueError, RecursionError) as error:
        raise TrialOpsError(
            "The detail of an audit record is not JSON.", where="audit_events.detail", fix=fix
        ) from error
    if len(text) > DETAIL_BYTES:
        raise TrialOpsError(
            f"The detail of an audit record is {len(text):,} bytes long; {DETAIL_BYTES:,} are allowed.",
            where="audit_events.detail",
            fix="Store the bulk as an object and put its key and digest in the detail.",
        )
    return text


def _check_keys(value: Any) -> None:
    """JSON turns the keys 1 and "1" into one; refuse keys that are not text."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key is not text")
        for item in value.values():
            _check_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)
