"""Presidio's recognisers without its engine: what they find, what a context word adds, and no network."""

from __future__ import annotations

import socket

import pytest

from trialops.privacy import recognisers
from trialops.privacy.recognisers import find_patterns


def found(text: str) -> set[tuple[str, str]]:
    return {(text[s.start : s.end], s.kind) for s in find_patterns(text)}


@pytest.mark.parametrize(
    ("text", "what", "kind"),
    [
        ("write to quilla.norvath@example.org please", "quilla.norvath@example.org", "EMAIL"),
        ("internal: q.norvath@ward.internal", "q.norvath@ward.internal", "EMAIL"),
        ("see https://norvath.com/a?b=1 there", "https://norvath.com/a?b=1", "URL"),
        ("see norvath.com", "norvath.com", "URL"),
        ("card 4111 1111 1111 1111", "4111 1111 1111 1111", "ID"),
        ("IBAN DE89370400440532013000", "DE89370400440532013000", "ID"),
        ("from 192.168.10.12", "192.168.10.12", "ID"),
        ("account 12345678", "12345678", "ID"),
        ("wallet 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "ID"),
        ("ring +44 20 7946 0958", "+44 20 7946 0958", "PHONE"),
    ],
)
def test_found(text: str, what: str, kind: str) -> None:
    assert (what, kind) in found(text)


@pytest.mark.parametrize(
    "text", ["platelets 12345678", "card 4111 1111 1111 1112", "it was stable.He left", "dose 2.5.mg", "", "BP 120/80"]
)
def test_not_found(text: str) -> None:
    assert not {(t, k) for t, k in found(text) if k != "PHONE"}


def test_bare_patterns_find_the_same_word_by_word() -> None:
    text = "a quilla@norvath.com, (b) www.norvath.org; c https://x.example/y. And d.e@f.co.uk"
    for recogniser in recognisers.recognisers():
        if recogniser.bare:
            whole = {(r.start, r.end) for r in recogniser.analyze(text, [recogniser.entity])}
            assert {(r.start, r.end) for r in recognisers._asked(recogniser, text)} == whole


def test_nothing_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a recogniser asked the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    recognisers.public_suffixes.cache_clear()
    recognisers.recognisers.cache_clear()
    assert ("norvath.co.uk", "URL") in found("see norvath.co.uk or a@norvath.co.uk")
