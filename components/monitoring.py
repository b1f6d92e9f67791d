"""KFP components: monitoring."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.base import component


@component
def collect_predictions(predictions: Output[Dataset], task: str) -> int:
    """Bring what the model servers have logged into the lake, each answer once.

    Args:
        predictions: All predictions collected so far.
        task: Prediction task, and name of the registered model.

    Returns:
        Number of predictions.
    """
    from trialops.monitoring.collect import collect, predictions_table
    from trialops.stores import step

    with step("collect-predictions", task=task) as run:
        collected = collect(run, task)
        run.write_table(predictions, collected, table=predictions_table(task))
        run.metrics |= {"predictions": collected.height}
    return collected.height


@component
def judge_performance(
    validated: Input[Dataset],
    predictions: Input[Dataset],
    performance: Output[Artifact],
    report: Output[HTML],
    task: str,
) -> str:
    """Judge the model in use on its matured predictions, and look for concept drift along time.

    Args:
        validated: Clean tables, for the outcomes.
        predictions: Logged predictions.
        performance: Performance and concept drift as a document.
        report: Matured cohort, performance against that at promotion, sites, residuals along time.
        task: Prediction task.

    Returns:
        "degraded", "miscalibrated", "concept drift", "not degraded" or "insufficient evidence".
    """
    from trialops.models.task import load_task
    from trialops.monitoring.performance_page import no_model_page, performance_page
    from trialops.monitoring.verdict import BAD, load_policy
    from trialops.monitoring.watch import look, nothing_in_use
    from trialops.privacy.permission import unrestricted
    from trialops.stores import step

    with step("judge-performance", task=task) as run:
        loaded, policy = load_task(task), load_policy()
        tables = unrestricted(run.read(validated), run)
        found = look(run, loaded, tables, run.read_table(predictions), policy)
        document = nothing_in_use(task, policy) if found is None else found.as_dict()
        run.write_json(performance, document)
        run.metrics |= {} if found is None else found.numbers()
        numbers = {**run.metrics, "reason": document["reason"]}
        verdict = run.decide(document["verdict"], numbers=numbers, policy=document["policy"])
        if verdict in BAD:
            run.audit("alert.model", task, document["model"], reason=f"{verdict}: {document['reason']}")
        run.show(report, no_model_page(task) if found is None else performance_page(found, loaded))
    return verdict


@component
def detect_drift(
    validated: Input[Dataset],
    features: Input[Dataset],
    predictions: Input[Dataset],
    drift: Output[Artifact],
    rows: Output[Dataset],
    report: Output[HTML],
    task: str,
) -> str:
    """Compare what has come since with what the model in use was developed on.

    Args:
        validated: Clean tables, for who is at risk at the landmark.
        features: Feature views.
        predictions: Logged predictions.
        drift: Drift of features, covariate shift and correlations as a document.
        rows: What was compared: reference and current.
        report: Features by drift, distributions, sites, the domain classifier, correlations.
        task: Prediction task.

    Returns:
        "drift", "no drift" or "insufficient evidence".
    """
    import polars as pl

    from trialops.models.task import load_task
    from trialops.monitoring.drift_look import examine, nothing_registered
    from trialops.monitoring.drift_page import drift_page, no_model_page
    from trialops.monitoring.drift_policy import load_drift_policy
    from trialops.privacy.permission import unrestricted
    from trialops.stores import step

    with step("detect-drift", task=task) as run:
        loaded, policy = load_task(task), load_drift_policy()
        tables = unrestricted(run.read(validated), run)
        found = examine(run, loaded, tables, run.read(features), run.read_table(predictions), policy)
        if found is None:
            document, page = nothing_registered(task, policy), no_model_page(task)
            nobody = pl.DataFrame(schema={"subject_id": pl.String})
            compared = {"reference": nobody, "current": nobody}
        else:
            document, page = found.look.as_dict(), drift_page(found.look, policy, alias=found.watched.alias)
            columns = ["subject_id", "site_id", *found.watched.bundle.features]
            compared = {"reference": found.watched.rows.select(columns), "current": found.current.select(columns)}
            run.metrics |= found.look.numbers()
        run.write_json(drift, document)
        run.write(rows, compared, zone=f"drift_{task}")
        verdict = run.decide(
            document["verdict"], numbers={**run.metrics, "reason": document["reason"]}, policy=document["policy"]
        )
        if document["alert"] or verdict == "drift":
            run.audit("alert.drift", task, document["model"], reason=document["reason"])
        run.show(report, page)
    return verdict


@component
def evidently_report(rows: Input[Dataset], report: Output[HTML], task: str, wanted: bool = False) -> int:
    """Write Evidently's report on a sample of what was compared, to look around in; our own figures decide.

    Args:
        rows: Reference and current rows.
        report: Evidently's page; a note where it was not asked for or there are too few rows.
        task: Prediction task.
        wanted: Whether to write it: importing Evidently takes seconds.

    Returns:
        Number of features in the report; 0 where none was written.
    """
    from pathlib import Path

    from trialops.monitoring.drift_evidently import no_report, write_report
    from trialops.monitoring.drift_policy import load_drift_policy
    from trialops.stores import step

    with step("evidently-report", task=task, wanted=wanted) as run:
        compared, policy = run.read(rows), load_drift_policy()
        shown: list = []
        if not wanted:
            run.show(report, no_report("It was not asked for: set evidently to true."))
        elif compared["current"].height < policy.min_rows:
            run.show(report, no_report(f"There are fewer than {policy.min_rows} current rows."))
        else:
            features = [name for name in compared["reference"].columns if name not in ("subject_id", "site_id")]
            shown = write_report(
                compared["reference"],
                compared["current"],
                features,
                Path(report.path),
                threshold=policy.alert_psi,
                seed=policy.seed,
            )
        run.metrics |= {"features": len(shown)}
    return len(shown)


@component
def conclude_monitoring(
    performance: Input[Artifact],
    drift: Input[Artifact],
    verdict: Output[Artifact],
    report: Output[HTML],
    task: str,
) -> str:
    """One verdict over the last windows; where enough of them are bad, ask for a retraining, once.

    Args:
        performance: Performance and concept drift of the model in use.
        drift: Drift of its features.
        verdict: The verdict with its windows as a document.
        report: The windows and the rule.
        task: Prediction task.

    Returns:
        "healthy", "watch", "retrain", "waiting" or "unknown".
    """
    from trialops.monitoring.performance_page import verdict_page
    from trialops.monitoring.verdict import load_policy
    from trialops.monitoring.watch import conclude
    from trialops.stores import step

    with step("conclude-monitoring", task=task) as run:
        policy = load_policy()
        concluded = conclude(run, task, run.read_json(performance), run.read_json(drift), policy)
        run.write_json(verdict, concluded.as_dict())
        run.metrics |= {"bad_windows": concluded.bad, "windows": len(concluded.windows), "new": concluded.new}
        run.decide(
            concluded.state,
            numbers={**run.metrics, "reason": concluded.reason},
            policy={"name": policy.name, "digest": policy.digest},
        )
        run.show(report, verdict_page(concluded, policy))
    return concluded.state
