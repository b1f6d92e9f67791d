"""KFP components: alerts."""

from kfp import dsl, kubernetes
from kfp.dsl import HTML, Output, PipelineTaskFinalStatus

from components.base import SETTINGS_CONFIG_MAP, component

DELIVERY_SECRET = "trialops-alerts"
DELIVERY_VARIABLES = (
    "TRIALOPS_ALERTMANAGER_URL",
    "TRIALOPS_ALERTS_URL",
    "TRIALOPS_ALERT_RULES",
    "TRIALOPS_ALERT_ROUTES",
)
"""Settings of alerting that a pod reads from the ConfigMap; keys and addresses come from the Secret."""


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
    from trialops.alerts.run_alerts import tell_of_run
    from trialops.governance.anchors import anchor_head
    from trialops.governance.lineage import run_records
    from trialops.governance.openlineage import publish
    from trialops.stores import step
    from trialops.stores.run_log import finish_run, record_run
    from trialops.stores.study import bound_study
    from trialops.version import code_version

    with step("notify", pipeline=pipeline, state=status.state) as run:
        records = run_records(run.objects, run.run_id)
        message = of_run(run.run_id, pipeline, status.state, records)
        run.audit("alert.notify", pipeline, message.severity, title=message.title)
        page = deliver(message, run.objects)
        run.metrics |= {"alerts": len(tell_of_run(run, message, records))}
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


@component
def evaluate_alerts(report: Output[HTML], study: str = "", as_of: str = "") -> str:
    """Evaluate the rules, bring the register of alerts in line, hand them to Alertmanager or queue messages.

    Args:
        report: What fires, alerts over time, the rules with their worst values.
        study: Study file, for the reporting clocks; the demonstration trial's by default.
        as_of: ISO 8601 time of the pass; empty is now. Not before what the register knows already.

    Returns:
        The gravest severity that somebody is told of: critical, warning, info, or quiet.
    """
    from trialops.alerts.alert_page import alerting_page, standing
    from trialops.alerts.desk import moment, open_desk
    from trialops.alerts.silences import silences
    from trialops.stores import step

    with step("evaluate-alerts", study=study, as_of=as_of) as run:
        desk = open_desk(run, study_file=study)
        now = desk.not_before(moment(as_of)) if as_of else moment(as_of)
        settled, measured = desk.settle(now)
        run.metrics |= settled.numbers()
        policy = {"thresholds": desk.thresholds.digest, "routes": desk.routes.digest}
        decision = run.decide(standing(settled), numbers=settled.numbers(), policy=policy)
        known, register = silences(desk.register), desk.register
        run.show(report, alerting_page(settled, measured, desk.thresholds, desk.routes, register.history(), known, now))
    return decision


@component
def escalate_alerts(report: Output[HTML], as_of: str = "") -> int:
    """Queue the pages of every level of escalation that is due, and the digests whose period is over.

    Args:
        report: Digests queued.
        as_of: ISO 8601 time of the pass; empty is now.

    Returns:
        Messages queued.
    """
    from trialops.alerts.alert_page import digest_page
    from trialops.alerts.desk import moment, open_desk
    from trialops.alerts.digest import queue_digests
    from trialops.stores import step

    with step("escalate-alerts", as_of=as_of) as run:
        desk = open_desk(run)
        now = desk.not_before(moment(as_of)) if as_of else moment(as_of)
        paged = desk.escalate(now)
        digests = queue_digests(desk.register, desk.outbox, desk.routes, now)
        run.metrics |= {"pages": paged, "digests": len(digests)}
        run.show(report, digest_page(digests, paged, now))
    return paged + len(digests)


@component
def deliver_messages(report: Output[HTML], as_of: str = "") -> str:
    """Hand the messages of the outbox to their receivers, each with one effect.

    Args:
        report: Messages by receiver and state, who is on duty, who was paged.
        as_of: ISO 8601 time of the pass; empty is now.

    Returns:
        undelivered, messages wait, or all told.
    """
    from trialops.alerts.alert_page import WINDOW, delivery_standing, notification_page
    from trialops.alerts.desk import moment, open_desk
    from trialops.stores import step

    with step("deliver-messages", as_of=as_of) as run:
        desk = open_desk(run)
        delivered = desk.deliver(lambda: moment(as_of))
        now = moment(as_of)
        messages = desk.recent_messages(now - WINDOW)
        run.metrics |= delivered.numbers()
        decision = run.decide(delivery_standing(messages), numbers=delivered.numbers(), policy=desk.routes.digest)
        run.show(report, notification_page(delivered, messages, desk.routes, desk.register.history(), now))
    return decision


def with_delivery(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Give a task the addresses of the receivers, and where Alertmanager and the server of links are.

    Returns:
        The same task.
    """
    from trialops.alerts.routes import SHIPPED, load_routes

    kubernetes.use_config_map_as_env(
        task,
        config_map_name=SETTINGS_CONFIG_MAP,
        config_map_key_to_env={name: name for name in DELIVERY_VARIABLES},
        optional=True,
    )
    variables = sorted({receiver.variable for receiver in load_routes(SHIPPED).receivers.values()})
    kubernetes.use_secret_as_env(
        task,
        secret_name=DELIVERY_SECRET,
        secret_key_to_env={name: name for name in ("TRIALOPS_ALERTS_KEY", *variables)},
        optional=True,
    )
    return task
