"""From the facts of an event to what must be reported: the SUSAR decision, complete over everything that is not known.

A suspected unexpected serious adverse reaction (SUSAR) is reported in 7 calendar days where it is fatal or
life-threatening, in 15 otherwise (21 CFR 312.32(c)(1), (2); Regulation (EU) 536/2014 Art. 42(2)). What is not known is
taken at its worst until it is: a missing causality is a suspicion, no reference is unexpected, a criterion beside a
flag that says no is serious, and a blinded subject may have had the investigational product. The decision names the
rule and what would settle it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trialops.safety.causality import suspected
from trialops.safety.seriousness import NOT_SERIOUS, TO_CONFIRM

Role = Literal["investigational", "comparator", "placebo", "auxiliary", "blinded"]
ROLES = ("investigational", "comparator", "placebo", "auxiliary", "blinded")
Authority = Literal["FDA", "EU"]
AUTHORITIES = ("FDA", "EU")

SUSAR_7, SUSAR_15 = "SUSAR 7-day", "SUSAR 15-day"
SAE = "SAE not expedited"
FOLLOW_UP = "follow-up"
NON_SERIOUS = "non-serious"
UNDECIDED = "undecided: treated as expedited until"

CITATIONS = {
    ("FDA", "grave"): "21 CFR 312.32(c)(2)",
    ("FDA", "serious"): "21 CFR 312.32(c)(1)",
    ("FDA", "follow_up"): "21 CFR 312.32(d)",
    ("EU", "grave"): "Regulation (EU) 536/2014 Art. 42(2)(a), (c)",
    ("EU", "serious"): "Regulation (EU) 536/2014 Art. 42(2)(b)",
    ("EU", "follow_up"): "Regulation (EU) 536/2014 Art. 42(2), Annex III",
}


@dataclass(frozen=True)
class Facts:
    """What a decision rests on.

    Attributes:
        serious: "serious", "to confirm" or "not serious".
        expected: By the reference safety information in force at onset; None without one.
        investigator: Related by the investigator; None where not stated.
        sponsor: Related by the sponsor; None where not assessed.
        grave: Fatal or life-threatening.
        role: Of the product the subject had; "blinded" while it is not known.
        reported: What has gone out on this case to this authority: nothing, a 15-day or a 7-day report.
    """

    serious: str
    expected: bool | None
    investigator: bool | None
    sponsor: bool | None
    grave: bool
    role: Role = "blinded"
    reported: Literal["", "serious", "grave"] = ""


@dataclass(frozen=True)
class Ruling:
    """What an authority must be told.

    Attributes:
        authority: FDA or EU.
        rule: SUSAR 7-day, SUSAR 15-day, SAE not expedited, follow-up, non-serious, or "undecided: treated as expedited
            until ..." with what settles it.
        kind: Which clock runs: grave, serious, follow_up; empty for none.
        reason: The condition that decided.
        citation: The provision, empty where nothing is expedited.
        unblind: The report needs the treatment of this one subject.
    """

    authority: str
    rule: str
    kind: str
    reason: str
    citation: str = ""
    unblind: bool = False

    @property
    def expedited(self) -> bool:
        """A clock runs."""
        return bool(self.kind)


def classify(facts: Facts, authority: Authority) -> Ruling:
    """Decide what an authority must be told of an event.

    The conditions are the same for both authorities; they differ in the provisions and in the clocks. Reactions to an
    active comparator are expedited, those to placebo are not (ICH E2A III.D); a reaction suspected of an auxiliary
    product alone goes the way of a marketed product (Regulation (EU) 536/2014 Art. 46), not this one. Once something
    has been reported, everything further is told, a withdrawn suspicion too; only a case that turns out fatal or
    life-threatening after a 15-day report starts anew, with 7 days.

    Args:
        facts: What is known, the rest as not known.
        authority: FDA or EU.
    """
    suspicion = suspected(facts.investigator, facts.sponsor)
    why_not = _not_expedited(facts, suspicion)
    if facts.reported and (why_not or not (facts.grave and facts.reported == "serious")):
        reason = f"reported before; now: {why_not}" if why_not else "further information on a case reported before"
        return Ruling(authority, FOLLOW_UP, "follow_up", reason, CITATIONS[authority, "follow_up"])
    if why_not:
        return Ruling(authority, NON_SERIOUS if facts.serious == NOT_SERIOUS else SAE, "", why_not)
    kind = "grave" if facts.grave else "serious"
    open_ = [
        text
        for text, unknown in (
            ("seriousness is confirmed", facts.serious == TO_CONFIRM),
            ("causality is stated", suspicion is None),
            ("expectedness is judged", facts.expected is None),
        )
        if unknown
    ]
    rule = f"{UNDECIDED} {' and '.join(open_)}" if open_ else SUSAR_7 if facts.grave else SUSAR_15
    reason = "serious, unexpected, suspected" + ("; fatal or life-threatening" if facts.grave else "")
    return Ruling(authority, rule, kind, reason, CITATIONS[authority, kind], unblind=facts.role == "blinded")


def _not_expedited(facts: Facts, suspicion: bool | None) -> str:
    """Why nothing is expedited; empty where something is."""
    if facts.serious == NOT_SERIOUS:
        return "not serious"
    if suspicion is False:
        return "no reasonable possibility that the product caused it"
    if facts.expected is True:
        return "expected by the reference safety information in force at onset"
    if facts.role == "placebo":
        return "the subject had placebo"
    if facts.role == "auxiliary":
        return "suspected of an auxiliary product alone"
    return ""
