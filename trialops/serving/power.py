"""How many units an experiment with two arms needs.

Sources: Fleiss, J. L., Levin, B. and Paik, M. C. (2003), Statistical Methods for Rates and Proportions, 4.2 (two
proportions, without continuity correction); Cohen, J. (1988), Statistical Power Analysis, 2 (two means).
"""

from __future__ import annotations

import math


def units_for_proportions(control: float, change: float, *, alpha: float, power: float, ratio: float = 1.0) -> float:
    """Units of the control arm for a two-sided test of two proportions.

    Args:
        control: Proportion in the control arm.
        change: Difference to find, other arm less control.
        alpha: Two-sided error.
        power: Probability of finding it.
        ratio: Units of the other arm for each of the control arm.

    Returns:
        Units, not rounded.
    """
    from scipy.stats import norm

    other = control + change
    pooled = (control + ratio * other) / (1 + ratio)
    null = math.sqrt(pooled * (1 - pooled) * (1 + 1 / ratio))
    alternative = math.sqrt(control * (1 - control) + other * (1 - other) / ratio)
    return float(((norm.isf(alpha / 2) * null + norm.isf(1 - power) * alternative) / change) ** 2)


def units_for_means(effect: float, *, alpha: float, power: float, ratio: float = 1.0) -> float:
    """Units of the control arm for a two-sided t test of two means.

    Args:
        effect: Difference to find in standard deviations.
        alpha: Two-sided error.
        power: Probability of finding it.
        ratio: Units of the other arm for each of the control arm.

    Returns:
        Units, not rounded.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    rough = (1 + 1 / ratio) * ((norm.isf(alpha / 2) + norm.isf(1 - power)) / effect) ** 2
    return float(
        brentq(
            lambda n: power_of_means(effect, n, alpha=alpha, ratio=ratio) - power,
            max(2.0 / (1 + ratio) + 1e-6, rough / 4, 2.0),
            rough * 4 + 10,
            xtol=1e-9,
        )
    )


def power_of_means(effect: float, units: float, *, alpha: float, ratio: float = 1.0) -> float:
    """Power of a two-sided t test of two means.

    Args:
        effect: Difference in standard deviations.
        units: Units of the control arm.
        alpha: Two-sided error.
        ratio: Units of the other arm for each of the control arm.
    """
    from scipy.stats import nct, t

    degrees = units * (1 + ratio) - 2
    shift = abs(effect) * math.sqrt(units * ratio / (1 + ratio))
    critical = t.isf(alpha / 2, degrees)
    return float(nct.sf(critical, degrees, shift) + nct.cdf(-critical, degrees, shift))
