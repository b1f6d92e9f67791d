"""Discrimination, calibration, net benefit and the evaluation, against independent computations."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.calibration import (
    brier,
    calibration,
    local_linear,
    logit,
    newton_logistic,
    scaled_brier,
)
from trialops.models.discrimination import (
    auroc,
    auroc_interval,
    average_precision,
    average_precision_interval,
    delong,
    wilson,
)
from trialops.models.evaluation import (
    ClinicalModelEvaluatorOperator,
    Evaluation,
    evaluate_predictions,
    verdict,
)
from trialops.models.net_benefit import decision_curve
from trialops.models.task import Task


def scores(n: int = 200, distance: float = 1.0, seed: int = 0, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities with ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(np.int8)
    p = 1 / (1 + np.exp(-np.round(rng.normal(size=n) + distance * y - 0.5, digits)))
    return y, p


def brute_force(y: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROCs and DeLong covariance straight from the definition, all pairs compared."""
    kernel = np.array(
        [(a[y == 1][:, None] > a[y == 0]) + 0.5 * (a[y == 1][:, None] == a[y == 0][None, :]) for a in rows]
    )
    placed_pos, placed_neg = kernel.mean(axis=2), kernel.mean(axis=1)
    m, n = placed_pos.shape[1], placed_neg.shape[1]
    areas = kernel.mean(axis=(1, 2))
    s10 = (placed_pos - areas[:, None]) @ (placed_pos - areas[:, None]).T / (m - 1)
    s01 = (placed_neg - areas[:, None]) @ (placed_neg - areas[:, None]).T / (n - 1)
    return areas, s10 / m + s01 / n


def test_auroc_and_average_precision_equal_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    for seed in range(5):
        y, p = scores(seed=seed)
        assert auroc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
        assert average_precision(y, p) == pytest.approx(average_precision_score(y, p), abs=1e-12)
        assert brier(y, p) == pytest.approx(brier_score_loss(y, p), abs=1e-12)


def test_delong_equals_the_definition() -> None:
    y, p = scores(120)
    q = np.round(p + np.random.default_rng(1).normal(0, 0.2, len(y)), 1)
    areas, covariance = delong(y, np.vstack([p, q]))
    expected = brute_force(y, np.vstack([p, q]))
    assert np.allclose(areas, expected[0], atol=1e-12)
    assert np.allclose(covariance, expected[1], atol=1e-14)


def test_delong_error_agrees_with_a_bootstrap() -> None:
    y, p = scores(400, digits=6)
    rng = np.random.default_rng(0)
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    areas = []
    for _ in range(800):
        part = np.concatenate([rng.choice(positive, len(positive)), rng.choice(negative, len(negative))])
        areas.append(auroc(y[part], p[part]))
    interval = auroc_interval(y, p)
    assert (interval.high - interval.low) / 3.92 == pytest.approx(np.std(areas), rel=0.1)


def test_delong_intervals_cover_the_true_auroc(separation: Callable[[float], float]) -> None:
    truth, covered = separation(1.0), 0
    for seed in range(300):
        interval = auroc_interval(*scores(100, seed=seed, digits=8))
        covered += interval.low <= truth <= interval.high
    assert 0.91 <= covered / 300 <= 0.98


def test_intervals_near_the_edge() -> None:
    y = np.array([0] * 30 + [1] * 10)
    p = np.linspace(0.1, 0.9, 40)
    perfect = auroc_interval(y, p)
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(0.025**0.1)
    assert auroc_interval(y, -p).high == pytest.approx(1 - 0.025**0.1)
    p[29], p[30] = p[30], p[29]
    near = auroc_interval(y, p)
    assert near.method == "DeLong, logit"
    assert 0.5 < near.low < near.value < near.high < 1.0
    few = auroc_interval(np.array([1, 0, 0]), np.array([0.9, 0.1, 0.2]))
    assert (few.low, few.high) == (0.0, 1.0)
    assert np.isnan(auroc(np.ones(4), np.arange(4.0)))


