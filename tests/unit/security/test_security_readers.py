"""Events of the three sources: typed, quarantined with their place, read once."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from tests.support.audit_logs import audit_event, kubernetes
from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.security import log_lines
from trialops.security.events import Collector, classify, merged, nothing, schema
from trialops.security.fhir_events import fhir_events
from trialops.security.kubernetes_events import kubernetes_events
from trialops.security.log_lines import Quarantine, log_files
from trialops.security.networks import load_networks, networks_of
from trialops.security.roster import read_roster
from trialops.security.trail_events import trail_events
from trialops.stores.database import connect, migrate

AT = dt.datetime(2026, 3, 2, 9, 30, 0, 250_000)


def _kubernetes(*lines: str | bytes, folder: Path, name: str = "audit.log") -> tuple[pl.DataFrame, Quarantine]:
    data = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines) + b"\n"
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    quarantine = Quarantine()
    batches = list(kubernetes_events(log_files(folder, (".log",)), quarantine))
    return (pl.concat(batches) if batches else pl.DataFrame(schema=schema())), quarantine


def test_kubernetes_lines_are_typed_and_bad_ones_have_their_place(tmp_path: Path) -> None:
    events, quarantine = _kubernetes(
        kubernetes(AT, "ana", "get", "secrets", name="vault", address="198.18.3.4"),
        kubernetes(AT, "ana", "get", "secrets", stage="RequestReceived"),
        "{broken",
        "",
        b'{"kind": "Event\xff',
        kubernetes(AT, "system:serviceaccount:trialops:runner", "create", "pods", subresource="exec", code=403),
        kubernetes(AT, "system:node:n1", "get", "pods"),
        '{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "stage": "ResponseComplete", "verb": "get"}',
        json.dumps({**json.loads(kubernetes(AT, "ana", "get", "pods")), "requestReceivedTimestamp": "yesterday"}),
        kubernetes(AT, "ana", "create", "clusterrolebindings", role="Cluster-Admin"),
        folder=tmp_path,
    )
    assert list(events.schema.items()) == list(schema().items())
    assert quarantine.frame().rows() == [
        ("audit.log", 3, "not JSON"),
        ("audit.log", 5, "not JSON"),
        ("audit.log", 8, "no id, verb or user"),
        ("audit.log", 9, "no time"),
    ]
    # read = events + ignored + quarantined: nothing is lost.
    assert quarantine.read == 9 and quarantine.ignored == 2 and events.height == 3
    assert events["at"].to_list() == [AT] * 3 and events["address"][0] == "198.18.3.4"
    assert events["service"].to_list() == [False, True, False]
    assert events["object"].to_list() == ["secrets", "pods/exec", "clusterrolebindings"]
    assert events["outcome"].to_list() == ["allowed", "refused", "allowed"] and events["record"][2] == "cluster-admin"


def test_lines_across_chunks_gzip_and_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of the reader end inside lines; a copy of a file counts once."""
    monkeypatch.setattr(log_lines, "CHUNK", 5_000)
    lines = [kubernetes(AT, "ana", "get", "pods", number=n, name="x" * 50) for n in range(60)]
    events, quarantine = _kubernetes(*lines, "{broken", folder=tmp_path, name="audit.log.gz")
    (tmp_path / "copy.log.gz").write_bytes((tmp_path / "audit.log.gz").read_bytes())
    assert events.height == len(lines) and quarantine.rows == [("audit.log.gz", len(lines) + 1, "not JSON")]
    assert len(log_files(tmp_path, (".log",))) == 1
    (tmp_path / "copy.log.gz").write_bytes((tmp_path / "audit.log.gz").read_bytes()[:-40])
    half = Quarantine()
    list(kubernetes_events([tmp_path / "copy.log.gz"], half))
    assert half.rows[-1][2] == "the file ends in the middle or is damaged"
    with pytest.raises(TrialOpsError):
        log_files(tmp_path / "nowhere", (".log",))


def test_fhir_resources_lines_and_bundles(tmp_path: Path) -> None:
    read = audit_event(AT, "dr-1", "R", "https://fhir.example/r4/Patient/17")
    emergency = audit_event(AT, "dr-1", "R", "Patient/18", number=1, purpose="BTG")
    login = audit_event(AT, "dr-2", "E", "", number=2, kind="110114", subtype="110122", outcome="8")
    refused = audit_event(AT, "dr-2", "R", "Observation/1", number=3, outcome="4")
    refused["recorded"] = "2026-03-02T15:00:00.25+05:30"
    emergency["recorded"] = "2026-03-02T02:00:00-07:30"
    nobody = {**audit_event(AT, "x", "R", "Patient/1"), "agent": []}
    (tmp_path / "a.ndjson").write_text("\n".join(map(json.dumps, [read, emergency, login, nobody])) + "\n7\n")
    bundle = {"resourceType": "Bundle", "entry": [{"resource": refused}, {"resource": {"resourceType": "Patient"}}]}
    (tmp_path / "b.json").write_text(json.dumps(bundle))
    (tmp_path / "c.json").write_text("{")
    quarantine = Quarantine()
    events = pl.concat(fhir_events(log_files(tmp_path, (".ndjson", ".json")), quarantine))
    assert events["actor"].to_list() == ["dr-1", "dr-1", "dr-2", "dr-2"]
    assert events["at"].to_list()[1:] == [AT.replace(microsecond=0), AT.replace(microsecond=0), AT]
    assert events["action"].to_list() == ["read", "emergency", "login.refused", "read"]
    assert events["outcome"].to_list() == ["allowed", "allowed", "failed", "refused"]
    assert events["object"].to_list()[:2] == ["Patient", "Patient"] and "Never Read" not in str(events.rows())
    assert [row[2] for row in quarantine.frame().rows()] == [
        "no agent",
        "not an AuditEvent",
        "not an AuditEvent",
        "not JSON",
    ]


