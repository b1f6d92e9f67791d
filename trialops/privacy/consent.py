"""What a patient's FHIR R4 Consents permit: deny by default, exceptions over rules at any depth, checked when read.

What is not known never opens a door. Provisions are evaluated from the root down; the deepest that applies decides,
and where two exceptions of one provision apply and disagree, the denial does. Where a criterion cannot be judged
(nobody said who asks, or a part of R4 is not evaluated here), both readings are followed, and the use is permitted
only when every reading permits it.
"""

from __future__ import annotations

import calendar
import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError
from trialops.intake.fhir_tables import resources_of

if TYPE_CHECKING:
    import polars as pl

Verdict = Literal["permit", "deny"]
PERMIT, DENY, SILENT = "permit", "deny", "silent"
_KINDS: dict[Any, str] = {"permit": PERMIT, "deny": DENY}

REASONS = {
    "PERMITTED": "a consent permits it",
    "NO_CONSENT": "there is no consent to research use",
    "NOT_IN_FORCE": "no consent was in force on the day",
    "REFUSED": "consent was refused",
    "WITHDRAWN": "consent was withdrawn or replaced",
    "UNVERIFIED": "the consent was found not to be verified",
    "NOT_COVERED": "the consent does not cover this purpose, recipient, action or kind of data",
    "EXCEPTION": "a provision of the consent denies it",
    "DISAGREE": "two consents of the same time disagree",
}
_DATE = re.compile(
    r"^(\d{4})(?:-(\d{2})(?:-(\d{2})(?:T(\d{2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?)?)?$"
)
DECISION_SCHEMA = {"subject": "String", "decision": "String", "reason": "String", "consent": "String"}


@dataclass(frozen=True)
class ConsentPolicy:
    """consent.yaml, with the SHA-256 of its content."""

    content: Mapping[str, Any]
    digest: str

    @property
    def version(self) -> str:
        """Version and the beginning of the digest."""
        return f"{self.content['version']} ({self.digest[:12]})"

    def wider(self, purpose: str) -> list[str]:
        """A purpose and those above it."""
        found, parents = [purpose], self.content["purposes"]
        while parents.get(found[-1]):
            found.append(parents[found[-1]])
        return found


@cache
def consent_policy() -> ConsentPolicy:
    """The policy shipped with the platform."""
    return read_policy(Path(__file__).with_name("consent.yaml"))


