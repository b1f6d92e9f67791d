"""Speed and peak memory of the trial generator by size of the trial.

Each size runs in its own process. The claim: memory does not grow with the number of subjects.

    python benchmarks/synthesize.py --subjects 1000 10000 100000 --formats sdtm
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CHILD = """
import dataclasses, json, sys
from trialops.synthetic import generate
summary = generate(sys.argv[1], subjects=int(sys.argv[2]), formats=sys.argv[3].split(","))
print(json.dumps(dataclasses.asdict(summary)))
"""
ROOT = Path(__file__).resolve().parent.parent
HEADINGS = (
    "subjects",
    "seconds",
    "subjects/s",
    "rows",
    "rows/s",
    "MB written",
    "peak RSS MB",
    "peak / first",
)


def measure(subjects: int, formats: str, folder: Path) -> dict[str, Any]:
    """Generate one trial in a child process, then delete it.

    Args:
        subjects: Screened subjects.
        formats: Comma-separated formats.
        folder: Folder for the trial; must not exist.

    Returns:
        The summary's fields, and `peak` in bytes.
    """
    command = [sys.executable, "-c", CHILD, str(folder), str(subjects), formats]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as child:
            assert child.stdout is not None
            output = child.stdout.read()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"generation of {subjects} subjects failed with code {child.returncode}")
        unit = 1 if sys.platform == "darwin" else 1024
        return {**json.loads(output), "peak": usage.ru_maxrss * unit}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run the sizes asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--formats", default="sdtm", help="comma-separated: sdtm, fhir, hl7")
    parser.add_argument(
        "--scratch", type=Path, default=None, help="where trials are written (default: temporary folder)"
    )
    arguments = parser.parse_args()
    print(f"formats: {arguments.formats}")
    print("  ".join(f"{h:>12}" for h in HEADINGS))
    first = 0
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        for subjects in arguments.subjects:
            found = measure(subjects, arguments.formats, Path(scratch) / "trial")
            rows = sum(found["counts"].values())
            first = first or found["peak"]
            cells = (
                f"{subjects:,}",
                f"{found['seconds']:.1f}",
                f"{subjects / found['seconds']:,.0f}",
                f"{rows:,}",
                f"{rows / found['seconds']:,.0f}",
                f"{found['bytes'] / 1e6:,.0f}",
                f"{found['peak'] / 1e6:,.0f}",
                f"{found['peak'] / first:.2f}",
            )
            print("  ".join(f"{c:>12}" for c in cells), flush=True)


if __name__ == "__main__":
    main()
