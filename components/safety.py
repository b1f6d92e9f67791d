"""KFP components: drug safety."""

from kfp.dsl import HTML, Dataset, Input, Output

from components.base import component


@component
def assess_safety_cases(
    raw: Input[Dataset], cases: Output[Dataset], report: Output[HTML], study: str = "", as_of: str = ""
) -> str:
    """Keep the case register: serious events become cases, changes become versions, versions run the clocks.

    Args:
        raw: Sealed delivery.
        cases: Cases with subject, event and version, sealed; for the roles that may see them.
        report: Open clocks by case id, critical queries, counts.
        study: Study file; the demonstration trial's by default.
        as_of: ISO 8601 time the clocks are read at; now by default. Later entries of the delivery are left out.

    Returns:
        reports overdue, reports due, clocks run, or no clock runs.
    """
    from datetime import UTC, datetime

    from trialops.safety.case_page import cases_page, counts, standing
    from trialops.safety.case_run import assess_cases, keep_delivery
    from trialops.safety.clock_times import moment
    from trialops.safety.safety_policy import alert_levels, safety_policy
    from trialops.stores import step
    from trialops.trial.study_file import study_file
    from trialops.trial.tables import trial_tables

    with step("assess-safety-cases", study=study, as_of=as_of) as run:
        stated = study_file(study)
        policy, levels = safety_policy(stated), alert_levels()
        now = moment(as_of) if as_of else datetime.now(UTC)
        trial = trial_tables(run, raw, reason="Safety cases and their reporting clocks")
        keep_delivery(run, raw, trial)
        assessed = assess_cases(run, trial, stated, policy, now=now, received=now, back=bool(as_of))
        numbers = counts(assessed, levels)
        decision = run.decide(standing(assessed, levels), numbers=numbers, policy=policy.digest)
        run.seal(cases, {"cases": assessed.cases})
        run.metrics |= numbers
        run.show(report, cases_page(assessed, policy, levels))
    return decision


@component
def grade_adverse_events(
    raw: Input[Dataset],
    graded: Output[Dataset],
    review: Output[HTML],
    ctcae_version: str = "",
    study: str = "",
    cut: str = "",
) -> int:
    """Grade results and events by CTCAE, and find events that the results show and nobody has reported.

    Args:
        raw: Sealed delivery.
        graded: Graded events, results, findings, queries, shifts and liver tests, sealed.
        review: Counts for the safety physician.
        ctcae_version: "4.03" or "5.0"; that of the study file, else of the grading policy, by default.
        study: Study file; the demonstration trial's by default.
        cut: Last day that counts, ISO 8601, or a time of it; everything delivered by default.

    Returns:
        Number of queries to the sites.
    """
    from trialops.safety.grading import basis, cut_day, grade_trial, keep_queries
    from trialops.safety.grading_page import counts, grading_page
    from trialops.safety.grading_policy import grading_policy_of
    from trialops.safety.grading_record import keep
    from trialops.safety.safety_policy import safety_policy
    from trialops.stores import step
    from trialops.trial.study_file import study_file
    from trialops.trial.tables import cut_at, trial_tables

    with step("grade-adverse-events", ctcae_version=ctcae_version, study=study, cut=cut) as run:
        stated = study_file(study)
        policy, safety = grading_policy_of(stated), safety_policy(stated)
        trial = trial_tables(run, raw, reason="Grading of results and adverse events")
        trial = cut_at(trial, cut_day(cut, safety.time_zone)) if cut else trial
        done = grade_trial(trial, policy, safety, version=ctcae_version, progress=run.progress)
        run.seal(graded, done.sealed())
        if not cut:
            # A look back is nobody's newest grading, and answers no question.
            keep(run, graded, trial.study, basis(done, trial, policy, safety))
            keep_queries(run, trial.study, done.queries, policy.digest)
        run.metrics |= counts(done)
        run.show(review, grading_page(done, policy))
    return int(done.queries.height)


@component
def hand_over_reports(
    report: Output[HTML],
    study: str = "",
    purpose: str = "Hand-over of safety reports that a safety physician has released",
    destination: str = "fda_ind_cder",
    as_of: str = "",
) -> str:
    """Write, check, queue and send the released cases; read acknowledgements; count every released version once.

    Args:
        report: What is on its way and who has to look, by case id.
        study: Study file; the demonstration trial's by default.
        purpose: Why, in a sentence; it goes into the audit trail. A role that may not send leaves everything waiting.
        destination: Where reports for FDA go, a name of destinations.yaml.
        as_of: ISO 8601 time to look back at: nothing is then queued or sent.

    Returns:
        reports rejected, reports overdue, reports held, reports wait, all handed over, or nothing to hand over.
    """
    from datetime import UTC, datetime

    from trialops.safety.clock_times import moment
    from trialops.safety.e2b.submission import send_policy
    from trialops.safety.hand_over import hand_over, look_back
    from trialops.safety.hand_over_page import hand_over_page, numbers, standing
    from trialops.safety.register import CaseRegister
    from trialops.safety.safety_policy import safety_policy
    from trialops.stores import step
    from trialops.stores.study import bound_study
    from trialops.trial.study_file import study_file

    with step("hand-over-reports", study=study, purpose=purpose, destination=destination, as_of=as_of) as run:
        stated = study_file(study)
        policy, register = safety_policy(stated), CaseRegister(run.engine, bound_study(run.objects))
        if as_of:
            done = look_back(run, register, moment(as_of))
        else:
            done = hand_over(
                run,
                register,
                stated,
                policy,
                clock=lambda: datetime.now(UTC),
                purpose=purpose,
                destination=destination,
            )
        run.metrics |= numbers(done)
        decision = run.decide(standing(done), numbers=numbers(done), policy=send_policy().digest)
        run.show(report, hand_over_page(done, policy.time_zone))
    return decision


