"""The prior of the gamma-Poisson shrinker: a mixture of two gamma distributions, fitted by maximum likelihood.

A pair's count is Poisson with mean lambda E, and lambda follows P Gamma(alpha1, beta1) + (1 - P) Gamma(alpha2, beta2)
(rates beta). So a count is a mixture of two negative binomials f(n; alpha, beta, E). Only pairs that were reported are
there, so each component is conditioned on n >= 1:

    P f1(n) / (1 - f1(0)) + (1 - P) f2(n) / (1 - f2(0))

(DuMouchel 1999; DuMouchel and Pregibon 2001 for the truncation and for weights.) P is the share of the first component
among the pairs that were reported; the posterior of such a pair needs no other.

The likelihood has optima that are none: a component whose mass runs to one point (alpha and beta to infinity together)
or that has no weight. Those end at a bound, and are refused. So is a fit whose starts do not agree, whose gradient is
not zero, or whose Hessian is not positive definite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trialops.errors import TrialOpsError
from trialops.safety.signals.policy import PARAMETERS, PriorPolicy, theta_words
from trialops.safety.signals.squashing import Points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_NEAR_BOUND = 1e-3
FEWEST_PAIRS = 100


@dataclass(frozen=True)
class Optimum:
    """Where one start ended."""

    start: tuple[float, ...]
    theta: tuple[float, ...]
    nll: float
    gradient: float
    iterations: int


@dataclass(frozen=True)
class Prior:
    """A fitted prior.

    Attributes:
        theta: alpha1, beta1, alpha2, beta2, P; the first component is the one with the larger mean.
        nll: Negative log-likelihood at the optimum.
        points: Points it was fitted to.
        pairs: Pairs they stand for.
        gradient: Largest part of the gradient per pair, in logarithms of the parameters (log-odds for P).
        smallest_eigenvalue: Of the Hessian in the same parameters; above 0.
        optima: Where every start ended, best first.
        agreeing: Starts that ended in this optimum.
    """

    theta: tuple[float, ...]
    nll: float
    points: int
    pairs: int
    gradient: float
    smallest_eigenvalue: float
    optima: tuple[Optimum, ...]
    agreeing: int

    @property
    def named(self) -> dict[str, float]:
        """The parameters by name."""
        return dict(zip(PARAMETERS, self.theta, strict=True))


def negative_log_likelihood(theta: Any, points: Points) -> tuple[float, Floats]:
    """Negative log-likelihood and its gradient.

    Args:
        theta: alpha1, beta1, alpha2, beta2, P.
        points: Weighted pairs.

    Returns:
        The value, and its derivatives by ln alpha1, ln beta1, ln alpha2, ln beta2 and the log-odds of P.
    """
    from scipy.special import expit, logit

    alpha1, beta1, alpha2, beta2, p = theta
    first, by_alpha1, by_beta1 = _truncated(alpha1, beta1, points)
    second, by_alpha2, by_beta2 = _truncated(alpha2, beta2, points)
    odds = logit(p) + first - second
    weight1 = expit(odds)  # the share of the first component in each pair
    weight2 = 1 - weight1
    total = np.logaddexp(np.log(p) + first, np.log1p(-p) + second)
    w = points.weight
    parts = (
        weight1 * by_alpha1 * alpha1,
        weight1 * by_beta1 * beta1,
        weight2 * by_alpha2 * alpha2,
        weight2 * by_beta2 * beta2,
        weight1 - p,
    )
    # Summed by numpy and not by BLAS, whose threads would decide the last bits.
    return -float(np.sum(w * total)), -np.array([np.sum(w * part) for part in parts])


def _truncated(alpha: float, beta: float, points: Points) -> tuple[Floats, Floats, Floats]:
    """Logarithm of the negative binomial given n >= 1, and its derivatives by alpha and beta."""
    from scipy.special import digamma, gammaln

    n, e = points.n, points.expected
    log_none = -np.log1p(e / beta)  # ln(beta / (beta + E)); times alpha: ln f(0)
    none = alpha * log_none
    log_some = np.log(-np.expm1(none))
    value = gammaln(alpha + n) - gammaln(alpha) - gammaln(n + 1) + none + n * np.log(e / (beta + e)) - log_some
    odds = np.exp(none - log_some)  # f(0) / (1 - f(0))
    by_alpha = digamma(alpha + n) - digamma(alpha) + log_none * (1 + odds)
    by_beta = alpha * e / (beta * (beta + e)) * (1 + odds) - n / (beta + e)
    return value, by_alpha, by_beta


def fit_prior(points: Points, policy: PriorPolicy) -> Prior:
    """Fit the mixture from every start, and accept it only where the fit can be trusted.

    Raises:
        TrialOpsError: Too few pairs, an optimum at a bound, starts that do not agree, or no true minimum.
    """
    pairs = int(points.weight.sum())
    if pairs < FEWEST_PAIRS:
        raise TrialOpsError(
            f"Only {pairs} pairs: too few for a prior of five parameters",
            where="EBGM",
            fix="Screen a larger database, or use PRR, ROR and IC alone.",
        )
    # Optima that differ in the last bits alone stay in the order of their starts.
    optima = sorted((_optimum(points, policy, start) for start in policy.starts), key=lambda o: round(o.nll, 6))
    best = optima[0]
    _refuse_bound(best, policy)
    # Starts that stayed behind in a worse optimum say nothing against the best one; two must have found it.
    alike = [o for o in optima if _distance(best, o) <= policy.agreement]
    if len(alike) < policy.min_agreeing:
        raise TrialOpsError(
            "The starts of the prior's fit do not agree: "
            + "; ".join(
                f"nll {o.nll:.3f} at {theta_words(dict(zip(PARAMETERS, o.theta, strict=True)))}" for o in optima
            ),
            where="EBGM",
            fix="Look at the data for a dominating product or too few pairs; add starts near the best optimum.",
        )
    gradient = best.gradient / pairs
    smallest = float(np.linalg.eigvalsh(_hessian(best.theta, points))[0])
    if gradient > policy.max_gradient or smallest <= 0:
        raise TrialOpsError(
            f"The prior's fit has not ended in a minimum: gradient {gradient:.2g} per pair, "
            f"smallest eigenvalue of the Hessian {smallest:.2g}",
            where="EBGM",
            fix="Add starts; a flat likelihood means that the data do not tell two components apart.",
        )
    return Prior(best.theta, best.nll, points.n.size, pairs, gradient, smallest, tuple(optima), len(alike))


def _optimum(points: Points, policy: PriorPolicy, start: tuple[float, ...]) -> Optimum:
    from scipy.optimize import minimize

    lower, upper = _open(policy.lower), _open(policy.upper)
    pairs = points.weight.sum()

    def per_pair(x: Floats) -> tuple[float, Floats]:
        value, gradient = negative_log_likelihood(_closed(x), points)
        return value / pairs, gradient / pairs

    options = {"maxiter": 2000, "maxfun": 5000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}
    found = minimize(
        per_pair,
        _open(start),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(lower, upper, strict=True)),
        options=options,
    )
    polished = _newton(points, found.x, lower, upper)
    theta = _closed(polished)
    value, gradient = negative_log_likelihood(theta, points)
    if theta[0] / theta[1] < theta[2] / theta[3]:  # the two components may change places
        theta = np.array([theta[2], theta[3], theta[0], theta[1], 1 - theta[4]])
    return Optimum(start, tuple(float(t) for t in theta), value, float(np.abs(gradient).max()), int(found.nit))


def _newton(points: Points, x: Floats, lower: Floats, upper: Floats) -> Floats:
    """A few Newton steps where the Hessian allows it, each kept only if the gradient gets smaller."""
    value, gradient = negative_log_likelihood(_closed(x), points)
    for _ in range(8):
        if np.any((x <= lower + _NEAR_BOUND) | (x >= upper - _NEAR_BOUND)):
            break
        hessian = _hessian(tuple(_closed(x)), points)
        if np.linalg.eigvalsh(hessian)[0] <= 0:
            break
        step = x - np.linalg.solve(hessian, gradient)
        if np.any((step <= lower) | (step >= upper)):
            break
        further, slope = negative_log_likelihood(_closed(step), points)
        if np.abs(slope).max() >= np.abs(gradient).max() or further > value + 1e-9 * abs(value):
            break
        x, value, gradient = step, further, slope
    return x


def _hessian(theta: tuple[float, ...], points: Points) -> Floats:
    """Second derivatives in the logarithms, by central differences of the exact gradient."""
    x, h = _open(theta), 1e-5
    rows = []
    for place in range(x.size):
        shift = np.zeros(x.size)
        shift[place] = h
        ahead = negative_log_likelihood(_closed(x + shift), points)[1]
        behind = negative_log_likelihood(_closed(x - shift), points)[1]
        rows.append((ahead - behind) / (2 * h))
    matrix = np.array(rows)
    return np.asarray((matrix + matrix.T) / 2)


def _refuse_bound(best: Optimum, policy: PriorPolicy) -> None:
    x, lower, upper = _open(best.theta), _open(policy.lower), _open(policy.upper)
    low, high = x - lower < _NEAR_BOUND, upper - x < _NEAR_BOUND
    # The components may have changed places: the bounds of either count for both.
    swapped = _open(policy.lower)[[2, 3, 0, 1]], _open(policy.upper)[[2, 3, 0, 1]]
    low[:4] |= x[:4] - swapped[0] < _NEAR_BOUND
    high[:4] |= swapped[1] - x[:4] < _NEAR_BOUND
    if low.any() or high.any():
        ends = [
            f"{name} at its {'lower' if a else 'upper'} bound"
            for name, a, b in zip(PARAMETERS, low, high, strict=True)
            if a or b
        ]
        raise TrialOpsError(
            f"The prior's likelihood has no optimum inside the bounds: {', '.join(ends)} "
            f"({theta_words(dict(zip(PARAMETERS, best.theta, strict=True)))}, nll {best.nll:.3f})",
            where="EBGM",
            fix="The data do not show two components, so there is no EBGM: use PRR, ROR and IC, or more data.",
        )


def _distance(first: Optimum, second: Optimum) -> float:
    a, b = np.array(first.theta), np.array(second.theta)
    return float(np.max(np.abs(a - b) / np.abs(a)))


def _open(theta: Any) -> Floats:
    values = np.asarray(theta, np.float64)
    return np.r_[np.log(values[:4]), np.log(values[4]) - np.log1p(-values[4])]


def _closed(x: Floats) -> Floats:
    from scipy.special import expit

    return np.r_[np.exp(x[:4]), expit(x[4])]
