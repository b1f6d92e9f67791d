"""Run a pipeline here, without a cluster: the embedded orchestrator.

The pipeline is compiled to the same IR a cluster gets and run by kfp.local, one process per step. Finished
steps are reused between runs when nothing they depend on has changed, and a run that failed, was interrupted
or was killed continues where it stopped.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.base import QUIET
from pipelines.catalog import Entry, load
from pipelines.engine import Engine, Interrupted, Row
from pipelines.graph import Planned, unfold
from pipelines.leftovers import end_leftovers
from pipelines.parameters import signature, typed
from pipelines.reuse import StepCache
from pipelines.runs import RunFolder, new_run_id, now, to_resume
from trialops.errors import TrialOpsError

ROOT = Path(__file__).resolve().parent.parent


class View(Protocol):
    """What shows a run while it goes on."""

    def begin(self, run: RunFolder, entry: Entry, plan: list[Planned], rows: Mapping[str, Row]) -> None:
        """The run starts; ``rows`` fills as tasks start."""

    def change(self, row: Row, event: dict[str, Any]) -> None:
        """A task changed."""

    def stop(self) -> None:
        """Nothing changes any more; called however the run ends."""

    def end(self, result: RunResult) -> None:
        """The run is over."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_id: The run.
        state: "succeeded", "failed" or "interrupted".
        steps: One dictionary per task, as in ``run.json``.
        page: The page a person reads, or None when none was built.
        seconds: Wall time of this attempt.
        overhead: Seconds of it in which no step was at work.
        counts: Tasks by state (ran, reused, skipped, failed, interrupted).
        error: what, where and fix of the failure, or None.
        folder: The run's folder.
    """

    run_id: str
    state: str
    steps: tuple[dict[str, Any], ...]
    page: Path | None
    seconds: float
    overhead: float
    counts: dict[str, int]
    error: dict[str, str] | None
    folder: Path

    @property
    def nothing_new(self) -> bool:
        """Whether every task that took part was reused."""
        return self.state == "succeeded" and self.counts["reused"] > 0 and self.counts["ran"] == 0


def run(
    entry: Entry,
    parameters: Mapping[str, Any],
    *,
    home: Path,
    resume: str | bool | None = None,
    cache: bool = True,
    progress: View | None = None,
) -> RunResult:
    """Run a catalogue pipeline with kfp.local.

    Args:
        entry: What to run.
        parameters: Values by name; text is converted to the parameter's type.
        home: Folder of the embedded stores.
        resume: True continues the latest unfinished run of this pipeline, a run id continues that one.
        cache: Whether unchanged steps of earlier runs may be reused.
        progress: What shows the run.

    Returns:
        The result; a failed or interrupted run is a result too.

    Raises:
        TrialOpsError: When the run cannot start: wrong parameters, nothing to resume, already running.
    """
    home = home.resolve()
    pipeline = load(entry)
    spec = pipeline.pipeline_spec
    given = typed(spec, parameters, complete=not resume)
    if resume:
        folder = to_resume(home, entry.name, resume if isinstance(resume, str) else None)
    else:
        folder = RunFolder(home, new_run_id(entry.name))
    with folder.locked():
        record = _opened(folder, entry, spec, given, resumed=bool(resume))
        # A run that was started without a cache is continued without one.
        record["cache"] = cache and record.get("cache", True)
        folder.write(record)
        return _attempt(folder, entry, pipeline, record, view=progress)


def _opened(folder: RunFolder, entry: Entry, spec: Any, given: Mapping[str, Any], *, resumed: bool) -> dict[str, Any]:
    """The run's record at the start of an attempt."""
    from trialops.version import code_version

    if resumed:
        record = folder.read()
        end_leftovers(folder)
        changed = sorted(name for name, value in given.items() if record["parameters"].get(name) != value)
        if changed:
            raise TrialOpsError(
                f"Run {folder.run_id} was started with other values of {', '.join(changed)}",
                where=str(folder.record),
                fix="Resume without --set, or start a new run with the new values.",
            )
        for earlier in record["attempts"]:
            if earlier["state"] == "running":
                earlier["state"] = "killed"
    else:
        defaults = {name: facts["default"] for name, facts in signature(spec).items() if facts["default"] is not None}
        record = {
            "run_id": folder.run_id,
            "pipeline": entry.name,
            "title": entry.title,
            "parameters": {**defaults, **given},
            "given": dict(given),
            "started": now(),
            "attempts": [],
        }
    record |= {"state": "running", "finished": None, "error": None, "code_version": code_version()}
    record |= {"python": platform.python_version(), "steps": record.get("steps", [])}
    record["attempts"].append(
        {
            "started": now(),
            "finished": None,
            "state": "running",
            "code_version": code_version(),
            "pid": os.getpid(),
        }
    )
    return record


