"""Read a table of many small files before and after its compaction.

    python -m benchmarks.lake_maintenance --files 500 --rows 2000 --repeats 5

A table is written as a streaming writer leaves it: one commit and one data file for each of `--files` appends of seeded
rows (subject, study day, three measures, a text). Copies of it are compacted in turn by delta-rs's own OPTIMIZE and by
`trialops.operations.lake_compaction`, which reads back and compares what it wrote before it commits. The versions
before and after are then read in turn, `--repeats` times each, through the lake's own reader:

* `full`: every row and column;
* `columns`: two of six columns;
* `look_up`: the rows of one subject on one study day, as a filter that statistics can serve.

Prints one JSON object: median seconds and their ratio, seconds of both compactions, files, bytes, peak memory, and that
rows and checksum of the version before and the version after are the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

TABLE = "landing/monitor"


def fill(lake: str, files: int, rows: int) -> None:
    """Append seeded rows, one file at a time."""
    import numpy as np
    import polars as pl
    from deltalake import write_deltalake

    for number in range(files):
        draw = np.random.default_rng(number)
        frame = pl.DataFrame(
            {
                "subject_id": [f"s{n:04d}" for n in draw.integers(0, 2000, rows)],
                "study_day": draw.integers(0, 400, rows),
                "pulse": draw.normal(70, 9, rows),
                "systolic": draw.normal(120, 14, rows),
                "steps": draw.integers(0, 20_000, rows),
                "device": [f"device {n}" for n in draw.integers(0, 50, rows)],
            }
        )
        write_deltalake(f"{lake}/{TABLE}", frame.to_arrow(), mode="append")


def measure(files: int, rows: int, repeats: int) -> dict[str, Any]:
    """The whole comparison; see the module."""
    import polars as pl
    from deltalake import DeltaTable

    from trialops.operations.lake_compaction import compact
    from trialops.operations.lake_policy import default_lake_policy
    from trialops.operations.lake_proof import Reader
    from trialops.stores.lake import Lake
    from trialops.stores.objects import open_store
    from trialops.stores.refs import TableRef

    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(f"{folder}/lake", open_store(f"{folder}/objects"))
        fill(lake.url, files, rows)
        rule = default_lake_policy().rule("clean/x")  # without an order: the same rows in the same order
        proved: list[float] = []
        bare: list[float] = []
        for number in range(repeats):
            for kind, spent in (("bare", bare), ("proved", proved)):
                copy = f"{folder}/{kind}-{number}"
                shutil.copytree(f"{folder}/lake", copy)
                began = time.perf_counter()
                if kind == "bare":
                    DeltaTable(f"{copy}/{TABLE}").optimize.compact()
                else:
                    compact(Lake(copy, lake.objects), TABLE, rule)
                spent.append(time.perf_counter() - began)
                shutil.rmtree(copy)
        made = compact(lake, TABLE, rule)
        assert made.version is not None
        old, new = TableRef(TABLE, made.of, 0, ""), TableRef(TABLE, made.version, 0, "")
        asked = {
            "full": lambda ref: lake.scan(ref).collect(),
            "columns": lambda ref: lake.scan(ref).select("subject_id", "pulse").collect(),
            "look_up": lambda ref: lake.scan(ref).filter(
                (pl.col("subject_id") == "s0042") & (pl.col("study_day") == 7)
            ).collect(),
        }  # fmt: skip
        times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in asked}
        for _ in range(repeats):
            for name, ask in asked.items():
                for place, ref in enumerate((old, new)):
                    began = time.perf_counter()
                    ask(ref)
                    times[name][place].append(time.perf_counter() - began)
        reader = Reader(lake)
        before, after = reader.version(TABLE, old.version), reader.version(TABLE, new.version)
        stored = sum(p.stat().st_size for p in Path(lake.url, TABLE).glob("*.parquet"))
    scans = {}
    for name, (first, then) in times.items():
        ratios = [a / b for a, b in zip(first, then, strict=True)]
        scans[name] = {
            "before_s": round(statistics.median(first), 4),
            "after_s": round(statistics.median(then), 4),
            "times_faster": round(statistics.median(ratios), 1),
        }
    return {
        "files": made.files,
        "rows": after.rows,
        "bytes": made.size,
        "bytes_with_history": stored,
        "scans": scans,
        "compaction_s": round(statistics.median(proved), 3),
        "optimize_without_proof_s": round(statistics.median(bare), 3),
        "proof_costs_times": round(statistics.median(a / b for a, b in zip(proved, bare, strict=True)), 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "identical": before.rows == after.rows and before.bag == after.bag,
    }


def main() -> None:
    """Print the comparison as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.files, asked.rows, asked.repeats), indent=1))


if __name__ == "__main__":
    main()
