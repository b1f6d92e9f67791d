"""kfp.local, watched: every task seen, named, reused, logged and ended as a person at a terminal expects.

kfp is pinned, and this module replaces three of its module attributes for the time of a run: the function
that runs one task, the function that starts a step's process, and the cache object.
``tests/unit/pipelines/test_engine.py`` fails when kfp moves one of them.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import io
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from kfp.dsl.component_factory import EXECUTOR_MODULE
from kfp.local import cache as kfp_cache
from kfp.local import config, status, subprocess_task_handler
from kfp.local.orchestrator import task_executor
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineTaskSpec

from pipelines.graph import Planned
from pipelines.output import MARK, Lines, brief, last_line, parse_event
from pipelines.reuse import CurrentTask, StepCache
from pipelines.runs import RunFolder, now

GRACE_SECONDS = 5.0

# What kfp.local logs when it guesses. Each of these has let a run skip work and end as a success.
GUESSES = (
    "Could not resolve",
    "Condition evaluation failed",
    "Failed to apply expression selector",
    "Failed to evaluate parameter expression",
    "Failed to get artifact iterator items",
    "Unknown items type",
    "Unknown iterator type",
)


class Interrupted(BaseException):
    """The person at the terminal ended the run; no Exception, so that no orchestrator code swallows it."""


@dataclass
class Row:
    """What is known of one task of a run."""

    path: str
    task: str
    title: str
    state: str = "waiting"
    step: str = ""
    started: str = ""
    seconds: float = 0.0
    inside_seconds: float = 0.0
    overhead_seconds: float = 0.0
    message: str = ""
    fraction: float | None = None
    from_run: str = ""
    error: dict[str, str] | None = None
    began: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain form for ``run.json``."""
        facts = asdict(self)
        del facts["began"], facts["fraction"]
        return facts


