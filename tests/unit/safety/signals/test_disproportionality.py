"""PRR, chi-squared, ROR and IC against one table after the other, computed another way; every empty cell."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chi2_contingency, norm
from scipy.stats.contingency import odds_ratio, relative_risk

from trialops.safety.signals.measures import chi_squared, evans, information_component, prr, ror

CELLS = tuple(itertools.product((0, 7), (0, 11), (0, 5), (0, 900)))


def tables(n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(5)
    cells = np.column_stack([rng.geometric(p, n) - 1 for p in (0.3, 0.05, 0.05, 0.0002)])
    return np.vstack([cells, np.array(CELLS), [[20_000, 400_000, 900_000, 19_000_000]]])


def scalar_prr(a: int, b: int, c: int, d: int) -> tuple[float, float, float]:
    none = (math.nan,) * 3
    if a + b == 0 or c + d == 0 or a + c == 0:
        return none
    if c == 0:
        return math.inf, math.nan, math.nan
    value = Fraction(a, a + b) / Fraction(c, c + d)
    if a == 0:
        return 0.0, math.nan, math.nan
    error = math.sqrt(Fraction(1, a) - Fraction(1, a + b) + Fraction(1, c) - Fraction(1, c + d))
    z = float(norm.ppf(0.975))
    return float(value), math.exp(math.log(value) - z * error), math.exp(math.log(value) + z * error)


def scalar_ror(a: int, b: int, c: int, d: int) -> tuple[float, float, float]:
    if 0 in (a + b, c + d, a + c, b + d):
        return (math.nan,) * 3
    if b * c == 0:
        return math.inf, math.nan, math.nan
    if a * d == 0:
        return 0.0, math.nan, math.nan
    value, error = Fraction(a * d, b * c), math.sqrt(sum(Fraction(1, x) for x in (a, b, c, d)))
    z = float(norm.ppf(0.975))
    return float(value), math.exp(math.log(value) - z * error), math.exp(math.log(value) + z * error)


def scalar_chi(a: int, b: int, c: int, d: int, yates: bool) -> float:
    if 0 in (a + b, c + d, a + c, b + d):
        return math.nan
    n = a + b + c + d
    distance = abs(Fraction(a * d - b * c))
    if yates:
        distance = max(distance - Fraction(n, 2), Fraction(0))
    return float(n * distance**2 / ((a + b) * (c + d) * (a + c) * (b + d)))


@pytest.mark.parametrize(("function", "scalar"), [(prr, scalar_prr), (ror, scalar_ror)], ids=["prr", "ror"])
def test_ratios_equal_the_scalar_formula(function: object, scalar: object) -> None:
    cells = tables()
    found = function(*cells.T)  # type: ignore[operator]
    wanted = np.array([scalar(*map(int, row)) for row in cells])  # type: ignore[operator]
    for place, got in enumerate((found.value, found.lower, found.upper)):
        np.testing.assert_allclose(got, wanted[:, place], rtol=1e-9)


@pytest.mark.parametrize("yates", [True, False], ids=["yates", "plain"])
def test_chi_squared_equals_the_scalar_formula(yates: bool) -> None:
    cells = tables()
    wanted = [scalar_chi(*map(int, row), yates) for row in cells]
    np.testing.assert_allclose(chi_squared(*cells.T, yates=yates), wanted, rtol=1e-9, atol=1e-12)


def test_scipy_agrees_where_all_cells_are_filled() -> None:
    cells = tables()
    for row in cells[(cells > 0).all(axis=1)][:80]:
        a, b, c, d = map(int, row)
        risk = relative_risk(a, a + b, c, c + d)
        interval = risk.confidence_interval(0.95)
        got = prr(a, b, c, d)
        assert (got.value[0], got.lower[0], got.upper[0]) == pytest.approx((risk.relative_risk, *interval), rel=1e-9)
        odds = odds_ratio([[a, b], [c, d]], kind="sample")
        interval = odds.confidence_interval(0.95)
        got = ror(a, b, c, d)
        assert (got.value[0], got.lower[0], got.upper[0]) == pytest.approx((odds.statistic, *interval), rel=1e-9)
        plain = chi2_contingency([[a, b], [c, d]], correction=False).statistic
        assert chi_squared(a, b, c, d, yates=False)[0] == pytest.approx(plain, rel=1e-9)
        if abs(a * d - b * c) >= (a + b + c + d) / 2:  # scipy caps the correction in another way below
            corrected = chi2_contingency([[a, b], [c, d]], correction=True).statistic
            assert chi_squared(a, b, c, d, yates=True)[0] == pytest.approx(corrected, rel=1e-9)


def test_ic_equals_the_scalar_formula() -> None:
    rng = np.random.default_rng(1)
    a, e = rng.integers(0, 50, 300), rng.gamma(0.3, 10.0, 300)
    got = information_component(a, e)
    for n, expected, *found in zip(a, e, got.value, got.lower, got.upper, strict=True):
        more = float(n) + 0.5
        value = math.log(more / (expected + 0.5)) / math.log(2)
        wanted = (value, value - 3.3 * more**-0.5 - 2 * more**-1.5, value + 2.4 * more**-0.5 - 0.5 * more**-1.5)
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


# The table in the module's docstring, row by row: PRR, its interval, ROR, its interval, chi-squared.
F, NONE, INF = "formula", "none", "infinite"
DEFINED = {
    "": (F, F, F, F, F),
    "a": (0, NONE, 0, NONE, F),
    "b": (F, F, INF, NONE, F),
    "c": (INF, NONE, INF, NONE, F),
    "d": (F, F, 0, NONE, F),
    "ab": (NONE, NONE, NONE, NONE, NONE),
    "ac": (NONE, NONE, NONE, NONE, NONE),
    "ad": (0, NONE, 0, NONE, F),
    "bc": (INF, NONE, INF, NONE, F),
    "bd": (F, F, NONE, NONE, NONE),
    "cd": (NONE, NONE, NONE, NONE, NONE),
}


def kind(value: float) -> object:
    return NONE if math.isnan(value) else INF if math.isinf(value) else 0 if value == 0 else F


@pytest.mark.parametrize("empty", ["".join(c) for n in range(5) for c in itertools.combinations("abcd", n)])
def test_every_empty_cell_is_as_the_docstring_says(empty: str) -> None:
    cells = [0 if name in empty else n for name, n in zip("abcd", (7, 11, 5, 900), strict=True)]
    one, other = prr(*cells), ror(*cells)
    chi = chi_squared(*cells, yates=False)[0]
    got = (kind(one.value[0]), kind(one.lower[0]), kind(other.value[0]), kind(other.lower[0]), kind(chi))
    assert got == DEFINED.get(empty, (NONE,) * 5)
    assert kind(one.upper[0]) == kind(one.lower[0])
    assert kind(other.upper[0]) == kind(other.lower[0])
    assert np.isfinite(information_component(cells[0], 0.0).lower).all()


def test_every_report_with_the_event_gives_a_prr_of_one() -> None:
    got = prr(7, 0, 5, 0)
    assert (got.value[0], got.lower[0], got.upper[0]) == (1.0, 1.0, 1.0)


def test_yates_never_corrects_beyond_zero_and_changes_verdicts() -> None:
    assert chi_squared(1, 1, 1, 1, yates=True)[0] == 0.0
    a, b, c, d = 3, 97, 300, 29_700  # 3.97 times expected: significant only without the correction
    with_it, without = chi_squared(a, b, c, d, yates=True), chi_squared(a, b, c, d, yates=False)
    assert with_it[0] < 4 < without[0]
    assert not evans(a, prr(a, b, c, d), with_it)[0]
    assert evans(a, prr(a, b, c, d), without)[0]


@pytest.mark.parametrize(
    ("cells", "signal"),
    [((3, 5, 10, 9_000), True), ((2, 5, 10, 9_000), False), ((3, 5, 0, 9_000), True), ((40, 60, 2_000, 4_000), False)],
    ids=["met", "two_reports", "infinite_ratio", "ratio_below_two"],
)
def test_evans_criteria(cells: tuple[int, ...], signal: bool) -> None:
    assert bool(evans(cells[0], prr(*cells), chi_squared(*cells, yates=True))[0]) is signal
