"""PRR, ROR and IC of many two-by-two tables at once, with every cell that may be empty defined.

With a, b, c, d as in :mod:`trialops.safety.signals.counting`, N = a + b + c + d and E the expected count:

* PRR = [a / (a + b)] / [c / (c + d)], SE of its logarithm sqrt(1/a - 1/(a+b) + 1/c - 1/(c+d)) (Evans, Waller and Davis
  2001). Chi-squared of the table, with Yates's correction N (max(|ad - bc| - N/2, 0))^2 / (row and column totals) or
  without it.
* ROR = ad / (bc), SE of its logarithm sqrt(1/a + 1/b + 1/c + 1/d) (van Puijenbroek 2002).
* IC = log2((a + 1/2) / (E + 1/2)), IC025 = IC - 3.3 (a + 1/2)^(-1/2) - 2 (a + 1/2)^(-3/2)
  (Noren, Hopstadius and Bate 2013); the upper bound IC975 = IC + 2.4 (a + 1/2)^(-1/2) - 0.5 (a + 1/2)^(-3/2).
* Intervals of PRR and ROR: exp(ln estimate +- 1.959964 SE), 95 %.

What an empty cell gives. Nothing is added to the cells (no 1/2 of Haldane and Anscombe), so that a figure is either the
published formula's or is visibly not there. "none" is NaN here, null in a table and never a signal.

=============================  ==========  ===================  ==========  ===================  ===================
empty                          PRR         interval of PRR      ROR         interval of ROR      chi-squared
=============================  ==========  ===================  ==========  ===================  ===================
nothing                        formula     formula              formula     formula              formula
a                              0           none                 0           none                 formula
b                              formula     formula              infinite    none                 formula
c                              infinite    none                 infinite    none                 formula
d                              formula     formula              0           none                 formula
a, b (product not reported)    none        none                 none        none                 none
a, c (event not reported)      none        none                 none        none                 none
a, d                           0           none                 0           none                 formula
b, c                           infinite    none                 infinite    none                 formula
b, d (every report has event)  formula     formula              none        none                 none
c, d (only this product)       none        none                 none        none                 none
three, or all four             none        none                 none        none                 none
=============================  ==========  ===================  ==========  ===================  ===================

With b = d = 0 the PRR is 1 and its interval [1, 1]: every report has the event. IC and IC025 are defined for every
table (the 1/2 takes care of it). An infinite ratio (c = 0) meets a criterion on the ratio, because no other report has
the event, while one on the lower bound is not met, because there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

LABEL = "spontaneous reports: disproportionality, not a rate"
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Ratio:
    """A ratio with its 95 % interval; NaN where the table in the module's description says none."""

    value: Floats
    lower: Floats
    upper: Floats


def prr(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike) -> Ratio:
    """Proportional reporting ratio.

    Args:
        a: Reports with product and event.
        b: Reports with the product and without the event.
        c: Reports with the event and without the product.
        d: Reports with neither.
    """
    a, b, c, d = _cells(a, b, c, d)
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = a + b, c + d
        value = (a / first) / (c / second)
        error = np.sqrt(np.maximum(1 / a - 1 / first + 1 / c - 1 / second, 0.0))
    value[(first == 0) | (second == 0) | (a + c == 0)] = np.nan
    return _interval(value, error, (a > 0) & (c > 0))


def ror(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike) -> Ratio:
    """Reporting odds ratio; arguments as for :func:`prr`."""
    a, b, c, d = _cells(a, b, c, d)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (a * d) / (b * c)
        error = np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    value[_margin_empty(a, b, c, d)] = np.nan
    return _interval(value, error, (a > 0) & (b > 0) & (c > 0) & (d > 0))


def chi_squared(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike, *, yates: bool) -> Floats:
    """Pearson's chi-squared of each table; NaN where a row or column is empty.

    Args:
        a: As for :func:`prr`.
        b: As for :func:`prr`.
        c: As for :func:`prr`.
        d: As for :func:`prr`.
        yates: With the continuity correction, which is never taken beyond zero.
    """
    a, b, c, d = _cells(a, b, c, d)
    total = a + b + c + d
    distance = np.abs(a * d - b * c)
    if yates:
        distance = np.maximum(distance - total / 2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # In this order no product of four margins of a large database leaves the range in which it is exact enough.
        value = (distance / (a + b)) * (distance / (c + d)) / (a + c) * (total / (b + d))
    value[_margin_empty(a, b, c, d)] = np.nan
    return value


def information_component(a: ArrayLike, expected: ArrayLike) -> Ratio:
    """IC with IC025 and IC975, in bits.

    Args:
        a: Reports with product and event.
        expected: Expected reports, stratified or not.
    """
    more = np.asarray(a, np.float64) + 0.5
    value = np.log2(more / (np.asarray(expected, np.float64) + 0.5))
    root = 1 / np.sqrt(more)
    return Ratio(value, value - 3.3 * root - 2 * root**3, value + 2.4 * root - 0.5 * root**3)


def evans(
    a: ArrayLike, ratio: Ratio, chi: Floats, *, min_ratio: float = 2.0, min_chi: float = 4.0, min_reports: int = 3
) -> NDArray[np.bool_]:
    """The criteria of Evans and of the MHRA: PRR >= 2, chi-squared >= 4 and at least 3 reports, all three."""
    with np.errstate(invalid="ignore"):
        met = (ratio.value >= min_ratio) & (chi >= min_chi) & (np.asarray(a) >= min_reports)
    return np.asarray(met, bool)


def _cells(*cells: ArrayLike) -> tuple[Floats, ...]:
    return tuple(np.broadcast_arrays(*(np.atleast_1d(np.asarray(cell, np.float64)) for cell in cells)))


def _margin_empty(a: Floats, b: Floats, c: Floats, d: Floats) -> NDArray[np.bool_]:
    return np.asarray((a + b == 0) | (c + d == 0) | (a + c == 0) | (b + d == 0))


def _interval(value: Floats, error: Floats, there: NDArray[np.bool_]) -> Ratio:
    width = np.exp(Z95 * np.where(there, error, np.nan))
    with np.errstate(invalid="ignore"):
        return Ratio(value, value / width, value * width)
