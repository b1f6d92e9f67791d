"""The outbox: claims, leases, retries, senders killed between two acts, random faults; and the transports."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.support.alert_clock import START, Desk, addresses, database
from tests.support.alert_receivers import Mailbox, Webhook, mailbox, webhook
from trialops.alerts import transport
from trialops.alerts.delivery import deliver
from trialops.alerts.outbox import WAITING, AlertOutbox, Message, backoff
from trialops.alerts.raise_alert import Alert
from trialops.alerts.routes import load_routes
from trialops.alerts.transport import Outcome, check_address, send
from trialops.errors import TrialOpsError
from trialops.stores.database import writing

ROOT = Path(__file__).resolve().parents[3]
CONTENT = {
    "title": "[WARNING] Late: it is late",
    "severity": "warning",
    "status": "firing",
    "group": "data/alertname=Late",
    "lines": [
        {
            "name": "Late",
            "severity": "warning",
            "status": "firing",
            "summary": "it is late",
            "count": 3,
            "alert": "ab12",
        }
        | {"since": "2026-03-02T08:00:00Z", "labels": {"pipeline": "p"}, "runbook": "late"}
    ],
    "more": 0,
    "alerts": [["ab12", 1]],
}


def claim(outbox: AlertOutbox, now: datetime) -> Message | None:
    """Take the first message that is due."""
    return next((t for m in outbox.due(now) if (t := outbox.take(m, now, timedelta(minutes=5)))), None)


def queue(outbox: AlertOutbox, number: int = 0, receiver: str = "data_team", now: datetime = START) -> Message | None:
    with writing(outbox.engine) as connection:
        return outbox.queue(connection, "group", receiver, [number], CONTENT, now)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for variable, address in addresses(load_routes()).items():
        monkeypatch.setenv(variable, address)
    yield Desk(database(tmp_path))


# -- claims ------------------------------------------------------------------------------------------------------


def test_the_same_thing_is_queued_once(engine: Engine) -> None:
    outbox = AlertOutbox(engine, "study")
    assert queue(outbox) is not None and queue(outbox) is None and queue(outbox, 1) is not None
    assert [m.state for m in outbox.messages()] == ["queued", "queued"]


def test_a_message_is_taken_by_one_and_taken_over_when_its_lease_is_over(engine: Engine) -> None:
    outbox, lease = AlertOutbox(engine, "study"), timedelta(minutes=5)
    queue(outbox)
    first = claim(outbox, START)
    assert first is not None and claim(outbox, START + timedelta(minutes=4, seconds=59)) is None
    second = claim(outbox, START + lease)
    assert second is not None and second.attempt == 2 and second.detail == {"taken_over": True}
    assert outbox.finish(first, "sent", START + lease) is None  # who lost the lease notes nothing
    assert outbox.finish(second, "sent", START + lease) is not None
    assert claim(outbox, START + timedelta(days=1)) is None


def test_of_two_that_read_the_same_state_one_gets_it(engine: Engine) -> None:
    one, two = AlertOutbox(engine, "study"), AlertOutbox(engine, "study")
    queue(one)
    (seen,) = one.messages()
    assert one.take(seen, START, timedelta(minutes=5)) is not None
    assert two.take(seen, START, timedelta(minutes=5)) is None


def test_waits_double_up_to_an_hour_and_are_spread() -> None:
    waits = [backoff("k", n).total_seconds() for n in range(1, 12)]
    assert all(min(27 * 2**n, 3240) <= w <= min(33 * 2**n, 3960) for n, w in enumerate(waits)) and waits[:7] == sorted(
        waits[:7]
    )
    assert len({backoff(str(n), 1) for n in range(50)}) > 40 and backoff("k", 3) == backoff("k", 3)


def test_a_receiver_that_fails_is_tried_again_others_are_told_and_at_last_it_is_left_to_a_person(desk: Desk) -> None:
    queue(desk.outbox)
    tries: list[tuple[float, str]] = []

    def refuse(address: str, message: Message, link: str) -> Outcome:
        tries.append(((desk.now - START).total_seconds(), message.receiver))
        return Outcome(message.receiver != "data_team", {"reason": "refused"})

    while desk.now < START + timedelta(hours=25):
        desk.deliver(send=refuse)
        desk.later(minutes=5)
    mine = [at for at, name in tries if name == "data_team"]
    assert mine[0] == 0 and all(b - a <= 3960 + 300 for a, b in zip(mine, mine[1:], strict=False)) and len(mine) > 15
    assert Counter(name for _, name in tries)["operations"] == 1  # told once, after the third failure
    assert [at for at, name in tries if name == "operations"][0] >= mine[2]
    states = {m.receiver: m.state for m in desk.outbox.messages()}
    assert states == {"data_team": "dead", "operations": "sent", "console": "sent"}
    dead = next(m for m in desk.outbox.messages() if m.state == "dead")
    assert desk.outbox.revive(dead, desk.now) is not None
    assert desk.deliver().numbers()["sent"] == 1


def test_a_receiver_whose_address_is_gone_is_a_failure_not_a_loss(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(desk.outbox)
    monkeypatch.delenv(desk.routes.receivers["data_team"].variable)
    assert desk.deliver().numbers()["failed"] == 1
    assert desk.outbox.messages()[0].detail == {"reason": "the receiver has no address"}


# -- killed ------------------------------------------------------------------------------------------------------


def run_sender(engine: Engine, address: str, dies: str) -> int:
    command = [sys.executable, "-m", "tests.support.alert_sender", str(engine.url), address, dies]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120).returncode


@pytest.mark.slow
def test_senders_killed_before_and_after_sending_leave_one_effect(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook, mailbox() as mail:
        for number, (receiver, dies, times) in enumerate([(hook, "claimed", 1), (hook, "sent", 2), (mail, "sent", 2)]):
            folder = tmp_path / str(number)
            folder.mkdir()
            engine = database(folder)
            queue(AlertOutbox(engine, "study"))
            hook.received.clear(), mail.received.clear()
            assert run_sender(engine, receiver.address, dies) == -signal.SIGKILL
            assert [m.state for m in AlertOutbox(engine, "study").messages()] == ["sending"]
            desk.engine = engine
            monkeypatch.setenv(desk.routes.receivers["data_team"].variable, receiver.address)
            desk.now = START + timedelta(minutes=5)
            assert deliver(desk.outbox, desk.routes, desk.clock).numbers()["sent"] == 1
            assert [m.state for m in AlertOutbox(engine, "study").messages()] == ["sent"]
            seen = hook.keys() if isinstance(receiver, Webhook) else mail.ids()
            # Killed after sending it comes twice, under one key: who looks at the key acts once.
            assert len(seen) == times and len(set(seen)) == 1


# -- random faults -----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ended here."""


