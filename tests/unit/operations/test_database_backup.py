"""Backups: restored and compared on both databases; whatever is altered, cut off or missing is reported."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.operations import backup_make
from trialops.operations.backup_archive import Backup, backups, find, last_check
from trialops.operations.backup_contents import DatabaseContents, compare
from trialops.operations.backup_make import back_up
from trialops.operations.backup_verify import Verification, verify
from trialops.operations.database_policy import DatabasePolicy, default_database_policy, parse
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.database import connect, migrate, writing
from trialops.stores.objects import ObjectStore
from trialops.stores.tables import APPEND_ONLY
from trialops.stores.vault import open_vault


def small_parts() -> DatabasePolicy:
    """Parts of 2 kB, so that a small database has several."""
    import yaml

    from trialops.operations import database_policy

    data = yaml.safe_load(Path(database_policy.__file__).with_name("database.yaml").read_text("utf-8"))
    data["backup"]["part_mb"] = 2 / 1024
    return parse(data)


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    """A step on a database of its own, with an audit trail and a table that is not the platform's."""
    monkeypatch.setenv("TRIALOPS_DATABASE_URL", database_url)
    live_in(tmp_path / "home", monkeypatch)
    step = Step("back-up-database", {}, settings())
    fill(step.engine)
    yield step
    step.engine.dispose()
    leave()


def fill(engine: Engine) -> None:
    trail = AuditTrail(engine)
    for number in range(40):
        trail.append(actor="tester", action="data.read", object=f"clean/lb@{number}", detail={"rows": number, "é": "ü"})
    blob, auto = (
        ("BYTEA", "BIGSERIAL PRIMARY KEY") if engine.dialect.name == "postgresql" else ("BLOB", "INTEGER PRIMARY KEY")
    )
    with writing(engine) as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE site_visits (id {auto}, site TEXT NOT NULL, hours DOUBLE PRECISION, raw {blob}, "
            "CONSTRAINT positive CHECK (hours >= 0))"
        )
        connection.exec_driver_sql("CREATE INDEX site_visits_site ON site_visits (site) WHERE hours > 1")
        rows = [
            {"s": f"site {n % 7}\t\\N", "h": None if n % 9 == 0 else n / 7, "r": bytes([n % 256, 0, 255])}
            for n in range(400)
        ]
        connection.execute(sa.text("INSERT INTO site_visits (site, hours, raw) VALUES (:s, :h, :r)"), rows)
        connection.execute(sa.text("INSERT INTO site_visits (site) VALUES ('same'), ('same'), ('')"))


def made(run: Step, **more: object) -> Backup:
    return back_up(
        run.engine,
        vault=run.vault,
        objects=run.objects,
        policy=small_parts(),
        workdir=run.workdir,
        **more,  # type: ignore[arg-type]
    )


def verified(run: Step, backup: Backup) -> Verification:
    return verify(backup, engine=run.engine, vault=run.vault, objects=run.objects, workdir=run.workdir)


def scratches(engine: Engine) -> list[str]:
    if engine.dialect.name == "sqlite":
        return []
    query = "SELECT datname FROM pg_database WHERE starts_with(datname, 'trialops_verify_')"
    with engine.connect() as connection:
        return [str(row[0]) for row in connection.exec_driver_sql(query)]


@pytest.mark.parametrize("programs", [True, False], ids=["programs", "by COPY"])
def test_a_backup_is_restored_and_compared_table_by_table(run: Step, programs: bool) -> None:
    backup = made(run, programs=programs)
    found = verified(run, backup)
    assert [c for c in found.checks if not c.ok] == [] and found.outcome == "verified"
    assert [c.name for c in found.checks] == [
        "manifest", "parts", "restore", "contents", "audit trail", "append-only tables",
    ]  # fmt: skip
    tables = backup.body["contents"]["tables"]
    name = "public.site_visits" if run.engine.dialect.name == "postgresql" else "site_visits"
    assert tables[name][0] == 403 and found.tables == (len(tables), sum(rows for rows, _ in tables.values()))
    assert len(tables) >= len(APPEND_ONLY) and set(backup.body["append_only"]) == set(APPEND_ONLY)
    assert backup.body["audit"]["seq"] == 40 and "40 records verified" in found.checks[4].detail
    wanted = {"sqlite": "sqlite", "postgresql": "pg_dump" if programs else "copy"}[run.engine.dialect.name]
    assert backup.body["method"] == wanted and len(backup.body["parts"]) > 1
    assert found.restore_seconds > 0 and scratches(run.engine) == []
    told = last_check(run.objects, backup)
    assert told is not None and told["outcome"] == "verified" and told["manifest"] == backup.manifest


