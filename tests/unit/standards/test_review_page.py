"""The review page over real HTTP: a person's way through it, and who is kept out."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from tests.support.coding_dictionaries import write_dictionaries
from trialops.standards.dictionaries import load_dictionaries
from trialops.standards.review import Candidate, ReviewQueue, Waiting
from trialops.standards.review_app import LARGEST_BODY, ReviewApp
from trialops.stores.database import connect, migrate

HOSTILE = "<script>alert('x')</script>"


class Running:
    """A server on a free port of the loopback address, and clients of it."""

    def __init__(self, queue: ReviewQueue, app: ReviewApp, address: str) -> None:
        self.queue, self.app, self.address = queue, app, address

    @contextmanager
    def client(self, *, session: bool = True) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.address, timeout=20, trust_env=False) as client:
            if session:
                answer = client.get("/", params={"session": self.app.secret})
                assert answer.status_code == 303 and answer.headers["location"] == "/"
                cookie = answer.headers["set-cookie"]
                assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
            yield client


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    engine = connect(f"sqlite:///{tmp_path}/review.db")
    migrate(engine)
    queue = ReviewQueue(engine, "T1")
    candidates = (Candidate("90000004", "Nausea", 0.9, ("similar text",)), Candidate("90000001", "Headache", 0.5))
    queue.add(
        [
            Waiting("event", "MedDRA", "nausia", {}, candidates, "other words", "7 terms", 12),
            Waiting("lab", "LOINC", HOSTILE, {"unit": "mg/dL"}, (), "no candidate", "core", 3),
        ]
    )
    app = ReviewApp(queue, load_dictionaries(write_dictionaries(tmp_path / "vocabulary")), "dora")
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Running(queue, app, f"http://127.0.0.1:{listening.getsockname()[1]}")
    server.should_exit = True
    thread.join(10)
    engine.dispose()


def form_of(page: str) -> dict[str, str]:
    found = {name: re.search(rf'name="{name}" value="([^"]*)"', page) for name in ("csrf", "seen")}
    return {name: match[1] for name, match in found.items() if match}


def event_key(running: Running) -> str:
    return running.queue.items(kind="event")[0].item


def test_a_person_works_through_the_queue(running: Running) -> None:
    with running.client() as client:
        front = client.get("/")
        assert front.status_code == 200 and "nausia" in front.text and "Signed in as dora" in front.text
        key = event_key(running)
        page = client.get(f"/item/{key}")
        assert "90000004" in page.text and "Nausea" in page.text and "other words" in page.text
        fields = form_of(page.text) | {"action": "accept", "code": "90000004", "reason": "clearly meant"}
        done = client.post(f"/item/{key}", data=fields)
        assert done.status_code == 303
        after = client.get(done.headers["location"]).text
        assert "accepted" in after and "clearly meant" in after and "dora" in after
    item = running.queue.item(key)
    assert (item.state, item.code, item.decisions[0].actor) == ("accepted", "90000004", "dora")


def test_search_and_another_code(running: Running) -> None:
    key = event_key(running)
    with running.client() as client:
        found = client.get(f"/item/{key}", params={"q": "queasy feeling"}).text
        assert "90000005" in found
        fields = form_of(found) | {"action": "accept", "other": "90000005", "reason": "closer"}
        assert client.post(f"/item/{key}", data=fields).status_code == 303
    assert running.queue.item(key).display == "Queasy feeling"


def test_unknown_code_and_missing_reason_are_said(running: Running) -> None:
    key = event_key(running)
    with running.client() as client:
        fields = form_of(client.get(f"/item/{key}").text)
        unknown = client.post(f"/item/{key}", data=fields | {"action": "accept", "other": "12345", "reason": "x"})
        assert unknown.status_code == 409 and "does not have the code" in unknown.text
        empty = client.post(f"/item/{key}", data=fields | {"action": "reject", "reason": "  "})
        assert empty.status_code == 409 and "a person and a reason" in empty.text
    assert running.queue.item(key).decisions == ()


def test_hand_over_reject_reopen(running: Running) -> None:
    key = event_key(running)
    with running.client() as client:
        fields = form_of(client.get(f"/item/{key}").text)
        client.post(f"/item/{key}", data=fields | {"action": "assign", "assignee": "bob", "reason": "his area"})
        assert "bob" in client.get("/", params={"assignee": "bob"}).text
        client.post(f"/item/{key}", data=fields | {"action": "reject", "reason": "not an event"})
        assert running.queue.item(key).state == "rejected"
        client.post(f"/item/{key}", data=fields | {"action": "reopen", "reason": "it is one"})
    assert running.queue.item(key).state == "open"


def test_stale_page_is_refused(running: Running) -> None:
    key = event_key(running)
    with running.client() as client:
        fields = form_of(client.get(f"/item/{key}").text)
        running.queue.add([Waiting("event", "MedDRA", "nausia", {}, (), "new release", "8 terms", 12)])
        answer = client.post(f"/item/{key}", data=fields | {"action": "reject", "reason": "no"})
        assert answer.status_code == 409 and "changed since" in answer.text


def test_texts_are_escaped(running: Running) -> None:
    key = running.queue.items(kind="lab")[0].item
    with running.client() as client:
        for page in (client.get("/"), client.get(f"/item/{key}"), client.get(f"/item/{key}", params={"q": HOSTILE})):
            assert HOSTILE not in page.text and "&lt;script&gt;" in page.text
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


def test_who_is_kept_out(running: Running) -> None:
    key = event_key(running)
    with running.client(session=False) as stranger:
        assert stranger.get("/").status_code == 403
        assert stranger.get("/", params={"session": "guess"}).status_code == 403
        assert stranger.get(f"/item/{key}", headers={"cookie": "trialops_review=guess"}).status_code == 403
    with running.client() as client:
        fields = form_of(client.get(f"/item/{key}").text) | {"action": "reject", "reason": "x"}
        for headers in (
            {"host": "evil.example"},
            {"host": "127.0.0.1.evil.example:80"},
            {"origin": "http://evil.example"},
        ):
            assert client.post(f"/item/{key}", data=fields, headers=headers).status_code == 403
        assert client.post(f"/item/{key}", data=fields | {"csrf": "0" * 64}).status_code == 403
        assert client.post(f"/item/{key}", data={k: v for k, v in fields.items() if k != "csrf"}).status_code == 403
        other = running.queue.items(kind="lab")[0].item
        assert client.post(f"/item/{other}", data=fields).status_code == 403  # the token is of another item
        assert client.post(f"/item/{key}", json=fields).status_code == 415
        assert client.post(f"/item/{key}", data=fields | {"reason": "x" * LARGEST_BODY}).status_code == 413
        assert client.put(f"/item/{key}", data=fields).status_code == 405
        assert client.get("/etc/passwd").status_code == 404
        assert client.get("/item/ffffffffff").status_code == 404
        assert client.get("/item/%3Cscript%3E").status_code == 404
    assert running.queue.item(key).decisions == ()


def test_head_has_no_body(running: Running) -> None:
    with running.client() as client:
        answer = client.head("/")
        assert answer.status_code == 200 and answer.content == b""


def test_an_unforeseen_error_quotes_nothing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("patient 0815")

    monkeypatch.setattr(ReviewQueue, "items", fail)
    with running.client() as client:
        answer = client.get("/")
        assert answer.status_code == 500 and "0815" not in answer.text and "ValueError" in answer.text
