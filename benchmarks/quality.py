"""Time 50 rules over a laboratory table beside one DuckDB scan of the same columns.

    python benchmarks/quality.py --rows 100000 400000 1600000 --repeats 5

The scan counts, and takes minimum and maximum of, every column that the rules read; both work on the same table in
memory and on the same number of threads, alternating. Prints one JSON object: rows per second, the ratio of the
medians, and the peak memory of the process above the table; the time per row at the largest size over that at the
smallest says whether the cost is linear.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

THREADS = 2
os.environ.setdefault("POLARS_MAX_THREADS", str(THREADS))

import duckdb  # noqa: E402
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import psutil  # noqa: E402

from trialops.quality.evaluation import evaluate  # noqa: E402
from trialops.quality.rules import RuleBook, columns_of, parse  # noqa: E402

TESTS = ("ALB", "ALP", "ALT", "AST", "BILI", "BUN", "CA", "CHOL", "CREAT", "GLUC", "K", "SODIUM")
RULES = 50


def laboratory(rows: int, seed: int = 0) -> dict[str, pl.DataFrame]:
    """LB with the given rows, and the DM its subjects are in."""
    rng = np.random.default_rng(seed)
    per = len(TESTS) * 10
    subjects = -(-rows // per)
    place = np.arange(rows)
    subject, test = place // per, place % len(TESTS)
    value = np.round(rng.lognormal(3, 0.4, rows), 2)
    ids = pl.Series([f"01-{700 + i % 40}-{100000 + i}" for i in range(subjects)])
    codes = pl.Series(TESTS)
    lb = pl.DataFrame(
        {
            "USUBJID": ids.gather(subject),
            "LBSEQ": place % per + 1,
            "LBTESTCD": codes.gather(test),
            "LBORRES": pl.Series(value).cast(pl.String),
            "LBSTRESC": pl.Series(value).cast(pl.String),
            "LBSTRESN": value,
            "LBSTRESU": pl.repeat("mmol/L", rows, eager=True),
            "LBSTNRLO": pl.repeat(8.0, rows, eager=True),
            "LBSTNRHI": pl.repeat(45.0, rows, eager=True),
            "LBNRIND": pl.Series(np.where(value < 8, "LOW", np.where(value > 45, "HIGH", "NORMAL"))),
            "LBSTAT": pl.repeat(None, rows, dtype=pl.String, eager=True),
            "VISITNUM": (place % per // len(TESTS) + 1).astype(float),
            "LBDY": (place % per // len(TESTS) * 14 + 1).astype(np.int32),
            "KNOWNDY": (place % per // len(TESTS) * 14 + 3).astype(np.int32),
        }
    )
    return {
        "LB": lb,
        "DM": pl.DataFrame({"USUBJID": ids, "DTHDY": pl.repeat(None, subjects, dtype=pl.Int32, eager=True)}),
    }


def book() -> RuleBook:
    """Fifty rules of the kinds that a laboratory table has, in the mix of the platform's own book."""
    rules: list[dict[str, Any]] = []

    def add(check: str, **more: Any) -> None:
        rules.append({"id": f"R{len(rules)}", "domain": "LB", "severity": "major", "check": check, **more})

    for column in ("USUBJID", "LBSEQ", "LBTESTCD", "LBORRES", "LBSTRESC", "LBSTRESN", "LBSTRESU", "LBNRIND", "LBDY"):
        add("completeness", column=column)
    add("value_set", column="LBNRIND", values=["NORMAL", "LOW", "HIGH"])
    add("value_set", column="LBTESTCD", values=list(TESTS))
    add("value_set", column="LBSTAT", values=["NOT DONE"])
    add("value_set", column="LBSTRESU", values=["mmol/L", "umol/L", "g/L", "U/L"])
    for test in TESTS:
        add("range", column="LBSTRESN", where={"LBTESTCD": [test]}, min=0.1, max=400)
    for test in TESTS[:8]:
        add("completeness", column="LBSTRESN", where={"LBTESTCD": [test], "LBSTAT": "missing"})
    add("unique_key", columns=["USUBJID", "LBSEQ"])
    add("unique_key", columns=["USUBJID", "LBTESTCD", "VISITNUM", "LBDY"])
    add("foreign_key", column="USUBJID", table="DM")
    add("day_order", start="LBDY", end="KNOWNDY")
    add("consistency", when={"LBSTAT": ["NOT DONE"]}, then={"LBORRES": "missing"})
    add("consistency", when={"LBNRIND": ["HIGH"]}, then={"LBSTRESN": {"min": 45}})
    add("consistency", when={"LBNRIND": ["LOW"]}, then={"LBSTRESN": {"max": 8}})
    add("standard_agrees")
    add("one_value", key=["LBTESTCD"], column="LBSTRESU")
    add("no_day_zero")
    add("subject_order", column="LBDY", table="DM", bound="DTHDY")
    while len(rules) < RULES:
        add("range", column="LBDY", where={"VISITNUM": [float(len(rules) % 10 + 1)]}, min=-30, max=400)
    head = {"version": "b", "gate": 95.0, "fatal_cap": 94.9, "weights": {"fatal": 5, "major": 3, "minor": 1}}
    return parse(head | {"rules": rules[:RULES]}, {})


