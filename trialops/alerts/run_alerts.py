"""What the end of a run raises and ends: a failure, a fallback, a decision that somebody must look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialops.alerts.notification import NOTICED
from trialops.alerts.raise_alert import Alert, raise_alerts, register_of
from trialops.alerts.routes import load_routes

if TYPE_CHECKING:
    from trialops.alerts.notification import Notification
    from trialops.stores.context import Step

FAILED, FALLBACK, FINDING = "PipelineFailed", "PipelineFallback", "PipelineFinding"
WAITS = frozenset({"hold", "reports rejected", "reports held"})
"""Decisions that wait for a person, besides those that notification names as to be looked at."""
GRAVE = frozenset({"reports overdue", "reports rejected", "boundary reached"})
"""Decisions for which somebody is paged."""


def alerts_of(message: Notification, records: Sequence[Mapping[str, Any]], area: str) -> list[Alert]:
    """The alerts of a run that has ended.

    Args:
        message: What it came to.
        records: Its step records.
        area: Of its pipeline.
    """
    labels = {"area": area, "pipeline": message.pipeline, "run_id": message.run_id}
    if message.severity == "critical":
        why = next((line for line in message.lines if " failed: " in line), "a step ended before it could say why")
        return [Alert(FAILED, "critical", labels, f"{message.pipeline} failed: {why}", "pipeline-failed")]
    made = []
    for record in records:
        decision = str((record.get("decision") or {}).get("decision", ""))
        of_step = {**labels, "step": str(record["step"]), "decision": decision}
        if decision in ("fallback", "rollback"):
            text = f"{message.pipeline} went on with an earlier version: {record['step']} decided {decision}."
            made.append(Alert(FALLBACK, "warning", of_step, text, "pipeline-fallback"))
        elif decision in NOTICED | WAITS:
            text = f"{record['step']} of {message.pipeline} says {decision}: somebody must look."
            severity: Any = "critical" if decision in GRAVE else "warning"
            made.append(Alert(FINDING, severity, of_step, text, "pipeline-finding"))
    return made


def tell_of_run(run: Step, message: Notification, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Raise what a run calls for, and end what earlier runs of its pipeline called for and this one does not.

    A run that failed says nothing of what an earlier one found: that stays.

    Returns:
        Fingerprints of what was raised.
    """
    from trialops.stores.database import writing

    area = load_routes().pipelines.get(message.pipeline, "operations")
    raised = raise_alerts(run, made) if (made := alerts_of(message, records, area)) else []
    over = (FAILED,) if message.severity == "critical" else (FAILED, FALLBACK, FINDING)
    register = register_of(run)
    mine = {"name": "pipeline", "value": message.pipeline}
    ending = [
        alert.fingerprint
        for alert in register.known().values()
        if alert.firing and alert.name in over and alert.matches([mine]) and alert.fingerprint not in raised
    ]
    if ending:
        with writing(register.engine) as connection:
            register.lock(connection)
            register.end(connection, ending)
    return raised
