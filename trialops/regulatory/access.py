"""Who may have data exported: a role, granted per kind of export, and a purpose in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.regulatory.standard import rules

if TYPE_CHECKING:
    from trialops.stores.context import Step

SHORTEST_PURPOSE = 10
KINDS = {"submission": "regulatory_submission", "research": "research_database", "partner": "partner_sharing"}
"""What a person asks for, and the name its access rule has."""


@dataclass(frozen=True)
class Grant:
    """What was allowed: kind of export, role, purpose, and what is read for it."""

    export: str
    role: str
    purpose: str
    reads: str


def authorise(run: Step, export: str, purpose: str) -> Grant:
    """Allow an export or refuse it; either way the audit trail has who, as what, and what for.

    Args:
        run: The step; its settings hold the role of the acting person or service account.
        export: "regulatory_submission", "partner_sharing" or "research_database".
        purpose: Why, in a sentence.

    Raises:
        TrialOpsError: The role is not among those of submission.yaml, or no purpose is stated.
    """
    allowed, role, why = rules()["access"][export], run.settings.role.strip().lower(), purpose.strip()
    problem = ""
    if role not in allowed["roles"]:
        problem = f"The role {role or '(none)'} may not export: {export.replace('_', ' ')}"
    elif len(why) < SHORTEST_PURPOSE:
        problem = "An export needs a purpose, stated in a sentence"
    run.audit("export.refuse" if problem else "export.allow", export, role, reason=why or "no purpose stated")
    if problem:
        raise TrialOpsError(
            problem,
            where="TRIALOPS_ROLE" if "role" in problem else "purpose",
            fix=f"Roles that may: {', '.join(allowed['roles'])}; state the purpose with --set purpose=...",
        )
    return Grant(export, role, why, allowed["reads"])


def admit(run: Step, what: str, purpose: str) -> Grant:
    """Allow or refuse an export by the name a person gives it.

    Raises:
        TrialOpsError: There is no such export, or as `authorise`.
    """
    if what not in KINDS:
        raise TrialOpsError(
            f"There is no export called {what!r}", where="what", fix=f"Use one of {', '.join(sorted(KINDS))}."
        )
    grant = authorise(run, KINDS[what], purpose)
    run.metrics |= {"export": grant.export, "role": grant.role}
    return grant
