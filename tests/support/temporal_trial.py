"""The small clean trial with what temporal features read beside: visit numbers, ECG, coded history, the data cut."""

from __future__ import annotations

import numpy as np
import polars as pl

from tests.support.clean_trial import make_trial

CODES = ("I21.0", "I10", "E11.9", "E11.2", "C34.1", "C78.0", "K70.4", "K70.0", "G30.9", "J44.9", "R51", "Z00.0")


def temporal_trial(n: int, seed: int) -> dict[str, pl.DataFrame]:
    """Clean tables of n subjects; every table has late rows and corrections."""
    rng = np.random.default_rng(seed + 1)
    tables = make_trial(n, seed)
    days = tables["SV"].select("USUBJID", "VISITNUM", _day="SVSTDY").unique(["USUBJID", "_day"], keep="first")
    for name in ("VS", "LB"):
        frame = (
            tables[name]
            .with_row_index("_row")
            .join(
                days, left_on=["USUBJID", f"{name}DY"], right_on=["USUBJID", "_day"], how="left", maintain_order="left"
            )
        )
        tables[name] = frame.drop("_row")
    dm = tables["DM"]
    cut = (rng.integers(0, 60, dm.height) * 14).clip(0, 728)
    tables["DM"] = dm.with_columns(CUTDY=pl.when(pl.Series(cut) > 0).then(pl.Series(cut)).cast(pl.Int32))
    tables["EG"] = _ecg(days, rng)
    history = tables["MH"]
    codes = rng.choice([*CODES, ""], history.height, p=[0.075] * 12 + [0.1])
    fixed = history.with_columns(MHICD10=pl.Series(codes))
    later = fixed.sample(fraction=0.3, seed=seed).with_columns(KNOWNDY=pl.lit(20, pl.Int32), MHICD10=pl.lit("G30.1"))
    tables["MH"] = pl.concat([fixed, later], how="vertical_relaxed")
    return tables


def _ecg(days: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    tests = pl.DataFrame(
        {
            "EGTESTCD": ["QT", "RR", "HR", "QT"],
            "EGSTRESU": ["ms", "ms", "beats/min", "ms"],
            "EGTPT": ["AFTER LYING DOWN FOR 5 MINUTES"] * 3 + ["AFTER STANDING FOR 1 MINUTE"],
            "_mean": [400.0, 850.0, 70.0, 380.0],
        }
    )
    rows = days.join(tests, how="cross").sort("USUBJID", "VISITNUM", "EGTESTCD", "EGTPT")
    rows = rows.filter(pl.Series(rng.random(rows.height) > 0.15))  # so that QT and RR are not always of one day
    rows = rows.with_columns(
        EGSEQ=pl.int_range(1, pl.len() + 1).over("USUBJID").cast(pl.Int64),
        EGSTRESN=(pl.col("_mean") + pl.Series(rng.normal(0, 20, rows.height))).round(0),
        EGDY="_day",
        KNOWNDY="_day",
    )
    return rows.drop("_mean", "_day")
