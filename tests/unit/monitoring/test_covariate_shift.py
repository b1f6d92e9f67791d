"""The domain classifier, correlations and importance: what each finds that the others do not, and the null."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from trialops.monitoring.association import correlations, rank_columns
from trialops.monitoring.drift import drift
from trialops.monitoring.drift_policy import load_drift_policy
from trialops.monitoring.reference import profile
from trialops.monitoring.shift import domain_classifier
from trialops.monitoring.stability import (
    correlation_change,
    fisher_pairs,
    importance_stability,
    kendall,
    permutation_importance,
)

NAMES = tuple(f"x{i}" for i in range(12))
POLICY = load_drift_policy()
QUICK = replace(POLICY, dependence=replace(POLICY.dependence, permutations=399))
Columns = dict[str, np.ndarray]


def rows(rng: np.random.Generator, n: int, *, rho: float = 0.0, shift: float = 0.0, spread: float = 1.0) -> Columns:
    x = rng.normal(size=(12, n))
    x[1] = rho * x[0] + np.sqrt(1 - rho**2) * x[1]
    x[2] += shift
    x[3] *= spread
    x[10] = np.exp(x[10])
    x[11][rng.random(n) < 0.2] = np.nan
    return dict(zip(NAMES, x, strict=True))


def test_the_classifier_finds_shift_spread_and_gaps_and_names_them() -> None:
    rng = np.random.default_rng(1)
    before = rows(rng, 800)
    moved = domain_classifier(before, rows(rng, 600, shift=0.5), NAMES, POLICY)
    assert moved.state == "drift" and moved.drivers[0][0] == "x2" and moved.drivers[0][1] > 0.5
    wider = domain_classifier(before, rows(rng, 600, spread=1.6), NAMES, POLICY)
    assert wider.state == "drift" and wider.drivers[0][0] == "x3"
    gaps = rows(rng, 600)
    gaps["x4"][rng.random(600) < 0.3] = np.nan
    missing = domain_classifier(before, gaps, NAMES, POLICY)
    assert missing.state == "drift" and missing.drivers[0][0] == "x4"
    assert sum(part for _, part in missing.drivers) == pytest.approx(1.0)


def test_many_small_shifts_are_found_together_and_not_one_by_one() -> None:
    rng = np.random.default_rng(2)
    before, now = rows(rng, 3000), rows(rng, 2000)
    for name in NAMES[:10]:
        now[name] = now[name] + 0.12
    assert drift(profile(before, NAMES), now, POLICY).verdict == "no drift"
    assert domain_classifier(before, now, NAMES, POLICY).state == "drift"


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(300, 300), (1000, 80)])
def test_the_classifier_rarely_tells_apart_what_is_alike(n: int, m: int) -> None:
    """Level 1 %: at most 2 of 100 pairs (Monte Carlo error 1 %)."""
    rng = np.random.default_rng(n)
    found = [domain_classifier(rows(rng, n), rows(rng, m), NAMES, POLICY) for _ in range(100)]
    assert sum(one.state == "drift" for one in found) <= 2
    assert np.mean([one.auroc for one in found]) == pytest.approx(0.5, abs=0.02)


def test_the_same_rows_and_seed_give_the_same_answer() -> None:
    rng = np.random.default_rng(3)
    before, now = rows(rng, 7000), rows(rng, 400)
    first, second = (domain_classifier(before, now, NAMES, POLICY) for _ in range(2))
    assert first == second and first.n_reference == POLICY.classifier.rows


def test_a_change_of_correlation_alone_is_found_by_correlations_and_not_by_psi() -> None:
    rng = np.random.default_rng(4)
    before, now = rows(rng, 900, rho=0.0), rows(rng, 600, rho=0.45)
    report = drift(profile(before, NAMES), now, POLICY)
    assert report.verdict == "no drift" and max(item.psi for item in report.features) < POLICY.alert_psi
    found = correlation_change(before, now, NAMES, QUICK)
    assert found.state == "drift"
    assert [(pair.first, pair.second) for pair in found.changed] == [("x0", "x1")]
    assert found.changed[0].current - found.changed[0].reference == pytest.approx(0.43, abs=0.1)
    # A shift of a feature is no change of correlations: either side is ranked by itself.
    assert correlation_change(before, rows(rng, 600, shift=2.0, spread=3.0), NAMES, QUICK).state == "no drift"


def test_correlations_changed_as_a_whole() -> None:
    """All pairs a little: none by itself, the norm against permutations does."""
    rng = np.random.default_rng(5)

    def tied(n: int, weight: float) -> Columns:
        common = rng.normal(size=n)
        x = np.sqrt(1 - weight) * rng.normal(size=(12, n)) + np.sqrt(weight) * common
        return dict(zip(NAMES, x, strict=True))

    wide = replace(QUICK, dependence=replace(QUICK.dependence, relevant_correlation=0.3))
    found = correlation_change(tied(1200, 0.0), tied(900, 0.09), NAMES, wide)
    assert found.state == "drift" and not found.changed and found.p <= 1 / 400 + 1e-12
    assert found.rms == pytest.approx(0.085, abs=0.02)


def test_correlations_of_one_population_rarely_change() -> None:
    """Level 0.5 %: at most 1 of 60 pairs of samples, and p of the norm is uniform (Kolmogorov-Smirnov)."""
    rng = np.random.default_rng(6)
    quick = replace(POLICY, dependence=replace(POLICY.dependence, permutations=99))
    found = [correlation_change(rows(rng, 200, rho=0.5), rows(rng, 120, rho=0.5), NAMES, quick) for _ in range(60)]
    assert sum(one.state == "drift" for one in found) <= 1
    assert stats.kstest([one.p for one in found], "uniform").pvalue > 0.01


def test_spearman_with_gaps_and_fishers_z() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(400, 3)), rng.normal(size=(300, 3))
    x[:, 1] += x[:, 0]
    found, pairs = correlations(rank_columns(x))
    assert found[0, 1] == pytest.approx(stats.spearmanr(x[:, 0], x[:, 1]).statistic, abs=1e-9)
    assert pairs[0, 1] == 400
    everything = replace(POLICY, dependence=replace(POLICY.dependence, alpha=2.0, relevant_correlation=0.0))
    tested, changed = fisher_pairs(rank_columns(x), rank_columns(y), ["a", "b", "c"], everything)
    pair = next(one for one in changed if (one.first, one.second) == ("a", "b"))
    r, s = (stats.spearmanr(part[:, 0], part[:, 1]).statistic for part in (x, y))
    z = (np.arctanh(s) - np.arctanh(r)) / np.sqrt((1 + r * r / 2) / 397 + (1 + s * s / 2) / 297)
    assert tested == 3 and pair.z == pytest.approx(z, abs=1e-9)
    p = [2 * stats.norm.sf(abs(one.z)) for one in changed]
    assert sorted(one.q for one in changed) == pytest.approx(sorted(stats.false_discovery_control(p)), abs=1e-12)


def test_kendall_is_scipys() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.integers(0, 6, 30).astype(float), rng.integers(0, 6, 30).astype(float)
    assert kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)
    assert np.isnan(kendall(np.ones(5), np.arange(5.0)))


def model(weights: dict[str, float]) -> Any:
    from trialops.models.bundle import Bundle

    return Bundle(
        name="test",
        kind="logistic",
        features=NAMES,
        threshold=0.5,
        task={},
        training={},
        created_by="test",
        params={},
        fill=dict.fromkeys(NAMES, 0.0),
        centre=(0.0,) * 12,
        scale=(1.0,) * 12,
        coefficients=tuple(weights.get(name, 0.0) for name in NAMES),
    )


def test_importance_is_what_the_model_leans_on() -> None:
    """Of a linear model: the weight times the mean absolute difference of two draws, 2 / sqrt(pi) SD if normal."""
    rng = np.random.default_rng(9)
    x = np.column_stack(list(rows(rng, 4000).values()))
    found = permutation_importance(model({"x0": 0.5, "x3": -1.0}), x, repeats=3, seed=1)
    assert found[0] == pytest.approx(0.5 * 2 / np.sqrt(np.pi), rel=0.05)
    assert found[3] == pytest.approx(2 / np.sqrt(np.pi), rel=0.05)
    assert found[[1, 2, 4]].tolist() == [0, 0, 0]


def test_ranks_are_stable_until_the_features_change_places() -> None:
    rng = np.random.default_rng(10)
    bundle = model({name: 1.5**-i for i, name in enumerate(NAMES)})
    before, same = rows(rng, 500), rows(rng, 300)
    stable = importance_stability(bundle, before, same, POLICY)
    assert stable.state == "stable" and stable.tau >= 0.9 and stable.tau_within >= 0.9
    turned = {name: values * 1.5 ** (2 * i) for i, (name, values) in enumerate(same.items())}
    unstable = importance_stability(bundle, before, turned, POLICY)
    assert unstable.state == "unstable" and unstable.tau < 0.7
    # A model that leans on nothing has no ranks that could be lost.
    assert importance_stability(model({}), before, same, POLICY).state == "insufficient evidence"


def test_too_few_rows() -> None:
    rng = np.random.default_rng(11)
    few, enough = rows(rng, 20), rows(rng, 500)
    assert domain_classifier(enough, few, NAMES, POLICY).state == "insufficient evidence"
    assert correlation_change(few, enough, NAMES, POLICY).state == "insufficient evidence"
    assert importance_stability(model({"x0": 1.0}), enough, few, POLICY).state == "insufficient evidence"
