"""Model servers and routers as child processes that never outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trialops
from trialops.errors import TrialOpsError
from trialops.serving.client import HOST, InferenceClient

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

LOG_TAIL_LINES = 15
SERVER = ("-m", "trialops.serving.server")
ROUTER = ("-m", "trialops.serving.router")


class ChildProcess:
    """Starts a program on a free loopback port, waits until it is ready, and ends it.

    The child ends with its parent in three ways: SIGTERM from here; the end of a pipe held by this process,
    on every system and from every thread; on Linux a kernel signal when the starting thread is the main one
    (that signal follows the thread, not the process, so it is not asked for elsewhere).

    Args:
        what: What it is, for messages.
        where: Which one, for messages.
        name: Model name asked about by its clients.
        workdir: Folder for the port file and the program's output.
        start_seconds: Longest wait for readiness.
        stop_seconds: Longest wait after SIGTERM before the process is killed.
        drain: Seconds the program keeps answering, not ready, after SIGTERM.
    """

    def __init__(
        self,
        what: str,
        where: str,
        name: str,
        workdir: Path,
        *,
        start_seconds: float = 60.0,
        stop_seconds: float = 15.0,
        drain: float = 0.0,
    ) -> None:
        self.name, self.workdir = name, Path(workdir)
        self.output = self.workdir / "server.out"
        self.port = 0
        self._what, self._where = what, where
        self._start_seconds, self._stop_seconds, self._drain = start_seconds, stop_seconds, drain
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._running().pid

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://{HOST}:{self.port}"

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    def client(self, *, timeout: float = 10.0) -> InferenceClient:
        """A client with its own connection."""
        return InferenceClient(self.port, self.name, self._version(), timeout=timeout)

    def _version(self) -> str | None:
        return None

    def _command(self) -> list[str]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Start the program and wait until it is ready.

        Raises:
            TrialOpsError: It ended or was not ready in time; the message carries the end of its output.
        """
        self.workdir.mkdir(parents=True, exist_ok=True)
        port_file = self.workdir / "port"
        port_file.unlink(missing_ok=True)
        command = [sys.executable, *self._command(), "--host", HOST, "--port", str(self.port)]
        command += ["--port-file", str(port_file.resolve()), "--drain", str(self._drain)]
        command += ["--grace", str(self._stop_seconds), "--watch-stdin"]
        if threading.current_thread() is threading.main_thread():
            command += ["--parent", str(os.getpid())]
        root = str(Path(trialops.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with self.output.open("wb") as output:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the server in order
            )
        try:
            self._await_ready(port_file)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the program."""
        self.stop()

    def stop(self) -> int | None:
        """End the program: SIGTERM, then SIGKILL when it does not leave in time.

        Returns:
            Its exit code (0 for an orderly end), or None when it never started.
        """
        child = self._child
        if child is None:
            return None
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(self._drain + self._stop_seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if child.stdin is not None:
            child.stdin.close()
        return child.returncode

    def tail(self) -> str:
        """The last lines the program printed."""
        if not self.output.exists():
            return ""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise TrialOpsError(f"{self._what} was not started", where=self.name, fix="use it in a with block")
        return self._child

    def _await_ready(self, port_file: Path) -> None:
        child, deadline = self._running(), time.monotonic() + self._start_seconds
        while True:
            code = child.poll()
            if code is not None:
                raise self._failure(f"{self._what} ended with code {code} before it was ready")
            if port_file.exists():
                self.port = int(port_file.read_text())
                with self.client(timeout=2.0) as client:
                    if client.ready():
                        return
            if time.monotonic() > deadline:
                raise self._failure(f"{self._what} was not ready within {self._start_seconds:g} s")
            time.sleep(0.02)

    def _failure(self, what: str) -> TrialOpsError:
        tail = self.tail()
        return TrialOpsError(
            f"{what}; its last output:\n{tail}" if tail else f"{what}; it printed nothing",
            where=self._where,
            fix=f"read {self.output}; check that the bundle loads with trialops.models.bundle.Bundle.load",
        )


class ServerProcess(ChildProcess):
    """A model server.

    Args:
        bundle: Folder of the model bundle.
        name: Model name.
        version: Model version.
        workdir: Folder for the port file, the server's output and the request log.
        program: Python arguments that start the server program.
        start_seconds: Longest wait for readiness.
        stop_seconds: Longest wait after SIGTERM before the process is killed.
        drain: Seconds the server keeps answering, not ready, after SIGTERM.
    """

    def __init__(
        self,
        bundle: Path,
        name: str,
        version: str,
        workdir: Path,
        *,
        program: Sequence[str] = SERVER,
        start_seconds: float = 60.0,
        stop_seconds: float = 15.0,
        drain: float = 0.0,
    ) -> None:
        super().__init__(
            "the model server",
            f"model {name} version {version}, bundle folder {Path(bundle).name}",
            name,
            workdir,
            start_seconds=start_seconds,
            stop_seconds=stop_seconds,
            drain=drain,
        )
        self.bundle, self.version, self._program = Path(bundle), str(version), tuple(program)
        self.request_log = self.workdir / "requests.jsonl"

    def _version(self) -> str | None:
        return self.version

    def _command(self) -> list[str]:
        command = [*self._program, "--bundle", str(self.bundle.resolve()), "--name", self.name]
        return [*command, "--version", self.version, "--request-log", str(self.request_log.resolve())]


class RouterProcess(ChildProcess):
    """A router.

    Args:
        routing: Routing file; it must be there.
        name: Model name.
        workdir: Folder for the port file and the router's output.
        calls: Folder for its records; by default below workdir.
        port: Port to listen on; 0 for a free one, which a restart then keeps.
        start_seconds: Longest wait for readiness.
        stop_seconds: Longest wait after SIGTERM before the process is killed.
        drain: Seconds the router keeps answering, not ready, after SIGTERM.
    """

    def __init__(
        self,
        routing: Path,
        name: str,
        workdir: Path,
        *,
        calls: Path | None = None,
        port: int = 0,
        start_seconds: float = 60.0,
        stop_seconds: float = 15.0,
        drain: float = 0.0,
    ) -> None:
        super().__init__(
            "the router",
            f"model {name}",
            name,
            workdir,
            start_seconds=start_seconds,
            stop_seconds=stop_seconds,
            drain=drain,
        )
        self.routing, self.calls = Path(routing), Path(calls) if calls is not None else self.workdir / "calls"
        self.port = port

    def _command(self) -> list[str]:
        return [*ROUTER, "--routing", str(self.routing.resolve()), "--calls", str(self.calls.resolve())]
