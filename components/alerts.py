"""KFP components: alerts."""

from kfp.dsl import PipelineTaskFinalStatus

from components.base import component


@component
def notify(status: PipelineTaskFinalStatus, pipeline: str) -> str:
    """Tell the people concerned how a run ended, from the run's own evidence; log it, publish its lineage, anchor.

    Args:
        status: What the orchestrator says of the run.
        pipeline: Catalogue name.

    Returns:
        Severity: info, warning or critical.
    """
    from trialops.alerts.notification import deliver, of_run
    from trialops.governance.anchors import anchor_head
    from trialops.governance.lineage import run_records
    from trialops.governance.openlineage import publish
    from trialops.stores import step
    from trialops.stores.run_log import finish_run, record_run
    from trialops.stores.study import bound_study
    from trialops.version import code_version

    with step("notify", pipeline=pipeline, state=status.state) as run:
        message = of_run(run.run_id, pipeline, status.state, run_records(run.objects, run.run_id))
        run.audit("alert.notify", pipeline, message.severity, title=message.title)
        page = deliver(message, run.objects)
        study = bound_study(run.objects)
        events, unsent = publish(run.objects, run.lake, run.run_id, pipeline=pipeline, study=study)
        if unsent:
            run.audit("alert.lineage", pipeline, reason=unsent)
        run.metrics |= {"lineage_events": events}
        record_run(run.engine, run.run_id, pipeline, code_version=code_version())
        finish_run(run.engine, run.run_id, "failed" if message.severity == "critical" else "succeeded", page=page)
    if run.settings.audit_log_enabled:
        anchor_head(run.trail, run.objects)  # after the step's own last record, so that it is covered too
    return message.severity
