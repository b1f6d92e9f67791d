"""PostgreSQL's own programs: pg_dump in custom format, pg_restore, through pipes; nothing in the clear on a disk."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.stores.chain_log import IntegrityError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql@*/bin")
_READ = 1 << 20


def program(name: str, major: int) -> tuple[str, str] | None:
    """Path and version of a client program fit for a server: of its major version, else the next newer one.

    Args:
        name: pg_dump or pg_restore.
        major: Major version of the server; an older pg_dump refuses a newer server.
    """
    found: dict[int, tuple[str, str]] = {}
    on_path = shutil.which(name)
    for path in [*([on_path] if on_path else []), *(f"{f}/{name}" for p in PLACES for f in sorted(glob.glob(p)))]:
        version = _version(path)
        number = int(version.split(".")[0]) if version else 0
        if number >= major:
            found.setdefault(number, (path, version))
    return found[min(found)] if found else None


def _version(path: str) -> str:
    if not os.access(path, os.X_OK):
        return ""
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"(\d+(?:\.\d+)*)", told)
    return found.group(1) if found else ""


def environment(url: URL, database: str = "") -> dict[str, str]:
    """Variables of libpq for a URL; a password never stands on a command line."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    query = {name: (value if isinstance(value, str) else value[0]) for name, value in url.query.items()}
    values = {
        "PGHOST": url.host or query.get("host", ""),
        "PGPORT": str(url.port or query.get("port", "")),
        "PGUSER": url.username or query.get("user", ""),
        "PGPASSWORD": str(url.password or ""),
        "PGDATABASE": database or url.database or "",
        "PGSSLMODE": query.get("sslmode", ""),
        "PGSSLROOTCERT": query.get("sslrootcert", ""),
        "PGSSLCERT": query.get("sslcert", ""),
        "PGSSLKEY": query.get("sslkey", ""),
        "PGCONNECT_TIMEOUT": "15",
        "PGAPPNAME": "trialops-backup",
    }
    return {**kept, **{name: value for name, value in values.items() if value}}


def dump(path: str, url: URL, snapshot: str) -> Iterator[bytes]:
    """Run pg_dump on an exported snapshot and give what it writes.

    Args:
        path: The program.
        url: The database.
        snapshot: From pg_export_snapshot(), of a transaction that stays open meanwhile.

    Raises:
        TrialOpsError: pg_dump failed; the last line it wrote says why.
    """
    command = [
        path,
        "--format=custom",
        "--compress=6",
        f"--snapshot={snapshot}",
        "--lock-wait-timeout=60s",
        "--no-password",
    ]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment(url))
        assert process.stdout is not None
        try:
            while data := process.stdout.read(_READ):
                yield data
            if process.wait() != 0:
                raise TrialOpsError(
                    f"pg_dump failed ({_last_line(errors)})",
                    where="database backup",
                    fix="Check that the user may read every table, and that nothing holds an exclusive lock.",
                )
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()


def restore(path: str, url: URL, stream: Iterable[bytes], *, clean: bool) -> None:
    """Feed a dump to pg_restore, in one transaction: all of it is restored or nothing.

    Args:
        path: The program.
        url: The database to fill.
        stream: What pg_dump wrote.
        clean: Drop what is in the way.

    Raises:
        IntegrityError: The stream broke off, or pg_restore refused it.
    """
    # Not --clean in an empty database: it would say that what it drops is not there.
    command = [path, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password",
               f"--dbname={url.database}", *(["--clean", "--if-exists"] if clean else [])]  # fmt: skip
    broken: list[Exception] = []
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=environment(url)
        )
        feeder = threading.Thread(target=_feed, args=(process, stream, broken), daemon=True)
        feeder.start()
        feeder.join()
        code = process.wait()
        if broken:
            raise broken[0]
        if code != 0:
            raise IntegrityError(f"pg_restore refused the backup ({_last_line(errors)})", where="database restore")


def _feed(process: subprocess.Popen[bytes], stream: Iterable[bytes], broken: list[Exception]) -> None:
    """Write the stream; where it breaks off, the program is ended before it can commit what it has."""
    assert process.stdin is not None
    try:
        for data in stream:
            process.stdin.write(data)
    except BrokenPipeError:
        pass  # the program has ended; its exit code says why
    except Exception as error:
        process.kill()
        broken.append(error)
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _last_line(errors) -> str:  # type: ignore[no-untyped-def]
    """The last message of a program, without quoted values: a row's content may stand in one."""
    errors.seek(0)
    lines = [line for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines
    text = re.sub(
        r"(?i)(detail|context|statement|command was|line \d+|values?)\b.*",
        r"\1 withheld",
        telling[-1] if telling else "",
    )
    return re.sub(r"\s+", " ", text)[:200] or "no message"
