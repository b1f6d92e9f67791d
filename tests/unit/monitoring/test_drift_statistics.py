"""Distances and tests against computations that were written by somebody else, or differently."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from trialops.monitoring.cells import assign, column, describe, tally
from trialops.monitoring.drift_statistics import (
    adjusted,
    chance_psi,
    cut_cells,
    detectable_psi,
    homogeneity,
    ks,
    psi,
    rate_test,
    wasserstein,
)


def psi_in_words(reference: list[float], current: list[float], edges: list[float]) -> float:
    """The index over right-closed cells, one value after the other, a share below 1e-4 taken as 1e-4."""

    def shares(values: list[float]) -> list[float]:
        cells = [0] * (len(edges) + 2)
        for value in values:
            cells[-1 if math.isnan(value) else sum(edge < value for edge in edges)] += 1
        return [max(count / len(values), 1e-4) for count in cells]

    return sum((c - r) * math.log(c / r) for r, c in zip(shares(reference), shares(current), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_psi_equals_one_value_after_the_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = rng.gamma(2.0, size=700)
    now = rng.gamma(2.6, size=430) * (1 + seed / 10)
    before[rng.random(700) < 0.1], now[rng.random(430) < 0.2] = np.nan, np.nan
    profile = describe("x", before)
    counted = tally(profile, now)
    known = np.sort(before[~np.isnan(before)])
    deciles = [known[math.ceil(len(known) * k / 10) - 1] for k in range(1, 10)]
    assert profile.edges == tuple(deciles)
    expected = psi_in_words(before.tolist(), now.tolist(), deciles)
    assert psi(np.array(profile.counts), np.array(counted.counts)) == pytest.approx(expected, abs=1e-9)


def test_psi_by_hand() -> None:
    """Three cells, 50/30/20 against 40/30/30: 0.1 ln(5/4) + 0.1 ln(3/2)."""
    assert psi(np.array([50, 30, 20]), np.array([40, 30, 30])) == pytest.approx(
        0.1 * math.log(1.25) + 0.1 * math.log(1.5), abs=1e-12
    )


def test_psi_of_empty_cells_does_not_depend_on_the_number_of_rows() -> None:
    small = psi(np.array([50, 50, 0, 0]), np.array([45, 50, 5, 0]))
    assert psi(np.array([50, 50, 0, 0]) * 10**4, np.array([45, 50, 5, 0]) * 10**4) == pytest.approx(small, abs=1e-12)
    assert math.isfinite(small)


@pytest.mark.parametrize("ties", [False, True])
def test_ks_and_wasserstein_equal_scipys_while_the_grid_holds_every_value(ties: bool) -> None:
    rng = np.random.default_rng(3)
    before, now = rng.normal(size=180), rng.normal(0.3, 1.4, size=411)
    if ties:
        before, now = before.round(1), now.round(1)
    profile = describe("x", before)
    counted = tally(profile, now)
    statistic, p = ks(profile, counted)
    assert statistic == pytest.approx(stats.ks_2samp(before, now).statistic, abs=1e-12)
    assert p == pytest.approx(stats.kstwobign.sf(statistic * math.sqrt(180 * 411 / 591)), abs=1e-12)
    # Between neighbouring points of the grid current values stand at the lower one: there scipy has to be told so.
    grid = np.array(profile.grid)
    inside = (now >= grid[0]) & (now <= grid[-1])
    moved = np.where(inside, grid[np.maximum(np.searchsorted(grid, now, "left"), 0).clip(max=grid.size - 1)], now)
    expected = stats.wasserstein_distance(before, moved) / before.std(ddof=1)
    assert wasserstein(profile, counted) == pytest.approx(expected, abs=1e-9)


def test_wasserstein_of_whole_numbers_is_scipys() -> None:
    rng = np.random.default_rng(4)
    before, now = rng.poisson(20, size=900).astype(float), rng.poisson(24, size=500).astype(float)
    before[:60] = np.arange(60)  # every whole number in the range has a point
    profile = describe("x", before)
    expected = stats.wasserstein_distance(before, now) / before.std(ddof=1)
    assert wasserstein(profile, tally(profile, now)) == pytest.approx(expected, abs=1e-9)


def test_ks_is_short_by_half_a_per_cent_at_most_where_the_grid_is_coarser() -> None:
    rng = np.random.default_rng(5)
    before, now = rng.normal(size=20_000), rng.normal(0.1, 1.0, size=10_000)
    profile = describe("x", before)
    statistic, full = ks(profile, tally(profile, now))[0], stats.ks_2samp(before, now).statistic
    assert full - 1 / 200 <= statistic <= full + 1e-12
    exact = stats.wasserstein_distance(before, now) / before.std(ddof=1)
    assert wasserstein(profile, tally(profile, now)) == pytest.approx(exact, abs=0.01)


def test_adjusted_p_values_are_scipys() -> None:
    p = np.random.default_rng(6).random(57) ** 3
    assert np.allclose(adjusted(p), stats.false_discovery_control(p), atol=1e-12)


def test_homogeneity_is_scipys_chi_square() -> None:
    before, now = np.array([40, 60, 25, 33]), np.array([31, 80, 22, 10])
    freedom, p = homogeneity(before, now, min_expected=5)
    expected = stats.chi2_contingency(np.array([before, now]), correction=False)
    assert (freedom, p) == (3, pytest.approx(expected.pvalue, abs=1e-12))


def test_thin_categories_are_tested_as_one() -> None:
    before, now = np.array([400, 300, 2, 1, 1]), np.array([190, 160, 4, 5, 4])
    freedom, p = homogeneity(before, now, min_expected=5)
    joined = np.array([[400, 300, 4], [190, 160, 13]])
    assert freedom == 2
    assert p == pytest.approx(stats.chi2_contingency(joined, correction=False).pvalue, abs=1e-12)
    # Fewer than five expected even together: they go with the rarest of the others.
    freedom, p = homogeneity(np.array([400, 300, 2, 1]), np.array([190, 160, 1, 2]), min_expected=5)
    joined = np.array([[400, 303], [190, 163]])
    assert freedom == 1
    assert p == pytest.approx(stats.chi2_contingency(joined, correction=False).pvalue, abs=1e-12)


@pytest.mark.parametrize(("before", "n", "now", "m"), [(0, 500, 7, 300), (12, 1000, 0, 900), (5, 400, 6, 400)])
def test_rate_test_is_the_conditional_binomial(before: int, n: int, now: int, m: int) -> None:
    law = stats.binom(before + now, m / (n + m))
    expected = min(1.0, 2 * min(law.cdf(now), law.sf(now - 1)))
    assert rate_test(before, n, now, m) == pytest.approx(expected, abs=1e-12)


def test_detectable_psi_has_the_stated_power() -> None:
    seen = detectable_psi(1000, 400, 9, alpha=0.05, power=0.8)
    power = stats.ncx2.sf(stats.chi2.isf(0.05, 9), 9, seen / (1 / 1000 + 1 / 400))
    assert power == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(("n", "m"), [(100, 100), (200, 5000), (2000, 60), (1000, 1000)])
def test_the_test_over_cut_cells_keeps_its_level(n: int, m: int) -> None:
    """20,000 pairs of samples of one population: rejected at 1 % in 0.6 to 1.4 % (Monte Carlo error 0.07 %).

    Shares of the population between order statistics are Dirichlet distributed, whatever the population.
    """
    rng = np.random.default_rng(n + m)
    cells = np.diff([0, *(-(-n * k // 10) for k in range(1, 11))])
    shares = rng.dirichlet(np.r_[cells[:-1], cells[-1] + 1], size=20_000)
    p = np.array([cut_cells(cells, now)[1] for now in rng.multinomial(m, shares)])
    assert 0.006 < (p <= 0.01).mean() < 0.014


def test_pearsons_test_of_pooled_shares_would_not_keep_it() -> None:
    """The mirrored case: with 100 reference rows and many current ones the usual test rejects far too often."""
    rng = np.random.default_rng(9)
    cells = np.full(10, 10)
    shares = rng.dirichlet(np.r_[cells[:-1], 11], size=4000)
    p = np.array([homogeneity(cells, now, min_expected=1)[1] for now in rng.multinomial(50_000, shares)])
    assert (p <= 0.01).mean() > 0.02


def test_chance_is_the_mean_of_the_index_without_a_difference() -> None:
    rng = np.random.default_rng(10)
    pairs = [(rng.multinomial(800, [0.1] * 10), rng.multinomial(500, [0.1] * 10)) for _ in range(4000)]
    mean = np.mean([psi(a, b) for a, b in pairs])
    assert mean == pytest.approx(np.mean([chance_psi(a, b) for a, b in pairs]), rel=0.04)


@pytest.mark.parametrize("kind", ["continuous", "few values", "words", "half zero", "all missing", "constant"])
def test_rows_and_counts_agree(kind: str) -> None:
    rng = np.random.default_rng(11)

    def draw(n: int) -> np.ndarray:
        x: np.ndarray = rng.normal(size=n)
        if kind == "few values":
            x = rng.integers(0, 5, n).astype(float)
        if kind == "half zero":
            x[: n // 2] = 0
        if kind == "constant":
            x[:] = 3.0
        if kind == "words":
            return column({"x": np.array(["a", "b", None, "c"], dtype=object)[rng.integers(0, 4, n)]}, "x")
        x[rng.random(n) < 0.1] = np.nan
        x[:3] = np.inf, -np.inf, np.nan
        if kind == "all missing":
            x[:] = np.nan
        return x

    profile = describe("x", draw(500))
    now = draw(300)
    counted = tally(profile, now)
    assert sum(counted.counts) == 300 and sum(profile.counts) == 500
    assert tuple(np.bincount(assign(profile, now), minlength=len(profile.counts))) == counted.counts
    assert len(profile.labels()) == len(profile.counts)
