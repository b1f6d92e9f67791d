"""Performance on the matured cohort: who is in it, what degraded means, how often it is said by chance."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from trialops.models.discrimination import Estimate, auroc, auroc_interval
from trialops.models.task import Task, load_task
from trialops.monitoring import performance
from trialops.monitoring.performance import (
    DEGRADED,
    FINE,
    INSUFFICIENT,
    Cohort,
    by_site,
    judge,
    label_free,
    matured_cohort,
    relative_drop,
)
from trialops.monitoring.verdict import load_policy

POLICY = load_policy()
LOG = {
    "at": pl.String,
    "request_id": pl.String,
    "subject_id": pl.String,
    "study_day": pl.Int64,
    "bundle_digest": pl.String,
    "arm": pl.String,
    "probability": pl.Float64,
}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task()


def test_every_logged_prediction_is_accounted_for(task: Task) -> None:
    labels = pl.DataFrame(
        {
            "subject_id": ["a", "b", "c", "d", "e"],
            "site_id": ["1", "1", "2", "2", "2"],
            "label": [1, 0, None, 1, 0],
        },
        schema_overrides={"label": pl.Int8},
    )
    log = pl.DataFrame(
        [
            ("t3", "r3", "a", 28, "now", "stable", 0.9),  # the second one of a
            ("t1", "r1", "a", 29, "now", "candidate", 0.8),
            ("t2", "r2", "b", 28, "now", "", 0.2),
            ("t4", "r4", "b", 43, "now", "", 0.3),  # too late
            ("t5", "r5", "b", 27, "now", "", 0.3),  # before the landmark
            ("t6", "r6", "c", 28, "now", "", 0.4),  # not settled
            ("t7", "r7", "d", 35, "now", "", 0.5),  # had left before
            ("t8", "r8", "e", 28, "before", "", 0.5),
            ("t9", "r9", "e", 28, "now", "shadow", 0.5),
            ("u1", "s1", "x", 28, "now", "", 0.5),
            ("u2", "s2", "", None, "now", "", 0.5),
        ],
        schema=LOG,
        orient="row",
    )
    left = pl.DataFrame({"subject_id": ["a", "d"], "left": [60, 34]}, schema_overrides={"left": pl.Int32})
    found = matured_cohort(log, labels, task, digest="now", slack_days=14, left_days=left)
    assert found.rows.rows() == [("a", "1", "t1", 1, 0.8), ("b", "1", "t2", 0, 0.2)]
    assert found.left_out == {
        performance.REPEATED: 1,
        performance.OTHER_DAY: 2,
        performance.NOT_MATURED: 1,
        performance.AFTER_OUTCOME: 1,
        performance.OTHER_MODEL: 1,
        performance.SHADOW: 1,
        performance.NOT_IN_TRIAL: 1,
        performance.NO_SUBJECT: 1,
    }
    assert sum(found.left_out.values()) + found.rows.height == log.height
    assert found.waiting.tolist() == [0.4]
    # The order in which the log was read changes nothing.
    assert matured_cohort(log.reverse(), labels, task, digest="now", slack_days=14, left_days=left).rows.equals(
        found.rows
    )


def test_without_labels_equals_the_mean_over_drawn_labels() -> None:
    rng = np.random.default_rng(4)
    p = np.round(rng.beta(2, 3, 40), 1).clip(0.05, 0.95)  # with ties
    found = label_free(p, 0.5)
    pairs = ordered = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            if i != j:
                weight = p[i] * (1 - p[j])
                pairs += weight
                ordered += weight * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
    assert math.isclose(found.auroc, ordered / pairs, rel_tol=1e-12)
    drawn = rng.uniform(size=(20_000, len(p))) < p
    assert found.brier == pytest.approx(np.mean((drawn - p) ** 2), abs=0.003)
    assert found.accuracy == pytest.approx(np.mean((p >= 0.5) == drawn), abs=0.003)
    assert found.auroc == pytest.approx(np.nanmean([auroc(row.astype(float), p) for row in drawn[:2000]]), abs=0.01)


def cohort(seed: int, n: int, *, slope: float = 1.0, shift: float = 0.0, sites: int = 10) -> Cohort:
    """Predictions of a model that was calibrated once; by now its scores count `slope` and miss `shift`."""
    rng = np.random.default_rng(seed)
    score = rng.normal(-0.4, 1.0, n)
    p = 1 / (1 + np.exp(-score))
    y = rng.uniform(size=n) < 1 / (1 + np.exp(-(slope * score + shift)))
    rows = pl.DataFrame(
        {
            "subject_id": [f"s{k}" for k in range(n)],
            "site_id": [f"{k % sites:02d}" for k in range(n)],
            "at": ["t"] * n,
            "label": y.astype(np.int8),
            "probability": p,
        }
    )
    return Cohort(rows, {}, np.empty(0))


def then(seed: int, n: int = 300) -> Estimate:
    rows = cohort(seed, n).rows
    return auroc_interval(rows["label"].to_numpy().astype(float), rows["probability"].to_numpy())


def verdicts(runs: int, n: int, **effect: float) -> list[str]:
    return [
        judge(cohort(seed, n, **effect), POLICY, model="1:abc", at_promotion=then(10_000 + seed), threshold=0.5).verdict
        for seed in range(runs)
    ]


def test_alarms_by_chance_are_rare_and_planted_effects_are_found() -> None:
    null = verdicts(200, 400)
    assert null.count(FINE) >= 190 and null.count(DEGRADED) <= 5
    assert verdicts(60, 1500, slope=0.3).count(DEGRADED) >= 57
    assert verdicts(60, 800, shift=0.8).count(FINE) == 0 == verdicts(60, 800, shift=-0.8).count(FINE)


def test_nothing_fires_when_only_n_changes() -> None:
    for n, runs in ((100, 300), (1000, 100), (20_000, 30)):
        alarms = runs - verdicts(runs, n).count(FINE)
        assert alarms <= 0.05 * runs + 2.33 * math.sqrt(0.05 * 0.95 * runs)  # nominal, and the 99 % Monte Carlo bound


def test_too_little_is_said_to_be_too_little() -> None:
    found = judge(cohort(1, 59), POLICY, model="1:abc", at_promotion=then(1), threshold=0.5)
    assert found.verdict == INSUFFICIENT and "59 matured predictions; 60 are needed" in found.reasons
    assert math.isnan(found.auroc.value) and found.as_dict()["verdict"] == INSUFFICIENT


def test_relative_drop_by_simulation() -> None:
    """The delta method's standard error against that of drawn pairs of areas."""
    a, b = Estimate(0.70, 0.64, 0.76, ""), Estimate(0.75, 0.70, 0.80, "")
    found = relative_drop(a, b)
    rng = np.random.default_rng(2)
    drawn = 1 - rng.normal(0.70, 0.06 / 1.959964, 200_000) / rng.normal(0.75, 0.05 / 1.959964, 200_000)
    assert found.value == pytest.approx(1 - 0.70 / 0.75)
    assert (found.high - found.low) / 2 / 1.959964 == pytest.approx(drawn.std(), rel=0.02)


def test_sites_false_discoveries_and_a_planted_one() -> None:
    def flags(seed: int, site_shift: float) -> list[bool]:
        rows = cohort(seed, 800).rows
        rng = np.random.default_rng(seed + 5000)
        p = rows["probability"].to_numpy()
        moved = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + site_shift)))
        y = np.where(rows["site_id"].to_numpy() == "03", rng.uniform(size=len(p)) < moved, rows["label"].to_numpy())
        found = by_site(rows.with_columns(label=pl.Series(y.astype(np.int8))), least=11, rate=0.05)
        return [site.flagged for site in found]

    null = [any(flags(seed, 0.0)) for seed in range(200)]
    assert sum(null) <= 20  # 5 %, and the 99.9 % Monte Carlo bound above it
    planted = [flags(seed, 1.5) for seed in range(60)]
    assert sum(one[3] for one in planted) >= 54
    assert by_site(cohort(1, 100).rows, least=11, rate=0.05) == ()
