"""The outbox: nothing is sent twice, nothing is lost, whatever fails and whoever dies."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.e2b_messages import full, xml
from tests.support.report_gateway import TOKEN, Gateway, acknowledgement, running_gateway
from tests.support.vaults import vault_in
from trialops.errors import TrialOpsError
from trialops.safety.e2b.outbox import Message, Outbox, Taken, Version, utc_text
from trialops.safety.e2b.receiving import acknowledgement_rows, collect, count, receive, reconcile
from trialops.safety.e2b.submission import Sent, alerts, due_now, retry_now, send_due, send_policy
from trialops.safety.e2b.transport import HttpTransport, Transport, open_transport
from trialops.settings import Settings
from trialops.stores.database import connect, migrate
from trialops.stores.objects import open_store

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
DUE = START + timedelta(days=6)
LEASE = timedelta(seconds=send_policy().lease + 1)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        """Move on."""
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    """A clock at START."""
    return Clock()


Opened = Callable[[], Outbox]


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Opened:
    """Open the outbox, as often as a test wants one."""

    def open_one() -> Outbox:
        home = tmp_path / "home"
        engine = connect(f"sqlite:///{home / 'trialops.db'}")
        migrate(engine)
        return Outbox(engine, "S1", vault_in(home), open_store(str(home)), actor="tester", run_id="r", clock=clock)

    return open_one


@pytest.fixture
def outbox(opened: Opened) -> Outbox:
    """An empty outbox."""
    return opened()


def _queue(outbox: Outbox, number: int = 1, version: int = 1, due: datetime | None = DUE) -> Message:
    key = f"CASE-{number}-v{version}"
    return outbox.queue(key, Version(f"CASE-{number}", version), xml(full(), key), due=utc_text(due) if due else "")


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A gateway that behaves until told otherwise."""
    with running_gateway() as running:
        yield running
        assert running.violations == []


def _http(gateway: Gateway, timeout: float = 5) -> HttpTransport:
    return HttpTransport(gateway.url, token=TOKEN, timeout=timeout)


def _send(outbox: Outbox, gateway: Gateway, timeout: float = 5) -> Sent:
    transport = _http(gateway, timeout)
    try:
        return send_due(outbox, transport)
    finally:
        transport.close()


def _states(outbox: Outbox, key: str = "CASE-1-v1") -> list[str]:
    return [each.state for each in outbox.history(key)]


# -- the rows ------------------------------------------------------------------------------------------------------


def test_the_content_is_encrypted_and_checked(outbox: Outbox) -> None:
    message = _queue(outbox)
    data = outbox.content(message)
    assert data == xml(full(), "CASE-1-v1")
    (key,) = [key for key in outbox.objects.list("reports/")]
    assert message.digest in key and b"TRX-101" not in outbox.objects.get(key)
    stored = outbox.objects.get(key)
    outbox.objects.put(key, stored[:-1] + bytes([stored[-1] ^ 1]))
    with pytest.raises(TrialOpsError):
        outbox.content(message)
    outbox.objects.delete(key)
    with pytest.raises(TrialOpsError, match="missing"):
        outbox.content(message)


def test_queueing_twice_changes_nothing_and_another_content_is_refused(outbox: Outbox) -> None:
    assert _queue(outbox) == _queue(outbox) and _states(outbox) == ["queued"]
    with pytest.raises(TrialOpsError, match="another content"):
        outbox.queue("CASE-1-v1", Version("CASE-1", 1), b"<other/>")


def test_states_follow_only_where_they_may(outbox: Outbox) -> None:
    message = _queue(outbox)
    with pytest.raises(TrialOpsError, match="cannot become acknowledged"):
        outbox.append(message, "acknowledged")
    claimed = outbox.append(message, "sending", until=START, attempt=1)
    with pytest.raises(Taken):
        outbox.append(message, "sending", until=START, attempt=1)
    assert claimed.seq == 2


def test_an_untried_version_gives_way_and_hands_on_its_due_time(outbox: Outbox) -> None:
    _queue(outbox, 1, 1, DUE)
    later = _queue(outbox, 1, 2, DUE + timedelta(days=9))
    assert later.due == utc_text(DUE) and _states(outbox) == ["queued", "superseded"]
    assert outbox.reported_before(Version("CASE-1", 2)) is False


