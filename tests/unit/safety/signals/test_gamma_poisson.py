"""The gamma-Poisson shrinker: squashing, likelihood, fit and its refusals, posterior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from scipy.special import expit, logit

from trialops.errors import TrialOpsError
from trialops.safety.signals import ebgm
from trialops.safety.signals.policy import SignalPolicy, load_signal_policy
from trialops.safety.signals.prior import Prior, fit_prior, negative_log_likelihood
from trialops.safety.signals.squashing import Points, squash

THETA = (3.2509, 0.3997, 2.0258, 1.9080, 0.0654)


@pytest.fixture(scope="module")
def policy() -> SignalPolicy:
    return load_signal_policy()


def drawn(theta: tuple[float, ...], pairs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Counts of reported pairs from the model: components conditioned on at least one report, as they are fitted."""
    rng = np.random.default_rng(seed)
    alpha1, beta1, alpha2, beta2, p = theta
    e = np.exp(rng.normal(-1.0, 1.5, pairs))
    first = rng.random(pairs) < p
    alpha, beta = np.where(first, alpha1, alpha2), np.where(first, beta1, beta2)
    n, left = np.zeros(pairs, np.int64), np.arange(pairs)
    while left.size:
        n[left] = rng.poisson(rng.gamma(alpha[left], 1 / beta[left]) * e[left])
        left = left[n[left] == 0]
    return n, e


# -- squashing -----------------------------------------------------------------------------------------------------


def test_squashing_keeps_counts_and_totals(policy: SignalPolicy) -> None:
    rng = np.random.default_rng(1)
    n, e = rng.geometric(0.7, 20_000), np.exp(rng.normal(0, 2, 20_000))
    points = squash(n, e, policy.squashing)
    assert points.n.size < 3_000
    assert points.weight.sum() == 20_000
    assert (points.weight * points.expected).sum() == pytest.approx(e.sum(), rel=1e-12)
    for count in np.unique(n):
        here, there = points.n == count, n == count
        assert points.weight[here].sum() == there.sum()
        assert (points.weight * points.expected)[here].sum() == pytest.approx(e[there].sum(), rel=1e-12)
        if there.sum() < policy.squashing.from_pairs:
            np.testing.assert_array_equal(points.expected[here], np.sort(e[there]))
        else:
            np.testing.assert_array_equal(points.expected[here][-100:], np.sort(e[there])[-100:])
            assert points.weight[here].max() == policy.squashing.bin


def test_squashing_is_bounded_and_can_be_left_out(policy: SignalPolicy) -> None:
    n, e = np.ones(100_000, np.int64), np.linspace(0.01, 5, 100_000)
    few = squash(n, e, replace(policy.squashing, max_bins=200))
    assert few.n.size <= 300
    assert few.weight.sum() == 100_000
    whole = squash(n, e, None)
    np.testing.assert_array_equal(whole.expected, e)
    assert set(whole.weight) == {1.0}
    assert squash(n[:0], e[:0], policy.squashing).n.size == 0


# -- likelihood ----------------------------------------------------------------------------------------------------


def test_likelihood_equals_scipys_negative_binomials_truncated_one_by_one() -> None:
    n, e = drawn(THETA, 400)
    points = Points(n.astype(float), e, np.random.default_rng(0).integers(1, 5, n.size).astype(float))
    alpha1, beta1, alpha2, beta2, p = THETA
    total = 0.0
    for count, expected, weight in zip(n, e, points.weight, strict=True):
        parts = []
        for alpha, beta in ((alpha1, beta1), (alpha2, beta2)):
            law = stats.nbinom(alpha, beta / (beta + expected))
            parts.append(law.pmf(count) / (1 - law.pmf(0)))
        total -= weight * np.log(p * parts[0] + (1 - p) * parts[1])
    assert negative_log_likelihood(THETA, points)[0] == pytest.approx(total, rel=1e-10)


def test_gradient_equals_finite_differences() -> None:
    n, e = drawn(THETA, 2_000)
    points = squash(n, e, None)
    for theta in (THETA, (0.2, 0.06, 1.4, 1.8, 0.1), (9.0, 0.3, 0.5, 4.0, 0.6)):
        x = np.r_[np.log(theta[:4]), logit(theta[4])]

        def value(at: np.ndarray) -> float:
            return negative_log_likelihood((*np.exp(at[:4]), expit(at[4])), points)[0]

        wanted = [(value(x + h) - value(x - h)) / 2e-5 for h in np.eye(5) * 1e-5]
        np.testing.assert_allclose(negative_log_likelihood(theta, points)[1], wanted, rtol=1e-5, atol=1e-4)


