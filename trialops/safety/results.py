"""Results of a trial as the grading engine takes them: as collected, with their baseline and their period.

The original result in its original unit with its original range is preferred: CTCAE prints its limits in both unit
systems, rounded differently, and the system a laboratory reports in is the one its result is judged by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.grading_policy import GradingPolicy
    from trialops.trial.tables import TrialTables

BEFORE, ON, FOLLOW_UP, UNDATED = "before treatment", "on treatment", "follow-up", "undated"
PERIODS = (BEFORE, ON, FOLLOW_UP, UNDATED)
CORRECTED, UNCORRECTED = "corrected for albumin", "not corrected for albumin: none in the sample"

TEXT = ("TESTCD", "ORRES", "ORRESU", "STRESU", "NRIND", "BLFL", "LOBXFL", "STAT", "SPEC", "CAT", "LOINC", "FAST", "DTC")
NUMBERS = ("SEQ", "ORNRLO", "ORNRHI", "STRESN", "STNRLO", "STNRHI")
APART = ("SPEC", "POS", "TPTNUM", "REPNUM")
"""Ends of the columns that keep series of results of one test apart: each has a baseline of its own."""


def results(trial: TrialTables, domain: str, policy: GradingPolicy) -> pl.DataFrame:
    """A findings domain in the form of :data:`trialops.safety.ctcae.INPUTS`, with who, when and against what.

    Baseline: the flagged result (--LOBXFL, else --BLFL; the last where several are), else the last one with a number on
    or before the day of the first dose. Whether it was abnormal is what its own --NRIND says, else its own range.

    Args:
        trial: The delivery.
        domain: "LB" or "VS"; for "EG" see :func:`trialops.safety.ecg.qtc_results`.
        policy: grading.yaml.

    Returns:
        One row per row of the domain, in its order: USUBJID, SEQ, DAY (Date), DTC, SERIES, IS_BASELINE, PERIOD, NRIND,
        REMARK (what was done to the number), and the columns of ``INPUTS``.
    """
    import polars as pl

    frame = trial.get(domain)
    if frame is None:
        frame = pl.DataFrame(schema={"USUBJID": pl.String})
    there = set(frame.columns)
    columns = {
        **{name: pl.col(f"{domain}{name}").cast(pl.String) for name in TEXT if f"{domain}{name}" in there},
        **{name: _number(f"{domain}{name}") for name in NUMBERS if f"{domain}{name}" in there},
    }
    plain = frame.select(
        "USUBJID",
        *(columns.get(name, pl.lit(None, pl.String)).alias(name) for name in TEXT),
        *(columns.get(name, pl.lit(None, pl.Float64)).alias(name) for name in NUMBERS),
        SERIES=pl.concat_str(
            [pl.col(f"{domain}{e}").cast(pl.String).fill_null("") for e in APART if f"{domain}{e}" in there]
            or [pl.lit("")],
            separator="|",
        ),
    )
    collected = _collected(plain).with_columns(
        SPECIMEN=_specimen(policy) if domain == "LB" else pl.lit("blood"),
        FASTING=pl.col("FAST").str.to_uppercase().replace_strict({"Y": True, "N": False}, default=None),
        REMARK=pl.lit(""),
    )
    if domain == "LB" and policy.correct_calcium:
        collected = _corrected_calcium(collected, policy)
    return with_baseline(collected, trial, policy)


def with_baseline(frame: pl.DataFrame, trial: TrialTables, policy: GradingPolicy) -> pl.DataFrame:
    """Add the day, the period, the baseline and what it was to results that are otherwise complete.

    Args:
        frame: USUBJID, TEST, SERIES, DTC, VALUE, UNIT, ULN, NRIND, BLFL, LOBXFL and more.
        trial: For doses.
        policy: For the days after the last dose.
    """
    import polars as pl

    from trialops.intake.partial_dates import earliest
    from trialops.trial.populations import populations

    key = ["USUBJID", "TEST", "SERIES"]
    doses = populations(trial).select("USUBJID", "first_dose", "last_dose")
    frame = frame.join(doses, on="USUBJID", how="left", maintain_order="left").with_columns(DAY=earliest("DTC"))
    day, first = pl.col("DAY"), pl.col("first_dose")
    stated = pl.col("LOBXFL").eq_missing("Y") | pl.col("BLFL").eq_missing("Y")
    usable = pl.col("VALUE").is_not_null()
    rank = (pl.when(usable & stated).then(2).when(usable & (day <= first).fill_null(False)).then(1).otherwise(0)).cast(
        pl.Int8
    )
    frame = frame.with_row_index("_row").with_columns(_rank=rank, _order=pl.col("DTC").fill_null(""))
    chosen = (
        frame.filter(pl.col("_rank") > 0)
        .sort(*key, "_rank", "_order", "_row")
        .group_by(key, maintain_order=True)
        .last()
        .select(
            *key,
            _baseline_row="_row",
            _baseline_order="_order",
            BASE="VALUE",
            BASE_UNIT="UNIT",
            BASE_HIGH=_was_high(),
        )
    )
    after = day > pl.col("last_dose") + pl.duration(days=policy.on_treatment_days)
    joined = frame.join(chosen, on=key, how="left", maintain_order="left")
    at = (pl.col("_order") <= pl.col("_baseline_order")) & (pl.col("_order") != "")
    return joined.with_columns(
        IS_BASELINE=(pl.col("_row") == pl.col("_baseline_row")).fill_null(False),
        # Without any dose everything is before treatment, and there is no change to look for.
        AT_BASELINE=at.fill_null(False)
        | (pl.col("_row") == pl.col("_baseline_row")).fill_null(False)
        | first.is_null(),
        PERIOD=pl.when(day.is_null())
        .then(pl.lit(UNDATED))
        .when(first.is_null() | (day < first) | at.fill_null(False))
        .then(pl.lit(BEFORE))
        .when(after.fill_null(False))
        .then(pl.lit(FOLLOW_UP))
        .otherwise(pl.lit(ON)),
    ).drop("_row", "_rank", "_order", "_baseline_row", "_baseline_order", "first_dose", "last_dose")


def _number(column: str) -> pl.Expr:
    import polars as pl

    return pl.col(column).cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)


def _collected(frame: pl.DataFrame) -> pl.DataFrame:
    """VALUE, SIGN, UNIT, LLN and ULN: the original ones, the standard ones where the original cannot be used."""
    import polars as pl

    text = pl.col("ORRES").str.strip_chars()
    number = text.str.extract(r"^[<>]?=?\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)$", 1).cast(pl.Float64, strict=False)
    sign = text.str.extract(r"^([<>])", 1)
    bare = pl.col("ORNRLO").is_null() & pl.col("ORNRHI").is_null()
    ranged = pl.col("STNRLO").is_not_null() | pl.col("STNRHI").is_not_null()
    standard = pl.col("STRESN").is_not_null() & (pl.col("_number").is_null() | (bare & ranged))
    frame = frame.with_columns(_number=number, _sign=sign).with_columns(_standard=standard)

    def either(original: str, other: str) -> pl.Expr:
        return pl.when("_standard").then(other).otherwise(original)

    return frame.with_columns(
        TEST=pl.col("TESTCD").str.strip_chars().str.to_uppercase(),
        VALUE=either("_number", "STRESN"),
        SIGN=pl.when(~pl.col("_standard")).then("_sign"),
        UNIT=either("ORRESU", "STRESU"),
        LLN=either("ORNRLO", "STNRLO"),
        ULN=either("ORNRHI", "STNRHI"),
    ).drop("_number", "_sign", "_standard")


def _specimen(policy: GradingPolicy) -> pl.Expr:
    """Blood, other, or nothing where neither specimen nor category tells."""
    import polars as pl

    stated = pl.col("SPEC").str.strip_chars().str.to_uppercase().fill_null("")
    category = pl.col("CAT").str.to_uppercase().fill_null("")
    return (
        pl.when(stated.is_in(policy.blood))
        .then(pl.lit("blood"))
        .when((stated != "") | category.str.contains("|".join(policy.not_blood)))
        .then(pl.lit("other"))
        .otherwise(pl.lit(""))
    )


def _was_high() -> pl.Expr:
    """Whether a baseline was above its range: its indicator, else its own upper limit; null where neither says."""
    import polars as pl

    indicator = pl.col("NRIND").str.strip_chars().str.to_uppercase()
    return (
        pl.when(indicator.str.contains("HIGH"))
        .then(pl.lit(True))
        .when(indicator.is_in(["NORMAL", "LOW", "LOW LOW"]))
        .then(pl.lit(False))
        .otherwise(pl.col("VALUE") > pl.col("ULN"))
    )


def _corrected_calcium(frame: pl.DataFrame, policy: GradingPolicy) -> pl.DataFrame:
    """Calcium with the albumin of the same sample taken into account; REMARK says what was done."""
    import polars as pl

    from trialops.standards.units import convert_column, solve

    albumin = frame.filter((pl.col("TEST") == "ALB") & (pl.col("SPECIMEN") != "other") & pl.col("VALUE").is_not_null())
    grams = convert_column(albumin["VALUE"], albumin["UNIT"], "g/L", "ALB")["value"]
    sample = ["USUBJID", "DTC"]
    albumin = albumin.select(sample).with_columns(_albumin=grams).drop_nulls().unique(sample, keep="first")
    calcium = (pl.col("TEST") == "CA") & (pl.col("SPECIMEN") != "other")
    units = frame.filter(calcium).select("UNIT").unique().to_series().fill_null("").to_list()
    slopes = {}
    for unit in units:
        for base, slope in policy.calcium_per.items():
            line = solve(base, unit, "CA")
            if not line.reason and line.rule in ("identity", "dimension"):
                slopes[unit] = slope * line.factor
                break
    per = pl.col("UNIT").fill_null("").replace_strict(slopes, default=None, return_dtype=pl.Float64)
    shift = per * (policy.albumin - pl.col("_albumin"))
    exact = calcium & pl.col("SIGN").fill_null("").eq("") & shift.is_not_null()
    joined = frame.join(albumin, on=sample, how="left", maintain_order="left")
    return joined.with_columns(
        VALUE=pl.when(exact).then((pl.col("VALUE") + shift).round_sig_figs(12)).otherwise("VALUE"),
        REMARK=pl.when(exact)
        .then(pl.lit(CORRECTED))
        .when(calcium & pl.col("VALUE").is_not_null())
        .then(pl.lit(UNCORRECTED))
        .otherwise("REMARK"),
    ).drop("_albumin")