def test_a_stopped_version_is_queued_once_it_passes(outbox: Outbox) -> None:
    stopped = outbox.stop("CASE-1-v1", Version("CASE-1", 1), due=utc_text(DUE), rules=["R0023"])
    assert outbox.stop("CASE-1-v1", Version("CASE-1", 1), due=utc_text(DUE), rules=["R0023"]) == stopped
    outbox.stop("CASE-1-v1", Version("CASE-1", 1), due=utc_text(DUE), rules=["R0024"])
    _queue(outbox)
    assert _states(outbox) == ["rejected", "rejected", "queued"]


# -- sending -------------------------------------------------------------------------------------------------------


def test_what_is_due_is_sent_once_the_most_urgent_first(outbox: Outbox, gateway: Gateway) -> None:
    _queue(outbox, 1, due=None)
    _queue(outbox, 2, due=DUE + timedelta(days=1))
    _queue(outbox, 3, due=DUE)
    result = _send(outbox, gateway)
    assert result.sent == ["CASE-3-v1", "CASE-2-v1", "CASE-1-v1"]
    assert _send(outbox, gateway) == Sent()
    assert set(gateway.taken.values()) == {1} and len(gateway.taken) == 3
    assert gateway.bodies["CASE-1-v1"] == xml(full(), "CASE-1-v1")


@pytest.mark.parametrize(
    "fault",
    ["drop_before", "drop_after", "cut", "status:500", "status:502", "status_after:500", "status_after:504", "garbage"],
)
def test_after_a_fault_it_arrives_once(outbox: Outbox, gateway: Gateway, clock: Clock, fault: str) -> None:
    gateway.faults = [fault]
    _queue(outbox)
    assert list(_send(outbox, gateway).failed) == ["CASE-1-v1"]
    assert _send(outbox, gateway).left == ["CASE-1-v1"]  # not before its time
    clock.forward(minutes=2)
    second = _send(outbox, gateway)
    had_arrived = fault not in ("drop_before", "status:500", "status:502")
    assert (second.adopted if had_arrived else second.sent) == ["CASE-1-v1"]
    assert gateway.taken == {"CASE-1-v1": 1}
    assert _states(outbox) == ["queued", "sending", "failed", "sending", "sent"]


def test_a_slow_answer_is_not_waited_for_and_adopted(outbox: Outbox, gateway: Gateway, clock: Clock) -> None:
    gateway.faults = ["slow:1"]
    _queue(outbox)
    assert _send(outbox, gateway, timeout=0.2).failed == {"CASE-1-v1": "ReadTimeout"}
    clock.forward(minutes=2)
    assert _send(outbox, gateway).adopted == ["CASE-1-v1"]
    assert gateway.taken == {"CASE-1-v1": 1}


def test_it_is_not_sent_while_the_gateway_cannot_say_whether_it_has_it(
    outbox: Outbox, gateway: Gateway, clock: Clock
) -> None:
    gateway.faults = ["drop_after"]
    gateway.find_faults = ["500", "drop"]
    _queue(outbox)
    for _ in range(3):
        assert list(_send(outbox, gateway).failed) == ["CASE-1-v1"]
        clock.forward(hours=1)
    assert _send(outbox, gateway).adopted == ["CASE-1-v1"]
    assert gateway.taken == {"CASE-1-v1": 1}
    assert [request.split()[0] for request in gateway.requests] == ["POST", "GET", "GET", "GET"]


def test_a_receipt_for_another_content_stops_the_message(outbox: Outbox, gateway: Gateway, clock: Clock) -> None:
    gateway.faults = ["other"]
    _queue(outbox)
    assert _send(outbox, gateway).failed == {"CASE-1-v1": "conflict"}
    clock.forward(days=2)
    assert _send(outbox, gateway).left == ["CASE-1-v1"]
    (alert,) = alerts(outbox.messages(), clock())
    assert "another content" in alert.why
    # A person has looked, and puts it back.
    assert retry_now(outbox, "CASE-1-v1") is not None
    assert _send(outbox, gateway).adopted == ["CASE-1-v1"]