@component
def screen_trial_events(raw: Input[Dataset], report: Output[HTML], study: str = "", as_of: str = "") -> str:
    """Compare the events under watch with their boundaries, arms together, the blind kept.

    Args:
        raw: Sealed delivery.
        report: Where each watched event stands, and the boundaries.
        study: Study file; it says what is watched. The demonstration trial's by default.
        as_of: Last day that counts, ISO 8601, or a time of it; everything delivered by default.

    Returns:
        boundary reached, no boundary reached, or nothing is watched.
    """
    from datetime import date

    from trialops.safety.screening import screen
    from trialops.stores import step
    from trialops.trial.study_file import study_file
    from trialops.trial.tables import trial_tables

    with step("screen-trial-events", study=study, as_of=as_of) as run:
        trial = trial_tables(run, raw, reason="Events under watch, arms together")
        stated = study_file(study)
        done = screen(trial, stated, day=date.fromisoformat(as_of[:10]) if as_of else None)
        run.metrics |= {"watched": len(done.watches), "reached": sum(one.reached for one in done.watches)}
        decision = run.decide(done.decision, numbers=done.numbers, policy=stated.digest)
        run.show(report, done.page)
    return decision


@component
def screen_reports(
    pairs: Output[Dataset],
    report: Output[HTML],
    source: str = "",
    form: str = "rows",
    report_column: str = "report",
    product_column: str = "product",
    event_column: str = "event",
    strata: str = "",
    roles: str = "PS",
    without: str = "",
    dataset: str = "spontaneous",
    policy: str = "",
    ebgm: bool = True,
    public: bool = False,
    continuous: bool = False,
    withdrawn: str = "",
) -> str:
    """Screen spontaneous reports from outside the trial for disproportionality: PRR, ROR, IC and EBGM of every pair.

    Args:
        pairs: One row per product-event pair with all measures; those a batch touched, where not all were screened.
        report: Counts, prior, signals, new ones, what may hide others. Disproportionality, not a rate.
        source: CSV or Parquet file or folder of report rows, or folder of FAERS quarters; none: nothing is screened.
        form: rows or faers.
        report_column: Column of the report id.
        product_column: Column of the product.
        event_column: Column of the event.
        strata: Columns to stratify the expected counts by, with commas; for FAERS sex, age, year.
        roles: Roles of products that count, for FAERS, with commas.
        without: Pairs whose reports are left out to see what they mask: PRODUCT => EVENT, with semicolons.
        dataset: Name under which screenings are compared and the state is kept.
        policy: Policy file; the shipped one by default.
        ebgm: Whether to compute EBGM.
        public: Whether the reports are published data: small counts are shown then.
        continuous: Whether the source is a batch of new, corrected and withdrawn reports.
        withdrawn: File of report ids withdrawn with the batch, one per line.

    Returns:
        signals, no signals, no EBGM, nothing scored, or nothing given.
    """
    from trialops.safety.signals.policy import load_signal_policy
    from trialops.safety.signals.run import asked, nothing, nothing_page, screened
    from trialops.stores import step

    with step("screen-reports", source=source, form=form, dataset=dataset, continuous=continuous) as run:
        stated = load_signal_policy(policy)
        if not source:
            run.write_table(pairs, nothing(stated).pairs, table="signals/nothing")
            run.show(report, nothing_page())
            return run.decide("nothing given", numbers={}, policy=stated.digest)
        request = asked(
            source,
            form=form,
            report=report_column,
            product=product_column,
            event=event_column,
            strata=[name.strip() for name in strata.split(",") if name.strip()],
            roles=[name.strip() for name in roles.split(",") if name.strip()],
            without=[pair.strip() for pair in without.split(";") if pair.strip()],
            ebgm=ebgm,
            public=public,
        )
        found = screened(
            run.lake,
            dataset,
            request,
            stated,
            run.workdir,
            run.progress,
            continuous=continuous,
            withdrawn=withdrawn,
            run_id=run.run_id,
        )
        run.write_table(pairs, found.pairs, table=found.table)
        run.metrics |= {name: n for name, n in found.numbers.items() if isinstance(n, int)}
        run.show(report, found.page)
        decision = run.decide(found.outcome, numbers=found.numbers, policy=stated.digest)
    return decision
