"""Whether a proposal may be applied: dry run, data lock, signatures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trialops.governance.approval import Standing
from trialops.quality.correction.propose import Proposal, policy

KIND = "correction"
"""Kind of record a signature on a proposal is for; the record and the digest signed are the proposal's digest."""

Decision = Literal["nothing", "dry run", "hold", "apply"]


@dataclass(frozen=True)
class Authorisation:
    """A decision with what it was made from.

    Attributes:
        decision: "nothing" (no change accepted), "dry run", "hold" (a signature is missing) or "apply".
        numbers: The numbers behind it.
        signatures: Ids of the approvals it rests on.
        why: One sentence.
    """

    decision: Decision
    numbers: Mapping[str, Any]
    signatures: tuple[str, ...]
    why: str


def authorise(proposal: Proposal, *, apply: bool, locked: Collection[str], standing: Standing) -> Authorisation:
    """Decide.

    Args:
        proposal: What would change.
        apply: Whether it is to be applied, or only shown.
        locked: Domains under data lock.
        standing: Signatures on exactly this proposal.
    """
    rules = policy()
    authors = {change.by.casefold() for change in proposal.changes}
    valid = [
        s
        for s in standing.approvals
        if rules["own_approval"] or not {s.user_id.casefold(), s.printed_name.casefold()} & authors
    ]
    held = sorted(set(proposal.domains) & set(locked))
    numbers = {
        "changes": len(proposal.changes),
        "subjects": len(proposal.subjects),
        "locked_domains": len(held),
        "signatures_needed": rules["signatures"] if held else 0,
        "approvals": len(valid),
        "objections": len(standing.objections),
    }
    ids = tuple(s.id for s in valid)
    if not proposal.changes:
        return Authorisation("nothing", numbers, (), "no line asks for a change that can be made")
    if not apply:
        return Authorisation("dry run", numbers, (), "a dry run: what would change is shown, nothing is changed")
    if standing.objections:
        return Authorisation("hold", numbers, ids, "somebody has signed an objection")
    if held and len(valid) < rules["signatures"]:
        return Authorisation(
            "hold",
            numbers,
            ids,
            f"{', '.join(held)} {'is' if len(held) == 1 else 'are'} locked, and the proposal has {len(valid)} of "
            f"{rules['signatures']} signatures by people who are not its authors",
        )
    return Authorisation("apply", numbers, ids, "the data are signed for" if held else "the data are not locked")
