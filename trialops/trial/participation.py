"""How long each randomised subject takes part, and how it ended: what retention, exposure to risk and lags stand on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trialops.trial.populations import populations
from trialops.trial.tables import cut_at

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from trialops.trial.tables import TrialTables

COMPLETED = "COMPLETED"
RANDOMISED = ("RANDOMIZED", "RANDOMISED")
FAILED = "SCREEN FAILURE"
NO_SITE = "(none)"


def participation(trial: TrialTables, day: date) -> pl.DataFrame:
    """Site, course and end of participation of every subject who had been screened by a day, as known on that day.

    Randomisation is the protocol milestone of DS, else RFSTDTC, else the first dose; who was randomised later is not
    randomised yet, although DM names an arm. The end is the disposition event of DS (of the study, where DSSCAT tells
    study and treatment apart; the last where there are several), its date DSSTDTC, else RFENDTC, else RFPENDTC.
    ``last`` is the later of it and the end of participation (RFPENDTC), at most the cut: adverse events are collected
    up to there. A subject who left after the cut still takes part.

    Args:
        trial: The tables, not cut: a cut one no longer tells who was randomised after it.
        day: The data cut.

    Returns:
        One row per subject, sorted: USUBJID, SITEID, ``randomised``, ``screen_failure`` (bool), ``start``, ``end``,
        ``last`` (Date), ``reason`` (DSDECOD; null while the subject takes part), ``ongoing`` (bool). Dates and reason
        are null for who was not randomised; ``start`` also where no date tells, ``end`` while the subject takes part.
    """
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    dm = trial.table("DM").unique("USUBJID", keep="last")
    screened = cut_at(replace(trial, tables={"DM": dm}), day).table("DM").select("USUBJID")

    def dated(name: str) -> pl.Expr:
        return exact_day(name) if name in dm.columns else pl.lit(None, pl.Date)

    subjects = dm.select(
        "USUBJID",
        SITEID=pl.col("SITEID").fill_null(NO_SITE) if "SITEID" in dm.columns else pl.lit(NO_SITE),
        reference=dated("RFSTDTC"),
        treated_until=dated("RFENDTC"),
        took_part_until=dated("RFPENDTC"),
    ).join(screened, on="USUBJID", how="semi")
    known = populations(trial).select("USUBJID", "randomised", "screen_failure", "first_dose")
    joined = subjects.join(known, on="USUBJID", how="left").join(_disposition(trial), on="USUBJID", how="left")
    joined = joined.with_columns(
        start=pl.coalesce("randomised_on", "reference", "first_dose"),
        end=pl.when(pl.col("reason").is_not_null()).then(pl.coalesce("left_on", "treated_until", "took_part_until")),
    )
    inside = pl.col("randomised") & (pl.col("start") <= day).fill_null(True)
    left = pl.col("reason").is_not_null() & (pl.col("end") <= day).fill_null(True)
    until = pl.min_horizontal(pl.max_horizontal("end", "took_part_until"), pl.lit(day))
    return joined.select(
        "USUBJID",
        "SITEID",
        randomised=inside,
        screen_failure=pl.col("screen_failure") & (pl.col("failed_on") <= day).fill_null(True),
        start=pl.when(inside).then("start"),
        end=pl.when(inside & left).then("end"),
        last=pl.when(inside).then(pl.when(left).then(until).otherwise(pl.lit(day))),
        reason=pl.when(inside & left).then("reason"),
        ongoing=inside & ~left,
    ).sort("USUBJID")


def _disposition(trial: TrialTables) -> pl.DataFrame:
    """Per subject: ``randomised_on``, ``failed_on`` (screening), ``reason`` and ``left_on``."""
    import polars as pl

    from trialops.intake.partial_dates import earliest, exact_day

    days = ("randomised_on", "failed_on", "left_on")
    schema = {"USUBJID": pl.String, **dict.fromkeys(days, pl.Date), "reason": pl.String}
    ds = trial.get("DS")
    if ds is None or ds.is_empty():
        return pl.DataFrame(schema=schema)
    term = pl.col("DSDECOD").str.strip_chars().str.to_uppercase()
    upper = ds.with_columns(
        term=term,
        on=exact_day("DSSTDTC"),
        about=earliest("DSSTDTC"),
        group=_upper(ds, "DSCAT"),
        part=_upper(ds, "DSSCAT"),
    )
    term_is = pl.col("term")
    milestones = upper.group_by("USUBJID").agg(
        randomised_on=pl.col("on").filter(term_is.is_in(RANDOMISED)).min(),
        failed_on=pl.col("on").filter(term_is == FAILED).min(),
    )
    # Without categories everything that is no protocol milestone of the beginning is a disposition.
    event = pl.col("group") == "DISPOSITION EVENT"
    begun = term_is.is_in([*RANDOMISED, "INFORMED CONSENT OBTAINED"])
    ends = upper.filter(pl.when((pl.col("group") != "").any()).then(event).otherwise(~begun))
    ends = ends.filter(term_is != FAILED)
    of_study = pl.col("part").str.contains("STUDY PARTICIPATION|^STUDY$|END OF STUDY")
    of_treatment = pl.col("part").str.contains("TREATMENT")
    ends = ends.filter(pl.when(of_study.any()).then(of_study).otherwise(~of_treatment | ~(~of_treatment).any()))
    last = (
        ends.sort("USUBJID", "about", "DSSEQ" if "DSSEQ" in ends.columns else "term", nulls_last=False)
        .group_by("USUBJID", maintain_order=True)
        .agg(reason=pl.col("term").last(), left_on=pl.col("on").last())
    )
    return milestones.join(last, on="USUBJID", how="left")


def _upper(frame: pl.DataFrame, column: str) -> pl.Expr:
    import polars as pl

    there = pl.col(column).str.strip_chars().str.to_uppercase() if column in frame.columns else pl.lit("")
    return there.fill_null("")
