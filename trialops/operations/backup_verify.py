"""Whether a backup is one: it is restored into a database of its own and compared with what was backed up."""

from __future__ import annotations

import datetime as dt
import os
import re
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError
from trialops.operations import backup_copy, backup_postgres
from trialops.operations.backup_archive import Backup, check_manifest, check_parts, checks, stream
from trialops.operations.backup_contents import DatabaseContents, compare, contents_of_postgres, contents_of_sqlite
from trialops.operations.backup_make import COPY, unpacked
from trialops.stores.chain_log import IntegrityError
from trialops.stores.database import utc_now

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.governance.audit import Anchor
    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

SCRATCH = "trialops_verify_"
Outcome = Literal["verified", "failed", "unverified"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, whether it holds, and what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Verification:
    """What became of a verification.

    Attributes:
        backup: Id of the backup.
        outcome: verified; failed: it is no backup; unverified: there was nowhere to restore it.
        checks: In the order in which they were made; the last one failed where the outcome says so.
        at: When, UTC.
        restore_seconds: Time the restore took; 0 where it did not come so far.
        seconds: Time of everything.
        tables: Tables compared, and their rows.
    """

    backup: str
    outcome: Outcome
    checks: tuple[Check, ...]
    at: str
    restore_seconds: float = 0.0
    seconds: float = 0.0
    tables: tuple[int, int] = (0, 0)

    def as_dict(self) -> dict[str, Any]:
        """Plain form."""
        return {**asdict(self), "checks": [asdict(check) for check in self.checks]}


@dataclass
class _Course:
    """A verification under way."""

    found: list[Check] = field(default_factory=list)
    restore_seconds: float = 0.0
    tables: tuple[int, int] = (0, 0)

    def hold(self, name: str, detail: str) -> None:
        self.found.append(Check(name, True, detail))


class _NoScratch(Exception):
    """There is nowhere to restore a backup."""


def verify(
    backup: Backup,
    *,
    engine: Engine,
    vault: Vault,
    objects: ObjectStore,
    scratch_url: str = "",
    workdir: Path | None = None,
    progress: Callable[[str, float | None], None] = lambda message, fraction: None,
) -> Verification:
    """Restore a backup into a scratch database and compare; the outcome is kept beside it.

    Args:
        backup: The backup.
        engine: The database in service: its server takes the scratch database where no other is given.
        vault: Opens it.
        objects: Holds it.
        scratch_url: Another PostgreSQL server to restore on; needs the right to create databases.
        workdir: Folder for a SQLite scratch file.
        progress: Called with a message and a fraction.

    Returns:
        The outcome; nothing that is wrong with the backup is raised.
    """
    course, began = _Course(), time.perf_counter()
    outcome: Outcome = "verified"
    step = "manifest"
    try:
        # Closed at once where a look fails: the scratch database goes with it.
        with closing(_looks(backup, course, engine, vault, objects, scratch_url, workdir)) as looks:
            for step, look in looks:
                progress(f"verifying {backup.id}: {step}", None)
                look()
    except _NoScratch as error:
        outcome = "unverified"
        course.found.append(Check("restore", False, str(error)))
    except TrialOpsError as error:
        outcome = "failed"
        course.found.append(Check(step, False, f"{error.what} {error.where}".strip()))
    except Exception as error:  # whatever a damaged backup does to a parser or a server, it is no backup
        outcome = "failed"
        course.found.append(Check(step, False, f"unexpected {type(error).__name__}"))
    seconds = round(time.perf_counter() - began, 3)
    made = Verification(
        backup.id, outcome, tuple(course.found), utc_now(), round(course.restore_seconds, 3), seconds, course.tables
    )
    checks(objects, backup).append({"manifest": backup.manifest, **made.as_dict()})
    return made


def _looks(
    backup: Backup,
    course: _Course,
    engine: Engine,
    vault: Vault,
    objects: ObjectStore,
    scratch_url: str,
    workdir: Path | None,
) -> Generator[tuple[str, Callable[[], None]], None, None]:
    """Each look at a backup, by name; one that raises is the last."""

    def manifest() -> None:
        check_manifest(backup, vault=vault, objects=objects)
        course.hold("manifest", "sealed by this vault")

    def parts() -> None:
        size = check_parts(backup, objects)
        course.hold("parts", f"{len(backup.body['parts'])} parts, {size} bytes, as written")

    yield "manifest", manifest
    yield "parts", parts
    with scratch(backup, engine, scratch_url, workdir) as target:

        def restored() -> None:
            began = time.perf_counter()
            target.fill(unpacked(backup, stream(backup, vault=vault, objects=objects)))
            course.restore_seconds = time.perf_counter() - began
            course.hold("restore", f"into a {target.kind} database of its own")

        yield "restore", restored
        yield "contents", lambda: _compare(backup, target, course)
        yield "audit trail", lambda: _trail(backup, target, course, objects)
        yield "append-only tables", lambda: _append_only(backup, target, course)


@dataclass(frozen=True)
class Restored:
    """A database that a backup is restored into.

    Attributes:
        kind: postgresql or sqlite.
        engine: Opens it.
        fill: Fills it from the stream of a backup.
    """

    kind: str
    engine: Engine
    fill: Callable[[Iterator[bytes]], None]


@contextmanager
def scratch(backup: Backup, engine: Engine, scratch_url: str, workdir: Path | None) -> Iterator[Restored]:
    """An empty database for a backup, gone afterwards."""
    if backup.body["kind"] == "sqlite":
        folder = Path(tempfile.mkdtemp(prefix="restore-", dir=workdir))
        target = target_of(backup, f"sqlite:///{folder / 'restored.db'}")
        try:
            yield target
        finally:
            target.engine.dispose()
            shutil.rmtree(folder, ignore_errors=True)
        return
    if backup.body["kind"] != "postgresql":
        raise IntegrityError("The manifest is no manifest", where=backup.prefix)
    with _scratch_database(engine, scratch_url, backup.body.get("locale", {})) as url:
        yield target_of(backup, url)


def target_of(backup: Backup, url: str, *, clean: bool = False) -> Restored:
    """A database at a URL, and how a backup gets into it."""
    from trialops.stores.database import connect

    engine = connect(url)
    if backup.body["kind"] == "sqlite":
        return Restored("sqlite", engine, lambda data: fill_sqlite(Path(str(engine.url.database)), data))
    return Restored("postgresql", engine, lambda data: fill_postgres(backup, engine, data, clean=clean))


def fill_sqlite(path: Path, data: Iterator[bytes]) -> None:
    """Write a SQLite file whole, readable by its owner alone."""
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        for piece in data:
            file.write(piece)
    with closing(sqlite3.connect(path)) as connection:
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    if problems:
        raise IntegrityError(f"The restored file is damaged ({len(problems)} problems)", where="database restore")


def fill_postgres(backup: Backup, engine: Engine, data: Iterator[bytes], *, clean: bool) -> None:
    """Restore a PostgreSQL backup by the way it was made."""
    if backup.body["method"] == COPY:
        import psycopg

        with psycopg.connect(**libpq(engine)) as connection, connection.transaction():
            if clean:
                _drop_all(connection)
            backup_copy.load(connection, data)
        return
    with engine.connect() as asked:
        server = int(str(asked.exec_driver_sql("SHOW server_version_num").scalar())) // 10_000
    major = max(int(str(backup.body["server"]).split(".")[0]), server)
    found = backup_postgres.program("pg_restore", major)
    if found is None:
        raise _NoScratch(f"pg_restore {major} or newer is not at hand")
    backup_postgres.restore(found[0], engine.url, data, clean=clean)


def _drop_all(connection: Any) -> None:
    """Remove what is in the way, in the transaction that fills the database again."""
    from trialops.operations.backup_contents import TABLES, quoted

    for schema, name in connection.execute(TABLES).fetchall():
        connection.execute(f"DROP TABLE IF EXISTS {quoted(schema, name)} CASCADE")
    for (text,) in connection.execute(
        "SELECT format('DROP SEQUENCE IF EXISTS %I.%I CASCADE', schemaname, sequencename) FROM pg_sequences "
        "UNION ALL SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure) FROM pg_proc p "
        "JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') "
        "AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
    ).fetchall():
        connection.execute(text)


def libpq(engine: Engine) -> dict[str, Any]:
    """What psycopg needs to connect where an engine does."""
    arguments = engine.dialect.create_connect_args(engine.url)[1]
    return {**arguments, "application_name": "trialops-backup"}


@contextmanager
def _scratch_database(engine: Engine, scratch_url: str, locale: Mapping[str, str]) -> Iterator[str]:
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError

    from trialops.stores.database import connect

    server = connect(scratch_url) if scratch_url else engine
    name = f"{SCRATCH}{dt.datetime.now(dt.UTC):%Y%m%d%H%M%S}_{secrets.token_hex(4)}"
    try:
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            _drop_old(connection)
            options = "".join(
                f" {key} '{locale[key]}'" for key in ("ENCODING", "LC_COLLATE", "LC_CTYPE") if key in locale
            )
            connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE template0{options}')
    except SQLAlchemyError as error:
        raise _NoScratch(
            f"no scratch database can be created ({type(getattr(error, 'orig', None) or error).__name__}): "
            "give the user CREATEDB, or name a server with TRIALOPS_SCRATCH_DATABASE_URL"
        ) from None
    url = server.url.set(database=name).render_as_string(hide_password=False)
    try:
        yield url
    finally:
        connect(url).dispose()
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def _drop_old(connection: Any) -> None:
    """Scratch databases of verifications that died, a day after."""
    limit = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    for (name,) in connection.exec_driver_sql(
        f"SELECT datname FROM pg_database WHERE starts_with(datname, '{SCRATCH}')"
    ).all():
        found = re.fullmatch(rf"{SCRATCH}(\d{{14}})_[0-9a-f]{{8}}", name)
        if found and dt.datetime.strptime(found.group(1), "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC) < limit:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def contents_of(target: Restored) -> DatabaseContents:
    """What a restored database holds."""
    from trialops.stores.database import reading

    if target.kind == "sqlite":
        from trialops.operations.database_sqlite import open_file

        with closing(open_file(target.engine)) as file:
            return contents_of_sqlite(file)
    with reading(target.engine) as connection:
        return contents_of_postgres(connection)


def _compare(backup: Backup, target: Restored, course: _Course) -> None:
    was = DatabaseContents.from_dict(backup.body["contents"])
    wrong = compare(was, contents_of(target))
    rows = sum(one.rows for one in was.tables.values())
    course.tables = (len(was.tables), rows)
    if wrong:
        raise IntegrityError(
            f"{len(wrong)} differences from what was backed up: {'; '.join(wrong[:3])}.", where=backup.prefix
        )
    course.hold("contents", f"{len(was.tables)} tables with {rows} rows, by count and checksum; structure; sequences")


def anchors_before(objects: ObjectStore, seq: int) -> list[Anchor]:
    """Anchors of the audit trail up to a position."""
    from trialops.governance.audit import Anchor

    found = [Anchor.from_json(objects.get(key)) for key in objects.list("audit/anchors")]
    return [anchor for anchor in found if anchor.seq <= seq]


def _trail(backup: Backup, target: Restored, course: _Course, objects: ObjectStore) -> None:
    from trialops.governance.audit import AuditTrail

    head: Mapping[str, Any] | None = backup.body.get("audit")
    if head is None:
        course.hold("audit trail", "the database has none")
        return
    found = AuditTrail(target.engine).verify(anchors_before(objects, int(head["seq"])))
    if not found or found.head != (int(head["seq"]), str(head["digest"])):
        problem = found.problem or "the trail ends elsewhere than when it was backed up"
        raise IntegrityError(f"The audit trail is not whole: {problem}.", where=backup.prefix)
    course.hold("audit trail", f"{found.checked} records verified, {found.anchors} anchors")


def _append_only(backup: Backup, target: Restored, course: _Course) -> None:
    """Triggers are there, and one of them is tried."""
    expected: Sequence[str] = backup.body.get("append_only", ())
    for table in expected:
        if not refuses(target.engine, table):
            raise IntegrityError(f"Rows of {table} could be removed after a restore.", where=backup.prefix)
    course.hold("append-only tables", f"{len(expected)} tables refuse changes")


def refuses(engine: Engine, table: str) -> bool:
    """Whether a table's rows can neither be changed nor removed; tried inside a transaction that is rolled back.

    Triggers for rows are asked of the catalogue where the table is empty: nothing can be tried then.
    """
    import sqlalchemy as sa

    triggers = {
        "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name",
        "postgresql": "SELECT count(*) FROM pg_trigger "
        "WHERE tgrelid = to_regclass(:name) AND NOT tgisinternal AND tgenabled <> 'D'",
    }
    with engine.connect() as connection:
        found = connection.execute(sa.text(triggers[engine.dialect.name]), {"name": table}).scalar()
        if int(found or 0) < 2:  # one for its rows, one for the table as a whole or for updates
            return False
        try:
            gone = connection.execute(sa.text(f"DELETE FROM {table}")).rowcount
        except sa.exc.DBAPIError:
            return True
        finally:
            connection.rollback()
    return gone == 0
