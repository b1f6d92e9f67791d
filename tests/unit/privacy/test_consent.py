"""FHIR Consent: a truth table, and a second evaluator of another kind that must always agree."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given as given_examples
from hypothesis import settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.intake.fhir_tables import to_tables
from trialops.privacy.consent import (
    REASONS,
    Request,
    consent_policy,
    decide,
    decide_one,
    read_policy,
    within,
)

AT = dt.date(2024, 1, 5)
REASON_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActReason"


def coded(*codes: str) -> list[dict[str, str]]:
    return [{"system": REASON_SYSTEM, "code": code} for code in codes]


def rule(kind: str | None = "permit", *below: dict[str, Any], **criteria: Any) -> dict[str, Any]:
    """A provision; purposes, actors, actions and classes are given by their codes."""
    made: dict[str, Any] = {} if kind is None else {"type": kind}
    for name, value in criteria.items():
        if name == "purpose":
            made["purpose"] = coded(*value)
        elif name == "actor":
            made["actor"] = [{"role": {"text": "recipient"}, "reference": {"reference": one}} for one in value]
        elif name == "action":
            made["action"] = [{"coding": [{"code": one}]} for one in value]
        elif name == "data":
            made["class"] = [{"system": "http://hl7.org/fhir/resource-types", "code": one} for one in value]
        elif name == "period":
            made["period"] = {k: v for k, v in zip(("start", "end"), value, strict=True) if v}
        else:
            made[name] = value
    return made | ({"provision": list(below)} if below else {})


def consent(root: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    made = {
        "resourceType": "Consent",
        "id": "c1",
        "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p1"},
        "dateTime": "2024-01-01",
        "provision": rule() if root is None else root,
    } | changes
    return {k: v for k, v in made.items() if v is not None}


def ask(*consents: dict[str, Any], purpose: str = "HRESCH", at: dt.date = AT, **more: Any) -> tuple[str, str]:
    decision = decide_one(consents, Request(purpose, at, **more), consent_policy())
    assert decision.reason in REASONS
    return decision.verdict, decision.reason


PERMIT, NOT_COVERED, EXCEPTION = ("permit", "PERMITTED"), ("deny", "NOT_COVERED"), ("deny", "EXCEPTION")
NONE, NOT_YET, WITHDRAWN = ("deny", "NO_CONSENT"), ("deny", "NOT_IN_FORCE"), ("deny", "WITHDRAWN")

TRUTH: list[tuple[str, list[dict[str, Any]], dict[str, Any], tuple[str, str]]] = [
    ("no consent", [], {}, NONE),
    ("plain permission", [consent()], {}, PERMIT),
    ("plain denial", [consent(rule("deny"))], {}, EXCEPTION),
    ("another scope", [consent(scope={"coding": [{"code": "patient-privacy"}]})], {}, NONE),
    ("an advance directive", [consent(category=[{"coding": [{"code": "acd"}]}])], {}, NONE),
    ("draft", [consent(status="draft")], {}, NONE),
    ("proposed", [consent(status="proposed")], {}, NONE),
    ("entered in error", [consent(status="entered-in-error")], {}, NONE),
    ("withdrawn", [consent(status="inactive")], {}, WITHDRAWN),
    ("rejected", [consent(status="rejected")], {}, ("deny", "REFUSED")),
    ("given later", [consent(dateTime="2024-01-06")], {}, NOT_YET),
    ("given that day", [consent(dateTime="2024-01-05T23:00:00Z")], {}, PERMIT),
    ("no time given", [consent(dateTime=None)], {}, PERMIT),
    ("no type, no rule", [consent(provision={"purpose": coded("HRESCH")})], {}, NOT_COVERED),
    ("opted in", [consent({}, policyRule={"coding": [{"code": "OPTIN"}]})], {}, PERMIT),
    ("opted out", [consent({}, policyRule={"coding": [{"code": "OPTOUT"}]})], {}, EXCEPTION),
    (
        "opted out with an exception",
        [consent(rule(None, rule(purpose=["HRESCH"])), policyRule={"coding": [{"code": "OPTOUTE"}]})],
        {},
        PERMIT,
    ),
    ("purpose named", [consent(rule(purpose=["HRESCH"]))], {}, PERMIT),
    ("another purpose named", [consent(rule(purpose=["HMARKT"]))], {}, NOT_COVERED),
    ("a narrower use than permitted", [consent(rule(purpose=["HRESCH"]))], {"purpose": "BIORCH"}, PERMIT),
    ("a wider use than permitted", [consent(rule(purpose=["BIORCH"]))], {}, NOT_COVERED),
    ("a part of the use denied", [consent(rule("permit", rule("deny", purpose=["BIORCH"])))], {}, EXCEPTION),
    (
        "another use denied",
        [consent(rule("permit", rule("deny", purpose=["HMARKT"]), purpose=["HRESCH"]))],
        {},
        PERMIT,
    ),
    (
        "a purpose of another code system",
        [consent({"type": "permit", "purpose": [{"system": "urn:x", "code": "HRESCH"}]})],
        {},
        NOT_COVERED,
    ),
    ("before the period", [consent(rule(period=("2024-01-06", None)))], {}, NOT_COVERED),
    ("first day of the period", [consent(rule(period=("2024-01-05", None)))], {}, PERMIT),
    ("last day of the period", [consent(rule(period=(None, "2024-01-05")))], {}, PERMIT),
    ("after the period", [consent(rule(period=(None, "2024-01-04")))], {}, NOT_COVERED),
    ("period to the end of a month", [consent(rule(period=("2023", "2024-01")))], {}, PERMIT),
    ("a period that is odd", [consent(rule(period=("soon", None)))], {}, NOT_COVERED),
    ("a denial in an odd period", [consent(rule("permit", rule("deny", period=("soon", ""))))], {}, EXCEPTION),
    ("for somebody, nobody asks", [consent(rule(actor=["Organization/a"]))], {}, NOT_COVERED),
    ("for somebody who asks", [consent(rule(actor=["Organization/a"]))], {"actor": "Organization/a"}, PERMIT),
    ("for somebody else", [consent(rule(actor=["Organization/a"]))], {"actor": "Organization/b"}, NOT_COVERED),
    ("not for somebody, unnamed", [consent(rule("permit", rule("deny", actor=["O/a"])))], {}, EXCEPTION),
    ("not for somebody else", [consent(rule("permit", rule("deny", actor=["O/a"])))], {"actor": "O/b"}, PERMIT),
    ("to use", [consent(rule(action=["use"]))], {}, PERMIT),
    ("to look at only", [consent(rule(action=["access"]))], {}, NOT_COVERED),
    ("not to be looked at", [consent(rule("permit", rule("deny", action=["access"])))], {}, EXCEPTION),
    ("not to be disclosed", [consent(rule("permit", rule("deny", action=["disclose"])))], {}, PERMIT),
    (
        "not to be disclosed, and it is",
        [consent(rule("permit", rule("deny", action=["disclose"])))],
        {"action": "disclose"},
        EXCEPTION,
    ),
    ("a kind of data", [consent(rule(data=["Observation"]))], {"data_class": "Observation"}, PERMIT),
    ("another kind of data", [consent(rule(data=["Observation"]))], {"data_class": "Condition"}, NOT_COVERED),
    ("all data where one kind is permitted", [consent(rule(data=["Observation"]))], {}, NOT_COVERED),
    ("all data where one kind is denied", [consent(rule("permit", rule("deny", data=["X"])))], {}, EXCEPTION),
    (
        "a kind where another is denied",
        [consent(rule("permit", rule("deny", data=["X"])))],
        {"data_class": "Y"},
        PERMIT,
    ),
    (
        "a kind by system and code",
        [consent(rule(data=["X"]))],
        {"data_class": "http://hl7.org/fhir/resource-types|X"},
        PERMIT,
    ),
    (
        "a test that is denied may be inside a kind",
        [consent(rule("permit", rule("deny", code=[{"coding": [{"code": "75622-1"}]}])))],
        {"data_class": "Observation"},
        EXCEPTION,
    ),
    ("a security label nobody can judge", [consent(rule(securityLabel=[{"code": "R"}]))], {}, NOT_COVERED),
    ("a data period nobody can judge", [consent(rule(dataPeriod={"start": "2020"}))], {}, NOT_COVERED),
    ("a modifier nobody knows", [consent(modifierExtension=[{"url": "u", "valueBoolean": True}])], {}, NOT_COVERED),
    ("exception to an exception", [consent(rule("deny", rule("permit", rule("deny"))))], {}, EXCEPTION),
    ("four deep", [consent(rule("permit", rule("deny", rule("permit", rule("permit")))))], {}, PERMIT),
    (
        "what lies below a provision that does not apply",
        [consent(rule("deny", rule("deny", rule("permit"), purpose=["TREAT"])))],
        {},
        EXCEPTION,
    ),
    ("exceptions that disagree", [consent(rule("permit", rule("permit"), rule("deny")))], {}, EXCEPTION),
    ("not verified", [consent(verification=[{"verified": False}])], {}, ("deny", "UNVERIFIED")),
    ("verified in the end", [consent(verification=[{"verified": False}, {"verified": True}])], {}, PERMIT),
    (
        "the later one permits",
        [consent(rule("deny")), consent(id="c2", dateTime="2024-01-02")],
        {},
        PERMIT,
    ),
    ("the later one denies", [consent(), consent(rule("deny"), id="c2", dateTime="2024-01-02")], {}, EXCEPTION),
    ("later refused", [consent(), consent(id="c2", status="rejected", dateTime="2024-01-02")], {}, ("deny", "REFUSED")),
    ("the refusal came first", [consent(id="c2", status="rejected", dateTime="2023"), consent()], {}, PERMIT),
    ("the replaced one denies", [consent(), consent(rule("deny"), id="c2", status="inactive")], {}, PERMIT),
    ("the later one comes later", [consent(), consent(rule("deny"), id="c2", dateTime="2024-02")], {}, PERMIT),
    ("same time, one denies", [consent(), consent(rule("deny"), id="c2")], {}, ("deny", "DISAGREE")),
    ("same instant in two zones", [
        consent(dateTime="2024-01-02T01:00:00+02:00"),
        consent(rule("deny"), id="c2", dateTime="2024-01-01T23:00:00Z"),
    ], {}, ("deny", "DISAGREE")),
]  # fmt: skip


@pytest.mark.parametrize(("consents", "request_", "expected"), [t[1:] for t in TRUTH], ids=[t[0] for t in TRUTH])
def test_truth_table(consents: list[dict[str, Any]], request_: dict[str, Any], expected: tuple[str, str]) -> None:
    assert ask(*consents, **request_) == expected
    assert ask(*reversed(consents), **request_) == expected


# -- a second evaluator: no recursion, every chain of provisions written out, every day and purpose listed ------------

DAYS = [dt.date(2024, 1, d) for d in range(1, 10)]
COVERS = {
    "HRESCH": {"HRESCH", "CLINTRCH", "BIORCH", "CLINTRCHPC"},
    "CLINTRCH": {"CLINTRCH", "CLINTRCHPC"},
    "CLINTRCHPC": {"CLINTRCHPC"},
    "BIORCH": {"BIORCH"},
    "HMARKT": {"HMARKT"},
}
"""Purpose -> the purposes of this test that a permission for it covers."""
NEEDS = {"use": {"use", "access"}, "access": {"access"}, "disclose": {"disclose", "use", "access"}}


def chains(root: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Every chain from the root to any provision."""
    found, at = [], [[root]]
    while at:
        found += at
        at = [[*chain, child] for chain in at for child in chain[-1].get("provision", [])]
    return found


