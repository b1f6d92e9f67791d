"""The Poisson-gamma model: its likelihood, its parameters, its intervals over many simulated trials."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from trialops.errors import TrialOpsError
from trialops.trial.forecast import MOST_SHAPE, Site, fit, forecast, log_likelihood, parameter_draws, trend

TODAY = 180.0


def rates(rng: np.random.Generator, sites: int, shape: float, mean: float) -> np.ndarray:
    return rng.gamma(shape, mean / shape, sites)


def test_the_likelihood_is_that_of_negative_binomial_counts() -> None:
    counts, exposures = np.array([0, 3, 12, 5]), np.array([30.0, 80.0, 120.0, 200.0])
    shape, rate = 1.7, 40.0
    exact = stats.nbinom.logpmf(counts, shape, rate / (rate + exposures)).sum()
    # What does not depend on alpha and beta is left out.
    constant = (counts * np.log(exposures) - [float(np.sum(np.log(np.arange(1, n + 1)))) for n in counts]).sum()
    found = float(log_likelihood(np.array(shape), np.array(rate), counts.astype(float), exposures))
    assert found + constant == pytest.approx(exact, abs=1e-9)


def test_the_maximum_is_that_of_a_general_optimiser() -> None:
    rng = np.random.default_rng(3)
    for sites, shape, mean in ((20, 1.2, 0.05), (60, 3.0, 0.02), (8, 0.6, 0.1)):
        exposures = rng.uniform(40, 300, sites)
        counts = rng.poisson(rates(rng, sites, shape, mean) * exposures)
        found = fit(counts.tolist(), exposures.tolist())

        seen = counts.astype(float)

        def negative(x: np.ndarray, seen: np.ndarray = seen, exposures: np.ndarray = exposures) -> float:
            return -float(log_likelihood(np.exp(x[0]), np.exp(x[1]), seen, exposures))

        options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
        tried = [
            optimize.minimize(negative, start, method="Nelder-Mead", options=options)
            for start in ([0.0, 3.0], [1.0, 5.0])
        ]
        best = min(tried, key=lambda r: float(r.fun))
        assert found.log_likelihood >= -best.fun - 1e-8
        assert (found.shape, found.rate) == pytest.approx(tuple(np.exp(best.x)), rel=1e-3)


def test_maximum_likelihood_recovers_the_parameters() -> None:
    rng = np.random.default_rng(11)
    for shape, mean in ((0.8, 0.04), (2.0, 0.03)):
        exposures = rng.uniform(60, 400, 4000)
        found = fit(rng.poisson(rates(rng, 4000, shape, mean) * exposures).tolist(), exposures.tolist())
        assert found.shape == pytest.approx(shape, rel=0.06) and found.mean == pytest.approx(mean, rel=0.06)
        assert found.dispersed
    # Sites of one rate: alpha goes up to its bound, and the fit is the Poisson one.
    alike = fit([10, 10, 10, 10], [100.0, 100.0, 100.0, 100.0])
    assert not alike.dispersed and alike.shape > 0.9 * MOST_SHAPE and alike.mean == pytest.approx(0.1, rel=1e-6)


def simulated(seed: int, *, sites: int, shape: float, mean: float) -> tuple[bool, bool]:
    """One trial: whether the number 90 days on, and the day of the target, lie in their intervals.

    A sixth of the sites has not opened yet, and one site closes.
    """
    rng = np.random.default_rng(seed)
    true = rates(rng, sites, shape, mean)
    opened = rng.uniform(0, 90, sites)
    late = sites // 6
    opened[-late:] = TODAY + rng.uniform(10, 100, late)
    closed = np.full(sites, np.inf)
    closed[0] = TODAY + 60
    counts = rng.poisson(true * np.clip(TODAY - opened, 0, None))
    known = [
        Site(str(i), float(o), float(c) if np.isfinite(c) else None, int(n))
        for i, (o, c, n) in enumerate(zip(opened, closed, counts, strict=True))
    ]
    missing = max(20, round(sites * mean * 120))
    found = forecast(
        known, today=TODAY, target=int(counts.sum()) + missing, days=[TODAY, TODAY + 90], draws=300, seed=seed
    )
    gaps = np.cumsum(rng.exponential(1 / np.maximum(true, 1e-12), (300, sites)), axis=0)
    arrivals = np.maximum(opened, TODAY) + gaps
    arrivals = np.sort(arrivals[arrivals < closed])
    later = counts.sum() + np.searchsorted(arrivals, TODAY + 90, side="right")
    day = arrivals[missing - 1]
    low, high = found.done_low or np.inf, found.done_high or np.inf
    return bool(found.low[1] <= later <= found.high[1]), bool(low <= day <= high)


@pytest.mark.slow
@pytest.mark.parametrize(("sites", "shape", "mean"), [(16, 1.2, 0.05)])
def test_ninety_per_cent_intervals_hold_the_truth_in_ninety_per_cent_of_trials(
    sites: int, shape: float, mean: float
) -> None:
    runs = 1000
    held = np.array([simulated(seed, sites=sites, shape=shape, mean=mean) for seed in range(runs)])
    error = 2.576 * np.sqrt(0.9 * 0.1 / runs)  # 99 % of what chance does to the share of 1,000 trials
    number, day = held.mean(axis=0)
    # Counts are whole: their interval holds a little more than asked for.
    assert 0.9 - error <= number <= 0.9 + error + 0.01
    assert abs(day - 0.9) <= error


def test_with_all_sites_open_the_number_is_a_sum_of_negative_binomials() -> None:
    """Parameters known (thousands of sites): the simulation against the exact distribution."""
    rng = np.random.default_rng(5)
    exposures = np.full(3000, 100.0)
    counts = rng.poisson(rates(rng, 3000, 2.0, 0.02) * exposures)
    known = [Site(str(i), 0.0, None, int(n)) for i, n in enumerate(counts)]
    found = forecast(known, today=100.0, target=int(counts.sum()) + 500, days=[105.0], draws=4000, seed=2)
    model = found.fit
    posterior_mean = (model.shape + counts) / (model.rate + 100.0)
    variance = float((posterior_mean * 5 + posterior_mean * 25 / (model.rate + 100.0)).sum())
    expected = counts.sum() + float(posterior_mean.sum()) * 5
    assert found.median[0] == pytest.approx(expected, abs=0.15 * np.sqrt(variance))
    assert found.high[0] - found.low[0] == pytest.approx(2 * 1.645 * np.sqrt(variance), rel=0.06)


def test_the_day_of_the_target_is_nearly_pearson_type_six() -> None:
    """A summed rate that is gamma with shape A and rate B: time to K more is B times a beta prime of K and A."""
    rng = np.random.default_rng(6)
    exposures = np.full(3000, 100.0)
    counts = rng.poisson(rates(rng, 3000, 2.0, 0.02) * exposures)
    known = [Site(str(i), 0.0, None, int(n)) for i, n in enumerate(counts)]
    missing = 400
    found = forecast(known, today=100.0, target=int(counts.sum()) + missing, draws=4000, seed=3)
    model = found.fit
    mean = float(((model.shape + counts) / (model.rate + 100.0)).sum())
    variance = float(((model.shape + counts) / (model.rate + 100.0) ** 2).sum())
    shape, rate = mean**2 / variance, mean / variance
    low, middle, high = (100.0 + rate * stats.betaprime.ppf(q, missing, shape) for q in (0.05, 0.5, 0.95))
    assert found.done_median == pytest.approx(middle, abs=0.02 * (middle - 100))
    assert (found.done_low, found.done_high) == pytest.approx((low, high), abs=0.03 * (middle - 100))


def test_sites_that_open_and_close_count_from_and_up_to_their_day() -> None:
    busy = [Site(str(i), 0.0, None, 20) for i in range(8)]
    closing = [Site(s.name, s.opened, 110.0, s.count) for s in busy]
    kwargs = {"today": 100.0, "target": 240, "days": [100.0, 110.0, 160.0]}
    still, gone = forecast(busy, **kwargs), forecast(closing, **kwargs)
    assert still.median[2] > 240 - 1 and gone.median[2] == gone.median[1]
    assert gone.done_median is None and gone.done_high is None
    more = [*closing, *(Site(f"new {i}", 130.0) for i in range(8))]
    opened = forecast(more, **kwargs)
    assert opened.median[1] == pytest.approx(gone.median[1], abs=3) and opened.median[2] > gone.median[2]
    assert opened.done_low is not None and opened.done_low > 110


def test_the_course_is_no_straight_line_where_sites_open() -> None:
    sites = [Site(str(i), 0.0, None, 10 + i) for i in range(6)] + [Site(f"n{i}", 100.0 + 20 * i) for i in range(6)]
    found = forecast(sites, today=100.0, target=500, days=[100.0, 150.0, 200.0, 250.0])
    steps = np.diff(found.median)
    assert steps[1] > 1.1 * steps[0] and steps[2] > steps[0]


def test_a_first_subject_that_opens_the_site_says_nothing_about_its_rate() -> None:
    site = Site("a", 10.0, None, 5, first_counted=False)
    assert site.informative == 4 and Site("b", 10.0, None, 5).informative == 5
    assert site.exposure(5.0) == 0 and site.exposure(30.0) == 20 and Site("c", 0.0, 10.0).exposure(30.0) == 10


def test_a_reached_target_and_a_planned_day() -> None:
    sites = [Site(str(i), 0.0, None, 10 + i) for i in range(6)]
    done = forecast(sites, today=100.0, target=20, planned=200.0)
    assert done.done_median == 100.0 and done.probability == 1.0
    never = forecast(sites, today=100.0, target=5000, planned=101.0)
    assert never.probability == 0.0


def test_the_trend_sees_a_change_of_pace() -> None:
    sites = [Site("a", 0.0, None, 40)]
    even = [("a", float(day)) for day in np.linspace(1, 99, 40)]
    late = [("a", float(day)) for day in np.linspace(60, 99, 40)]
    assert trend(sites, even, 100.0) == pytest.approx(0.0, abs=1.0)
    assert (trend(sites, late, 100.0) or 0) > 3
    assert trend(sites, even[:5], 100.0) is None


def test_same_seed_same_result_and_draws_stay_near_the_maximum() -> None:
    sites = [Site(str(i), 0.0, None, n) for i, n in enumerate([3, 9, 1, 14, 6, 2, 8])]
    first, second = (forecast(sites, today=90.0, target=100) for _ in range(2))
    assert first == second
    shape, rate = parameter_draws(first.fit, [s.count for s in sites], [90.0] * 7, 2000, np.random.default_rng(0))
    assert np.median(shape / rate) == pytest.approx(first.fit.mean, rel=0.1)
    assert shape.min() > 0 and np.isfinite(rate).all()


def test_without_anybody_there_is_no_rate() -> None:
    for sites in ([], [Site("a", 0.0)], [Site("a", 200.0, None, 0)]):
        with pytest.raises(TrialOpsError, match="No rate of recruiting"):
            forecast(sites, today=100.0, target=10)
