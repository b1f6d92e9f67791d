"""Unit swaps put into the pilot's laboratory results are found; its own results are left in peace."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialops.quality.anomalies import measurements, methods, scale_errors
from trialops.standards.units import find_analyte, solve

SEEDS = range(5)
SHARE = 0.02


@pytest.fixture(scope="module")
def laboratory(anchors: Path) -> pl.DataFrame:
    import pyreadstat

    path = anchors / "cdiscpilot01" / "sdtm" / "lb.xpt"
    frame, _ = pyreadstat.read_xport(str(path), output_format="polars", disable_datetime_conversion=True)
    return frame


def swap_factors(frame: pl.DataFrame) -> dict[str, float]:
    """SI value = conventional value x factor, for the analytes of the table in which the two can be told apart."""
    found = {}
    for code in frame["LBTESTCD"].unique().sort():
        known = find_analyte(code)
        conversion = solve(known.us, known.si, code) if known else None
        if conversion and not conversion.reason and conversion.rule != "curve" and not conversion.offset:
            found[code] = conversion.factor
    smallest = math.log(methods()["scale_error"]["smallest_factor"])
    return {code: factor for code, factor in found.items() if abs(math.log(factor)) >= smallest}


def flags(frame: pl.DataFrame, label: str | None = None) -> np.ndarray:
    marks = scale_errors(measurements(frame, "LB"), frame.height, **methods()["scale_error"])
    flagged = marks.flagged
    if label:
        assert marks.label is not None
        flagged = flagged & (marks.label == label).fill_null(False)
    return flagged.to_numpy()


def inject(frame: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Put the conventional value where the SI one belongs, or the SI value converted once more, in 2 % of the rows.

    The detector sees the standard result alone: comparing it with the original one would be no test.
    """
    rng, factors = np.random.default_rng(seed), swap_factors(frame)
    numeric = ((frame["LBSTRESN"] > 0) & frame["LBTESTCD"].is_in(list(factors))).fill_null(False)
    eligible = np.flatnonzero(numeric.to_numpy())
    chosen = rng.choice(eligible, int(SHARE * len(eligible)), replace=False)
    values, codes = frame["LBSTRESN"].to_numpy().copy(), frame["LBTESTCD"].to_list()
    for row in chosen:
        values[row] *= factors[codes[row]] ** rng.choice([-1, 1])
    injected = np.zeros(frame.height, dtype=bool)
    injected[chosen] = True
    return frame.with_columns(LBSTRESN=pl.Series(values)), injected


def test_most_analytes_of_the_pilot_can_be_judged(laboratory: pl.DataFrame) -> None:
    factors = swap_factors(laboratory)
    assert {"GLUC", "CREAT", "CHOL", "URATE", "BILI", "CA", "PHOS", "BUN", "HGB", "MCHC", "HCT"} <= set(factors)
    assert not {"SODIUM", "K", "CL", "VITB12", "ALT"} & set(factors)


@pytest.mark.slow
def test_injected_swaps_are_flagged_and_little_else(laboratory: pl.DataFrame) -> None:
    found = injected_rows = false = other_rows = 0
    for seed in SEEDS:
        swapped, injected = inject(laboratory, seed)
        flagged = flags(swapped)
        found, injected_rows = found + int(flagged[injected].sum()), injected_rows + int(injected.sum())
        false, other_rows = false + int(flagged[~injected].sum()), other_rows + int((~injected).sum())
        assert flagged[injected].mean() >= 0.985, seed
    print(f"swaps flagged {found} of {injected_rows}; other rows flagged {false} of {other_rows}")
    assert injected_rows > 2_000
    assert found / injected_rows >= 0.99
    assert false / other_rows <= 0.005


def test_the_pilot_as_it_is(laboratory: pl.DataFrame) -> None:
    """No swap is known in it: what is flagged are single results two- to threefold off, above all urea."""
    assert flags(laboratory, "unit").sum() <= 0.0005 * laboratory.height
    assert flags(laboratory).sum() <= 0.001 * laboratory.height


def test_a_history_in_the_wrong_unit_is_flagged_whole(laboratory: pl.DataFrame) -> None:
    subject = laboratory["USUBJID"][0]
    mine = (pl.col("USUBJID") == subject) & (pl.col("LBTESTCD") == "GLUC")
    wrong = laboratory.with_columns(
        LBSTRESN=pl.when(mine).then(pl.col("LBSTRESN") / swap_factors(laboratory)["GLUC"]).otherwise("LBSTRESN")
    )
    rows = wrong.select(mine & pl.col("LBSTRESN").is_not_null()).to_series().to_numpy()
    assert rows.sum() > 5 and flags(wrong, "unit")[rows].all()
