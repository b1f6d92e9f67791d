"""Where a local run's time goes: inside the project's functions, in imports, and around them.

    python benchmarks/local_run.py --subjects 1000 --repeats 3

Each repeat runs the main job in a fresh home. Overhead of a step is its wall time minus the time between its own
start and finish: starting Python, kfp's executor, and the orchestrator. CPU is what the step's process and its children
used from their start to the step's finish, peak memory that of the process. Imports are measured in one further run
with Python's own import timer (which slows it), and lie partly inside and partly outside the steps. The no-op step does
nothing but start, open its stores, and record that it ran. Prints one table of medians and the same as JSON with
``--json``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IMPORT = re.compile(r"^\[(?P<task>[^\]]+)\] import time:\s+(?P<self>\d+) \|")


def run(home: Path, source: Path, backend: str, **environment: str) -> dict[str, Any]:
    """One run of the main job; its record."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TRIALOPS_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    settings = {"TRIALOPS_HOME": str(home), "TRIALOPS_SEARCH_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines.cli", "run", "scheduled_retraining", "--source", str(source)]
    subprocess.run(
        command,
        env={**kept, **settings, **environment},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    record: dict[str, Any] = json.loads(next(home.glob("runs/*/run.json")).read_text())
    return record


def imports(home: Path) -> dict[str, float]:
    """Seconds spent importing, by task path, from the log of a run under the import timer."""
    found: dict[str, int] = {}
    with open(next(home.glob("runs/*/log.txt"))) as log:
        for line in log:
            match = IMPORT.match(line)
            if match:
                found[match["task"]] = found.get(match["task"], 0) + int(match["self"])
    return {task: microseconds / 1e6 for task, microseconds in found.items()}


def used(home: Path) -> dict[str, dict[str, float]]:
    """CPU seconds and peak MB by step name, from the steps' records."""
    records = [json.loads(path.read_text()) for path in home.glob("runs/*/steps/*/record.json")]
    return {record["step"]: {"cpu": record["cpu_seconds"], "peak_mb": record["peak_mb"]} for record in records}


def no_op(home: Path, repeats: int) -> dict[str, Any]:
    """A step that does nothing, each time in a process of its own."""
    code = "from trialops.stores import step\nwith step('no-op'): pass"
    found, seconds = [], []
    for number in range(repeats + 1):
        environment = {
            **os.environ,
            "TRIALOPS_HOME": str(home),
            "TRIALOPS_RUN_ID": f"no-op-{number}",
            "PYTHONPATH": str(ROOT),
        }
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
        record = json.loads((home / f"runs/no-op-{number}/steps/no-op/record.json").read_text())
        found.append((record["seconds"], record["cpu_seconds"], record["peak_mb"]))
    inside, cpu, peak = (statistics.median(one[k] for one in found[1:]) for k in range(3))  # the first makes the stores
    wall = statistics.median(seconds[1:])
    return {
        "step": "a no-op step",
        "wall": wall,
        "inside": inside,
        "overhead": wall - inside,
        "cpu": cpu,
        "peak_mb": peak,
        "imports": 0.0,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backend", choices=("ray", "inprocess"), default="ray")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    from trialops.synthetic import generate

    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / "trial"
        generate(trial, subjects=arguments.subjects, sites=20, seed=1, formats=("sdtm",))
        source = trial / "sdtm"
        run(Path(scratch) / "warm", source, arguments.backend)
        records = [run(Path(scratch) / f"home-{n}", source, arguments.backend) for n in range(arguments.repeats)]
        run(Path(scratch) / "imports", source, arguments.backend, PYTHONPROFILEIMPORTTIME="1")
        imported = imports(Path(scratch) / "imports")
        spent = [used(Path(scratch) / f"home-{n}") for n in range(arguments.repeats)]
        rows = [no_op(Path(scratch) / "no-op", arguments.repeats)]

    for step in records[0]["steps"]:
        same = [s for record in records for s in record["steps"] if s["path"] == step["path"]]
        if step["state"] != "ran":
            continue
        rows.append(
            {
                "step": step["title"],
                "wall": statistics.median(s["seconds"] for s in same),
                "inside": statistics.median(s["inside_seconds"] for s in same),
                "overhead": statistics.median(s["overhead_seconds"] for s in same),
                "cpu": statistics.median(one[step["step"]]["cpu"] for one in spent),
                "peak_mb": statistics.median(one[step["step"]]["peak_mb"] for one in spent),
                "imports": round(imported.get(step["path"], 0.0), 2),
            }
        )
    total = {
        "wall": statistics.median(record["seconds"] for record in records),
        "overhead": statistics.median(record["overhead_seconds"] for record in records),
    }
    if arguments.json:
        print(json.dumps({"steps": rows, "total": total}, indent=1))
        return 0
    columns = ("wall", "inside", "overhead", "cpu", "imports", "peak_mb")
    print(f"{'step':<34}" + "".join(f"{name.replace('_', ' '):>10}" for name in columns))
    for row in rows:
        print(
            f"{row['step']:<34}" + "".join(f"{row[name]:>10.2f}" for name in columns[:-1]) + f"{row['peak_mb']:>10.0f}"
        )
    share = total["overhead"] / total["wall"]
    print(f"{'the run':<34}{total['wall']:>10.2f}{total['wall'] - total['overhead']:>10.2f}{total['overhead']:>10.2f}")
    print(f"overhead is {share:.0%} of the wall time, {total['overhead'] / (len(rows) - 1):.2f} s a step")
    return 0


if __name__ == "__main__":
    sys.exit(main())
