"""UCUM codes: what is one, what they convert to, what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.standards import ucum

MULTIPLICATIVE = ("m", "mm", "[in_i]", "g", "mg", "[lb_av]", "s", "min", "h", "mol", "umol", "L", "10*3", "%", "m[Hg]")
RATIOS = ("mg/dL", "g/L", "ug/mL", "kg/m3", "[lb_av]/[ft_i]3")


@pytest.mark.parametrize(
    "code",
    ["mg/dL", "10*9/L", "m[iU]/L", "{cells}/uL", "/uL", "mL/min/{1.73_m2}", "g/(24.h)", "[arb'U]", "%", "1", "10^6"]
    + ["m[Hg]", "[pH]", "Cel", "[degF]", "B[SPL]", "dB", "Np", "[hp'_X]", "kg.m/s2", "{INR}", "mmol/L{fasting}"],
)
def test_valid(code: str) -> None:
    assert ucum.problem(code) == ""
    assert ucum.parse(code).code == code


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("10+3/ul", "raised to a power"),
        ("10-3/ul", "raised to a power"),
        ("g/kg ", "grammar"),
        (" g", "grammar"),
        ("", "empty"),
        ("MG/DL", "grammar"),
        ("Mol", "grammar"),
        ("mg//dL", "grammar"),
        ("mg/", "grammar"),
        ("mg{unclosed", "grammar"),
        ("foo", "grammar"),
        ("k[in_i]", "grammar"),  # no prefix before a unit that is not metric
        ("m" * 500, "longer"),
        ("m100", "larger"),
        ("m-100", "larger"),
    ],
)
def test_invalid(code: str, reason: str) -> None:
    assert reason in ucum.problem(code)
    with pytest.raises(ucum.UnitError):
        ucum.parse(code)


def test_case_decides() -> None:
    assert ucum.convert(1, "Pm", "m") == 1e15
    assert ucum.convert(1, "pm", "m") == 1e-12
    assert ucum.parse("K").dimension != ucum.parse("k[iU]").dimension


@pytest.mark.parametrize(
    ("value", "source", "target", "result"),
    [
        (1, "m[Hg]", "Pa", 133_322.0),
        (120, "mm[Hg]", "kPa", 15.99864),
        (1, "g%", "g/dL", 1.0),
        (0, "Cel", "K", 273.15),
        (98.6, "[degF]", "Cel", 37.0),
        (37, "Cel", "[degF]", 98.6),
        (80, "[degRe]", "Cel", 100.0),
        (7.4, "[pH]", "nmol/L", 39.810717),
        (40, "nmol/L", "[pH]", 7.39794),
        (3, "dB", "1", 1.995262),
        (1, "B[W]", "W", 10.0),
        (20, "dB[SPL]", "Pa", 2e-4),
        (1, "Np", "B", 0.4342945),
        (8, "1", "bit_s", 3.0),
        (100, "%[slope]", "deg", 45.0),
        (100, "[p'diop]", "deg", 45.0),
        (1, "[IU]/mL", "[iU]/L", 1000.0),
        (1, "ukat/L", "U/L", 60.0),
        (1000, "10*3/uL", "10*9/L", 1000.0),
        (1, "mmol/mol", "%", 0.1),
    ],
)
def test_conversion(value: float, source: str, target: str, result: float) -> None:
    assert ucum.convert(value, source, target) == pytest.approx(result, rel=1e-6)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("[iU]", "mg"),
        ("[arb'U]", "1"),
        ("[PFU]", "[CFU]"),
        ("meq/L", "mmol/L"),
        ("mosm/kg", "mmol/kg"),
        ("mol", "1"),
        ("/[HPF]", "1"),
        ("mg/dL", "mmol/L"),
        ("m", "s"),
        ("K/d", "Cel/d"),
        ("Cel2", "K2"),
        ("rad", "1"),
    ],
)
def test_no_conversion(source: str, target: str) -> None:
    assert ucum.is_valid(source) and ucum.is_valid(target)
    with pytest.raises(ucum.UnitError):
        ucum.convert(1.0, source, target)


def test_logarithm_of_nothing_is_refused() -> None:
    with pytest.raises(ucum.UnitError, match="no value"):
        ucum.convert(-1.0, "mol/L", "[pH]")
    with pytest.raises(ucum.UnitError, match="no value"):
        ucum.convert(0.0, "1", "dB")


def test_products_of_scales_are_refused() -> None:
    with pytest.raises(ucum.UnitError, match="ratio scale"):
        ucum.multiply(20.0, "Cel", 2.0, "g")


def test_annotations_carry_no_meaning_but_are_kept() -> None:
    assert ucum.convert(5, "10*3{cells}/uL", "10*9/L") == 5.0
    assert ucum.parse("mg{creat}/L{urine}").annotations == ("creat", "urine")


@given(st.floats(1e-6, 1e6), st.sampled_from(MULTIPLICATIVE), st.sampled_from(MULTIPLICATIVE))
def test_there_and_back(value: float, unit: str, other: str) -> None:
    if ucum.comparable(ucum.parse(unit), ucum.parse(other)):
        with pytest.raises(ucum.UnitError):
            ucum.convert(value, unit, other)
    else:
        assert ucum.convert(ucum.convert(value, unit, other), other, unit) == pytest.approx(value, rel=1e-12)


@given(
    st.floats(-100, 500), st.sampled_from(["Cel", "K", "[degF]", "[degRe]", "mK"]), st.sampled_from(["Cel", "[degF]"])
)
def test_temperatures_there_and_back(value: float, unit: str, other: str) -> None:
    assert ucum.convert(ucum.convert(value, unit, other), other, unit) == pytest.approx(value, abs=1e-9, rel=1e-9)


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e4), st.sampled_from(MULTIPLICATIVE), st.sampled_from(MULTIPLICATIVE))
def test_products_convert_like_their_parts(a: float, b: float, unit: str, other: str) -> None:
    """f(a u . b v) = f(a u) f(b v): conversion is multiplicative."""
    product, code = ucum.multiply(a, unit, b, other)
    parts = ucum.parse(unit).to_base(a) * ucum.parse(other).to_base(b)
    assert ucum.parse(code).to_base(product) == pytest.approx(parts, rel=1e-9)
    ratio, code = ucum.divide(product, code, b, other)
    assert ucum.convert(ratio, code, unit) == pytest.approx(a, rel=1e-9)


@given(st.floats(0.01, 1e4), st.sampled_from(RATIOS), st.sampled_from(RATIOS), st.sampled_from(RATIOS))
def test_conversions_compose(value: float, a: str, b: str, c: str) -> None:
    direct = ucum.convert(value, a, c)
    assert ucum.convert(ucum.convert(value, a, b), b, c) == pytest.approx(direct, rel=1e-12)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="mgLkdu10*^/.[]{}()'%-+ CelHpiU", max_size=24))
def test_any_text_is_a_unit_or_has_a_reason(text: str) -> None:
    reason = ucum.problem(text)
    if reason:
        with pytest.raises(ucum.UnitError):
            ucum.parse(text)
    else:
        unit = ucum.parse(text)
        assert unit.special is not None or unit.factor > 0
        assert text == text.strip()


def test_infinities_pass_through() -> None:
    assert math.isinf(ucum.convert(math.inf, "mg", "g"))
