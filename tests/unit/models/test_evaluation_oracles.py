"""Evaluation measures against computations written another way."""

from __future__ import annotations

import numpy as np
import pytest

from trialops.models.calibration import GRID, calibration
from trialops.models.comparison import compare_predictions
from trialops.models.internal_external import internal_external, paule_mandel, random_effects
from trialops.models.net_benefit import net_benefit, net_benefit_difference, net_benefit_survival, survival_share
from trialops.models.selection import loss_difference


def made(n: int, seed: int, digits: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two correlated predictions, with ties where digits are few."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.35).astype(np.int8)
    base = rng.normal(size=n) + 0.9 * y - 0.6
    one, other = (1 / (1 + np.exp(-np.round(base + rng.normal(0, s, n), digits))) for s in (0.1, 0.7))
    return y, one, other


def paired_by_pairs(y: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """AUROC difference and its variance from every pair of subjects, looping over them."""
    cases, controls = np.flatnonzero(y == 1), np.flatnonzero(y == 0)

    def score(p: np.ndarray, i: int, j: int) -> float:
        return 1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0

    gap = np.array([[score(one, i, j) - score(other, i, j) for j in controls] for i in cases])
    by_case, by_control = gap.mean(axis=1), gap.mean(axis=0)
    return float(gap.mean()), float(by_case.var(ddof=1) / len(cases) + by_control.var(ddof=1) / len(controls))


@pytest.mark.parametrize("digits", [1, 8])
def test_the_paired_delong_test_equals_all_pairs(digits: int) -> None:
    from scipy import stats

    y, one, other = made(140, 3, digits)
    found = compare_predictions(y, one, other, comparator="b", role="baseline")
    gap, variance = paired_by_pairs(y, one, other)
    assert found.difference.value == pytest.approx(gap, abs=1e-12)
    z = stats.norm.ppf(0.975)
    assert found.difference.low == pytest.approx(gap - z * np.sqrt(variance), abs=1e-9)
    assert found.difference.high == pytest.approx(gap + z * np.sqrt(variance), abs=1e-9)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(gap) / np.sqrt(variance)), abs=1e-9)


def loess(x: np.ndarray, y: np.ndarray, at: float, span: float = 0.75) -> float:
    """Weighted least squares by a solver, one point at a time."""
    distance = np.abs(x - at)
    reach = np.sort(distance)[int(np.ceil(span * len(x))) - 1]
    weight = np.where(distance < reach, (1 - (distance / reach) ** 3) ** 3, 0.0)
    root = np.sqrt(weight)
    design = np.column_stack([np.ones(len(x)), x - at])
    return float(np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0][0])


