"""Run folders of the embedded orchestrator: ids, ``run.json``, the lock that keeps a second runner out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError

FINISHED = "succeeded"


def now() -> str:
    """The present time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_run_id(name: str) -> str:
    """A run id that sorts by time and says what ran: ``YYYYMMDDTHHMMSS-<name>-<4 hex>``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{name}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class RunFolder:
    """Where one run keeps its record, log, IR, artifacts and page."""

    home: Path
    run_id: str

    @property
    def path(self) -> Path:
        """``home/runs/<run_id>``."""
        return self.home / "runs" / self.run_id

    @property
    def record(self) -> Path:
        """The run's record, ``run.json``."""
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        """Everything the orchestrator and the steps printed."""
        return self.path / "log.txt"

    @property
    def events(self) -> Path:
        """Step events, one JSON object per line."""
        return self.path / "events.jsonl"

    @property
    def page(self) -> Path:
        """The page a person reads."""
        return self.path / "index.html"

    @property
    def spec(self) -> Path:
        """The IR that ran."""
        return self.path / "pipeline.yaml"

    @property
    def artifacts(self) -> Path:
        """Pipeline root: the artifacts of every attempt."""
        return self.path / "artifacts"

    def read(self) -> dict[str, Any]:
        """The run's record.

        Raises:
            TrialOpsError: When there is no such run, or its record cannot be read.
        """
        try:
            data: dict[str, Any] = json.loads(self.record.read_text())
            return data
        except FileNotFoundError:
            raise TrialOpsError(
                f"There is no run {self.run_id!r}",
                where=str(self.path),
                fix="See the list with: trialops runs",
            ) from None
        except (OSError, ValueError):
            raise TrialOpsError(
                "The record of a run cannot be read", where=str(self.record), fix="Start a new run."
            ) from None

    def write(self, record: dict[str, Any]) -> None:
        """Replace the record in one step, so that a killed runner leaves the old one or the new one."""
        write_json(self.record, record)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run: one runner per run id. The lock goes with the process, however it ends.

        Raises:
            TrialOpsError: When another runner holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                raise TrialOpsError(
                    f"Run {self.run_id} is already being run by process {handle.read().strip() or 'unknown'}",
                    where=str(self.path / "lock"),
                    fix="Wait for it, or end that process and resume.",
                ) from None
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield

    def held(self) -> bool:
        """Whether a living runner holds this run."""
        lock = self.path / "lock"
        if not lock.exists():
            return False
        with open(lock) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def state(self) -> str:
        """State of the run; "running" without a living runner is "killed"."""
        state = str(self.read().get("state", "unknown"))
        return "killed" if state == "running" and not self.held() else state


def write_json(path: Path, data: Any) -> None:
    """Write JSON through a temporary file in the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def all_runs(home: Path) -> list[RunFolder]:
    """Every run of a home, newest first."""
    folder = home / "runs"
    if not folder.is_dir():
        return []
    names = sorted((p.name for p in folder.iterdir() if (p / "run.json").exists()), reverse=True)
    return [RunFolder(home, name) for name in names]


def to_resume(home: Path, pipeline: str, wanted: str | None) -> RunFolder:
    """The run to continue: the one asked for, or the latest unfinished one of this pipeline.

    Raises:
        TrialOpsError: When there is none, when it belongs to another pipeline, or when it has finished.
    """
    if wanted:
        run = RunFolder(home, wanted)
        record = run.read()
        if record.get("pipeline") != pipeline:
            raise TrialOpsError(
                f"Run {wanted} belongs to pipeline {record.get('pipeline')}, not {pipeline}",
                where=str(run.path),
                fix=f"trialops run {record.get('pipeline')} --resume {wanted}",
            )
        if record.get("state") == FINISHED:
            raise TrialOpsError(
                f"Run {wanted} has finished: there is nothing to resume",
                where=str(run.path),
                fix=f"Start a new run (unchanged steps are reused): trialops run {pipeline}",
            )
        return run
    for run in all_runs(home):
        record = run.read()
        if record.get("pipeline") == pipeline and record.get("state") != FINISHED and not run.held():
            return run
    raise TrialOpsError(
        f"There is no unfinished run of {pipeline} to resume",
        where=str(home / "runs"),
        fix=f"Start one with: trialops run {pipeline}",
    )
