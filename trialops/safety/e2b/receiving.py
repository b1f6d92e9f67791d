"""Acknowledgements tied to the outbox, and the reconciliation of what was released with what became of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.safety.e2b.acknowledgements import (
    Acknowledgement,
    AcknowledgementFault,
    MessageAcknowledgement,
    facts,
    parse_acknowledgement,
)
from trialops.safety.e2b.outbox import WAITING, Message, Outbox, Taken, Version, utc_text, utc_time
from trialops.safety.e2b.transport import Conflict, Transport, Unsure

if TYPE_CHECKING:
    from sqlalchemy import Connection

CLASSES = ("waiting", "sent", "acknowledged", "rejected", "superseded")
"""What a released version of a case is in a reconciliation; `superseded` went out as part of a later version."""


@dataclass(frozen=True)
class Received:
    """What became of an acknowledgement.

    Attributes:
        state: "applied", "repeated" (said before), or "quarantined".
        message_id: The message it is about; empty where that is not known.
        outcome: "acknowledged" or "rejected" where it was applied.
        what: What is wrong with one that was quarantined.
        where: Which element of it.
        digest: SHA-256 of the file.
    """

    state: str
    message_id: str = ""
    outcome: str = ""
    what: str = ""
    where: str = ""
    digest: str = ""


def receive(outbox: Outbox, data: bytes, *, source: str = "") -> Received:
    """Take an acknowledgement: keep it, and move the message it is about.

    A malformed one, one for no message of the outbox, or one that contradicts an earlier one is kept in quarantine with
    what and where, and moves nothing.

    Args:
        outbox: The outbox.
        data: The file.
        source: Where it came from, for the record.
    """
    digest = hashlib.sha256(data).hexdigest()
    try:
        found = parse_acknowledgement(data)
    except AcknowledgementFault as fault:
        return _record(outbox, data, Received("quarantined", what=fault.what, where=fault.where, digest=digest), source)
    for _ in range(10):
        try:
            return _apply(outbox, data, found, digest, source)
        except Taken:
            continue  # a sender wrote in between: what the message is now decides
    raise Taken("An acknowledgement could not be entered: its message keeps changing", where=found.batch)


def _apply(outbox: Outbox, data: bytes, found: Acknowledgement, digest: str, source: str) -> Received:
    message = next((each for each in outbox.messages() if each.message_id == found.batch), None)
    if message is None:
        what = "It answers a batch that this outbox has not sent"
        return _record(outbox, data, Received("quarantined", what=what, where="ACK.A.1", digest=digest), source)
    about = next((each for each in found.messages if each.names(message.message_id, message.case_id)), None)
    fault = _fault(found, about, message)
    if fault:
        held = Received("quarantined", message.message_id, what=fault[0], where=fault[1], digest=digest)
        return _record(outbox, data, held, source)
    outcome = "acknowledged" if about and about.code == "CA" else "rejected"
    shown = facts(found, about)
    if message.state == outcome:
        return _record(outbox, data, Received("repeated", message.message_id, outcome, digest=digest), source, shown)
    taken = Received("applied", message.message_id, outcome, digest=digest)
    _, key = outbox.keep(data, "acknowledgements")
    with outbox.transaction() as connection:
        if _known(outbox, digest, connection):
            return Received("repeated", message.message_id, outcome, digest=digest)
        current = message
        if current.waiting:
            # The answer to a try we know nothing of: it has arrived all the same.
            current = outbox.append(current, "sent", connection=connection, adopted=True, by="acknowledgement")
        outbox.append(current, outcome, connection=connection, cause="authority", **shown)
        _insert(outbox, connection, taken, key, source, shown)
    return taken


def _fault(found: Acknowledgement, about: MessageAcknowledgement | None, message: Message) -> tuple[str, str] | None:
    if about is None and found.code != "AR":
        return "It does not say what became of the batch's message", "ACK.B.r.1"
    if len(found.messages) > 1:
        return "It answers more messages than the batch had", "ACK.B.r.1"
    outcome = "acknowledged" if about and about.code == "CA" else "rejected"
    if message.state == "superseded" or message.detail.get("cause") == "check":
        return "It answers a message that was never sent", "ACK.A.1"
    if message.state in ("acknowledged", "rejected") and message.state != outcome:
        return f"It contradicts an earlier answer: the message is {message.state}", "ACK.B.r.6"
    return None


def _record(
    outbox: Outbox, data: bytes, result: Received, source: str, shown: Mapping[str, Any] | None = None
) -> Received:
    _, key = outbox.keep(data, "acknowledgements")
    with outbox.transaction() as connection:
        if _known(outbox, result.digest, connection):
            return Received("repeated", result.message_id, result.outcome, result.what, result.where, result.digest)
        _insert(outbox, connection, result, key, source, shown or {})
    return result


def _known(outbox: Outbox, digest: str, connection: Connection) -> bool:
    import sqlalchemy as sa

    from trialops.stores.database import lock_row
    from trialops.stores.tables import report_acknowledgements as table

    lock_row(connection, f"acknowledgement {digest}")
    query = sa.select(table.c.id).where(table.c.study == outbox.study, table.c.digest == digest)
    return connection.execute(query).first() is not None


def _insert(
    outbox: Outbox, connection: Connection, result: Received, key: str, source: str, shown: Mapping[str, Any]
) -> None:
    from trialops.stores.database import canonical
    from trialops.stores.tables import report_acknowledgements as table

    detail = {"outcome": result.outcome, "what": result.what, "where": result.where, "source": source, **shown}
    connection.execute(
        table.insert().values(
            at=utc_text(outbox.clock()),
            study=outbox.study,
            digest=result.digest,
            object_key=key,
            state=result.state,
            message_id=result.message_id,
            detail=canonical(detail),
            actor=outbox.actor,
            run_id=outbox.run_id,
        )
    )


def acknowledgement_rows(outbox: Outbox) -> list[dict[str, Any]]:
    """Every acknowledgement kept: when, state, message, and what may be shown of it; oldest first."""
    import json

    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import report_acknowledgements as table

    query = sa.select(table).where(table.c.study == outbox.study).order_by(table.c.id)
    with reading(outbox.engine) as connection:
        return [
            {"at": r.at, "state": r.state, "message_id": r.message_id, "digest": r.digest, **json.loads(r.detail)}
            for r in connection.execute(query)
        ]


def collect(outbox: Outbox, transport: Transport) -> list[Received]:
    """Read the acknowledgements the gateway has; what could not be read comes the next time."""
    wanted = [each.message_id for each in outbox.messages() if each.state in ("sent", "sending", "failed")]
    done = []
    try:
        for place, data in transport.acknowledgements(wanted):
            result = receive(outbox, data, source=place)
            done.append(result)
            if result.state != "quarantined" and not result.what:
                transport.read(place)
    except Unsure:
        pass
    return done


@dataclass(frozen=True)
class Reconciliation:
    """Every released version of every case, once, with what became of it.

    Attributes:
        classes: Version -> one of CLASSES.
        counts: How many of each; they add up to the released versions.
        problems: What does not fit, in words, with the message or case concerned.
        adopted: Messages found at the gateway whose answer had been lost.
        asked: Whether the gateway was asked.
    """

    classes: Mapping[Version, str]
    counts: Mapping[str, int]
    problems: tuple[str, ...]
    adopted: tuple[str, ...] = ()
    asked: bool = False


def reconcile(outbox: Outbox, released: Iterable[Version], transport: Transport | None = None) -> Reconciliation:
    """Hold what was released against the outbox, and the outbox against the gateway.

    Nothing is sent. A message whose answer was lost is adopted where the gateway has it.

    Args:
        outbox: The outbox.
        released: The versions that a safety physician has released for reporting.
        transport: The gateway; None leaves it out.
    """
    problems: list[str] = []
    adopted = _ask(outbox, transport, problems) if transport is not None else []
    rows: dict[Version, Message] = {}
    for each in outbox.messages():
        version = Version(each.case_id, each.case_version, each.authority)
        if version in rows:
            problems.append(f"{version} has more than one message")
        rows[version] = each
    wanted = Counter(released)
    problems += [f"{version} is released twice" for version, times in sorted(wanted.items()) if times > 1]
    classes = {}
    for version in sorted(wanted):
        if version in rows:
            state = rows[version].state
        elif any((v.case_id, v.authority) == (version.case_id, version.authority) and v > version for v in rows):
            state = "superseded"  # a later version was released before this one was queued
        else:
            state = "queued"
            problems.append(f"{version} is released and not in the outbox yet")
        classes[version] = "waiting" if state in WAITING else state
    problems += [f"{version} is in the outbox and not released" for version in sorted(set(rows) - set(wanted))]
    counts = {name: sum(1 for each in classes.values() if each == name) for name in CLASSES}
    return Reconciliation(classes, counts, tuple(problems), tuple(adopted), transport is not None)


def _ask(outbox: Outbox, transport: Transport, problems: list[str]) -> list[str]:
    adopted = []
    now = outbox.clock()
    for each in outbox.messages():
        tried = each.state == "failed" or (each.state == "sending" and utc_time(each.until) <= now)
        if not tried and each.state not in ("sent", "acknowledged"):
            continue
        try:
            receipt = transport.find(each.message_id, each.digest)
        except Conflict:
            problems.append(f"{each.message_id}: the gateway has another content under this number")
            continue
        except Unsure as trouble:
            problems.append(f"{each.message_id}: the gateway did not say what it has ({trouble.reason})")
            continue
        if receipt is None and not tried:
            problems.append(f"{each.message_id} is {each.state} and the gateway does not have it")
        if receipt is not None and tried:
            try:
                outbox.append(each, "sent", receipt=receipt.number, received_at=receipt.at, adopted=True)
            except Taken:
                continue
            adopted.append(each.message_id)
    return adopted


def count(received: Iterable[Received]) -> dict[str, int]:
    """How many were applied (by outcome), repeated and quarantined."""
    names = [each.outcome if each.state == "applied" else each.state for each in received]
    return dict(sorted(Counter(names).items()))