def about(one: dict[str, Any], request: Request) -> set[bool]:
    """The ways in which a provision may be about a request: {True}, {False}, or both where it cannot be told."""
    ways = {True}

    def also(more: set[bool]) -> None:
        nonlocal ways
        ways = {a and b for a in ways for b in more}

    if "period" in one:
        first, last = one["period"].get("start", "0"), one["period"].get("end", "9")
        also({request.at.isoformat() in [d.isoformat() for d in DAYS if first <= d.isoformat() <= last]})
    if "purpose" in one:
        codes = [c["code"] for c in one["purpose"]]
        if request.purpose in set().union(*(COVERS[c] for c in codes)):
            also({True})
        else:
            also({True, False} if COVERS[request.purpose] & set(codes) else {False})
    if "actor" in one:
        named = {a["reference"]["reference"] for a in one["actor"]}
        also({True, False} if request.actor is None else {request.actor in named})
    if "action" in one:
        codes = [a["coding"][0]["code"] for a in one["action"]]
        if request.action in codes:
            also({True})
        else:
            also({True, False} if NEEDS[request.action] & set(codes) else {False})
    if "class" in one:
        classes = {c["code"] for c in one["class"]}
        also({True, False} if request.data_class is None else {request.data_class in classes})
    if "securityLabel" in one:
        also({True, False})
    return ways


