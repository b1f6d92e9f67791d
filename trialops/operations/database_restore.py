"""Restoring a backup for use: into an empty database, or over a full one when that was asked for twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.operations.backup_archive import Backup, check_manifest, check_parts, stream
from trialops.operations.backup_contents import DatabaseContents, compare
from trialops.operations.backup_make import unpacked
from trialops.operations.backup_verify import Restored, contents_of, fill_postgres, fill_sqlite, verify
from trialops.stores.chain_log import ChainLog

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.context import Step

LOG = "maintenance/restores"


@dataclass(frozen=True)
class Restore:
    """What a restore did.

    Attributes:
        backup: Id.
        target: The database, without a password.
        replaced: Tables that were there before; 0 for an empty database.
        tables: Tables restored, and compared.
        differences: Where the restored database is not what was backed up; empty where it is.
    """

    backup: str
    target: str
    replaced: int
    tables: int
    differences: tuple[str, ...]


def restore(run: Step, backup: Backup, *, url: str, force: bool, purpose: str) -> Restore:
    """Restore a backup and compare the result with it.

    A database that holds tables is replaced only with `force`, and only by a backup that has just been restored into a
    scratch database and found whole. All is replaced in one transaction or nothing.

    Args:
        run: Where the backup, its keys and the audit trail are.
        backup: The backup.
        url: The database to fill.
        force: Replace what is there.
        purpose: Why; it goes into the audit trails of both databases and a log beside the backups.

    Raises:
        TrialOpsError: The purpose is missing, the database is not empty, the kinds differ, or the backup is none.
    """
    from trialops.stores.database import connect

    if not purpose.strip():
        raise TrialOpsError("A restore needs a purpose", where="database restore", fix="Say why: --purpose")
    check_manifest(backup, vault=run.vault, objects=run.objects)
    check_parts(backup, run.objects)
    engine = connect(url)
    shown = engine.url.render_as_string(hide_password=True)
    if engine.dialect.name != backup.body["kind"]:
        raise TrialOpsError(
            f"A backup of {backup.body['kind']} cannot be restored into {engine.dialect.name}", where=shown
        )
    there = _tables(engine)
    if there and not force:
        raise TrialOpsError(
            f"The database holds {there} tables; nothing was changed",
            where=shown,
            fix="Name an empty one with --into, or say --force to replace what is there.",
        )
    if there:
        found = verify(
            backup, engine=run.engine, vault=run.vault, objects=run.objects, workdir=run.workdir, progress=run.progress,
            scratch_url=run.settings.scratch_database_url,
        )  # fmt: skip
        if found.outcome != "verified":
            raise TrialOpsError(
                f"The backup is not replaced into a full database: {found.outcome}, {found.checks[-1].detail}",
                where=shown,
                fix="Restore it into an empty database with --into and look at it.",
            )
    _log(run, backup, shown, purpose, "begun")
    run.progress(f"restoring {backup.id}", None)
    _fill(run, backup, engine, replace=bool(there))
    was = DatabaseContents.from_dict(backup.body["contents"])
    wrong = compare(was, contents_of(Restored(engine.dialect.name, engine, lambda data: None)))
    _log(run, backup, shown, purpose, "done" if not wrong else f"{len(wrong)} differences")
    if "audit" in backup.body:
        _note(run, engine, backup, purpose, shown)
    return Restore(backup.id, shown, there, len(was.tables), tuple(wrong))


def _tables(engine: Engine) -> int:
    import sqlalchemy as sa

    if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
        return 0
    inspector = sa.inspect(engine)
    if engine.dialect.name == "sqlite":
        return len(inspector.get_table_names())
    schemas = [s for s in inspector.get_schema_names() if s != "information_schema"]
    return sum(len(inspector.get_table_names(schema=schema)) for schema in schemas)


def _fill(run: Step, backup: Backup, engine: Engine, *, replace: bool) -> None:
    data = unpacked(backup, stream(backup, vault=run.vault, objects=run.objects))
    if engine.dialect.name == "postgresql":
        fill_postgres(backup, engine, data, clean=replace)
        return
    path = Path(str(engine.url.database))
    staged = path.with_name(f".{path.name}.restoring")
    try:
        fill_sqlite(staged, data)
        # Page by page under SQLite's own locks: whoever has the file open sees the old state or the new one.
        with closing(sqlite3.connect(staged)) as source, closing(sqlite3.connect(path, timeout=30)) as target:
            source.backup(target)
    finally:
        staged.unlink(missing_ok=True)


def _log(run: Step, backup: Backup, shown: str, purpose: str, state: str) -> None:
    from trialops.stores.database import utc_now

    body = {
        "at": utc_now(),
        "backup": backup.id,
        "manifest": backup.manifest,
        "target": shown,
        "purpose": purpose,
        "actor": run.settings.who,
        "state": state,
    }
    ChainLog(run.objects, f"{LOG}/{backup.database}", "restores").append(body)


def _note(run: Step, engine: Engine, backup: Backup, purpose: str, shown: str) -> None:
    """In the trail of the database in service, and in that of the restored one."""
    from trialops.governance.audit import AuditTrail

    for one in {str(e.url): e for e in (engine, run.engine)}.values():
        AuditTrail(one).append(
            actor=run.settings.who,
            action="database.restore",
            object=backup.prefix,
            version=backup.manifest,
            reason=purpose,
            run_id=run.run_id,
            detail={"target": shown},
        )