def _attempt(folder: RunFolder, entry: Entry, pipeline: Any, record: dict[str, Any], *, view: View | None) -> RunResult:
    from kfp import compiler, local
    from kfp.local import pipeline_orchestrator

    from trialops.settings import Settings
    from trialops.stores.vault import vault_id

    began = time.monotonic()
    compiler.Compiler().compile(pipeline, str(folder.spec))
    spec, plan = unfold(pipeline.pipeline_spec)
    place: dict[str, Any] = {"home": folder.home}
    settings = Settings(**place)
    store = StepCache(
        folder.home / "cache",
        run_id=folder.run_id,
        code_version=record["code_version"],
        across_runs=record["cache"] and entry.caching,
        lake=None if "://" in settings.lake else Path(settings.lake),
        vault=vault_id(settings),
    )

    def changed(row: Row, event: dict[str, Any]) -> None:
        if view is not None:
            view.change(row, event)

    engine = Engine(folder, plan, store, _environment(folder, entry, record["code_version"]), changed)
    if view is not None:
        view.begin(folder, entry, plan, engine.rows)
    problem: dict[str, str] | None = None
    state = "failed"
    with contextlib.ExitStack() as stack:
        if view is not None:
            stack.callback(view.stop)
        stack.enter_context(engine.installed())
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(folder.artifacts),
            workspace_root=str(folder.path / "workspace"),
            raise_on_error=False,
            enable_caching=True,
            cache_root=str(store.root),
        )
        # local.init drops the cache object that the engine installed.
        engine.install_cache()
        with _signals(engine):
            try:
                pipeline_orchestrator.run_local_pipeline(spec, dict(record["parameters"]))
                state = "failed" if any(row.state == "failed" for row in engine.rows.values()) else "succeeded"
            except Interrupted:
                state = "interrupted"
            except Exception as error:
                engine.log(f"{type(error).__name__}: {error}")
                problem = {
                    "what": f"The pipeline could not be orchestrated: {type(error).__name__}: {error}",
                    "where": str(folder.spec),
                    "fix": "Correct the pipeline definition; its IR and the log are in the run folder.",
                }
        problem = _problem(engine, plan, state, problem, folder)
        if problem is not None and state == "succeeded":
            state = "failed"
        result = _closed(folder, entry, record, engine, plan, state, problem, began)
        page = _page(folder, engine)
    result = RunResult(**{**result.__dict__, "page": page})
    if view is not None:
        view.end(result)
    return result


def _problem(
    engine: Engine, plan: list[Planned], state: str, problem: dict[str, str] | None, folder: RunFolder
) -> dict[str, str] | None:
    """The one error to show: a guess of the orchestrator, else the first failed step, exit steps last."""
    if engine.guesses:
        return {
            "what": f"kfp.local could not decide what to run: {engine.guesses[0]}",
            "where": str(folder.spec),
            "fix": "Gate on the single output of a task, or write dsl.If with dsl.Else.",
        }
    if problem is not None or state == "interrupted":
        return problem
    exits = {item.path for item in plan if item.exits}
    failed = [row for row in engine.rows.values() if row.state == "failed"]
    failed.sort(key=lambda row: (row.path.partition("@")[0] in exits, row.began))
    if failed:
        return failed[0].error or {
            "what": f"Step {failed[0].title!r} failed",
            "where": str(folder.log),
            "fix": "Read the log; then continue with --resume.",
        }
    if state == "failed":
        return {
            "what": "The pipeline failed before a step did",
            "where": str(folder.log),
            "fix": "Read the log.",
        }
    return None


def _closed(
    folder: RunFolder,
    entry: Entry,
    record: dict[str, Any],
    engine: Engine,
    plan: list[Planned],
    state: str,
    problem: dict[str, str] | None,
    began: float,
) -> RunResult:
    ended = time.monotonic()
    seen = {path.partition("@")[0] for path in engine.rows}
    absent = "skipped" if state == "succeeded" else "not run"
    rows = sorted(engine.rows.values(), key=lambda row: row.began)
    steps = [row.as_dict() for row in rows]
    steps += [
        Row(item.path, item.path.rpartition("/")[2], item.title, state=absent).as_dict()
        for item in plan
        if item.path not in seen
    ]
    states = [step["state"] for step in steps]
    counts = {name: states.count(name) for name in ("ran", "reused", "skipped", "failed", "interrupted", "not run")}
    seconds, overhead = round(ended - began, 3), engine.overhead(began, ended)
    record |= {
        "state": state,
        "finished": now(),
        "seconds": seconds,
        "overhead_seconds": overhead,
        "steps": steps,
        "counts": counts,
        "error": problem,
    }
    record["attempts"][-1] |= {"state": state, "finished": record["finished"], "seconds": seconds}
    folder.write(record)
    return RunResult(
        run_id=folder.run_id,
        state=state,
        steps=tuple(steps),
        page=None,
        seconds=seconds,
        overhead=overhead,
        counts=counts,
        error=problem,
        folder=folder.path,
    )


def _page(folder: RunFolder, engine: Engine) -> Path | None:
    """Build the run's page; a page that cannot be built is logged and never changes how the run ended."""
    from trialops.pages import run_page
    from trialops.settings import settings

    # The page reads the stores of this run's home, which need not be the one this process was started with.
    before = os.environ.get("TRIALOPS_HOME")
    os.environ["TRIALOPS_HOME"] = str(folder.home)
    settings.cache_clear()
    try:
        run_page.build(folder.home, folder.run_id)
    except Exception as error:
        engine.log(f"The run's page could not be built: {type(error).__name__}: {error}")
    finally:
        os.environ.pop("TRIALOPS_HOME")
        if before is not None:
            os.environ["TRIALOPS_HOME"] = before
        settings.cache_clear()
    return folder.page if folder.page.exists() else None


def _environment(folder: RunFolder, entry: Entry, version: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {
        **QUIET,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "TRIALOPS_HOME": str(folder.home),
        "TRIALOPS_RUN_ID": folder.run_id,
        "TRIALOPS_PIPELINE": entry.name,
        "TRIALOPS_CODE_VERSION": version,
    }


@contextlib.contextmanager
def _signals(engine: Engine) -> Iterator[None]:
    """Ctrl-C and a polite kill end the running step and then the run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ended(number: int, frame: Any) -> None:
        if engine.interrupted.is_set():
            sys.exit(128 + number)
        engine.interrupt()

    before = {number: signal.signal(number, ended) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
