"""The one language of checks: what was looked at, what was found, what to do about it.

A check that could not be carried out says *unknown*: nothing is healthy because nobody could reach it. Pages, alerts,
metrics and exit codes are made from findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.pages import Table, Verdict
    from trialops.stores.context import Step

State = Literal["healthy", "degraded", "broken", "unknown"]
STATES: tuple[State, ...] = ("healthy", "unknown", "degraded", "broken")
"""From the best to the worst: what is known to be wrong counts for more than what is not known."""

SEVERITY: Mapping[State, Literal["warning", "critical"]] = {
    "broken": "critical",
    "degraded": "warning",
    "unknown": "warning",
}
"""Severity of the alert that a finding raises; a healthy one raises none."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        component: What was looked at, as its users call it ("kafka", "postgresql").
        check: Which property of it ("offline partitions").
        state: healthy; degraded: works, and somebody should look; broken: does not do what it is for; unknown: could
            not be reached or read.
        detail: What came back, in words; never an address with a password, never anything of a subject.
        value: The measured figure, in the unit that the detail names; None where there is none.
        threshold: The figure from which on the state is another; None where there is none.
        fix: What to do; empty where nothing is to be done.
        asked: What was asked, and of whom.
    """

    component: str
    check: str
    state: State
    detail: str
    value: float | None = None
    threshold: float | None = None
    fix: str = ""
    asked: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        return asdict(self)


def worst(findings: Iterable[Finding]) -> State:
    """The state of the whole: the worst of its parts; of nothing at all nothing is known."""
    return max((found.state for found in findings), key=STATES.index, default="unknown")


def by_component(findings: Iterable[Finding]) -> dict[str, State]:
    """The worst state of each component, in name order."""
    grouped: dict[str, list[Finding]] = {}
    for found in findings:
        grouped.setdefault(found.component, []).append(found)
    return {name: worst(grouped[name]) for name in sorted(grouped)}


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Findings per state; every state has a key."""
    counted = Counter(found.state for found in findings)
    return {state: counted[state] for state in STATES}


def exit_code(findings: Iterable[Finding]) -> int:
    """For shells and probes: 0 healthy, 1 degraded or broken, 2 unknown."""
    return {"healthy": 0, "unknown": 2}.get(worst(findings), 1)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, then by component and check."""
    return sorted(findings, key=lambda found: (-STATES.index(found.state), found.component, found.check))


def verdict(findings: Sequence[Finding]) -> Verdict:
    """The state of the whole for the top of a page."""
    from trialops.pages import Verdict

    state = worst(findings)
    tone = {"healthy": "good", "broken": "bad"}.get(state, "warn")
    named = sorted({found.component for found in findings if found.state == state}) if state != "healthy" else []
    number = counts(findings)
    text = f"{len(findings)} checks: " + ", ".join(f"{number[s]} {s}" for s in STATES if number[s])
    return Verdict(state, tone, text + (f"; {', '.join(named)}" if named else ""))  # type: ignore[arg-type]


def table(findings: Iterable[Finding], caption: str = "") -> Table:
    """Findings for a page, the worst first."""
    from trialops.pages import Table

    columns = ("Component", "Check", "State", "Found", "Value", "Threshold", "What to do", "Asked")
    rows = [(f.component, f.check, f.state, f.detail, f.value, f.threshold, f.fix, f.asked) for f in in_order(findings)]
    return Table(columns, rows, caption)


def alert_on(
    run_or_engine: Step | Engine, findings: Sequence[Finding], *, name: str, area: str, runbook: str, **labels: str
) -> list[str]:
    """Raise an alert for each finding that is not healthy; end those of checks that are healthy again.

    Args:
        run_or_engine: The step, or a migrated database.
        findings: Everything that was looked at.
        name: Name of the alert.
        area: Who is concerned (see `trialops.alerts.raise_alert.Alert`).
        runbook: Heading of the page of runbooks.
        **labels: More labels; component and check are always there.

    Returns:
        Fingerprints of what was raised, the worst first.
    """
    from trialops.alerts.raise_alert import Alert, raise_alerts, register_of, resolve_alert

    bad = [found for found in in_order(findings) if found.state != "healthy"]
    state = {(found.component, found.check): found.state for found in findings}
    for known in register_of(run_or_engine).known().values():
        marks = (known.labels.get("component", ""), known.labels.get("check", ""))
        if known.firing and known.name == name and marks in state and known.severity != SEVERITY.get(state[marks]):
            # Healthy again, or of another severity: broken is not also degraded.
            resolve_alert(run_or_engine, name, {**known.labels, "severity": known.severity})
    alerts = [
        Alert(
            name=name,
            severity=SEVERITY[found.state],
            labels={**labels, "area": area, "component": found.component, "check": found.check},
            summary=f"{found.component}, {found.check}: {found.state}. {found.detail} {found.fix}".strip(),
            runbook=runbook,
        )
        for found in bad
    ]
    return raise_alerts(run_or_engine, alerts) if alerts else []
