"""Time drift over many rows against one numpy pass over the same cells.

    python benchmarks/drift.py --rows 1000000 --features 40 --repeats 5

The reference profile is stored; the current rows are a float64 matrix in memory, one contiguous column per feature, on
both sides. Baselines, each one pass over the columns with the same edges on one thread: "histogram" is numpy.histogram,
"digitize" numpy.searchsorted and numpy.bincount. Ours is the whole of `trialops.monitoring.drift.drift`: cells, PSI,
Kolmogorov-Smirnov, Wasserstein, tests, verdict. Both see every value. Runs are interleaved, ratios are of medians. With
--evidently its PSI preset is run once on the same rows (over a minute at the default size). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from trialops.monitoring.cells import describe
from trialops.monitoring.drift import drift
from trialops.monitoring.drift_policy import load_drift_policy
from trialops.monitoring.drift_statistics import psi
from trialops.monitoring.reference import Association, Reference


def columns(rng: np.random.Generator, rows: int, features: int) -> dict[str, np.ndarray]:
    """Normal, skewed and heavy-tailed columns by turns, every fourth with a tenth missing."""
    made = {}
    for j in range(features):
        x = rng.normal(size=rows)
        x = np.exp(x) if j % 3 == 1 else rng.standard_t(4, size=rows) if j % 3 == 2 else x
        if j % 4 == 3:
            x[rng.random(rows) < 0.1] = np.nan
        made[f"x{j:02d}"] = x
    return made


def evidently_seconds(before: dict[str, np.ndarray], now: dict[str, np.ndarray]) -> float:
    """Seconds of Evidently's data drift preset with PSI, its data sets built beforehand."""
    os.environ["DO_NOT_TRACK"] = "1"
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    shape = DataDefinition(numerical_columns=list(before))
    sets = [Dataset.from_pandas(pd.DataFrame(part), data_definition=shape) for part in (now, before)]
    started = time.perf_counter()
    Report([DataDriftPreset(method="psi")]).run(*sets)
    return time.perf_counter() - started


def main() -> int:
    """Run the comparison.

    Returns:
        0 when both sides count the same cells, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--reference-rows", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--evidently", action="store_true")
    arguments = parser.parse_args()
    rng, policy = np.random.default_rng(0), load_drift_policy()
    before, now = (columns(rng, n, arguments.features) for n in (arguments.reference_rows, arguments.rows))
    profiles = tuple(describe(name, values) for name, values in before.items())
    reference = Reference(arguments.reference_rows, profiles, None, Association((), (), ()), {})
    stored = reference.dumps()
    reference = Reference.from_dict(json.loads(stored))
    edges = {profile.name: np.array(profile.edges) for profile in profiles}

    def histogram() -> list[np.ndarray]:
        # numpy.histogram's cells are closed on the left and it refuses NaN's order: next floats up give ours
        return [
            np.histogram(x, np.r_[-np.inf, np.nextafter(edges[name], np.inf), np.inf])[0] for name, x in now.items()
        ]

    def digitize() -> list[np.ndarray]:
        return [np.bincount(np.searchsorted(edges[name], x), minlength=len(edges[name]) + 1) for name, x in now.items()]

    def ours() -> Any:
        return drift(reference, now, policy)

    report = ours()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wanted = {
        name: psi(np.array(p.counts), np.r_[cells, np.isnan(now[name]).sum()])
        for (name, p), cells in zip(((p.name, p) for p in profiles), histogram_cells(now, edges), strict=True)
    }
    same = all(abs(item.psi - wanted[item.name]) < 1e-9 for item in report.features)
    runs: dict[str, tuple[Callable[[], Any], list[float], list[float]]] = {
        "histogram": (histogram, [], []),
        "digitize": (digitize, [], []),
        "ours": (ours, [], []),
    }
    for _ in range(arguments.repeats):  # interleaved: a slow moment of the machine hits all
        for run, seconds, cpu in runs.values():
            started, used = time.perf_counter(), time.process_time()
            run()
            seconds.append(time.perf_counter() - started)
            cpu.append(time.process_time() - used)
    medians = {name: statistics.median(seconds) for name, (_, seconds, _) in runs.items()}
    used_by = {name: statistics.median(cpu) for name, (_, _, cpu) in runs.items()}
    result = {
        "rows": arguments.rows,
        "features": arguments.features,
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "cpu_seconds": {name: round(value, 3) for name, value in used_by.items()},
        "ours_to_histogram": round(medians["ours"] / medians["histogram"], 2),
        "ours_to_digitize": round(medians["ours"] / medians["digitize"], 2),
        "cpu_ours_to_histogram": round(used_by["ours"] / used_by["histogram"], 2),
        "cpu_ours_to_digitize": round(used_by["ours"] / used_by["digitize"], 2),
        "matrix_mib": round(arguments.rows * arguments.features * 8 / 2**20),
        "peak_resident_mib_after_ours": round(resident),
        "profile_bytes": len(stored),
        "same_psi": same,
    }
    if arguments.evidently:
        taken = evidently_seconds(before, now)
        result |= {"evidently_seconds": round(taken, 1), "evidently_to_ours": round(taken / medians["ours"], 1)}
    print(json.dumps(result, indent=1))
    return 0 if same else 1


def histogram_cells(now: dict[str, np.ndarray], edges: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Known values per cell, by comparison with every edge: the check, not the measurement."""
    cells = []
    for name, x in now.items():
        known = x[~np.isnan(x)]
        upto = [int((known <= edge).sum()) for edge in edges[name]]
        cells.append(np.diff([0, *upto, known.size]))
    return cells


if __name__ == "__main__":
    sys.exit(main())
