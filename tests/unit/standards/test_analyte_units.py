"""Spellings, analytes, conversion of values and columns."""

from __future__ import annotations

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialops.standards import ucum
from trialops.standards.analytes import formula_mass, tables
from trialops.standards.loinc import check_digit, core
from trialops.standards.units import (
    UnitError,
    cdisc_unit,
    convert,
    convert_column,
    find_analyte,
    molar_mass,
    solve,
    ucum_code,
)

WEIGHTS = {"H": Fraction("1.008"), "O": Fraction("15.999")}


@pytest.mark.parametrize(
    ("value", "source", "target", "analyte", "result"),
    [
        (90, "mg/dL", "mmol/L", "GLUC", 4.99567),
        (1, "mg/dL", "umol/L", "CREAT", 88.4),
        (1, "mg/dL", "umol/L", "BILI", 17.1),
        (20, "mg/dL", "mmol/L", "BUN", 7.14),
        (200, "mg/dL", "mmol/L", "CHOL", 5.172),
        (150, "mg/dL", "mmol/L", "TRIG", 1.694),
        (15, "g/dL", "mmol/L", "HGB", 9.308),
        (5, "meq/L", "mmol/L", "CA", 2.5),
        (10, "mg/dL", "meq/L", "CA", 4.99),
        (4.1, "meq/L", "mmol/L", "K", 4.1),
        (6.5, "%", "mmol/mol", "HBA1C", 47.53),
        (48, "mmol/mol", "%", "HBA1C", 6.543),
        (6.5, "%", "1", "HBA1C", 0.065),
        (40, "U/L", "ukat/L", "ALT", 0.6667),
        (2.5, "mU/L", "m[iU]/L", "TSH", 2.5),
        (5, "[pH]", "nmol/L", "PH", 10_000),
    ],
)
def test_value(value: float, source: str, target: str, analyte: str, result: float) -> None:
    assert convert(value, source, target, analyte=analyte) == pytest.approx(result, rel=2e-3)
    assert convert(convert(value, source, target, analyte=analyte), target, source, analyte=analyte) == pytest.approx(
        value
    )


def test_loinc_names_the_analyte() -> None:
    assert convert(90, "mg/dL", "mmol/L", loinc="2345-7") == convert(90, "mg/dL", "mmol/L", analyte="GLUC")
    assert molar_mass("2160-0") == molar_mass("CREAT") == pytest.approx(113.12)
    assert find_analyte("no such") is None and molar_mass("ALT") is None


@pytest.mark.parametrize(
    ("source", "target", "analyte", "reason"),
    [
        ("mg/dL", "mmol/L", None, "without an analyte"),
        ("mg/dL", "mmol/L", "NOSUCH", "not in the table"),
        ("g/dL", "mmol/L", "ALB", "no molar mass"),
        ("mg/dL", "meq/L", "PHOS", "no valence"),
        ("[iU]/L", "mg/L", "TSH", "different kinds"),
        ("mg/dL", "mmol/kg", "GLUC", "different kinds"),
        ("mg2/dL", "mmol/L", "GLUC", "different kinds"),
        ("mg/dL", "nonsense", "GLUC", "not known"),
        ("THOU/uL", "10*9/L", "WBC", "not known"),  # a spelling is no UCUM code
        ("mmol/L", "%", "HBA1C", "HbA1c"),
    ],
)
def test_refused_with_a_reason(source: str, target: str, analyte: str | None, reason: str) -> None:
    assert reason in solve(source, target, analyte, spelled=False).reason
    with pytest.raises(UnitError):
        convert(1.0, source, target, analyte=analyte)


@pytest.mark.parametrize(
    ("text", "analyte", "code"),
    [
        ("THOU/uL", None, "10*3/uL"),
        ("MILL/uL", None, "10*6/uL"),
        ("GI/L", None, "10*9/L"),
        ("TI/L", None, "10*12/L"),
        ("10^9/L", None, "10^9/L"),
        ("x10E9/L", None, "10*9/L"),
        ("mEq/L", None, "meq/L"),
        ("g/dl", None, "g/dl"),
        (" g/dL  ", None, "g/dL"),
        ("MG/DL", None, "mg/dL"),
        ("μmol/L", None, "umol/L"),
        ("µmol/L", None, "umol/L"),
        ("mcg/mL", None, "ug/mL"),
        ("uIU/mL", "TSH", "u[iU]/mL"),
        ("mU/L", "TSH", "m[iU]/L"),
        ("U/mL", "INSULIN", "[iU]/mL"),
        ("U/L", "ALT", "U/L"),
        ("F", None, "[degF]"),
        ("C", None, "Cel"),
        ("G/L", None, "g/L"),
        ("K/uL", None, "10*3/uL"),
        ("mmHg", None, "mm[Hg]"),
        ("BEATS/MIN", None, "/min"),
        ("LB", None, "[lb_av]"),
        ("fmol(Fe)", None, "fmol"),
        ("NO UNITS", "PH", "[pH]"),
        ("", "PH", "[pH]"),
        ("", None, ""),
        ("MU/L", None, ""),
        ("furlong per fortnight", None, ""),
    ],
)
def test_spellings(text: str, analyte: str | None, code: str) -> None:
    assert ucum_code(text, analyte) == code


