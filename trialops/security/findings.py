"""Findings: what the screening and the rules say, kept sealed, raised as alerts, shown by name to those who may.

The register is a chain of encrypted documents, one for each screening. An alert and a page hold a finding's id and
counts; who it is about is behind a pseudonym whose way back is a use of access.yaml and leaves a record.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trialops.security.policy import Policy
from trialops.security.rules import Violation
from trialops.security.screening import Unlike
from trialops.stores.chain_log import ChainLog

if TYPE_CHECKING:
    from trialops.stores.context import Step

PREFIX = "governance/security/findings"
PURPOSE = "security-findings"
USE = "security_findings"
RUNBOOK = "docs/validation/security.md#security-finding"
TITLES: Mapping[str, str] = {
    "broken_chain": "The audit trail is broken",
    "terminated": "An account acts that has ended",
    "travel": "Impossible travel",
    "dormant": "A dormant account is used again",
    "no_follow_up": "Unblinding without follow-up",
    "service_as_person": "A service does what persons do",
    "self_approval": "Maker and approver are the same",
    "role_not_given": "A role is used that was not given",
    "blinded_access": "A blinded person sees unblinded data",
    "locked_out": "A signer is locked out",
    "refused_burst": "A burst of refused accesses",
    "powerful_binding": "A binding to an all-powerful role",
    "unlike": "An account is unlike itself",
}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        id: Twelve hexadecimal digits: of its kind and actor.
        kind: One of TITLES.
        severity: info, warning or critical.
        actor: Pseudonym; empty where it is about nobody.
        role: Role, or empty.
        day: Day, ISO 8601.
        count: How many, 1 for what is unlike.
        tail: Calibrated tail probability; None for what is against a rule.
        words: Words with figures.
        told: An alert was raised.
    """

    id: str
    kind: str
    severity: str
    actor: str
    role: str
    day: str
    count: int
    tail: float | None
    words: str
    told: bool

    @property
    def title(self) -> str:
        """What it is called."""
        return TITLES[self.kind]


def finding_id(kind: str, actor: str) -> str:
    """The id of a finding: the same while it lasts."""
    return hashlib.sha256(f"{kind}\0{actor}".encode()).hexdigest()[:12]


def findings(
    unlike: Sequence[Unlike], violations: Sequence[Violation], chain: Mapping[str, Any], day: dt.date, policy: Policy
) -> list[Finding]:
    """All findings of a screening, the worst first."""
    made = []
    if not chain["ok"]:
        words = f"from record {chain['bad']} on: {chain['problem']}"
        made.append(_finding("broken_chain", "", "", day, 1, None, words, True, policy))
    made += [_finding(v.kind, v.actor, v.role, v.day, v.count, None, v.words, True, policy) for v in violations]
    made += [
        _finding("unlike", u.actor, u.role, u.day, 1, u.tail, "; ".join(r[2] for r in u.reasons), u.told, policy)
        for u in unlike
    ]
    rank = ("critical", "warning", "info")
    return sorted(made, key=lambda f: (rank.index(f.severity), f.tail or 0.0, f.kind, f.id, f.day))


def _finding(
    kind: str,
    actor: str,
    role: str,
    day: dt.date,
    count: int,
    tail: float | None,
    words: str,
    told: bool,
    policy: Policy,
) -> Finding:
    severity = policy.severity[kind]
    return Finding(finding_id(kind, actor), kind, severity, actor, role, day.isoformat(), count, tail, words, told)


def tell(run: Step, found: Sequence[Finding], now: dt.datetime) -> int:
    """Raise an alert for each finding that is told; returns how many different ones."""
    from trialops.alerts.raise_alert import Alert, raise_alerts

    alerts = {
        f.id: Alert(
            name="Security" + "".join(word.capitalize() for word in f.kind.split("_")),
            severity=f.severity,  # type: ignore[arg-type]
            labels={"area": "security", "finding": f.id},
            summary=f"{f.title}: {f.words or 'see the finding'}. See: trialops security findings {f.id}",
            runbook=RUNBOOK,
        )
        for f in reversed(found)
        if f.told
    }
    if alerts:
        raise_alerts(run, [alerts[key] for key in sorted(alerts)], now=now)
    return len(alerts)


def register(run: Step) -> ChainLog:
    """The chain of screenings, encrypted by the vault."""
    return ChainLog(
        run.objects,
        PREFIX,
        "security findings",
        close=lambda data, key: run.vault.encrypt(PURPOSE, data, key),
        open_=lambda data, key: run.vault.decrypt(data, key),
    )


def screenings(run: Step) -> list[Mapping[str, Any]]:
    """All screenings, oldest first."""
    return [link.body for link in register(run).links()]


def keep(run: Step, found: Sequence[Finding], document: Mapping[str, Any]) -> None:
    """Add a screening to the register; the same one again adds nothing."""
    body = {**document, "findings": [asdict(f) for f in found]}

    def same(chain: Any) -> Any:
        links = list(chain)
        last = links[-1] if links else None
        return last if last and all(last.body.get(key) == value for key, value in body.items()) else None

    register(run).append(body, unless=same)


def of(body: Mapping[str, Any]) -> list[Finding]:
    """The findings of a screening."""
    return [Finding(**item) for item in body["findings"]]
