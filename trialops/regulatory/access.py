"""The exports a person can ask for, and the use each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.governance.access import Grant, authorise

if TYPE_CHECKING:
    from trialops.stores.context import Step

KINDS = {"submission": "regulatory_submission", "research": "research_database", "partner": "partner_sharing"}
"""What a person asks for, and the name its use has in governance/access.yaml."""


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
    run.metrics |= {"export": grant.use, "role": grant.role}
    return grant
