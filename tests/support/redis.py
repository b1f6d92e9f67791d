"""A real Redis server for tests, emptied for each test that asks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

OPTIONS = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--loglevel", "warning")
_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Linux ends the server with the process that started it, even when that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Whether this very server answers on the port; False once it has ended, for example because the port was taken."""
    import redis

    with redis.Redis(port=port, socket_timeout=5) as client:
        for _ in range(600):
            if server.poll() is not None:
                return False
            try:
                return bool(client.info("server")["process_id"] == server.pid)
            except redis.ConnectionError:
                time.sleep(0.02)
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[tuple[str, int]]:
    """A Redis server on a loopback port, ended with the block; Feast takes no unix socket.

    Args:
        *options: More options of redis-server.

    Yields:
        Host and port.

    Raises:
        FileNotFoundError: redis-server is not on PATH.
        RuntimeError: The server did not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("redis-server")
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    log = folder / "server.log"
    try:
        for _ in range(5):  # another process may take the port first
            port = _free_port()
            command = [program, "--port", str(port), "--dir", str(folder), "--logfile", str(log), *OPTIONS, *options]
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=_end_with_parent)
            if _answers(server, port):
                break
            _end(server)
        else:
            raise RuntimeError(f"Redis did not start:\n{log.read_text(errors='replace') if log.exists() else ''}")
        try:
            yield "127.0.0.1", port
        finally:
            _end(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_address() -> Iterator[str]:
    """URL of a Redis server started for this test session, without a database.

    Without redis-server the test is skipped, or fails where TRIALOPS_REQUIRE_REDIS=1.
    """
    with contextlib.ExitStack() as stack:
        try:
            host, port = stack.enter_context(redis_server())
        except FileNotFoundError:
            reason = "redis-server is not on PATH"
            if os.environ.get("TRIALOPS_REQUIRE_REDIS") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        yield f"redis://{host}:{port}"


@pytest.fixture
def redis_url(redis_address: str) -> Iterator[str]:
    """URL of an empty Redis database, emptied again after the test."""
    import redis

    with redis.Redis.from_url(f"{redis_address}/0") as client:
        client.flushdb()
        yield f"{redis_address}/0"
        client.flushdb()