def test_what_the_gateway_refuses_is_rejected_with_its_codes(outbox: Outbox, gateway: Gateway) -> None:
    outbox.queue("CASE-1-v1", Version("CASE-1", 1), xml(full(), "ANOTHER-NUMBER"), due=utc_text(DUE))
    assert _send(outbox, gateway).refused == ["CASE-1-v1"]
    last = outbox.messages()[0]
    assert (last.state, last.detail["cause"], last.detail["errors"]) == ("rejected", "gateway", ["number"])
    assert gateway.taken == {}


def test_the_gateway_says_when(outbox: Outbox, gateway: Gateway, clock: Clock) -> None:
    gateway.faults = ["busy:1800"]
    _queue(outbox)
    _send(outbox, gateway)
    assert outbox.messages()[0].until == utc_text(START + timedelta(seconds=1800))


def test_versions_of_a_case_go_in_order(outbox: Outbox, gateway: Gateway, clock: Clock) -> None:
    gateway.faults = ["status:503"]
    _queue(outbox, 1, 1)
    _send(outbox, gateway)
    _queue(outbox, 1, 2)
    assert outbox.reported_before(Version("CASE-1", 2)) is True
    assert due_now(outbox.messages(), clock()) == []
    clock.forward(minutes=2)
    assert _send(outbox, gateway).sent == ["CASE-1-v1", "CASE-1-v2"]


def test_waits_grow_are_spread_and_the_same_every_time() -> None:
    policy = send_policy()
    waits = [policy.wait("A", attempt) for attempt in range(1, 12)]
    assert waits == [policy.wait("A", attempt) for attempt in range(1, 12)]
    for attempt, wait in enumerate(waits, 1):
        plain = min(policy.longest_wait, policy.first_wait * policy.factor ** (attempt - 1))
        assert plain * (1 - policy.jitter) <= wait <= plain * (1 + policy.jitter)
    assert policy.wait("A", 3) != policy.wait("B", 3) != replace(policy, seed=2).wait("B", 3)
    assert policy.wait("A", 10_000) <= policy.longest_wait * (1 + policy.jitter)


def test_tries_come_closer_before_the_due_time_and_somebody_is_told(
    outbox: Outbox, gateway: Gateway, clock: Clock
) -> None:
    gateway.faults = ["status:503"] * 200
    due = START + timedelta(hours=2)
    _queue(outbox, due=due)
    whys = []
    while clock() < due:
        _send(outbox, gateway)
        message = outbox.messages()[0]
        whys += [alert.why for alert in alerts([message], clock())]
        clock.now = max(clock.now, datetime.fromisoformat(message.until.replace("Z", "+00:00")))
    tries = [each.at for each in outbox.history("CASE-1-v1") if each.state == "sending"]
    margin = START + timedelta(hours=2) - timedelta(minutes=send_policy().margin_minutes)
    assert utc_text(margin) in tries  # the last wait was cut short
    assert whys[0] == "due in less than 24 hours"
    assert whys[-1] == "the next try comes after the due time"
    assert [alert.why for alert in alerts(outbox.messages(), clock() + timedelta(seconds=1))] == ["overdue"]
    assert 30 < len(tries) < 45
    gateway.faults = []
    assert _send(outbox, gateway).sent == ["CASE-1-v1"]


def test_a_report_without_an_acknowledgement_is_an_alert(outbox: Outbox, gateway: Gateway, clock: Clock) -> None:
    _queue(outbox)
    _send(outbox, gateway)
    assert alerts(outbox.messages(), clock()) == []
    clock.forward(hours=49)
    assert [alert.why for alert in alerts(outbox.messages(), clock())] == ["not acknowledged within 48 hours"]


# -- two senders, dead senders -------------------------------------------------------------------------------------


def test_of_two_senders_at_once_one_sends(opened: Opened, gateway: Gateway) -> None:
    for number in range(1, 9):
        _queue(opened(), number)
    results: list[Sent] = []
    start = threading.Barrier(3)

    def run() -> None:
        mine = opened()
        start.wait()
        results.append(_send(mine, gateway))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = [key for result in results for key in (*result.sent, *result.adopted)]
    assert sorted(sent) == sorted(gateway.taken) == [f"CASE-{n}-v1" for n in range(1, 9)]
    assert set(gateway.taken.values()) == {1}
    assert all(_states(opened(), key) == ["queued", "sending", "sent"] for key in sent)


