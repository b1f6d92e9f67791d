"""Subjects as criteria see them: anchors, the day of randomisation, age and other columns of DM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.trial.eligibility_rules import ANCHORS

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.tables import TrialTables

NEVER, ALWAYS = -1_000_000, 1_000_000
"""Days before and after every day."""

YEARS = {"YEARS": 1.0, "MONTHS": 1 / 12, "WEEKS": 7 / 365.25, "DAYS": 1 / 365.25}


UNKNOWN = ("", "U", "UNKNOWN", "NOT REPORTED", "NOT DONE")


def subject_facts(trial: TrialTables) -> pl.DataFrame:
    """Every subject of DM: ``s`` (0, 1, ...), USUBJID, SITEID, ``randomised``, anchors as days, ``cap``, age, columns.

    Screening is the collection date of DM, else the first visit in SV; consent is RFICDTC; randomisation is the
    RANDOMIZED milestone of DS, else RFSTDTC of a randomised subject, else the first dose. ``cap`` is the day of
    randomisation, and ALWAYS for who is not randomised.
    """
    import polars as pl

    from trialops.intake.partial_dates import exact_day
    from trialops.trial.populations import populations

    dm = trial.table("DM").unique("USUBJID", keep="last", maintain_order=True).sort("USUBJID")

    def text(name: str) -> pl.Expr:
        return pl.col(name).cast(pl.String).str.strip_chars().str.to_uppercase() if name in dm.columns else pl.lit(None)

    def day(name: str) -> pl.Expr:
        return exact_day(name) if name in dm.columns else pl.lit(None, pl.Date)

    years = text("AGEU").fill_null("").replace_strict(YEARS, default=None, return_dtype=pl.Float64)
    age = pl.col("AGE").cast(pl.Float64, strict=False) if "AGE" in dm.columns else pl.lit(None, pl.Float64)
    frame = dm.select(
        "USUBJID",
        SITEID=pl.col("SITEID").cast(pl.String) if "SITEID" in dm.columns else pl.lit(""),
        consent=day("RFICDTC"),
        _screened=day("DMDTC"),
        _start=day("RFSTDTC"),
        age=age * years,
        **{name: text(name).cast(pl.String) for name in ("SEX", "RACE", "ETHNIC", "COUNTRY")},
    ).with_columns(
        pl.when(~pl.col(name).is_in(UNKNOWN)).then(name).alias(name) for name in ("SEX", "RACE", "ETHNIC", "COUNTRY")
    )
    people = populations(trial).select("USUBJID", "randomised", "first_dose")
    frame = frame.join(people, on="USUBJID", how="left", maintain_order="left")
    for found in (_milestone(trial), _first_visit(trial)):
        frame = frame.join(found, on="USUBJID", how="left", maintain_order="left")
    entered = pl.coalesce("_randomised", "_start", "first_dose")
    frame = frame.with_columns(
        screening=pl.coalesce("_screened", "_visit"),
        randomisation=pl.when("randomised").then(entered),
    )
    days = [pl.col(name).cast(pl.Int32).alias(name) for name in ANCHORS]
    cap = pl.col("randomisation").cast(pl.Int32).fill_null(ALWAYS).alias("cap")
    return frame.select(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("s"), "USUBJID", "SITEID", "randomised", *days, cap, "age", "SEX",
        "RACE", "ETHNIC", "COUNTRY",
    )  # fmt: skip


def _milestone(trial: TrialTables) -> pl.DataFrame:
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    ds = trial.get("DS")
    if ds is None or not {"DSDECOD", "DSSTDTC"} <= set(ds.columns):
        return pl.DataFrame(schema={"USUBJID": pl.String, "_randomised": pl.Date})
    rows = ds.filter(pl.col("DSDECOD").str.to_uppercase().str.contains(r"^RANDOMI[SZ]"))
    return rows.group_by("USUBJID").agg(exact_day("DSSTDTC").min().alias("_randomised"))


def _first_visit(trial: TrialTables) -> pl.DataFrame:
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    sv = trial.get("SV")
    if sv is None or "SVSTDTC" not in sv.columns:
        return pl.DataFrame(schema={"USUBJID": pl.String, "_visit": pl.Date})
    return sv.group_by("USUBJID").agg(exact_day("SVSTDTC").min().alias("_visit"))
