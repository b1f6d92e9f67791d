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
    from scipy.stats import norm

    out = []
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    points, mass = np.zeros(1), np.ones(1)  # the process before its first look: at 0 with certainty
    before = 0.0
    for t, z in zip(information, boundary, strict=True):
        step, limit = t - before, z * np.sqrt(t)
        spread, shift = np.sqrt(step), drift * step
        outside = norm.cdf((-limit - points - shift) / spread) + norm.sf((limit - points - shift) / spread)
        out.append(float(outside @ mass))
        # On the B-value scale, S(t) = Z(t) sqrt(t), increments are independent and normal.
        inside = limit * nodes
        density = norm.pdf((inside[:, None] - points - shift) / spread) / spread
        points, mass = inside, (density @ mass) * weights * limit
        before = t
    return np.array(out)


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
    from scipy.optimize import brentq

    fractions = [float(t) for t in information]
    if not fractions or fractions[0] <= 0 or fractions[-1] > 1 or fractions != sorted(set(fractions)):
        raise TrialOpsError(
            "information fractions must rise within (0, 1]",
            where="group-sequential boundary",
            fix="give each look once",
        )
    boundary: list[float] = []
    before = 0.0
    for k, t in enumerate(fractions):
        now = spent(t, alpha, spending)
        share, before = now - before, now

        def excess(z: float, k: int = k, share: float = share) -> float:
            return float(crossing(fractions[: k + 1], [*boundary, z])[-1]) - share

        boundary.append(float(brentq(excess, 0.1, NEVER, xtol=1e-10)) if excess(NEVER) < 0 else NEVER)
    return np.array(boundary)


def drift_for_power(
    information: Sequence[float] | NDArray[np.float64], boundary: Sequence[float] | NDArray[np.float64], power: float
) -> float:
    """Expected Z at full information with which a plan has a given power.

    Args:
        information: As for `crossing`.
        boundary: As for `crossing`.
        power: Probability of crossing.
    """
    from scipy.optimize import brentq

    return float(brentq(lambda d: crossing(information, boundary, d).sum() - power, 0.0, 10.0, xtol=1e-10))