def distances(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    if len(p) <= 2 * GRID:
        smooth = np.array([loess(p, y, at) for at in p])
        return np.abs(np.clip(smooth, 0, 1) - p)
    at = sorted({float(np.quantile(p, q)) for q in np.linspace(0, 1, GRID)})
    curve = [min(max(loess(p, y, point), 0.0), 1.0) for point in at]
    found = []
    for value in p:  # linear between the two neighbours
        k = min(max(int(np.searchsorted(at, value, side="right")), 1), len(at) - 1)
        share = (value - at[k - 1]) / (at[k] - at[k - 1])
        found.append(abs(curve[k - 1] + share * (curve[k] - curve[k - 1]) - value))
    return np.array(found)


@pytest.mark.parametrize("n", [60, 400, 1500])
def test_ici_e50_and_e90_equal_a_loess_written_otherwise(n: int) -> None:
    y, p, _ = made(n, 5)
    found, expected = calibration(y, p), distances(y, p)
    assert found.ici == pytest.approx(expected.mean(), abs=1e-9)
    assert found.e50 == pytest.approx(np.median(expected), abs=1e-9)
    assert found.e90 == pytest.approx(np.percentile(expected, 90), abs=1e-9)


def test_the_grid_of_large_sets_changes_nothing_that_matters() -> None:
    y, p, _ = made(1500, 6)
    exact = np.array([loess(p, y, at) for at in p])
    assert calibration(y, p).ici == pytest.approx(np.abs(np.clip(exact, 0, 1) - p).mean(), abs=1e-4)


def test_ici_agrees_with_statsmodels_lowess() -> None:
    """Its lowess rounds the neighbourhood down and cuts weights near the edge: equal to a few parts in 10,000."""
    lowess = pytest.importorskip("statsmodels.nonparametric.smoothers_lowess").lowess
    y, p, _ = made(400, 5)
    smooth = np.clip(lowess(y, p, frac=0.75, it=0, delta=0.0, return_sorted=False), 0, 1)
    assert calibration(y, p).ici == pytest.approx(np.abs(smooth - p).mean(), abs=5e-4)


def test_random_effects_equal_statsmodels() -> None:
    meta = pytest.importorskip("statsmodels.stats.meta_analysis")
    rng = np.random.default_rng(2)
    for spread in (0.0, 0.05, 0.6):
        variances = rng.uniform(0.02, 0.2, 9)
        values = rng.normal(0.8, spread, 9) + rng.normal(0, np.sqrt(variances))
        found = random_effects(values, variances)
        theirs = meta.combine_effects(values, variances, method_re="iterated", use_t=True)
        assert found.tau**2 == pytest.approx(max(theirs.tau2, 0.0), abs=1e-4)
        assert found.mean.value == pytest.approx(theirs.mean_effect_re, abs=1e-4)
        wide = found.mean.high - found.mean.value
        hartung = float(theirs.conf_int(use_t=True)[1][1] - theirs.mean_effect_re)
        assert wide >= hartung - 1e-3, "never narrower than the sites' own errors allow"
        assert found.prediction_low <= found.mean.low and found.prediction_high >= found.mean.high
        assert found.i2 == pytest.approx(max(theirs.i2, 0.0), abs=1e-9)


def test_the_between_site_variance_solves_its_equation() -> None:
    rng = np.random.default_rng(4)
    values, variances = rng.normal(0, 1, 12), rng.uniform(0.05, 0.3, 12)
    tau2 = paule_mandel(values, variances)
    weight = 1 / (variances + tau2)
    mean = np.average(values, weights=weight)
    assert float(np.sum(weight * (values - mean) ** 2)) == pytest.approx(11, abs=1e-9)
    assert paule_mandel(np.full(5, 0.3), np.full(5, 0.1)) == 0.0


def test_random_effects_intervals_cover() -> None:
    """The interval of the mean holds what it promises; with ten sites the prediction interval falls a little short
    (known: Partlett and Riley, Statistics in Medicine 2017;36:301)."""
    rng, runs, k, tau = np.random.default_rng(0), 600, 10, 0.4
    covered = predicted = 0
    for _ in range(runs):
        variances = rng.uniform(0.05, 0.3, k)
        truth = rng.normal(1.0, tau, k + 1)
        found = random_effects(rng.normal(truth[:k], np.sqrt(variances)), variances)
        covered += found.mean.low <= 1.0 <= found.mean.high
        predicted += found.prediction_low <= truth[k] <= found.prediction_high
    error = 3 * np.sqrt(0.95 * 0.05 / runs)
    assert covered / runs > 0.95 - error
    assert 0.88 < predicted / runs < 0.98


def test_internal_external_rows_and_pool() -> None:
    rng = np.random.default_rng(11)
    y, p, _ = made(400, 1)
    site = np.array([f"S{k}" for k in rng.choice(6, 400, p=[0.4, 0.3, 0.2, 0.06, 0.02, 0.02])])
    y[site == "S4"] = 0
    y[site == "S5"] = 0
    found = internal_external(y, p, site)
    assert [row.site for row in found.sites] == ["S0", "S1", "S2", "S3"], "a pool without events cannot be judged"
    assert sum("pool" in note for note in found.notes) == 2
    y[np.flatnonzero(site == "S4")[:1]] = 1
    y[np.flatnonzero(site == "S5")[:1]] = 1
    found = internal_external(y, p, site)
    assert sum(row.n for row in found.sites) == 400
    assert found.sites[-1].site == "pool of 2 smaller sites" and found.sites[-1].events == 2
    assert found.auroc is not None and found.auroc.prediction_low < found.auroc.mean.low
    one = internal_external(y, p, np.full(400, "S0"))
    assert one.auroc is None and len(one.sites) == 1


def test_net_benefit_difference_equals_the_curves_and_a_bootstrap() -> None:
    y, one, other = made(500, 7)
    at = np.linspace(0.1, 0.6, 71)
    found = net_benefit_difference(y, one, other, 0.1, 0.6)
    direct = (net_benefit(y, one, at) - net_benefit(y, other, at)).mean()
    assert found.value == pytest.approx(direct, abs=1e-12)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(800):
        part = rng.integers(0, 500, 500)
        drawn.append((net_benefit(y[part], one[part], at) - net_benefit(y[part], other[part], at)).mean())
    assert (found.high - found.low) / 3.92 == pytest.approx(np.std(drawn), rel=0.1)
    assert net_benefit_difference(y, one, one, 0.1, 0.6).value == 0.0


def test_log_loss_difference_takes_sites_as_units() -> None:
    from sklearn.metrics import log_loss

    y, one, other = made(600, 8)
    alone = np.array([f"P{k}" for k in range(600)])
    found = loss_difference(y, other, one, alone)
    assert found.value == pytest.approx(log_loss(y, other) - log_loss(y, one), abs=1e-12)
    saved = -np.log(np.where(y == 1, other, 1 - other)) + np.log(np.where(y == 1, one, 1 - one))
    assert (found.high - found.value) == pytest.approx(1.9639 * saved.std(ddof=1) / np.sqrt(600), rel=1e-3)
    ranked = np.array([f"S{k // 60}" for k in np.argsort(np.argsort(saved))])  # alike subjects share a site
    assert loss_difference(y, other, one, ranked).high > found.high, "ten sites know less than 600 subjects"
    assert loss_difference(y, other, one, np.full(600, "S0")).low == -np.inf


def test_kaplan_meier_equals_statsmodels_and_net_benefit_the_definition() -> None:
    survival = pytest.importorskip("statsmodels.duration.survfunc")
    rng = np.random.default_rng(3)
    event_time, censored = rng.exponential(2.0, 300).round(1) + 0.1, rng.exponential(3.0, 300).round(1) + 0.1
    time, event = np.minimum(event_time, censored), (event_time <= censored).astype(int)
    theirs = survival.SurvfuncRight(time, event)
    for horizon in (0.5, 1.0, 2.0):
        expected = theirs.surv_prob[np.searchsorted(theirs.surv_times, horizon, side="right") - 1]
        assert survival_share(time, event, horizon) == pytest.approx(float(expected), abs=1e-12)
    risk = np.full(300, 0.4)
    risk[:100] = 0.1
    found = net_benefit_survival(time, event, risk, np.array([0.2, 0.5]), 1.0)
    free = survival_share(time[100:], event[100:], 1.0)
    assert found[0] == pytest.approx((200 / 300) * ((1 - free) - free * 0.25), abs=1e-12)
    assert found[1] == 0.0
    assert np.isnan(net_benefit_survival(np.array([0.2]), np.array([0]), np.array([0.9]), np.array([0.5]), 1.0)[0])
