"""A real PostgreSQL server for tests, and a fresh database on it for each test that asks."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

SETTINGS = {
    "listen_addresses": "",  # a socket in the temporary folder; no port to collide on
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "log_min_messages": "fatal",
}


def _binaries() -> Path | None:
    """Folder that holds initdb and postgres, the newest version first."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda f: f.split("/")[-2].zfill(4), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        folders.insert(0, str(Path(on_path).resolve().parent))
    for folder in map(Path, folders):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def _as_other_user(folder: Path) -> list[str]:
    """Command prefix under which PostgreSQL agrees to run: it refuses root."""
    if os.geteuid() != 0:
        return []
    import pwd

    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        account = pwd.getpwnam("nobody")
    os.chown(folder, account.pw_uid, account.pw_gid)
    if shutil.which("setpriv"):
        # The server goes down with the test process even when that is killed.
        return [
            "setpriv",
            f"--reuid={account.pw_uid}",
            f"--regid={account.pw_gid}",
            "--clear-groups",
            "--pdeathsig=INT",
            "--",
        ]
    return ["runuser", "-u", account.pw_name, "--"]


def _start(folder: Path, binaries: Path) -> tuple[subprocess.Popen[bytes], str]:
    prefix = _as_other_user(folder)
    data, log = folder / "data", folder / "server.log"
    subprocess.run(
        [
            *prefix,
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            "trialops",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*prefix, str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    url = f"postgresql+psycopg://trialops@/postgres?host={folder}"
    _wait(server, folder, log)
    return server, url


def _wait(server: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    import psycopg

    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")
        try:
            psycopg.connect(f"host={folder} user=trialops dbname=postgres", connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    server.kill()
    raise RuntimeError(f"PostgreSQL did not answer within 30 s:\n{log.read_text(errors='replace')}")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a PostgreSQL server started for this test session.

    Without PostgreSQL's programs the test is skipped, or fails where TRIALOPS_REQUIRE_POSTGRES=1.
    """
    binaries = _binaries()
    if binaries is None:
        reason = "PostgreSQL's programs (initdb, postgres) are neither on PATH nor under /usr/lib/postgresql"
        if os.environ.get("TRIALOPS_REQUIRE_POSTGRES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    # Not tmp_path: its parents are closed to the server's user, and a socket's path has at most 107 letters.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = None
    try:
        server, url = _start(folder, binaries)
        yield url
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """URL of an empty database of its own, dropped after the test."""
    import psycopg

    server = postgres_url.partition("?host=")[2]
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"host={server} user=trialops dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield postgres_url.replace("/postgres?", f"/{name}?")
    finally:
        with psycopg.connect(f"host={server} user=trialops dbname=postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
