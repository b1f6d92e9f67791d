"""What computing the feature views costs, against one polars scan of the columns they read.

    .venv/bin/python benchmarks/features.py
    .venv/bin/python benchmarks/features.py --subjects 250 1000 4000 --rounds 3

Baseline: read the needed columns of the same tables from Parquet and sum the numbers. Candidate: the same read
and every view of subjects. Both interleaved in one run; medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import polars.selectors as cs
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.temporal_trial import temporal_trial  # noqa: E402
from trialops.features.definition_file import load  # noqa: E402
from trialops.features.views import feature_views  # noqa: E402


def copies(subjects: int, base: dict[str, pl.DataFrame], size: int) -> dict[str, pl.DataFrame]:
    """The small trial again and again, with other names, until there are so many subjects."""
    times = -(-subjects // size)
    return {
        name: pl.concat([f.with_columns(USUBJID=pl.col("USUBJID") + f"-{i:04d}") for i in range(times)])
        for name, f in base.items()
    }


def scan(folder: Path, names: list[str], columns: dict[str, list[str]]) -> float:
    """One pass over the columns the features read."""
    began = time.perf_counter()
    for name in names:
        frame = pl.scan_parquet(folder / f"{name}.parquet").select(columns[name])
        frame.select(cs.numeric().sum()).collect()
    return time.perf_counter() - began


def build(folder: Path, names: list[str], columns: dict[str, list[str]]) -> tuple[float, int]:
    """The same columns, and every view of subjects."""
    began = time.perf_counter()
    tables = {n: pl.read_parquet(folder / f"{n}.parquet", columns=columns[n]) for n in names}
    views = feature_views(tables)
    return time.perf_counter() - began, sum(v.height for v in views.values())


def main() -> None:
    """Measure and print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[250, 1000, 4000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size = 125
    base, sources = temporal_trial(size, seed=1), load().sources()
    read = {column for names in sources.values() for column in names} | {"USUBJID", "SITEID", "CUTDY"}
    heads = ("subjects", "rows in", "rows out", "scan s", "build s", "ratio", "rows/s", "MB held")
    print(" ".join(f"{head:>9}" for head in heads))
    for subjects in options.subjects:
        tables = copies(subjects, base, size)
        columns = {n: [c for c in f.columns if c in read] for n, f in tables.items()}
        rows_in = sum(f.height for f in tables.values())
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            for name, frame in tables.items():
                frame.write_parquet(folder / f"{name}.parquet")
            names = list(tables)
            del tables
            before = psutil.Process().memory_info().rss
            scans, builds, out, peak = [], [], 0, 0
            for _ in range(options.rounds):
                scans.append(scan(folder, names, columns))
                seconds, out = build(folder, names, columns)
                builds.append(seconds)
                peak = max(peak, psutil.Process().memory_info().rss - before)
        a, b = statistics.median(scans), statistics.median(builds)
        figures = (subjects, rows_in, out, f"{a:.3f}", f"{b:.2f}", f"{b / a:.0f}x", f"{rows_in / b:.0f}", peak >> 20)
        print(" ".join(f"{figure:>9}" for figure in figures))


if __name__ == "__main__":
    main()
