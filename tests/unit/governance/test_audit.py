"""The audit trail: what is appended verifies, and whatever is tampered with is named."""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from trialops.errors import TrialOpsError
from trialops.governance.audit import GENESIS, Anchor, AuditTrail, digest_of
from trialops.stores.database import connect

FIELDS = ("at", "actor", "action", "object", "version", "reason", "run_id", "detail", "previous", "digest")


def fill(engine: Engine, count: int = 12) -> AuditTrail:
    trail = AuditTrail(engine)
    for number in range(1, count + 1):
        trail.append(
            actor="ingest",
            action="write",
            object=f"raw/lb/{number}",
            version=str(number),
            reason="delivery",
            run_id=f"run-{number % 3}",
            detail={"rows": number},
        )
    return trail


def tamper(engine: Engine, *statements: str) -> None:
    """What an administrator with full rights on the database can do: triggers away, change, triggers back."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET session_replication_role = replica")
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql("SET session_replication_role = DEFAULT")
            return
        triggers = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_events'"
        ).all()
        assert len(triggers) == 3
        for name, _ in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.exec_driver_sql(statement)
        for _, text in triggers:
            connection.exec_driver_sql(text)


def redigest(engine: Engine, seq: int) -> str:
    """SQL that gives a row the digest its present fields call for."""
    with engine.connect() as connection:
        row = connection.exec_driver_sql(f"SELECT * FROM audit_events WHERE seq = {seq}").one()
    fields = {name: value for name, value in row._mapping.items() if name != "digest"}
    return f"UPDATE audit_events SET digest = '{digest_of(**fields)}' WHERE seq = {seq}"


def test_append_gives_contiguous_chain(engine: Engine) -> None:
    trail = fill(engine, 5)
    events = list(trail.events())
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert events[0].previous == GENESIS
    assert [event.previous for event in events[1:]] == [event.digest for event in events[:-1]]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event.at) for event in events)
    assert events[2].detail == {"rows": 3}
    result = trail.verify()
    assert result.ok and bool(result) and result.checked == 5 and result.head == trail.head() == (5, events[-1].digest)


def test_digest_is_sha256_of_documented_text() -> None:
    import hashlib

    text = (
        '{"action":"write","actor":"ann","at":"2026-01-02T03:04:05.000006Z","detail":"{}","object":"lb","previous":"'
        + GENESIS
        + '","reason":"","run_id":"","seq":1,"version":"\\u00e9"}'
    )
    assert (
        digest_of(
            seq=1,
            at="2026-01-02T03:04:05.000006Z",
            actor="ann",
            action="write",
            object="lb",
            version="é",
            reason="",
            run_id="",
            detail="{}",
            previous=GENESIS,
        )
        == hashlib.sha256(text.encode()).hexdigest()
    )


def test_returned_event_is_the_stored_one(engine: Engine) -> None:
    event = AuditTrail(engine).append(
        actor="Zoë", action="correct", object="lb/7", detail={"old": 1.5, "new": None, "unit": "µmol/L"}
    )
    assert list(AuditTrail(engine).events()) == [event]


def test_events_filter_and_pages(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialops.governance.audit._BATCH", 4)
    trail = fill(engine, 11)
    assert [event.seq for event in trail.events()] == list(range(1, 12))
    assert [event.seq for event in trail.events(run_id="run-1")] == [1, 4, 7, 10]
    assert [event.seq for event in trail.events(after=3, limit=6)] == [4, 5, 6, 7, 8, 9]
    assert list(trail.events(limit=0)) == []


def test_empty_trail_verifies(engine: Engine) -> None:
    assert AuditTrail(engine).head() == (0, GENESIS)
    assert AuditTrail(engine).verify().ok


@pytest.mark.parametrize("field", FIELDS)
def test_each_altered_field_names_the_record(engine: Engine, field: str) -> None:
    trail = fill(engine)
    value = '{"rows": 7}' if field == "detail" else "f" * 64 if field in ("previous", "digest") else "altered"
    tamper(engine, f"UPDATE audit_events SET {field} = '{value}' WHERE seq = 7")
    result = trail.verify()
    assert not result.ok and result.bad == 7 and "7" in result.problem and result.checked == 6


def test_altered_position_names_the_hole(engine: Engine) -> None:
    trail = fill(engine)
    tamper(engine, "UPDATE audit_events SET seq = 700 WHERE seq = 7")
    assert trail.verify().bad == 7


def test_altered_and_redigested_record_is_named(engine: Engine) -> None:
    trail = fill(engine)
    tamper(engine, "UPDATE audit_events SET actor = 'nobody' WHERE seq = 7")
    tamper(engine, redigest(engine, 7))
    result = trail.verify()
    assert result.bad == 7 and "new digest" in result.problem


def test_relinked_and_redigested_record_is_named(engine: Engine) -> None:
    trail = fill(engine)
    tamper(engine, f"UPDATE audit_events SET previous = '{'e' * 64}' WHERE seq = 7")
    tamper(engine, redigest(engine, 7))
    assert trail.verify().bad == 7


@pytest.mark.parametrize("seq", [1, 7, 11])
def test_deleted_record_is_named(engine: Engine, seq: int) -> None:
    trail = fill(engine)
    tamper(engine, f"DELETE FROM audit_events WHERE seq = {seq}")
    result = trail.verify()
    assert result.bad == seq and "deleted" in result.problem


def test_deleted_and_renumbered_record_is_named(engine: Engine) -> None:
    trail = fill(engine)
    tamper(
        engine,
        "DELETE FROM audit_events WHERE seq = 7",
        *(f"UPDATE audit_events SET seq = {seq - 1} WHERE seq = {seq}" for seq in range(8, 13)),
    )
    result = trail.verify()
    assert result.bad == 7 and "written as record 8" in result.problem


def test_swapped_records_are_named(engine: Engine) -> None:
    trail = fill(engine)
    tamper(
        engine,
        "UPDATE audit_events SET seq = 900 WHERE seq = 5",
        "UPDATE audit_events SET seq = 5 WHERE seq = 8",
        "UPDATE audit_events SET seq = 8 WHERE seq = 900",
    )
    result = trail.verify()
    assert result.bad == 5 and "written as record 8" in result.problem


@pytest.mark.parametrize("forged", [1, 3])
def test_inserted_records_are_named(engine: Engine, forged: int) -> None:
    trail = fill(engine)
    moves = [f"UPDATE audit_events SET seq = {seq + forged} WHERE seq = {seq}" for seq in range(12, 6, -1)]
    columns = "at, actor, action, object, version, reason, run_id, detail"
    tamper(engine, *moves)
    for seq in range(7, 7 + forged):
        tamper(
            engine,
            f"INSERT INTO audit_events (seq, {columns}, previous, digest) "
            f"SELECT {seq}, {columns}, digest, '' FROM audit_events WHERE seq = {seq - 1}",
        )
        tamper(engine, redigest(engine, seq))
    result = trail.verify()
    assert result.bad == 7 and "inserted" in result.problem


def test_copy_over_another_record_is_named(engine: Engine) -> None:
    trail = fill(engine)
    columns = "at, actor, action, object, version, reason, run_id, detail, previous, digest"
    tamper(
        engine,
        "DELETE FROM audit_events WHERE seq = 9",
        f"INSERT INTO audit_events (seq, {columns}) SELECT 9, {columns} FROM audit_events WHERE seq = 4",
    )
    result = trail.verify()
    assert result.bad == 9 and "copy of record 4" in result.problem


def test_record_before_the_first_is_named(engine: Engine) -> None:
    trail = fill(engine)
    tamper(engine, "UPDATE audit_events SET seq = 0 WHERE seq = 12")
    result = trail.verify()
    assert result.bad == 0 and "inserted" in result.problem


def test_cut_off_tail_is_found_by_anchor(engine: Engine) -> None:
    stored: dict[str, bytes] = {}
    trail = fill(engine)
    anchor = trail.anchor(stored.__setitem__)
    tamper(engine, "DELETE FROM audit_events WHERE seq > 9")
    assert trail.verify().ok  # the chain alone cannot know
    result = trail.verify(anchor=anchor)
    assert result.bad == 10 and "cut off" in result.problem
    (name, body) = stored.popitem()
    assert name.startswith("audit/anchors/000000000012-") and Anchor.from_json(body) == anchor
    assert set(json.loads(body)) == {"format", "seq", "digest", "at"}


def test_whole_trail_removed_is_found_by_anchor(engine: Engine) -> None:
    trail = fill(engine)
    anchor = trail.anchor(lambda key, body: None)
    tamper(engine, "DELETE FROM audit_events")
    assert trail.verify(anchor=anchor).bad == 1


def test_rewritten_history_is_found_by_anchors(engine: Engine) -> None:
    trail = fill(engine, 4)
    anchors = [trail.anchor(lambda key, body: None)]
    fill(engine, 4)
    anchors.append(trail.anchor(lambda key, body: None))
    fill(engine, 4)
    tamper(engine, "UPDATE audit_events SET actor = 'nobody' WHERE seq = 6")
    tamper(engine, redigest(engine, 6))
    for seq in range(7, 13):
        previous = f"(SELECT digest FROM audit_events WHERE seq = {seq - 1})"
        tamper(engine, f"UPDATE audit_events SET previous = {previous} WHERE seq = {seq}")
        tamper(engine, redigest(engine, seq))
    assert trail.verify().ok
    result = trail.verify(anchor=anchors)
    assert result.bad == 5 and result.checked == 4 and "rewritten" in result.problem
    assert trail.verify(anchor=anchors[0]).ok


def test_anchor_of_older_head_stays_good(engine: Engine) -> None:
    trail = AuditTrail(engine)
    empty = trail.anchor(lambda key, body: None)
    fill(engine, 3)
    middle = trail.anchor(lambda key, body: None)
    fill(engine, 3)
    result = trail.verify(anchor=[empty, middle])
    assert result.ok and result.anchors == 2


def test_broken_anchor_file_is_refused() -> None:
    with pytest.raises(TrialOpsError, match="not an audit anchor"):
        Anchor.from_json(b'{"seq": 3}')


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET reason = 'x' WHERE seq = 2",
        "DELETE FROM audit_events WHERE seq = 2",
        "DELETE FROM audit_events",
        "REPLACE",
        "TRUNCATE audit_events",
    ],
)
def test_append_only(engine: Engine, statement: str) -> None:
    trail = fill(engine, 3)
    sqlite = engine.dialect.name == "sqlite"
    if statement == "REPLACE":
        columns = "at, actor, action, object, version, reason, run_id, detail, previous, digest"
        verb, tail = (
            ("INSERT OR REPLACE", "") if sqlite else ("INSERT", " ON CONFLICT (seq) DO UPDATE SET reason = 'x'")
        )
        rows = f"SELECT 2, {columns} FROM audit_events WHERE seq = 3"
        statement = f"{verb} INTO audit_events (seq, {columns}) {rows}{tail}"
    if statement.startswith("TRUNCATE") and sqlite:
        pytest.skip("SQLite has no TRUNCATE")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert trail.verify().checked == 3


@pytest.mark.parametrize(
    "detail",
    [
        {"x": float("nan")},
        {"x": b"bytes"},
        {"x": {1, 2}},
        {1: "number as key"},
        {"a": [{"b": {2: "deep"}}]},
        {"big": "x" * 33_000},
    ],
    ids=["nan", "bytes", "set", "key", "deep key", "large"],
)
def test_detail_must_be_small_json(engine: Engine, detail: dict[str, object]) -> None:
    trail = AuditTrail(engine)
    with pytest.raises(TrialOpsError) as caught:
        trail.append(actor="a", action="b", object="c", detail=detail)
    assert caught.value.fix and trail.head()[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"actor": ""},
        {"action": " "},
        {"object": ""},
        {"reason": "a\0b"},
        {"version": 3},
        {"reason": "\ud800"},
    ],
)
def test_fields_must_be_text(engine: Engine, change: dict[str, object]) -> None:
    fields = {"actor": "a", "action": "b", "object": "c"} | change
    with pytest.raises(TrialOpsError, match=next(iter(change))):
        AuditTrail(engine).append(**fields)  # type: ignore[arg-type]


def test_append_in_a_rolled_back_transaction_leaves_nothing(engine: Engine) -> None:
    trail = fill(engine, 2)
    with pytest.raises(RuntimeError), engine.begin() as connection:
        trail.append(actor="a", action="b", object="c", connection=connection)
        raise RuntimeError
    assert trail.append(actor="a", action="b", object="c").seq == 3
    assert trail.verify().ok


def test_verify_reports_progress(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialops.governance.chain._YIELD", 5)
    seen: list[float] = []
    fill(engine, 12).verify(progress=lambda message, fraction: seen.append(fraction))
    assert seen == [pytest.approx(5 / 12), pytest.approx(10 / 12)]


def _append_many(url: str, worker: int, count: int) -> None:
    trail = AuditTrail(connect(url))
    for number in range(count):
        trail.append(actor=f"worker-{worker}", action="write", object="raw/lb", detail={"n": number})


def _at_once(target: Callable[..., None], arguments: list[tuple[object, ...]]) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=target, args=args) for args in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


def test_four_processes_append_one_chain(engine: Engine, database_url: str) -> None:
    _at_once(_append_many, [(database_url, worker, 50) for worker in range(4)])
    trail = AuditTrail(engine)
    result = trail.verify()
    assert result.ok and result.checked == 200
    for worker in range(4):
        assert [e.detail["n"] for e in trail.events() if e.actor == f"worker-{worker}"] == list(range(50))
