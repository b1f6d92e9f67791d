"""Run the command line as a person does, in a process of its own, and look at what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.vaults import settle_vault
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store

ROOT = Path(__file__).resolve().parents[2]
TABLES = (
    "clean/dm",
    "clean/ae",
    "clean/lb",
    "quality/queries",
    "features/labs",
    "features/events",
    "training/withdrawal",
    "splits/withdrawal",
)


@dataclass(frozen=True)
class Home:
    """The stores of one installation, its keys the same in every run of the tests."""

    path: Path

    def __post_init__(self) -> None:
        settle_vault(self.path)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRIALOPS_", "CLINICAL_DB"))}
        base = {
            "TRIALOPS_HOME": str(self.path),
            "TRIALOPS_SEARCH_BACKEND": "inprocess",
            "TRIALOPS_ACTOR": "tester",
            # Somebody may be editing the sources while the tests run; a run then rightly reuses nothing.
            "TRIALOPS_CODE_VERSION": "under-test",
        }
        return {**kept, **base, "PYTHONPATH": str(ROOT), **more}

    def trialops(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        return subprocess.run(
            command, env=self.environment(**more), capture_output=True, text=True, check=False, timeout=280
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        return subprocess.Popen(
            command,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def runs(self) -> list[dict[str, Any]]:
        """Run records, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.path.glob("runs/*/run.json"))]

    def run(self) -> dict[str, Any]:
        """The newest run."""
        return self.runs()[-1]

    def events(self, run_id: str) -> list[dict[str, Any]]:
        path = self.path / "runs" / run_id / "events.jsonl"
        if not path.exists():
            return []
        lines = path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def output(self, run_id: str, step: str, artifact: str) -> Path:
        """Content of a step's output."""
        record = json.loads((self.path / "runs" / run_id / "steps" / step / "record.json").read_text())
        return next(Path(item["path"]) for item in record["outputs"] if item["artifact"] == artifact)

    def state(self) -> dict[str, list[tuple[int, str]]]:
        """Versions and digests of every table the main job writes: two equal states are two equal results."""
        lake = Lake(str(self.path / "lake"), open_store(str(self.path)))
        return {table: [(v["version"], v["digest"]) for v in lake.versions(table)] for table in TABLES}


def states(run: dict[str, Any]) -> dict[str, str]:
    """Step name to state of a run's tasks."""
    return {step["step"] or step["task"]: step["state"] for step in run["steps"]}


def kill_in_new_step(home: Home, process: subprocess.Popen[bytes], spared: set[str], lasted: dict[str, float]) -> str:
    """Kill the runner with its step (SIGKILL), half-way through the first step that is not spared.

    Returns:
        The step that was killed; empty when the run ended by itself.
    """
    known = {run["run_id"]: len(home.events(run["run_id"])) for run in home.runs()}

    def fresh() -> list[dict[str, Any]]:
        """Events of the newest run since the process was started."""
        runs = home.runs()
        return home.events(runs[-1]["run_id"])[known.get(runs[-1]["run_id"], 0) :] if runs else []

    while process.poll() is None:
        started = [e["step"] for e in fresh() if e["event"] == "start" and e["step"] not in spared]
        if started:
            time.sleep(lasted[started[0]] / 2)
            ended = {e["step"] for e in fresh() if e["event"] == "finish"}
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "" if started[0] in ended else started[0]
        time.sleep(0.02)
    return ""
