"""Read and write SAS transport files beside pyreadstat and beside reading the same bytes.

    python benchmarks/xport.py --rows 20000 100000 400000 --repeats 3

Laboratory-like rows: 16 text and 7 number columns. "read" is what intake does: every header and the end of the file are
checked, the encoding is decided, all columns are decoded. "bytes" only reads the file. Prints one JSON object: MB/s by
size and MB per second of CPU (medians of interleaved runs), ratios, and peak memory above what is there before reading,
in MB and as a multiple of the file, each measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trialops.intake.xport import Column, XportWriter
from trialops.intake.xport_read import read_transport

TEXT = {"STUDYID": 12, "DOMAIN": 2, "USUBJID": 18, "LBTESTCD": 7, "LBTEST": 39, "LBCAT": 10, "LBORRES": 8,
        "LBORRESU": 8, "LBORNRLO": 5, "LBORNRHI": 5, "LBSTRESC": 8, "LBSTRESU": 8, "LBNRIND": 8, "LBBLFL": 1,
        "VISIT": 17, "LBDTC": 16}  # fmt: skip
ROOT = Path(__file__).resolve().parents[1]
NUMBERS = ("LBSEQ", "LBSTRESN", "LBSTNRLO", "LBSTNRHI", "VISITNUM", "VISITDY", "LBDY")
COLUMNS = [Column(n, "char", w, n) for n, w in TEXT.items()] + [Column(n, "num", 8, n) for n in NUMBERS]


def rows(count: int, seed: int = 0) -> pl.DataFrame:
    """Rows with repeated codes, distinct results, blanks and missing numbers."""
    rng = np.random.default_rng(seed)
    codes = pl.Series([f"T{i:05d}" for i in range(40)])
    data: dict[str, Any] = {"STUDYID": pl.repeat("STUDY0000001", count, eager=True)}
    data["DOMAIN"] = pl.repeat("LB", count, eager=True)
    data["USUBJID"] = pl.Series([f"STUDY0000001-{i:05d}" for i in range(count // 200 + 1)])[np.arange(count) // 200]
    data["LBTESTCD"] = codes[rng.integers(0, 40, count)]
    data["LBTEST"] = "Test with a longer name " + data["LBTESTCD"]
    data["LBORRES"] = pl.Series(np.round(rng.lognormal(2, 1, count), 2)).cast(pl.String)
    data["LBDTC"] = pl.Series(rng.integers(0, 700, count)).cast(pl.Int64).map_elements(_day, return_dtype=pl.String)
    for name, width in TEXT.items():
        if name not in data:
            values = ["", "x" * min(width, 3), "y" * width]
            data[name] = pl.Series(values)[rng.integers(0, 3, count)]
    for name in NUMBERS:
        values = np.round(rng.normal(50, 20, count), 3)
        data[name] = pl.Series(np.where(rng.random(count) < 0.05, np.nan, values)).fill_nan(None)
    return pl.DataFrame(data).select([c.name for c in COLUMNS])


def _day(offset: int) -> str:
    return str(np.datetime64("2024-01-01") + offset) + "T08:00"


def _write(path: Path, frame: pl.DataFrame) -> None:
    with XportWriter(path, "LB", "Laboratory", COLUMNS) as writer:
        for part in frame.iter_slices(50_000):
            writer.write(part)


def _pyreadstat_read(path: Path) -> Any:
    import pyreadstat

    return pyreadstat.read_xport(str(path), output_format="polars", disable_datetime_conversion=True)


def _pyreadstat_write(path: Path, frame: Any) -> None:
    import pyreadstat

    pyreadstat.write_xport(frame, str(path), table_name="LB", file_format_version=5)


def _peak(path: Path, how: str) -> float:
    """Peak memory of one reading above what is there before it, in MB."""
    program = (
        "import sys, numpy, polars, pyarrow, pyreadstat;"
        "from pathlib import Path;"
        "from benchmarks.xport import _high, _pyreadstat_read, read_transport;"
        "path = Path(sys.argv[1]); before = _high();"
        "kept = read_transport(path.read_bytes()) if sys.argv[2] == 'read' else _pyreadstat_read(path);"
        "print(_high() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), how], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1e3


def _high() -> int:
    """High-water mark of this process's memory in kB; the one of getrusage survives exec and would be the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def measure(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Times of one size."""
    frame = rows(count)
    path, copy = folder / f"{count}.xpt", folder / "copy.xpt"
    _write(path, frame)
    megabytes, pandas = path.stat().st_size / 1e6, frame.to_pandas()
    steps: dict[str, Callable[[], Any]] = {
        "bytes": path.read_bytes,
        "read": lambda: read_transport(path.read_bytes()),
        "pyreadstat read": lambda: _pyreadstat_read(path),
        "write": lambda: _write(copy, frame),
        "pyreadstat write": lambda: _pyreadstat_write(copy, pandas),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):  # interleaved: a slow moment of the machine hits all
        for name, run in steps.items():
            started, used = time.perf_counter(), time.process_time()
            run()
            seconds[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - used)
    if not read_transport(path.read_bytes()).frame.equals(frame.with_columns(pl.col(pl.String).fill_null(""))):
        raise SystemExit("what was read is not what was written")
    speed = {name: megabytes / statistics.median(times) for name, times in seconds.items()}
    peak = {how: _peak(path, how) for how in ("read", "pyreadstat")}
    return {
        "rows": count,
        "MB": round(megabytes, 1),
        "MB/s": {name: round(value, 1) for name, value in speed.items()},
        "MB per CPU second": {
            name: round(megabytes / statistics.median(times), 1) for name, times in cpu.items() if name != "bytes"
        },
        "read to pyreadstat": round(speed["read"] / speed["pyreadstat read"], 1),
        "read to bytes": round(speed["read"] / speed["bytes"], 3),
        "write to pyreadstat": round(speed["write"] / speed["pyreadstat write"], 1),
        "peak MB": {how: round(value, 1) for how, value in peak.items()},
        "peak to file": {how: round(value / megabytes, 2) for how, value in peak.items()},
    }


def main() -> int:
    """Measure every size.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000, 400_000])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), 2_000, 1)  # imports and first calls are not part of the comparison
        result = [measure(Path(folder), count, arguments.repeats) for count in arguments.rows]
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
