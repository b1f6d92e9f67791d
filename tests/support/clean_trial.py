"""A small clean trial with visits, events, late reports and corrections, as it is after de-identification."""

from __future__ import annotations

import numpy as np
import polars as pl

PLANNED = np.array([-14, -2, 1, 14, 28, 42, 56])


def day(ordinal: np.ndarray) -> np.ndarray:
    """Ordinals -> study days."""
    return np.where(ordinal >= 0, ordinal + 1, ordinal).astype(np.int32)


def _with_corrections(frame: pl.DataFrame, values: dict[str, pl.Expr], rng: np.random.Generator) -> pl.DataFrame:
    chosen = frame.filter(pl.Series(rng.random(frame.height) < 0.25))
    later = pl.Series(rng.integers(3, 40, chosen.height), dtype=pl.Int32)
    known = pl.col("KNOWNDY") + later
    fixed = chosen.with_columns(KNOWNDY=pl.when(known == 0).then(1).otherwise(known).cast(pl.Int32), **values)
    return pl.concat([frame, fixed.select(frame.columns)], how="vertical_relaxed")


def make_trial(n: int, seed: int) -> dict[str, pl.DataFrame]:
    """Clean tables of n subjects."""
    rng = np.random.default_rng(seed)
    ids = [f"P{i:03d}" for i in range(n)]
    end = day(rng.integers(5, 180, n))
    first = day(rng.integers(-20, -14, n))
    screened = rng.random(n) < 0.1
    dm = pl.DataFrame(
        {
            "USUBJID": ids,
            "SITEID": [f"S{i % 4}" for i in range(n)],
            "AGE": rng.integers(40, 90, n).astype(float),
            "SEX": rng.choice(["F", "M", "U"], n, p=[0.5, 0.45, 0.05]),
            "RACE": rng.choice(["WHITE", "ASIAN"], n),
            "ARMCD": np.where(screened, "SCRNFAIL", rng.choice(["A", "B"], n)),
            "KNOWNDY": first,
        }
    )
    visits = pl.DataFrame({"USUBJID": ids, "_end": end}).join(
        pl.DataFrame({"VISITNUM": np.arange(1.0, 8.0), "VISITDY": PLANNED.astype(float)}), how="cross"
    )
    planned = np.where(visits["VISITDY"] > 0, visits["VISITDY"] - 1, visits["VISITDY"]).astype(int)
    visits = visits.with_columns(_day=pl.Series(day(planned + rng.integers(0, 4, len(planned)))))
    visits = visits.filter(pl.col("_day") <= pl.col("_end"))
    sv = visits.select(
        "USUBJID",
        "VISITNUM",
        "VISITDY",
        SVSTDY="_day",
        KNOWNDY="_day",
        VISIT=pl.when(pl.col("VISITNUM") == 5).then(pl.lit("Unscheduled 5.1")).otherwise(pl.lit("WEEK")),
    )
    return {
        "DM": dm,
        "SV": sv,
        "DS": _disposition(ids, end, screened, rng),
        "EX": _exposure(ids, end, rng),
        "VS": _vitals(visits, rng),
        "LB": _labs(visits, rng),
        "AE": _events(ids, end, rng),
        "CM": _medication(visits, rng),
        "MH": pl.DataFrame(
            {
                "USUBJID": ids * 2,
                "MHSEQ": [1] * n + [2] * n,
                "KNOWNDY": np.tile(first, 2),
            }
        ),
    }


