"""Verdicts and calibration under a known truth: false alarms at their nominal rate, planted effects found.

Every rate comes with its Monte Carlo error; each claim has a mirrored case that must come out the other way.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialops.models.bundle import Bundle
from trialops.models.calibration import calibration, newton_logistic
from trialops.models.comparison import compare_predictions
from trialops.models.design_matrix import inputs, labels
from trialops.models.discrimination import auroc_interval
from trialops.models.evaluation import BETTER, verdict
from trialops.models.search import search
from trialops.models.task import Task

RUNS = 3000


def rate_error(rate: float, runs: int = RUNS) -> float:
    """Three standard errors of a rate seen in so many runs."""
    return 3 * float(np.sqrt(rate * (1 - rate) / runs))


def better(n: int, signal: float, runs: int, seed: int) -> float:
    """Share of trials in which a model fitted on 120 subjects is called better than chance on n others."""
    rng, called = np.random.default_rng(seed), 0
    for _ in range(runs):
        x = rng.normal(size=(120 + n, 3))
        y = (rng.random(120 + n) < 1 / (1 + np.exp(-(signal * x[:, 0] - 0.4)))).astype(np.int8)
        design = np.column_stack([np.ones(len(x)), x])
        fit = newton_logistic(design[:120], y[:120])
        assert fit is not None
        called += verdict(auroc_interval(y[120:], design[120:] @ fit[0])) == BETTER
    return called / runs


def test_without_signal_the_verdict_errs_at_its_nominal_rate() -> None:
    """One side of a 95 % interval: 2.5 % of models that know nothing are called better than chance."""
    rate = better(100, 0.0, RUNS, seed=1)
    assert 0.025 - 0.01 < rate < 0.025 + rate_error(0.025)


def test_with_signal_it_is_found() -> None:
    assert better(150, 1.0, 400, seed=2) >= 0.95 - rate_error(0.95, 400)
    assert better(150, 0.15, 400, seed=3) < 0.5, "a weak signal is not made up"


def margin_met(loss: float, runs: int, seed: int, margin: float = 0.05) -> float:
    """Share of trials in which a challenger whose AUROC is lower by a loss is called non-inferior."""
    from statistics import NormalDist

    rng, met, n = np.random.default_rng(seed), 0, 400
    unit = NormalDist()
    first, second = (np.sqrt(2) * unit.inv_cdf(area) for area in (0.75, 0.75 - loss))
    for _ in range(runs):
        y = (rng.random(n) < 0.4).astype(np.int8)
        shared = rng.normal(size=n)
        champion, challenger = (
            np.sqrt(0.7) * shared + np.sqrt(0.3) * rng.normal(size=n) + distance * y for distance in (first, second)
        )
        found = compare_predictions(y, challenger, champion, comparator="c", role="champion")
        met += found.difference.low > -margin
    return met / runs


def test_non_inferiority_errs_at_its_nominal_rate() -> None:
    """A challenger worse by exactly the margin passes in 2.5 % of trials; one as good passes much more often."""
    assert margin_met(0.05, 2000, seed=4) < 0.025 + rate_error(0.025, 2000)
    assert margin_met(0.0, 300, seed=5) > 0.5
    assert margin_met(0.10, 300, seed=6) < 0.01


@pytest.fixture(scope="module")
def planted(task: Task) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A large trial whose risk is known: three features act on the log odds, the others are noise."""
    rng, n = np.random.default_rng(8), 24_000
    columns = {name: rng.normal(size=n) for name in task.features}
    columns["age"], columns["sex_female"] = rng.normal(75, 8, n).round(), rng.integers(0, 2, n).astype(float)
    risk = 0.9 * columns["ae_count"] - 0.6 * columns["weight_change_pct"] + 0.5 * columns["visit_delay_days"] - 0.7
    label = (rng.random(n) < 1 / (1 + np.exp(-risk))).astype(np.int8)
    site = rng.integers(0, 30, n)
    frame = pl.DataFrame(
        {
            "subject_id": [f"P{k:06d}" for k in range(n)],
            "site_id": [f"S{k:02d}" for k in site],
            "label": label,
            "risk": risk,
            **columns,
        }
    )
    return frame.filter(pl.col("site_id") < "S10"), frame.filter(pl.col("site_id") >= "S10")


@pytest.mark.slow
def test_the_planted_models_calibration_slope_is_one(
    planted: tuple[pl.DataFrame, pl.DataFrame], task: Task, tmp_path: Path
) -> None:
    """Searched, fitted and judged on sites it never saw, the model gives risks that happen: slope 1 within 0.05."""
    train, held = planted
    found = search(train, task, trials=2, seed=1, backend="inprocess", storage=tmp_path)
    bundle, y = Bundle.load(found.bundle), labels(held)
    p = bundle.predict(inputs(held, bundle.features))
    judged = calibration(y, p)
    assert abs(judged.slope.value - 1) < 0.05
    assert judged.slope.low < 1 < judged.slope.high
    assert abs(judged.intercept.value) < 0.05 and judged.ici < 0.01
    truth = 1 / (1 + np.exp(-held["risk"].to_numpy()))
    assert float(np.abs(p - truth).mean()) < 0.02
    linear = np.log(p / (1 - p))
    overconfident = calibration(y, 1 / (1 + np.exp(-1.5 * linear)))
    assert overconfident.slope.value == pytest.approx(judged.slope.value / 1.5, abs=1e-3)
    assert abs(overconfident.slope.value - 1) > 0.25, "a model that claims too much is seen"


def test_labels_without_signal_give_a_slope_that_cannot_be_told_from_none(
    planted: tuple[pl.DataFrame, pl.DataFrame], task: Task, tmp_path: Path
) -> None:
    """The mirrored case: with shuffled labels nothing is found, whatever the search tried."""
    train, held = (
        part.with_columns(label=pl.Series(np.random.default_rng(3).permutation(part["label"].to_numpy())))
        for part in planted
    )
    small = train.head(1500)
    found = search(small, replace(task), trials=4, seed=1, backend="inprocess", storage=tmp_path)
    bundle = Bundle.load(found.bundle)
    area = auroc_interval(labels(held), bundle.predict(inputs(held, bundle.features)))
    assert area.low < 0.5 < area.high or abs(area.value - 0.5) < 0.02
    assert found.gain.low < 0.002, "the search does not claim to have found something"
