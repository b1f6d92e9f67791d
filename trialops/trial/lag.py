"""What comes late: visits that are due and not there, adverse events collected long after their onset, old queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from trialops.trial.kri_policy import SitePolicy
    from trialops.trial.study_file import StudyFile
    from trialops.trial.tables import TrialTables


@dataclass(frozen=True)
class Visit:
    """A planned visit: number, name, study day, and days after it that are still in the window."""

    number: float
    name: str
    day: int
    window: int


def schedule(study: StudyFile, trial: TrialTables, policy: SitePolicy) -> tuple[Visit, ...]:
    """The planned visits from day 1 on, by day: the study file's, else those of the data that have a planned day.

    Raises:
        TrialOpsError: Neither tells.
    """
    import polars as pl

    window = int(policy.lags["visit_window_days"])
    stated = study.protocol.get("visits", ())
    if stated:
        visits = [Visit(float(v["number"]), v["name"], v["day"], v.get("window_days") or window) for v in stated]
    else:
        sv = trial.get("SV")
        if sv is None or "VISITDY" not in sv.columns:
            raise TrialOpsError(
                "Neither the study file nor SV tells which visits are planned",
                where=study.where,
                fix="State protocol.visits in the study file: number, name, day.",
            )
        planned = sv.filter(pl.col("VISITDY").is_not_null()).group_by("VISITNUM", "VISITDY").agg(pl.col("VISIT").min())
        visits = [Visit(float(n), str(v), int(d), window) for n, d, v in planned.iter_rows()]
    return tuple(sorted((v for v in visits if v.day >= 1), key=lambda v: (v.day, v.number)))


def visit_rows(trial: TrialTables, people: pl.DataFrame, visits: Sequence[Visit], day: date) -> pl.DataFrame:
    """Every planned visit that was due, and whether it is there.

    A visit is due when its window had closed by the cut and by the end of the subject's participation. It is overdue
    when the subject still takes part and no later planned visit is there: it may yet be entered. Otherwise it was
    missed.

    Args:
        trial: The tables, cut at ``day``.
        people: Of :func:`trialops.trial.participation.participation`.
        visits: The schedule.
        day: The data cut.

    Returns:
        USUBJID, SITEID, VISITNUM, ``closed`` (Date: end of the window), ``held``, ``overdue``, ``missed`` (bool); no
        row where no table of the delivery has visits.
    """
    import polars as pl

    plan = pl.DataFrame(
        {"VISITNUM": [v.number for v in visits], "_after": [v.day - 1 + v.window for v in visits]},
        schema={"VISITNUM": pl.Float64, "_after": pl.Int64},
    )
    enrolled = people.filter(pl.col("randomised") & pl.col("start").is_not_null())
    due = enrolled.select("USUBJID", "SITEID", "start", "end", "ongoing").join(plan, how="cross")
    due = due.with_columns(closed=pl.col("start") + pl.duration(days=pl.col("_after")))
    there = _visits_held(trial, [v.number for v in visits])
    told = pl.lit(there is not None) & (
        pl.col("closed") <= pl.min_horizontal(pl.lit(day), pl.col("end").fill_null(day))
    )
    due = due.filter(told)
    if there is None:
        there = pl.DataFrame(schema={"USUBJID": pl.String, "VISITNUM": pl.Float64})
    latest = there.group_by("USUBJID").agg(_latest=pl.col("VISITNUM").max())
    joined = due.join(there.with_columns(held=pl.lit(True)), on=["USUBJID", "VISITNUM"], how="left")
    joined = joined.join(latest, on="USUBJID", how="left").with_columns(pl.col("held").fill_null(False))
    waiting = ~pl.col("held") & pl.col("ongoing") & (pl.col("_latest").fill_null(-1e9) < pl.col("VISITNUM"))
    return joined.with_columns(overdue=waiting, missed=~pl.col("held") & ~waiting).select(
        "USUBJID", "SITEID", "VISITNUM", "closed", "held", "overdue", "missed"
    )


def _visits_held(trial: TrialTables, numbers: Sequence[float]) -> pl.DataFrame | None:
    """Distinct planned visits with a row: of SV, or where there is no SV of any other table with visits; or None."""
    import polars as pl

    sv = trial.get("SV")
    sources = [sv] if sv is not None else [t for n, t in sorted(trial.tables.items()) if n in ("VS", "LB", "EG", "EX")]
    parts = [
        t.select("USUBJID", pl.col("VISITNUM").cast(pl.Float64)).filter(pl.col("VISITNUM").is_in(list(numbers)))
        for t in sources
        if t is not None and "VISITNUM" in t.columns
    ]
    return pl.concat(parts).unique() if parts else None


def event_lags(trial: TrialTables, people: pl.DataFrame) -> pl.DataFrame:
    """Days from the onset of each adverse event after randomisation to its collection, where both dates are exact.

    Returns:
        USUBJID, SITEID, ``days``; empty where AEDTC is not delivered. A collection before the onset is left out: a
        matter for a query.
    """
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    ae = trial.get("AE")
    if ae is None or "AEDTC" not in ae.columns:
        return pl.DataFrame(schema={"USUBJID": pl.String, "SITEID": pl.String, "days": pl.Int64})
    rows = ae.select("USUBJID", onset=exact_day("AESTDTC"), collected=exact_day("AEDTC"))
    joined = rows.join(people.filter("randomised").select("USUBJID", "SITEID", "start"), on="USUBJID")
    joined = joined.filter(pl.col("onset") >= pl.col("start"))
    return joined.select("USUBJID", "SITEID", days=(pl.col("collected") - pl.col("onset")).dt.total_days()).filter(
        pl.col("days") >= 0
    )


def lag_table(
    people: pl.DataFrame, visits: pl.DataFrame, events: pl.DataFrame, queries: pl.DataFrame | None, day: date
) -> pl.DataFrame:
    """Lags by site.

    Args:
        people: Participation.
        visits: Of :func:`visit_rows`.
        events: Of :func:`event_lags`.
        queries: Waiting and closed queries with SITEID, ``state`` and ``age``; None where there are none to see.
        day: The data cut.

    Returns:
        site, ``overdue`` visits, ``oldest`` of them in days, ``missed`` visits, median and 90th percentile of the days
        an adverse event takes (``event_median``, ``event_p90``), ``waiting`` queries and their median age in days.
    """
    import polars as pl

    from trialops.quality.queries import WAITING

    table = people.select(site="SITEID").unique()
    age = (pl.lit(day) - pl.col("closed")).dt.total_days()
    by_visit = visits.group_by(site="SITEID").agg(
        overdue=pl.col("overdue").sum(), oldest=age.filter(pl.col("overdue")).max(), missed=pl.col("missed").sum()
    )
    by_event = events.group_by(site="SITEID").agg(
        event_median=pl.col("days").median(), event_p90=pl.col("days").quantile(0.9, interpolation="linear")
    )
    table = table.join(by_visit, on="site", how="left").join(by_event, on="site", how="left")
    if queries is not None:
        waiting = queries.filter(pl.col("state").is_in(WAITING))
        table = table.join(
            waiting.group_by(site="SITEID").agg(waiting=pl.len(), query_age=pl.col("age").median()),
            on="site",
            how="left",
        )
    else:
        table = table.with_columns(waiting=pl.lit(None, pl.UInt32), query_age=pl.lit(None, pl.Float64))
    if visits.height:
        table = table.with_columns(pl.col("overdue", "missed").fill_null(0))
    return table.sort("site")