def read_policy(path: Path) -> ConsentPolicy:
    """A policy file.

    Raises:
        TrialOpsError: A part is missing, or a parent of a purpose is not itself a purpose.
    """
    import yaml

    data = path.read_bytes()
    content = yaml.safe_load(data)
    needed = {"version", "scopes", "statuses", "purposes", "actions", "base_rules", "trial", "withdrawal"}
    missing = needed - set(content if isinstance(content, dict) else {})
    if missing:
        raise TrialOpsError(f"The consent policy lacks {', '.join(sorted(missing))}", where=path.name)
    orphans = sorted({p for p in content["purposes"].values() if p} - set(content["purposes"]))
    if orphans:
        raise TrialOpsError(f"The consent policy has no purpose {', '.join(orphans)}", where=path.name)
    return ConsentPolicy(content, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Request:
    """What is to be done with data.

    Attributes:
        purpose: Code of a purpose of use, for example HRESCH.
        at: Day on which it is done.
        actor: Reference of who does it ("Organization/x"), or None where it is not said.
        data_class: Kind of data ("Observation", a class code, or "system|code"), or None for all kinds.
        action: Code of the action.
    """

    purpose: str
    at: dt.date
    actor: str | None = None
    data_class: str | None = None
    action: str = "use"


@dataclass(frozen=True)
class Decision:
    """The answer for one subject: reason is a key of REASONS; consent is the id of what decided, or empty."""

    verdict: Verdict
    reason: str
    consent: str = ""


def decide(
    consents: pl.DataFrame,
    subjects: Iterable[str],
    *,
    purpose: str,
    at: dt.date,
    actor: str | None = None,
    data_class: str | None = None,
    action: str = "use",
    policy: ConsentPolicy | None = None,
) -> pl.DataFrame:
    """Whether a use is permitted, subject by subject.

    Args:
        consents: Rows of type Consent, see `trialops.intake.fhir_tables`; `subject` and `json` are read.
        subjects: Patient ids to decide on; duplicates count once.
        purpose: Code of the purpose of use.
        at: Day of the use.
        actor: Who uses it; None: not said, so what holds for somebody in particular may hold or not.
        data_class: Kind of data; None: all of it, so an exception for any kind denies.
        action: Code of the action.
        policy: The platform's own by default.

    Returns:
        subject, decision ("permit" or "deny"), reason, consent (id); in order of subject.

    Raises:
        TrialOpsError: The policy has no such purpose or action.
    """
    import polars as pl

    policy = policy or consent_policy()
    request = Request(purpose, at, actor, data_class, action)
    check_request(request, policy)
    own = by_subject(consents)
    made = [(s, decide_one(own.get(s, []), request, policy)) for s in sorted(set(subjects))]
    return pl.DataFrame(
        [(s, d.verdict, d.reason, d.consent) for s, d in made],
        schema={name: getattr(pl, kind) for name, kind in DECISION_SCHEMA.items()},
        orient="row",
    )


def by_subject(consents: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Patient id -> their consents, parsed."""
    own: dict[str, list[dict[str, Any]]] = {}
    for subject, resource in zip(consents["subject"], resources_of(consents), strict=True):
        if subject is not None:
            own.setdefault(subject, []).append(resource)
    return own


def check_request(request: Request, policy: ConsentPolicy) -> None:
    """The policy must know what is asked.

    Raises:
        TrialOpsError: It has no such purpose or action.
    """
    for what, value, table in (("purpose", request.purpose, "purposes"), ("action", request.action, "actions")):
        if value not in policy.content[table]:
            raise TrialOpsError(
                f"The consent policy knows no {what} {value!r}",
                where=f"consent.yaml: {table}",
                fix=f"Use one of {', '.join(sorted(policy.content[table]))}.",
            )


def decide_one(consents: Iterable[Mapping[str, Any]], request: Request, policy: ConsentPolicy) -> Decision:
    """The decision for one subject from all their consents."""
    effects = policy.content["statuses"]
    about = [c for c in consents if _about_research(c, policy)]
    about = [c for c in about if effects.get(c.get("status"), "silent") != "silent"]
    if not about:
        return Decision("deny", "NO_CONSENT")
    begun = [c for c in about if given(c).date() <= request.at]
    speaking = [c for c in begun if effects[c["status"]] in ("speaks", "refuses")]
    if not speaking:
        ended = sorted(str(c.get("id", "")) for c in begun)
        return Decision("deny", "WITHDRAWN", ended[-1]) if ended else Decision("deny", "NOT_IN_FORCE")
    newest = max(given(c) for c in speaking)
    last = sorted((c for c in speaking if given(c) == newest), key=lambda c: str(c.get("id", "")))
    answers = [_answer(c, request, policy) for c in last]
    denied = [a for a in answers if a.verdict == "deny"]
    if not denied:
        return answers[0]
    if len(denied) < len(answers):
        return Decision("deny", "DISAGREE", denied[0].consent)
    return denied[0]


def _about_research(consent: Mapping[str, Any], policy: ConsentPolicy) -> bool:
    scopes = {code for wanted in policy.content["scopes"].values() for code in wanted}
    if not scopes & set(_codes([consent.get("scope")])):
        return False
    return not set(policy.content.get("excluded_categories", ())) & set(_codes(consent.get("category") or []))


def _codes(concepts: Iterable[Any]) -> Iterator[str]:
    """Codes of CodeableConcepts, plain."""
    for concept in concepts:
        for coding in (concept or {}).get("coding", []):
            if coding.get("code"):
                yield coding["code"]


def given(consent: Mapping[str, Any]) -> dt.datetime:
    """When a consent was given (UTC); the beginning of time where it does not say."""
    return _instant(consent.get("dateTime")) or dt.datetime(1, 1, 2, tzinfo=dt.UTC)


def _answer(consent: Mapping[str, Any], request: Request, policy: ConsentPolicy) -> Decision:
    own = str(consent.get("id", ""))
    if policy.content["statuses"][consent["status"]] == "refuses":
        return Decision("deny", "REFUSED", own)
    said = [v.get("verified") for v in consent.get("verification", [])]
    if (said and not any(said)) or (policy.content["verification"] == "required" and not any(said)):
        return Decision("deny", "UNVERIFIED", own)
    if consent.get("modifierExtension") or consent.get("implicitRules"):
        return Decision("deny", "NOT_COVERED", own)
    outcomes = _outcomes_of(consent, request, policy)
    if outcomes == {PERMIT}:
        return Decision("permit", "PERMITTED", own)
    return Decision("deny", "EXCEPTION" if DENY in outcomes else "NOT_COVERED", own)


def _outcomes_of(consent: Mapping[str, Any], request: Request, policy: ConsentPolicy) -> set[str]:
    """What a consent may say to a request, over all that is not known."""
    root = consent.get("provision") or {}
    kind = _KINDS.get(root.get("type"), "")
    if not kind:
        # R4 gives the root no type of its own: it frames the exceptions below, under the base rule.
        base = next((policy.content["base_rules"].get(c) for c in _codes([consent.get("policyRule")])), None)
        kind = _KINDS.get(base, SILENT)
    applies = _applies(root, request, policy)
    if applies is False:
        return {SILENT}
    found = _outcomes(root, kind, request, policy)
    return found if applies else found | {SILENT}


def _outcomes(provision: Mapping[str, Any], kind: str, request: Request, policy: ConsentPolicy) -> set[str]:
    """What a provision that applies may decide: its own kind, or what the exceptions below it say.

    Where several exceptions apply, one denial is enough. Each is taken to apply or not on its own.
    """
    surely: list[set[str]] = []
    possibly: list[set[str]] = []
    for child in provision.get("provision", []):
        applies = _applies(child, request, policy)
        if applies is not False:
            below = _outcomes(child, _KINDS.get(child.get("type"), DENY), request, policy)
            (surely if applies else possibly).append(below)
    found = set() if surely else {kind}
    if any(DENY in one for one in (*surely, *possibly)):
        found.add(DENY)
    if all(PERMIT in one for one in surely) and (surely or any(PERMIT in one for one in possibly)):
        found.add(PERMIT)
    return found


def _applies(provision: Mapping[str, Any], request: Request, policy: ConsentPolicy) -> bool | None:
    """Whether a provision is about the request: yes, no, or None where it cannot be told."""
    unknown = False
    for met in _criteria(provision, request, policy):
        if met is False:
            return False
        unknown = unknown or met is None
    return None if unknown else True


def _criteria(provision: Mapping[str, Any], request: Request, policy: ConsentPolicy) -> Iterator[bool | None]:
    """Each criterion of a provision: met, not met, or None where it cannot be told."""
    if "period" in provision:
        yield within(provision["period"], request.at)
    if provision.get("purpose"):
        yield _purpose(provision["purpose"], request, policy)
    if provision.get("actor"):
        yield _actor(provision["actor"], request)
    if provision.get("action"):
        yield _action(set(_codes(provision["action"])), request, policy)
    if provision.get("class") or provision.get("code"):
        yield _data(provision, request)
    for name in ("securityLabel", "dataPeriod", "data", "modifierExtension"):
        if provision.get(name):
            yield None


def within(period: Mapping[str, Any], at: dt.date) -> bool | None:
    """Whether a day lies in a FHIR Period, its ends included and partial dates taken whole; None where it is odd."""
    start, end = period.get("start"), period.get("end")
    first, last = _days(start), _days(end)
    if (start and first is None) or (end and last is None):
        return None
    return (first is None or first[0] <= at) and (last is None or at <= last[1])


def _purpose(codings: list[Mapping[str, Any]], request: Request, policy: ConsentPolicy) -> bool | None:
    system = policy.content["purpose_system"]
    codes = {str(c["code"]) for c in codings if c.get("code") and c.get("system", system) == system}
    if codes & set(policy.wider(request.purpose)):
        return True
    # A use that includes a narrower one the provision names: for a part of it the provision applies.
    return None if any(request.purpose in policy.wider(code) for code in codes) else False


def _actor(actors: list[Mapping[str, Any]], request: Request) -> bool | None:
    if request.actor is None:
        return None
    named = [(actor.get("reference") or {}).get("reference") for actor in actors]
    if request.actor in named:
        return True
    return None if None in named else False


def _action(codes: set[str], request: Request, policy: ConsentPolicy) -> bool | None:
    if request.action in codes:
        return True
    # An action that cannot be done without one the provision names: "use" needs "access".
    return None if not codes or codes & set(policy.content["actions"][request.action]) else False


def _data(provision: Mapping[str, Any], request: Request) -> bool | None:
    """Whether the kind of data is one the provision names by class or code."""
    codings = [*provision.get("class", [])]
    codings += [coding for concept in provision.get("code", []) for coding in concept.get("coding", [])]
    if request.data_class is None:
        return None
    for coding in codings:
        if request.data_class in (coding.get("code"), f"{coding.get('system', '')}|{coding.get('code')}"):
            return True
    # A code (one laboratory test, say) may be inside the kind of data asked for: that cannot be told here.
    return None if provision.get("code") else False


def _days(text: Any) -> tuple[dt.date, dt.date] | None:
    """First and last day a FHIR date or dateTime can mean."""
    found = _DATE.match(text) if isinstance(text, str) else None
    if not found:
        return None
    year, month, day = (int(part) if part else None for part in found.group(1, 2, 3))
    try:
        first = dt.date(year or 1, month or 1, day or 1)
        last_month = month or 12
        last = dt.date(year or 1, last_month, day or calendar.monthrange(year or 1, last_month)[1])
    except ValueError:
        return None
    return first, last


def _instant(text: Any) -> dt.datetime | None:
    """The earliest instant a FHIR dateTime can mean, in UTC."""
    days = _days(text)
    if days is None:
        return None
    if "T" in text:
        try:
            return dt.datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(dt.UTC)
        except (ValueError, OverflowError):
            return None
    return dt.datetime(days[0].year, days[0].month, days[0].day, tzinfo=dt.UTC)
