"""The steps of study progress: watch the sites, follow the trial, put both together."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.governance.access import authorise
from trialops.trial.participation import participation
from trialops.trial.progress_page import course_document
from trialops.trial.retention import by_arm_tables, retention_by_arm
from trialops.trial.site_monitor import HISTORY, Course, SiteReport, TrialSiteMonitorOperator, course
from trialops.trial.study_file import StudyFile, study_file
from trialops.trial.tables import cut_at, cut_day, last_day, trial_tables

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Artifact, Step
    from trialops.trial.tables import TrialTables

BY_ARM = "unblinded/retention_by_arm"
"""Object that names the newest sealed comparison of arms, by study."""


def opened(run: Step, raw: Artifact, *, study: str, as_of: str, reason: str) -> tuple[TrialTables, StudyFile, date]:
    """The delivery, not cut, its study file and the data cut: the day asked for, but not beyond what the data reach.

    A delivery that is older than the day would otherwise make every visit since overdue.

    Raises:
        TrialOpsError: The demonstration trial's study file would be used for another trial.
    """
    stated, trial = study_file(study), trial_tables(run, raw, reason=reason)
    if not study and trial.study != stated.number:
        raise TrialOpsError(
            f"The shipped study file is of {stated.number}, the delivery of {trial.study}",
            where="study",
            fix="Write a study file for the trial and name it: --set study=FILE (example: trialops/trial/study.yaml).",
        )
    return trial, stated, min(cut_day(as_of), last_day(trial))


def monitor_sites(run: Step, raw: Artifact, *, study: str, as_of: str) -> SiteReport:
    """Score the sites, compare with the cut before, keep the scores for the next one.

    Args:
        run: The step.
        raw: Output of ``ingest_sdtm``.
        study: Path of the study file.
        as_of: Day or moment the trial is looked at.
    """
    trial, stated, day = opened(run, raw, study=study, as_of=as_of, reason="Central monitoring of the sites")
    history = run.read_latest(HISTORY)
    report = TrialSiteMonitorOperator().run(
        trial,
        stated,
        day=day,
        queries=queries_by_site(run, trial, cut_day(as_of)),
        history=history,
        progress=run.progress,
    )
    run.write_named(HISTORY, report.history(history))
    flags = report.scores["flag"]
    numbers = {
        "sites": report.measures.height,
        "asking_for_a_look": len(report.flagged()),
        "red": int((flags == "red").sum()),
        "amber": int((flags == "amber").sum()),
        "judged": int((flags != "not judged").sum()),
        "under_reporting": int((report.reporting["verdict"] == "under-reporting").sum()),
    }
    run.decide("look" if report.flagged() else "clear", numbers=numbers, policy=report.policy.digest)
    run.metrics |= numbers
    return report


def queries_by_site(run: Step, trial: TrialTables, day: date) -> pl.DataFrame | None:
    """The study's queries with the site of their subject: SITEID, ``state``, ``age`` (days at the end of a day).

    The register knows subjects by their pseudonyms, so the sites' subjects are given theirs. Queries that name no
    subject, or were opened after the day, are left out; a state is that of now.

    Returns:
        None where the register has never had a query: no indicator can be counted from it.
    """
    from datetime import UTC

    import polars as pl

    from trialops.quality.queries import Queries

    known = Queries(run.engine, trial.study).table(now=datetime.combine(day, time.max, UTC))
    if known.is_empty():
        return None
    run.audit("queries.read", trial.study, queries=known.height)
    dm = trial.table("DM").unique("USUBJID", keep="last")
    names = dm["USUBJID"].to_list()
    sites = pl.DataFrame({"subject": run.vault.pseudonyms("subject", names), "SITEID": dm["SITEID"]})
    known = known.filter(pl.col("opened").str.slice(0, 10) <= day.isoformat())
    return known.join(sites, on="subject", how="inner").select("SITEID", "state", "age")


def follow_progress(
    run: Step, raw: Artifact, by_arm: Artifact, *, study: str, as_of: str, purpose: str
) -> tuple[Course, StudyFile, date, dict[str, Any]]:
    """Milestones and retention; with a purpose, and a role that may, the comparison of the arms, sealed.

    Args:
        run: The step.
        raw: Output of ``ingest_sdtm``.
        by_arm: Output that names the sealed comparison of the arms; it holds no row where none was asked for.
        study: Path of the study file.
        as_of: Day or moment the trial is looked at.
        purpose: Why the arms are compared; empty: they are not.

    Raises:
        TrialOpsError: The role may not see the arms.
    """
    import polars as pl

    from trialops.trial.kri_policy import site_policy

    if purpose:
        authorise(run, "unblinded_documents", purpose, subject="retention by arm")
    trial, stated, day = opened(run, raw, study=study, as_of=as_of, reason="Milestones and retention")
    policy = site_policy()
    cut, people = cut_at(trial, day), participation(trial, day)
    made = course(cut, people, stated, day, policy)
    if purpose:
        run.seal(by_arm, by_arm_tables(retention_by_arm(trial, people, day)))
        run.objects.put(f"{BY_ARM}/{trial.study}.json", _sealed_document(by_arm, trial.study, day))
    else:
        run.seal(by_arm, {"test": pl.DataFrame(schema={"arm": pl.String})})
    document = course_document(made, stated, day)
    late = [m.name for m in made.milestones if m.tone == "bad"]
    run.decide("late" if late else "on course", numbers={"late": late}, policy=policy.digest)
    run.metrics |= {name: document[name] for name in ("randomised", "ongoing", "completed", "discontinued")}
    return made, stated, day, document


def _sealed_document(artifact: Artifact, study: str, day: date) -> bytes:
    with open(artifact.path, "rb") as file:
        document = json.load(file)
    return json.dumps({"study": study, "as_of": day.isoformat(), "sealed": document}, sort_keys=True).encode()


def read_by_arm(run: Step, study: str, purpose: str) -> tuple[str, dict[str, pl.DataFrame]]:
    """The newest sealed comparison of arms: its data cut and tables.

    Raises:
        TrialOpsError: The role may not see it, or there is none.
    """
    from trialops.stores.sealed import unseal

    authorise(run, "unblinded_documents", purpose, subject="retention by arm")
    try:
        kept = json.loads(run.objects.get(f"{BY_ARM}/{study}.json"))
    except KeyError:
        raise TrialOpsError(
            "Retention has not been compared by arm yet",
            where=study,
            fix='Run study_progress with a purpose: --set purpose="...", under a role that may see the arms.',
        ) from None
    run.audit("data.unseal", "retention by arm", str(kept["sealed"].get("digest", "")), reason=purpose)
    return str(kept["as_of"]), unseal(kept["sealed"], vault=run.vault, objects=run.objects)
