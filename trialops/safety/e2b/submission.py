"""Sending what is due, once.

A sender first writes the row that claims a message, then acts. Whatever was tried before is asked for at the gateway
before it is sent again, so a lost answer ends in adoption. A sender that dies leaves a claim with an end; after that
the next one takes over in the same way. What cannot be handed over is tried again with growing, spread waits, earlier
where the due time would pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from trialops.safety.e2b.outbox import Message, Outbox, Taken, utc_time
from trialops.safety.e2b.transport import Conflict, Receipt, Refused, Transport, Unsure


@dataclass(frozen=True)
class SendPolicy:
    """How reports are handed over; submission.yaml says what each number means."""

    version: int
    first_wait: float
    factor: float
    longest_wait: float
    jitter: float
    seed: int
    timeout: float
    lease: float
    alert_hours: float
    margin_minutes: float
    acknowledge_hours: float
    digest: str = ""

    def wait(self, message_id: str, attempt: int) -> float:
        """Seconds to wait after a number of tries."""
        plain = min(self.longest_wait, self.first_wait * self.factor ** min(attempt - 1, 60))
        drawn = hashlib.sha256(f"{self.seed}\0{message_id}\0{attempt}".encode()).digest()
        share = int.from_bytes(drawn[:8], "big") / 2**64
        return plain * (1 + self.jitter * (2 * share - 1))


@cache
def send_policy() -> SendPolicy:
    """The policy of submission.yaml with its digest."""
    import yaml

    from trialops.stores.digest import document_digest

    loaded = yaml.safe_load(Path(__file__).with_name("submission.yaml").read_text("utf-8"))
    return SendPolicy(**loaded, digest=document_digest(loaded))


@dataclass
class Sent:
    """What one pass did, by message number.

    Attributes:
        sent: Handed over now.
        adopted: Found at the gateway from an earlier try.
        failed: To be tried again, with the reason.
        refused: Refused by the gateway.
        left: Another sender has it, or an earlier version of the case goes first.
    """

    sent: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def due_now(messages: Iterable[Message], now: datetime) -> list[Message]:
    """The messages to try now, the most urgent first; a version of a case waits for the ones before it."""
    known = list(messages)
    first: dict[tuple[str, str], int] = {}
    for each in known:
        if each.waiting:
            first[each.lane] = min(each.case_version, first.get(each.lane, each.case_version))
    ready = [
        each
        for each in known
        if each.waiting
        and each.case_version == first[each.lane]
        and not each.detail.get("stopped")
        and (not each.until or utc_time(each.until) <= now)
    ]
    return sorted(ready, key=lambda each: (each.due or "9", each.message_id))


def send_due(
    outbox: Outbox,
    transport: Transport,
    policy: SendPolicy | None = None,
    *,
    say: Callable[[str, float], None] | None = None,
) -> Sent:
    """Try everything that is due now, once.

    Args:
        outbox: The outbox; its clock says what is due.
        transport: The gateway.
        policy: Waits and leases; the shipped one by default.
        say: Called with what is going on and the fraction done.
    """
    rules, result = policy or send_policy(), Sent()
    while ready := [
        each for each in due_now(outbox.messages(), outbox.clock()) if each.message_id not in _done(result)
    ]:
        for place, message in enumerate(ready):
            if say:
                say(f"report {place + 1} of {len(ready)}", place / len(ready))
            _one(outbox, transport, rules, message, result)
    result.left = sorted(
        each.message_id
        for each in outbox.messages()
        if each.waiting and each.message_id not in (*result.failed, *result.refused)
    )
    return result


def _done(result: Sent) -> set[str]:
    return {*result.sent, *result.adopted, *result.failed, *result.refused, *result.left}


def _one(outbox: Outbox, transport: Transport, policy: SendPolicy, message: Message, result: Sent) -> None:
    try:
        lease = outbox.clock() + timedelta(seconds=policy.lease)
        mine = outbox.append(message, "sending", until=lease, attempt=message.attempt + 1)
    except Taken:
        result.left.append(message.message_id)
        return
    try:
        # Whatever was tried before may have arrived: look before sending again.
        receipt = transport.find(mine.message_id, mine.digest) if message.attempt else None
        adopted = receipt is not None
        if receipt is None:
            receipt = transport.deliver(mine.message_id, mine.digest, outbox.content(mine))
    except Unsure as trouble:
        if _append(
            outbox, mine, "failed", result, until=_next_try(outbox, policy, mine, trouble), reason=trouble.reason
        ):
            result.failed[mine.message_id] = trouble.reason
    except Refused as answer:
        if _append(outbox, mine, "rejected", result, cause="gateway", status=answer.status, errors=list(answer.codes)):
            result.refused.append(mine.message_id)
    except Conflict:
        if _append(outbox, mine, "failed", result, stopped="conflict", reason="the gateway has another content"):
            result.failed[mine.message_id] = "conflict"
    else:
        if _append(outbox, mine, "sent", result, **_shown(receipt, adopted)):
            (result.adopted if adopted else result.sent).append(mine.message_id)


def _append(outbox: Outbox, mine: Message, state: str, result: Sent, **more: Any) -> bool:
    try:
        outbox.append(mine, state, **more)
    except Taken:
        # Somebody took over after the lease, or an acknowledgement came first: their row says what holds.
        result.left.append(mine.message_id)
        return False
    return True


def _shown(receipt: Receipt, adopted: bool) -> dict[str, Any]:
    return {"receipt": receipt.number, "received_at": receipt.at, "adopted": adopted}


def _next_try(outbox: Outbox, policy: SendPolicy, message: Message, trouble: Unsure) -> datetime:
    now = outbox.clock()
    wait = policy.wait(message.message_id, message.attempt)
    then = now + timedelta(seconds=wait)
    if message.due:
        last = utc_time(message.due) - timedelta(minutes=policy.margin_minutes)
        soonest = now + timedelta(seconds=min(wait, policy.first_wait))
        then = min(then, max(last, soonest))
    if trouble.wait is not None:
        # The gateway's word counts over ours, up to the longest wait.
        then = max(then, now + timedelta(seconds=min(trouble.wait, policy.longest_wait)))
    return then


@dataclass(frozen=True)
class Alert:
    """A report somebody has to look at: which, and why."""

    message_id: str
    case_id: str
    why: str


def alerts(messages: Iterable[Message], now: datetime, policy: SendPolicy | None = None) -> list[Alert]:
    """Reports that are overdue or will be by their schedule, that are stuck, or that nobody acknowledges."""
    rules, found = policy or send_policy(), []
    known = list(messages)
    newest: dict[tuple[str, str], int] = {}
    for each in known:
        newest[each.lane] = max(each.case_version, newest.get(each.lane, 0))
    for each in known:
        why = _why(each, now, rules)
        if each.state == "rejected" and newest[each.lane] > each.case_version:
            why = ""
        if why:
            found.append(Alert(each.message_id, each.case_id, why))
    return found


def _why(message: Message, now: datetime, policy: SendPolicy) -> str:
    if message.state == "sent":
        late = now - utc_time(message.at) > timedelta(hours=policy.acknowledge_hours)
        return f"not acknowledged within {policy.acknowledge_hours:g} hours" if late else ""
    if message.state == "rejected":
        return "rejected: a corrected version of the case is needed"
    if not message.waiting:
        return ""
    if message.detail.get("stopped"):
        return "the gateway has another content under this number"
    if not message.due:
        return ""
    due = utc_time(message.due)
    if now > due:
        return "overdue"
    if message.state == "failed" and message.until and utc_time(message.until) >= due:
        return "the next try comes after the due time"
    if due - now < timedelta(hours=policy.alert_hours):
        return f"due in less than {policy.alert_hours:g} hours"
    return ""


def retry_now(outbox: Outbox, message_id: str) -> Message | None:
    """Put a message that failed back into the queue, by a person's word; None where it does not wait."""
    message = outbox.message(message_id)
    if message is None or message.state != "failed":
        return None
    return outbox.append(message, "queued", by="person")


def describe(result: Sent) -> Mapping[str, int]:
    """Counts of a pass."""
    return {name: len(value) for name, value in vars(result).items()}
