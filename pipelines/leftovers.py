"""Steps that outlived a killed runner."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from pipelines.runs import RunFolder


def end_leftovers(run: RunFolder) -> int:
    """Kill steps that outlived a killed runner, so that a resumed run does not run beside them.

    Returns:
        How many process groups were ended.
    """
    noted = run.path / "children"
    pids = [int(text) for text in noted.read_text().split()] if noted.exists() else []
    ended = 0
    for pid in pids:
        # The number may have been given to another process since: the command must be this run's.
        if run.run_id in _command_of(pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
                ended += 1
    return ended


def _command_of(pid: int) -> str:
    proc = Path(f"/proc/{pid}/cmdline")
    try:
        if proc.parent.parent.is_dir() and Path("/proc/self").exists():
            return proc.read_bytes().decode(errors="replace")
        return subprocess.run(
            ["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return ""
