"""Central monitoring of a trial's sites: indicators, reporting, lags, milestones and retention in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from trialops.trial.kri import SCORES, Scored, score_table
from trialops.trial.kri_measures import measures
from trialops.trial.kri_policy import SitePolicy, site_policy
from trialops.trial.lag import Visit, event_lags, lag_table, schedule, visit_rows
from trialops.trial.milestones import Milestone, enrolment_curve, milestones
from trialops.trial.participation import participation
from trialops.trial.retention import Retention, retention
from trialops.trial.tables import cut_at
from trialops.trial.underreporting import cumulative_events, reporting_table, visits_reached

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.study_file import StudyFile
    from trialops.trial.tables import TrialTables

HISTORY = "trial/kri_history"
"""Lake table with the scores of every cut."""
HISTORY_COLUMNS = ("study", "as_of", "policy", *SCORES)
LEVELS = {"not judged": 0, "green": 0, "amber": 1, "red": 2}


@dataclass(frozen=True)
class Course:
    """How the trial as a whole goes.

    Attributes:
        milestones: Planned, reached, forecast.
        retention: Pooled over arms; None while nobody has been randomised.
        enrolment: Randomised subjects by day.
    """

    milestones: tuple[Milestone, ...]
    retention: Retention | None
    enrolment: pl.DataFrame


@dataclass(frozen=True)
class SiteReport:
    """What central monitoring sees at a data cut.

    Attributes:
        study: Protocol number.
        day: The data cut.
        policy: What it was judged by.
        measures: Numerators and denominators by site.
        scores: One row per indicator and site: ``SCORES``, then ``previous`` (score of the cut before),
            ``previous_flag`` and ``trend`` (worse, better, same, or "" without an earlier cut).
        scored: Mean, dispersion and arrays by indicator.
        reporting: Under- and over-reporting of adverse events by site.
        lags: What is late by site.
        course: Milestones and retention.
    """

    study: str
    day: date
    policy: SitePolicy
    measures: pl.DataFrame
    scores: pl.DataFrame
    scored: Mapping[str, Scored]
    reporting: pl.DataFrame
    lags: pl.DataFrame
    course: Course

    def flagged(self) -> list[str]:
        """Sites that ask for a look, the most urgent first: red flags, under-reporting, amber flags."""
        import polars as pl

        weight = pl.col("flag").replace_strict({"red": 100, "amber": 1}, default=0, return_dtype=pl.Int64)
        by_score = self.scores.group_by("site").agg(weight=weight.sum())
        found = self.reporting.filter(pl.col("verdict").is_in(["under-reporting", "over-reporting"]))
        extra = found.select("site", weight=pl.lit(50, pl.Int64))
        total = pl.concat([by_score, extra]).group_by("site").agg(pl.col("weight").sum()).filter(pl.col("weight") > 0)
        return total.sort("weight", "site", descending=[True, False])["site"].to_list()

    def history(self, earlier: pl.DataFrame | None) -> pl.DataFrame:
        """The scores of every cut, this one's included; a second run at the same cut replaces the first."""
        import polars as pl

        own = self.scores.select(
            pl.lit(self.study).alias("study"),
            pl.lit(self.day.isoformat()).alias("as_of"),
            pl.lit(self.policy.digest).alias("policy"),
            *SCORES,
        )
        if earlier is not None:
            same = (pl.col("study") == self.study) & (pl.col("as_of") == self.day.isoformat())
            own = pl.concat([earlier.filter(~same), own])
        return own.sort("study", "as_of", "indicator", "site")


class TrialSiteMonitorOperator:
    """Watches sites by a policy: key risk indicators, reporting, lags; and the trial's milestones and retention.

    Args:
        policy: The policy; the shipped one by default.
    """

    def __init__(self, policy: SitePolicy | None = None) -> None:
        """Take the policy."""
        self.policy = policy or site_policy()

    def run(
        self,
        trial: TrialTables,
        study: StudyFile,
        *,
        day: date,
        queries: pl.DataFrame | None = None,
        history: pl.DataFrame | None = None,
        progress: Callable[[str, float | None], None] | None = None,
    ) -> SiteReport:
        """Look at the trial as of a data cut; no treatment is looked at but that somebody was given one.

        Args:
            trial: The tables; they are cut here.
            study: The study file: schedule, baselines, causality and seriousness settings.
            day: The data cut.
            queries: Queries with SITEID, ``state`` and ``age`` in days; None where there is no register.
            history: Scores of earlier cuts, with ``HISTORY_COLUMNS``.
            progress: Called with what is going on and how far.

        Raises:
            TrialOpsError: There is no DM, no randomised subject has dates, or the schedule is nowhere stated.
        """
        tell = progress or (lambda _message, _fraction: None)
        cut = cut_at(trial, day)
        people = participation(trial, day)
        visits = schedule(study, cut, self.policy)
        tell("visits and lags", 0.1)
        due, late = visit_rows(cut, people, visits, day), event_lags(cut, people)
        tell("indicators", 0.3)
        counted = measures(
            cut,
            people,
            serious=serious_events(cut, study),
            visits=due,
            lags=late,
            queries=queries,
            policy=self.policy,
        )
        scores, scored = score_table(counted, self.policy)
        tell("reporting of adverse events", 0.6)
        reporting = reporting_of(cut, people, visits, self.policy)
        tell("milestones and retention", 0.9)
        return SiteReport(
            study=study.number,
            day=day,
            policy=self.policy,
            measures=counted,
            scores=with_trend(scores, history, study.number, day, self.policy),
            scored=scored,
            reporting=reporting,
            lags=lag_table(people, due, late, queries, day),
            course=course(cut, people, study, day, self.policy),
        )


