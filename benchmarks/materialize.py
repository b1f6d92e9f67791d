"""Time writing the newest features to Redis: ours and Feast's own materialisation, side by side.

    python -m benchmarks.materialize --keys 1e5 --repeats 3
    python -m benchmarks.materialize --keys 1e6 --repeats 1
    python -m benchmarks.materialize --keys 1e5 --repeats 3 --history 10

Both start from one Parquet file (--history rows per subject) and an empty server, end with the same hashes in Feast's
layout, and keep the guard against older values. Every run is a process of its own, in turn, so that a slow moment of
the machine hits both and peak memory is its own. Imports and the registry are set up before the clock starts. "guarded"
is Feast's materialize with trialops.features.online_store. "again" is ours over what is there already: every row is
compared. Prints one JSON object: seconds and keys per second of each run, processor seconds of the process and of the
server (which say more than seconds where the machine has other work), the ratio of medians, peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tests.support.redis import redis_server
from trialops.features.online_config import feast_online_store
from trialops.stores.features import open_store, service_name
from trialops.stores.online import FeatureServiceSpec, ViewSpec

START = datetime(2000, 1, 1, tzinfo=UTC)


def make(path: Path, keys: int, columns: tuple[str, ...], history: int) -> None:
    """A file of `history` rows per subject, a tenth of the values missing, sorted as the project writes its views."""
    rng = np.random.default_rng(3)
    n = keys * history
    days = np.tile(np.arange(history) * 7, keys) + np.repeat(rng.integers(0, 300, keys), history)
    stamp = pl.lit(START).cast(pl.Datetime("us", "UTC")) + pl.duration(days=pl.lit(pl.Series(days)))
    frame = pl.DataFrame({"subject_id": np.repeat(np.char.mod("P%08d", np.arange(keys)), history)})
    frame = frame.with_columns(event_timestamp=stamp, created=stamp)
    for column in columns:
        values = rng.normal(size=n)
        values[rng.random(n) < 0.1] = np.nan
        frame = frame.with_columns(pl.Series(column, values).fill_nan(None))
    frame.sort("subject_id", "event_timestamp").write_parquet(path)


def _cpu(url: str) -> float:
    """Processor seconds of this process and of the server so far."""
    import redis

    with redis.Redis.from_url(url) as client:
        server = client.info("cpu")
    return time.process_time() + float(server["used_cpu_user"]) + float(server["used_cpu_sys"])


def run(kind: str, url: str, path: Path, columns: tuple[str, ...]) -> dict[str, float]:
    """One run; seconds and the process's peak memory in MB."""
    spec = FeatureServiceSpec(service_name("withdrawal"), "trialops", 1, (ViewSpec("vitals", columns),), {})
    end = START + timedelta(days=1000)
    with tempfile.TemporaryDirectory() as folder:
        online: dict[str, Any] = feast_online_store(url)
        if kind == "guarded":
            online = {"type": "trialops.features.online_store.GuardedOnlineStore", "url": url}
        if kind == "ours":
            from trialops.features.materialize import materialize
            from trialops.stores.online import redis_writer  # noqa: F401  imports are not part of the comparison

            started, cpu = time.perf_counter(), _cpu(url)
            materialize({"vitals": path}, (spec,), url)
        else:
            store = open_store(Path(folder), {"vitals": path}, columns={"vitals": columns}, online=online)
            store.config.materialization_config.online_write_batch_size = 10_000
            started, cpu = time.perf_counter(), _cpu(url)
            store.materialize(START - timedelta(days=1), end, ["vitals"])
        seconds = time.perf_counter() - started
        used = _cpu(url) - cpu
    return {"seconds": seconds, "cpu": used, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def child(kind: str, url: str, path: Path, features: int) -> dict[str, float]:
    """The run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.materialize", "--child", kind, url, str(path), str(features)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def content(url: str) -> tuple[int, int]:
    """Number of keys and a sum over the bytes of a sample of them."""
    import redis

    with redis.Redis.from_url(url) as client:
        keys = sorted(client.scan_iter(match=b"*0077*", count=10_000))
        sample = [sorted(client.hgetall(key).items()) for key in keys[:2000]]
        return int(client.dbsize()), hash(str(sample))


def main() -> int:
    """Run the comparison.

    Returns:
        0 when all left the same in Redis, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=float, nargs="+", default=[1e5])
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--history", type=int, default=1, help="rows per subject in the file")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=["ours", "feast"], choices=["ours", "feast", "guarded"])
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, url, path, features = arguments.child
        columns = tuple(f"f{number}" for number in range(int(features)))
        print(json.dumps(run(kind, url, Path(path), columns)))
        return 0
    columns = tuple(f"f{number}" for number in range(arguments.features))
    report: dict[str, Any] = {"features": arguments.features, "history": arguments.history}
    same = True
    with redis_server() as (host, port), tempfile.TemporaryDirectory() as folder:
        import redis

        url = f"redis://{host}:{port}/0"
        for keys in map(int, arguments.keys):
            path = Path(folder) / "vitals.parquet"
            make(path, keys, columns, arguments.history)
            runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in [*arguments.kinds, "again"]}
            left = set()
            for _ in range(arguments.repeats):
                for kind in arguments.kinds:
                    with redis.Redis.from_url(url) as client:
                        client.flushall()
                    runs[kind].append(child(kind, url, path, arguments.features))
                    left.add(content(url))
                    if kind == "ours":
                        runs["again"].append(child("ours", url, path, arguments.features))
                        left.add(content(url))
            same &= len(left) == 1 and next(iter(left))[0] == keys
            middle = {kind: statistics.median(r["seconds"] for r in some) for kind, some in runs.items() if some}
            report[f"{keys} keys"] = {
                kind: {
                    "seconds": [round(r["seconds"], 2) for r in some],
                    "cpu_seconds": [round(r["cpu"], 2) for r in some],
                    "keys_per_second": round(keys / middle[kind]),
                    "peak_mb": round(max(r["peak_mb"] for r in some)),
                }
                for kind, some in runs.items()
                if some
            }
            if "feast" in middle:
                cpu = {kind: statistics.median(r["cpu"] for r in runs[kind]) for kind in ("ours", "feast")}
                report[f"{keys} keys"]["feast_to_ours_cpu"] = round(cpu["feast"] / cpu["ours"], 1)
                report[f"{keys} keys"]["feast_to_ours"] = round(middle["feast"] / middle["ours"], 1)
    print(json.dumps({**report, "same_content": same}, indent=1))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
