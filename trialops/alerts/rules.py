"""The embedded rules: which alerts the measured values call for, and what that makes of the register."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from trialops.alerts.guard import Guard, clean_alert
from trialops.alerts.measures import Sample
from trialops.alerts.raise_alert import Alert, occurred
from trialops.alerts.register import EVENT, RULE, AlertRegister, Known, fingerprint, utc_text, utc_time
from trialops.alerts.thresholds import Rule, Thresholds

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Broken:
    """A rule whose condition holds for the labels of a sample."""

    rule: Rule
    alert: Alert
    value: float


def broken(thresholds: Thresholds, samples: Sequence[Sample]) -> list[Broken]:
    """Every rule that holds, once for each set of labels: as Prometheus does, `metric > 1 and on (...) also > 2`."""
    by_metric: dict[str, list[Sample]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric, []).append(sample)
    found = []
    for rule in thresholds.rules:
        for sample in by_metric.get(rule.when.metric, []):
            if rule.when.holds(sample.value) and _also(rule, sample, by_metric):
                labels = {**sample.labels, "area": rule.area}
                text = rule.summary.format(value=figure(sample.value), **sample.labels)
                found.append(Broken(rule, Alert(rule.name, rule.severity, labels, text, rule.runbook), sample.value))
    return found


def _also(rule: Rule, sample: Sample, by_metric: Mapping[str, Sequence[Sample]]) -> bool:
    if rule.also is None:
        return True
    return any(
        rule.also.holds(other.value)
        and all(other.labels.get(name, "") == sample.labels.get(name, "") for name in rule.also.same)
        for other in by_metric.get(rule.also.metric, [])
    )


def figure(value: float) -> str:
    """A value as a sentence has it: four significant digits at most."""
    return f"{value:.4g}"


def settle_rules(
    register: AlertRegister,
    connection: Connection,
    found: Iterable[Broken],
    unread: Iterable[str],
    thresholds: Thresholds,
    guard: Guard,
    now: datetime,
) -> dict[str, int]:
    """Bring the register in line with the rules, and end alerts of events that nobody has raised again.

    A rule whose metric could not be read ends nothing: not to know is not to be well.

    Args:
        register: The alerts; the transaction holds its lock.
        connection: The transaction.
        found: Rules that hold.
        unread: Metrics that could not be read.
        thresholds: The rules.
        guard: Replaces what identifies a subject.
        now: The time.

    Returns:
        Rows written, by event.
    """
    known = register.known(connection=connection)
    blind = set(unread)
    unsure = {
        rule.name
        for rule in thresholds.rules
        if rule.when.metric in blind or (rule.also is not None and rule.also.metric in blind)
    }
    entries: list[tuple[str, Known]] = []
    holding: set[str] = set()
    for item in found:
        alert = clean_alert(item.alert, guard)
        key = fingerprint(alert.name, alert.severity, alert.labels)
        if key in holding:
            continue
        holding.add(key)
        if entry := _holds(known.get(key) or Known(key), alert, item.rule.wait, now):
            entries.append(entry)
    for alert_known in known.values():
        if alert_known.fingerprint not in holding and (
            entry := _over(alert_known, alert_known.name in unsure, thresholds.resolve_after, now)
        ):
            entries.append(entry)
    register.write_all(connection, entries, now)
    counts: dict[str, int] = {}
    for event, _ in entries:
        counts[event] = counts.get(event, 0) + 1
    return counts


def _holds(before: Known, alert: Alert, wait: timedelta, now: datetime) -> tuple[str, Known] | None:
    """What a rule that holds makes of its alert; None where nothing changes."""
    if before.firing:
        return None  # it lasts: no row a minute for what has not changed
    if before.state == "pending":
        if now < utc_time(before.since) + wait:
            return None
        return occurred(before, alert, now, RULE)
    if wait:
        _, begun = occurred(before, alert, now, RULE)
        return "pending", replace(begun, state="pending", episode=before.episode)
    return occurred(before, alert, now, RULE)


def _over(alert: Known, unsure: bool, resolve_after: timedelta, now: datetime) -> tuple[str, Known] | None:
    """What the end of its cause makes of an alert; None where it goes on or has ended."""
    if alert.origin == RULE and not unsure:
        if alert.firing:
            return "resolved", replace(alert, state="resolved", ended=utc_text(now))
        if alert.state == "pending":
            return "cleared", replace(alert, state="cleared")
    if alert.origin == EVENT and alert.firing and now >= utc_time(alert.seen) + resolve_after:
        return "resolved", replace(alert, state="resolved", ended=utc_text(now))
    return None
