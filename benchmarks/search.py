"""Time one hyperparameter search on Ray and in process, side by side.

    python benchmarks/search.py --trials 20 --repeats 3

The data are synthetic and the trials the same; the two must find the same model. Prints one JSON object:
seconds of each run, start and stop of Ray included, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from trialops.models.search import search
from trialops.models.task import Task, load_task


def trial(task: Task, subjects: int, sites: int, seed: int) -> pl.DataFrame:
    """A synthetic training set: three informative features among noise, a tenth of the values missing."""
    rng = np.random.default_rng(seed)
    x = {name: rng.normal(size=subjects) for name in task.features}
    x["age"], x["sex_female"] = (
        rng.normal(75, 8, subjects).round(),
        rng.integers(0, 2, subjects).astype(float),
    )
    risk = x["ae_count"] + 0.7 * x["visit_delay_days"] - 0.5 * x["weight_change_pct"]
    label = (rng.random(subjects) < 1 / (1 + np.exp(-risk))).astype(np.int8)
    gaps = {name: np.where(rng.random(subjects) < 0.1, np.nan, values) for name, values in x.items()}
    return pl.DataFrame(
        {
            "subject_id": [f"P{i:06d}" for i in range(subjects)],
            "site_id": [f"S{k:02d}" for k in rng.integers(0, sites, subjects)],
            "label": label,
            **gaps,
        }
    )


def main() -> int:
    """Run the comparison.

    Returns:
        0 when both backends found the same model, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--subjects", type=int, default=2000)
    parser.add_argument("--sites", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    task = load_task()
    frame = trial(task, arguments.subjects, arguments.sites, seed=0)
    seconds: dict[str, list[float]] = {"inprocess": [], "ray": []}
    digests = set()
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm"
        search(frame, task, trials=2, backend="inprocess", storage=warm)  # imports are not part of the comparison
        for repeat in range(arguments.repeats):  # interleaved: a slow moment of the machine hits both
            for backend, runs in seconds.items():
                storage = Path(folder) / f"{backend}-{repeat}"
                started = time.perf_counter()
                digests.add(search(frame, task, trials=arguments.trials, backend=backend, storage=storage).digest)
                runs.append(round(time.perf_counter() - started, 2))
    medians = {backend: statistics.median(runs) for backend, runs in seconds.items()}
    result = {
        "trials": arguments.trials,
        "subjects": arguments.subjects,
        "seconds": seconds,
        "ray_to_inprocess": round(medians["ray"] / medians["inprocess"], 2),
        "same_model": len(digests) == 1,
    }
    print(json.dumps(result, indent=1))
    return 0 if result["same_model"] else 1


if __name__ == "__main__":
    sys.exit(main())
