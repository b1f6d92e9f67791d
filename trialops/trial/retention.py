"""Retention: how long randomised subjects stay, why they leave, and in the unblinded variant whether arms differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.pages.page import SMALLEST_CELL
from trialops.trial.participation import COMPLETED
from trialops.trial.survival import Incidence, KaplanMeier, LogRank, cumulative_incidence, kaplan_meier, log_rank

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from trialops.trial.kri_policy import SitePolicy
    from trialops.trial.tables import TrialTables

OTHER = "OTHER REASONS"


@dataclass(frozen=True)
class Retention:
    """Time from randomisation to discontinuation, in days, day 1 being the day of randomisation.

    Attributes:
        curve: Kaplan-Meier estimate of staying; completion and the cut are censoring.
        reasons: Cumulative incidence by reason; reasons with fewer subjects than a page may tell are one.
        reason_counts: Discontinued by those reasons.
        sites: site, ``subjects``, ``discontinued``, ``completed``, ``ongoing``, and retention at the policy's times as
            ``day_<n>`` (null where nobody of the site was followed so long, or the site is small).
        excluded: Randomised subjects without usable dates, who are in no figure here.
    """

    curve: KaplanMeier
    reasons: Mapping[str, Incidence]
    reason_counts: Mapping[str, int]
    sites: pl.DataFrame
    excluded: int


@dataclass(frozen=True)
class ByArm:
    """The unblinded variant: curves by arm and their comparison. It tells the treatment: sealed, never on a page.

    Attributes:
        curves: Kaplan-Meier estimate by arm code.
        reasons: Discontinued by arm code and reason.
        test: Log-rank test of the arms.
    """

    curves: Mapping[str, KaplanMeier]
    reasons: pl.DataFrame
    test: LogRank


def times_to_discontinuation(people: pl.DataFrame, day: date) -> pl.DataFrame:
    """One row per randomised subject with usable dates.

    Returns:
        USUBJID, SITEID, ``days`` (from randomisation to the end or the cut, both included: ADaM's AVAL of a time to
        event), ``event`` (discontinued), ``reason`` ("" where censored).
    """
    import polars as pl

    left = pl.col("reason").is_not_null()
    event = left & (pl.col("reason") != COMPLETED)
    until = pl.when(left).then(pl.col("end")).otherwise(pl.lit(day))
    rows = people.filter("randomised").select(
        "USUBJID",
        "SITEID",
        days=(until - pl.col("start")).dt.total_days() + 1,
        event=event,
        reason=pl.when(event).then("reason").otherwise(pl.lit("")),
    )
    return rows.filter((pl.col("days") >= 0).fill_null(False))


def retention(people: pl.DataFrame, day: date, policy: SitePolicy) -> Retention:
    """Retention of the trial and of its sites, all arms together.

    Args:
        people: Of :func:`trialops.trial.participation.participation`.
        day: The data cut.
        policy: Times to show, and the smallest site that has a line.

    Raises:
        TrialOpsError: Nobody was randomised.
    """
    import polars as pl

    rows = times_to_discontinuation(people, day)
    if rows.is_empty():
        raise TrialOpsError(
            "There is nobody whose retention could be told: no randomised subject has usable dates",
            where="DM, DS",
            fix="Deliver DS with the randomisation and disposition events.",
        )
    named = rows.with_columns(reason=pl.col("reason").replace(dict.fromkeys(_few(rows), OTHER)))
    counts = dict(named.filter("event").group_by("reason").len().sort("len", "reason", descending=True).iter_rows())
    days, event = rows["days"].to_numpy().astype(float), rows["event"].to_numpy()
    return Retention(
        curve=kaplan_meier(days, event),
        reasons=cumulative_incidence(days, named["reason"].to_list()),
        reason_counts=counts,
        sites=_by_site(people, rows, policy),
        excluded=int(people["randomised"].sum()) - rows.height,
    )


def _few(rows: pl.DataFrame) -> list[str]:
    """Reasons that are told as one: the rarest, until together they are as many as a page may tell."""
    counted = rows.filter("event").group_by("reason").len().sort("len", "reason")
    pooled: list[str] = []
    total = 0
    for reason, subjects in counted.iter_rows():
        if subjects >= SMALLEST_CELL and (total == 0 or total >= SMALLEST_CELL):
            break
        pooled.append(reason)
        total += subjects
    return pooled


def _by_site(people: pl.DataFrame, rows: pl.DataFrame, policy: SitePolicy) -> pl.DataFrame:
    import polars as pl

    times = [int(t) for t in policy.retention["times"]]
    counts = (
        people.filter("randomised")
        .group_by(site="SITEID")
        .agg(
            subjects=pl.len(),
            discontinued=(pl.col("reason").is_not_null() & (pl.col("reason") != COMPLETED)).sum(),
            completed=(pl.col("reason") == COMPLETED).sum(),
            ongoing=pl.col("ongoing").sum(),
        )
    )
    lines = []
    for (site,), own in rows.group_by(["SITEID"], maintain_order=True):
        if own.height < int(policy.retention["minimum_subjects"]):
            continue
        days = own["days"].to_numpy().astype(float)
        survival, _, _ = kaplan_meier(days, own["event"].to_numpy()).at([float(t) for t in times])
        told = {
            f"day_{t}": float(s) if days.max() >= t or s == 0 else None for t, s in zip(times, survival, strict=True)
        }
        lines.append({"site": str(site), **told})
    schema: dict[str, Any] = {"site": pl.String, **{f"day_{t}": pl.Float64 for t in times}}
    return counts.join(pl.DataFrame(lines, schema=schema), on="site", how="left").sort("site")


def retention_by_arm(trial: TrialTables, people: pl.DataFrame, day: date) -> ByArm:
    """The unblinded variant.

    Args:
        trial: The tables, with the arms.
        people: Participation.
        day: The data cut.

    Raises:
        TrialOpsError: Fewer than two arms have randomised subjects.
    """
    import polars as pl

    arms = trial.table("DM").unique("USUBJID", keep="last").select("USUBJID", arm=pl.col("ARMCD").str.strip_chars())
    rows = times_to_discontinuation(people, day).join(arms, on="USUBJID").sort("USUBJID")
    names = sorted(rows["arm"].unique().to_list())
    if len(names) < 2:
        raise TrialOpsError("Fewer than two arms have randomised subjects", where="DM.ARMCD")
    curves = {}
    for name in names:
        own = rows.filter(pl.col("arm") == name)
        curves[name] = kaplan_meier(own["days"].to_numpy().astype(float), own["event"].to_numpy())
    test = log_rank(rows["days"].to_numpy().astype(float), rows["event"].to_numpy(), rows["arm"].to_list())
    reasons = rows.filter("event").group_by("arm", "reason").agg(subjects=pl.len()).sort("arm", "reason")
    return ByArm(curves, reasons, test)


def by_arm_tables(found: ByArm) -> dict[str, pl.DataFrame]:
    """The unblinded variant as tables to seal: curves, reasons, test."""
    import polars as pl

    curves = pl.concat(
        pl.DataFrame(
            {
                "arm": [name] * len(curve.times),
                "day": curve.times,
                "at_risk": curve.at_risk,
                "discontinued": curve.events,
                "retention": curve.survival,
                "low": curve.low,
                "high": curve.high,
            }
        )
        for name, curve in found.curves.items()
    )
    test = pl.DataFrame(
        {
            "arm": found.test.groups,
            "observed": found.test.observed,
            "expected": found.test.expected,
            "statistic": [found.test.statistic] * len(found.test.groups),
            "degrees": [found.test.degrees] * len(found.test.groups),
            "p": [found.test.p] * len(found.test.groups),
        }
    )
    return {"curves": curves, "reasons": found.reasons, "test": test}
