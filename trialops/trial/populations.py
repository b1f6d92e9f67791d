"""Who was randomised, who was treated and when, who failed screening: one row per subject, without the arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.tables import TrialTables

SCREEN_FAILURE = ("SCRNFAIL", "SCRNFAILURE", "SCREENFAIL", "SCREEN FAILURE")
"""ARMCD of a screen failure, upper case. SDTMIG 3.3 says SCRNFAIL; since SDTMIG 3.4 ARMNRS says it in words."""

NOT_ASSIGNED = ("NOTASSGN", "NOT ASSIGNED", "NOTASSIGNED")
"""ARMCD of a subject who passed screening and was given no arm (SDTMIG 3.3)."""


def populations(trial: TrialTables) -> pl.DataFrame:
    """The populations every table of the trial stands on.

    Randomised: ARMCD is there and says neither screen failure nor not assigned. Screen failure: ARMCD, or without one
    ARMNRS, says so. Treated: an EX row that has a dose (0 for a placebo too) or a start; a row that says it was not
    done (EXOCCUR N, EXSTAT NOT DONE) is none. First and last dose: the earliest EXSTDTC and the latest EXENDTC (else
    EXSTDTC) that name exactly one day; where EX has none, RFXSTDTC and RFXENDTC of DM. A subject whose exposure goes
    on at the cut (a row with a start and no end that begins no earlier than any other row ends) has no last dose.

    Args:
        trial: The delivery, cut or not.

    Returns:
        One row per subject of DM, sorted: USUBJID, ``randomised``, ``treated``, ``screen_failure`` (bool),
        ``first_dose``, ``last_dose`` (Date; null when not treated, not known, or going on).
    """
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    dm = trial.table("DM")
    code = pl.col("ARMCD").str.strip_chars().str.to_uppercase() if "ARMCD" in dm.columns else pl.lit("")
    reason = pl.col("ARMNRS").str.strip_chars().str.to_uppercase() if "ARMNRS" in dm.columns else pl.lit("")
    code, reason = code.fill_null(""), reason.fill_null("")
    failed = code.is_in(SCREEN_FAILURE) | ((code == "") & reason.is_in(SCREEN_FAILURE))
    subjects = dm.select(
        "USUBJID",
        randomised=(code != "") & ~code.is_in(SCREEN_FAILURE + NOT_ASSIGNED),
        screen_failure=failed,
        _start=exact_day("RFXSTDTC") if "RFXSTDTC" in dm.columns else pl.lit(None, pl.Date),
        _end=exact_day("RFXENDTC") if "RFXENDTC" in dm.columns else pl.lit(None, pl.Date),
    ).unique("USUBJID", keep="last")
    joined = subjects.join(_exposed(trial), on="USUBJID", how="left").with_columns(
        treated=pl.col("treated").fill_null(False), open=pl.col("open").fill_null(False)
    )
    treated = pl.col("treated")
    return joined.select(
        "USUBJID",
        "randomised",
        "treated",
        "screen_failure",
        first_dose=pl.when(treated).then(pl.coalesce("first", "_start")),
        last_dose=pl.when(treated & ~pl.col("open")).then(pl.coalesce("last", "_end")),
    ).sort("USUBJID")


def _exposed(trial: TrialTables) -> pl.DataFrame:
    """Per treated subject: ``treated``, ``first`` and ``last`` exact day, and whether exposure is ``open``."""
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    schema = {"USUBJID": pl.String, "treated": pl.Boolean, "first": pl.Date, "last": pl.Date, "open": pl.Boolean}
    ex = trial.get("EX")
    if ex is None or ex.is_empty():
        return pl.DataFrame(schema=schema)
    nothing: pl.Expr = pl.lit(None, pl.Date)
    start = exact_day("EXSTDTC") if "EXSTDTC" in ex.columns else nothing
    end = exact_day("EXENDTC") if "EXENDTC" in ex.columns else nothing
    ended = _filled("EXENDTC") if "EXENDTC" in ex.columns else pl.lit(True)
    begun = _filled("EXSTDTC") if "EXSTDTC" in ex.columns else pl.lit(False)
    given = begun | (pl.col("EXDOSE").is_not_null() if "EXDOSE" in ex.columns else pl.lit(False))
    for column, no in (("EXOCCUR", "N"), ("EXSTAT", "NOT DONE")):
        if column in ex.columns:
            given &= pl.col(column).str.to_uppercase().ne_missing(no)
    rows = ex.filter(given).select("USUBJID", start=start, end=end, ended=ended)
    latest = pl.max_horizontal(pl.col("start").max(), pl.col("end").max())
    going = pl.col("start").filter(~pl.col("ended")).max()
    return rows.group_by("USUBJID").agg(
        treated=pl.lit(True),
        first=pl.col("start").min(),
        last=latest,
        open=(going >= latest).fill_null(False),
    )


def _filled(column: str) -> pl.Expr:
    import polars as pl

    return pl.col(column).str.strip_chars().fill_null("") != ""
