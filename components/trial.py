"""KFP components: the conduct of the trial."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.base import component


@component
def monitor_sites(
    raw: Input[Dataset],
    scores: Output[Dataset],
    findings: Output[Artifact],
    report: Output[HTML],
    study: str = "",
    as_of: str = "",
) -> int:
    """Score the sites on key risk indicators, test the reporting of adverse events, say what is late.

    Args:
        raw: Sealed delivery.
        scores: One row per indicator and site: figures, score, flag, and those of the cut before.
        findings: Sites that ask for a look, and why; no count.
        report: Flags, heat map, a section per flagged site, funnel plots, lags.
        study: Study file; the demonstration trial's by default.
        as_of: ISO 8601 day or moment the trial is looked at; now by default. Later entries are left out.

    Returns:
        Number of sites that ask for a look.
    """
    from trialops.stores import step
    from trialops.trial import progress_run
    from trialops.trial.site_monitor import sites_document
    from trialops.trial.site_pages import sites_page

    with step("monitor-sites", study=study, as_of=as_of) as run:
        found = progress_run.monitor_sites(run, raw, study=study, as_of=as_of)
        run.write_table(scores, found.scores, table="trial/kri_scores")
        run.write_json(findings, sites_document(found))
        run.show(report, sites_page(found))
    return len(found.flagged())


@component
def follow_progress(
    raw: Input[Dataset],
    progress: Output[Artifact],
    by_arm: Output[Artifact],
    report: Output[HTML],
    study: str = "",
    as_of: str = "",
    purpose: str = "",
) -> str:
    """Milestones against their baselines, enrolment, and retention with its reasons, all arms together.

    Args:
        raw: Sealed delivery.
        progress: Milestones and counts.
        by_arm: Retention by arm and its log-rank test, sealed; without rows where no purpose is given.
        report: Milestones, enrolment curve, retention curves.
        study: Study file; the demonstration trial's by default.
        as_of: ISO 8601 day or moment the trial is looked at; now by default. Later entries are left out.
        purpose: Why arms are compared, in a sentence; for roles that may see them. Empty: they are not.

    Returns:
        "late" when a milestone slips by more than the policy's limit, else "on course".
    """
    from trialops.stores import step
    from trialops.trial import progress_run
    from trialops.trial.progress_page import course_page

    with step("follow-progress", study=study, as_of=as_of) as run:
        made, stated, day, document = progress_run.follow_progress(
            run, raw, by_arm, study=study, as_of=as_of, purpose=purpose
        )
        run.write_json(progress, document)
        run.show(report, course_page(made, stated, day))
        late = any(milestone.tone == "bad" for milestone in made.milestones)
    return "late" if late else "on course"


@component
def show_progress(findings: Input[Artifact], progress: Input[Artifact], report: Output[HTML]) -> str:
    """Put sites, milestones and retention on one page: what needs attention.

    Args:
        findings: Of the monitoring of sites.
        progress: Of milestones and retention.
        report: The page.

    Returns:
        "needs attention" or "on course".
    """
    from trialops.stores import step
    from trialops.trial.progress_page import overview_page

    with step("show-progress") as run:
        page = overview_page(run.read_json(findings), run.read_json(progress))
        run.show(report, page)
        verdict = page.verdict.label.lower() if page.verdict else ""
        run.metrics |= {"verdict": verdict}
    return verdict
