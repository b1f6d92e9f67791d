"""Units of the pilot trial's laboratory data: SI results and range indicators recomputed."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyreadstat
import pytest

from trialops.standards.standard_units import range_indicator, standard_units
from trialops.standards.units import convert_column


@pytest.fixture(scope="module")
def labs(anchors: Path) -> pl.DataFrame:
    frame, _ = pyreadstat.read_xport(str(anchors / "cdiscpilot01" / "sdtm" / "lb.xpt"), output_format="polars")
    return frame


def number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String).cast(pl.Float64, strict=False)


def test_si_results_are_reproduced(labs: pl.DataFrame) -> None:
    made = convert_column(
        labs.select(number("LBORRES")).to_series(), labs["LBORRESU"], labs["LBSTRESU"], labs["LBTESTCD"]
    )
    rows = labs.with_columns(made["value"], made["reason"], number("LBORRES").alias("original"))
    rows = rows.filter((pl.col("original") != 0) & (pl.col("LBSTRESN") != 0))
    assert rows.height == 56_920
    assert rows.filter(pl.col("value").is_null()).height == 0
    off = rows.select((pl.col("value") / pl.col("LBSTRESN") - 1).abs()).to_series()
    assert (off <= 3e-4).sum() == 56_920
    assert (off <= 3e-4).sum() >= 56_900


def test_each_analyte_by_its_rule(labs: pl.DataFrame) -> None:
    made = convert_column(
        labs.select(number("LBORRES")).to_series(), labs["LBORRESU"], labs["LBSTRESU"], labs["LBTESTCD"]
    )
    pairs = labs.with_columns(made["rule"]).group_by("LBTESTCD").agg(pl.col("rule").unique())
    rules = dict(pairs.iter_rows())
    for test in ("BILI", "BUN", "CA", "CHOL", "CREAT", "GLUC", "HGB", "MCH", "MCHC", "PHOS", "URATE", "VITB12"):
        assert rules[test] == ["molar mass"], test
    for test in ("SODIUM", "K", "CL"):
        assert rules[test] == ["valence"], test
    for test in ("ALB", "PROT", "WBC", "RBC", "PLAT", "TSH", "HCT"):
        assert rules[test] == ["dimension"], test


def test_range_indicator_from_original_units(labs: pl.DataFrame) -> None:
    made = range_indicator(labs)
    judged = labs.with_columns(made.alias("made")).filter(pl.col("made").is_not_null())
    assert judged.height == 56_659
    assert judged.filter(pl.col("made") == pl.col("LBNRIND")).height == 56_659


def test_standard_units_of_the_pilot(labs: pl.DataFrame) -> None:
    """Our own SI units differ from the pilot's for HbA1c alone; elsewhere the numbers agree with the delivered ones."""
    made = standard_units(labs, "LB")
    assert made.height == labs.height
    assert made["LBORRES"].equals(labs["LBORRES"]) and made["LBORRESU"].equals(labs["LBORRESU"])
    both = made.select("LBTESTCD", "LBSTRESN", delivered=labs["LBSTRESN"]).drop_nulls()
    both = both.filter((pl.col("LBTESTCD") != "HBA1C") & (pl.col("delivered") != 0))
    assert both.height > 56_900
    assert both.select((pl.col("LBSTRESN") / pl.col("delivered") - 1).abs().max()).item() <= 3e-4
    below = made.filter(pl.col("LBORRES").str.starts_with("<"))
    assert below.height == 6
    assert below["LBSTRESN"].null_count() == 6 and below["LBSTRESC"].str.starts_with("<").all()


def test_vital_signs(anchors: Path) -> None:
    frame, _ = pyreadstat.read_xport(str(anchors / "cdiscpilot01" / "sdtm" / "vs.xpt"), output_format="polars")
    made = standard_units(frame, "VS")
    both = made.select("VSTESTCD", "VSSTRESN", delivered=frame["VSSTRESN"]).drop_nulls()
    assert both.height > 27_000
    # The delivered values are rounded to two decimals, and weights were converted with 0.4536 kg to the pound.
    gap = (pl.col("VSSTRESN") - pl.col("delivered")).abs() - 2e-5 * pl.col("delivered")
    assert both.select(gap.max()).item() <= 0.005 + 1e-9
