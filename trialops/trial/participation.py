"""How long each randomised subject takes part, and how it ended: what retention, exposure to risk and lags stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.trial.populations import populations

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from trialops.trial.tables import TrialTables

COMPLETED = "COMPLETED"
RANDOMISED = ("RANDOMIZED", "RANDOMISED")
NO_SITE = "(none)"


def participation(trial: TrialTables, day: date) -> pl.DataFrame:
    """Site, course and end of participation of every subject.

    Randomisation is the protocol milestone of DS, else RFSTDTC, else the first dose. The end is the disposition event
    of DS (of the study, where DSSCAT tells study and treatment apart; the last where there are several), its date
    DSSTDTC, else RFENDTC, else RFPENDTC. ``last`` is the later of it and the end of participation (RFPENDTC): adverse
    events are collected up to there. Of a subject who still takes part it is the cut.

    Args:
        trial: The tables, cut at ``day``.
        day: The data cut.

    Returns:
        One row per subject of DM, sorted: USUBJID, SITEID, ``randomised``, ``screen_failure`` (bool), ``start``,
        ``end``, ``last`` (Date), ``reason`` (DSDECOD; null while the subject takes part), ``ongoing`` (bool). Dates and
        reason are null for who was not randomised.
    """
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    dm = trial.table("DM")

    def dated(name: str) -> pl.Expr:
        return exact_day(name) if name in dm.columns else pl.lit(None, pl.Date)

    subjects = dm.unique("USUBJID", keep="last").select(
        "USUBJID",
        SITEID=pl.col("SITEID").fill_null(NO_SITE) if "SITEID" in dm.columns else pl.lit(NO_SITE),
        reference=dated("RFSTDTC"),
        treated_until=dated("RFENDTC"),
        took_part_until=dated("RFPENDTC"),
    )
    known = populations(trial).select("USUBJID", "randomised", "screen_failure", "first_dose")
    joined = subjects.join(known, on="USUBJID", how="left").join(_disposition(trial), on="USUBJID", how="left")
    left = pl.col("reason").is_not_null()
    start = pl.coalesce("randomised_on", "reference", "first_dose")
    end = pl.when(left).then(pl.coalesce("left_on", "treated_until", "took_part_until"))
    last = pl.when(left).then(pl.max_horizontal("_end", "took_part_until")).otherwise(pl.lit(day))
    inside = pl.col("randomised")
    return (
        joined.with_columns(_start=start, _end=end)
        .select(
            "USUBJID",
            "SITEID",
            "randomised",
            "screen_failure",
            start=pl.when(inside).then("_start"),
            end=pl.when(inside).then("_end"),
            last=pl.when(inside).then(last),
            reason=pl.when(inside).then("reason"),
            ongoing=inside & ~left,
        )
        .sort("USUBJID")
    )


def _disposition(trial: TrialTables) -> pl.DataFrame:
    """Per subject: ``randomised_on``, ``reason`` and ``left_on``."""
    import polars as pl

    from trialops.intake.partial_dates import earliest, exact_day

    schema = {"USUBJID": pl.String, "randomised_on": pl.Date, "reason": pl.String, "left_on": pl.Date}
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
    randomised = upper.filter(pl.col("term").is_in(RANDOMISED)).group_by("USUBJID").agg(pl.col("on").min())
    # Without categories everything that is no protocol milestone of the beginning is a disposition.
    event = pl.col("group") == "DISPOSITION EVENT"
    begun = pl.col("term").is_in([*RANDOMISED, "INFORMED CONSENT OBTAINED"])
    ends = upper.filter(pl.when((pl.col("group") != "").any()).then(event).otherwise(~begun))
    ends = ends.filter(pl.col("term") != "SCREEN FAILURE")
    of_study = pl.col("part").str.contains("STUDY PARTICIPATION|^STUDY$|END OF STUDY")
    of_treatment = pl.col("part").str.contains("TREATMENT")
    ends = ends.filter(pl.when(of_study.any()).then(of_study).otherwise(~of_treatment | ~(~of_treatment).any()))
    last = (
        ends.sort("USUBJID", "about", "DSSEQ" if "DSSEQ" in ends.columns else "term", nulls_last=False)
        .group_by("USUBJID", maintain_order=True)
        .agg(reason=pl.col("term").last(), left_on=pl.col("on").last())
    )
    return randomised.rename({"on": "randomised_on"}).join(last, on="USUBJID", how="full", coalesce=True)


def _upper(frame: pl.DataFrame, column: str) -> pl.Expr:
    import polars as pl

    there = pl.col(column).str.strip_chars().str.to_uppercase() if column in frame.columns else pl.lit("")
    return there.fill_null("")