class Engine:
    """One run of one unfolded pipeline.

    Args:
        run: The run's folder.
        plan: Leaf tasks from :func:`pipelines.graph.unfold`.
        cache: Where finished steps are looked up.
        environment: Variables every step gets.
        changed: Called with a row and the event that changed it, from the thread that runs the task.
    """

    def __init__(
        self,
        run: RunFolder,
        plan: list[Planned],
        cache: StepCache,
        environment: dict[str, str],
        changed: Callable[[Row, dict[str, Any]], None],
    ) -> None:
        self.run = run
        self.plan = {item.path: item for item in plan}
        self.cache = cache
        self.environment = environment
        self.changed = changed
        self.rows: dict[str, Row] = {}
        self.guesses: list[str] = []
        self.inside: list[tuple[float, float]] = []
        self.interrupted = threading.Event()
        self._children: dict[int, subprocess.Popen[str]] = {}
        self._lock = threading.RLock()
        self._thread = threading.local()
        self._files = contextlib.ExitStack()
        self._log: TextIO = io.StringIO()
        self._events: TextIO = io.StringIO()

    # -- the three hooks -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Put the hooks in place, send all output to the log, and put everything back afterwards."""
        root = logging.getLogger()
        handlers, level, print_function = root.handlers[:], root.level, builtins.print
        self._original = task_executor.execute_single_task
        start_process = subprocess_task_handler.run_local_subprocess
        with self._files:
            self._log = self._files.enter_context(self.run.log.open("a", buffering=1, errors="replace"))
            self._events = self._files.enter_context(self.run.events.open("a", buffering=1))
            root.addFilter(self._notice)
            task_executor.execute_single_task = self.execute_task
            subprocess_task_handler.run_local_subprocess = self.run_process
            output = Lines(self.log)
            try:
                with (
                    warnings.catch_warnings(),
                    contextlib.redirect_stdout(output),
                    contextlib.redirect_stderr(output),
                ):
                    # kfp.local says of every hardened task that a limit has no effect here.
                    warnings.filterwarnings("ignore", message="Task .* no effect in the current local runner")
                    yield
            finally:
                task_executor.execute_single_task = self._original
                subprocess_task_handler.run_local_subprocess = start_process
                kfp_cache.reset_local_cache_singleton()
                config.LocalExecutionConfig.instance = None
                root.removeFilter(self._notice)
                # Parallel loop bodies can leave kfp's own logger and print replacements behind.
                root.handlers[:] = handlers
                root.setLevel(level)
                builtins.print = print_function

    def install_cache(self) -> None:
        """Make this run's cache the one kfp.local asks."""
        kfp_cache._cache_singleton = self.cache
        kfp_cache._cache_singleton_root = str(self.cache.root)

    def _notice(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.levelno >= logging.WARNING and message.startswith(GUESSES):
            self.guesses.append(message)
        return True

    def execute_task(self, **call: Any) -> tuple[dict[str, Any], status.Status]:
        """Run or reuse one leaf task; stands for kfp.local's own function."""
        spec: PipelineTaskSpec = call["task_spec"]
        planned = self.plan[spec.component_ref.name.removeprefix("comp-")]
        turns = re.findall(r"-iteration-(\d+)(?=/|$)", call["pipeline_resource_name"])
        path = planned.path + ("@" + ".".join(turns) if turns else "")
        title = planned.title + (f" [{'.'.join(str(int(turn) + 1) for turn in turns)}]" if turns else "")
        if self.interrupted.is_set():
            raise Interrupted
        if self.guesses and not planned.exits:
            return {}, status.Status.FAILURE

        copy = PipelineTaskSpec()
        copy.CopyFrom(spec)
        pure = spec.caching_options.enable_cache
        # An exit task speaks of this attempt: its word on an earlier one must not stand for it.
        copy.caching_options.enable_cache = not planned.exits
        # A first failure is shown at once, and --resume tries again; on the cluster the retries stay.
        copy.ClearField("retry_policy")

        row = Row(path, call["task_name"], title, state="running", started=now(), began=time.monotonic())
        current = CurrentTask(path, call["task_name"], pure)
        with self._lock:
            self.rows[path] = row
        self.cache.current = current
        self._thread.row, self._thread.current = row, current
        self.changed(row, {"event": "task"})
        outputs: dict[str, Any] = {}
        outcome = status.Status.FAILURE
        try:
            outputs, outcome = self._original(**{**call, "task_spec": copy})
        except Exception as error:
            row.error = row.error or {
                "what": f"Step {title!r} could not be run: {type(error).__name__}: {last_line(str(error))}",
                "where": str(self.run.log),
                "fix": "Read the log.",
            }
            self.log(f"[{path}] {type(error).__name__}: {error}")
        finally:
            row.seconds = round(time.monotonic() - row.began, 3)
            row.overhead_seconds = round(max(0.0, row.seconds - row.inside_seconds), 3)
            if self.interrupted.is_set() and outcome != status.Status.SUCCESS:
                row.state = "interrupted"
            elif outcome != status.Status.SUCCESS:
                row.state = "failed"
            elif current.reused_from:
                row.state, row.from_run = "reused", current.reused_from
                row.step = current.steps[0] if current.steps else row.task
                for step in current.steps or [row.task]:
                    self.event(row, {"event": "reuse", "step": step, "from_run": current.reused_from})
            else:
                row.state = "ran"
            self.changed(row, {"event": "end"})
        if self.interrupted.is_set():
            raise Interrupted
        return outputs, outcome

    def run_process(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Start a step's process in its own group and follow its output; stands for kfp.local's function."""
        with tempfile.TemporaryDirectory(prefix="trialops-step-") as program:
            # kfp writes the step's program to a folder it never removes; this one is removed.
            # Its end is ours: see pipelines.step_main.
            own = shlex.quote(program)
            command = [
                part.replace("$(mktemp -d)", own).replace(EXECUTOR_MODULE, "pipelines.step_main")
                for part in full_command
            ]
            return self._follow_process(command, env_vars or {})

    def _follow_process(self, command: list[str], env_vars: dict[str, str]) -> int:
        row, current = self._thread.row, self._thread.current
        tail: collections.deque[str] = collections.deque(maxlen=40)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            env={**os.environ, **env_vars, **self.environment},
            start_new_session=True,
        )
        with self._lock:
            self._children[process.pid] = process
            self._note_children()
            ended = self.interrupted.is_set()
        if ended:
            self._signal(signal.SIGINT)
        reader = threading.Thread(target=self._follow, args=(process, row, current, tail), daemon=True)
        reader.start()
        try:
            code = process.wait()
            # The error a step reports is its last line. A server it left behind may hold the pipe open: do not wait
            # for the end of that.
            reader.join(timeout=2.0)
        finally:
            with self._lock:
                self._children.pop(process.pid, None)
                self._note_children()
        if code != 0 and row.error is None:
            row.error = self._crash(row, code, list(tail))
        return code

    # -- output ----------------------------------------------------------------------------------------------

    def log(self, line: str) -> None:
        """Add a line to the log."""
        with self._lock:
            if not self._log.closed:
                self._log.write(line.rstrip("\n") + "\n")

    def event(self, row: Row, event: dict[str, Any]) -> None:
        """Add an event of a task to ``events.jsonl``."""
        with self._lock:
            if not self._events.closed:
                full = {"at": now(), **event, "task": row.path, "title": row.title}
                self._events.write(json.dumps(full) + "\n")

    def _follow(
        self, process: subprocess.Popen[str], row: Row, current: CurrentTask, tail: collections.deque[str]
    ) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.rstrip("\n")
            mark = text.lstrip()
            event = parse_event(mark[len(MARK) :]) if mark.startswith(MARK) else None
            if event is None:
                tail.append(text)
                self.log(f"[{row.path}] {text}")
            else:
                self._take(row, current, event)

    def _take(self, row: Row, current: CurrentTask, event: dict[str, Any]) -> None:
        kind, step = event.get("event"), str(event.get("step", ""))
        with self._lock:
            if kind == "start" and step and step not in current.steps:
                current.steps.append(step)
                row.step = row.step or step
            if event.get("message"):
                row.message = str(event["message"])
            elif kind == "finish" and isinstance(event.get("summary"), dict) and event["summary"]:
                row.message = brief(event["summary"])
            if kind == "progress":
                row.fraction = event.get("fraction")
            if kind in ("finish", "fail"):
                seconds = float(event.get("seconds") or 0.0)
                row.inside_seconds = round(row.inside_seconds + seconds, 3)
                moment = time.monotonic()
                self.inside.append((moment - seconds, moment))
            if kind == "fail":
                error = event.get("error") or {}
                row.error = {key: str(error.get(key) or "") for key in ("what", "where", "fix")}
        self.event(row, event)
        self.changed(row, event)

    def _crash(self, row: Row, code: int, tail: list[str]) -> dict[str, str]:
        if self.interrupted.is_set():
            what = f"Step {row.title!r} was interrupted"
        elif code < 0 or code in (137, 143):
            number = -code if code < 0 else code - 128
            what = f"Step {row.title!r} was killed by signal {signal.Signals(number).name}"
        else:
            what = f"Step {row.title!r} crashed: {last_line(chr(10).join(tail)) or f'exit code {code}'}"
        return {"what": what, "where": str(self.run.log), "fix": "Read the log; then continue with --resume."}

    # -- ending ----------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """End the running steps: ask, then insist, then force. Safe to call from a signal handler."""
        self.interrupted.set()
        self._signal(signal.SIGINT)

        def insist() -> None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                time.sleep(GRACE_SECONDS)
                self._signal(number)

        threading.Thread(target=insist, daemon=True).start()

    def _signal(self, number: signal.Signals) -> None:
        for pid in list(self._children):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)

    def _note_children(self) -> None:
        (self.run.path / "children").write_text("\n".join(str(pid) for pid in self._children))

    def overhead(self, began: float, ended: float) -> float:
        """Seconds of ``began..ended`` in which no step was doing its own work."""
        covered, edge = 0.0, began
        for start, stop in sorted(self.inside):
            covered += max(0.0, min(stop, ended) - max(start, edge))
            edge = max(edge, min(stop, ended))
        return round(max(0.0, ended - began - covered), 3)
