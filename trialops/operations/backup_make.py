"""Making a backup: one consistent state of the database, streamed, compressed, encrypted, and told in a manifest."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.operations import backup_copy, backup_postgres
from trialops.operations.backup_archive import ROOT, Backup, finish, write_parts
from trialops.operations.backup_contents import DatabaseContents, contents_of_postgres, contents_of_sqlite
from trialops.operations.database_policy import DatabasePolicy
from trialops.stores.chain_log import IntegrityError
from trialops.version import code_version

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

PG_DUMP, COPY, SQLITE = "pg_dump", "copy", "sqlite"
_PACKED = (COPY, SQLITE)
_READ = 1 << 20
Tell = Callable[[str, float | None], None]


def database_name(engine: Engine) -> str:
    """Name of a database among its backups."""
    url = engine.url
    return Path(str(url.database)).stem if engine.dialect.name == "sqlite" else str(url.database)


def back_up(
    engine: Engine,
    *,
    vault: Vault,
    objects: ObjectStore,
    policy: DatabasePolicy,
    run_id: str = "",
    workdir: Path | None = None,
    programs: bool = True,
    progress: Tell = lambda message, fraction: None,
) -> Backup:
    """Back a database up.

    Args:
        engine: The database.
        vault: Encrypts; without its keys nobody can restore the backup.
        objects: Keeps it.
        policy: Size of the parts.
        run_id: Kept in the manifest.
        workdir: Folder for SQLite's copy, which is encrypted and removed.
        programs: Whether PostgreSQL's programs may be used; without them rows are taken by COPY.
        progress: Called with a message and a fraction.

    Returns:
        The backup, finished and not yet verified.

    Raises:
        TrialOpsError: It cannot be made; nothing of it counts then.
    """
    began, started = time.perf_counter(), datetime.now(UTC)
    name = database_name(engine)
    mark = hashlib.sha256(f"{run_id}{time.time_ns()}{os.getpid()}".encode()).hexdigest()[:6]
    id_ = f"{started:%Y%m%dT%H%M%SZ}-{mark}"
    prefix = f"{ROOT}/{name}/{id_}"

    def keep(stream: Iterable[bytes]) -> dict[str, Any]:
        progress(f"backing {name} up", None)
        parts, digest, size = write_parts(stream, prefix, policy.backup.part_bytes, vault=vault, objects=objects)
        return {"parts": parts, "sha256": digest, "bytes": size}

    make = _postgres if engine.dialect.name == "postgresql" else _sqlite
    body, contents = make(engine, keep, programs=programs, workdir=workdir)
    body |= {
        "format": 1,
        "database": name,
        "kind": engine.dialect.name,
        "started": started.isoformat(timespec="microseconds"),
        "seconds": round(time.perf_counter() - began, 3),
        "contents": contents.as_dict(),
        "run_id": run_id,
        "vault": vault.id,
        "code_version": code_version(),
        "policy": policy.named(),
    }
    return finish(name, id_, body, vault=vault, objects=objects)


def _postgres(
    engine: Engine, keep: Callable[[Iterable[bytes]], dict[str, Any]], *, programs: bool, workdir: Path | None
) -> tuple[dict[str, Any], DatabaseContents]:
    """Dump and checksums of one snapshot: what is written meanwhile is in neither."""
    from trialops.stores.database import reading

    with reading(engine) as connection:
        snapshot = str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar())
        server = str(connection.exec_driver_sql("SHOW server_version").scalar())
        major = int(str(connection.exec_driver_sql("SHOW server_version_num").scalar())) // 10_000
        found = backup_postgres.program("pg_dump", major) if programs else None
        contents = contents_of_postgres(connection)
        if found is not None:
            body = keep(backup_postgres.dump(found[0], engine.url, snapshot))
            body |= {"method": PG_DUMP, "tool": f"pg_dump {found[1]}"}
        else:
            raw = connection.connection.driver_connection
            body = keep(_packed(backup_copy.dump(raw)))
            body |= {"method": COPY, "tool": "COPY: no pg_dump of the server's version was at hand"}
        body |= {"server": server, **_ours(connection, _public(contents))}
        locale = connection.exec_driver_sql(
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database "
            "WHERE datname = current_database()"
        ).one()
        body["locale"] = dict(zip(("ENCODING", "LC_COLLATE", "LC_CTYPE"), map(str, locale), strict=True))
    return body, contents


def _public(contents: DatabaseContents) -> set[str]:
    return {name.removeprefix("public.") for name in contents.tables if name.startswith("public.")}


def _ours(connection: Any, tables: set[str]) -> dict[str, Any]:
    """What the platform's own tables say: schema revision, end of the audit trail, tables that only grow."""
    from trialops.stores.tables import APPEND_ONLY

    told: dict[str, Any] = {"append_only": [t for t in APPEND_ONLY if t in tables]}
    one = (lambda q: connection.exec_driver_sql(q).first()) if hasattr(connection, "exec_driver_sql") else (
        lambda q: connection.execute(q).fetchone()
    )  # fmt: skip
    prefix = "public." if hasattr(connection, "exec_driver_sql") else ""
    if "alembic_version" in tables:
        row = one(f"SELECT version_num FROM {prefix}alembic_version")
        told["schema"] = str(row[0]) if row else ""
    if "audit_events" in tables:
        row = one(f"SELECT seq, digest FROM {prefix}audit_events ORDER BY seq DESC LIMIT 1")
        if row:
            told["audit"] = {"seq": int(row[0]), "digest": str(row[1])}
    return told


def _sqlite(
    engine: Engine, keep: Callable[[Iterable[bytes]], dict[str, Any]], *, programs: bool, workdir: Path | None
) -> tuple[dict[str, Any], DatabaseContents]:
    """SQLite's online backup inside a read transaction: writers go on, and the copy is of one moment."""
    from trialops.operations.database_sqlite import open_file

    with tempfile.TemporaryDirectory(prefix="backup-", dir=workdir) as folder:
        path = Path(folder) / "copy.db"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        with closing(open_file(engine)) as source, closing(sqlite3.connect(path, isolation_level=None)) as copy:
            source.execute("BEGIN")
            contents = contents_of_sqlite(source)
            source.backup(copy)
            told = _ours(source, set(contents.tables))
            source.execute("ROLLBACK")
            copy.execute("PRAGMA journal_mode = DELETE")
        body = keep(_packed(_file(path)))
    return {**body, "method": SQLITE, "tool": "online backup API", "server": sqlite3.sqlite_version, **told}, contents


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_READ):
            yield data


def _packed(stream: Iterable[bytes]) -> Iterator[bytes]:
    """Compressed (pg_dump does that itself)."""
    packer = zlib.compressobj(6)
    for data in stream:
        if done := packer.compress(data):
            yield done
    yield packer.flush()


def unpacked(backup: Backup, stream: Iterable[bytes]) -> Iterator[bytes]:
    """What the way of backing up gave, from what was kept.

    Raises:
        IntegrityError: It cannot be unpacked.
    """
    if backup.body["method"] not in (*_PACKED, PG_DUMP):
        raise TrialOpsError("This way of backing up is not known", where=backup.prefix)
    if backup.body["method"] not in _PACKED:
        yield from stream
        return
    reader = zlib.decompressobj()
    try:
        for data in stream:
            yield reader.decompress(data)
        yield reader.flush()
    except zlib.error:
        raise IntegrityError("A backup cannot be unpacked", where=backup.prefix) from None
    if not reader.eof:
        raise IntegrityError("A backup ends before its end", where=backup.prefix)
