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
    from trialops.monitoring.performance_page import performance_page
    from trialops.monitoring.verdict import BAD
    from trialops.monitoring.watch import look
    from trialops.privacy.permission import unrestricted
    from trialops.stores import step

    with step("judge-performance", task=task) as run:
        loaded = load_task(task)
        found = look(run, loaded, unrestricted(run.read(validated), run), run.read_table(predictions))
        judged = found.performance
        run.write_json(performance, found.as_dict())
        run.metrics |= {"matured": judged.n, "events": judged.events}
        numbers = {
            **run.metrics,
            "auroc": str(judged.auroc),
            "at_promotion": str(judged.at_promotion),
            "relative_drop": str(judged.drop),
            "concept": found.concept.reason,
        }
        run.decide(found.verdict, numbers=numbers, policy={"name": found.policy.name, "digest": found.policy.digest})
        if found.verdict in BAD:
            run.audit("alert.model", task, judged.model, reason="; ".join((*judged.reasons, found.concept.reason)))
        run.show(report, performance_page(found, loaded))
    return found.verdict


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
