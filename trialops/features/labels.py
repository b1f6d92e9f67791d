"""Who is predicted and what happened to them: population at the landmark, label and the flow of subjects.

A subject enters when the outcome window has passed for them at the data cut, whatever happened. In a running trial
those who leave early have their outcome early; to take them in and the others not would learn from leavers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features import study_time
from trialops.intake.domains import current_rows
from trialops.intake.facts import randomised_subjects

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.task import Task

#: Study day of the data cut, per subject; a column of the clean DM.
CUT = "CUTDY"
#: Reasons for leaving a subject out, in the order they are applied.
NOT_RANDOMISED = "not randomised"
NOT_TREATED = "not treated"
WINDOW_OPEN = "outcome window still open"
LEFT_EARLY = "disposition on or before the landmark"
OFF_TREATMENT = "study treatment ended before the landmark"
NOT_RECORDED = "outcome not recorded"
REASONS = (NOT_RANDOMISED, NOT_TREATED, WINDOW_OPEN, LEFT_EARLY, OFF_TREATMENT, NOT_RECORDED)


def label(tables: Mapping[str, pl.DataFrame], task: Task) -> pl.DataFrame:
    """Label every subject of a trial for a task.

    At risk at the landmark is a randomised and treated subject whose disposition comes after the landmark day
    and, where the task asks for subjects on treatment, whose last known exposure does not end before it (an
    exposure without end date goes on). The label is 1 when the first disposition event, other than
    completion, falls in (landmark, horizon]; no horizon means any later day.

    A subject's window has passed when the data cut (`CUTDY`) is on or after `task.settled_day`. Where every randomised
    subject has a disposition nothing is open: nobody is followed any more.

    Args:
        tables: Clean DM (with `CUTDY` unless the trial is over), DS and EX; with a horizon also SV, to know who has
            been followed that long.
        task: The task: landmark, outcome window, population, label, age bands.

    Returns:
        One row per subject of DM, sorted: subject_id, site_id (str), landmark_day (Int32), event_timestamp
        (datetime us UTC), label (Int8, null when excluded), excluded (str, null for subjects in the set),
        group_sex, group_age_band, group_race (str).

    Raises:
        TrialOpsError: A table is absent, an age band cannot be read, or the trial runs and nothing tells when the
            data were cut.
    """
    import polars as pl

    for name in ("DM", "DS", "EX"):
        if name not in tables:
            raise TrialOpsError(
                "Labels need demographics, disposition and exposure.",
                where=f"table {name}",
                fix="Pass it too.",
            )
    landmark, horizon = task.landmark_day, task.horizon_day
    completed = [term.upper() for term in task.label.completed_terms]

    dm = current_rows("DM", tables["DM"]).unique("USUBJID", keep="last", maintain_order=True)
    ds = current_rows("DS", tables["DS"]).with_columns(_upper("DSDECOD"), _upper("DSCAT"))
    randomised = randomised_subjects(dm, ds)
    flow = (
        dm.select("USUBJID", "SITEID", "SEX", _column(dm, "RACE"), "AGE", _column(dm, CUT).cast(pl.Int32))
        .with_columns(_randomised=pl.col("USUBJID").is_in(randomised.implode()))
        .join(_disposition(ds, task.label.category), on="USUBJID", how="left")
        .join(_exposure(tables["EX"]), on="USUBJID", how="left")
        .join(_followed(tables), on="USUBJID", how="left")
    )
    left = pl.col("_left")
    out = {
        NOT_RANDOMISED: ~pl.col("_randomised") if task.population.randomised else pl.lit(False),
        NOT_TREATED: pl.col("_treated").is_null(),
        LEFT_EARLY: (left <= landmark).fill_null(False),
        OFF_TREATMENT: (pl.col("_last_dose") < landmark).fill_null(False)
        if task.population.on_treatment_at_landmark
        else pl.lit(False),
    }
    # Those whose exposure is not entered yet count too: a trial is not over because its EX lags behind its DS.
    begun = ~out[NOT_RANDOMISED] if task.population.randomised else ~out[NOT_TREATED]
    over = flow.filter(begun)["_left"].null_count() == 0
    out[WINDOW_OPEN] = pl.lit(False) if over else _open(dm, task)
    out[NOT_RECORDED] = left.is_null()
    stopped = (left > landmark) & ~pl.col("_term").is_in(completed)
    if horizon is not None:
        out[NOT_RECORDED] &= (pl.col("_seen") < horizon).fill_null(True)
        stopped &= left <= horizon
    excluded = pl.coalesce(pl.when(out[reason]).then(pl.lit(reason)) for reason in REASONS)
    flow = flow.with_columns(excluded=excluded)
    return flow.select(
        pl.col("USUBJID").cast(pl.String).alias("subject_id"),
        pl.col("SITEID").cast(pl.String).alias("site_id"),
        pl.lit(landmark, pl.Int32).alias("landmark_day"),
        pl.lit(study_time.timestamp_of(landmark)).cast(pl.Datetime("us", "UTC")).alias("event_timestamp"),
        pl.when(pl.col("excluded").is_null()).then(stopped.fill_null(False).cast(pl.Int8)).alias("label"),
        "excluded",
        _group("SEX").alias("group_sex"),
        age_band(pl.col("AGE"), task.groups.get("age_band", ())).alias("group_age_band"),
        _group("RACE").alias("group_race"),
    ).sort("subject_id")


def attrition(labels: pl.DataFrame) -> pl.DataFrame:
    """The flow of subjects, one row per step: step, subjects, left (out at this step), reason.

    The counts reconcile by construction of the reasons, and that is checked.

    Raises:
        TrialOpsError: The counts do not add up to the subjects screened.
    """
    import polars as pl

    counts = dict(labels.group_by("excluded").len().iter_rows())
    steps = (
        ("screened", None),
        ("randomised", NOT_RANDOMISED),
        ("treated", NOT_TREATED),
        ("outcome window passed at the data cut", WINDOW_OPEN),
        ("in the trial at the landmark", LEFT_EARLY),
        ("on treatment at the landmark", OFF_TREATMENT),
        ("in the training set", NOT_RECORDED),
    )
    remaining, rows = labels.height, []
    for step, reason in steps:
        gone = counts.get(reason, 0) if reason else 0
        remaining -= gone
        rows.append({"step": step, "subjects": remaining, "left": gone, "reason": reason})
    if remaining != counts.get(None, 0):
        raise TrialOpsError(
            "The flow of subjects does not add up.",
            where="labels",
            fix="Use the reasons of trialops.features.labels.",
        )
    return pl.DataFrame(rows, schema={"step": pl.String, "subjects": pl.Int64, "left": pl.Int64, "reason": pl.String})


def age_band(age: pl.Expr, bands: Sequence[str]) -> pl.Expr:
    """Band of an age in whole years: "<65", "65-74", "75+" or ">80"; null when none holds it.

    Raises:
        TrialOpsError: A band cannot be read.
    """
    import polars as pl

    years = age.cast(pl.Float64, strict=False).floor()
    found: list[pl.Expr] = [pl.lit(None, pl.String)]
    for band in bands:
        match = re.fullmatch(r"(?:(?P<op>[<>])(?P<limit>\d+)|(?P<low>\d+)-(?P<high>\d+)|(?P<least>\d+)\+)", band)
        if not match:
            raise TrialOpsError(
                f"The age band {band} cannot be read.",
                where="groups, age_band",
                fix='Write "<65", "65-74", "75+" or ">80".',
            )
        if match["op"]:
            inside = years < int(match["limit"]) if match["op"] == "<" else years > int(match["limit"])
        elif match["least"]:
            inside = years >= int(match["least"])
        else:
            inside = years.is_between(int(match["low"]), int(match["high"]))
        found.append(pl.when(inside).then(pl.lit(band)))
    return pl.coalesce(found)


def _column(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A column the standard lets a study leave out; null where it is not there."""
    import polars as pl

    return pl.col(name) if name in frame.columns else pl.lit(None, pl.String).alias(name)


