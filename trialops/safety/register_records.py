"""What the case register keeps: versions, actions, assessments; and what the clocks of a case run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trialops.safety.clock_times import moment
from trialops.safety.clocks import Known, Sent

INITIAL, FOLLOW_UP, NULLIFICATION, AMENDMENT = "initial", "follow-up", "nullification", "amendment"
KINDS = (INITIAL, FOLLOW_UP, NULLIFICATION, AMENDMENT)

AWARE, REVIEWED, DECIDED, RELEASED, WITHDRAWN, SENT = "aware", "reviewed", "decided", "released", "withdrawn", "sent"
ACTIONS = (AWARE, REVIEWED, DECIDED, RELEASED, WITHDRAWN, SENT)
"""What people and the hand-over do with a case: record an awareness; review; decide after unblinding (the decision's
grounds are sealed); release a version to an authority; take a release back; send."""

LONGEST_REASON = 500


@dataclass(frozen=True)
class Version:
    """One version of a case.

    Attributes:
        case: Worldwide unique case id: country-sender-number.
        version: From 1.
        kind: initial, follow-up, nullification or amendment.
        digest: SHA-256 of what the version says; equal content, equal digest.
        sealed: SHA-256 of the sealed object with the content.
        aware: When the sponsor had it, UTC.
        basis: Where that time comes from.
        changed: Names of what is different from the version before; no values.
        facts: What the classification rests on.
        rulings: By authority, the ruling.
        policy_digest: Of the policy.
        delivery: SHA-256 of the sealed delivery.
        at, actor, run_id: When it was entered, by whom, in which run.
    """

    case: str
    version: int
    kind: str
    digest: str
    sealed: str
    aware: str
    basis: str
    changed: tuple[str, ...]
    facts: Mapping[str, Any]
    rulings: Mapping[str, Mapping[str, Any]]
    policy_digest: str
    delivery: str
    at: str = ""
    actor: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class Action:
    """One thing done with a case; `moment` is when it happened, `at` when it was entered."""

    case: str
    version: int
    action: str
    authority: str
    moment: str
    reason: str
    detail: Mapping[str, Any]
    actor: str
    role: str
    at: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class SponsorAssessment:
    """The sponsor's word on the causality of a case, one of its versions."""

    case: str
    version: int
    related: bool
    reason: str
    actor: str
    role: str
    at: str


def history(versions: Sequence[Version], actions: Sequence[Action], authority: str) -> tuple[list[Known], list[Sent]]:
    """What the clocks of a case run on.

    A recorded awareness replaces the one of its version. A decision of a safety physician takes the place of a
    version's ruling from the moment it was made; one that nothing is to be expedited stands for later versions too, for
    it was made on what the subject had, which further information does not change.

    Args:
        versions: Of one case.
        actions: Of the same case.
        authority: FDA or EU.
    """
    aware = {a.version: a.moment for a in actions if a.action == AWARE}
    decided = [a for a in actions if a.action == DECIDED and a.authority == authority]
    settled = min((a for a in decided if not a.detail["kind"]), key=lambda a: a.moment, default=None)
    known = [Known(moment(a.moment), str(a.detail["kind"]), a.version, a.reason) for a in decided]
    for version in versions:
        if authority not in version.rulings:
            continue
        ruling, at = version.rulings[authority], aware.get(version.version, version.aware)
        kind, reason = str(ruling["kind"]), str(ruling["reason"])
        if settled is not None and version.version > settled.version:
            kind, reason = "", settled.reason
        known.append(Known(moment(at), kind, version.version, reason))
    sent = [
        Sent(moment(a.moment), a.version, bool(a.detail.get("complete", True)))
        for a in actions
        if a.action == SENT and a.authority == authority
    ]
    return known, sent
