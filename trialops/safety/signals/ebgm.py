"""The posterior of a pair's reporting ratio: EBGM and its 5 % and 95 % points (DuMouchel 1999).

Given n reports where E were expected, lambda follows

    Q Gamma(alpha1 + n, beta1 + E) + (1 - Q) Gamma(alpha2 + n, beta2 + E)

with Q the share of the first component given n, P f1(n) / (P f1(n) + (1 - P) f2(n)). EBGM is the geometric mean,
exp of the expected ln lambda.

Which f is meant is not the same in all of the literature, and it matters. DuMouchel (1999) and the programs
built on it take the plain negative binomials, though P was fitted with each conditioned on n >= 1: ``truncated=False``,
the default, to which published results can be compared. Conditioned densities in both places (``truncated=True``) are
the consistent form, in which P is the share among reported pairs: the first component then gets less weight at small
n and E, and fewer pairs with few reports reach EB05 >= 2. Large counts hardly differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

_TOLERANCE = 1e-12
_STEPS = 200
_CHUNK = 100_000
_WORKERS = 2


@dataclass(frozen=True)
class Posterior:
    """Figures of each pair.

    Attributes:
        q: Posterior share of the first component.
        ebgm: Geometric mean of the ratio.
        eb05: 5 % point.
        eb95: 95 % point.
    """

    q: Floats
    ebgm: Floats
    eb05: Floats
    eb95: Floats


def share(theta: Sequence[float], n: ArrayLike, expected: ArrayLike, *, truncated: bool = False) -> Floats:
    """Q of each pair.

    Args:
        theta: alpha1, beta1, alpha2, beta2, P.
        n: Reports, 1 or more.
        expected: Expected reports, above 0.
        truncated: With densities conditioned on n >= 1.
    """
    from scipy.special import expit, gammaln

    alpha1, beta1, alpha2, beta2, p = theta
    n, e = np.asarray(n, np.float64), np.asarray(expected, np.float64)
    if n.size and (n.min() < 1 or e.min() <= 0):
        raise TrialOpsError("EBGM is of pairs that were reported", where="EBGM", fix="Leave out pairs without reports.")

    def log_density(alpha: float, beta: float) -> Floats:
        none = -alpha * np.log1p(e / beta)
        value = gammaln(alpha + n) - gammaln(alpha) + none + n * np.log(e / (beta + e))
        return np.asarray(value - np.log(-np.expm1(none)) if truncated else value)

    odds = np.log(p) - np.log1p(-p) + log_density(alpha1, beta1) - log_density(alpha2, beta2)
    return np.asarray(expit(odds))


def posterior(theta: Sequence[float], n: ArrayLike, expected: ArrayLike, *, truncated: bool = False) -> Posterior:
    """EBGM, EB05 and EB95 of every pair, in blocks of bounded size; arguments as for :func:`share`."""
    from scipy.special import digamma

    alpha1, beta1, alpha2, beta2, _ = theta
    n, e = np.asarray(n, np.float64), np.asarray(expected, np.float64)
    out = Posterior(*(np.empty(n.size) for _ in range(4)))

    def fill(start: int) -> None:
        here = slice(start, start + _CHUNK)
        out.q[here] = q = share(theta, n[here], e[here], truncated=truncated)
        first = digamma(alpha1 + n[here]) - np.log(beta1 + e[here])
        second = digamma(alpha2 + n[here]) - np.log(beta2 + e[here])
        out.ebgm[here] = np.exp(q * first + (1 - q) * second)
        out.eb05[here] = quantile(0.05, theta, q, n[here], e[here])
        out.eb95[here] = quantile(0.95, theta, q, n[here], e[here])

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(fill, range(0, n.size, _CHUNK)))
    return out


def cdf(x: Floats, theta: Sequence[float], q: Floats, n: Floats, e: Floats) -> Floats:
    """Posterior probability of a ratio of at most x."""
    from scipy.special import gammainc

    alpha1, beta1, alpha2, beta2, _ = theta
    return np.asarray(q * gammainc(alpha1 + n, (beta1 + e) * x) + (1 - q) * gammainc(alpha2 + n, (beta2 + e) * x))


def density(x: Floats, theta: Sequence[float], q: Floats, n: Floats, e: Floats) -> Floats:
    """Posterior density of the ratio at x > 0."""
    from scipy.special import gammaln

    alpha1, beta1, alpha2, beta2, _ = theta
    log_x = np.log(x)

    def one(shape: Floats, rate: Floats) -> Floats:
        return np.asarray(np.exp(shape * np.log(rate) + (shape - 1) * log_x - rate * x - gammaln(shape)))

    return np.asarray(q * one(alpha1 + n, beta1 + e) + (1 - q) * one(alpha2 + n, beta2 + e))


def quantile(level: float, theta: Sequence[float], q: Floats, n: Floats, e: Floats) -> Floats:
    """The point below which the posterior has the given probability, all pairs at once.

    Newton's method in ln x on the distribution function, kept between the points known to be too low and too high: a
    step that would leave them becomes a bisection (of the logarithm), or a factor of four while one of them is unknown.

    Args:
        level: Between 0 and 1.
        theta: alpha1, beta1, alpha2, beta2, P.
        q: Share of the first component.
        n: Reports.
        e: Expected reports.

    Raises:
        TrialOpsError: Not found, which no data should bring about.
    """
    x = _guess(level, theta, q, n, e)
    low, high = np.zeros(x.size), np.full(x.size, np.inf)
    active = np.arange(x.size)
    for _ in range(_STEPS):
        here, part = x[active], (q[active], n[active], e[active])
        above = cdf(here, theta, *part) - level
        low[active] = least = np.where(above <= 0, here, low[active])
        high[active] = most = np.where(above >= 0, here, high[active])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            step = here * np.exp(-above / (here * density(here, theta, *part)))
            halved = np.where(least == 0, here / 4, np.where(np.isinf(most), here * 4, np.sqrt(least * most)))
        after = np.where((step > least) & (step < most) & (step > here / 16) & (step < here * 16), step, halved)
        after = np.where(above == 0, here, after)
        x[active] = after
        active = active[np.abs(after - here) > _TOLERANCE * after]
        if not active.size:
            return x
    raise TrialOpsError("A quantile of the posterior was not found", where="EBGM", fix="Report the prior's parameters.")


def _guess(level: float, theta: Sequence[float], q: Floats, n: Floats, e: Floats) -> Floats:
    """Where to begin: the components' own quantiles by Wilson and Hilferty's cube root, weighted on the log scale."""
    from scipy.special import ndtri

    alpha1, beta1, alpha2, beta2, _ = theta
    normal = ndtri(level)

    def one(shape: Floats, rate: Floats) -> Floats:
        root = 1 - 1 / (9 * shape) + normal / (3 * np.sqrt(shape))
        return np.asarray(np.log(shape / rate) + 3 * np.log(np.maximum(root, 0.1)))

    return np.asarray(np.exp(q * one(alpha1 + n, beta1 + e) + (1 - q) * one(alpha2 + n, beta2 + e)))
