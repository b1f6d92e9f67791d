"""Time the bitemporal point-in-time join: raw as-of joins, this project's Feast store, and Feast's DuckDB engine.

    python benchmarks/point_in_time.py --rows 1e5 1e6
    python benchmarks/point_in_time.py --rows 1e7 --feast-once

Entity rows (1e5 by default) are asked for eight features each, as known at the moment of the row. The raw candidates
read the prepared file that the store made, and do nothing else. Every candidate runs in a process of its own, one
after the other within each round; what is timed are calls from entity rows in pandas to the answer in Arrow, after one
call to warm up (imports, connections). "store first" is the one call that finds no prepared file. Prints one JSON
object per size: medians over all calls (wall and CPU; on a shared machine the CPU is the steadier one), ratios, peak
memory, file sizes, and whether everybody gave the same answer without losing a row.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

FEATURES = [f"f{i}" for i in range(8)]
CANDIDATES = ("polars", "duckdb", "store first", "store", "feast")
DAYS = 365


def make(path: Path, rows: int, subjects: int, text_keys: bool) -> None:
    """Feature rows over a year, three in ten of which became known up to 60 days late."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(rows)
    # To the microsecond, so that no two rows of a subject have the same times: Feast settles ties by chance.
    event = rng.integers(0, DAYS * 86_400 * 1_000_000, rows)
    late = np.where(rng.random(rows) < 0.3, rng.integers(0, 60 * 86_400 * 1_000_000, rows), 0)
    pl.DataFrame(
        {
            "subject_id": _ids(rng.integers(0, subjects, rows), text_keys),
            "event_timestamp": _stamps(event),
            "created": _stamps(event + late),
            **{name: rng.normal(size=rows) for name in FEATURES},
        }
    ).write_parquet(path)


