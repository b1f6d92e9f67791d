"""How often an event happens in a trial: incidence proportion and exposure-adjusted incidence rate, with intervals.

Inside a trial it is known who was exposed and for how long, so these are rates, not reporting disproportions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import ArrayLike, NDArray

DAYS_PER_YEAR = 365.25


def exact_proportion(x: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[NDArray[np.float64], ...]:
    """Exact interval of a proportion (Clopper and Pearson 1934).

    Args:
        x: Subjects with the event, any shape.
        n: Subjects, same shape; 0 gives (0, 1).
        level: Confidence level.

    Returns:
        Lower and upper ends.
    """
    import numpy as np
    from scipy.stats import beta

    x, n = np.asarray(x, dtype=np.float64), np.asarray(n, dtype=np.float64)
    half = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(x > 0, beta.ppf(half, x, n - x + 1), 0.0)
        high = np.where(x < n, beta.ppf(1 - half, x + 1, n - x), 1.0)
    return low, high


def exact_rate(x: ArrayLike, time: ArrayLike, level: float = 0.95) -> tuple[NDArray[np.float64], ...]:
    """Exact interval of a Poisson rate (Garwood 1936).

    Args:
        x: Events.
        time: Time at risk; 0 gives (0, inf).
        level: Confidence level.

    Returns:
        Lower and upper ends, per unit of time.
    """
    import numpy as np
    from scipy.stats import chi2

    x, time = np.asarray(x, dtype=np.float64), np.asarray(time, dtype=np.float64)
    half = (1 - level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where((x > 0) & (time > 0), chi2.ppf(half, 2 * x) / 2 / time, 0.0)
        high = np.where(time > 0, chi2.ppf(1 - half, 2 * x + 2) / 2 / time, np.inf)
    return low, high


def incidence(
    events: pl.DataFrame, subjects: pl.DataFrame, by: Sequence[str] = ("AEBODSYS", "AEDECOD"), *, level: float = 0.95
) -> pl.DataFrame:
    """Incidence of every term in every group.

    A subject counts once a term, at the first event; time at risk ends there, or with the exposure. An event before
    day 1 or after the exposure counts at its end: who is in `events` has the event.

    Args:
        events: One row per event: USUBJID, the columns of `by`, ``day`` (day of onset from the start of exposure,
            1 is the first; null counts as day 1). Rows of subjects that are not in `subjects` are left out.
        subjects: One row per subject: USUBJID, ``group``, ``days`` (length of exposure in days; null or less than 1
            counts as 1).
        by: Columns that name a term, the widest first.
        level: Confidence level of all intervals.

    Returns:
        One row per term and group, sorted: the columns of `by`, ``group``, ``n`` (subjects in the group), ``subjects``
        (with the event), ``events``, ``proportion``, ``low``, ``high``, ``years`` (at risk), ``rate`` (first events
        per 100 subject-years), ``rate_low``, ``rate_high``. A term nobody had has no row; a group without the
        event has one.

    Raises:
        TrialOpsError: A subject has two rows in `subjects`.
    """
    import polars as pl

    if subjects["USUBJID"].is_duplicated().any():
        raise TrialOpsError("A subject is in two groups", where="incidence", fix="Give one row per subject.")
    names = list(by)
    whole = subjects.with_columns(days=pl.col("days").cast(pl.Float64).fill_null(1.0).clip(1.0))
    size = whole.group_by("group").agg(n=pl.len(), total=pl.col("days").sum())
    joined = events.select("USUBJID", *names, "day").join(whole, on="USUBJID", how="inner")
    first = joined.group_by(*names, "group", "USUBJID").agg(
        events=pl.len(), first=pl.col("day").cast(pl.Float64).fill_null(1.0).min(), days=pl.col("days").first()
    )
    lost = pl.col("days") - pl.col("first").clip(1.0, pl.col("days"))
    counted = first.group_by(*names, "group").agg(subjects=pl.len(), events=pl.col("events").sum(), lost=lost.sum())
    terms = counted.select(names).unique()
    table = (
        terms.join(size, how="cross")
        .join(counted, on=[*names, "group"], how="left", nulls_equal=True)
        .with_columns(pl.col("subjects", "events").fill_null(0), pl.col("lost").fill_null(0.0))
        .with_columns(years=(pl.col("total") - pl.col("lost")) / DAYS_PER_YEAR)
        .sort(*names, "group", nulls_last=True)
    )
    low, high = exact_proportion(table["subjects"].to_numpy(), table["n"].to_numpy(), level)
    rate_low, rate_high = exact_rate(table["subjects"].to_numpy(), table["years"].to_numpy(), level)
    return table.select(
        *names,
        "group",
        pl.col("n").cast(pl.Int64),
        pl.col("subjects").cast(pl.Int64),
        pl.col("events").cast(pl.Int64),
        proportion=pl.col("subjects") / pl.col("n"),
        low=pl.Series(low),
        high=pl.Series(high),
        years="years",
        rate=100 * pl.col("subjects") / pl.col("years"),
        rate_low=100 * pl.Series(rate_low),
        rate_high=100 * pl.Series(rate_high),
    )
