"""Alertmanager as a real server in the loop: alerts posted, groups called back, messages by mail and webhook."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.alert_clock import START, Desk, database
from tests.support.alert_receivers import Mailbox, Webhook, mailbox, webhook
from tests.support.alertmanager import alertmanager, binary, free_port
from trialops.alerts.alertmanager import CALLBACK, Alertmanager, configuration, hook_token, take_call, wire
from trialops.alerts.delivery import Links, deliver
from trialops.alerts.lifecycle import escalate, settle
from trialops.alerts.outbox import AlertOutbox
from trialops.alerts.raise_alert import Alert
from trialops.alerts.register import fingerprint
from trialops.alerts.routes import SHIPPED, Routes, load_routes
from trialops.alerts.serve import Service, make_server, serve_in_background
from trialops.alerts.telling import Telling
from trialops.errors import TrialOpsError
from trialops.stores.database import writing

KEY = b"k" * 40


@pytest.fixture
def routes() -> Routes:
    """The shipped routes with short waits, so that a real server answers within a second."""
    loaded = load_routes(SHIPPED)
    quick = [replace(r, wait=timedelta(seconds=1), interval=timedelta(seconds=1)) for r in loaded.routes]
    return replace(loaded, routes=tuple(quick))


@dataclass
class Loop:
    """Everything real: Alertmanager, the server it calls back, a mailbox and a webhook as receivers."""

    desk: Desk
    mail: Mailbox
    hook: Webhook
    address: str
    called: list[int]

    def deliver(self, clock: Callable[[], datetime]) -> dict[str, int]:
        return deliver(self.desk.outbox, self.desk.routes, clock, links=Links(KEY, self.address)).numbers()


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    for _ in range(int(seconds / 0.05)):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to hold")


@pytest.fixture
def loop(tmp_path: Path, routes: Routes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    binary("alertmanager")
    with mailbox() as mail, webhook() as hook:
        for receiver in routes.receivers.values():
            monkeypatch.setenv(receiver.variable, hook.address)
        monkeypatch.setenv(routes.receivers["data_team"].variable, mail.address)
        desk = Desk(database(tmp_path), routes, now=datetime.now(UTC))
        called: list[int] = []
        service = Service(desk.register, routes, KEY, lambda: datetime.now(UTC), lambda: "")
        kept = service.called

        class Counting(Service):
            def called(self, payload: dict[str, Any]) -> int:
                called.append(len(payload["alerts"]))
                return kept(payload)

        server = make_server(Counting(*vars(service).values()), "127.0.0.1", 0)
        serve_in_background(server)
        address = f"http://127.0.0.1:{server.server_address[1]}"
        (tmp_path / "token").write_text(hook_token(KEY))
        with alertmanager(tmp_path / "am", configuration(routes, address, str(tmp_path / "token"))) as url:
            desk.alertmanager = Alertmanager(url, "study")
            yield Loop(desk, mail, hook, address, called)
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_ten_thousand_alerts_of_fifty_causes_are_fifty_notifications(loop: Loop) -> None:
    def now() -> datetime:
        return datetime.now(UTC)

    causes = [Alert(f"Cause{n}", "warning", {"area": "data", "pipeline": f"p{n % 7}"}, f"cause {n}") for n in range(50)]
    for _ in range(4):  # 4 x 50 x 50, with a pass that posts all of them each time
        loop.desk.now = now()
        loop.desk.fire(causes * 50)
        loop.desk.settle()
        loop.deliver(now)
    until(lambda: len(loop.desk.outbox.messages()) == 50)
    loop.deliver(now)
    for _ in range(3):  # posted again and again while they last
        loop.desk.now = now()
        loop.desk.settle()
        time.sleep(0.5)
        loop.deliver(now)
    assert len(loop.mail.received) == 50 and len(set(loop.mail.ids())) == 50
    assert sum(alert.count for alert in loop.desk.register.known().values()) == 10_000
    assert sum(loop.called) >= 50  # it is Alertmanager that grouped and called
    told = {
        line for _, mail in loop.mail.received for line in mail.get_payload().splitlines() if "firing warning" in line
    }
    assert len(told) == 50

    # The end of one cause is told once more, and of no other.
    loop.desk.now = now()
    loop.desk.end("Cause7")
    loop.desk.settle()
    until(lambda: len(loop.desk.outbox.messages()) == 51)
    loop.deliver(now)
    assert loop.mail.received[-1][1]["Subject"].startswith("[RESOLVED] Cause7")


def test_an_untaken_critical_escalates_on_time_until_its_link_is_used(loop: Loop) -> None:
    begun = loop.desk.now
    loop.desk.fire([Alert("Broken", "critical", {"area": "model", "task": "t"}, "it is broken", "broken")])
    loop.desk.settle()
    until(lambda: len(loop.desk.outbox.messages()) == 1)  # the team's message, by way of Alertmanager

    def page(minutes: float) -> int:
        at = begun + timedelta(minutes=minutes)
        queued = escalate(loop.desk.register, loop.desk.routes, at)
        loop.deliver(lambda: at)
        return queued

    assert [page(m) for m in (0, 14.99, 15, 29.99, 30)] == [1, 0, 1, 0, 1]
    levels = [t for t in loop.hook.titles() if "level" in t]
    assert [t.split("]")[0] for t in levels] == ["[CRITICAL, level 1", "[CRITICAL, level 2", "[CRITICAL, level 3"]
    text = loop.hook.received[-1][1]["message"]
    link = next(line.removeprefix("Take it: ") for line in text.splitlines() if line.startswith("Take it: "))
    shown = httpx.get(link)
    assert shown.status_code == 200 and "I take it" in shown.text
    assert not loop.desk.alert("Broken").acknowledged  # to open a link is not to take it
    token = link.split("t=")[1]
    taken = httpx.post(link.split("?")[0], data={"t": token})
    assert taken.status_code == 200 and loop.desk.alert("Broken").acknowledged
    assert [page(m) for m in (60, 90, 600)] == [0, 0, 0]


def test_when_alertmanager_is_gone_the_platform_tells_and_when_it_is_back_nobody_is_told_twice(
    tmp_path: Path, routes: Routes, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary("alertmanager")
    port = free_port()
    with webhook() as hook:
        for receiver in routes.receivers.values():
            monkeypatch.setenv(receiver.variable, hook.address)
        desk = Desk(database(tmp_path), routes, now=datetime.now(UTC))
        desk.alertmanager = Alertmanager(f"http://127.0.0.1:{port}", "study")
        service = Service(desk.register, routes, KEY, lambda: datetime.now(UTC), lambda: "")
        server = make_server(service, "127.0.0.1", 0)
        serve_in_background(server)
        desk.fire([Alert("Lost", "warning", {"area": "model"}, "nobody answers")])
        assert desk.settle() == {}  # it waits as a group would
        desk.later(seconds=1)
        assert desk.settle() == {"group": 1}
        address = f"http://127.0.0.1:{server.server_address[1]}"
        (tmp_path / "token").write_text(hook_token(KEY))
        with alertmanager(tmp_path / "am", configuration(routes, address, str(tmp_path / "token")), port) as url:
            desk.now = datetime.now(UTC)
            assert desk.settle() == {}
            until(lambda: bool(httpx.get(f"{url}/api/v2/alerts").json()))
            metric = 'alertmanager_notifications_total{integration="webhook"} 1'
            until(lambda: metric in httpx.get(f"{url}/metrics").text)  # it has called back
        assert len(desk.outbox.messages()) == 1
        server.shutdown()
        server.server_close()


def test_its_silences_are_respected(loop: Loop) -> None:
    url = loop.desk.alertmanager.url if loop.desk.alertmanager else ""
    matchers = [{"name": "alertname", "value": "Held", "isRegex": False, "isEqual": True}]
    now = datetime.now(UTC)
    body = {"matchers": matchers, "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
    httpx.post(f"{url}/api/v2/silences", json=body | {"createdBy": "t", "comment": "c"}).raise_for_status()
    loop.desk.now = datetime.now(UTC)
    loop.desk.fire([Alert("Held", "critical", {"area": "data"}, "held back")])
    loop.desk.settle()
    key = loop.desk.alert("Held").fingerprint
    until(lambda: key in Alertmanager(url, "study").post([], datetime.now(UTC)).suppressed)
    loop.desk.later(minutes=9)  # longer than a take-over waits
    assert loop.desk.settle() == {}
    held = Alertmanager(url, "study").post([], loop.desk.now).suppressed
    assert escalate(loop.desk.register, loop.desk.routes, loop.desk.now, held) == 0


def test_the_configuration_is_accepted_by_amtool(tmp_path: Path, routes: Routes) -> None:
    amtool = binary("amtool")
    (tmp_path / "a.yml").write_text(yaml.safe_dump(configuration(load_routes(SHIPPED), "http://x:1", "/run/token")))
    done = subprocess.run([amtool, "check-config", str(tmp_path / "a.yml")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 receivers" in done.stdout and "1 inhibit rules" in done.stdout


# -- without a server --------------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path, routes: Routes, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for receiver in routes.receivers.values():
        monkeypatch.setenv(receiver.variable, "json://127.0.0.1:9/nobody")
    return Desk(database(tmp_path), routes)


def call(desk: Desk, items: list[dict[str, Any]]) -> int:
    with writing(desk.engine) as connection:
        telling = Telling(desk.register, desk.outbox, desk.routes, connection, desk.now)
        return take_call(telling, {"version": "4", "alerts": items})


def item(desk: Desk, name: str, status: str = "firing") -> dict[str, Any]:
    posted = wire(desk.alert(name), "study", desk.now)
    return {"status": status, "labels": posted["labels"], "annotations": posted["annotations"]}


def test_a_call_that_comes_twice_tells_once(desk: Desk) -> None:
    desk.fire([Alert("A", "warning", {"area": "data"}, "a")])
    assert [call(desk, [item(desk, "A")]) for _ in range(3)] == [1, 0, 0]
    desk.later(hours=12)
    assert [call(desk, [item(desk, "A")]) for _ in range(2)] == [1, 0]  # the reminder, and its repetition


def test_what_alertmanager_takes_for_ended_and_is_not_is_not_told(desk: Desk) -> None:
    desk.fire([Alert("A", "warning", {"area": "data"}, "a")])
    call(desk, [item(desk, "A")])
    assert call(desk, [item(desk, "A", "resolved")]) == 0 and desk.alert("A").firing
    desk.end("A")
    assert [call(desk, [item(desk, "A", "resolved")]) for _ in range(2)] == [1, 0]
    assert call(desk, [item(desk, "A", "firing")]) == 0  # old news


def test_alerts_of_prometheus_enter_the_register_escalate_and_end(desk: Desk) -> None:
    labels = {
        "alertname": "ContainerMemory",
        "severity": "critical",
        "area": "infrastructure",
        "pod": "p-1",
        "study": "s",
    }
    fires = {"status": "firing", "labels": labels, "annotations": {"summary": "subject 01-701-1015 uses 90 %"}}
    assert [call(desk, [fires]) for _ in range(2)] == [1, 0]
    alert = desk.alert("ContainerMemory")
    assert alert.origin == "alertmanager" and alert.firing and "1015" not in alert.summary
    assert desk.escalate() == 1
    desk.later(days=9)
    assert desk.settle() == {"group": 1}  # not ended by time; a reminder
    assert call(desk, [fires | {"status": "resolved"}]) >= 1 and not desk.alert("ContainerMemory").firing


@pytest.mark.parametrize("payload", [{}, {"alerts": 1}, {"alerts": [{"labels": {}}]}, {"alerts": [None]}])
def test_what_is_not_alertmanagers_is_refused(desk: Desk, payload: dict[str, Any]) -> None:
    with writing(desk.engine) as connection, pytest.raises(TrialOpsError):
        take_call(Telling(desk.register, desk.outbox, desk.routes, connection, desk.now), payload)


def test_an_alert_that_alertmanager_has_and_never_calls_about_is_taken_over(desk: Desk) -> None:
    taken: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        taken.append(request)
        return httpx.Response(200, json=[])

    desk.alertmanager = Alertmanager("http://am", "study", transport=httpx.MockTransport(answer))
    desk.fire([Alert("A", "warning", {"area": "data"}, "a")])
    assert desk.settle() == {} and desk.alert("A").handed
    desk.later(minutes=4, seconds=59)
    assert desk.settle() == {}
    desk.later(seconds=1)
    assert desk.settle() == {"group": 1}
    assert call(desk, [item(desk, "A")]) == 0  # should it call after all
    assert sum(request.method == "POST" for request in taken) == 3  # posted again each time


@pytest.mark.parametrize("status", [400, 500, 503])
def test_an_alertmanager_that_refuses_counts_as_gone(desk: Desk, status: int) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status))
    desk.alertmanager = Alertmanager("http://am", "study", transport=transport)
    desk.fire([Alert("A", "warning", {"area": "data"}, "a")])
    desk.later(seconds=1)
    assert desk.settle() == {"group": 1}
    _, posted = settle(desk.register, desk.routes, desk.now, desk.alertmanager)
    assert posted is not None and not posted.reached and posted.problem == "HTTPStatusError"


def test_the_end_is_posted_for_a_quarter_of_an_hour_and_what_is_posted_has_no_run_in_its_labels(desk: Desk) -> None:
    bodies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        import json

        bodies.append(json.loads(request.content) if request.method == "POST" else None)
        return httpx.Response(200, json=[])

    desk.alertmanager = Alertmanager("http://am", "study", transport=httpx.MockTransport(answer))
    desk.fire([Alert("A", "warning", {"area": "data", "run_id": "r1"}, "a", "book")])
    desk.settle()
    (posted,) = bodies[0]
    assert posted["labels"] == {"alertname": "A", "severity": "warning", "area": "data", "study": "study"}
    assert posted["annotations"]["run_id"] == "r1"
    assert posted["annotations"]["fingerprint"] == fingerprint("A", "warning", {"area": "data"})
    assert posted["endsAt"] > posted["startsAt"]
    desk.end("A")
    ended = desk.now
    bodies.clear()
    for minutes in (1, 14, 20):
        desk.now = ended + timedelta(minutes=minutes)
        desk.settle()
    assert [len(body) for body in bodies if body is not None] == [1, 1]


def test_the_call_back_needs_its_token(desk: Desk) -> None:
    server = make_server(Service(desk.register, desk.routes, KEY, lambda: START, lambda: "m 1\n"), "127.0.0.1", 0)
    serve_in_background(server)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {hook_token(b'o' * 40)}"}):
        assert httpx.post(url + CALLBACK, json={"alerts": []}, headers=headers).status_code == 401
    good = {"Authorization": f"Bearer {hook_token(KEY)}"}
    assert httpx.post(url + CALLBACK, json={"alerts": []}, headers=good).status_code == 200
    assert httpx.post(url + CALLBACK, content=b"{", headers=good).status_code == 400
    assert httpx.get(url + "/metrics").text == "m 1\n" and httpx.get(url + "/healthz").status_code == 200
    assert httpx.get(url + "/other").status_code == 404
    assert AlertOutbox(desk.engine, "study").messages() == []
    server.shutdown()
    server.server_close()