def ask(path: Path, rows: int, subjects: int, text_keys: bool) -> None:
    """Entity rows, a thousandth of them of subjects without features."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(7)
    ids = _ids(rng.integers(0, subjects + subjects // 1000 + 1, rows), text_keys)
    pl.DataFrame(
        {
            "subject_id": ids,
            "event_timestamp": _stamps(rng.integers(0, (DAYS + 30) * 86_400 * 1_000_000, rows)),
            "at": range(rows),
        }
    ).write_parquet(path)


def _ids(numbers: Any, text: bool) -> Any:
    import polars as pl

    found = pl.Series(numbers)
    return pl.select(pl.format("P{}", found.cast(pl.String).str.zfill(9))).to_series() if text else found


def _stamps(ticks: Any) -> Any:
    import polars as pl

    return pl.Series(ticks + 1_577_836_800_000_000).cast(pl.Datetime("us", "UTC"))


def candidate(name: str, folder: Path, calls: int) -> dict[str, Any]:
    """Run one candidate in this process: seconds of each call, peak memory in MB, and what identifies its answer."""
    import polars  # noqa: F401  what "store first" times is no import
    import pyarrow.compute as pc

    run = _store(folder, name) if name.startswith(("store", "feast")) else _raw(folder, name)
    first = name == "store first"
    if not first:
        run()
    seconds, cpu = [], []
    for _ in range(1 if first else calls):
        started, worked = time.perf_counter(), time.process_time()
        table = run()
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    gaps = [pc.or_kleene(pc.is_null(table[f]), pc.is_nan(table[f])) for f in FEATURES]
    known = sum(len(table) - (pc.sum(pc.cast(gap, "int64")).as_py() or 0) for gap in gaps)
    total = sum(pc.sum(pc.fill_null(table[f], 0.0)).as_py() for f in FEATURES)
    return {"seconds": seconds, "cpu": cpu, "mb": peak, "rows": len(table), "known": known, "sum": round(total, 4)}


def _raw(folder: Path, engine: str) -> Callable[[], Any]:
    import pandas as pd

    entities = pd.read_parquet(folder / "entities.parquet")
    made = next(folder.glob(".labs.asof-*.parquet"))
    if engine == "polars":
        import warnings

        import polars as pl

        warnings.simplefilter("ignore")  # sortedness within groups cannot be checked

        def run() -> Any:
            held = pl.scan_parquet(made).select("subject_id", "__arrival", *FEATURES)
            asked = pl.from_pandas(entities).lazy().with_columns(pl.col("event_timestamp").dt.cast_time_unit("us"))
            found = asked.sort("event_timestamp").join_asof(
                held, left_on="event_timestamp", right_on="__arrival", by="subject_id", strategy="backward"
            )
            return found.collect().to_arrow()

        return run
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("entities", entities)
    query = (
        f"SELECT e.*, {', '.join(FEATURES)} FROM entities e ASOF LEFT JOIN '{made}' f"
        " ON e.subject_id = f.subject_id AND e.event_timestamp >= f.__arrival"
    )
    return lambda: connection.execute(query).to_arrow_table()


def _store(folder: Path, name: str) -> Callable[[], Any]:
    from datetime import timedelta

    import pandas as pd
    import polars as pl

    from trialops.stores.features import OFFLINE, load_feast

    feast = load_feast()
    source = folder / "labs.parquet"
    if name == "store first":
        for made in folder.glob(".labs.asof-*"):
            made.unlink()
    text = pl.read_parquet_schema(source)["subject_id"] == pl.String
    types = feast.types
    work = folder / name.replace(" ", "-")
    work.mkdir(exist_ok=True)
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project="bench",
            provider="local",
            entity_key_serialization_version=3,
            repo_path=work,
            registry={"registry_type": "file", "path": str(work / "registry.db"), "cache_ttl_seconds": 600},
            online_store={"type": "sqlite", "path": str(work / "online.db")},
            offline_store={"type": "duckdb" if name == "feast" else OFFLINE},
        )
    )
    subject = feast.Entity(
        name="subject",
        join_keys=["subject_id"],
        value_type=feast.ValueType.STRING if text else feast.ValueType.INT64,
    )
    file = feast.FileSource(
        name="labs_source", path=str(source), timestamp_field="event_timestamp", created_timestamp_column="created"
    )
    fields = [feast.Field(name="subject_id", dtype=types.String if text else types.Int64)]
    fields += [feast.Field(name=f, dtype=types.Float64) for f in FEATURES]
    view = feast.FeatureView(name="labs", entities=[subject], ttl=timedelta(0), schema=fields, source=file)
    store.apply([subject, file, view])
    entities = pd.read_parquet(folder / "entities.parquet")
    wanted = [f"labs:{f}" for f in FEATURES]
    return lambda: store.get_historical_features(
        entities.copy(), features=wanted, filter_by_created_timestamp=True
    ).to_arrow()


def measure(rows: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All candidates over one size, interleaved."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make(folder / "labs.parquet", rows, arguments.subjects, arguments.text_keys)
        ask(folder / "entities.parquet", arguments.entities, arguments.subjects, arguments.text_keys)
        runs: dict[str, list[dict[str, Any]]] = {c: [] for c in CANDIDATES}
        for number in range(arguments.rounds):
            for one in ("store first", "polars", "duckdb", "store", "feast"):
                calls = 1 if one == "feast" and arguments.feast_once else arguments.calls
                if one != "feast" or not (arguments.no_feast or (arguments.feast_once and number)):
                    runs[one].append(_in_a_process(one, folder, calls))
        made = next(folder.glob(".labs.asof-*.parquet"))
        sizes = {"source_mb": _mb(folder / "labs.parquet"), "prepared_mb": _mb(made)}
    median = {c: statistics.median(s for r in found for s in r["seconds"]) for c, found in runs.items() if found}
    cpu = {c: statistics.median(s for r in found for s in r["cpu"]) for c, found in runs.items() if found}
    raw = min(median["polars"], median["duckdb"])
    answers = {(r["rows"], r["known"], r["sum"]) for found in runs.values() for r in found}
    return {
        "rows": rows,
        "entities": arguments.entities,
        "subjects": arguments.subjects,
        "keys": "text" if arguments.text_keys else "integer",
        "seconds": {c: round(m, 3) for c, m in median.items()},
        "cpu_seconds": {c: round(m, 3) for c, m in cpu.items()},
        "peak_mb": {c: round(max(r["mb"] for r in found)) for c, found in runs.items() if found},
        **sizes,
        "store_to_fastest_raw": round(median["store"] / raw, 2),
        "store_to_polars": round(median["store"] / median["polars"], 2),
        "store_to_polars_cpu": round(cpu["store"] / cpu["polars"], 2),
        "feast_to_store": round(median["feast"] / median["store"], 1) if "feast" in median else None,
        "feast_to_store_first": round(median["feast"] / median["store first"], 1) if "feast" in median else None,
        "same_answer": len(answers) == 1,
        "rows_lost": arguments.entities - min(a[0] for a in answers),
    }


def _mb(path: Path) -> int:
    return round(path.stat().st_size / 2**20)


def _in_a_process(name: str, folder: Path, calls: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--candidate", name, "--folder", str(folder), "--calls", str(calls)]
    # The default pool of pyarrow returns memory to the system so eagerly that Feast's engine would be blamed for it.
    environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> int:
    """Run the comparison.

    Returns:
        0 when all candidates gave the same answer, with every row, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--calls", type=int, default=3, help="timed calls of a candidate in each round")
    parser.add_argument("--text-keys", action="store_true", help="pseudonyms instead of numbers")
    parser.add_argument("--no-feast", action="store_true")
    parser.add_argument("--feast-once", action="store_true", help="run Feast's own engine in the first round alone")
    parser.add_argument("--folder", type=Path, help="where to put the files; a temporary folder by default")
    parser.add_argument("--candidate", choices=CANDIDATES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.candidate:
        print(json.dumps(candidate(arguments.candidate, arguments.folder, arguments.calls)))
        return 0
    results = [measure(int(rows), arguments) for rows in arguments.rows]
    for result in results:
        print(json.dumps(result, indent=1))
    return 0 if all(r["same_answer"] and r["rows_lost"] == 0 for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
