"""Standard results of findings, and the range indicator."""

from __future__ import annotations

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.standards.standard_units import range_indicator, standard_units

LB = pl.DataFrame(
    {
        "LBTESTCD": ["GLUC", "GLUC", "BILI", "WBC", "HBA1C", "XYZ", "XYZ", "COLOR", "GLUC", "PH"],
        "LBORRES": ["90", "5.0", "<0.2", "6.3", "6.5", "7", "7", "YELLOW", "", "5.5"],
        "LBORRESU": ["mg/dL", "mmol/L", "mg/dL", "THOU/uL", "%", "g/L", "blob", "NO UNITS", "mg/dL", "NO UNITS"],
        "LBORNRLO": ["70", None, "0.2", "3.8", "4.3", None, None, None, None, "5"],
        "LBORNRHI": ["110", None, "1.2", "10.7", "6.1", None, None, None, None, "8"],
    }
)


def near(column: pl.Series, wanted: list[float | None]) -> bool:
    assert column.is_null().to_list() == [value is None for value in wanted]
    return bool(column.fill_null(0.0).to_list() == pytest.approx([value or 0.0 for value in wanted], rel=1e-5))


def test_si() -> None:
    made = standard_units(LB, "LB")
    assert near(made["LBSTRESN"], [4.99567, 5.0, None, 6.3, 47.5295, 7.0, None, None, None, 5.5])
    assert made["LBSTRESU"].to_list() == [
        *("mmol/L", "mmol/L", "umol/L", "10^9/L", "mmol/mol", "g/L", "", "", "", "pH"),
    ]
    assert made["LBSTRESC"].to_list()[2].startswith("<3.42")
    assert made["LBSTRESC"].to_list()[6:8] == ["7", "YELLOW"]
    assert made["LBSTREASN"].to_list() == [
        "",
        "",
        "beyond a limit of quantification",
        "",
        "",
        "the test has no standard unit; the collected one is kept",
        "unit 'blob' is not known",
        "the result is no number",
        "no result",
        "",
    ]
    assert near(made["LBSTNRLO"].head(4), [3.88552, None, 3.420716, 3.8])
    assert made.select(LB.columns).equals(LB)


def test_conventional_in_ucum() -> None:
    made = standard_units(LB, "LB", convention="us", notation="ucum")
    assert made["LBSTRESN"].to_list()[:2] == pytest.approx([90.0, 90.078], rel=1e-4)
    assert made["LBSTRESU"].to_list()[3] == "10*3/uL"


def test_vital_signs() -> None:
    vs = pl.DataFrame({"VSTESTCD": ["TEMP", "WEIGHT"], "VSORRES": ["98.6", "150"], "VSORRESU": ["F", "LB"]})
    made = standard_units(vs, "VS")
    assert made["VSSTRESN"].to_list() == pytest.approx([37.0, 68.0388555])
    assert made["VSSTRESU"].to_list() == ["C", "kg"]
    assert made["VSSTRESC"].to_list() == ["37", "68.0388555"]


def test_what_it_cannot_do() -> None:
    with pytest.raises(TrialOpsError, match="no units"):
        standard_units(LB, "AE")
    with pytest.raises(TrialOpsError, match="LBORRESU"):
        standard_units(LB.drop("LBORRESU"), "LB")
    assert standard_units(LB.clear(), "LB").height == 0


def test_range_indicator() -> None:
    frame = pl.DataFrame(
        {
            "LBORRES": ["3.3", "3.2", "4.9", "5.0", "x", "4", "1", "9"],
            "LBORNRLO": ["3.3", "3.3", "3.3", "3.3", "3.3", "", "2", None],
            "LBORNRHI": ["4.90", "4.9", "4.9", "4.9", "4.9", "", None, "8"],
        }
    )
    assert range_indicator(frame).to_list() == ["NORMAL", "LOW", "NORMAL", "HIGH", None, None, "LOW", "HIGH"]
