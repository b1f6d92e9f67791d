"""Group-sequential boundaries: planned looks at accumulating data with a fixed overall error.

Sources: Armitage, P., McPherson, C. K. and Rowe, B. C. (1969), Repeated significance tests on accumulating data,
JRSS A 132:235-244 (recursive integration); Pocock, S. J. (1977), Biometrika 64:191-199; O'Brien, P. C. and
Fleming, T. R. (1979), Biometrics 35:549-556; Lan, K. K. G. and DeMets, D. L. (1983), Biometrika 70:659-663
(alpha spending). Notation of Jennison, C. and Turnbull, B. W. (2000), Group Sequential Methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Spending = Literal["obrien_fleming", "pocock"]
NODES = 160
"""Gauss-Legendre nodes on each continuation region; doubling them changes boundaries by less than 1e-9."""
NEVER = 12.0
"""A boundary nobody crosses: stands for a look on which no error is spent."""


def crossing(
    information: Sequence[float] | NDArray[np.float64],
    boundary: Sequence[float] | NDArray[np.float64],
    drift: float = 0.0,
) -> NDArray[np.float64]:
    """Probability of leaving |Z| < boundary for the first time at each look.

    Args:
        information: K rising information fractions, the last one at most 1.
        boundary: K critical values of |Z|.
        drift: Expected Z at full information; 0 under the null hypothesis.

    Returns:
        float64 [K]. Their sum is the error of the plan for drift 0, its power otherwise.
    """
    walk, out = _Walk(drift), []
    for t, z in zip(information, boundary, strict=True):
        out.append(walk.leaves(t, z))
        walk.stay(t, z)
    return np.array(out)


class _Walk:
    """The test statistic between its boundaries, on the B-value scale S(t) = Z(t) sqrt(t): normal increments."""

    def __init__(self, drift: float = 0.0) -> None:
        self._drift, self._before = drift, 0.0
        self._nodes, self._weights = np.polynomial.legendre.leggauss(NODES)
        self._points, self._mass = np.zeros(1), np.ones(1)  # before the first look: at 0 with certainty

    def leaves(self, t: float, z: float) -> float:
        """Probability of having stayed until now and being outside |Z| < z at t."""
        from scipy.special import ndtr

        spread, shift = np.sqrt(t - self._before), self._drift * (t - self._before)
        limit = z * np.sqrt(t)
        below, above = (-limit - self._points - shift) / spread, (limit - self._points - shift) / spread
        return float((ndtr(below) + ndtr(-above)) @ self._mass)

    def stay(self, t: float, z: float) -> None:
        """Go on to t on the condition of |Z| < z there."""
        spread, shift = np.sqrt(t - self._before), self._drift * (t - self._before)
        inside = z * np.sqrt(t) * self._nodes
        density = np.exp(-0.5 * ((inside[:, None] - self._points - shift) / spread) ** 2)
        density /= spread * np.sqrt(2 * np.pi)
        mass = (density @ self._mass) * self._weights * z * np.sqrt(t)
        self._points, self._mass, self._before = inside, mass, t


@lru_cache(maxsize=64)
def _constant(looks: int, alpha: float, shape: float) -> float:
    """The constant of a boundary C x (K/k)^shape with equally spaced looks; two-sided."""
    from scipy.optimize import brentq

    information = np.arange(1, looks + 1) / looks
    form = information**-shape
    return float(brentq(lambda c: crossing(information, c * form).sum() - alpha, 0.5, 8.0, xtol=1e-10))


def pocock(looks: int, alpha: float = 0.05) -> NDArray[np.float64]:
    """Critical values of |Z| that are the same at every equally spaced look.

    Args:
        looks: Number of looks.
        alpha: Two-sided error of all looks together.
    """
    return np.full(looks, _constant(looks, alpha, 0.0))


def obrien_fleming(looks: int, alpha: float = 0.05) -> NDArray[np.float64]:
    """Critical values of |Z| that fall with the square root of the information, equally spaced looks.

    Args:
        looks: Number of looks.
        alpha: Two-sided error of all looks together.
    """
    return _constant(looks, alpha, 0.5) * np.sqrt(looks / np.arange(1, looks + 1))


def spent(information: float, alpha: float, spending: Spending) -> float:
    """Two-sided error that may be spent up to an information fraction.

    Args:
        information: Share of the planned information, 0 to 1; above 1 counts as 1.
        alpha: Overall error.
        spending: Form, for each side with half of alpha: 2 - 2 Phi(z / sqrt(t)), or alpha ln(1 + (e - 1) t).
    """
    from scipy.stats import norm

    t = min(max(information, 0.0), 1.0)
    if t == 0.0:
        return 0.0
    if spending == "pocock":
        return float(alpha * np.log(1.0 + (np.e - 1.0) * t))
    return float(4.0 * norm.sf(norm.isf(alpha / 4.0) / np.sqrt(t)))


def spending_boundary(
    information: Sequence[float], alpha: float = 0.05, spending: Spending = "obrien_fleming"
) -> NDArray[np.float64]:
    """Critical values of |Z| at looks that need not have been planned.

    Args:
        information: Rising fractions of the planned information at which one looked; the last is at most 1.
        alpha: Two-sided error of all looks together.
        spending: How it is spent over the information.

    Raises:
        TrialOpsError: The fractions do not rise within (0, 1].
    """
    fractions = tuple(float(t) for t in information)
    if not fractions or fractions[0] <= 0 or fractions[-1] > 1 or list(fractions) != sorted(set(fractions)):
        raise TrialOpsError(
            "information fractions must rise within (0, 1]",
            where="group-sequential boundary",
            fix="give each look once",
        )
    return np.array(_spending_boundary(fractions, alpha, spending))


@lru_cache(maxsize=256)
def _spending_boundary(fractions: tuple[float, ...], alpha: float, spending: Spending) -> tuple[float, ...]:
    from scipy.optimize import brentq

    walk, boundary, before = _Walk(), [], 0.0
    for t in fractions:
        now = spent(t, alpha, spending)
        share, before = now - before, now

        def excess(z: float, t: float = t, share: float = share) -> float:
            return walk.leaves(t, z) - share

        z = float(brentq(excess, 0.01, NEVER, xtol=1e-10)) if excess(NEVER) < 0 else NEVER
        boundary.append(z)
        walk.stay(t, z)
    return tuple(boundary)


def drift_for_power(
    information: Sequence[float] | NDArray[np.float64], boundary: Sequence[float] | NDArray[np.float64], power: float
) -> float:
    """Expected Z at full information with which a plan has a given power.

    Args:
        information: As for `crossing`.
        boundary: As for `crossing`.
        power: Probability of crossing.
    """
    return _drift(tuple(map(float, information)), tuple(map(float, boundary)), power)


@lru_cache(maxsize=256)
def _drift(information: tuple[float, ...], boundary: tuple[float, ...], power: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(lambda d: crossing(information, boundary, d).sum() - power, 0.0, 10.0, xtol=1e-8))