def test_nothing_is_in_the_clear(run: Step) -> None:
    made(run)
    kept = b"".join(run.objects.get(key) for key in run.objects.list("backups"))
    assert (
        b"site 3" not in kept
        and b"clean/lb" not in kept
        and b"CREATE TABLE" not in kept
        and b"SQLite format" not in kept
    )
    assert not list((Path(settings().home) / "work").rglob("*.db"))


def flipped(data: bytes) -> bytes:
    return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]


def corrupt(objects: ObjectStore, backup: Backup, name: str) -> None:
    """Do one thing to a backup at rest."""
    manifest = f"{backup.prefix}/manifest.json"
    first, second = backup.body["parts"][0]["key"], backup.body["parts"][1]["key"]
    data, body = objects.get(first), json.loads(objects.get(manifest))
    if name == "bit":
        objects.put(first, flipped(data))
    elif name == "truncated":
        objects.put(first, data[:-7])
    elif name == "empty":
        objects.put(first, b"")
    elif name == "missing part":
        objects.delete(second)
    elif name == "swapped parts":
        objects.put(first, objects.get(second))
        objects.put(second, data)
    elif name == "not JSON":
        objects.put(manifest, b"{")
    else:
        if name == "no parts":
            body["body"]["parts"] = []
        elif name == "last part left out":
            body["body"]["parts"].pop()
        elif name == "manifest digest":
            body["body"]["parts"][0]["sha256"] = "0" * 64
        elif name == "manifest rows":
            table = next(iter(body["body"]["contents"]["tables"]))
            body["body"]["contents"]["tables"][table][0] += 1
        elif name == "missing table":
            body["body"]["contents"]["tables"].popitem()
        else:
            body["seal"] = body["seal"][:-8] + "AAAAAAA="
        objects.put(manifest, json.dumps(body).encode())


def test_a_corrupted_backup_is_reported(run: Step) -> None:
    backup = made(run)
    whole = {key: run.objects.get(key) for key in run.objects.list(backup.prefix)}
    parts = ("bit", "truncated", "empty", "missing part", "swapped parts")
    manifest = (
        "no parts",
        "last part left out",
        "manifest digest",
        "manifest rows",
        "missing table",
        "seal",
        "not JSON",
    )
    for name in (*parts, *manifest):
        corrupt(run.objects, backup, name)
        found = verified(run, find(run.objects, backup.database, backup.id))
        assert found.outcome == "failed", name
        assert (found.checks[-1].name, found.checks[-1].ok) == ("parts" if name in parts else "manifest", False), name
        for key in list(run.objects.list(backup.prefix)):
            run.objects.delete(key)
        for key, data in whole.items():
            run.objects.put(key, data)
    assert verified(run, backup).outcome == "verified" and scratches(run.engine) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE site_visits SET hours = 3.5 WHERE id = 17", "site_visits holds other values in its 403 rows"),
        ("DELETE FROM site_visits WHERE id = 17", "site_visits holds 402 rows instead of 403"),
        ("DROP TABLE site_visits", "site_visits is missing (403 rows)"),
        ("DROP INDEX site_visits_site", "site_visits_site is missing"),
    ],
    ids=["value", "row", "table", "index"],
)
def test_what_parts_and_seals_cannot_tell_the_restore_does(run: Step, change: str, told: str) -> None:
    """A dump of another state under a manifest that this vault sealed: every byte is authentic, and it is no backup."""
    from trialops.operations.backup_archive import finish, stream, write_parts

    backup = made(run)
    with writing(run.engine) as connection:
        connection.exec_driver_sql(change)
    other = list(stream(made(run), vault=run.vault, objects=run.objects))
    prefix = f"backups/{backup.database}/forged"
    parts, digest, size = write_parts(other, prefix, 4096, vault=run.vault, objects=run.objects)
    body = {**backup.body, "parts": parts, "sha256": digest, "bytes": size}
    found = verified(run, finish(backup.database, "forged", body, vault=run.vault, objects=run.objects))
    assert found.outcome == "failed" and found.checks[-1].name == "contents"
    assert told in found.checks[-1].detail and scratches(run.engine) == []


def test_a_broken_trail_and_lost_triggers_are_reported(run: Step) -> None:
    """The database itself was tampered with before the backup: same rows, and not what they should be."""
    with writing(run.engine) as connection:
        if run.engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE promotions DISABLE TRIGGER ALL")
        else:
            for trigger in ("no_update", "no_delete"):
                connection.exec_driver_sql(f"DROP TRIGGER promotions_{trigger}")
    found = verified(run, made(run))
    assert found.outcome == "failed" and found.checks[-1].name == "append-only tables"
    assert "promotions" in found.checks[-1].detail
    with writing(run.engine) as connection:
        if run.engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE audit_events DISABLE TRIGGER ALL")
        else:
            connection.exec_driver_sql("DROP TRIGGER audit_events_no_update")
        connection.exec_driver_sql("UPDATE audit_events SET actor = 'nobody' WHERE seq = 7")
    found = verified(run, made(run))
    assert found.outcome == "failed" and found.checks[-1].name == "audit trail" and "7" in found.checks[-1].detail


