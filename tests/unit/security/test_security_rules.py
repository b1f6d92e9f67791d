"""What is against the rules is found, and what is nearly against them is not."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl

from trialops.security.events import Collector, schema
from trialops.security.networks import networks_of
from trialops.security.policy import load_policy
from trialops.security.roster import Account
from trialops.security.rules import Violation, check

POLICY = load_policy()
DAY = dt.datetime(2026, 3, 2, 9)
PLACES = networks_of(
    [
        {"cidr": "198.18.0.0/16", "name": "Basel", "latitude": 47.56, "longitude": 7.59},
        {"cidr": "198.19.0.0/16", "name": "Durham", "latitude": 35.99, "longitude": -78.9},
        {"cidr": "203.0.113.0/24", "name": "VPN gateway"},
    ]
)
PEOPLE = {"ana": ("safety physician",), "bo": ("statistician (blinded)",), "cy": ("data engineer",)}


def _found(
    *events: dict[str, Any], since: int = 0, until: int = 1, people: bool = True, **left: dt.date
) -> list[Violation]:
    plain = {
        "source": "trail",
        "service": False,
        "outcome": "allowed",
        "object": "clean",
        "action": "data.read",
        "actor": "ana",
    }
    rows = [{c: (plain | e).get(c) for c in schema()} | {"id": str(n)} for n, e in enumerate(events)]
    frame = pl.DataFrame(rows, schema=schema())
    named = frozenset((*POLICY.rules.makes, *POLICY.rules.follow_ups))
    collector = Collector(lambda _, values: list(values), PLACES, named)
    collector.add(frame)
    accounts = {n: Account(n, "person", roles, None, left.get(n)) for n, roles in PEOPLE.items()} if people else {}
    days = (DAY.date() + dt.timedelta(since), DAY.date() + dt.timedelta(until))
    return list(check(collector.kept(), POLICY, PLACES, accounts, *days).violations)


def _kinds(found: list[Violation]) -> list[tuple[str, str, int]]:
    return [(v.kind, v.actor, v.count) for v in found]


def _at(days: float = 0, hours: float = 0) -> dict[str, Any]:
    return {"at": DAY + dt.timedelta(days=days, hours=hours)}


def test_who_has_left_and_acts() -> None:
    late = [{**_at(hours=n), "actor": "cy"} for n in range(3)]
    assert _kinds(_found(*late, cy=DAY.date() - dt.timedelta(1))) == [("terminated", "cy", 3)]
    assert _found(*late, cy=DAY.date()) == [] and _found(*late) == []


def test_a_dormant_account() -> None:
    assert _kinds(_found({**_at(-45)}, {**_at()})) == [("dormant", "ana", 1)]
    assert _found({**_at(-44)}, {**_at()}) == []


def test_unblinding_must_be_accounted_for() -> None:
    opened = {**_at(), "action": "unblind.subject", "object": "case-1"}
    answered = {**_at(2.9), "action": "case.review", "object": "case-1"}
    span = {"since": 3, "until": 4}
    assert _kinds(_found(opened, **span)) == [("no_follow_up", "ana", 1)]
    assert _found(opened, answered, **span) == []
    assert len(_found(opened, {**answered, **_at(3.1)}, **span)) == 1  # too late
    assert len(_found(opened, {**answered, **_at(-1)}, **span)) == 1  # before
    assert len(_found(opened, {**answered, "object": "case-2"}, **span)) == 1  # another case
    assert _found(opened, since=2, until=3) == []  # there is time yet
    asked = {**_at(), "action": "access.allow", "object": "unblinding", "about": "case-1", "role": "safety physician"}
    assert _kinds(_found(asked, opened, **span)) == [("no_follow_up", "ana", 1)]  # asked for and done is one
    emergency = {**_at(), "source": "fhir", "action": "emergency", "object": "Patient", "about": "Patient/7"}
    assert _kinds(_found(emergency, **span)) == [("no_follow_up", "ana", 1)]


def test_a_service_does_what_persons_do() -> None:
    done = {
        **_at(),
        "actor": "bot",
        "service": True,
        "action": "sign approved",
        "object": "model/m",
        "record": "a" * 64,
    }
    assert _kinds(_found(done)) == [("service_as_person", "bot", 1)]
    assert _found({**done, "service": False}) == []
    unblinds = {**done, "action": "unblind.subject", "object": "case-1"}
    assert _kinds(_found(unblinds)) == [("service_as_person", "bot", 1)]


def test_who_made_it_approves_it() -> None:
    digest = "a" * 64
    made = {**_at(), "action": "document.register", "object": "dsur-3", "record": digest}
    signed = {**_at(hours=1), "action": "sign approved", "object": "document/dsur", "about": "dsur", "record": digest}
    assert _kinds(_found(made, signed)) == [("self_approval", "ana", 1)]
    assert _found(made, {**signed, "actor": "bo"}) == []
    assert _found(made, {**signed, "record": "b" * 64}) == []
    assert _found(made, {**signed, "action": "sign"}) == []  # authored, reviewed


def test_a_lock_out_is_found() -> None:
    wrong = {"action": "sign.refused", "object": "signer/ana", "outcome": "failed"}
    four = [{**wrong, **_at(hours=n / 10)} for n in range(4)]
    assert _found(*four) == []
    assert _kinds(_found(*four, {**wrong, **_at(hours=1), "action": "sign.refused locked"})) == [
        ("locked_out", "ana", 1)
    ]


def test_refusals_are_a_burst_within_an_hour() -> None:
    def refused(n: int, step: float) -> list[dict[str, Any]]:
        return [
            {**_at(hours=k * step), "action": "access.refuse", "object": "unblinding", "outcome": "refused"}
            for k in range(n)
        ]

    assert _kinds(_found(*refused(20, 0.05))) == [("refused_burst", "ana", 20)]
    assert _found(*refused(19, 0.05)) == [] and _found(*refused(40, 0.06)) == []


def test_a_role_that_was_not_given() -> None:
    asked = {**_at(), "action": "access.allow", "object": "safety_cases", "role": "safety physician"}
    assert _found(asked) == []
    assert _kinds(_found({**asked, "actor": "cy"})) == [("role_not_given", "cy", 1)]


def test_a_blinded_person_sees_treatments() -> None:
    asked = {
        **_at(),
        "actor": "bo",
        "action": "access.allow",
        "object": "unblinded_documents",
        "role": "statistician (blinded)",
    }
    assert _kinds(_found(asked)) == [("blinded_access", "bo", 1)]
    assert _found({**asked, "action": "access.refuse", "outcome": "refused"}) == []


def test_impossible_travel() -> None:
    def at(hours: float, address: str) -> dict[str, Any]:
        return {**_at(hours=hours), "address": address}

    assert _kinds(_found(at(0, "198.18.0.1"), at(2, "198.19.0.1"))) == [("travel", "ana", 1)]
    assert _found(at(0, "198.18.0.1"), at(8.5, "198.19.0.1")) == []  # 7,200 km in 8.5 hours
    assert _found(at(0, "198.18.0.1"), at(1, "203.0.113.4"), at(2, "198.18.0.1")) == []  # a VPN is nowhere


def test_a_binding_to_everything() -> None:
    bound = {
        **_at(),
        "source": "kubernetes",
        "action": "create",
        "object": "clusterrolebindings",
        "record": "cluster-admin",
    }
    assert _kinds(_found(bound)) == [("powerful_binding", "ana", 1)]
    assert _found({**bound, "outcome": "refused"}) == [] and _found({**bound, "record": "view"}) == []


def test_what_cannot_be_checked_is_said() -> None:
    frame = pl.DataFrame(schema=schema())
    collector = Collector(lambda _, values: list(values), networks_of([]))
    collector.add(frame)
    done = check(collector.kept(), POLICY, networks_of([]), {}, DAY.date(), DAY.date() + dt.timedelta(1))
    assert set(done.unchecked) == {"terminated", "role_not_given", "blinded_access", "travel"}