# -- fit -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(policy: SignalPolicy) -> Prior:
    return fit_prior(squash(*drawn(THETA, 60_000), policy.squashing), policy.prior)


def test_the_fit_finds_what_the_counts_were_drawn_from(fitted: Prior) -> None:
    mean1, mean2 = fitted.theta[0] / fitted.theta[1], fitted.theta[2] / fitted.theta[3]
    assert mean1 == pytest.approx(THETA[0] / THETA[1], rel=0.1)
    assert mean2 == pytest.approx(THETA[2] / THETA[3], rel=0.1)
    assert fitted.theta[4] == pytest.approx(THETA[4], rel=0.25)
    assert fitted.agreeing >= 2
    assert fitted.gradient < 1e-8
    assert fitted.smallest_eigenvalue > 0


def test_no_neighbour_is_better_and_another_optimiser_ends_there(fitted: Prior, policy: SignalPolicy) -> None:
    points = squash(*drawn(THETA, 60_000), policy.squashing)
    rng = np.random.default_rng(4)
    for _ in range(50):
        near = np.array(fitted.theta) * np.exp(rng.normal(0, 0.01, 5))
        assert negative_log_likelihood(near, points)[0] > fitted.nll

    def value(x: np.ndarray) -> float:
        return negative_log_likelihood((*np.exp(x[:4]), expit(x[4])), points)[0]

    start = np.r_[np.log([1.0, 0.5, 1.0, 1.0]), logit(0.3)]
    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-7, "fatol": 1e-9}
    other = optimize.minimize(value, start, method="Nelder-Mead", options=options)
    assert other.fun == pytest.approx(fitted.nll, abs=1e-4)


def test_the_degenerate_optimum_is_refused(policy: SignalPolicy) -> None:
    """One ratio for all pairs: a gamma's mass runs to a point, alpha and beta to infinity together."""
    rng = np.random.default_rng(0)
    e = np.exp(rng.normal(0.5, 1.0, 20_000))
    n = rng.poisson(e)
    with pytest.raises(TrialOpsError, match=r"no optimum inside the bounds.*at its (upper|lower) bound"):
        fit_prior(squash(n[n > 0], e[n > 0], policy.squashing), policy.prior)


def test_a_component_that_runs_to_a_point_is_refused_by_name(policy: SignalPolicy) -> None:
    """A wide component and a point: alpha2 grows without end, which an unbounded optimiser takes for an answer."""
    rng = np.random.default_rng(0)
    e = np.exp(rng.normal(1.0, 1.0, 30_000))
    wide = rng.random(e.size) < 0.2
    n = rng.poisson(np.where(wide, rng.gamma(2.0, 4.0, e.size), 1.0) * e)
    points = squash(n[n > 0], e[n > 0], policy.squashing)
    with pytest.raises(TrialOpsError, match="alpha2 at its upper bound"):
        fit_prior(points, policy.prior)
    # The likelihood does go on rising beyond the bound: the bound is not what stops a true optimum.
    at = [negative_log_likelihood((2.0, 0.25, a, a, 0.2), points)[0] for a in (50.0, 100.0, 1_000.0, 10_000.0)]
    assert at == sorted(at, reverse=True)


def test_starts_that_do_not_agree_are_refused_with_every_result(policy: SignalPolicy) -> None:
    points = squash(*drawn(THETA, 5_000), policy.squashing)
    strict = replace(policy.prior, agreement=1e-15)
    with pytest.raises(TrialOpsError, match="do not agree") as caught:
        fit_prior(points, strict)
    assert caught.value.what.count("nll ") == len(policy.prior.starts)
    assert caught.value.what.count("alpha1 ") == len(policy.prior.starts)


def test_too_few_pairs_are_refused(policy: SignalPolicy) -> None:
    with pytest.raises(TrialOpsError, match="Only 99 pairs"):
        fit_prior(squash(*drawn(THETA, 99), policy.squashing), policy.prior)


