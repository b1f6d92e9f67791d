"""The message at the end of a run: composed from the run's own evidence, then delivered to the console and a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from trialops.stores.objects import ObjectStore

Severity = Literal["info", "warning", "critical"]
#: Decisions of a monitoring step that somebody should look at.
NOTICED = frozenset(
    {
        "degraded",
        "miscalibrated",
        "concept drift",
        "drift",
        "retrain",
        "reports overdue",
        "reports due",
        "boundary reached",
    }
)


@dataclass(frozen=True)
class Notification:
    """One message. ``lines`` hold counts, decisions and step names, never data of a subject."""

    at: str
    run_id: str
    pipeline: str
    severity: Severity
    title: str
    lines: Sequence[str]


def of_run(run_id: str, pipeline: str, orchestrator_state: str, records: Sequence[Mapping[str, Any]]) -> Notification:
    """What a run came to.

    The orchestrator's word is not enough: an exit task can be told of success while a step has failed
    (kubeflow/pipelines#13888), so any failed record wins.

    Args:
        run_id: Run.
        pipeline: Catalogue name.
        orchestrator_state: State the exit task was given, for example ``SUCCEEDED``.
        records: Step records of the run.
    """
    failed = [record for record in records if record["state"] != "finished"]
    decisions = [(record["step"], record["decision"]) for record in records if record.get("decision")]
    lines = [f"{step}: {decision['decision']}" for step, decision in decisions]
    for record in failed:
        error = record.get("error", {})
        lines.append(f"{record['step']} failed: {error.get('what', 'no reason recorded')}")
    severity: Severity = "info"
    if failed or orchestrator_state not in ("SUCCEEDED", "COMPLETE"):
        severity, title = "critical", f"{pipeline} failed"
    elif any(decision["decision"] in ("fallback", "rollback") for _, decision in decisions):
        severity, title = "warning", f"{pipeline} finished on a fallback"
    elif noticed := sorted({decision["decision"] for _, decision in decisions} & NOTICED):
        severity, title = "warning", f"{pipeline} found: {', '.join(noticed)}"
    else:
        title = f"{pipeline} finished"
    return Notification(datetime.now(UTC).isoformat(timespec="seconds"), run_id, pipeline, severity, title, lines)


def deliver(notification: Notification, objects: ObjectStore) -> str:
    """Print the message and keep it with the run; returns its object key."""
    print(f"[{notification.severity}] {notification.title} ({notification.run_id})")
    for line in notification.lines:
        print(f"  {line}")
    key = f"runs/{notification.run_id}/notification.json"
    objects.put(key, json.dumps(asdict(notification), indent=1, sort_keys=True).encode())
    return key
