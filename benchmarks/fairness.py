"""Time fairness intervals by group: multinomial draws of confusion counts beside fairlearn's bootstrap of rows.

    python benchmarks/fairness.py --subjects 20000 --replicates 2000 --fairlearn-replicates 20

Both give percentile intervals of the true- and the false-positive rate by group and of their differences. fairlearn
resamples every row and computes the metrics anew for each replicate; its time is linear in the replicates, so it is run
with few and scaled (two sizes are timed, and the fixed part is taken out). The candidate is timed with what it needs
before: counting the rows. It is run in two schemes: stratified by group, as in the audit, and over all rows
together, which is what fairlearn does and is therefore the one whose intervals must agree.

Prints one JSON object: seconds, the ratio, peak memory, and the largest distance between the two schemes' and
fairlearn's interval ends beside the Monte Carlo error that fairlearn's replicates leave.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from trialops.models.fairness_intervals import (
    Percentiles,
    confusion_counts,
    false_positive_rate,
    percentile_intervals,
    true_positive_rate,
)

METRICS = (true_positive_rate, false_positive_rate)
NAMES = ("true_positive_rate", "false_positive_rate")


def sample(subjects: int, groups: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, flags and groups; the groups' true rates differ a little."""
    rng = np.random.default_rng(seed)
    group = rng.choice(groups, subjects, p=np.arange(groups, 0, -1) / (groups * (groups + 1) / 2))
    y = (rng.random(subjects) < 0.36).astype(np.int8)
    rate = np.where(y == 1, 0.6 + 0.03 * group, 0.3 + 0.02 * group)
    return y, rng.random(subjects) < rate, group


def ours(
    y: np.ndarray, flag: np.ndarray, group: np.ndarray, groups: int, replicates: int, stratified: bool
) -> tuple[Percentiles, ...]:
    """Counts, then draws of counts."""
    counts = confusion_counts(y, flag, group, groups)
    return percentile_intervals(counts, METRICS, replicates=replicates, seed=0, stratified=stratified)


def theirs(y: np.ndarray, flag: np.ndarray, group: np.ndarray, replicates: int) -> Any:
    """Bootstrap of rows by fairlearn."""
    from fairlearn import metrics

    frame = metrics.MetricFrame(
        metrics={name: getattr(metrics, name) for name in NAMES},
        y_true=y,
        y_pred=flag.astype(int),
        sensitive_features=group,
        n_boot=replicates,
        ci_quantiles=[0.025, 0.975],
        random_state=0,
    )
    return frame.by_group_ci, frame.difference_ci()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def peak(work: Callable[[], Any]) -> float:
    """Largest memory the work held at a time, MB."""
    tracemalloc.start()
    work()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 1e6


def main() -> int:
    """Run the comparison.

    Returns:
        0 when the intervals agree to Monte Carlo error, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=20_000)
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--fairlearn-replicates", type=int, default=20)
    parser.add_argument("--agreement-replicates", type=int, default=200, help="of fairlearn, on --agreement-subjects")
    parser.add_argument("--agreement-subjects", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    data, groups = sample(asked.subjects, asked.groups, 0), asked.groups
    few = asked.fairlearn_replicates
    theirs(*sample(200, groups, 0), 2)  # imports are not part of the comparison
    seconds: dict[str, list[float]] = {"stratified": [], "all rows": [], "fairlearn": []}
    for _ in range(asked.repeats):  # interleaved: a slow moment of the machine hits all
        for name, stratified in (("stratified", True), ("all rows", False)):
            seconds[name].append(timed(partial(ours, *data, groups, asked.replicates, stratified))[0])
        none, some = (timed(partial(theirs, *data, n))[0] for n in (1, 1 + few))
        seconds["fairlearn"].append(none + (some - none) / few * (asked.replicates - 1))
    medians = {name: statistics.median(runs) for name, runs in seconds.items()}
    agreement = agree(sample(asked.agreement_subjects, groups, 1), groups, asked.agreement_replicates)
    result = {
        "subjects": asked.subjects,
        "groups": groups,
        "replicates": asked.replicates,
        "seconds": {name: round(value, 5) for name, value in medians.items()},
        "fairlearn_is": f"scaled linearly from 1 and {1 + few} replicates",
        "faster_stratified": round(medians["fairlearn"] / medians["stratified"]),
        "faster_all_rows": round(medians["fairlearn"] / medians["all rows"]),
        "peak_mb": {
            "stratified": round(peak(lambda: ours(*data, groups, asked.replicates, True)), 2),
            "all rows": round(peak(lambda: ours(*data, groups, asked.replicates, False)), 2),
            f"fairlearn, {few} replicates": round(peak(lambda: theirs(*data, few)), 2),
        },
        "agreement": agreement,
    }
    print(json.dumps(result, indent=1))
    return 0 if agreement["all rows"]["within"] else 1


def agree(data: tuple[np.ndarray, np.ndarray, np.ndarray], groups: int, replicates: int) -> dict[str, Any]:
    """Largest distance of interval ends from fairlearn's, in Monte Carlo standard errors of fairlearn's ends.

    The standard error of a bootstrap quantile is measured: the spread of that end over forty batches of as many
    replicates of the draws over all rows, whose law is that of resampled rows.
    """
    (low, high), difference = theirs(*data, replicates)
    known = np.array([[[end.loc[g, name] for end in (low, high)] for g in range(groups)] for name in NAMES])
    apart = np.array([[end[name] for end in difference] for name in NAMES])
    counts = confusion_counts(*data, groups)
    batches = np.array(
        [
            [
                np.vstack([found.by_group, [found.difference]])
                for found in percentile_intervals(counts, METRICS, replicates=replicates, seed=s, stratified=False)
            ]
            for s in range(1, 41)
        ]
    )
    error = batches.std(axis=0, ddof=1)
    wanted = np.concatenate([known, apart[:, None, :]], axis=1)
    found = {}
    for name, stratified in (("stratified", True), ("all rows", False)):
        mine = percentile_intervals(counts, METRICS, replicates=100_000, seed=0, stratified=stratified)
        ends = np.array([np.vstack([m.by_group, [m.difference]]) for m in mine])
        off = np.abs(ends - wanted)
        found[name] = {
            "largest_distance": round(float(off.max()), 4),
            "in_standard_errors": round(float((off / error).max()), 2),
            "ends_compared": int(off.size),
            # the largest of 16 standard normal deviations exceeds 3.5 in 1 of 130 comparisons
            "within": bool((off / error).max() < 3.5),
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
