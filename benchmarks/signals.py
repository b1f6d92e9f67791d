"""Screen spontaneous reports for disproportionality beside one DuckDB group-by over the same rows.

    python -m benchmarks.signals --reports 100000 1000000 --repeats 3
    python -m benchmarks.signals --reports 100000 1000000 20000000 --repeats 3 --unsorted
    python -m benchmarks.signals --reports 100000 1000000 --repeats 5 --continuous

Reports are synthetic and seeded: about 5,000 products and 15,000 events with Zipf margins, one product in most reports
and two events on average, so a little over two rows each; sex, age band and year as strata. They are written once to
a Parquet file, sorted by report as reporting systems deliver them.

* `group_by`: one DuckDB query over the file, ``SELECT product, event, count(*) GROUP BY product, event``, the result
  counted and dropped. It counts rows, not different reports, has no margins, no expected counts and no measures: it is
  the least that anybody would have to do. Threads: two, memory limit 6 GB.
* `closed_forms`: counts of different reports with all margins, then PRR with interval and Yates's chi-squared, ROR, IC.
* `stratified`: the same with expected counts over sex, age band and year.
* `ebgm`: the closed forms, the fitted prior, EBGM, EB05 and EB95 of every pair.
* `unsorted` (with --unsorted): the closed forms with the rows in random order, which have to be spilled first.

Every run is a process of its own, the ways in turn; prints one JSON object: seconds and peak memory (of the process,
libraries included), CPU seconds for a busy machine, the ratio to the group-by, and the seconds per
report relative to the smallest size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THREADS = 2
for _name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, str(THREADS))

import numpy as np  # noqa: E402

PRODUCTS, EVENTS, CHUNK, BATCH = 5_000, 15_000, 500_000, 1_000
WAYS = ("group_by", "closed_forms", "stratified", "ebgm")
STRATA = ("sex", "age", "year")


def make(path: Path, reports: int, seed: int = 0, *, shuffled: bool = False) -> int:
    """Write synthetic report rows; returns their number.

    Args:
        path: Parquet file.
        reports: Different reports.
        seed: Of everything drawn.
        shuffled: Rows of each million reports in random order, and report ids without order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    products, events = (_zipf(n) for n in (PRODUCTS, EVENTS))
    names = [pa.array([f"{kind}{i:05d}" for i in range(n)]) for kind, n in (("DRUG ", PRODUCTS), ("EVENT ", EVENTS))]
    levels = [
        pa.array(v) for v in (["F", "M", "U"], [f"{a}-" for a in range(0, 90, 10)], [str(y) for y in range(2004, 2024)])
    ]
    steps = _steps(np.random.default_rng(1), events)
    scramble = 0x9E3779B97F4A7C15 % (1 << 62) | 1
    writer, total = None, 0
    for start in range(0, reports, CHUNK):
        n = min(CHUNK, reports - start)
        each = rng.geometric(0.5, n)  # events of a report: two on average
        second = rng.random(n) < 0.15  # a second product, with the same events
        times = each * (1 + second)
        report = np.repeat(np.arange(start, start + n, dtype=np.int64), times)
        first_row = np.cumsum(times) - times
        within = np.arange(report.size) - np.repeat(first_row, times)
        owner = np.repeat(np.arange(n), times)
        drawn = rng.choice(PRODUCTS, (2, n), p=products)
        product = drawn[(within >= each[owner]).astype(int), owner]
        of_report = np.cumsum(each) - each
        named = _drawn(rng, np.repeat(drawn[0], each), steps)
        event = named[of_report[owner] + within % each[owner]]
        strata = [
            rng.choice(3, n, p=[0.55, 0.38, 0.07]),
            rng.integers(0, 9, n),
            np.full(n, min(19, start * 20 // reports)),
        ]
        order = np.arange(report.size)
        if shuffled:
            report, order = (report * scramble) % (1 << 40), rng.permutation(report.size)
        columns = [pa.array(report[order])]
        coded = [product, event, *(s[owner] for s in strata)]
        for codes, values in zip(coded, [*names, *levels], strict=True):
            columns.append(pa.DictionaryArray.from_arrays(pa.array(codes[order].astype(np.int32)), values))
        table = pa.table(columns, names=["report", "product", "event", *STRATA])
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=1_000_000)
        total += table.num_rows
    if writer is not None:
        writer.close()
    return total


def _steps(rng: np.random.Generator, events: np.ndarray) -> np.ndarray:
    """Distribution function of the events of every product: Zipf margins times a reporting ratio of each pair.

    The ratios follow a mixture of two gamma distributions, one pair in fourteen several times as often reported: as in
    real data. With independent margins there would be no prior to find, and rightly.
    """
    steps = np.empty((PRODUCTS, EVENTS), np.float32)
    for product in range(PRODUCTS):
        high = rng.random(EVENTS) < 1 / 14
        ratio = np.where(high, rng.gamma(3.2, 2.5, EVENTS), rng.gamma(2.0, 0.5, EVENTS))
        own = np.cumsum(events * ratio)
        steps[product] = own / own[-1]
    return steps


def _drawn(rng: np.random.Generator, product: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """An event for each product."""
    order = np.argsort(product, kind="stable")
    ends = np.cumsum(np.bincount(product, minlength=PRODUCTS))
    draws, event = rng.random(product.size).astype(np.float32), np.empty(product.size, np.int64)
    for number, (start, end) in enumerate(zip(np.r_[0, ends[:-1]], ends, strict=True)):
        here = order[start:end]
        event[here] = np.minimum(np.searchsorted(steps[number], draws[here]), EVENTS - 1)
    return event


def _zipf(n: int) -> np.ndarray:
    weights = 1.0 / (np.arange(n) + 10.0)
    return weights / weights.sum()


def run(way: str, path: Path) -> dict[str, Any]:
    """One way over one file, timed."""
    if way == "group_by":
        import duckdb

        link = duckdb.connect(config={"threads": THREADS, "memory_limit": "6GB"})
        started, busy = time.perf_counter(), time.process_time()
        query = f"SELECT product, event, count(*) AS n FROM read_parquet('{path}') GROUP BY product, event"
        pairs, rows = link.execute(f"SELECT count(*), sum(n)::BIGINT FROM ({query})").fetchall()[0]
        seconds, cpu = time.perf_counter() - started, time.process_time() - busy
        return {"seconds": seconds, "cpu": cpu, "pairs": pairs, "rows": rows}
    import polars  # noqa: F401
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401
    import scipy.optimize
    import scipy.sparse
    import scipy.special  # noqa: F401

    from trialops.safety.signals.counting import count_reports
    from trialops.safety.signals.policy import load_signal_policy
    from trialops.safety.signals.readers import Columns, ReportRows
    from trialops.safety.signals.screening import measured

    # Libraries are loaded before the clock starts, here and for DuckDB.
    started, busy = time.perf_counter(), time.process_time()
    rows = ReportRows(path, Columns(strata=STRATA if way == "stratified" else ()))
    counts = count_reports(rows, workers=THREADS, folder=path.parent)
    counted = time.perf_counter() - started
    result = measured(counts, load_signal_policy(), ebgm=way == "ebgm")
    seconds, cpu = time.perf_counter() - started, time.process_time() - busy
    found: dict[str, Any] = {"pairs": result.pairs.height, "rows": counts.rows, "signals": result.signals}
    found |= {"seconds": seconds, "cpu": cpu, "counting": counted}
    return {"theta": result.theta, "refusal": result.refusal, **found}


def continuous(reports: int, repeats: int, folder: Path) -> dict[str, Any]:
    """What a thousand new reports and twenty corrections cost when so many are known, beside a screening of all."""
    import polars as pl

    from trialops.safety.signals.policy import load_signal_policy
    from trialops.safety.signals.state import SignalState
    from trialops.stores.lake import Lake
    from trialops.stores.objects import open_store

    make(folder / "all.parquet", reports + BATCH * repeats)
    rows = pl.read_parquet(folder / "all.parquet").select(
        pl.col("report").cast(pl.String).str.zfill(9), pl.col("product", "event").cast(pl.String)
    )
    first = f"{reports:09d}"
    policy = load_signal_policy()
    state = SignalState(Lake(str(folder / "lake"), open_store(str(folder / "objects"))), "demo")
    state.update(rows.filter(pl.col("report") < first), policy)
    started = time.perf_counter(), time.process_time()
    state.refresh(policy)
    whole = time.perf_counter() - started[0], time.process_time() - started[1]
    seconds, cpu, counted = [], [], []
    for number in range(repeats):
        low, high = (f"{reports + BATCH * k:09d}" for k in (number, number + 1))
        new = rows.filter(pl.col("report").is_between(pl.lit(low), pl.lit(high), closed="left"))
        old = rows.filter(pl.col("report").is_in([f"{k * (reports // 20) + number:09d}" for k in range(20)]))
        batch = pl.concat([new, old.with_columns(event=pl.col("event") + " CORRECTED")])
        started = time.perf_counter(), time.process_time()
        update = state.update(batch, policy)
        seconds.append(time.perf_counter() - started[0])
        cpu.append(time.process_time() - started[1])
        counted.append(update.counted)
    return {
        "reports": reports,
        "batch": BATCH,
        "rows_counted": counted,
        "seconds": [round(s, 3) for s in seconds],
        "cpu_seconds": [round(s, 3) for s in cpu],
        "full_screening_seconds": round(whole[0], 3),
        "full_screening_cpu_seconds": round(whole[1], 3),
        "full_to_batch_cpu": round(whole[1] / statistics.median(cpu), 1),
    }


def measure(way: str, path: Path) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.signals", "--one", way, "--file", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _made(path: Path, reports: int, *, shuffled: bool) -> int:
    """Make a file in a process of its own: a child's peak memory starts with its parent's."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.signals",
        "--one",
        "make",
        "--file",
        str(path),
        "--reports",
        str(reports),
    ]
    done = subprocess.run([*command, *(["--unsorted"] if shuffled else [])], check=True, capture_output=True, text=True)
    return int(done.stdout)


def compare(reports: int, repeats: int, folder: Path, unsorted: bool) -> dict[str, Any]:
    """All ways over one size, in turn."""
    files = {way: folder / "sorted.parquet" for way in WAYS}
    rows = _made(files["group_by"], reports, shuffled=False)
    if unsorted:
        files["unsorted"] = folder / "unsorted.parquet"
        _made(files["unsorted"], reports, shuffled=True)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in files}
    for _ in range(repeats):
        for way, path in files.items():
            runs[way].append(measure(way, path))
            print(f"{reports} reports, {way}: {runs[way][-1]}", file=sys.stderr, flush=True)
    busy = {way: statistics.median(r["cpu"] for r in found) for way, found in runs.items()}
    median = {way: statistics.median(r["seconds"] for r in found) for way, found in runs.items()}
    return {
        "reports": reports,
        "rows": rows,
        "file_mib": round(files["group_by"].stat().st_size / 2**20),
        "pairs": runs["group_by"][0]["pairs"],
        "seconds": {way: [round(r["seconds"], 3) for r in found] for way, found in runs.items()},
        "cpu_seconds": {way: [round(r["cpu"], 3) for r in found] for way, found in runs.items()},
        "cpu_ratio_to_group_by": {way: round(seconds / busy["group_by"], 2) for way, seconds in busy.items()},
        "peak_mib": {way: max(r["peak_mib"] for r in found) for way, found in runs.items()},
        "ratio_to_group_by": {way: round(seconds / median["group_by"], 2) for way, seconds in median.items()},
        "microseconds_per_report": {way: seconds / reports * 1e6 for way, seconds in median.items()},
    }


def main() -> int:
    """Run the comparison; returns 0 when every way saw the same pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--unsorted", action="store_true", help="also with the rows in random order")
    parser.add_argument("--continuous", action="store_true", help="time batches beside a state of each size instead")
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder by default")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one == "make":
        print(make(arguments.file, arguments.reports[0], shuffled=arguments.unsorted))
        return 0
    if arguments.one:
        result = run("closed_forms" if arguments.one == "unsorted" else arguments.one, arguments.file)
        used = resource.getrusage(resource.RUSAGE_SELF)
        result["peak_mib"] = round(used.ru_maxrss / 1024)
        print(json.dumps(result))
        return 0
    results = []
    if arguments.continuous:
        for reports in arguments.reports:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
                results.append(continuous(reports, arguments.repeats, Path(place)))
        print(json.dumps({"threads": THREADS, "results": results}, indent=1))
        return 0
    for reports in arguments.reports:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
            results.append(compare(reports, arguments.repeats, Path(place), arguments.unsorted))
    smallest = results[0]["microseconds_per_report"]
    for result in results:
        result["per_report_to_smallest"] = {
            way: round(value / smallest[way], 2) for way, value in result["microseconds_per_report"].items()
        }
    print(json.dumps({"threads": THREADS, "results": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
