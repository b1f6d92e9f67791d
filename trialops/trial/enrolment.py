"""The steps of enrolment: judge everybody's eligibility, count the way through the trial, say when it will be full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.trial.eligibility import ELIGIBLE, NOT_ELIGIBLE, UNDECIDED, Eligibility, evaluate
from trialops.trial.eligibility_change import changes
from trialops.trial.eligibility_criteria import load_criteria
from trialops.trial.eligibility_record import earlier, keep
from trialops.trial.eligibility_rules import Criteria
from trialops.trial.eligibility_site import QUERY, RULES, Coverage, compare_with_site, coverage
from trialops.trial.forecast import Forecast, Site, forecast
from trialops.trial.funnel import FINDINGS, Funnel, by_arm, funnel
from trialops.trial.populations import NOT_ASSIGNED
from trialops.trial.progress_run import opened
from trialops.trial.study_file import StudyFile
from trialops.trial.tables import TrialTables, cut_at

if TYPE_CHECKING:
    import polars as pl

    from trialops.pages import Page
    from trialops.stores.context import Artifact, Step

VERDICTS = (ELIGIBLE, NOT_ELIGIBLE, UNDECIDED)
DAYS_PER_MONTH = 30.4375


@dataclass(frozen=True)
class Judged:
    """What the eligibility step shows: counts, and a page of them."""

    summary: Mapping[str, Any]
    page: Page


@dataclass(frozen=True)
class Plan:
    """Planned course of enrolment: days and randomised subjects by then; the last day is that of the target."""

    days: tuple[date, ...]
    numbers: tuple[float, ...]

    def at(self, day: date) -> float:
        """Planned number on a day; a straight line between the points that are stated."""
        import numpy as np

        return float(np.interp(day.toordinal(), [d.toordinal() for d in self.days], self.numbers))


@dataclass(frozen=True)
class Enrolment:
    """Funnel and forecast of a trial at a day.

    Attributes:
        day: The cut.
        found: The funnel.
        target: Planned randomised subjects.
        sites: Sites as the model sees them; days are ordinals.
        expected: The forecast; None where the target is reached or no rate can be learnt.
        why_none: Why there is no forecast.
        plan: From the milestones of the study file; None where they are not stated.
    """

    day: date
    found: Funnel
    target: int
    sites: tuple[Site, ...]
    expected: Forecast | None
    why_none: str
    plan: Plan | None


def open_trial(run: Step, raw: Artifact, *, study: str, as_of: str, reason: str) -> tuple[TrialTables, StudyFile]:
    """The delivery as known on the day asked for, and its study file.

    Raises:
        TrialOpsError: The demonstration trial's study file would be used for another trial.
    """
    trial, stated, day = opened(run, raw, study=study, as_of=as_of, reason=reason)
    return known_at(trial, day), stated


def known_at(trial: TrialTables, day: date) -> TrialTables:
    """The trial at a day, without the arms and screen failures that were decided later.

    A cut goes by dates, and DM's arm has none: it is emptied for who was not randomised and had not failed by then.
    """
    import polars as pl

    from trialops.trial.participation import participation

    people = participation(trial, day)
    decided = people.filter(pl.col("randomised") | pl.col("screen_failure"))["USUBJID"]
    dm = trial.table("DM")
    codes = [c for c in ("ARMCD", "ARM", "ACTARMCD", "ACTARM", "ARMNRS") if c in dm.columns]
    # Who passed and was given no arm stays so: nothing dates it.
    kept = pl.col("USUBJID").is_in(decided.implode()) | pl.col("ARMCD").str.to_uppercase().is_in(NOT_ASSIGNED)
    earlier_dm = dm.with_columns(pl.when(kept.fill_null(False)).then(c).otherwise(pl.lit("")).alias(c) for c in codes)
    return cut_at(replace(trial, tables={**trial.tables, "DM": earlier_dm}), day)


def judge_eligibility(run: Step, raw: Artifact, judged: Artifact, *, study: str, as_of: str) -> Judged:
    """Judge everybody, compare with the sites' records and with the evaluation before, keep all of it encrypted.

    Args:
        run: The step.
        raw: Output of ``ingest_sdtm``.
        judged: Output that names the encrypted tables: verdicts, evidence, changes, queries.
        study: Path of the study file.
        as_of: Day or moment of evaluation.
    """
    import polars as pl

    from trialops.trial.eligibility_page import eligibility_page, no_criteria_page

    trial, stated = open_trial(run, raw, study=study, as_of=as_of, reason="eligibility of the subjects")
    path = str(stated.eligibility.get("criteria", ""))
    if not path:
        run.seal(judged, {"verdicts": pl.DataFrame(schema={"USUBJID": pl.String, "verdict": pl.String})})
        return Judged({"study": trial.study, "criteria": 0}, no_criteria_page(stated))
    criteria = load_criteria(stated.beside(path))
    if criteria.protocol != stated.number:
        raise TrialOpsError(
            f"The criteria are of protocol {criteria.protocol}, the study file of {stated.number}",
            where=criteria.where,
            fix="Name the criteria of this protocol in eligibility.criteria.",
        )
    found = evaluate(trial, criteria, progress=run.progress)
    queries, covered = compare_with_site(trial, found), coverage(trial, criteria)
    basis = {"delivery": trial.source, "criteria": criteria.digest, "cut": str(trial.cut)}
    before = earlier(run, "eligibility", trial.study, basis)
    changed = (
        changes(before["verdicts"], found.verdicts, before["evidence"], found.evidence)
        if before
        else changes(found.verdicts, found.verdicts, found.evidence, found.evidence)
    )
    counts = {name: int((found.verdicts["verdict"] == name).sum()) for name in VERDICTS}
    tables = {"verdicts": found.verdicts, "evidence": found.evidence, "changes": changed, "queries": queries}
    keep(run, judged, "eligibility", trial.study, tables, basis, counts)
    note = sync_queries(run, trial.study, queries, tuple(RULES))
    summary = _summary(trial, found, covered, queries, changed, counts, bool(before))
    page = eligibility_page(found, covered, queries, changed, compared=bool(before), day=trial.cut, note=note)
    return Judged(summary, page)


def _summary(
    trial: TrialTables,
    found: Eligibility,
    covered: Coverage,
    queries: pl.DataFrame,
    changed: pl.DataFrame,
    counts: Mapping[str, int],
    compared: bool,
) -> dict[str, Any]:
    import polars as pl

    from trialops.trial.eligibility_page import hidden

    criteria: Criteria = found.criteria
    return {
        "study": trial.study,
        "as_of": str(trial.cut),
        "criteria": len(criteria.criteria),
        "criteria_version": criteria.version,
        "criteria_digest": criteria.digest,
        "verdicts": dict(zip(VERDICTS, hidden([counts[v] for v in VERDICTS]), strict=True)),
        "queries": {rule: queries.filter(pl.col("rule") == rule).height for rule in RULES},
        "changed_subjects": hidden([changed.filter(pl.col("change") != "outcome")["USUBJID"].n_unique()])[0]
        if compared
        else None,
        "ti": {"listed": covered.listed, "without_rule": len(covered.without_rule)} if covered.delivered else None,
        "notes": list(found.notes),
    }


def sync_queries(run: Step, study: str, queries: pl.DataFrame, rules: Sequence[str]) -> str:
    """Open and close the queries to the sites; they name the subject by its pseudonym. Returns what changed."""
    import polars as pl

    from trialops.quality.queries import Queries

    # What a query is known by must not change with the row that happens to decide: the criterion, not the row.
    judged = "criterion" in queries.columns
    criterion = pl.col("criterion") if judged else pl.lit("")
    asked = queries.select(
        "rule",
        domain=pl.lit("IE") if judged else pl.col("domain"),
        priority="severity",
        USUBJID=pl.Series(run.vault.pseudonyms("subject", queries["USUBJID"].to_list()), dtype=pl.String),
        record=criterion,
        message=pl.format("{} ({})", "text", criterion) if judged else pl.col("text"),
    )
    synced = Queries(run.engine, study).sync(asked, rules, actor=run.settings.who, run_id=run.run_id)
    run.audit("queries.sync", study, opened=synced.opened, reopened=synced.reopened, closed=synced.closed)
    return (
        f"This run opened {synced.opened} queries, re-opened {synced.reopened}, and closed {synced.closed} whose "
        f"finding is gone; {synced.unchanged} are as they were."
    )


def report_enrolment(
    run: Step, raw: Artifact, judged: Artifact, stages: Artifact, *, study: str, as_of: str
) -> tuple[Enrolment, Mapping[str, Any], Page]:
    """Count the funnel, forecast, compare with the plan; stages of subjects and counts by arm stay encrypted.

    Args:
        run: The step.
        raw: Output of ``ingest_sdtm``.
        judged: Output of the eligibility step.
        stages: Output that names the encrypted tables: stages, arms, queries.
        study: Path of the study file.
        as_of: Day or moment of the report.

    Returns:
        What was found, the figures that may be shown, and the page.
    """
    from trialops.trial.enrolment_page import enrolment_page

    trial, stated = open_trial(run, raw, study=study, as_of=as_of, reason="enrolment of the trial")
    verdicts = run.unseal(judged)["verdicts"]
    run.progress("counting the funnel", 0.2)
    made = enrolment(trial, stated)
    found = made.found
    run.progress("forecast", 0.8)
    basis = {"delivery": trial.source, "study": stated.digest, "cut": str(trial.cut)}
    tables = {"stages": found.subjects, "arms": by_arm(trial, found), "queries": found.queries}
    keep(run, stages, "enrolment", trial.study, tables, basis, found.total)
    note = sync_queries(run, trial.study, found.queries, tuple(FINDINGS))
    return made, figures(made), enrolment_page(made, verdicts, note=note)


def enrolment(trial: TrialTables, stated: StudyFile, *, day: date | None = None) -> Enrolment:
    """Funnel and forecast of randomised subjects.

    Args:
        trial: The delivery at its cut.
        stated: Its study file: planned number, sites, milestones.
        day: Day of the forecast; the cut by default.

    Raises:
        TrialOpsError: The trial has neither a cut nor a day.
    """
    import polars as pl

    from trialops.trial.milestones import recruiting_sites

    today = day or trial.cut
    if today is None:
        raise TrialOpsError("A forecast stands at a day", where=trial.study, fix="Cut the trial, or name the day.")
    logged = {str(site): int(count) for site, count in dict(stated.eligibility.get("prescreened", {})).items()}
    found = funnel(trial, prescreened=logged)
    entered = found.subjects.filter(pl.col("randomised") & pl.col("randomised_on").is_not_null()).select(
        "SITEID", start="randomised_on"
    )
    sites = tuple(recruiting_sites(entered, stated))
    target = int(stated.protocol["planned_enrolment"])
    dates = stated.milestones.get("dates", {})
    plan = _plan(dates, target)
    ended = dates.get("last_subject_in", {}).get("actual")
    expected, why = None, ""
    if entered.height >= target:
        why = f"The target of {target:,} randomised subjects is reached."
    elif ended is not None and ended <= today:
        why = f"Recruiting ended on {ended.isoformat()}."
    else:
        try:
            expected = forecast(
                sites,
                today=float(today.toordinal()),
                target=target,
                planned=float(plan.days[-1].toordinal()) if plan else None,
                arrivals=[(site, float(start.toordinal())) for site, start in entered.iter_rows()],
            )
        except TrialOpsError as error:
            why = error.what
    return Enrolment(today, found, target, sites, expected, why, plan)


def _plan(dates: Mapping[str, Any], target: int) -> Plan | None:
    """From first subject in (none), half of the subjects, and last subject in (all), as far as they are planned."""
    points = [
        (dates.get(name, {}).get("planned"), share * target)
        for name, share in (("first_subject_in", 0.0), ("enrolled_50", 0.5), ("last_subject_in", 1.0))
    ]
    known = [(day, number) for day, number in points if day is not None]
    if len(known) < 2 or points[-1][0] is None:
        return None
    return Plan(tuple(day for day, _ in known), tuple(number for _, number in known))


def figures(made: Enrolment) -> dict[str, Any]:
    """The figures of the report as a document: conduct alone, nobody in them."""
    found, expected = made.found, made.expected

    def day(ordinal: float | None) -> str | None:
        return None if ordinal is None else date.fromordinal(int(-(-ordinal // 1))).isoformat()

    document: dict[str, Any] = {
        "as_of": made.day.isoformat(),
        "funnel": dict(found.total),
        "sites": found.sites.height,
        "consent_recorded": found.consent_recorded,
        "reconciles": not found.imbalances,
        "target": made.target,
        "planned_today": round(made.plan.at(made.day), 1) if made.plan else None,
        "planned_end": made.plan.days[-1].isoformat() if made.plan else None,
        "queries": {str(rule): int(n) for rule, n in found.queries.group_by("rule").len().sort("rule").iter_rows()},
        "forecast": None,
    }
    if expected is not None:
        model = expected.fit
        document["forecast"] = {
            "expected": day(expected.done_median),
            "low": day(expected.done_low),
            "high": day(expected.done_high),
            "probability_by_plan": expected.probability,
            "shape": round(model.shape, 6),
            "rate_days": round(model.rate, 6),
            "subjects_per_site_month": round(model.mean * DAYS_PER_MONTH, 6),
            "trend_z": None if expected.trend is None else round(expected.trend, 4),
        }
    return document


__all__ = ["QUERY", "Enrolment", "Judged", "Plan", "enrolment", "figures", "judge_eligibility", "report_enrolment"]
