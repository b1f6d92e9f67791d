"""Sequential tests: error over all looks by simulation, boundaries against published values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trialops.errors import TrialOpsError
from trialops.models.calibration import log_losses
from trialops.serving.boundaries import crossing, drift_for_power, obrien_fleming, pocock, spending_boundary
from trialops.serving.policy import load_policy
from trialops.serving.sequential import PRIOR, error_evidence, lower_bounds, mixture_radius, mixture_scale

POLICY = load_policy()
RUNS = 4000


def three_errors(nominal: float, runs: int = RUNS) -> float:
    """The nominal level plus three Monte Carlo standard errors."""
    return nominal + 3 * np.sqrt(nominal * (1 - nominal) / runs)


@pytest.mark.parametrize(
    ("looks", "z_pocock", "z_obrien_fleming"),
    # Jennison and Turnbull (2000), tables 2.1 and 2.3, two-sided 5 %.
    [(2, 2.178, 1.977), (3, 2.289, 2.004), (4, 2.361, 2.024), (5, 2.413, 2.040), (10, 2.555, 2.087)],
)
def test_constants_are_the_published_ones(looks: int, z_pocock: float, z_obrien_fleming: float) -> None:
    assert pocock(looks)[0] == pytest.approx(z_pocock, abs=6e-4)
    assert obrien_fleming(looks)[-1] == pytest.approx(z_obrien_fleming, abs=6e-4)
    assert obrien_fleming(looks)[0] == pytest.approx(z_obrien_fleming * np.sqrt(looks), abs=2e-3)
    information = np.arange(1, looks + 1) / looks
    for boundary in (pocock(looks), obrien_fleming(looks)):
        assert crossing(information, boundary).sum() == pytest.approx(0.05, abs=1e-8)


def test_spending_boundaries_are_the_published_ones() -> None:
    # Lan-DeMets boundaries of the O'Brien-Fleming and the Pocock form, five equal looks, two-sided 5 %
    # (Reboussin, D. M. et al. (2000), Controlled Clinical Trials 21:190-207).
    fifths = [0.2, 0.4, 0.6, 0.8, 1.0]
    assert spending_boundary(fifths) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    assert spending_boundary(fifths, spending="pocock") == pytest.approx(
        [2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-4
    )
    assert spending_boundary([1.0]) == pytest.approx([stats.norm.isf(0.025)])
    with pytest.raises(TrialOpsError, match="must rise"):
        spending_boundary([0.5, 0.5])


def test_crossing_equals_a_simulated_random_walk() -> None:
    rng, information = np.random.default_rng(1), np.array([0.3, 0.55, 1.0])
    boundary = np.array([2.5, 2.3, 2.1])
    for drift in (0.0, 2.0):
        steps = np.diff(np.concatenate([[0.0], information]))
        walk = np.cumsum(rng.normal(drift * steps, np.sqrt(steps), (200_000, 3)), axis=1) / np.sqrt(information)
        out = np.abs(walk) >= boundary
        first = np.where(out.any(axis=1), out.argmax(axis=1), 3)
        seen = np.bincount(first, minlength=4)[:3] / 200_000
        assert crossing(information, boundary, drift) == pytest.approx(seen, abs=4e-3)
    assert crossing(information, boundary, drift_for_power(information, boundary, 0.8)).sum() == pytest.approx(0.8)


def test_error_evidence_equals_integration() -> None:
    from scipy.integrate import quad

    prior = stats.beta(*PRIOR)
    for errors, n in ((0, 50), (3, 40), (12, 400)):

        def ratio(p: float, errors: int = errors, n: int = n) -> float:
            return float(prior.pdf(p) * (p / 0.01) ** errors * ((1 - p) / 0.99) ** (n - errors))

        whole = quad(ratio, 0.01, 1.0, points=[0.02, 0.05, 0.1, 0.3], limit=200)[0] / prior.sf(0.01)
        assert float(error_evidence(errors, n, 0.01)) == pytest.approx(whole, rel=1e-6)


def test_error_rate_at_the_limit_is_found_out_no_more_often_than_alpha_over_all_looks() -> None:
    rng, alpha, n = np.random.default_rng(2), POLICY.alpha["error_rate"], 4000
    looks = np.arange(25, n + 1, 25)

    def ever(rate: float) -> float:
        total = np.cumsum(rng.random((RUNS, n)) < rate, axis=1)[:, looks - 1]
        return float((error_evidence(total, looks, POLICY.error_rate_max) >= 1 / alpha).any(axis=1).mean())

    assert ever(POLICY.error_rate_max) <= three_errors(alpha)
    assert ever(POLICY.error_rate_max / 2) <= alpha / 4
    assert ever(0.05) >= 0.99  # the mirrored case: five times the limit


def paired(runs: int, n: int, slope: float, seed: int) -> np.ndarray:
    """Increases of log-loss of a candidate whose logit is slope x that of the truth; the stable model is the truth."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-0.5, 1.0, (runs, n))
    p, q = 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-slope * logit))
    y = (rng.random((runs, n)) < p).astype(float)
    return log_losses(y.ravel(), q.ravel()).reshape(runs, n) - log_losses(y.ravel(), p.ravel()).reshape(runs, n)


@pytest.mark.parametrize("slope", [2.2, 0.2])
def test_log_loss_at_the_limit_is_found_out_no_more_often_than_alpha_over_all_looks(slope: float) -> None:
    alpha, n, least = POLICY.alpha["log_loss"], 1500, POLICY.log_loss_min_rows
    differences = paired(2000, n, slope, 3)
    mean = paired(400, 4000, slope, 4).mean()  # the true increase of this candidate: it is put exactly at the limit
    at_limit = (lower_bounds(differences, alpha, 400, least=least) > mean).any(axis=1).mean()
    assert mean > 0.02
    assert at_limit <= three_errors(alpha, 2000)
    assert (lower_bounds(differences, alpha, 400, least=least) > mean + 0.02).any(axis=1).mean() <= at_limit


def test_a_worse_model_is_found_out_and_an_equal_one_is_not() -> None:
    alpha, limit, least = POLICY.alpha["log_loss"], POLICY.log_loss_max_increase, POLICY.log_loss_min_rows
    worse, equal = paired(500, 2000, -1.0, 5), paired(500, 2000, 1.1, 6)
    found = (lower_bounds(worse, alpha, 400, least=least) > limit).any(axis=1)
    assert found.mean() >= 0.99
    assert (lower_bounds(equal, alpha, 400, least=least) > limit).any(axis=1).mean() <= alpha


def test_the_radius_is_the_one_sided_mixture_boundary_of_howard_and_others() -> None:
    n, alpha, scale = np.array([10.0, 100.0, 1000.0]), 0.02, mixture_scale(400, 0.02)
    rho = 1 / scale**2
    boundary = np.sqrt(2 * (n + rho) * np.log(1 + np.sqrt((n + rho) / rho) / (2 * alpha)))
    assert mixture_radius(1.0, n, alpha, scale) == pytest.approx(boundary / n)
    at = [mixture_radius(1.0, 400, alpha, mixture_scale(m, alpha)) for m in (40, 400, 4000)]
    assert at[1] < at[0] and at[1] < at[2]


def test_no_bound_before_the_least_n() -> None:
    bounds = lower_bounds(np.ones(10), 0.05, 10, least=6)
    assert np.isneginf(bounds[:5]).all() and bounds[5:] == pytest.approx(np.ones(5))
