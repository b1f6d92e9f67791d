"""KFP components: the conduct of the trial."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.base import component


@component
def evaluate_eligibility(
    raw: Input[Dataset],
    judged: Output[Dataset],
    summary: Output[Artifact],
    report: Output[HTML],
    study: str = "",
    as_of: str = "",
) -> int:
    """Judge every subject on the criteria of entry: met, not met or unknown, with the rows that say so.

    Args:
        raw: Sealed delivery.
        judged: Verdicts, evidence, changes since the evaluation before, queries; sealed.
        summary: Counts by verdict and query; small ones are not shown.
        report: Criteria, what is missing, changes, disagreement with the sites; counts.
        study: Study file; the demonstration trial's by default.
        as_of: ISO 8601 day or moment of evaluation; now by default. Later entries are left out.

    Returns:
        Number of queries.
    """
    from trialops.stores import step
    from trialops.trial.enrolment import judge_eligibility

    with step("evaluate-eligibility", study=study, as_of=as_of) as run:
        done = judge_eligibility(run, raw, judged, study=study, as_of=as_of)
        run.write_json(summary, done.summary)
        queries = sum(done.summary.get("queries", {}).values())
        run.metrics |= {"criteria": done.summary["criteria"], "queries": queries}
        run.show(report, done.page)
    return int(queries)


@component
def report_enrolment(
    raw: Input[Dataset],
    judged: Input[Dataset],
    stages: Output[Dataset],
    figures: Output[Artifact],
    report: Output[HTML],
    study: str = "",
    as_of: str = "",
) -> int:
    """Count the way of the subjects through the trial, and forecast when it will be full.

    Args:
        raw: Sealed delivery.
        judged: Sealed verdicts.
        stages: Stage of every subject, counts by arm, queries; sealed.
        figures: Boxes of the diagram, forecast, plan; no subject data.
        report: CONSORT diagram, forecast, sites, screen failures.
        study: Study file; the demonstration trial's by default.
        as_of: ISO 8601 day or moment of the report; now by default. Later entries are left out.

    Returns:
        Number of randomised subjects.
    """
    from trialops.stores import step
    from trialops.trial import enrolment

    with step("report-enrolment", study=study, as_of=as_of) as run:
        made, document, page = enrolment.report_enrolment(run, raw, judged, stages, study=study, as_of=as_of)
        run.write_json(figures, document)
        total = made.found.total
        run.metrics |= {"screened": total["screened"], "randomised": total["randomised"], "target": made.target}
        run.show(report, page)
    return int(made.found.total["randomised"])


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


@component
def evaluate_cohorts(
    cdm: Output[Dataset],
    cohorts: Output[Dataset],
    changes: Output[Dataset],
    summary: Output[Artifact],
    pages: Output[Artifact],
    report: Output[HTML],
    definitions: str = "",
    vocabulary: str = "",
    study: str = "",
) -> int:
    """Evaluate cohort definitions over the newest OMOP tables, keep the members, say who came and went and why.

    Args:
        cdm: Names the load of OMOP tables that was looked at.
        cohorts: OMOP tables cohort and cohort_definition.
        changes: Who entered, left or has other dates, and where everybody stands; sealed.
        summary: Definitions with version and digest, and sizes that may be told.
        pages: A page for each cohort.
        report: Sizes, overlap, flow, attrition and changes of all cohorts.
        definitions: Folder with ATLAS JSON or YAML files; empty: what was imported, else what ships.
        vocabulary: Folder with an Athena vocabulary download, for descendants and mapped concepts.
        study: Study file; it says whether outputs are blinded.

    Returns:
        Number of cohorts with a membership that has changed.
    """
    from trialops.stores import step
    from trialops.trial.cohorts.steps import evaluate_step, write_pages

    with step("evaluate-cohorts", definitions=definitions, vocabulary=vocabulary, study=study) as run:
        done = evaluate_step(
            run,
            definitions=definitions,
            vocabulary=vocabulary,
            study=study,
            cdm=cdm,
            cohorts=cohorts,
            changes=changes,
        )
        run.write_json(summary, done.summary)
        write_pages(done.managed, run.workdir / "pages")
        run.write_folder(pages, run.workdir / "pages")
        run.metrics |= {"cohorts": len(done.managed.cohorts), "changed": done.managed.changed}
        run.show(report, done.page)
    return done.managed.changed


@component
def describe_cohorts(
    cdm: Input[Dataset],
    cohorts: Input[Dataset],
    summary: Input[Artifact],
    tables: Output[Artifact],
    report: Output[HTML],
    vocabulary: str = "",
) -> int:
    """Table 1 of every cohort, with standardised differences from another cohort or from everybody else.

    Args:
        cdm: The load that the cohorts were evaluated over.
        cohorts: Tables of the cohorts.
        summary: Document of the evaluation.
        tables: The tables as a document.
        report: The same for a person.
        vocabulary: As for the evaluation.

    Returns:
        Number of cohorts that are large enough to be described.
    """
    from trialops.stores import step
    from trialops.trial.cohorts.steps import describe_step

    with step("describe-cohorts", vocabulary=vocabulary) as run:
        made, page, document = describe_step(run, cdm=cdm, cohorts=cohorts, summary=summary, vocabulary=vocabulary)
        described = sum(bool(one.lines) for one in made)
        run.write_json(tables, document)
        run.metrics |= {"described": described}
        run.show(report, page)
    return described
