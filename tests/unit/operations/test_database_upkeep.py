"""What is said of a database and done to it, on real ones: empty space, indexes, transactions, archiving."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from components.operations import back_up_database, inspect_database, tend_database, verify_backup
from tests.support.homes import artifact, leave, live_in
from trialops.alerts.raise_alert import register_of
from trialops.errors import TrialOpsError
from trialops.operations.backup_archive import Backup, find
from trialops.operations.backup_rotation import kept, rotate
from trialops.operations.database_facts import DatabaseFacts, ForeignKey, IndexFacts, TableFacts, look
from trialops.operations.database_findings import duplicates, judge, upkeep, without_index
from trialops.operations.database_operator import ClinicalDatabaseOperator, recovery
from trialops.operations.database_policy import DatabasePolicy, default_database_policy, parse
from trialops.privacy import holds
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.database import connect, writing

POLICY = default_database_policy()


def with_figures(**inspect: dict[str, float]) -> DatabasePolicy:
    return dataclasses.replace(POLICY, inspect={**POLICY.inspect, **inspect})


def states(facts: DatabaseFacts, policy: DatabasePolicy = POLICY) -> dict[str, str]:
    return {found.check: found.state for found in judge(facts, policy)}


@pytest.fixture(scope="module")
def worn(postgres_url: str) -> Iterator[Engine]:
    """A PostgreSQL database with a bloated table, and indexes as people leave them."""
    import psycopg

    server = postgres_url.partition("?host=")[2]
    with psycopg.connect(f"host={server} user=trialops dbname=postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE worn")
    engine = connect(postgres_url.replace("/postgres?", "/worn?"))
    with writing(engine) as connection:
        for statement in (
            "CREATE TABLE sites (id INT PRIMARY KEY, name TEXT)",
            "CREATE TABLE visits (id INT PRIMARY KEY, site INT REFERENCES sites, note TEXT, day INT)",
            "INSERT INTO sites SELECT n, 'site ' || n FROM generate_series(1, 50) n",
            "INSERT INTO visits SELECT n, 1 + mod(n, 50), repeat('x',99), mod(n, 300) FROM generate_series(1, 20000) n",
            "CREATE INDEX visits_day ON visits (day)",
            "CREATE INDEX visits_day_too ON visits (day)",
            "CREATE INDEX visits_note_day ON visits (note, day)",
            "ALTER TABLE visits SET (autovacuum_enabled = false)",
        ):
            connection.exec_driver_sql(statement)
    yield engine
    engine.dispose()
    with psycopg.connect(f"host={server} user=trialops dbname=postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE worn WITH (FORCE)")


def statement(engine: Engine, text: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(text)


def test_postgres_is_looked_at_and_tended(worn: Engine) -> None:
    tight = with_figures(bloat={"share": 0.3, "min_mb": 0.1}, unused={"min_mb": 0.01, "counters_days": 0.0})
    tight = dataclasses.replace(tight, upkeep={**POLICY.upkeep, "reindex": {"share": 0.4, "min_mb": 0.05}})
    statement(worn, "ANALYZE")
    facts = look(worn)
    assert facts.kind == "postgresql" and facts.server.split(".")[0].isdigit() and facts.age is not None
    visits = next(t for t in facts.tables if t.name == "visits")
    assert visits.rows == 20_000 and visits.empty is not None and visits.empty < 0.15 and not visits.measured
    assert states(facts, tight)["bloat"] == "healthy"
    assert [(a.name, b.name) for a, b in duplicates(facts)] == [("visits_day", "visits_day_too")]
    assert without_index(facts) == ["visits (site)"]
    found = states(facts, tight)
    assert found["duplicate indexes"] == found["foreign keys without index"] == found["unused indexes"] == "degraded"
    young = with_figures(unused={"min_mb": 0.01, "counters_days": 7.0})
    assert states(facts, young)["unused indexes"] == "unknown"  # counters of today tell nothing

    statement(worn, "DELETE FROM visits WHERE id > 2000")
    statement(worn, "SELECT pg_stat_force_next_flush()")
    with worn.connect() as connection:  # the counters of the session that deleted have then been told
        connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
    statement(worn, "VACUUM visits")
    statement(worn, "ANALYZE visits")
    facts = look(worn)
    estimated = next(t.empty for t in facts.tables if t.name == "visits")
    statement(worn, "CREATE EXTENSION pgstattuple")
    measured = look(worn)
    visits = next(t for t in measured.tables if t.name == "visits")
    assert visits.measured and visits.empty is not None and estimated is not None
    # The dead rows stood at the end of the file, so the file is short again, or it is mostly empty: both ways agree.
    assert abs(visits.empty - estimated) < 0.2
    index = next(i for i in measured.indexes if i.name == "visits_day")
    assert index.measured and index.empty is not None and index.empty > 0.5
    wanted = [u.statement for u in upkeep(measured, tight)]
    assert 'REINDEX INDEX CONCURRENTLY "visits_day"' in wanted
    from trialops.operations.database_postgres import tend

    assert {error for _, error in tend(worn, wanted)} == {""}
    again = next(i for i in look(worn).indexes if i.name == "visits_day")
    assert again.empty is not None and again.empty < 0.2 and again.size < index.size


def test_dead_rows_are_vacuumed_and_a_failing_statement_is_told(worn: Engine) -> None:
    from trialops.operations.database_postgres import tend

    facts = DatabaseFacts("postgresql", "15", 1, (TableFacts("visits", 1000, dead=5000),
                          TableFacts("sites", 5, dead=1), TableFacts("fresh", 0, analyzed=False)),
                          (IndexFacts("bad", "visits", ("day",), valid=False),))  # fmt: skip
    assert [u.statement for u in upkeep(facts, POLICY)] == [
        'VACUUM (ANALYZE) "visits"', 'ANALYZE "fresh"', 'REINDEX INDEX CONCURRENTLY "bad"',
    ]  # fmt: skip
    done = tend(worn, [u.statement for u in upkeep(facts, POLICY)])
    assert [error for _, error in done] == ["", "UndefinedTable", "UndefinedTable"]


def test_connections_transactions_and_wraparound_are_judged(worn: Engine) -> None:
    with worn.connect() as open_one:
        open_one.exec_driver_sql("SELECT txid_current()")
        statement(worn, "SELECT pg_sleep(0.05)")
        facts = look(worn)
        assert facts.connections is not None and facts.connections[0] >= 2 and facts.connections[1] > 10
        assert facts.longest is not None and facts.longest > 0
    calm = dataclasses.replace(facts, age=1000, longest=1.0, connections=(5, 97))
    assert {states(calm)[c] for c in ("transaction id age", "longest transaction", "connections")} == {"healthy"}
    bad = dataclasses.replace(facts, age=600_000_000, longest=10_000.0, connections=(79, 97))
    found = states(bad)
    assert (found["transaction id age"], found["longest transaction"], found["connections"]) == (
        "degraded", "broken", "degraded",
    )  # fmt: skip


def test_archiving_is_told_as_it_is(worn: Engine) -> None:
    facts = look(worn)
    assert facts.archiving["archive_mode"] == "off"
    point = next(f for f in judge(facts, POLICY) if f.check == "point-in-time recovery")
    assert "not configured (archive_mode off)" in point.detail and point.state == "healthy"
    needed = dataclasses.replace(POLICY, backup=dataclasses.replace(POLICY.backup, point_in_time=True))
    assert states(facts, needed)["point-in-time recovery"] == "degraded"
    on = {"archive_mode": "on", "wal_level": "replica", "has_command": "True", "failed": "3"}
    cases = {
        "healthy": {"last_archived": "2026-01-02", "last_failed": "2026-01-01"},
        "broken": {"last_archived": "2026-01-01", "last_failed": "2026-01-02"},
        "unknown": {"last_archived": "", "last_failed": ""},
    }
    for state, more in cases.items():
        assert states(dataclasses.replace(facts, archiving={**on, **more}))["point-in-time recovery"] == state


def test_indexes_that_uphold_something_are_no_duplicates() -> None:
    def facts(*indexes: IndexFacts, keys: tuple[ForeignKey, ...] = ()) -> DatabaseFacts:
        return DatabaseFacts("postgresql", "15", 1, (), indexes, keys)

    key = IndexFacts("t_pkey", "t", ("id",), unique=True)
    plain = IndexFacts("t_id", "t", ("id",))
    assert [(a.name, b.name) for a, b in duplicates(facts(key, plain))] == [("t_id", "t_pkey")]
    longer = IndexFacts("t_id_day", "t", ("id", "day"))
    assert [a.name for a, _ in duplicates(facts(key, longer))] == []  # the key stays, whatever else there is
    assert [a.name for a, _ in duplicates(facts(plain, longer))] == ["t_id"]
    partial = IndexFacts("t_some", "t", ("id",), where="day > 3")
    assert duplicates(facts(plain, partial)) == []
    twice = IndexFacts("t_unique", "t", ("id",), unique=True)
    assert len(duplicates(facts(key, twice))) == 1
    foreign = (ForeignKey("t", ("day", "id"), "u"),)
    assert without_index(facts(longer, keys=foreign)) == [] and without_index(facts(partial, keys=foreign)) != []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    live_in(tmp_path / "home", monkeypatch)
    yield Step("look", {}, settings())
    leave()


def test_a_sqlite_file_is_looked_at_and_tended(home: Step) -> None:
    with writing(home.engine) as connection:
        connection.exec_driver_sql("CREATE TABLE big (id INTEGER PRIMARY KEY, text TEXT, a INT REFERENCES big(id))")
        connection.exec_driver_sql("CREATE INDEX big_text ON big (text)")
        connection.exec_driver_sql("CREATE INDEX big_text_too ON big (text)")
        connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) "
            "INSERT INTO big SELECT i, printf('%0300d', i), NULL FROM n"
        )
        connection.exec_driver_sql("DELETE FROM big WHERE id > 100")
    facts = look(home.engine)
    found = states(facts)
    assert facts.freelist is not None and facts.freelist[0] > 300 and found["free pages"] == "degraded"
    assert [a.name for a, _ in duplicates(facts) if a.table == "big"] == ["big_text"]
    assert "big (a)" in without_index(facts) and found["integrity"] == "healthy"
    before = Path(str(home.engine.url.database)).stat().st_size
    result, report = artifact(home.settings.home, "result"), artifact(home.settings.home, "report")
    assert tend_database.python_func(result, report, apply=False) == "plan"
    assert look(home.engine).freelist == facts.freelist
    assert tend_database.python_func(result, report, apply=True) == "done"
    after = look(home.engine)
    assert after.freelist is not None and after.freelist[0] == 0 and states(after)["free pages"] == "healthy"
    assert Path(str(home.engine.url.database)).stat().st_size < before / 2
    assert next(t for t in after.tables if t.name == "big").rows == 100
    assert inspect_database.python_func(result, report) == "degraded"  # the indexes are still there
    told = json.loads(Path(result.path).read_text())
    assert {f["check"] for f in told["findings"]} >= {"integrity", "free pages", "duplicate indexes"}
    firing = {a.labels["check"] for a in register_of(home).known().values() if a.firing}
    assert firing == {"duplicate indexes", "foreign keys without index"}


def test_a_day_of_backups(home: Step) -> None:
    result, report = artifact(home.settings.home, "result"), artifact(home.settings.home, "report")
    assert {f.state for f in recovery(home, POLICY, dt.datetime.now(dt.UTC))} == {"broken", "unknown"}
    with pytest.raises(TrialOpsError, match="no backup"):
        verify_backup.python_func(result, report)
    made = back_up_database.python_func(result, report)
    assert verify_backup.python_func(result, report, backup=made) == "verified"
    html = Path(report.path).read_text()
    assert "it is as it was backed up" in html and "<svg" in html and "recovery point" in html
    now = dt.datetime.now(dt.UTC)
    assert {f.state for f in recovery(home, POLICY, now)} == {"healthy"}
    late = recovery(home, POLICY, now + dt.timedelta(hours=30))
    assert [f.state for f in late] == ["broken", "healthy"] and late[0].value == pytest.approx(30, abs=0.1)
    # A part is damaged: the step fails, and people are told; the next good one ends the alert.
    part = find(home.objects, "trialops", made).body["parts"][0]["key"]
    data = home.objects.get(part)
    home.objects.put(part, data[:-1])
    with pytest.raises(TrialOpsError, match="bytes instead of"):
        verify_backup.python_func(result, report, backup=made)
    decided = json.loads(home.objects.get("runs/run-1/steps/verify-backup/record.json"))["decision"]
    assert decided["decision"] == "failed" and decided["policy"]["digest"] == POLICY.digest
    firing = {(a.name, a.severity) for a in register_of(home).known().values() if a.firing}
    assert ("DatabaseBackup", "critical") in firing
    home.objects.put(part, data)
    assert verify_backup.python_func(result, report, backup=made) == "verified"
    assert not [a for a in register_of(home).known().values() if a.firing and a.name == "DatabaseBackup"]
    actions = [e.action for e in home.trail.events() if e.action.startswith("backup.")]
    assert actions == ["backup.create", "backup.verify", "backup.verify", "backup.verify"]


def old(home: Step, at: dt.datetime) -> Backup:
    """A backup that says it is of another day."""
    from trialops.operations.backup_archive import finish, write_parts

    id_ = f"{at:%Y%m%dT%H%M%SZ}-000000"
    parts, digest, size = write_parts([b"x"], f"backups/trialops/{id_}", 100, vault=home.vault, objects=home.objects)
    body = {"started": at.isoformat(), "parts": parts, "kind": "sqlite", "sha256": digest, "bytes": size}
    return finish("trialops", id_, body, vault=home.vault, objects=home.objects)


def test_days_weeks_and_months_are_kept_and_the_last_verified_always(home: Step) -> None:
    now = dt.datetime(2026, 6, 30, 12, tzinfo=dt.UTC)
    known = [old(home, now - dt.timedelta(days=n, hours=3)) for n in range(400)]
    found = kept(known, [], POLICY.backup, now)
    days = sorted((now - dt.datetime.fromisoformat(b.started)).days for b in known if b.id in found)
    assert days[:7] == list(range(7)) and max(days) >= 330 and 17 <= len(days) <= 24
    verified = known[200].id
    assert kept(known, [verified], POLICY.backup, now)[verified] == "the newest verified"
    hold = holds.place(home.engine, record_class="database backups", object=f"backups/trialops/{known[100].id}/*",
                       actor="counsel", reason="litigation")  # fmt: skip
    removed, reasons = rotate(home, "trialops", POLICY.backup, now)
    assert known[100].id not in removed and reasons[known[100].id] == "legal hold"
    assert len(removed) + len(reasons) == 400
    gone = f"backups/trialops/{removed[0]}/"
    assert not [key for key in home.objects.list("backups/trialops") if key.startswith(gone) and "manifest" in key]
    holds.release(home.engine, hold.hold, actor="counsel", reason="settled")
    again, _ = rotate(home, "trialops", POLICY.backup, now)
    assert again == [known[100].id]


def test_the_operator_and_its_policy_refuse_what_makes_no_sense(home: Step) -> None:
    import yaml

    from trialops.operations import database_policy

    with pytest.raises(TrialOpsError, match="no task"):
        ClinicalDatabaseOperator().run(home, "polish")  # type: ignore[arg-type]
    with pytest.raises(TrialOpsError, match="no date"):
        ClinicalDatabaseOperator().run(home, "back up", as_of="yesterday")
    data = yaml.safe_load(Path(database_policy.__file__).with_name("database.yaml").read_text("utf-8"))
    assert parse(data).digest == POLICY.digest
    with pytest.raises(TrialOpsError, match="makes no sense"):
        parse({**data, "backup": {**data["backup"], "part_mb": 0}})
    with pytest.raises(TrialOpsError, match="cannot be read"):
        parse({**data, "backup": {}})
