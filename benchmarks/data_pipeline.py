"""The whole data pipeline on synthesized trials of several sizes: seconds a step, rows a second, peak memory.

Each size is a process of its own, so that its peak memory is its own. The claim is that memory and time grow in
proportion to the delivery at most, and that 10,000 subjects fit into what a task asks for on a cluster (8 GiB).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def one(subjects: int, formats: str, folder: Path) -> dict[str, object]:
    """Synthesize, run, and measure; called in a process of its own."""
    from trialops.synthetic import generate

    trial = folder / "trial"
    made = generate(trial, subjects=subjects, sites=max(10, subjects // 50), seed=1, formats=tuple(formats.split(",")))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRIALOPS_")}
    command = [sys.executable, "-m", "pipelines.cli", "--home", str(folder / "home"), "run", "data_pipeline"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--source", str(trial)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    (record,) = (json.loads(p.read_text()) for p in (folder / "home").glob("runs/*/run.json"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    steps = {step["step"]: round(step["seconds"], 1) for step in record["steps"] if step["state"] == "ran"}
    return {
        "subjects": subjects,
        "rows": sum(n for name, n in made.counts.items() if name != "HL7 messages"),
        "megabytes": round(made.bytes / 1e6),
        "seconds": round(seconds, 1),
        "peak_mb": round(peak),
        "steps": steps,
    }


def main() -> None:
    """Measure every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--formats", default="sdtm", help="sdtm, or sdtm,fhir")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(one(arguments.one, arguments.formats, Path(folder))))
        return
    results = []
    for subjects in arguments.subjects:
        command = [sys.executable, __file__, "--one", str(subjects), "--formats", arguments.formats]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    print("| subjects | rows and resources | MB | seconds | rows/s | peak memory MB |\n|---|---|---|---|---|---|")
    for r in results:
        print(
            f"| {r['subjects']:,} | {r['rows']:,} | {r['megabytes']:,} | {r['seconds']:,} | "
            f"{r['rows'] / r['seconds']:,.0f} | {r['peak_mb']:,} |"
        )
    first, last = results[0], results[-1]
    print(
        f"\n{last['rows'] / first['rows']:.1f} times the rows: {last['seconds'] / first['seconds']:.1f} times the "
        f"seconds, {last['peak_mb'] / first['peak_mb']:.1f} times the memory\n"
    )
    for r in results:
        print(r["subjects"], r["steps"])


if __name__ == "__main__":
    main()
