"""QTc by Fridericia's formula, and the categories of ICH E14.

QTcF = QT / RR^(1/3), QT in ms and RR in s (Fridericia LS, Acta Med Scand 1920;53:469). Where only a heart rate was
recorded, RR = 60 / heart rate in beats per minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.grading_policy import GradingPolicy
    from trialops.trial.tables import TrialTables

GIVEN = ("QTCF", "QTCFAG")
"""EGTESTCD of a corrected interval that was delivered (single beat or aggregate)."""

QT, RR, RATE = ("QT", "QTAG"), ("RR", "RRAG"), ("HR", "EGHRMN", "HRAG")
DELIVERED, FROM_RR, FROM_RATE = "delivered", "from QT and RR", "from QT and heart rate"
DISAGREE = "RR and heart rate contradict each other"


def fridericia(qt: pl.Expr, rr: pl.Expr) -> pl.Expr:
    """QTcF in ms.

    Args:
        qt: QT interval in ms.
        rr: RR interval in ms; null and not positive give null.
    """
    import polars as pl

    return pl.when((rr > 0) & (qt > 0)).then(qt / (rr / 1000.0).cbrt())


def qtc_results(trial: TrialTables, policy: GradingPolicy) -> pl.DataFrame:
    """QTcF of every recording, with its baseline and period, in the form the grading engine takes.

    A delivered QTcF is used; else it is computed from QT and RR of the same recording, or QT and heart rate. Where RR
    and heart rate of a recording contradict each other nothing is computed: it is not known which of them is wrong.
    Replicates at one time point are averaged, and the mean rounded to whole ms.

    Args:
        trial: The delivery.
        policy: grading.yaml.

    Returns:
        One row per subject, time and position: the columns of :func:`trialops.safety.results.results`, SEQ of the QT
        (or QTcF) row; REMARK: where the number comes from, or why there is none.
    """
    import polars as pl

    from trialops.safety.results import with_baseline

    wide = _recordings(trial)
    # One interval of a whole cycle: what the rate says where RR was not measured.
    rr = pl.coalesce("rr", 60_000.0 / pl.when(pl.col("rate") > 0).then("rate"))
    computed = fridericia(pl.col("qt"), rr)
    source = (
        pl.when(pl.col("given").is_not_null())
        .then(pl.lit(DELIVERED))
        .when(computed.is_null())
        .then(pl.lit(""))
        .when(pl.col("rr").is_not_null())
        .then(pl.lit(FROM_RR))
        .otherwise(pl.lit(FROM_RATE))
    )
    off = ((pl.col("rr") * pl.col("rate") / 60_000.0 - 1.0).abs() > policy.rate_disagreement).fill_null(False)
    contradicted = off & (source == FROM_RR)
    remark = pl.when(contradicted).then(pl.lit(DISAGREE)).otherwise(source)
    value = pl.when(~contradicted).then(pl.coalesce("given", computed))
    key = ["USUBJID", "DTC", "SERIES"]
    beats = wide.with_columns(value=value, REMARK=remark).filter(pl.col("REMARK") != "")
    averaged = (
        beats.sort(*key, "SEQ")
        .group_by(key, maintain_order=True)
        .agg(
            VALUE=pl.col("value").mean().round(0),
            SEQ=pl.col("SEQ").first(),
            REMARK=pl.coalesce(
                pl.col("REMARK").filter(pl.col("value").is_not_null()).first(), pl.col("REMARK").first()
            ),
            BLFL=pl.col("BLFL").max(),
            LOBXFL=pl.col("LOBXFL").max(),
        )
        .with_columns(
            TEST=pl.lit("QTCF"),
            LOINC=pl.lit(None, pl.String),
            UNIT=pl.lit("ms"),
            SIGN=pl.lit(""),
            SPECIMEN=pl.lit("blood"),
            FASTING=pl.lit(None, pl.Boolean),
            NRIND=pl.lit(None, pl.String),
            **{name: pl.lit(None, pl.Float64) for name in ("LLN", "ULN")},
        )
    )
    return with_baseline(averaged, trial, policy)


def _recordings(trial: TrialTables) -> pl.DataFrame:
    """One row per recording: given, qt and rr in ms, rate per minute; SEQ and baseline flags of what is used."""
    import polars as pl

    schema = dict.fromkeys(("USUBJID", "DTC", "SERIES", "BLFL", "LOBXFL"), pl.String) | dict.fromkeys(
        ("SEQ", "given", "qt", "rr", "rate"), pl.Float64
    )
    eg = trial.get("EG")
    if eg is None or not {"EGTESTCD", "EGSTRESN", "EGDTC"} <= set(eg.columns):
        return pl.DataFrame(schema=schema)
    there = set(eg.columns)
    unit = pl.col("EGSTRESU").str.to_lowercase().fill_null("") if "EGSTRESU" in there else pl.lit("")
    scale = pl.when(unit.is_in(["s", "sec", "seconds"])).then(1000.0).otherwise(1.0)
    test = pl.col("EGTESTCD").str.strip_chars().str.to_uppercase()
    what = (
        (pl.when(test.is_in(GIVEN)).then(pl.lit("given")).when(test.is_in(QT)).then(pl.lit("qt")))
        .when(test.is_in(RR))
        .then(pl.lit("rr"))
        .when(test.is_in(RATE))
        .then(pl.lit("rate"))
    )
    number = pl.col("EGSTRESN").cast(pl.Float64, strict=False)
    apart = [c for c in ("EGPOS", "EGTPTNUM", "EGMETHOD") if c in there]
    replicate = pl.col("EGREPNUM").cast(pl.String).fill_null("") if "EGREPNUM" in there else pl.lit("")

    def text(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.String) if column in there else pl.lit(None, pl.String)

    long = eg.select(
        "USUBJID",
        DTC=pl.col("EGDTC").cast(pl.String),
        SERIES=pl.concat_str([pl.col(c).cast(pl.String).fill_null("") for c in apart] or [pl.lit("")], separator="|"),
        replicate=replicate,
        what=what,
        number=pl.when(what == "rate").then(number).otherwise(number * scale),
        SEQ=pl.col("EGSEQ").cast(pl.Float64, strict=False),
        BLFL=text("EGBLFL"),
        LOBXFL=text("EGLOBXFL"),
    ).filter(pl.col("what").is_not_null() & pl.col("number").is_not_null())
    main = pl.col("what").is_in(["given", "qt"])
    kinds = ("given", "qt", "rr", "rate")
    return long.group_by("USUBJID", "DTC", "SERIES", "replicate").agg(
        SEQ=pl.col("SEQ").filter(main).min(),
        BLFL=pl.col("BLFL").filter(main).max(),
        LOBXFL=pl.col("LOBXFL").filter(main).max(),
        **{kind: pl.col("number").filter(pl.col("what") == kind).first() for kind in kinds},
    )


def e14_categories(qtc: pl.DataFrame, policy: GradingPolicy) -> pl.DataFrame:
    """Subjects by their longest QTcF and their largest increase under treatment.

    Args:
        qtc: Output of :func:`qtc_results`.
        policy: Limits in ms.

    Returns:
        One row per category: ``category``, ``subjects``, ``of`` (subjects with a value under treatment; for increases
        with a baseline too). Categories are cumulative: above 450 ms counts those above 480 ms as well.
    """
    import polars as pl

    from trialops.safety.results import ON

    on = qtc.filter((pl.col("PERIOD") == ON) & ~pl.col("AT_BASELINE") & pl.col("VALUE").is_not_null())
    worst = on.group_by("USUBJID").agg(longest=pl.col("VALUE").max(), increase=(pl.col("VALUE") - pl.col("BASE")).max())
    compared = worst.drop_nulls("increase").height
    rows = [
        (f"QTcF > {limit} ms", worst.filter(pl.col("longest") > limit).height, worst.height)
        for limit in policy.qtc_absolute
    ]
    rows += [
        (f"increase > {limit} ms", worst.filter(pl.col("increase") > limit).height, compared)
        for limit in policy.qtc_increase
    ]
    return pl.DataFrame(rows, schema={"category": pl.String, "subjects": pl.Int64, "of": pl.Int64}, orient="row")