def test_average_precision_bootstrap_equals_resampled_rows() -> None:
    from sklearn.metrics import average_precision_score

    y, p = scores(150)
    interval = average_precision_interval(y, p, seed=1)
    assert interval == average_precision_interval(y, p, seed=1)
    rng = np.random.default_rng(2)
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    drawn = []
    for _ in range(1000):
        part = np.concatenate([rng.choice(positive, len(positive)), rng.choice(negative, len(negative))])
        drawn.append(average_precision_score(y[part], p[part]))
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.02)


def test_wilson_equals_published_values() -> None:
    # Newcombe, Statistics in Medicine 1998;17:857, table I, method 3
    for successes, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
    ):
        interval = wilson(successes, total)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_newton_equals_scikit_learn_without_penalty() -> None:
    from sklearn.linear_model import LogisticRegression

    y, p = scores(300)
    fit = newton_logistic(np.column_stack([np.ones(300), logit(p)]), y)
    assert fit is not None
    reference = LogisticRegression(C=1e12, tol=1e-12, max_iter=1000).fit(logit(p)[:, None], y)
    assert fit[0][0] == pytest.approx(reference.intercept_[0], abs=1e-4)
    assert fit[0][1] == pytest.approx(reference.coef_[0, 0], abs=1e-4)
    assert newton_logistic(np.column_stack([np.ones(4), [0, 1, 2, 3.0]]), np.array([0, 0, 1, 1])) is None


def test_calibration_finds_what_was_put_in() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(-0.5, 1.2, 20_000)
    y = (rng.random(20_000) < 1 / (1 + np.exp(-true))).astype(np.int8)
    right = calibration(y, 1 / (1 + np.exp(-true)))
    assert right.intercept.low < 0 < right.intercept.high
    assert right.slope.low < 1 < right.slope.high
    assert right.ici < 0.01
    extreme = calibration(y, 1 / (1 + np.exp(-2 * true)))
    assert extreme.slope.value == pytest.approx(0.5, abs=0.03)
    assert extreme.slope.high < 1
    low = calibration(y, 1 / (1 + np.exp(-(true - 1))))
    assert low.intercept.value == pytest.approx(1.0, abs=0.06)
    assert low.ici == pytest.approx(low.observed - low.expected, abs=0.01)
    assert sum(point.n for point in right.curve) == 20_000


def test_calibration_says_what_cannot_be_computed() -> None:
    few = calibration(np.array([0, 1, 0, 1]), np.array([0.5, 0.5, 0.5, 0.5]))
    assert np.isnan(few.ici)
    assert np.isnan(few.slope.value)
    assert len(few.notes) == 2
    all_alike = calibration(np.zeros(30, dtype=np.int8), np.linspace(0.1, 0.4, 30))
    assert np.isnan(all_alike.intercept.value)
    assert scaled_brier(np.zeros(30), np.full(30, 0.1)) != scaled_brier(np.zeros(30), np.full(30, 0.1))


def test_local_linear_is_exact_on_a_line_and_equals_weighted_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(60)
    assert np.allclose(local_linear(x, 2 * x + 1, x), 2 * x + 1)
    y, at = rng.random(60), 0.4
    reach = np.sort(np.abs(x - at))[44]  # the 45th nearest of 60: span 0.75
    weight = np.clip(1 - (np.abs(x - at) / reach) ** 3, 0, None) ** 3
    line = np.polyfit(x, y, 1, w=np.sqrt(weight))
    assert local_linear(x, y, np.array([at]))[0] == pytest.approx(np.polyval(line, at), abs=1e-9)


def test_decision_curve_equals_the_hand_formula() -> None:
    y, p = scores()
    curve = decision_curve(y, p, 0.2, 0.6, points=9)
    for pt, value, everybody in zip(curve.thresholds, curve.model, curve.treat_all, strict=True):
        flag = p >= pt
        hand = (np.sum(flag & (y == 1)) - np.sum(flag & (y == 0)) * pt / (1 - pt)) / len(y)
        assert value == pytest.approx(hand, abs=1e-12)
        assert everybody == pytest.approx(y.mean() - (1 - y.mean()) * pt / (1 - pt), abs=1e-12)
    assert 0 < curve.useful_share <= 1


