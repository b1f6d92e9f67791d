"""Who may have what: a role, granted per use, and a purpose in words; either way the audit trail knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.stores.context import Step

SHORTEST_PURPOSE = 10


@dataclass(frozen=True)
class Grant:
    """What was allowed: the use, the role, the purpose, and what is read for it."""

    use: str
    role: str
    purpose: str
    reads: str


@cache
def uses() -> Mapping[str, Mapping[str, Any]]:
    """The uses of access.yaml: by name, its roles and what it reads."""
    import yaml

    loaded: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("access.yaml").read_text("utf-8"))
    return loaded["uses"]


def may(role: str, use: str) -> bool:
    """Whether a role has a use; nothing is recorded."""
    return role.strip().lower() in uses()[use]["roles"]


def authorise(run: Step, use: str, purpose: str, *, subject: str = "") -> Grant:
    """Allow a use or refuse it; either way the audit trail has who, as what, and what for.

    Args:
        run: The step; its settings hold the role of the acting person or service account.
        use: One of access.yaml.
        purpose: Why, in a sentence.
        subject: What exactly is used, where the use is about one thing (a case, a document); fit for the audit trail.

    Raises:
        TrialOpsError: The role is not among those of access.yaml, or no purpose is stated.
    """
    rule, role, why = uses()[use], run.settings.role.strip().lower(), purpose.strip()
    problem = ""
    if role not in rule["roles"]:
        problem = f"The role {role or '(none)'} may not use this: {use.replace('_', ' ')}"
    elif len(why) < SHORTEST_PURPOSE:
        problem = "This use needs a purpose, stated in a sentence"
    event = "access.refuse" if problem else "access.allow"
    run.audit(event, use, role, reason=why or "no purpose stated", **({"about": subject} if subject else {}))
    if problem:
        raise TrialOpsError(
            problem,
            where="TRIALOPS_ROLE" if "role" in problem else "purpose",
            fix=f"Roles that may: {', '.join(rule['roles'])}; state the purpose (--purpose, or --set purpose=...)",
        )
    return Grant(use, role, why, rule["reads"])
