"""Raising an alert: the one call by which any part of the platform says that somebody must look.

The call writes to the database and returns; telling people is the work of the pipelines `alerting` and `notification`.
What was raised is never lost, and raised again while it lasts it is counted, not told again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trialops.alerts.register import EVENT, AlertRegister, Known, fingerprint, utc_text
from trialops.alerts.thresholds import SEVERITIES, Severity
from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.context import Step


@dataclass(frozen=True)
class Alert:
    """What somebody must look at.

    Attributes:
        name: Words run together: ``BackupNotVerified``.
        severity: info; warning: within the day; critical: somebody is paged.
        labels: What tells this alert from others of its name; `area` (data, model, pipeline, infrastructure, safety,
            security, transfer) says who is told. Never a subject, never a time, never a value that changes.
            `run_id`, `workflow`, `pod` and `instance` are shown and are no part of what the alert is.
        summary: One sentence; counts and names of things, nothing of a subject.
        runbook: Heading of the page of runbooks, or an address.
    """

    name: str
    severity: Severity
    labels: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    runbook: str = ""


def raise_alert(run_or_engine: Step | Engine, alert: Alert, *, now: datetime | None = None) -> str:
    """Raise one alert.

    Args:
        run_or_engine: The step that raises it, or a migrated database outside steps.
        alert: The alert. Words that identify a subject are replaced before anything is kept.
        now: When; the time now by default.

    Returns:
        The alert's fingerprint.

    Raises:
        TrialOpsError: The severity is unknown, or a label's name may not be used.
    """
    return raise_alerts(run_or_engine, [alert], now=now)[0]


def raise_alerts(run_or_engine: Step | Engine, alerts: Sequence[Alert], *, now: datetime | None = None) -> list[str]:
    """Raise many alerts in one transaction; see `raise_alert`."""
    from trialops.alerts.guard import clean_alert, guard_of
    from trialops.stores.database import writing

    register = register_of(run_or_engine)
    at = now or datetime.now(UTC)
    for alert in alerts:
        if alert.severity not in SEVERITIES or not alert.name:
            raise TrialOpsError(
                f"An alert cannot be {alert.severity!r}, or has no name",
                where=alert.name,
                fix="Use one of " + ", ".join(SEVERITIES) + ", and a name.",
            )
    guard = guard_of(register.engine)
    cleaned = [clean_alert(alert, guard) for alert in alerts]
    prints = [fingerprint(alert.name, alert.severity, alert.labels) for alert in cleaned]
    with writing(register.engine) as connection:
        register.lock(connection)
        known = register.known(prints, connection=connection)
        entries: list[tuple[str, Known]] = []
        for alert, key in zip(cleaned, prints, strict=True):
            event, after = occurred(known.get(key) or Known(key), alert, at)
            known[key] = after
            entries.append((event, after))
        register.write_all(connection, entries, at)
    return prints


def occurred(before: Known, alert: Alert, at: datetime, origin: str = EVENT) -> tuple[str, Known]:
    """What one more occurrence makes of an alert: a further one of its episode, or a new episode."""
    if before.firing:
        count = before.count + 1
        return "repeated", replace(
            before,
            count=count,
            labels=dict(alert.labels),
            summary=alert.summary,
            runbook=alert.runbook,
            seen=utc_text(at),
        )
    return "firing", Known(
        fingerprint=before.fingerprint,
        seq=before.seq,
        episode=before.episode + 1,
        origin=origin,
        state="firing",
        name=alert.name,
        severity=alert.severity,
        labels=dict(alert.labels),
        summary=alert.summary,
        runbook=alert.runbook,
        since=utc_text(at),
        seen=utc_text(at),
        count=1,
        # What was told stays known, so that an alert that comes and goes is told no more often than its group.
        told={who: {**note, "status": "resolved"} for who, note in before.told.items()},
    )


def resolve_alert(
    run_or_engine: Step | Engine, name: str, labels: Mapping[str, str], *, now: datetime | None = None
) -> int:
    """End the episodes of the alerts of a name whose labels include those given, whatever their severity.

    Returns:
        How many were ended; 0 where none lasted.
    """
    from trialops.stores.database import writing

    register, at = register_of(run_or_engine), now or datetime.now(UTC)
    wanted = [{"name": "alertname", "value": name}, *({"name": k, "value": v} for k, v in labels.items())]
    if not any(alert.firing and alert.matches(wanted) for alert in register.known().values()):
        return 0  # the usual case takes no writer's turn
    with writing(register.engine) as connection:
        register.lock(connection)
        matching = [key for key, alert in register.known(connection=connection).items() if alert.matches(wanted)]
        return len(register.end(connection, matching, at))


def register_of(run_or_engine: Step | Engine) -> AlertRegister:
    """The register of the study that a step, or the stores of this process, hold."""
    from trialops.settings import settings
    from trialops.stores.context import Step
    from trialops.stores.objects import open_store
    from trialops.stores.study import bound_study

    if isinstance(run_or_engine, Step):
        run = run_or_engine
        study = bound_study(run.objects) or run.settings.study
        return AlertRegister(run.engine, study, actor=run.settings.who, run_id=run.run_id)
    chosen = settings()
    study = bound_study(open_store(chosen.objects)) or chosen.study
    return AlertRegister(run_or_engine, study, actor=chosen.who, run_id=chosen.run_id)
