"""Screen millions of accesses, against one DuckDB group-by over the same rows; or score the planted scenarios.

    python -m benchmarks.security --events 5000000 --repeats 3
    python -m benchmarks.security --scenarios --organisations 15 --months 4

Without --scenarios: events of synthetic organisations lie in a parquet file. The candidate reads it in batches, keeps
what is kept, and screens the last day with its history; the baseline is the query an engineer would begin with: events
per actor, day, hour, action and outcome, by DuckDB over the file. They run in turn; ratio of the medians, peak memory
of the candidate in a process of its own.

With --scenarios: quiet months and planted scenarios on organisations that no limit was set on (seeds from 1000 on), and
exact Poisson and Clopper-Pearson intervals. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl

ROOT = Path(__file__).resolve().parent.parent
QUERY = """SELECT actor, date_trunc('day', "at") AS day, hour("at") AS hour, action, outcome, count(*) AS n, sum(volume)
FROM read_parquet('{file}') GROUP BY ALL"""
DAYS = 140
BATCH = 250_000


def make(file: Path, events: int) -> int:
    """Write at least so many events of several organisations; actors of each have names of their own."""
    import pyarrow.parquet as pq

    from trialops.synthetic.access_log import organisation

    written, seed, writer = 0, 0, None
    while written < events:
        part = organisation(seed, days=DAYS).events.with_columns(
            pl.format("{}-{}", "actor", pl.lit(seed)).alias("actor"), pl.format("{}-{}", "id", pl.lit(seed)).alias("id")
        )
        table = part.head(events - written).to_arrow()
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table, row_group_size=BATCH)
        written, seed = written + len(table), seed + 1
    assert writer is not None
    writer.close()
    return seed


def candidate(file: Path) -> dict[str, Any]:
    """Read, keep, screen; in this process."""
    import pyarrow.parquet as pq

    from trialops.security.days import days_of
    from trialops.security.events import Collector
    from trialops.security.networks import networks_of
    from trialops.security.policy import load_policy
    from trialops.security.rules import check
    from trialops.security.screening import screen
    from trialops.synthetic.access_log import NETWORKS

    policy, places = load_policy(), networks_of(NETWORKS)
    started = time.perf_counter()
    collector = Collector(lambda _, values: list(values), places)
    for batch in pq.ParquetFile(file).iter_batches(BATCH):
        collector.add(pl.DataFrame(pl.from_arrow(batch)))
    kept = collector.kept()
    read = time.perf_counter()
    until = kept.activity["day"].max()
    assert isinstance(until, dt.date)
    until += dt.timedelta(1)
    days = days_of(kept, policy, until, {})
    screened = screen(days, policy, until - dt.timedelta(1))
    broken = check(kept, policy, places, {}, until - dt.timedelta(1), until)
    ended = time.perf_counter()
    return {
        "seconds": ended - started,
        "read": read - started,
        "screen": ended - read,
        "actors": len(days.actors),
        "cells": kept.activity.height,
        "found": len(screened.unlike) + len(broken.violations),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def baseline(file: Path) -> float:
    """Seconds of the group-by."""
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    started = time.perf_counter()
    rows = connection.sql(QUERY.format(file=file)).pl().height
    assert rows
    return time.perf_counter() - started


def speed(events: int, repeats: int) -> dict[str, Any]:
    """Candidate and baseline in turn."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "events.parquet"
        organisations = make(file, events)
        ours: list[dict[str, Any]] = []
        theirs: list[float] = []
        for _ in range(repeats):
            command = [sys.executable, "-m", "benchmarks.security", "--candidate", str(file)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            ours.append(json.loads(done.stdout))
            theirs.append(baseline(file))
        median = statistics.median(one["seconds"] for one in ours)
        return {
            "events": events,
            "organisations": organisations,
            "file_mb": round(file.stat().st_size / 1e6, 1),
            "candidate": ours,
            "baseline_seconds": theirs,
            "seconds": round(median, 2),
            "ratio": round(median / statistics.median(theirs), 2),
        }


def scenarios(organisations: int, months: int, per: int) -> dict[str, Any]:
    """Quiet months; then in the first month of each organisation every scenario alone, `per` times."""
    from scipy.stats import beta

    from tests.support.security_scenarios import World, hit, played
    from trialops.security.statistics import poisson_interval
    from trialops.synthetic.insiders import SCENARIOS

    quiet: list[int] = []
    found: dict[str, list[bool]] = defaultdict(list)
    delay: dict[str, list[int]] = defaultdict(list)
    right = wrong = 0
    kinds: dict[str, int] = defaultdict(int)
    for number in range(organisations):
        world = World(1000 + number, months)
        for month in range(months):
            alerts = world.alerts(month)
            quiet.append(len(alerts))
            for alert in alerts:
                kinds[alert.kind] += 1
        for turn in range(per):
            for planted, alerts in played(world, turn % months, list(SCENARIOS), 100 + number * 10 + turn):
                hits = hit(alerts, planted)
                found[planted.scenario].append(bool(hits))
                right, wrong = right + len(hits), wrong + len(alerts) - len(hits)
                if hits:
                    delay[planted.scenario].append(min(a.day for a in hits) - planted.days[0])
        print(f"organisation {number}: {sum(quiet)} alerts in {len(quiet)} quiet months", file=sys.stderr, flush=True)
    weeks = 4 * len(quiet)
    low, high = poisson_interval(sum(quiet))

    def interval(hits: int, n: int) -> list[float]:
        bounds = (
            beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0,
            beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1.0,
        )
        return [round(float(b), 3) for b in bounds]

    every = [one for each in found.values() for one in each]
    return {
        "quiet": {
            "months": len(quiet), "alerts": sum(quiet), "per_week": round(sum(quiet) / weeks, 3),
            "interval": [round(low / weeks, 3), round(high / weeks, 3)], "by_kind": dict(kinds),
            "months_by_alerts": {n: quiet.count(n) for n in sorted(set(quiet))},
        },
        "recall": {"all": [sum(every), len(every), *interval(sum(every), len(every))]}
        | {name: [sum(each), len(each), *interval(sum(each), len(each))] for name, each in found.items()},
        "median_delay_days": {name: statistics.median(each) for name, each in delay.items()},
        "precision": {"right": right, "wrong": wrong, "share": round(right / max(right + wrong, 1), 3)},
    }  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scenarios", action="store_true")
    parser.add_argument("--organisations", type=int, default=15)
    parser.add_argument("--months", type=int, default=4)
    parser.add_argument("--per", type=int, default=1, help="times each scenario is planted in each organisation")
    parser.add_argument("--candidate", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.candidate:
        result = candidate(chosen.candidate)
    elif chosen.scenarios:
        result = scenarios(chosen.organisations, chosen.months, chosen.per)
    else:
        result = speed(chosen.events, chosen.repeats)
    print(json.dumps(result, indent=None if chosen.candidate else 1))


if __name__ == "__main__":
    main()