def test_another_key_opens_nothing(run: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = made(run)
    live_in(tmp_path / "elsewhere", monkeypatch)
    foreign = open_vault(settings())
    found = verify(backup, engine=run.engine, vault=foreign, objects=run.objects, workdir=run.workdir)
    assert (
        found.outcome == "failed" and found.checks[-1].name == "manifest" and "another key" in found.checks[-1].detail
    )


def test_what_is_written_meanwhile_is_in_neither_dump_nor_checksums(run: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows arrive between the checksums and the dump: both are of the moment before."""
    name = "contents_of_postgres" if run.engine.dialect.name == "postgresql" else "contents_of_sqlite"
    real = getattr(backup_make, name)

    def meanwhile(connection: object) -> DatabaseContents:
        found = real(connection)

        def write() -> None:
            AuditTrail(run.engine).append(actor="late", action="data.read", object="x")
            with writing(run.engine) as other:
                other.exec_driver_sql("DELETE FROM site_visits WHERE id < 100")

        writer = threading.Thread(target=write)
        writer.start()
        writer.join()
        return found

    monkeypatch.setattr(backup_make, name, meanwhile)
    backup = made(run)
    found = verified(run, backup)
    assert found.outcome == "verified", found.checks[-1]
    assert backup.body["audit"]["seq"] == 40 and AuditTrail(run.engine).head()[0] == 41


def test_a_backup_that_dies_is_none(run: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(run.objects).put
    left = iter([True, True])

    def dies(store: object, key: str, data: bytes, **more: object) -> bool:
        if "/part-" in key and not next(left, False):
            raise OSError("no space left")
        return real(store, key, data, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(type(run.objects), "put", dies)
        made(run)
    assert backups(run.objects, backup_make.database_name(run.engine)) == []
    with pytest.raises(TrialOpsError, match="no backup"):
        find(run.objects, backup_make.database_name(run.engine))


def test_the_comparison_names_every_kind_of_difference() -> None:
    from trialops.operations.backup_contents import TableContents

    was = DatabaseContents(
        {"a": TableContents(2, "1:1"), "b": TableContents(1, "2:2"), "c": TableContents(1, "3:3")},
        {"triggers": {"t": "x", "u": "y"}}, {"s": 10},
    )  # fmt: skip
    assert compare(was, was) == []
    now = DatabaseContents(
        {"a": TableContents(3, "1:1"), "b": TableContents(1, "9:9"), "d": TableContents(0, "0:0")},
        {"triggers": {"t": "z"}, "functions": {}}, {"s": 9},
    )  # fmt: skip
    assert compare(was, now) == [
        "table a holds 3 rows instead of 2",
        "table b holds other values in its 1 rows",
        "table c is missing (1 rows)",
        "table d was not backed up and is there",
        "triggers: t is different",
        "triggers: u is missing",
        "sequence s would hand out values again",
    ]
    assert DatabaseContents.from_dict(json.loads(json.dumps(was.as_dict()))) == was


def test_without_the_right_to_create_databases_it_is_unverified_not_passed(
    postgres_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIALOPS_DATABASE_URL", postgres_database)
    live_in(tmp_path / "home", monkeypatch)
    step = Step("x", {}, settings())
    migrate(step.engine)
    with writing(step.engine) as connection:
        connection.exec_driver_sql("DO $$ BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
        connection.exec_driver_sql("GRANT USAGE ON SCHEMA public TO plain")
        connection.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain")
        connection.exec_driver_sql("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO plain")
    plain = connect(postgres_database.replace("trialops@", "plain@"))
    backup = back_up(plain, vault=step.vault, objects=step.objects, policy=default_database_policy())
    found = verify(backup, engine=plain, vault=step.vault, objects=step.objects)
    assert found.outcome == "unverified" and "CREATEDB" in found.checks[-1].detail
    again = verify(backup, engine=plain, vault=step.vault, objects=step.objects, scratch_url=postgres_database)
    assert again.outcome == "verified", again.checks[-1]
    plain.dispose()
    step.engine.dispose()
    leave()


def test_what_copy_does_not_know_it_refuses(
    postgres_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIALOPS_DATABASE_URL", postgres_database)
    live_in(tmp_path / "home", monkeypatch)
    step = Step("x", {}, settings())
    with writing(step.engine) as connection:
        connection.exec_driver_sql("CREATE VIEW who AS SELECT actor FROM audit_events")
        connection.exec_driver_sql("CREATE TYPE colour AS ENUM ('red')")
    with pytest.raises(TrialOpsError, match="1 types, 1 views"):
        made(step, programs=False)
    found = verified(step, made(step))  # pg_dump knows both
    assert found.outcome == "verified", found.checks[-1]
    step.engine.dispose()
    leave()