class Far:
    """The far end: notes what arrives, by key; may fail before or after it has taken a message."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.arrived, self.unsure = draw, Counter[str](), Counter[str]()
        self.calm = False

    def send(self, address: str, message: Message, link: str) -> Outcome:
        fault = "none" if self.calm else self.draw.choice(["none", "refused", "killed", "lost", "killed after"])
        if fault == "refused":
            return Outcome(False, {"reason": "refused"})
        if fault == "killed":
            raise Killed
        self.arrived[message.key] += 1
        if fault in ("lost", "killed after"):
            self.unsure[message.key] += 1
            if fault == "killed after":
                raise Killed
            return Outcome(False, {"reason": "the answer was lost"})
        return Outcome(True, {})


def course(desk: Desk, seed: int) -> Counter[str]:
    """One random course of alerts, ends, passes, deliveries and faults; asserts what must hold and returns counts."""
    draw = random.Random(seed)
    far, study = Far(draw), f"s{seed}"
    causes = [Alert(f"C{n}", draw.choice(["warning", "critical"]), {"area": "data"}, f"c{n}") for n in range(3)]
    raised: Counter[str] = Counter()

    class Own(Desk):
        @property
        def register(self) -> Any:
            return type(desk.register)(self.engine, study, actor="tester")

        @property
        def outbox(self) -> AlertOutbox:
            return AlertOutbox(self.engine, study)

    own = Own(desk.engine, desk.routes)
    for _ in range(draw.randint(3, 5)):
        act = draw.choice(["fire", "fire", "end", "pass", "pass", "deliver", "deliver"])
        if act == "fire":
            chosen = draw.choice(causes)
            own.fire([chosen])
            raised[chosen.name] += 1
        elif act == "end":
            own.end(draw.choice(causes).name)
        elif act == "pass":
            own.settle(), own.escalate()
        else:
            with contextlib.suppress(Killed):
                own.deliver(send=far.send)
        own.later(seconds=draw.choice([1, 40, 301, 1000]))
    far.calm = True
    lasting = {a.name for a in own.register.known().values() if a.firing}
    own.later(minutes=10)
    own.settle(), own.escalate()
    for _ in range(2):
        own.later(hours=2)
        own.deliver(send=far.send)
    messages = own.outbox.messages()
    assert not [m for m in messages if m.state in WAITING], seed
    told = {line["name"] for m in messages for line in m.content["lines"]}
    assert lasting <= told, seed  # no alert that lasts is untold
    for message in messages:
        if message.receiver == "console":
            continue
        # Each message arrives; more than once only where an earlier arrival could not be known of.
        assert 1 <= far.arrived[message.key] <= 1 + far.unsure[message.key], seed
    assert sum(1 for e in own.register.history() if e.event in ("firing", "repeated")) == raised.total(), seed
    fresh = [(m.receiver, m.kind, str(m.content)) for m in messages if m.content["status"] == "firing"]
    return Counter(messages=len(messages), unsure=far.unsure.total(), raised=raised.total(), told=len(fresh))


@pytest.mark.slow
def test_a_thousand_random_courses_lose_nothing_and_send_nothing_twice_unknowingly(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    from sqlalchemy import event

    event.listen(desk.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
    desk.engine.dispose()
    total: Counter[str] = Counter()
    for seed in range(1000):
        total += course(desk, seed)
    capsys.readouterr()
    assert total["raised"] > 1000 and total["messages"] > 1500 and total["unsure"] > 30, total


# -- transports --------------------------------------------------------------------------------------------------


def message(**more: Any) -> Message:
    return Message("a" * 64, 2, "sending", "group", "data_team", "", 1, CONTENT | more)


def test_a_webhook_gets_key_text_and_link() -> None:
    with webhook() as hook:
        assert send(hook.address, message(), "https://trial.example.org/ack?t=1").taken
        headers, body = hook.received[0]
    assert headers["idempotency-key"] == "a" * 64 == body["idempotency_key"] and body["status"] == "firing"
    assert body["title"] == CONTENT["title"] and "Take it: https://trial.example.org/ack?t=1" in body["message"]
    assert "firing warning Late: it is late" in body["message"] and "3 times" in body["message"]


def test_mail_gets_one_message_id_made_from_the_key_and_says_that_it_is_automatic() -> None:
    with mailbox() as mail:
        assert send(mail.address + "&cc=lead@trial.example.org", message(title="two\nlines"), "").taken
        to, received = mail.received[0]
    assert received.get_all("Message-ID") == [f"<{'a' * 64}@trial.example.org>"]
    assert sorted(to) == ["lead@trial.example.org", "team@trial.example.org"]
    assert received["Auto-Submitted"] == "auto-generated" and received["Subject"] == "two lines"


@pytest.mark.parametrize("answer", [400, 404, 500, 503])
def test_a_webhook_that_refuses_is_a_failure_that_is_read(answer: int) -> None:
    with webhook() as hook:
        hook.answer = answer
        outcome = send(hook.address, message(), "")
    assert not outcome.taken and "127.0.0.1" not in str(outcome.detail)


def test_mail_that_is_refused_or_reaches_nobody_is_a_failure() -> None:
    with mailbox() as mail:
        mail.refuse = True
        assert send(mail.address, message(), "").detail == {"schema": "mailto", "reason": "SMTPDataError"}
        address = mail.address
    outcome = send(address.replace("mailto://", "mailto://user:secret@"), message(), "")
    assert not outcome.taken and "secret" not in str(outcome)


def test_an_address_that_is_none_is_a_failure_and_is_not_repeated() -> None:
    outcome = send("nosuch://token-1234", message(), "")
    assert not outcome.taken and "1234" not in str(outcome)
    with pytest.raises(TrialOpsError) as error:
        check_address("nosuch://token-1234")
    assert "1234" not in str(error.value)


@pytest.mark.parametrize(("status", "action"), [("firing", "trigger"), ("resolved", "resolve")])
def test_pagerduty_has_one_incident_for_a_group(status: str, action: str) -> None:
    class Service:
        dedup, action = "", ""

    one, other = Service(), Service()
    transport._mark(one, "pagerduty", message(status=status))
    transport._mark(other, "pagerduty", message(status="firing", title="another level"))
    assert one.dedup == other.dedup and len(one.dedup) == 32 and one.action == action


def test_delivery_through_a_real_mailbox_that_is_down_for_a_while(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with mailbox() as mail:
        monkeypatch.setenv(desk.routes.receivers["data_team"].variable, mail.address)
        queue(desk.outbox)
        mail.refuse = True
        assert deliver(desk.outbox, desk.routes, desk.clock).numbers()["failed"] == 1
        mail.refuse = False
        assert deliver(desk.outbox, desk.routes, desk.clock).numbers()["sent"] == 0  # not before its time
        desk.later(seconds=40)
        assert deliver(desk.outbox, desk.routes, desk.clock).numbers()["sent"] == 1
        assert len(mail.received) == 1
    assert isinstance(mail, Mailbox)