def evaluate(y: np.ndarray, p: np.ndarray) -> Evaluation:
    site = np.array([f"S{i % 3}" for i in range(len(y))])
    return evaluate_predictions(y, p, site, threshold=0.5, decision_thresholds=(0.1, 0.8), replicates=200)


def test_the_verdict_rests_on_the_interval() -> None:
    strong = evaluate(*scores(200, 1.5))
    assert strong.verdict == "better than chance"
    y, p = scores(200, 1.5)
    assert evaluate(y, 1 - p).verdict == "worse than chance"
    few = np.zeros(20, dtype=np.int8)
    few[[6, 10, 14, 15, 18]] = 1
    small = evaluate(few, np.linspace(0.05, 0.95, 20))
    assert small.auroc.value > 0.65  # a point estimate that looks good
    assert small.verdict == "not shown to be better than chance"
    assert "not shown" in verdict(auroc_interval(np.zeros(5), np.arange(5.0)))


def test_an_evaluation_adds_up_and_is_json() -> None:
    y, p = scores()
    result = evaluate(y, p)
    assert sum(row.n for row in result.by_site) == result.n == 200
    assert sum(row.events for row in result.by_site) == result.events
    flag = p >= 0.5
    assert result.operating.flagged == flag.sum()
    assert result.operating.sensitivity.value == pytest.approx(flag[y == 1].mean())
    assert result.operating.specificity.value == pytest.approx(1 - flag[y == 0].mean())
    assert result.operating.npv.value == pytest.approx(1 - y[~flag].mean())
    json.dumps(result.as_dict(), allow_nan=False)
    one_class = evaluate(np.zeros(30, dtype=np.int8), p[:30])
    assert json.loads(json.dumps(one_class.as_dict(), allow_nan=False))["auroc"]["value"] is None


def test_predictions_that_are_not_probabilities_are_refused() -> None:
    with pytest.raises(TrialOpsError, match="2 predictions are not probabilities"):
        evaluate(np.array([0, 1, 1]), np.array([0.2, 1.4, np.nan]))
    with pytest.raises(TrialOpsError, match="no subjects"):
        evaluate(np.array([]), np.array([]))


def test_the_operator_refuses_a_site_the_model_has_seen(trial_frame: pl.DataFrame, task: Task) -> None:
    bundle = Bundle(
        "m",
        "logistic",
        ("ae_count",),
        0.5,
        {},
        {"sites": ["S03"]},
        "",
        {},
        {"ae_count": 0.0},
        (0.0,),
        (1.0,),
        (1.0,),
    )
    with pytest.raises(TrialOpsError, match="1 of the sites"):
        ClinicalModelEvaluatorOperator(task).run(bundle, trial_frame)
    unseen = trial_frame.filter(pl.col("site_id") != "S03")
    operator = ClinicalModelEvaluatorOperator(task, replicates=200)
    result = operator.run(bundle, unseen)
    assert result.digest == bundle.digest
    assert result == operator.run(bundle, unseen.sample(fraction=1.0, shuffle=True, seed=5))
    # the score is the one informative feature, so its AUROC is the known one
    assert result.auroc.low < 0.8556 < result.auroc.high


def test_the_known_auroc(separation: Callable[[float], float]) -> None:
    assert separation(1.5) == pytest.approx(0.8556, abs=1e-4)


def test_a_model_that_tells_nobody_apart_says_so() -> None:
    y = np.array([0, 1, 0, 1, 1, 0])
    found = evaluate_predictions(
        y, np.full(6, 0.5), np.array(list("aabbcc")), threshold=0.5, decision_thresholds=(0.1, 0.8)
    )
    assert found.verdict == "not shown to be better than chance"
    assert any("same risk" in note for note in found.notes)
