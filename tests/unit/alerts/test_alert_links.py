"""Links by which an alert is taken, the key that signs them, and the server behind them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.support.alert_clock import START, Desk, addresses, database
from trialops.alerts.links import make_link, read_link, signing_key
from trialops.alerts.raise_alert import Alert
from trialops.alerts.routes import load_routes
from trialops.alerts.serve import Service, make_server, serve_in_background
from trialops.errors import TrialOpsError
from trialops.settings import Settings, settings

KEY = b"k" * 40


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    for variable, address in addresses(load_routes()).items():
        monkeypatch.setenv(variable, address)
    return Desk(database(tmp_path))


@pytest.fixture
def server(desk: Desk) -> Iterator[str]:
    made = make_server(Service(desk.register, desk.routes, KEY, desk.clock, lambda: ""), "127.0.0.1", 0)
    serve_in_background(made)
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    made.server_close()


def test_a_link_says_what_was_signed_and_for_how_long() -> None:
    token = make_link(KEY, "m" * 64, "oncall_first", START)
    link = read_link(KEY, token, START + timedelta(hours=23, minutes=59))
    assert (link.message, link.who) == ("m" * 32, "oncall_first")
    with pytest.raises(TrialOpsError, match="time of this link is over"):
        read_link(KEY, token, START + timedelta(hours=24))


def test_altered_foreign_and_broken_tokens_are_refused() -> None:
    token = make_link(KEY, "m" * 64, "oncall_first", START)
    body, _, signature = token.partition(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    longer = base64.urlsafe_b64encode(json.dumps(said | {"u": said["u"] + 9_999_999}).encode()).rstrip(b"=").decode()
    for bad in (f"{longer}.{signature}", f"{body}.{signature[:-2]}AA", body, f"{body}.", "", ".", "é.é", token + "!"):
        with pytest.raises(TrialOpsError, match="not made here"):
            read_link(KEY, bad, START)
    with pytest.raises(TrialOpsError, match="not made here"):
        read_link(b"o" * 40, token, START)


def test_every_single_changed_sign_is_noticed() -> None:
    token = make_link(KEY, "m" * 64, "w", START)
    for place in range(len(token) - 1):  # the last sign of a signature carries bits that count for nothing
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(TrialOpsError):
            read_link(KEY, token[:place] + other + token[place + 1 :], START)


def test_the_key_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    chosen = Settings(home=tmp_path)
    assert signing_key(chosen) == signing_key(chosen)
    assert (tmp_path / "alerts" / "links.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "alerts").iterdir()] == ["links.key"]
    with pytest.raises(TrialOpsError, match="fewer than 32"):
        signing_key(Settings(home=tmp_path, alerts_key="short"))
    assert signing_key(Settings(home=tmp_path, alerts_key="x" * 32)) == b"x" * 32


def test_only_the_button_takes_an_alert_and_only_once(desk: Desk, server: str) -> None:
    desk.fire([Alert("Broken", "critical", {"area": "data"}, "it is <broken>")])
    desk.escalate()
    (page,) = desk.outbox.messages()
    token = make_link(KEY, page.key, page.receiver, desk.now)
    shown = httpx.get(f"{server}/ack", params={"t": token})
    assert shown.status_code == 200 and "it is &lt;broken&gt;" in shown.text and "<broken>" not in shown.text
    assert shown.headers["referrer-policy"] == "no-referrer" and shown.headers["cache-control"] == "no-store"
    assert not desk.alert("Broken").acknowledged
    first, second = (httpx.post(f"{server}/ack", data={"t": token}) for _ in range(2))
    assert "1 of 1 alerts are yours" in first.text and "Nothing to take" in second.text
    assert desk.alert("Broken").acknowledged == page.receiver
    assert [e.event for e in desk.register.history()] == ["firing", "escalated", "acknowledged"]


@pytest.mark.parametrize("token", ["", "x.y", "old"])
def test_a_link_that_does_not_hold_shows_why_and_takes_nothing(desk: Desk, server: str, token: str) -> None:
    desk.fire([Alert("Broken", "critical", {"area": "data"}, "it is broken")])
    desk.escalate()
    (page,) = desk.outbox.messages()
    if token == "old":
        token = make_link(KEY, page.key, "w", desk.now - timedelta(days=2))
    assert httpx.get(f"{server}/ack", params={"t": token}).status_code == 403
    assert httpx.post(f"{server}/ack", data={"t": token}).status_code == 403
    assert not desk.alert("Broken").acknowledged
