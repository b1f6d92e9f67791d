"""What the indicators count, by site: events, time, visits, results, queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.kri_policy import SitePolicy
    from trialops.trial.tables import TrialTables

OUT_OF_RANGE = ("LOW", "HIGH", "LOW LOW", "HIGH HIGH", "ABNORMAL")
"""LBNRIND of a result outside its range (CDISC code list NRIND)."""


def measures(
    trial: TrialTables,
    people: pl.DataFrame,
    *,
    serious: pl.DataFrame,
    visits: pl.DataFrame,
    lags: pl.DataFrame,
    queries: pl.DataFrame | None,
    policy: SitePolicy,
) -> pl.DataFrame:
    """Numerators and denominators of the indicators.

    Everything but screening is counted over randomised subjects. Days on study run from randomisation to the end of
    participation or the cut, both included. An adverse event counts from randomisation on; one without a usable onset
    counts. A column is null where the delivery has nothing to count it from (no DV, no LB, no queries).

    Args:
        trial: The tables at the cut.
        people: Of :func:`trialops.trial.participation.participation`.
        serious: USUBJID, AESEQ and SERIOUS of adverse events, as :mod:`trialops.safety.events` judges them.
        visits: Of :func:`trialops.trial.lag.visit_rows`.
        lags: Of :func:`trialops.trial.lag.event_lags`.
        queries: Queries with SITEID, state and age (days).
        policy: For what counts as late or old.

    Returns:
        One row per site, sorted by SITEID; counts and days as Float64.
    """
    import polars as pl

    from trialops.intake.partial_dates import latest
    from trialops.quality.queries import WAITING
    from trialops.safety.events import SERIOUS, TO_CONFIRM

    subjects = people.select("USUBJID", "SITEID", "randomised", "start", "last")
    enrolled = subjects.filter("randomised")
    days = (pl.col("last") - pl.col("start")).dt.total_days() + 1
    left = pl.col("reason").is_not_null() & (pl.col("reason") != "COMPLETED")
    table = people.group_by("SITEID").agg(
        screened=(pl.col("randomised") | pl.col("screen_failure")).sum(),
        screen_failures=pl.col("screen_failure").sum(),
        randomised=pl.col("randomised").sum(),
        discontinued=(pl.col("randomised") & left).sum(),
        days_on_study=days.filter(pl.col("randomised")).clip(lower_bound=0).sum(),
    )

    def add(frame: pl.DataFrame | None, **columns: pl.Expr) -> None:
        """Join counts by site; null everywhere where there is no table."""
        nonlocal table
        if frame is None:
            table = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in columns)
            return
        counted = frame.group_by("SITEID").agg(**columns)
        table = table.join(counted, on="SITEID", how="left").with_columns(pl.col(list(columns)).fill_null(0))

    def of_enrolled(name: str) -> pl.DataFrame | None:
        frame = trial.get(name)
        return None if frame is None else frame.join(enrolled, on="USUBJID", how="inner")

    ae = of_enrolled("AE")
    if ae is not None:
        ae = ae.filter((latest("AESTDTC") >= pl.col("start")).fill_null(True))
        judged = serious.select("USUBJID", "AESEQ", "SERIOUS").unique(["USUBJID", "AESEQ"])
        ae = ae.join(judged, on=["USUBJID", "AESEQ"], how="left")
    add(
        ae,
        adverse_events=pl.len(),
        serious_events=(pl.col("SERIOUS") == SERIOUS).sum(),
        serious_to_confirm=(pl.col("SERIOUS") == TO_CONFIRM).sum(),
    )
    add(of_enrolled("DV"), deviations=pl.len())
    late = pl.col("days") > policy.lags["late_event_days"]
    add(lags if lags.height else None, dated_events=pl.len(), late_events=late.sum())
    lb = of_enrolled("LB")
    if lb is not None and "LBNRIND" in lb.columns:
        ranged = pl.col("LBNRIND").is_not_null() & (pl.col("LBNRIND") != "")
        out = pl.col("LBNRIND").str.to_uppercase().is_in(OUT_OF_RANGE)
        add(lb.filter(ranged), lab_results=pl.len(), lab_abnormal=out.sum())
    else:
        add(None, lab_results=pl.len(), lab_abnormal=pl.len())
    add(visits, visits_due=pl.len(), visits_missing=(~pl.col("held")).sum())
    waiting = pl.col("state").is_in(WAITING)
    add(
        queries,
        queries=pl.len(),
        queries_waiting=waiting.sum(),
        queries_old=(waiting & (pl.col("age") > policy.lags["old_query_days"])).sum(),
    )
    add(_records(trial, subjects), records=pl.col("rows").sum())
    numbers = [c for c in table.columns if c != "SITEID"]
    return table.with_columns(pl.col(numbers).cast(pl.Float64)).sort("SITEID")


def _records(trial: TrialTables, subjects: pl.DataFrame) -> pl.DataFrame:
    """Rows delivered by site and table, without supplemental qualifiers."""
    import polars as pl

    counted = [
        frame.select("USUBJID").join(subjects.select("USUBJID", "SITEID"), on="USUBJID").group_by("SITEID").len("rows")
        for name, frame in sorted(trial.tables.items())
        if "USUBJID" in frame.columns and not name.startswith("SUPP")
    ]
    return pl.concat(counted).with_columns(pl.col("rows").cast(pl.Int64))