def _program(tmp_path: Path, gateway_url: str, kill: str = "", now: datetime = START) -> subprocess.Popen[str]:
    home = tmp_path / "home"
    file = tmp_path / f"sender-{abs(hash((kill, now)))}.json"
    given = {"home": str(home), "database": f"sqlite:///{home / 'trialops.db'}", "study": "S1"}
    file.write_text(json.dumps(given | {"gateway": gateway_url, "now": now.isoformat(), "kill": kill}))
    command = [sys.executable, "-m", "tests.support.report_sender", str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


DEATHS = ["before:sending", "append:sending", "deliver", "append:sent", "held before it is taken", "held after"]


@pytest.mark.slow
@pytest.mark.parametrize("death", DEATHS)
def test_a_sender_killed_anywhere_is_made_up_for(
    tmp_path: Path, outbox: Outbox, gateway: Gateway, clock: Clock, death: str
) -> None:
    _queue(outbox)
    held = death.startswith("held")
    if held:
        gateway.faults = ["hold_before" if "before" in death else "hold"]
    process = _program(tmp_path, gateway.url, "" if held else death)
    if held:
        assert gateway.held.wait(20)
        process.kill()
        gateway.faults = []
    process.communicate(timeout=30)
    assert process.returncode == -9
    if death == "held before it is taken":
        # The gateway goes on with what it was sent, although nobody waits for its answer.
        gateway.release.set()
    claimed = death not in ("before:sending", "append:sent")
    if claimed:
        # Its claim holds as long as the lease, for a sender may be slow and not dead.
        assert _send(outbox, gateway).left == ["CASE-1-v1"] and outbox.messages()[0].state == "sending"
        clock.forward(seconds=LEASE.total_seconds())
    if death != "append:sent":
        done = _send(outbox, gateway)
        arrived = death in ("deliver", "held after", "held before it is taken")
        assert (done.adopted if arrived else done.sent) == ["CASE-1-v1"]
    assert gateway.taken == {"CASE-1-v1": 1}
    assert outbox.messages()[0].state == "sent"
    assert reconcile(outbox, [Version("CASE-1", 1)], _http(gateway)).counts["sent"] == 1


class Crash(Exception):
    """A sender's death, in process."""


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_each_report_arrives_once(opened: Opened, clock: Clock, seed: int) -> None:
    draw = random.Random(seed)
    keys = [f"CASE-{number}-v1" for number in range(1, 6)]
    faults = ["", "drop_before", "drop_after", "cut", "status:500", "status_after:503", "garbage", "busy:90"]
    with running_gateway(check=False) as gateway:
        transport = _http(gateway)
        for number, key in enumerate(keys, 1):
            opened().queue(key, Version(f"CASE-{number}", 1), key.encode(), due=utc_text(DUE))
        for _ in range(40):
            gateway.faults = draw.choices(faults, k=3)
            gateway.find_faults = draw.choices(["500", "drop"], k=draw.randrange(2))
            mine = opened()
            mine.append = _mortal(mine.append, draw)  # type: ignore[method-assign]
            try:
                send_due(mine, transport)
                if draw.random() < 0.5:
                    for key in draw.sample(sorted(gateway.messages), k=min(2, len(gateway.messages))):
                        gateway.acknowledgements[key] = [acknowledgement(key)]
                    collect(mine, transport)
                if draw.random() < 0.2:
                    reconcile(mine, [], transport)
            except Crash:
                pass
            clock.forward(seconds=draw.choice([1, 70, 400, 4000]))
            assert max(gateway.taken.values(), default=0) <= 1
        gateway.faults, gateway.find_faults = [], []
        last = opened()
        for _ in range(2):
            clock.forward(hours=2)
            send_due(last, transport)
        assert gateway.taken == dict.fromkeys(keys, 1)
        for key in keys:
            gateway.acknowledgements[key] = [acknowledgement(key)]
        collect(last, transport)
        found = reconcile(last, [Version(f"CASE-{n}", 1) for n in range(1, 6)], transport)
        assert (found.counts["acknowledged"], found.problems) == (5, ())
        transport.close()


def _mortal(append: Callable[..., Message], draw: random.Random) -> Callable[..., Message]:
    """Rows written by a sender that may die right before or after one."""

    def appended(*args: Any, **more: Any) -> Message:
        if draw.random() < 0.1:
            raise Crash
        row = append(*args, **more)
        if draw.random() < 0.1 and "connection" not in more:
            raise Crash
        return row

    return appended


# -- acknowledgements ----------------------------------------------------------------------------------------------


def test_acknowledgements_are_read_and_applied_once(outbox: Outbox, gateway: Gateway) -> None:
    for number in (1, 2, 3):
        _queue(outbox, number)
    _send(outbox, gateway)
    gateway.acknowledgements = {
        "CASE-1-v1": [acknowledgement("CASE-1-v1")] * 2,
        "CASE-2-v1": [acknowledgement("CASE-2-v1", code="CR", text="R0023: C.5.4 must be provided")],
    }
    transport = _http(gateway)
    assert count(collect(outbox, transport)) == {"acknowledged": 1, "rejected": 1, "repeated": 1}
    assert count(collect(outbox, transport)) == {}
    states = {each.message_id: each.state for each in outbox.messages()}
    assert states == {"CASE-1-v1": "acknowledged", "CASE-2-v1": "rejected", "CASE-3-v1": "sent"}
    rejected = outbox.message("CASE-2-v1")
    assert rejected is not None
    assert (rejected.detail["errors"], rejected.detail["elements"]) == (["R0023"], ["C.5.4"])
    assert "must be provided" not in json.dumps(acknowledgement_rows(outbox))


def test_an_acknowledgement_tells_of_a_message_whose_answer_was_lost(outbox: Outbox, gateway: Gateway) -> None:
    gateway.faults = ["drop_after"]
    _queue(outbox)
    _send(outbox, gateway)
    gateway.acknowledgements = {"CASE-1-v1": [acknowledgement("CASE-1-v1", about="CASE-1-v1 CASE-1")]}
    assert count(collect(outbox, _http(gateway))) == {"acknowledged": 1}
    assert _states(outbox) == ["queued", "sending", "failed", "sent", "acknowledged"]


GOOD = acknowledgement("CASE-1-v1")
BAD: dict[str, tuple[bytes, str, str]] = {
    "cut off": (GOOD[:-40], "no well-formed XML", "line"),
    "not XML": (b"Dear sponsor", "no well-formed XML", "line 1"),
    "a message, no acknowledgement": (xml(full()), "no acknowledgement", "root element"),
    "a document type": (
        GOOD.replace(b"<MCCI_IN2", b"<!DOCTYPE x [<!ENTITY a 'b'>]><MCCI_IN2", 1),
        "document type",
        "DOC",
    ),
    "no batch number": (
        GOOD.replace(b"<targetBatch>", b"<other>").replace(b"</targetBatch>", b"</other>"),
        "",
        "ACK.A.1",
    ),
    "an unknown code": (GOOD.replace(b'typeCode="CA"', b'typeCode="XX"'), "none of CA, CR", "ACK.B.r.6, message 1"),
    "an unknown batch code": (GOOD.replace(b'typeCode="AA"', b'typeCode="A"'), "none of AA, AE, AR", "ACK.A.4"),
    "no time": (GOOD.replace(b"20260101120000-0500", b"yesterday"), "CCYYMMDD", "ACK.M.4"),
    "taken and rejected": (
        acknowledgement("CASE-1-v1", code="CR", batch_code="AA"),
        "and a message is rejected",
        "ACK",
    ),
    "rejected and taken": (acknowledgement("CASE-1-v1", code="CA", batch_code="AR"), "and a message is taken", "ACK"),
    "some, and none named": (acknowledgement("CASE-1-v1", code="", batch_code="AE"), "none is named", "ACK"),
    "another batch": (acknowledgement("CASE-9-v1"), "has not sent", "ACK.A.1"),
    "another message": (acknowledgement("CASE-1-v1", about="CASE-9-v1"), "does not say what became", "ACK.B.r.1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_acknowledgement_is_kept_apart_and_moves_nothing(outbox: Outbox, gateway: Gateway, name: str) -> None:
    data, what, where = BAD[name]
    _queue(outbox)
    _send(outbox, gateway)
    result = receive(outbox, data, source="by hand")
    assert result.state == "quarantined" and what in result.what and where in result.where
    assert outbox.messages()[0].state == "sent"
    (row,) = acknowledgement_rows(outbox)
    assert (row["state"], row["what"], row["source"]) == ("quarantined", result.what, "by hand")
    assert receive(outbox, data).state == "repeated" and len(acknowledgement_rows(outbox)) == 1
    assert receive(outbox, GOOD).state == "applied"


def test_an_answer_that_contradicts_an_earlier_one_changes_nothing(outbox: Outbox, gateway: Gateway) -> None:
    _queue(outbox)
    _send(outbox, gateway)
    receive(outbox, GOOD)
    late = receive(outbox, acknowledgement("CASE-1-v1", code="CR"))
    assert late.state == "quarantined" and "contradicts" in late.what
    assert receive(outbox, acknowledgement("CASE-1-v1", number="2")).state == "repeated"
    assert outbox.messages()[0].state == "acknowledged"


def test_a_batch_that_is_refused_whole_rejects_its_message(outbox: Outbox, gateway: Gateway) -> None:
    _queue(outbox)
    _send(outbox, gateway)
    assert receive(outbox, acknowledgement("CASE-1-v1", code="", batch_code="AR")).outcome == "rejected"


# -- reconciliation ------------------------------------------------------------------------------------------------


def test_every_released_version_is_counted_once(outbox: Outbox, gateway: Gateway, clock: Clock) -> None:
    released = [Version(f"CASE-{n}", 1) for n in range(1, 8)] + [Version("CASE-7", 2)]
    outbox.stop("CASE-6-v1", Version("CASE-6", 1), rules=["R0023"])
    _queue(outbox, 7, 1)
    _queue(outbox, 7, 2)
    for number in (1, 2, 3):
        _queue(outbox, number)
    _send(outbox, gateway)
    receive(outbox, acknowledgement("CASE-1-v1"))
    receive(outbox, acknowledgement("CASE-2-v1", code="CR"))
    gateway.faults = ["drop_after"]
    _queue(outbox, 4)
    _send(outbox, gateway)
    before = reconcile(outbox, released)
    assert before.counts == {"waiting": 2, "sent": 2, "acknowledged": 1, "rejected": 2, "superseded": 1}
    assert before.problems == ("CASE-5 version 1 for FDA is released and not in the outbox yet",)
    after = reconcile(outbox, released, _http(gateway))
    assert after.adopted == ("CASE-4-v1",) and after.counts["sent"] == 3 and after.counts["waiting"] == 1
    assert sum(after.counts.values()) == len(released)


def test_reconciliation_finds_what_does_not_fit(outbox: Outbox, gateway: Gateway) -> None:
    _queue(outbox, 1)
    _queue(outbox, 2)
    _send(outbox, gateway)
    del gateway.messages["CASE-1-v1"]
    gateway.messages["CASE-2-v1"]["digest"] = "0" * 64
    found = reconcile(outbox, [Version("CASE-1", 1)] * 2, _http(gateway))
    assert len(found.problems) == 4
    assert {
        "CASE-1 version 1 for FDA is released twice",
        "CASE-2 version 1 for FDA is in the outbox and not released",
        "CASE-1-v1 is sent and the gateway does not have it",
        "CASE-2-v1: the gateway has another content under this number",
    } == set(found.problems)
    assert gateway.taken == {"CASE-1-v1": 1, "CASE-2-v1": 1}


# -- addresses, and the folder -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["", "ftp://gateway", "http://gateway.example.org", "https://u:p@gateway.example.org", "https://g.example.org?a=b",
     "file://host/folder", "file:///", "gateway"],
)  # fmt: skip
def test_addresses_that_may_not_be_used(url: str, tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError) as caught:
        open_transport(Settings(home=tmp_path, regulatory_reporting_api=url))
    assert caught.value.where == "REGULATORY_REPORTING_API" and caught.value.fix


def test_the_token_goes_along_and_stays_out_of_sight(outbox: Outbox, gateway: Gateway) -> None:
    _queue(outbox)
    settings = Settings(
        home=outbox.objects.url, regulatory_reporting_api=gateway.url, regulatory_token=SecretStr(TOKEN)
    )
    assert send_due(outbox, open_transport(settings)).sent == ["CASE-1-v1"]
    assert TOKEN not in repr(settings)


def _folder(tmp_path: Path) -> Transport:
    url = (tmp_path / "gate way").as_uri()
    return open_transport(Settings(home=tmp_path, regulatory_reporting_api=url))


def test_a_folder_gets_each_message_once_and_gives_acknowledgements(outbox: Outbox, tmp_path: Path) -> None:
    _queue(outbox)
    transport = _folder(tmp_path)
    assert send_due(outbox, transport).sent == ["CASE-1-v1"]
    (file,) = (tmp_path / "gate way" / "outbox").iterdir()
    assert file.read_bytes() == xml(full(), "CASE-1-v1")
    file.unlink()  # the gateway picks it up
    message = outbox.messages()[0]
    assert transport.find(message.message_id, message.digest) is not None
    assert transport.deliver(message.message_id, message.digest, b"").digest == message.digest
    assert list((tmp_path / "gate way" / "outbox").iterdir()) == []
    answers = tmp_path / "gate way" / "acknowledgements"
    (answers / "good.ack").write_bytes(GOOD)
    (answers / "bad.xml").write_bytes(b"Dear sponsor")
    (answers / ".partial.xml").write_bytes(b"<")
    assert count(collect(outbox, transport)) == {"acknowledged": 1, "quarantined": 1}
    assert sorted(path.name for path in answers.iterdir()) == [".partial.xml", "bad.xml"]
    assert len(list((tmp_path / "gate way" / "read").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("death", ["append:sending", "deliver"])
def test_a_sender_to_a_folder_killed_is_made_up_for(tmp_path: Path, outbox: Outbox, clock: Clock, death: str) -> None:
    _queue(outbox)
    process = _program(tmp_path, (tmp_path / "gate way").as_uri(), death)
    process.communicate(timeout=30)
    assert process.returncode == -9
    picked = [path for path in (tmp_path / "gate way" / "outbox").iterdir()]
    for path in picked:
        path.unlink()
    clock.forward(seconds=LEASE.total_seconds())
    done = send_due(outbox, _folder(tmp_path))
    assert (done.adopted if picked else done.sent) == ["CASE-1-v1"]
    assert len(picked) + len(list((tmp_path / "gate way" / "outbox").iterdir())) == 1


def test_a_hand_over_interrupted_between_its_steps_goes_on(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trialops.safety.e2b import folder_transport

    message = _queue(outbox)
    transport: Any = _folder(tmp_path)
    data = outbox.content(message)

    class Crash(Exception):
        pass

    def crash(*_: Any) -> None:
        raise Crash

    # Written, marked, not moved: not handed over yet.
    monkeypatch.setattr(transport, "_move", crash)
    with pytest.raises(Crash):
        transport.deliver(message.message_id, message.digest, data)
    monkeypatch.undo()
    assert transport.find(message.message_id, message.digest) is None
    # Written, not marked.
    (tmp_path / "gate way" / "state" / f"{folder_transport.file_name(message.message_id)}.json").unlink()
    assert transport.find(message.message_id, message.digest) is None
    transport.deliver(message.message_id, message.digest, data)
    assert transport.find(message.message_id, message.digest) is not None
    assert len(list((tmp_path / "gate way" / "outbox").iterdir())) == 1


def test_both_databases_refuse_changes_and_number_without_gaps(database_url: str, tmp_path: Path) -> None:
    import sqlalchemy as sa

    engine = connect(database_url)
    migrate(engine)
    box = Outbox(engine, "S1", vault_in(tmp_path), open_store(str(tmp_path)), clock=lambda: START)
    message = _queue(box)
    box.append(message, "sending", until=START, attempt=1)
    with pytest.raises(Taken):
        box.append(message, "sent")
    assert receive(box, GOOD).state == "applied"
    for table in ("report_events", "report_acknowledgements"):
        for statement in (f"UPDATE {table} SET study = 'x'", f"DELETE FROM {table}"):
            with pytest.raises(sa.exc.DBAPIError), engine.begin() as connection:
                connection.exec_driver_sql(statement)
    assert [each.seq for each in box.history("CASE-1-v1")] == [1, 2, 3, 4]