def says(root: dict[str, Any], holds: dict[int, bool]) -> str:
    """One reading: all chains whose every link holds; those that go no deeper; one denial is enough."""
    reached = [chain for chain in chains(root) if all(holds[id(p)] for p in chain)]
    ends = [
        r for r in reached if not any(len(o) == len(r) + 1 and all(map(lambda a, b: a is b, r, o)) for o in reached)
    ]
    return "permit" if ends and all(r[-1]["type"] == "permit" for r in ends) else "deny"


def brute_force(consents: list[dict[str, Any]], request: Request) -> str:
    """permit or deny: every reading of every newest consent permits."""
    live = [c for c in consents if c["status"] in ("active", "rejected") and c["dateTime"] <= request.at.isoformat()]
    newest = [c for c in live if c["dateTime"] == max(x["dateTime"] for x in live)]
    verdicts = set()
    for c in newest:
        nodes = [chain[-1] for chain in chains(c["provision"])]
        readings = itertools.product(*(sorted(about(node, request)) for node in nodes))
        said = {says(c["provision"], {id(n): h for n, h in zip(nodes, r, strict=True)}) for r in readings}
        verdicts |= said if c["status"] == "active" else {"deny"}
    return "permit" if verdicts == {"permit"} else "deny"


some = st.lists(st.sampled_from(sorted(COVERS)), min_size=1, max_size=2, unique=True)
criteria = st.fixed_dictionaries(
    {},
    optional={
        "purpose": some,
        "period": st.tuples(
            st.none() | st.sampled_from([d.isoformat() for d in DAYS]),
            st.none() | st.sampled_from([d.isoformat() for d in DAYS]),
        ),
        "actor": st.lists(st.sampled_from(["Organization/a", "Organization/b"]), min_size=1, max_size=2, unique=True),
        "action": st.lists(st.sampled_from(sorted(NEEDS)), min_size=1, max_size=2, unique=True),
        "data": st.lists(st.sampled_from(["Observation", "Condition"]), min_size=1, max_size=1),
        "securityLabel": st.just([{"code": "R"}]),
    },
)
kinds = st.sampled_from(["permit", "permit", "deny"])
leaves = st.builds(lambda kind, c: rule(kind, **c), kinds, criteria)
trees = st.recursive(
    leaves,
    lambda below: st.builds(lambda kind, c, b: rule(kind, *b, **c), kinds, criteria, st.lists(below, max_size=3)),
    max_leaves=8,
)
records = st.builds(
    lambda root, status, day, number: consent(root, status=status, dateTime=day.isoformat(), id=f"c{number}"),
    trees,
    st.sampled_from(["active", "active", "active", "rejected", "inactive", "entered-in-error", "draft"]),
    st.sampled_from(DAYS),
    st.integers(0, 9),
)
requests = st.builds(
    Request,
    st.sampled_from(sorted(COVERS)),
    st.sampled_from(DAYS),
    st.sampled_from([None, "Organization/a", "Organization/b"]),
    st.sampled_from([None, "Observation", "Condition"]),
    st.sampled_from(sorted(NEEDS)),
)