def _upper(column: str) -> pl.Expr:
    import polars as pl

    return pl.col(column).cast(pl.String).str.strip_chars().str.to_uppercase()


def _group(column: str) -> pl.Expr:
    import polars as pl

    text = _upper(column)
    return pl.when(text != "").then(text)


def _open(dm: pl.DataFrame, task: Task) -> pl.Expr:
    """Whether a subject's outcome window is open at the data cut."""
    import polars as pl

    if CUT not in dm.columns:
        raise TrialOpsError(
            "The trial is running, and nothing tells when its data were cut: whose outcome is settled is not known.",
            where=f"table DM, column {CUT}",
            fix="Run de-identification again: it adds the column.",
        )
    # Null: the cut came so soon after the start, or day 1 is not known.
    return (pl.col(CUT) < task.settled_day).fill_null(True)


def _disposition(ds: pl.DataFrame, category: str) -> pl.DataFrame:
    """The first disposition event: day and term."""
    import polars as pl

    events = ds.filter((pl.col("DSCAT") == category.upper()) & pl.col("DSSTDY").is_not_null())
    return (
        events.sort("USUBJID", "DSSTDY", "DSSEQ")
        .unique("USUBJID", keep="first", maintain_order=True)
        .select("USUBJID", _left=pl.col("DSSTDY").cast(pl.Int32), _term="DSDECOD")
    )


def _exposure(ex: pl.DataFrame) -> pl.DataFrame:
    """Whether treated, and the last day of exposure; null when an exposure has no end."""
    import polars as pl

    rows = current_rows("EX", ex).select("USUBJID", end=_column(ex, "EXENDY").cast(pl.Int32))
    end = pl.col("end")
    return rows.group_by("USUBJID").agg(
        pl.lit(True).alias("_treated"), pl.when(~end.is_null().any()).then(end.max()).alias("_last_dose")
    )


def _followed(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Day of the last visit."""
    import polars as pl

    if "SV" not in tables:
        return pl.DataFrame(schema={"USUBJID": pl.String, "_seen": pl.Int32})
    visits = current_rows("SV", tables["SV"])
    return visits.group_by("USUBJID").agg(pl.col("SVSTDY").cast(pl.Int32).max().alias("_seen"))