def columns_read(rules: RuleBook, have: list[str]) -> list[str]:
    """Columns of the table that the rules read."""
    named: set[str] = {"LBSTRESC", "LBSTRESN"}
    for rule in rules.rules:
        named |= {str(v) for k, v in rule.arguments.items() if k in ("column", "start", "end")}
        named |= set(rule.arguments.get("columns", [])) | set(rule.arguments.get("key", []))
        for part in (rule.where, rule.arguments.get("when", {}), rule.arguments.get("then", {})):
            named |= set(columns_of(part))
    return [c for c in have if c in named]


class Peak:
    """Highest resident memory of the process while a block runs, in MB above its start."""

    def __enter__(self) -> Peak:
        self.process, self.done = psutil.Process(), threading.Event()
        self.start = self.most = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.005):
            self.most = max(self.most, self.process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
        self.megabytes = round((self.most - self.start) / 1e6, 1)


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and megabytes at the peak."""
    with Peak() as peak:
        began = time.perf_counter()
        call()
        seconds = time.perf_counter() - began
    return seconds, peak.megabytes


def run_scan(db: duckdb.DuckDBPyConnection, query: str) -> None:
    """Run the aggregate over all columns."""
    db.execute(query).fetchall()


def main() -> int:
    """Run the comparison.

    Returns:
        0 when every rule could be judged, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 400_000, 1_600_000])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rules, judged, lines = book(), True, []
    for rows in arguments.rows:
        tables = laboratory(rows)
        lb = tables["LB"]
        db = duckdb.connect(config={"threads": THREADS})
        db.register("lb", lb.to_arrow())
        columns = columns_read(rules, lb.columns)
        parts = [f'count("{c}"), min("{c}"), max("{c}")' for c in columns]
        scan = f"select {', '.join(parts)} from lb"
        db.execute(scan).fetchall()
        results = evaluate(tables, rules).results
        judged &= not results["status"].is_in(["error"]).any()
        seconds: dict[str, list[float]] = {"scan": [], "rules": []}
        memory: dict[str, list[float]] = {"scan": [], "rules": []}
        calls = {"scan": partial(run_scan, db, scan), "rules": partial(evaluate, tables, rules)}
        for _ in range(arguments.repeats):  # interleaved: a slow moment of the machine hits both
            for name, call in calls.items():
                took, peak = timed(call)
                seconds[name].append(took)
                memory[name].append(peak)
        medians = {name: statistics.median(runs) for name, runs in seconds.items()}
        lines.append(
            {
                "rows": rows,
                "table_mb": round(lb.estimated_size("mb"), 1),
                "columns": len(columns),
                "rules": len(rules.rules),
                "scan_rows_per_s": round(rows / medians["scan"]),
                "rules_rows_per_s": round(rows / medians["rules"]),
                "rules_to_scan": round(medians["rules"] / medians["scan"], 2),
                "rules_peak_mb": max(memory["rules"]),
                "scan_peak_mb": max(memory["scan"]),
                "rules_us_per_row": round(1e6 * medians["rules"] / rows, 3),
            }
        )
    per_row = [line["rules_us_per_row"] for line in lines]
    print(
        json.dumps(
            {"threads": THREADS, "sizes": lines, "per_row_largest_to_smallest": round(per_row[-1] / per_row[0], 2)},
            indent=1,
        )
    )
    return 0 if judged else 1


if __name__ == "__main__":
    sys.exit(main())