# -- posterior -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truncated", [False, True], ids=["published", "consistent"])
def test_posterior_equals_numerical_integration(truncated: bool) -> None:
    """The posterior density from prior times Poisson likelihood, integrated; nothing of the conjugate form is used."""
    alpha1, beta1, alpha2, beta2, p = THETA
    n, e = np.array([1.0, 2.0, 5.0, 16.0, 40.0]), np.array([0.02, 3.0, 0.7, 0.4064, 55.0])
    q = ebgm.share(THETA, n, e, truncated=truncated)
    found = ebgm.posterior(THETA, n, e, truncated=truncated)
    for i in range(n.size):
        weights = [p, 1 - p]
        laws = [stats.gamma(alpha1, scale=1 / beta1), stats.gamma(alpha2, scale=1 / beta2)]
        if truncated:  # the share among reported pairs: each component's prior given a report
            none = [stats.nbinom(a, b / (b + e[i])).pmf(0) for a, b in ((alpha1, beta1), (alpha2, beta2))]
            weights = [w / (1 - z) for w, z in zip(weights, none, strict=True)]

        def joint(x: float, i: int = i, weights: list[float] = weights, laws: list[object] = laws) -> float:
            prior = sum(w * law.pdf(x) for w, law in zip(weights, laws, strict=True))  # type: ignore[attr-defined]
            return float(prior * stats.poisson.pmf(n[i], x * e[i]))

        top = 60.0 + n[i] / e[i] * 4
        marks = [v for v in (0.1, 1.0, 5.0, 20.0, (n[i] + 2) / (e[i] + 1)) if v < top]

        def integral(function: object, upper: float = top, marks: list[float] = marks) -> float:
            inner = sorted({m for m in marks if m < upper})
            edges = [0.0, *inner, upper]
            parts = zip(edges[:-1], edges[1:], strict=True)
            return float(sum(integrate.quad(function, a, b, epsabs=0, epsrel=1e-12, limit=400)[0] for a, b in parts))

        total = integral(joint)
        for x in (0.3, 1.1, found.ebgm[i], 2 * found.ebgm[i]):
            got = ebgm.density(np.array([x]), THETA, q[i : i + 1], n[i : i + 1], e[i : i + 1])[0]
            assert got == pytest.approx(joint(x) / total, rel=1e-9)
        mean_log = integral(lambda x: np.log(x) * joint(x) if x > 0 else 0.0) / total
        assert found.ebgm[i] == pytest.approx(np.exp(mean_log), rel=1e-9)
        for level, point in ((0.05, found.eb05[i]), (0.95, found.eb95[i])):
            assert integral(joint, point) / total == pytest.approx(level, abs=1e-9)


def test_quantiles_equal_brents_method() -> None:
    rng = np.random.default_rng(7)
    n = np.concatenate([rng.geometric(0.4, 150), [1, 1, 5_000, 200_000]]).astype(float)
    e = np.concatenate([np.exp(rng.normal(0, 3, 150)), [1e-9, 1e5, 3.0, 2e5]])
    for theta in (THETA, (0.01, 0.002, 90.0, 80.0, 0.5), (60.0, 0.002, 0.002, 50.0, 0.001)):
        q = ebgm.share(theta, n, e)
        for level in (0.05, 0.5, 0.95):
            got = ebgm.quantile(level, theta, q, n, e)
            for i in range(n.size):
                parts = (theta, q[i : i + 1], n[i : i + 1], e[i : i + 1])
                wanted = optimize.brentq(
                    lambda log_x, parts=parts, level=level: ebgm.cdf(np.exp(np.array([log_x])), *parts)[0] - level,
                    -60.0,
                    60.0,
                    xtol=1e-14,
                    rtol=1e-14,
                    maxiter=500,
                )
                assert got[i] == pytest.approx(np.exp(wanted), rel=1e-9)


def test_order_of_the_posteriors_figures() -> None:
    n, e = drawn(THETA, 3_000)
    found = ebgm.posterior(THETA, n, e)
    assert (found.eb05 < found.ebgm).all()
    assert (found.ebgm < found.eb95).all()
    assert ((found.q >= 0) & (found.q <= 1)).all()
    # Shrinkage: few reports are drawn to the prior, many tell for themselves.
    many = ebgm.posterior(THETA, [1_000.0], [100.0])
    assert many.ebgm[0] == pytest.approx(10.0, rel=0.02)
    assert ebgm.posterior(THETA, [1.0], [0.01]).ebgm[0] < 10.0


def test_pairs_without_reports_have_no_ebgm() -> None:
    with pytest.raises(TrialOpsError, match="pairs that were reported"):
        ebgm.posterior(THETA, [0.0], [1.0])