def test_ucum_data_is_read_as_ucum() -> None:
    assert ucum_code("F", spelled=False) == "F"
    assert ucum.parse(ucum_code("F", spelled=False)).dimension != ucum.parse("[degF]").dimension
    assert ucum_code("THOU/uL", spelled=False) == ""


def test_tables_agree_with_themselves() -> None:
    facts = tables()
    for code, analyte in facts.analytes.items():
        assert solve(analyte.us, analyte.si, code, spelled=False).reason == "", code
        assert all(check_digit(loinc) for loinc in analyte.loinc), code
    for code, label in facts.cdisc.items():
        assert ucum.is_valid(code)
        if label:
            back = solve(code, label)
            assert back.reason == "" and back.factor == pytest.approx(1.0, abs=0), (code, label)
    claimed = [loinc for analyte in facts.analytes.values() for loinc in analyte.loinc]
    assert len(claimed) == len(set(claimed))
    for term in core().terms:
        known = find_analyte(term.code)
        assert known is None or term.testcd in (known.code, "HR"), term.code
    assert cdisc_unit("10*9/L") == "10^9/L" and cdisc_unit("kg.m") == "kg.m"


def test_molar_masses_are_sums_of_atomic_weights() -> None:
    assert formula_mass("H2O", WEIGHTS) == Fraction("18.015")
    assert molar_mass("GLUC") == pytest.approx(6 * 12.011 + 12 * 1.008 + 6 * 15.999)
    assert molar_mass("HGB") == 16114.5
    for wrong in ("", "h2o", "H2(O)", "2H", "HXx"):
        with pytest.raises(UnitError):
            formula_mass(wrong, WEIGHTS)


def test_column_solves_each_row_and_keeps_its_place() -> None:
    made = convert_column(
        pl.Series([90.0, None, 5.0, 98.6, 7.0, -1.0, 1.0]),
        pl.Series(["mg/dL", "mg/dL", "mEq/L", "F", "pH", "mol/L", None]),
        pl.Series(["mmol/L", "mmol/L", "mmol/L", "C", "nmol/L", "pH", "g"]),
        pl.Series(["GLUC", "GLUC", "CA", None, "PH", None, None]),
    )
    nan = float("nan")
    assert made["value"].fill_null(nan).to_list() == pytest.approx(
        [4.99567, nan, 2.5, 37.0, 100.0, nan, nan], rel=1e-4, nan_ok=True
    )
    assert made["rule"].to_list() == ["molar mass", "molar mass", "valence", "dimension", "curve", "curve", ""]
    assert made["reason"].to_list() == [""] * 5 + ["the target scale has no such value", "no unit"]


def test_column_takes_one_unit_for_all() -> None:
    made = convert_column(pl.Series([1, 2]), "g/dL", "g/L")
    assert made["value"].to_list() == [10.0, 20.0]
    assert made["unit"].unique().to_list() == ["g/L"]


def test_plain_numbers_need_no_unit() -> None:
    made = convert_column(pl.Series([1.01]), "NO UNITS", "", "SPGRAV")
    assert made.row(0) == (1.01, "", "identity", "")
    assert "no unit" in solve("", "mg/dL", "GLUC").reason


@given(st.floats(1e-3, 1e5), st.sampled_from(sorted(c for c, a in tables().analytes.items() if a.us != a.si)))
def test_conventional_and_si_there_and_back(value: float, code: str) -> None:
    analyte = tables().analytes[code]
    there = convert(value, analyte.us, analyte.si, analyte=code)
    assert convert(there, analyte.si, analyte.us, analyte=code) == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_two_texts_convert_or_say_why(source: str, target: str) -> None:
    solved = solve(source, target, "GLUC")
    assert solved.reason or (solved.rule and solved.factor > 0)
