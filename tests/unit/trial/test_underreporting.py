"""Reporting of adverse events: the exact distribution against enumeration and bootstrap; its error and its power."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from trialops.trial.kri import holm
from trialops.trial.underreporting import (
    compare_sites,
    cumulative_events,
    dealt,
    drawn,
    reporting_table,
    site_tails,
    visits_reached,
)

DAYS = np.array([1, 14, 28, 42, 56, 84, 112, 140, 168, 182])
SIZES = np.array([51, 1, 19, 25, 21, 3, 5, 32, 23, 38, 12, 9, 6, 12, 29, 7, 13])
"""Subjects by site: those of a trial with 17 sites."""
ASKED = {"share": 0.75, "minimum_subjects": 3, "minimum_pool": 20}


def test_the_exact_distribution_is_that_of_all_deals() -> None:
    everybody = [0, 0, 1, 1, 2, 3, 3, 5, 0, 4, 1]
    for size in (1, 3, 4):
        sums = np.array([sum(c) for c in itertools.combinations(everybody, size)])
        for total in range(0, 13):
            low, high = dealt(total, size, np.bincount(everybody))
            assert low == pytest.approx((sums <= total).mean(), abs=1e-12)
            assert high == pytest.approx((sums >= total).mean(), abs=1e-12)


def test_draws_with_replacement_are_what_a_bootstrap_converges_to() -> None:
    """Two-sample bootstrap: the site's subjects drawn anew, and the pool they are drawn from drawn anew as well."""
    rng = np.random.default_rng(5)
    pool = rng.negative_binomial(1.5, 0.25, 160)
    size, total = 20, 60
    samples = 40_000
    sums = rng.choice(pool, (samples, size)).sum(1)
    means = rng.choice(pool, (samples, len(pool))).mean(1)
    for at in (total, 90, 110):
        low, high = drawn(at, size, pool)
        simulated = np.mean(sums - size * (means - pool.mean()) <= at + 0.5)
        assert low == pytest.approx(simulated, abs=4 * math.sqrt(0.25 / samples))
        assert low + high == pytest.approx(1.0, abs=0.06) and low + high > 1


def test_at_large_sites_both_ways_agree() -> None:
    rng = np.random.default_rng(6)
    everybody = rng.negative_binomial(1.5, 0.25, 900)
    mine, pool = everybody[:150], everybody[150:]
    exact = dealt(int(mine.sum()), 150, np.bincount(everybody))
    assert exact == pytest.approx(drawn(int(mine.sum()), 150, pool), abs=0.004)


def test_small_probabilities_have_a_floor_and_nobody_with_an_event_is_no_finding() -> None:
    zeros = np.zeros(30, dtype=np.int64)
    assert site_tails(zeros[:5], zeros) == (1.0, 1.0)
    busy = np.full(200, 9)
    low, high = site_tails(np.zeros(60, dtype=np.int64), busy)
    assert 0 < low <= 1e-9 and high == 1.0


def test_events_are_counted_up_to_each_visit() -> None:
    onset, subject = np.array([1, 14, 15, 182, 183, 28]), np.array([0, 0, 0, 1, 1, 2])
    counts = cumulative_events(onset, subject, 4, DAYS)
    assert counts[0].tolist() == [1, 2, 3, 3, 3, 3, 3, 3, 3, 3]
    assert counts[1].tolist() == [0] * 9 + [1]
    assert counts[2, 1:3].tolist() == [0, 1] and counts[3].sum() == 0
    assert visits_reached(np.array([0, 1, 13, 14, 400]), DAYS).tolist() == [0, 1, 1, 2, 10]


def test_the_landmark_is_three_quarters_of_the_median_follow_up_and_small_sites_are_not_judged() -> None:
    counts = np.tile(np.arange(10), (40, 1))
    reached = np.array([10, 8, 8, 2] + [10] * 36)
    sites = ["A"] * 4 + ["B"] * 34 + ["C"] * 2
    table = reporting_table(counts, reached, sites, DAYS, family_wise=0.05, **ASKED)
    first = table.row(0, named=True)
    assert (first["landmark"], first["at_landmark"], first["landmark_day"]) == (6, 3, 84)
    assert first["mean"] == first["expected"] == 5.0
    assert dict(table.select("site", "verdict").iter_rows()) == {
        "A": "as the others",
        "B": "not judged",  # six subjects elsewhere are no pool
        "C": "not judged",
    }


def _trial(rng: np.random.Generator, bad: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A trial of 17 sites: 5.5 events in 182 days, subjects differing by a gamma of shape 2, 40 % leaving early."""
    site = np.repeat(np.arange(len(SIZES)), SIZES)
    rate = 5.5 / 182 * rng.gamma(2.0, 0.5, len(site))
    events = rng.poisson(rate[:, None] * np.diff(DAYS, prepend=0))
    if bad is not None:
        events = np.where((site == bad)[:, None], rng.binomial(events, 1 / 3), events)
    last = np.where(rng.random(len(site)) < 0.6, 182, rng.integers(1, 183, len(site)))
    return np.cumsum(events, 1), visits_reached(last, DAYS), site


def _found(bad: int | None, simulations: int, seed: int) -> tuple[float, float, float]:
    """Shares of trials with any finding of under-reporting, of over-reporting, and with the bad site found."""
    rng = np.random.default_rng(seed)
    low_any = high_any = hit = 0
    for _ in range(simulations):
        rows = compare_sites(*_trial(rng, bad), len(SIZES), **ASKED)
        low, high = (np.array([row[i] for row in rows]) for i in (7, 8))
        judged = np.flatnonzero(np.isfinite(low))
        adjusted = holm(low[judged])
        low_any += bool((adjusted <= 0.05).any())
        high_any += bool((holm(high[judged]) <= 0.05).any())
        hit += bool(bad in judged and adjusted[judged == bad][0] <= 0.05)
    return low_any / simulations, high_any / simulations, hit / simulations


@pytest.mark.slow
def test_without_anything_injected_a_finding_is_as_rare_as_stated() -> None:
    """1,000 trials without a bad site; 0.05 and three Monte Carlo standard errors."""
    under, over, _ = _found(None, 1000, 1)
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert under <= limit and over <= limit
    assert under > 0.005, "a test that never fires would pass, too"


@pytest.mark.slow
def test_threefold_under_reporting_at_one_site_is_found() -> None:
    """1,000 trials; the site with 25 of 306 subjects reports a third of its events."""
    _, _, power = _found(3, 1000, 2)
    assert power - 3 * math.sqrt(power * (1 - power) / 1000) >= 0.8


def test_a_site_of_nine_is_found_less_often_than_one_of_fifty() -> None:
    small, large = _found(11, 60, 3)[2], _found(0, 60, 3)[2]
    assert small < 0.7 < 0.95 < large
