"""A real Alertmanager for tests, on a free port of loopback, with the configuration made from the routes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.redis import _end, _end_with_parent


def binary(name: str) -> str:
    """Path of a program; the test is skipped, or fails where TRIALOPS_REQUIRE_ALERTMANAGER=1, without it."""
    found = shutil.which(name) or shutil.which(f"prometheus-{name}")
    if found is None:
        reason = f"{name} is not on PATH (Debian: prometheus-alertmanager, prometheus)"
        if os.environ.get("TRIALOPS_REQUIRE_ALERTMANAGER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def alertmanager(folder: Path, configuration: dict[str, Any], port: int = 0) -> Iterator[str]:
    """Run Alertmanager; yields its address.

    Args:
        folder: For its configuration and data.
        configuration: alertmanager.yml.
        port: To listen on; a free one by default.
    """
    program = binary("alertmanager")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{port or free_port()}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
            preexec_fn=_end_with_parent,
        )
    try:
        for _ in range(600):
            if server.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            try:
                if httpx.get(f"http://{address}/-/ready", timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        _end(server)
