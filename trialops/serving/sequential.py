"""Tests that may be looked at after every request: their error holds over all looks together.

Two boundaries, both valid at any stopping time, so that a look more, a repeated step or a resumed rollout costs
nothing:

* an error rate, by a mixture likelihood ratio (Robbins, H. (1970), Statistical methods related to the law of the
  iterated logarithm, Ann. Math. Statist. 41:1397-1409; as used online by Johari, R. et al. (2022), Always valid
  inference, Oper. Res. 70:1806-1821). Exact for Bernoulli trials.
* a mean of paired differences, by the one-sided normal mixture boundary (Howard, S. R. et al. (2021), Time-uniform,
  nonparametric, nonasymptotic confidence sequences, Ann. Statist. 49:1055-1080, proposition 5) with the variance
  estimated as in Waudby-Smith, I. et al. (2024), Time-uniform central limit theory and asymptotic confidence
  sequences, Ann. Statist. 52:2613-2640. Asymptotic, hence a least n before the first look, and a correction where
  the differences are skewed so that it would be found out too soon (Hall, P. (1992), On the removal of skewness by
  transformation, JRSS B 54:221-228, the term of order 1/n, applied where it lowers the bound).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PRIOR = (1.0, 12.0)
"""Beta prior of the error rate under the alternative, cut off below the limit: most weight on a few per cent."""


def error_evidence(errors: ArrayLike, n: ArrayLike, limit: float) -> NDArray[np.float64]:
    """Evidence (an e-value) against "the error rate is at most the limit".

    The likelihood of rates above the limit, averaged over a truncated beta prior, over the likelihood at the limit.
    For rates below the limit the ratio is a supermartingale too, because it rises with every error. By Ville's
    inequality it exceeds 1/alpha at any time with a probability of at most alpha.

    Args:
        errors: int, failures so far; any shape.
        n: int, trials so far; broadcast with errors.
        limit: Largest rate allowed, in (0, 1).

    Returns:
        The ratio; reject where it is at least 1/alpha.
    """
    from scipy.special import betaincc, betaln, xlog1py, xlogy

    e, t = np.asarray(errors, dtype=np.float64), np.asarray(n, dtype=np.float64)
    a, b = PRIOR
    with np.errstate(divide="ignore"):
        above = np.log(betaincc(a + e, b + t - e, limit)) - np.log(betaincc(a, b, limit))
    log_ratio = betaln(a + e, b + t - e) - betaln(a, b) + above - xlogy(e, limit) - xlog1py(t - e, -limit)
    return np.exp(np.minimum(log_ratio, 700.0))


def mixture_scale(n: int, alpha: float) -> float:
    """Scale of the mixture that makes the boundary tightest near n observations.

    Args:
        n: Observations planned for.
        alpha: Error of the one-sided test.
    """
    log = -2.0 * np.log(2.0 * alpha)
    return float(np.sqrt((log + np.log(log) + 1.0) / max(n, 1)))


def mixture_radius(sd: ArrayLike, n: ArrayLike, alpha: float, scale: float) -> NDArray[np.float64]:
    """How far a running mean may be from the truth, on one side, at all n together.

    Args:
        sd: Standard deviation of the observations so far.
        n: Observations so far.
        alpha: Probability of ever being further off.
        scale: From `mixture_scale`.

    Returns:
        sd x sqrt(2 (n s^2 + 1) / (n^2 s^2) x log(1 + sqrt(n s^2 + 1) / (2 alpha))).
    """
    count = np.asarray(n, dtype=np.float64)
    v = count * scale**2 + 1.0
    width = np.sqrt(2.0 * v / (count**2 * scale**2) * np.log1p(np.sqrt(v) / (2.0 * alpha)))
    return np.asarray(sd, dtype=np.float64) * width


def lower_bounds(
    differences: NDArray[np.float64], alpha: float, planned: int, *, least: int = 2
) -> NDArray[np.float64]:
    """Lower bounds of a mean after each observation; -inf before the least n.

    Args:
        differences: float64 [..., n], observations in the order they came, along the last axis.
        alpha: Probability that any of the bounds is above the true mean.
        planned: Observations at which the bound should be tightest.
        least: Observations before the first bound.

    Returns:
        float64 [..., n].
    """
    n = np.arange(1, differences.shape[-1] + 1)
    mean = np.cumsum(differences, axis=-1) / n
    square = np.cumsum(differences**2, axis=-1) / n
    variance = np.maximum(square - mean**2, 0.0)
    third = np.cumsum(differences**3, axis=-1) / n - 3 * mean * square + 2 * mean**3
    with np.errstate(invalid="ignore", divide="ignore"):
        skewness = np.nan_to_num(third / variance**1.5, nan=0.0, posinf=0.0, neginf=0.0)
    sd = np.sqrt(variance * n / np.maximum(n - 1, 1))
    errors = mixture_radius(1.0, n, alpha, mixture_scale(planned, alpha)) * np.sqrt(n)  # radius in standard errors
    skewed = np.minimum(skewness, 0.0) * (2 * errors**2 + 1) / (6 * np.sqrt(n))
    bound = mean - (errors - skewed) * sd / np.sqrt(n)
    return np.where(n >= max(least, 2), bound, -np.inf)
