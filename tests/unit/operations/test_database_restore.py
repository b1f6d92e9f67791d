"""Restoring for use: an empty database is filled, a full one replaced only when asked for twice, and it is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from tests.support.homes import leave, live_in
from trialops.governance.audit import AuditTrail
from trialops.operations.backup_archive import backups
from trialops.operations.backup_make import database_name
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.database import connect, reading, writing


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    monkeypatch.setenv("TRIALOPS_DATABASE_URL", database_url)
    live_in(tmp_path / "home", monkeypatch)
    step = Step("restore", {}, settings())
    for number in range(5):
        step.trail.append(actor="tester", action="data.read", object=f"x{number}")
    with writing(step.engine) as connection:
        connection.exec_driver_sql("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute(sa.text("INSERT INTO notes VALUES (1, 'first'), (2, 'second')"))
    yield step
    step.engine.dispose()
    leave()


def command(*arguments: str) -> Result:
    from pipelines.cli import cli

    return CliRunner().invoke(cli, ["database", *arguments])


def notes(url: str) -> list[tuple[int, str]]:
    engine = connect(url)
    with reading(engine) as connection:
        found = [(int(i), str(t)) for i, t in connection.exec_driver_sql("SELECT id, text FROM notes ORDER BY id")]
    engine.dispose()
    return found


def empty_beside(run: Step, tmp_path: Path) -> str:
    if run.engine.dialect.name == "sqlite":
        return f"sqlite:///{tmp_path / 'beside' / 'other.db'}"
    with run.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {run.engine.url.database}_beside")
    url = run.engine.url.set(database=f"{run.engine.url.database}_beside")
    return url.render_as_string(hide_password=False)


def test_a_backup_is_made_listed_verified_and_restored(run: Step, tmp_path: Path) -> None:
    assert "no backup of" in command("list").output
    made = command("backup")
    assert made.exit_code == 0 and "is verified" in made.output, made.output
    (one,) = backups(run.objects, database_name(run.engine))
    listed = json.loads(command("list", "--json").output)
    assert [(row["backup"], row["outcome"]) for row in listed] == [(one.id, "verified")]
    assert command("verify", one.id).exit_code == 0

    with writing(run.engine) as connection:
        connection.exec_driver_sql("UPDATE notes SET text = 'lost' WHERE id = 1")
    url = run.engine.url.render_as_string(hide_password=False)
    refused = command("restore", one.id, "--purpose", "the table was overwritten")
    assert refused.exit_code != 0 and "tables; nothing was changed" in refused.output
    assert notes(url) == [(1, "lost"), (2, "second")]
    assert command("restore", one.id).exit_code != 0  # without a purpose
    assert command("restore", one.id, "--purpose", "  ", "--force").exit_code != 0

    other = empty_beside(run, tmp_path)
    beside = command("restore", one.id, "--into", other, "--purpose", "to look at it")
    assert beside.exit_code == 0 and "0 differences" in beside.output, beside.output
    assert notes(other) == [(1, "first"), (2, "second")] and notes(url)[0] == (1, "lost")
    trail = AuditTrail(connect(other))
    assert bool(trail.verify()) and list(trail.events())[-1].action == "database.restore"
    connect(other).dispose()

    forced = command("restore", one.id, "--force", "--purpose", "the table was overwritten")
    assert forced.exit_code == 0 and "0 differences" in forced.output, forced.output
    assert notes(url) == [(1, "first"), (2, "second")]
    last = list(AuditTrail(run.engine).events())[-1]
    assert (last.action, last.reason, last.actor) == ("database.restore", "the table was overwritten", "tester")
    assert bool(AuditTrail(run.engine).verify())
    log = [json.loads(run.objects.get(key)) for key in run.objects.list("maintenance/restores")]
    assert [entry["state"] for entry in log] == ["begun", "done", "begun", "done"]
    if run.engine.dialect.name == "postgresql":
        with run.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"DROP DATABASE {run.engine.url.database}_beside WITH (FORCE)")


def test_a_damaged_backup_replaces_nothing(run: Step) -> None:
    assert command("backup", "--no-verify").exit_code == 0
    (one,) = backups(run.objects, database_name(run.engine))
    key = one.body["parts"][0]["key"]
    run.objects.put(key, run.objects.get(key)[:-3])
    assert command("verify").exit_code == 1
    assert json.loads(command("list", "--json").output)[0]["outcome"] == "failed"
    refused = command("restore", one.id, "--force", "--purpose", "it must come back")
    assert refused.exit_code != 0 and "bytes instead of" in refused.output
    assert len(notes(run.engine.url.render_as_string(hide_password=False))) == 2
    assert "no name of a backup" in command("verify", "../../x").output