@settings(max_examples=250, deadline=None, derandomize=True)
@given_examples(st.lists(records, max_size=4), requests)
def test_a_second_evaluator_agrees(consents: list[dict[str, Any]], request_: Request) -> None:
    # No provision is shared: the second evaluator tells them apart by identity.
    consents = json.loads(json.dumps(consents))
    assert decide_one(consents, request_, consent_policy()).verdict == brute_force(consents, request_)


@settings(max_examples=100, deadline=None, derandomize=True)
@given_examples(trees, requests)
def test_a_denial_at_the_root_level_never_opens_a_door(root: dict[str, Any], request_: Request) -> None:
    """Adding an exception that denies everything denies, whatever the tree says."""
    closed = {**root, "provision": [*root.get("provision", []), rule("deny")]}
    assert decide_one([consent(closed)], request_, consent_policy()).verdict == "deny"


@settings(max_examples=100, deadline=None, derandomize=True)
@given_examples(st.lists(records, min_size=1, max_size=4), requests)
def test_knowing_less_never_permits_more(consents: list[dict[str, Any]], request_: Request) -> None:
    vague = Request(request_.purpose, request_.at, None, None, request_.action)
    if decide_one(consents, vague, consent_policy()).verdict == "permit":
        assert decide_one(consents, request_, consent_policy()).verdict == "permit"


