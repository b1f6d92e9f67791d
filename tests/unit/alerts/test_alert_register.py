"""The register of alerts and the call that raises them, on SQLite and PostgreSQL."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from trialops.alerts.raise_alert import Alert, raise_alert, raise_alerts, register_of, resolve_alert
from trialops.alerts.register import AlertRegister, fingerprint
from trialops.errors import TrialOpsError
from trialops.settings import settings
from trialops.stores.database import connect, migrate

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ALERT = Alert("BackupNotVerified", "critical", {"area": "infrastructure", "run_id": "r1"}, "A table differs.", "backup")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRIALOPS_ACTOR", "tester")
    settings.cache_clear()


def test_raised_again_it_is_counted_and_ended_once(engine: sa.Engine) -> None:
    first = raise_alert(engine, ALERT, now=NOW)
    later = Alert(**{**vars(ALERT), "labels": {"area": "infrastructure", "run_id": "r2"}})
    assert raise_alert(engine, later, now=NOW + timedelta(hours=1)) == first  # the run is no part of what it is
    register = register_of(engine)
    alert = register.known()[first]
    assert (alert.count, alert.episode, alert.state, alert.labels["run_id"]) == (2, 1, "firing", "r2")
    assert alert.since.startswith("2026-03-02T08") and alert.seen.startswith("2026-03-02T09")
    assert resolve_alert(engine, "BackupNotVerified", {"area": "infrastructure"}, now=NOW + timedelta(hours=2)) == 1
    assert resolve_alert(engine, "BackupNotVerified", {"area": "infrastructure"}) == 0
    assert resolve_alert(engine, "BackupNotVerified", {"area": "data"}) == 0
    raise_alert(engine, ALERT, now=NOW + timedelta(hours=3))
    assert [(e.event, e.alert.episode, e.actor) for e in register.history(first[:10])] == [
        ("firing", 1, "tester"),
        ("repeated", 1, "tester"),
        ("resolved", 1, "tester"),
        ("firing", 2, "tester"),
    ]


def test_severity_and_labels_make_the_alert(engine: sa.Engine) -> None:
    other = [Alert("BackupNotVerified", "warning", {"area": "infrastructure"}), Alert("BackupNotVerified", "critical")]
    assert len(set(raise_alerts(engine, [ALERT, *other], now=NOW))) == 3


def test_many_are_raised_in_one_transaction_and_none_is_lost(engine: sa.Engine) -> None:
    alerts = [Alert(f"A{n % 50}", "warning", {"area": "data"}, f"number {n}") for n in range(1000)]
    raise_alerts(engine, alerts, now=NOW)
    known = register_of(engine).known()
    assert len(known) == 50 and all(a.count == 20 for a in known.values())
    assert len(register_of(engine).history()) == 1000


@pytest.mark.parametrize(
    "alert",
    [
        Alert("A", "grave"),  # type: ignore[arg-type]
        Alert("", "info"),
        Alert("A", "info", {"usubjid": "x"}),
        Alert("A", "info", {"patient_id": "x"}),
        Alert("A", "info", {"not a label": "x"}),
    ],
    ids=["severity", "no name", "usubjid", "patient", "blank"],
)
def test_what_is_no_alert_is_refused_and_leaves_nothing(engine: sa.Engine, alert: Alert) -> None:
    with pytest.raises(TrialOpsError):
        raise_alerts(engine, [ALERT, alert], now=NOW)
    assert register_of(engine).known() == {}


@pytest.mark.parametrize("table", ["alert_events", "alert_messages", "alert_silences", "alert_measures"])
@pytest.mark.parametrize("verb", ["UPDATE {} SET study = 'x'", "DELETE FROM {}"])
def test_rows_are_never_changed_or_removed(tmp_path: Path, table: str, verb: str) -> None:
    engine = connect(f"sqlite:///{tmp_path}/a.db")
    migrate(engine)
    with engine.begin() as connection:
        columns = sa.inspect(connection).get_columns(table)
        values = ", ".join(
            "0" if "CHAR" not in str(c["type"]) and "TEXT" not in str(c["type"]) else "'a'" for c in columns
        )
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({values})")
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(verb.format(table))


def test_rows_are_never_changed_on_postgresql(postgres_database: str) -> None:
    engine = connect(postgres_database)
    migrate(engine)
    raise_alert(engine, ALERT, now=NOW)
    for verb in ("UPDATE alert_events SET event = 'x'", "DELETE FROM alert_events", "TRUNCATE alert_events"):
        with pytest.raises(sa.exc.DatabaseError), engine.begin() as connection:
            connection.exec_driver_sql(verb)
    assert len(register_of(engine).history()) == 1
    engine.dispose()


def _raise_many(url: str, number: int) -> None:
    engine = connect(url)
    for n in range(20):
        raise_alert(engine, Alert("Same", "warning", {"area": "data"}, f"{number}.{n}"), now=NOW)


def test_processes_that_raise_the_same_at_once_are_all_counted(database_url: str) -> None:
    migrate(connect(database_url))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_raise_many, args=(database_url, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 2
    engine = connect(database_url)
    (alert,) = register_of(engine).known().values()
    history = register_of(engine).history()
    assert alert.count == 40 and [e.alert.seq for e in history] == list(range(1, 41))
    assert len({e.alert.summary for e in history}) == 40
    engine.dispose()


def test_studies_do_not_see_each_other(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/a.db")
    migrate(engine)
    raise_alert(engine, ALERT, now=NOW)
    assert AlertRegister(engine, "another").known() == {}
    assert AlertRegister(engine, settings().study).latest() == "2026-03-02T08:00:00.000000Z"


def test_the_fingerprint_is_of_what_the_alert_is() -> None:
    base = fingerprint("A", "info", {"area": "x", "step": "s"})
    assert base == fingerprint("A", "info", {"step": "s", "area": "x", "run_id": "7", "pod": "p", "workflow": "w"})
    others = [
        fingerprint("B", "info", {"area": "x", "step": "s"}),
        fingerprint("A", "warning", {"area": "x", "step": "s"}),
    ]
    others += [fingerprint("A", "info", {"area": "x"}), fingerprint("A", "info", {"area": "xs", "step": ""})]
    assert len({base, *others}) == 5