def course(trial: TrialTables, people: pl.DataFrame, study: StudyFile, day: date, policy: SitePolicy) -> Course:
    """Milestones, retention and enrolment of a trial at a cut."""
    stays = retention(people, day, policy) if people["randomised"].any() else None
    return Course(milestones(trial, people, study, day, policy), stays, enrolment_curve(people))


def serious_events(trial: TrialTables, study: StudyFile) -> pl.DataFrame:
    """USUBJID, AESEQ and SERIOUS of every adverse event, judged as the safety work of the study judges them."""
    import polars as pl

    from trialops.safety.safety_policy import safety_policy
    from trialops.safety.seriousness import seriousness

    if trial.get("AE") is None:
        return pl.DataFrame(schema={"USUBJID": pl.String, "AESEQ": pl.Float64, "SERIOUS": pl.String})
    return seriousness(trial, safety_policy(study)).select("USUBJID", "AESEQ", "SERIOUS")


def reporting_of(
    trial: TrialTables, people: pl.DataFrame, visits: tuple[Visit, ...], policy: SitePolicy
) -> pl.DataFrame:
    """Under- and over-reporting by site, from participation and onsets.

    A subject is followed from randomisation to the disposition or the cut. An event counts at its onset; where that is
    partly known at the first day it can mean from randomisation on, and without any date from day 1.
    """
    import numpy as np
    import polars as pl

    from trialops.intake.partial_dates import earliest, latest

    days = np.unique(np.array([v.day for v in visits], dtype=np.int64))
    enrolled = people.filter(pl.col("randomised") & pl.col("start").is_not_null()).with_row_index("row")
    until = pl.coalesce("end", "last")
    last = enrolled.select(((until - pl.col("start")).dt.total_days() + 1).fill_null(0)).to_series().to_numpy()
    ae = trial.get("AE")
    rows = ae if ae is not None else pl.DataFrame(schema={"USUBJID": pl.String, "AESTDTC": pl.String})
    known = rows.select("USUBJID", first=earliest("AESTDTC"), latest=latest("AESTDTC")).join(
        enrolled.select("USUBJID", "row", "start"), on="USUBJID"
    )
    since = known.filter((pl.col("latest") >= pl.col("start")).fill_null(True)).select(
        "row", day=((pl.col("first") - pl.col("start")).dt.total_days() + 1).fill_null(1).clip(lower_bound=1)
    )
    counts = cumulative_events(
        since["day"].to_numpy().astype(np.int64), since["row"].to_numpy().astype(np.int64), enrolled.height, days
    )
    asked = policy.under_reporting
    return reporting_table(
        counts,
        visits_reached(last.astype(np.int64), days),
        enrolled["SITEID"].to_list(),
        days,
        share=float(asked["landmark_share"]),
        minimum_subjects=int(asked["minimum_subjects"]),
        minimum_pool=int(asked["minimum_pool"]),
        family_wise=float(asked["family_wise"]),
    )


def with_trend(
    scores: pl.DataFrame, history: pl.DataFrame | None, study: str, day: date, policy: SitePolicy
) -> pl.DataFrame:
    """Scores beside those of the newest earlier cut: worse is a higher flag, or a score further from zero."""
    import polars as pl

    before = None
    if history is not None and history.height:
        earlier = history.filter((pl.col("study") == study) & (pl.col("as_of") < day.isoformat()))
        before = earlier.filter(pl.col("as_of") == pl.col("as_of").max())
    if before is None or before.is_empty():
        nothing = [pl.lit(None, pl.Float64).alias("previous"), pl.lit(None, pl.String).alias("previous_flag")]
        return scores.with_columns(*nothing, pl.lit("").alias("trend"))
    known = before.select("indicator", "site", previous="score", previous_flag="flag")
    joined = scores.join(known, on=["indicator", "site"], how="left", maintain_order="left")
    now, then = (pl.col(c).replace_strict(LEVELS, default=0, return_dtype=pl.Int64) for c in ("flag", "previous_flag"))
    step = pl.col("score").abs() - pl.col("previous").abs()
    trend = (
        pl.when(pl.col("previous").is_null())
        .then(pl.lit(""))
        .when((now > then) | ((now == then) & (step >= policy.worse_by)))
        .then(pl.lit("worse"))
        .when((now < then) | ((now == then) & (step <= -policy.worse_by)))
        .then(pl.lit("better"))
        .otherwise(pl.lit("same"))
    )
    return joined.with_columns(trend=trend)


def sites_document(report: SiteReport) -> dict[str, Any]:
    """What the sites ask for, as JSON values: names of sites and indicators, no count."""
    import polars as pl

    scores = report.scores
    label = {one.name: one.label for one in report.policy.indicators}
    worse = scores.filter((pl.col("trend") == "worse") & pl.col("flag").is_in(["red", "amber"]))
    differ = report.reporting.filter(pl.col("verdict").is_in(["under-reporting", "over-reporting"]))
    return {
        "study": report.study,
        "as_of": report.day.isoformat(),
        "policy": {"version": report.policy.version, "digest": report.policy.digest},
        "flagged": report.flagged(),
        "red": sorted(scores.filter(pl.col("flag") == "red")["site"].unique()),
        "flags": [
            {"site": site, "indicator": indicator, "flag": flag}
            for indicator, site, flag in scores.filter(pl.col("flag").is_in(["red", "amber"]))
            .select("indicator", "site", "flag")
            .iter_rows()
        ],
        "worse": [{"site": s, "label": label[i]} for i, s in worse.select("indicator", "site").iter_rows()],
        "compared": bool(scores["previous_flag"].is_not_null().any()),
        "reporting": differ.select("site", "verdict").to_dicts(),
    }