# -- the column form --------------------------------------------------------------------------------------------------


def test_decisions_are_one_row_a_subject_in_order() -> None:
    frame = to_tables([consent(), consent(id="c9", patient={"reference": "Patient/p9"}, status="rejected")])["Consent"]
    got = decide(frame, ["p9", "p1", "p5", "p1"], purpose="HRESCH", at=AT)
    assert got.rows() == [
        ("p1", "permit", "PERMITTED", "c1"),
        ("p5", "deny", "NO_CONSENT", ""),
        ("p9", "deny", "REFUSED", "c9"),
    ]
    assert decide(frame.clear(), [], purpose="HRESCH", at=AT).schema == got.schema


def test_unknown_purposes_and_actions_are_refused() -> None:
    frame = to_tables([consent()])["Consent"]
    with pytest.raises(TrialOpsError, match="no purpose 'FUN'"):
        decide(frame, ["p1"], purpose="FUN", at=AT)
    with pytest.raises(TrialOpsError, match="no action 'sell'"):
        decide(frame, ["p1"], purpose="HRESCH", at=AT, action="sell")


def test_the_policy_is_data_with_a_digest(tmp_path: Path) -> None:
    import yaml

    policy = consent_policy()
    assert policy.version.startswith("1 (") and len(policy.digest) == 64
    other = {**policy.content, "verification": "required"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(other))
    strict = read_policy(tmp_path / "own.yaml")
    assert decide_one([consent()], Request("HRESCH", AT), strict).reason == "UNVERIFIED"
    assert decide_one([consent(verification=[{"verified": True}])], Request("HRESCH", AT), strict).verdict == "permit"
    (tmp_path / "poor.yaml").write_text("version: 1")
    with pytest.raises(TrialOpsError, match="lacks actions"):
        read_policy(tmp_path / "poor.yaml")


@pytest.mark.parametrize(
    ("period", "day", "inside"),
    [
        ({"start": "2024-02"}, "2024-02-01", True),
        ({"end": "2024-02"}, "2024-02-29", True),
        ({"end": "2024-02"}, "2024-03-01", False),
        ({"end": "2023"}, "2023-12-31", True),
        ({}, "1990-01-01", True),
        ({"end": "2024-02-30"}, "2024-01-01", None),
        ({"start": "2024-01-05T10:00:00+01:00"}, "2024-01-05", True),
    ],
)
def test_partial_dates_are_taken_whole(period: dict[str, str], day: str, inside: bool | None) -> None:
    assert within(period, dt.date.fromisoformat(day)) is inside


def test_synthesized_consents_read_as_they_were_meant(tmp_path: Path) -> None:
    """The generator's states: permitted, permitted within limits, withdrawn, refused."""
    from trialops.synthetic import generate

    generate(tmp_path / "trial", subjects=150, sites=4, seed=5, formats=("fhir",))
    lines = (tmp_path / "trial" / "fhir" / "bundle-0000.ndjson").read_text().splitlines()
    found = [e["resource"] for line in lines for e in json.loads(line)["entry"]]
    tables = to_tables(r for r in found if r["resourceType"] in ("Consent", "Patient"))
    at = dt.date(2030, 1, 1)
    got = decide(tables["Consent"], tables["Patient"]["id"], purpose="HRESCH", at=at)
    by_status = {r["patient"]["reference"].split("/")[1]: r["status"] for r in found if r["resourceType"] == "Consent"}
    expected = {"active": "PERMITTED", "inactive": "WITHDRAWN", "rejected": "REFUSED"}
    assert {s: expected[by_status[s]] for s in by_status} == dict(got.select("subject", "reason").iter_rows())
    assert got["reason"].n_unique() == 3
    marketing = decide(tables["Consent"], tables["Patient"]["id"], purpose="HMARKT", at=at)
    assert (marketing["decision"] == "deny").all() and isinstance(got, pl.DataFrame)