def _numbered(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    return frame.with_columns(pl.int_range(1, pl.len() + 1).over("USUBJID").cast(pl.Int64).alias(name))


def _vitals(visits: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    tests = pl.DataFrame(
        {
            "VSTESTCD": ["SYSBP", "SYSBP", "PULSE", "WEIGHT", "HEIGHT"],
            "VSPOS": ["SUPINE", "STANDING", "SUPINE", "", ""],
            "VSSTRESU": ["mmHg", "mmHg", "BEATS/MIN", "kg", "cm"],
            "_mean": [130.0, 120.0, 70.0, 75.0, 170.0],
        }
    )
    rows = _numbered(visits.join(tests, how="cross"), "VSSEQ")
    rows = rows.with_columns(VSSTRESN=(pl.col("_mean") + pl.Series(rng.normal(0, 5, rows.height))).round(1))
    late = pl.Series(rng.integers(0, 5, rows.height) * (rng.random(rows.height) < 0.2), dtype=pl.Int32)
    known = pl.col("_day") + late
    rows = rows.select(
        "USUBJID",
        "VSSEQ",
        "VSTESTCD",
        "VSPOS",
        "VSSTRESN",
        "VSSTRESU",
        VSDY="_day",
        KNOWNDY=pl.when(known == 0).then(1).otherwise(known).cast(pl.Int32),
    )
    return _with_corrections(rows, {"VSSTRESN": pl.col("VSSTRESN") + 3}, rng)


def _labs(visits: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    tests = pl.DataFrame(
        {
            "LBTESTCD": ["ALT", "CREAT", "K"],
            "LBSTRESU": ["U/L", "umol/L", "mmol/L"],
            "_mean": [30.0, 80.0, 4.2],
            "LBSTNRLO": [5.0, 50.0, 3.5],
            "LBSTNRHI": [40.0, 110.0, 5.1],
        }
    )
    rows = _numbered(visits.join(tests, how="cross"), "LBSEQ")
    n = rows.height
    rows = rows.with_columns(
        LBSTRESN=(pl.col("_mean") * pl.Series(rng.lognormal(0, 0.3, n))).round(2),
        LBNRIND=pl.Series(rng.choice(["NORMAL", "HIGH", "", "LOW"], n, p=[0.6, 0.1, 0.2, 0.1])),
    ).select(
        "USUBJID",
        "LBSEQ",
        "LBTESTCD",
        "LBSTRESN",
        "LBSTRESU",
        "LBSTNRLO",
        "LBSTNRHI",
        "LBNRIND",
        LBDY="_day",
        KNOWNDY="_day",
    )
    moved, lost = pl.Series(rng.integers(-3, 60, n)), pl.Series(rng.random(n) < 0.3)
    rows = rows.with_columns(_moved=moved, _lost=lost)
    shifted = pl.when(pl.col("_moved") == 0).then(1).otherwise(pl.col("_moved")).cast(pl.Int32)
    fixes = {"LBDY": shifted, "LBSTRESN": pl.when("_lost").then(None).otherwise(pl.col("LBSTRESN") * 2)}
    return _with_corrections(rows, fixes, rng).drop("_moved", "_lost")


def _events(ids: list[str], end: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    who = rng.integers(0, len(ids) - 2, 4 * len(ids))  # two subjects without any event
    start = day(rng.integers(-5, 70, len(who)))
    length = rng.integers(0, 30, len(who))
    rows = pl.DataFrame(
        {
            "USUBJID": [ids[i] for i in who],
            "AESTDY": start,
            "_len": length,
            "AEDECOD": rng.choice(["RASH", "NAUSEA", "Headache", ""], len(who)),
            "AESEV": rng.choice(["MILD", "MODERATE", "SEVERE"], len(who)),
            "AEREL": rng.choice(["NONE", "PROBABLE"], len(who)),
            "AEOUT": np.where(length < 20, "RECOVERED/RESOLVED", "NOT RECOVERED/NOT RESOLVED"),
            "AEBODSYS": rng.choice(["SKIN AND SUBCUTANEOUS TISSUE DISORDERS", "GENERAL DISORDERS"], len(who)),
        }
    )
    known = day(np.where(start > 0, start - 1, start) + rng.integers(0, 15, len(who)))
    rows = rows.with_columns(
        KNOWNDY=pl.Series(known),
        AEENDY=pl.when(pl.col("_len") < 20)
        .then(pl.when(pl.col("AESTDY") + pl.col("_len") == 0).then(1).otherwise(pl.col("AESTDY") + pl.col("_len")))
        .cast(pl.Int32),
    ).drop("_len")
    moved = pl.when(pl.col("AESTDY") == -3).then(1).otherwise(pl.col("AESTDY") + 3).cast(pl.Int32)
    fixes = {"AESEV": pl.lit("MODERATE"), "AEDECOD": pl.lit("RASH"), "AESTDY": moved}
    return _with_corrections(_numbered(rows, "AESEQ"), fixes, rng)


def _medication(visits: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    rows = _numbered(visits, "CMSEQ")
    return rows.select(
        "USUBJID",
        "CMSEQ",
        KNOWNDY="_day",
        CMDECOD=pl.Series(rng.choice(["ASPIRIN", "UNCODED"], rows.height)),
        CMDOSE=pl.Series(rng.choice([1.0, 2.0], rows.height)),
        CMDOSU=pl.lit("mg"),
        CMDOSFRQ=pl.lit("QD"),
        CMROUTE=pl.lit("ORAL"),
        CMSTDY=pl.when(pl.col("_day") > 1).then("_day").cast(pl.Int32),
        CMENDY=pl.when((pl.col("_day") > 1) & (pl.col("CMSEQ") % 2 == 0)).then(pl.col("_day") + 20).cast(pl.Int32),
    )


def _exposure(ids: list[str], end: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    n = len(ids)
    pause = rng.integers(0, 6, n)
    first = pl.DataFrame({"USUBJID": ids, "EXSEQ": 1, "EXSTDY": np.full(n, 1), "EXENDY": np.minimum(14, end)})
    second = pl.DataFrame({"USUBJID": ids, "EXSEQ": 2, "EXSTDY": 15 + pause, "EXENDY": end}).filter(
        pl.col("EXENDY") >= pl.col("EXSTDY")
    )
    rows = pl.concat([first, second]).with_columns(pl.col("EXSTDY", "EXENDY").cast(pl.Int32), EXTRT=pl.lit("X"))
    rows = rows.with_columns(KNOWNDY=pl.col("EXSTDY"), EXSEQ=pl.col("EXSEQ").cast(pl.Int64))
    return _with_corrections(rows, {"EXENDY": pl.col("EXENDY") - 2}, rng)


def _disposition(ids: list[str], end: np.ndarray, screened: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    term = np.where(screened, "SCREEN FAILURE", rng.choice(["COMPLETED", "ADVERSE EVENT"], len(ids)))
    last = pl.DataFrame({"USUBJID": ids, "DSSEQ": 2, "DSDECOD": term, "DSCAT": "DISPOSITION EVENT", "DSSTDY": end})
    begun = pl.DataFrame({"USUBJID": [i for i, s in zip(ids, screened, strict=True) if not s]}).with_columns(
        DSSEQ=pl.lit(1), DSDECOD=pl.lit("RANDOMIZED"), DSCAT=pl.lit("PROTOCOL MILESTONE"), DSSTDY=pl.lit(1)
    )
    rows = pl.concat([last, begun], how="vertical_relaxed")
    return rows.with_columns(pl.col("DSSTDY").cast(pl.Int32), DSSEQ=pl.col("DSSEQ").cast(pl.Int64)).with_columns(
        KNOWNDY=pl.col("DSSTDY")
    )