def test_records_of_the_trail(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/t.db")
    migrate(engine)
    trail, digest = AuditTrail(engine), "ab" * 32
    trail.append(
        actor="eva", action="access.refuse", object="unblinding", version="monitor", reason="no purpose stated"
    )
    about = {"about": "case-1/3"}
    trail.append(
        actor="eva", action="access.allow", object="safety_cases", version="safety physician", reason="r", detail=about
    )  # fmt: skip
    trail.append(actor="eva", action="sign", object="case/case-1/3", version=digest, detail={"meaning": "approved"})
    trail.append(actor="eva", action="sign.refused", object="signer/eva", detail={"failures": 5, "locked": True})
    trail.append(actor="bot", action="export.write", object="x", detail={"rows": 1234})
    now = dt.datetime.now(dt.UTC)
    events = pl.concat(trail_events(engine, now - dt.timedelta(1), now + dt.timedelta(1)))
    assert list(events.schema.items()) == list(schema().items())
    assert events["action"].to_list()[2:4] == ["sign approved", "sign.refused locked"]
    assert events["about"].to_list()[1:3] == ["case-1", "case-1"] and events["record"][2] == digest
    assert events["role"].to_list()[:3] == ["monitor", "safety physician", None] and events["volume"][4] == 1234
    assert events["outcome"].to_list() == ["refused", "allowed", "allowed", "failed", "allowed"]
    assert events["purpose"].to_list()[:2] == [None, "stated"]
    assert sum(batch.height for batch in trail_events(engine, now + dt.timedelta(1), now + dt.timedelta(2))) == 0


@pytest.mark.parametrize(
    ("source", "action", "thing", "wanted"),
    [
        ("trail", "access.allow", "unblinding", "unblind"),
        ("trail", "access.refuse", "unblinding", "refused"),
        ("trail", "sign.refused locked", "signer/x", "auth_failure"),
        ("trail", "sign approved", "case/c-1", "sign"),
        ("trail", "reidentify", "subject/abc", "reidentify"),
        ("trail", "reidentify", "actor/abc", "admin"),
        ("trail", "step.finish", "grade", "system"),
        ("kubernetes", "list", "secrets", "secret"),
        ("kubernetes", "watch", "secrets", "secret"),
        ("kubernetes", "update", "secrets", "write"),
        ("kubernetes", "create", "pods/exec", "exec"),
        ("kubernetes", "get", "rolebindings", "read"),
        ("kubernetes", "patch", "rolebindings", "privilege"),
        ("kubernetes", "create", "serviceaccounts/token", "privilege"),
        ("kubernetes", "impersonate", "pods", "privilege"),
        ("fhir", "emergency", "Patient", "unblind"),
        ("fhir", "login", "system", "login"),
    ],
)
def test_what_an_action_is(source: str, action: str, thing: str, wanted: str) -> None:
    assert classify(source, action, thing)[0] == wanted


def test_the_same_logs_again_change_nothing_and_more_of_a_day_replaces_it(tmp_path: Path) -> None:
    def kept(count: int):  # type: ignore[no-untyped-def]
        events, _ = _kubernetes(
            *(kubernetes(AT, "ana", "get", "pods", number=n) for n in range(count)), folder=tmp_path
        )
        collector = Collector(lambda _, values: [f"p-{v}" for v in values], load_networks())
        collector.add(events)
        return collector.kept()

    since = AT.date()
    once = merged(nothing(), kept(5), since)
    assert once.activity["actor"].to_list() == ["p-ana"] and once.activity["events"].sum() == 5
    assert merged(once, kept(5), since).activity.equals(once.activity)
    assert merged(once, kept(9), since).activity["events"].sum() == 9
    assert merged(once, kept(2), since).activity["events"].sum() == 5  # the log was rotated away since
    assert merged(once, kept(9), since + dt.timedelta(1)).activity.height == 0


def test_networks_and_distances() -> None:
    table = networks_of(
        [
            {"cidr": "10.0.0.0/8", "name": "all"},
            {"cidr": "10.1.0.0/16", "name": "Paris", "latitude": 48.8566, "longitude": 2.3522},
            {"cidr": "2001:db8::/32", "name": "London", "latitude": 51.5074, "longitude": -0.1278},
        ]
    )
    assert table.names(["10.1.2.3", "10.2.2.3", "2001:db8::1", "::ffff:10.1.0.9", "8.8.8.8", "not one", ""]) == [
        "Paris", "all", "London", "Paris", "8.8.8.0/24", "", "",
    ]  # fmt: skip
    assert table.distance("Paris", "London") == pytest.approx(344, abs=2) and table.distance("Paris", "all") is None
    with pytest.raises(TrialOpsError):
        networks_of([{"cidr": "10.0.0.1/8", "name": "host bits"}])


def test_the_list_of_accounts(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text(
        "actor,kind,role,joined,left\na,person,Monitor,2026-01-01,2026-02-01\na,person,auditor,,\nb,service,,,\n"
    )
    accounts = read_roster(file).accounts
    assert accounts["a"].roles == ("monitor", "auditor") and accounts["a"].left is None
    for bad in (
        "actor,kind\na,person\n",
        "actor,kind,role,joined,left\na,robot,,,\n",
        "actor,kind,role,joined,left\na,person,,x,\n",
    ):
        file.write_text(bad)
        with pytest.raises(TrialOpsError) as error:
            read_roster(file)
        assert "robot" not in str(error.value)
