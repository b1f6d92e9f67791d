"""Time to event: against statsmodels, against published numbers, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trialops.errors import TrialOpsError
from trialops.trial.survival import chi_square_tail, cumulative_incidence, kaplan_meier, log_rank

# Freireich et al. 1963 (Blood 21:699): weeks of remission, 21 patients on 6-mercaptopurine and 21 on placebo.
DRUG = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
PLACEBO = "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"


def _read(text: str) -> tuple[np.ndarray, np.ndarray]:
    items = text.split()
    return np.array([float(i.rstrip("+")) for i in items]), np.array([not i.endswith("+") for i in items])


def test_kaplan_meier_of_the_remission_data_is_the_published_one() -> None:
    """Kaplan-Meier of 6-MP as printed in Kleinbaum and Klein, Survival Analysis, table 2.2; errors by Greenwood."""
    curve = kaplan_meier(*_read(DRUG))
    survival, low, high = curve.at([5, 6, 7, 10, 13, 16, 22, 23, 40])
    expected = [1, 0.857142857, 0.806722689, 0.752941176, 0.690196078, 0.627450980, 0.537815126, 0.448179272]
    assert survival.tolist() == pytest.approx([*expected, expected[-1]], abs=1e-9)
    assert (low[0], high[0]) == (1.0, 1.0)
    assert bool(np.all(low[1:] < survival[1:])) and bool(np.all(high[1:] > survival[1:]))
    assert curve.quantile()[0] == 23.0
    assert kaplan_meier(*_read(PLACEBO)).quantile()[0] == 8.0
    assert curve.numbers_at_risk([0, 6, 10, 35, 36]).tolist() == [21, 21, 15, 1, 0]


def test_log_rank_of_the_remission_data_is_the_published_one() -> None:
    """Chi-square 16.79, observed 9 and 21, expected 19.25 and 10.75 (Kleinbaum and Klein, chapter 2)."""
    (t1, e1), (t2, e2) = _read(DRUG), _read(PLACEBO)
    test = log_rank(np.concatenate([t1, t2]), np.concatenate([e1, e2]), ["drug"] * 21 + ["placebo"] * 21)
    assert test.statistic == pytest.approx(16.793, abs=5e-4)
    assert test.observed == (9.0, 21.0)
    assert test.expected == pytest.approx((19.25, 10.75), abs=5e-3)
    assert test.p == pytest.approx(math.erfc(math.sqrt(test.statistic / 2)), rel=1e-12)


def _drawn(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    time = np.ceil(rng.exponential(50, n))
    return time, rng.random(n) < 0.6, rng.integers(0, 3, n), rng.integers(0, 2, n)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # inside statsmodels
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_curves_and_tests_equal_statsmodels(seed: int) -> None:
    from statsmodels.duration.survfunc import CumIncidenceRight, SurvfuncRight, survdiff

    time, event, group, stratum = _drawn(seed)
    curve, other = kaplan_meier(time, event), SurvfuncRight(time, event.astype(int))
    at = curve.events > 0
    assert np.allclose(curve.survival[at], other.surv_prob, atol=1e-12)
    assert np.allclose(curve.error[at][:-1], np.asarray(other.surv_prob_se)[:-1], atol=1e-12)
    middle, low, high = curve.quantile()
    assert middle == other.quantile(0.5)
    assert (low, high) == tuple(other.quantile_ci(0.5, method="cloglog"))
    names, strata = [str(g) for g in group], [str(s) for s in stratum]
    for mine, theirs in (
        (log_rank(time, event, names), survdiff(time, event.astype(int), group)),
        (log_rank(time, event, names, strata=strata), survdiff(time, event.astype(int), group, strata=stratum)),
    ):
        assert mine.statistic == pytest.approx(theirs[0], abs=1e-9)
        assert mine.p == pytest.approx(theirs[1], abs=1e-12)
    cause = np.where(event, 1 + group % 2, 0)
    found, competing = (
        cumulative_incidence(time, ["" if c == 0 else str(c) for c in cause]),
        CumIncidenceRight(time, cause),
    )
    for number, name in enumerate(("1", "2")):
        place = np.searchsorted(found[name].times, competing.times)
        assert np.allclose(found[name].incidence[place], competing.cinc[number], atol=1e-12)
        told = np.isfinite(competing.cinc_se[number])  # statsmodels has none where the last at risk leaves
        assert told.sum() >= len(told) - 1
        assert np.allclose(found[name].error[place][told], competing.cinc_se[number][told], atol=1e-10)


def test_incidences_and_survival_sum_to_one() -> None:
    time, event, group, _ = _drawn(4)
    cause = ["" if not e else f"cause {g}" for e, g in zip(event, group, strict=True)]
    found = cumulative_incidence(time, cause)
    total = sum(one.incidence for one in found.values())
    assert np.allclose(total + kaplan_meier(time, event).survival, 1.0, atol=1e-12)
    naive = 1 - kaplan_meier(time, np.array([c == "cause 0" for c in cause])).survival
    assert naive[-1] > found["cause 0"].incidence[-1] + 0.05, "censoring competing causes overstates"


def test_restricted_mean_without_censoring_is_the_mean_of_the_cut_times() -> None:
    time, _, _, _ = _drawn(5)
    mean, error = kaplan_meier(time, np.ones(len(time), dtype=bool)).restricted_mean(40.0)
    cut = np.minimum(time, 40.0)
    assert mean == pytest.approx(cut.mean(), abs=1e-9)
    assert error == pytest.approx(cut.std() / math.sqrt(len(cut)), rel=1e-6)


@pytest.mark.parametrize("degrees", range(1, 12))
def test_the_chi_square_tail_is_scipys(degrees: int) -> None:
    from scipy.stats import chi2

    for statistic in (1e-9, 0.3, 2.0, 9.5, 60.0):
        assert chi_square_tail(statistic, degrees) == pytest.approx(chi2.sf(statistic, degrees), rel=1e-10)


def test_when_everybody_has_had_the_event() -> None:
    curve = kaplan_meier(np.array([1.0, 2.0, 2.0]), np.array([True, True, True]))
    assert curve.survival.tolist() == pytest.approx([2 / 3, 0.0])
    assert math.isnan(curve.low[-1]) and math.isnan(curve.error[-1])
    assert curve.quantile(1.0)[0] == 2.0


def test_a_group_without_anybody_at_risk_is_left_out() -> None:
    time, event = np.array([1.0, 5.0, 6.0, 7.0]), np.array([False, True, True, True])
    assert log_rank(time, event, ["c", "a", "b", "a"]).degrees == 1
    assert log_rank(time, np.zeros(4, dtype=bool), ["a", "a", "b", "b"]).p == 1.0


@pytest.mark.parametrize(
    "time", [[], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf]], ids=["none", "minus", "nan", "inf"]
)
def test_times_that_are_none_are_refused(time: list[float]) -> None:
    with pytest.raises(TrialOpsError, match="finite"):
        kaplan_meier(np.array(time), np.ones(len(time), dtype=bool))
    with pytest.raises(TrialOpsError, match="two groups"):
        log_rank(np.array([1.0]), np.array([True]), ["a"])
