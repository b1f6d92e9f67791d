"""Who is predicted and what happened to them: population at the landmark, label and the flow of subjects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.features import study_time

if TYPE_CHECKING:
    import polars as pl

#: ARMCD of subjects who were never assigned a treatment (SDTMIG 3.4, section 5.2), in upper case.
NOT_ASSIGNED = ("SCRNFAIL", "NOTASSGN", "")
AGE_BANDS = ("<65", "65-74", "75+")
#: Reasons for leaving a subject out, in the order they are applied.
NOT_RANDOMISED = "not randomised"
NOT_TREATED = "not treated"
LEFT_EARLY = "disposition on or before the landmark"
OFF_TREATMENT = "study treatment ended before the landmark"
NOT_FOLLOWED = "outcome not known yet"
REASONS = (NOT_RANDOMISED, NOT_TREATED, LEFT_EARLY, OFF_TREATMENT, NOT_FOLLOWED)


def label(tables: Mapping[str, pl.DataFrame], task: Any) -> pl.DataFrame:
    """Label every subject of a trial for a task.

    At risk at the landmark is a randomised and treated subject whose disposition comes after the landmark day
    and, where the task asks for subjects on treatment, whose last known exposure does not end before it (an
    exposure without end date goes on). The label is 1 when the first disposition event, other than
    completion, falls in (landmark, horizon]; no horizon means any later day.

    Args:
        tables: Clean DM, DS and EX; with a horizon also SV, to know who has been followed that long.
        task: Anything with landmark_day and horizon_day; label.category, label.completed_terms,
            population.on_treatment_at_landmark and groups["age_band"] are used where they exist.

    Returns:
        One row per subject of DM, sorted: subject_id, site_id (str), landmark_day (Int32), event_timestamp
        (datetime us UTC), label (Int8, null when excluded), excluded (str, null for subjects in the set),
        group_sex, group_age_band, group_race (str).

    Raises:
        TrialOpsError: A table is absent or an age band cannot be read.
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
    rule, population = getattr(task, "label", None), getattr(task, "population", None)
    category = getattr(rule, "category", "DISPOSITION EVENT")
    completed = [term.upper() for term in getattr(rule, "completed_terms", ("COMPLETED",))]
    bands = (getattr(task, "groups", None) or {}).get("age_band") or AGE_BANDS

    subjects = _current(tables["DM"], [])
    ds = _current(tables["DS"], ["DSSEQ"]).with_columns(_upper("DSDECOD"), _upper("DSCAT"))
    flow = (
        subjects.select("USUBJID", "SITEID", "SEX", "RACE", "AGE", "ARMCD")
        .join(_randomised(subjects, ds), on="USUBJID", how="left")
        .join(_disposition(ds, category), on="USUBJID", how="left")
        .join(_exposure(tables["EX"]), on="USUBJID", how="left")
        .join(_followed(tables), on="USUBJID", how="left")
    )
    left = pl.col("_left")
    reasons = [
        (NOT_RANDOMISED, ~pl.col("_randomised").fill_null(False)),
        (NOT_TREATED, pl.col("_treated").is_null()),
    ]
    reasons.append((LEFT_EARLY, (left <= landmark).fill_null(False)))
    if getattr(population, "on_treatment_at_landmark", True):
        reasons.append((OFF_TREATMENT, (pl.col("_last_dose") < landmark).fill_null(False)))
    unknown = left.is_null()
    if horizon is not None:
        unknown &= (pl.col("_seen") < horizon).fill_null(True)
    reasons.append((NOT_FOLLOWED, unknown))
    stopped = (left > landmark) & ~pl.col("_term").is_in(completed)
    if horizon is not None:
        stopped &= left <= horizon
    excluded = pl.coalesce(pl.when(condition).then(pl.lit(reason)) for reason, condition in reasons)
    flow = flow.with_columns(excluded=excluded)
    return flow.select(
        pl.col("USUBJID").cast(pl.String).alias("subject_id"),
        pl.col("SITEID").cast(pl.String).alias("site_id"),
        pl.lit(landmark, pl.Int32).alias("landmark_day"),
        pl.lit(study_time.timestamp_of(landmark)).cast(pl.Datetime("us", "UTC")).alias("event_timestamp"),
        pl.when(pl.col("excluded").is_null()).then(stopped.fill_null(False).cast(pl.Int8)).alias("label"),
        "excluded",
        _group("SEX").alias("group_sex"),
        age_band(pl.col("AGE"), bands).alias("group_age_band"),
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
        ("in the trial at the landmark", LEFT_EARLY),
        ("on treatment at the landmark", OFF_TREATMENT),
        ("in the training set", NOT_FOLLOWED),
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


def age_band(age: pl.Expr, bands: Sequence[str] = AGE_BANDS) -> pl.Expr:
    """Band of an age in whole years: "<65", "65-74", "75+" or ">80"; null when none holds it.

    Raises:
        TrialOpsError: A band cannot be read.
    """
    import polars as pl

    years = age.cast(pl.Float64, strict=False).floor()
    found = []
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


def _current(frame: pl.DataFrame, record: list[str]) -> pl.DataFrame:
    """The last known version of each record; labels look back on everything that is known by now."""
    keys = ["USUBJID", *record]
    return frame.sort("KNOWNDY", nulls_last=False, maintain_order=True).unique(keys, keep="last", maintain_order=True)


def _upper(column: str) -> pl.Expr:
    import polars as pl

    return pl.col(column).cast(pl.String).str.strip_chars().str.to_uppercase()


def _group(column: str) -> pl.Expr:
    import polars as pl

    text = _upper(column)
    return pl.when(text != "").then(text)


def _randomised(subjects: pl.DataFrame, ds: pl.DataFrame) -> pl.DataFrame:
    """By the RANDOMIZED milestone; in a study that records none, by the planned arm being assigned."""
    import polars as pl

    milestone = ds.filter(pl.col("DSDECOD") == "RANDOMIZED")
    if milestone.height:
        return milestone.select("USUBJID").unique().with_columns(_randomised=pl.lit(True))
    return subjects.select("USUBJID", _randomised=~_upper("ARMCD").fill_null("").is_in(NOT_ASSIGNED))


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

    end = pl.col("EXENDY").cast(pl.Int32)
    return (
        _current(ex, ["EXSEQ"])
        .group_by("USUBJID")
        .agg(pl.lit(True).alias("_treated"), pl.when(~end.is_null().any()).then(end.max()).alias("_last_dose"))
    )


def _followed(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Day of the last visit."""
    import polars as pl

    if "SV" not in tables:
        return pl.DataFrame(schema={"USUBJID": pl.String, "_seen": pl.Int32})
    return tables["SV"].group_by("USUBJID").agg(pl.col("SVSTDY").cast(pl.Int32).max().alias("_seen"))
