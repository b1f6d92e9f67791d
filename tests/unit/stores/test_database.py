"""The database: engines, migrations, runs and the promotion log, on SQLite and PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from trialops.errors import TrialOpsError
from trialops.stores import database, run_log
from trialops.stores.database import connect, migrate, reading, revisions, schema_version, writing


def test_migrations_up_from_empty(database_url: str) -> None:
    engine = connect(database_url)
    assert schema_version(engine) == ""
    assert migrate(engine) == revisions()
    assert schema_version(engine) == revisions()[-1]
    assert migrate(engine) == []


def test_migrated_schema_is_the_declared_one(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from trialops.stores.tables import APPEND_ONLY, metadata

    with writing(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        source = "SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'"
        if engine.dialect.name == "postgresql":
            source = "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal"
        assert {row[0] for row in connection.exec_driver_sql(source)} == set(APPEND_ONLY)


def test_upkeep_has_nothing_to_say_of_our_own_schema(engine: Engine) -> None:
    from trialops.operations.database_facts import look
    from trialops.operations.database_findings import duplicates, without_index

    facts = look(engine)
    assert [(one.name, other.name) for one, other in duplicates(facts)] == []
    assert without_index(facts) == []


def test_file_names_agree_with_alembic() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == revisions()
    assert scripts.get_heads() == [revisions()[-1]]


def test_fast_path_does_not_import_alembic(engine: Engine, database_url: str) -> None:
    program = (
        "import sys; from trialops.stores.database import connect, migrate\n"
        f"assert migrate(connect({database_url!r})) == []; assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(database.__file__).parents[2])


def _migrate(url: str, results: multiprocessing.Queue[list[str]]) -> None:
    results.put(migrate(connect(url)))


def test_several_processes_migrate_once(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_migrate, args=(database_url, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    applied = sorted(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
    assert applied == [[], [], revisions()]


def test_failed_migration_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connect(database_url)
    upgrade = database._upgrade

    def die(connection: sa.Connection) -> None:
        upgrade(connection)
        raise RuntimeError("killed")

    monkeypatch.setattr(database, "_upgrade", die)
    with pytest.raises(RuntimeError):
        migrate(engine)
    assert schema_version(engine) == "" and sa.inspect(engine).get_table_names() == []
    monkeypatch.undo()
    assert migrate(engine) == revisions()


def test_newer_schema_is_refused(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(TrialOpsError, match="schema 9999"):
        migrate(engine)


def test_one_engine_per_process(database_url: str) -> None:
    parent = connect(database_url)
    assert connect(database_url) is parent
    child = os.fork()
    if child == 0:
        os._exit(0 if connect(database_url) is not parent else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_sqlite_settings(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/new/folder/a.db")
    with reading(engine) as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        }
    assert settings == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 30_000, "synchronous": 2}


def test_reader_does_not_wait_for_writer_nor_see_its_rows(engine: Engine) -> None:
    with writing(engine) as writer:
        writer.exec_driver_sql("INSERT INTO runs VALUES ('r', 'p', '{}', 'running', '', '', '', '')")
        with reading(engine) as reader:
            assert reader.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 0
    with reading(engine) as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 1


def test_reading_leaves_no_setting_behind(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one isolation level")
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "repeatable read"
        with pytest.raises(sa.exc.DBAPIError, match="read-only"):
            connection.exec_driver_sql("DELETE FROM runs")
    with writing(engine) as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
        assert connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "off"


def test_writers_take_turns_from_their_first_read(tmp_path: Path) -> None:
    first = connect(f"sqlite:///{tmp_path}/a.db")
    migrate(first)
    second = sa.create_engine(f"sqlite:///{tmp_path}/a.db", connect_args={"timeout": 0})
    with writing(first) as connection:
        connection.exec_driver_sql("SELECT * FROM runs")
        with pytest.raises(sa.exc.OperationalError, match="locked"), second.connect() as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u@h/d", "no url at all"])
def test_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(TrialOpsError) as caught:
        connect(url)
    assert caught.value.fix


def test_unreachable_server_is_named_without_password(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError) as caught:
        migrate(connect(f"postgresql://ann:opensesame@/db?host={tmp_path}"))
    assert str(tmp_path) in str(caught.value).replace("%2F", "/") and "opensesame" not in str(caught.value)


def test_statement_values_stay_out_of_messages(engine: Engine) -> None:
    from trialops.stores.tables import runs

    with pytest.raises(sa.exc.DBAPIError) as caught, writing(engine) as connection:
        connection.execute(runs.insert().values(run_id="01-701-1015", pipeline=None))
    assert "parameters hidden" in str(caught.value)


def test_run_from_start_to_end(engine: Engine) -> None:
    started = run_log.record_run(engine, "r1", "safety", parameters={"alpha": 0.05, "arms": ["a"]}, code_version="0.1")
    assert (started.state, started.finished, started.parameters) == (
        "running",
        "",
        {"alpha": 0.05, "arms": ["a"]},
    )
    finished = run_log.finish_run(engine, "r1", "succeeded", page="runs/r1/index.html")
    assert finished == run_log.run(engine, "r1")
    assert finished.state == "succeeded" and finished.finished >= finished.started == started.started
    assert finished.page == "runs/r1/index.html"


def test_retried_run_keeps_its_start(engine: Engine) -> None:
    first = run_log.record_run(engine, "r1", "safety", code_version="0.1", page="p")
    run_log.finish_run(engine, "r1", "failed")
    again = run_log.record_run(engine, "r1", "safety")
    assert again == first
    with pytest.raises(TrialOpsError, match="'safety'"):
        run_log.record_run(engine, "r1", "enrolment")


def test_unknown_run_and_state_are_refused(engine: Engine) -> None:
    with pytest.raises(TrialOpsError, match="r9"):
        run_log.run(engine, "r9")
    with pytest.raises(TrialOpsError, match="r9"):
        run_log.finish_run(engine, "r9", "failed")
    with pytest.raises(TrialOpsError, match="running"):
        run_log.finish_run(engine, "r9", "running")


def test_runs_are_listed_newest_first(engine: Engine) -> None:
    for number in range(4):
        run_log.record_run(engine, f"r{number}", "even" if number % 2 == 0 else "odd")
    run_log.finish_run(engine, "r2", "failed")
    assert [run.run_id for run in run_log.runs(engine, limit=3)] == ["r3", "r2", "r1"]
    assert [run.run_id for run in run_log.runs(engine, pipeline="even", state="running")] == ["r0"]


def promote(engine: Engine, **change: object) -> database.Promotion:
    fields: dict[str, object] = {
        "model": "withdrawal",
        "version": "3",
        "alias": "champion",
        "action": "promote",
        "from_version": "2",
        "to_version": "3",
        "reason": "better calibrated",
        "decision": {"auroc": {"new": 0.71, "old": 0.69}, "policy": "p1"},
        "run_id": "r1",
        "actor": "ann",
    }
    return database.record_promotion(engine, **(fields | change))  # type: ignore[arg-type]


def test_promotion_log(engine: Engine) -> None:
    first = promote(engine)
    second = promote(engine, action="rollback", to_version="2", from_version="3", decision=None)
    promote(engine, model="other")
    assert database.promotions(engine, "withdrawal") == [first, second]
    assert first.decision["auroc"]["new"] == 0.71 and second.decision == {}
    assert [entry.id for entry in database.promotions(engine)] == [1, 2, 3]


def test_promotion_is_checked(engine: Engine) -> None:
    with pytest.raises(TrialOpsError, match="'demote'"):
        promote(engine, action="demote")
    with pytest.raises(TrialOpsError, match="not JSON"):
        promote(engine, decision={"auroc": float("nan")})
    assert database.promotions(engine) == []


@pytest.mark.parametrize("statement", ["UPDATE promotions SET reason = 'x'", "DELETE FROM promotions"])
def test_promotions_are_append_only(engine: Engine, statement: str) -> None:
    promote(engine)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), writing(engine) as connection:
        connection.exec_driver_sql(statement)
    assert len(database.promotions(engine)) == 1


def _promote_many(url: str, worker: int) -> None:
    for _ in range(10):
        promote(connect(url), actor=f"w{worker}")


def test_promotions_of_several_processes_are_all_kept(engine: Engine, database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    target: Callable[..., None] = _promote_many
    workers = [context.Process(target=target, args=(database_url, worker)) for worker in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    log = database.promotions(engine)
    assert len(log) == 20 and len({entry.id for entry in log}) == 20
