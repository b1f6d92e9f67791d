"""The walk through a FHIR resource: every element by the policy, free text put aside to be treated in one batch."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from trialops.privacy.fhir_dates import AGE, MASKED, STUDY_DAY, capped, cut, over_age, shift
from trialops.privacy.fhir_people import STUDY_SYSTEM, People, Subject
from trialops.privacy.fhir_policy import FhirPolicy, elements, path_of, resource_types

if TYPE_CHECKING:
    from trialops.privacy.keys import Vault

UNKNOWN_MODIFIER = "UNKNOWN_MODIFIER"
UNKNOWN_RULES = "UNKNOWN_RULES"
TYPE_NOT_RELEASED = "TYPE_NOT_RELEASED"
PSEUDONYMISED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "PSEUDED"}
"""Security label of a resource whose identifiers were replaced."""

_REFERENCE = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$")
_STATE = re.compile(r"^[^\W\d_][^\d_]{1,39}$")
_DROP: Any = object()


class Withheld(Exception):
    """The resource cannot be released; holds the reason."""


@dataclass
class Line:
    """One element of the policy in use: what happens to it, and how often it did.

    Attributes:
        path: "Observation.component.valueString".
        action: What is done in this mode.
        identifier: Identifier classes it can carry.
        seen: Values met.
        gone: Values of which nothing was left.
    """

    path: str
    action: str
    identifier: str
    seen: int = 0
    gone: int = 0


@dataclass
class _Step:
    line: Line
    many: bool
    complex: bool
    run: Callable[[Any], Any]
    dated: bool = False


@dataclass
class _Plan:
    path: str
    steps: dict[str, _Step]
    required: frozenset[str]


@dataclass(frozen=True)
class Slot:
    """A text that waits to be treated: where it stands, whose it is, and how: text, phrase or term."""

    holder: Any
    place: Any
    subject: str | None
    how: str


@dataclass
class Walker:
    """Cleans resources one by one; texts wait in `slots` until `trialops.privacy.fhir_text` has treated them.

    Attributes:
        policy: What happens to what.
        people: Who is who.
        mode: "strict" or "limited".
        vault: For pseudonyms of resources that are referred to and not there.
        slots: Texts that wait.
        attachments: Attachments whose text waits; their data must be encoded again afterwards.
        unlisted: Path of a type -> values in it dropped because R4 has no such element. Their keys may be anything, so
            they are not shown.
        extensions: URL -> extensions dropped because the policy does not name them.
        media: Content type -> attachments whose content was dropped.
        made: References to resources that are not there, with the pseudonyms they were given.
    """

    policy: FhirPolicy
    people: People
    mode: str
    vault: Vault
    slots: list[Slot] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    unlisted: dict[str, int] = field(default_factory=dict)
    extensions: dict[str, int] = field(default_factory=dict)
    media: dict[str, int] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    capped: int = 0
    _plans: dict[str, _Plan] = field(default_factory=dict)
    _subject: Subject | None = None
    _patient: str | None = None
    _self: str = ""
    _inside: dict[str, str] = field(default_factory=dict)

    def clean(self, resource: Mapping[str, Any], patient: str | None) -> dict[str, Any]:
        """The clean resource, its texts still waiting.

        Args:
            resource: A parsed resource.
            patient: Id of the Patient it is about, or None.

        Raises:
            Withheld: It may not be released.
        """
        kind = str(resource.get("resourceType"))
        if kind not in resource_types() or kind in self.policy.withheld:
            raise Withheld(TYPE_NOT_RELEASED)
        self._patient = patient
        self._subject = self.people.subjects.get(patient) if patient is not None else None
        self._self = self._resolve(f"{kind}/{resource['id']}") or ""
        inner = resource.get("contained") or ()
        self._inside = {str(r.get("id")): f"c{n}" for n, r in enumerate(inner, 1) if isinstance(r, dict)}
        out = self._resource(resource, self._self.split("/")[-1])
        meta = out.setdefault("meta", {})
        meta["security"] = [*(s for s in meta.get("security", ()) if s != PSEUDONYMISED), PSEUDONYMISED]
        return out

    def lines(self) -> list[Line]:
        """What was done, by element."""
        return sorted(
            (s.line for p in self._plans.values() for s in p.steps.values() if s.line.seen), key=lambda line: line.path
        )

    # -- walking -----------------------------------------------------------------------------------------------

    def _resource(self, resource: Mapping[str, Any], name: str) -> dict[str, Any]:
        kind = str(resource.get("resourceType"))
        out: dict[str, Any] = {"resourceType": kind}
        self._into(out, {k: v for k, v in resource.items() if k not in ("resourceType", "id")}, self._plan(kind))
        out["id"] = name
        if kind == "Observation" and self.mode == "strict":
            self._age_result(out)
        if "multipleBirthInteger" in out:
            out["multipleBirthBoolean"] = out.pop("multipleBirthInteger") > 0
        return out

    def _walk(self, node: Mapping[str, Any], plan: _Plan) -> Any:
        out: dict[str, Any] = {}
        self._into(out, node, plan)
        return out or _DROP

    def _into(self, out: dict[str, Any], node: Mapping[str, Any], plan: _Plan) -> None:
        steps = plan.steps
        for key, value in node.items():
            step = steps.get(key)
            if step is None:
                # A primitive's own extensions (birth time among them) go with what they extend, unless that is known.
                if not (key.startswith("_") and key[1:] in steps):
                    self.unlisted[plan.path] = self.unlisted.get(plan.path, 0) + 1
                continue
            line = step.line
            if step.many is not isinstance(value, list):
                line.gone += 1
                continue
            values = value if step.many else (value,)
            line.seen += len(values)
            kept = []
            for item in values:
                if isinstance(item, dict) is step.complex and item is not None:
                    new = step.run(item)
                    if new is not _DROP:
                        kept.append(new)
            line.gone += len(values) - len(kept)
            if not kept:
                continue
            if step.dated:
                self._dated(out, key, kept, step.many, key in plan.required)
                continue
            if not step.many:
                out[key] = kept[0]
                if isinstance(kept[0], _Text):
                    self._wait(out, key, kept[0])
            else:
                out[key] = kept
                for i, item in enumerate(kept):
                    if isinstance(item, _Text):
                        self._wait(kept, i, item)
        for key in plan.required:
            if key in node and key not in out and f"_{key}" not in out:
                step = steps[key]
                masked = {"extension": [MASKED]}
                if step.complex:
                    out[key] = [masked] if step.many else masked
                elif not step.many:
                    out[f"_{key}"] = masked

    def _wait(self, holder: Any, place: Any, text: _Text) -> None:
        holder[place] = text.text
        self.slots.append(Slot(holder, place, self._patient, text.how))

    @staticmethod
    def _dated(out: dict[str, Any], key: str, kept: list[Any], many: bool, required: bool) -> None:
        """Values and, beside them, their extensions; a value that must be there and is not says so."""
        told = [
            [*(e or ()), *([MASKED] if required and v is None and MASKED not in (e or ()) else ())] for v, e in kept
        ]
        beside = [{"extension": extensions} if extensions else None for extensions in told]
        if many:
            out[key] = [value for value, _ in kept]
            if any(beside):
                out[f"_{key}"] = beside
            return
        if kept[0][0] is not None:
            out[key] = kept[0][0]
        if beside[0]:
            out[f"_{key}"] = beside[0]

    def _plan(self, type_: str) -> _Plan:
        plan = self._plans.get(type_)
        if plan is None:
            path = path_of(type_)
            required = frozenset(n for n, e in elements()[type_].items() if e.required)
            plan = self._plans[type_] = _Plan(path, {}, required)
            for name, element in elements()[type_].items():
                treatment = self.policy.treatment(path, name, element)
                action = treatment.action(self.mode) if treatment else "drop"
                line = Line(f"{path}.{name}", action, treatment.identifier if treatment else "")
                run = self._handler(action, element.type, path, name)
                dated = action in ("date", "instant", "birth")
                plan.steps[name] = _Step(line, element.many, element.type in elements(), run, dated)
        return plan

    def _handler(self, action: str, type_: str, path: str, name: str) -> Callable[[Any], Any]:
        if name == "modifierExtension":
            return _refuse(UNKNOWN_MODIFIER)
        if name == "implicitRules":
            return _refuse(UNKNOWN_RULES)
        simple: dict[str, Callable[[Any], Any]] = {
            "keep": lambda value: value,
            "drop": lambda value: _DROP,
            "text": lambda value: _text(value, "text"),
            "phrase": lambda value: _text(value, "phrase"),
            "term": lambda value: _text(value, "term"),
            "date": self._date,
            "instant": self._date if self.mode == "limited" else self._instant,
            "birth": self._birth,
            "zip": self._keep_postal,
            "state": lambda value: value if isinstance(value, str) and _STATE.match(value) else _DROP,
            "reference": self._reference,
            "identifier": self._identifier,
            "extension": self._extension,
            "uri": lambda value: value if isinstance(value, str) and value.startswith(self.policy.uris) else _DROP,
            "attachment": self._attachment,
            "contained": self._contained,
            "uid": lambda value: self.vault.pseudonyms("uid", [str(value)])[0],
            "label": lambda value: self._self.replace("/", " "),
            "twin": lambda value: value,
        }
        if action in simple:
            run = simple[action]
            return self._address if type_ == "Address" else run
        if type_ == "Address":
            return self._address
        plan: list[_Plan] = []

        def inside(value: Any) -> Any:
            if not plan:
                plan.append(self._plan(type_))
            if type_ == "CodeableConcept":
                return self._concept(value, plan[0])
            return self._walk(value, plan[0])

        if action == "age":
            return lambda value: self._age(value, inside)
        return inside

    # -- elements ----------------------------------------------------------------------------------------------

    def _instant(self, value: Any) -> Any:
        """The study day of an instant alone: there is no instant that is a year."""
        made = self._date(value)
        return _DROP if made is _DROP or made[1] is None else (None, made[1])

    def _date(self, value: Any) -> Any:
        """Value and extensions of a date."""
        if not isinstance(value, str):
            return _DROP
        if self.mode == "limited" and self._subject is not None:
            moved = shift(value, self._subject.offset)
            return _DROP if moved is None else (moved, None)
        year, day = cut(value, self._subject, self.policy.age_over)
        if day is not None:
            return year, [{"url": STUDY_DAY, "valueInteger": day}]
        return _DROP if year is None else (year, None)

    def _birth(self, value: Any) -> Any:
        if self.mode == "limited" or self._subject is None:
            return self._date(value)
        known = isinstance(value, str) and re.match(r"\d{4}(?!\d)", value) and not self._subject.old
        year = value[:4] if known else None
        beside = [] if self._subject.age is None else [{"url": AGE, "valueInteger": self._subject.age}]
        if self._subject.age is not None and self._subject.age >= self.policy.age_capped:
            self.capped += 1
        return year, [*beside, *([] if year else [MASKED])]

    def _age(self, value: dict[str, Any], inside: Callable[[Any], Any]) -> Any:
        if over_age(value, self.policy.age_over):
            self.capped += 1
            return capped(self.policy.age_capped)
        return inside(value)

    def _age_result(self, observation: dict[str, Any]) -> None:
        """An age given as a bare number, under a code that says so."""
        codes = {c.get("code") for c in observation.get("code", {}).get("coding", ())}
        if not codes & self.policy.age_codes:
            return
        for key in ("valueInteger", "valueQuantity"):
            value = observation.get(key)
            number = value.get("value") if isinstance(value, dict) else value
            if isinstance(number, int) and not isinstance(number, bool) and number > self.policy.age_over:
                observation.pop(key)
                observation["valueQuantity"] = capped(self.policy.age_capped)
                self.capped += 1

    def _address(self, value: dict[str, Any]) -> Any:
        plan = self._plan("Address")
        new = self._walk(value, plan)
        if new is not _DROP and self.mode == "strict" and "postalCode" in new:
            short = self.policy.three_digits(str(new.pop("postalCode")), str(value.get("country") or ""))
            if short:
                new["postalCode"] = short
        return new

    def _keep_postal(self, value: Any) -> Any:
        return value  # the address knows the country; it cuts the code itself

    def _concept(self, value: dict[str, Any], plan: _Plan) -> Any:
        """A concept's text that repeats one of its codings is a term."""
        first = len(self.slots)
        new = self._walk(value, plan)
        text = value.get("text")
        if new is not _DROP and any(text == c.get("display") for c in value.get("coding", ()) if isinstance(c, dict)):
            for i in range(first, len(self.slots)):
                slot = self.slots[i]
                if slot.holder is new and slot.place == "text":
                    self.slots[i] = Slot(new, "text", slot.subject, "term")
        return new

    def _identifier(self, value: dict[str, Any]) -> Any:
        system = value.get("system")
        if self._subject is not None and isinstance(system, str) and system.startswith(STUDY_SYSTEM):
            return {"system": system, "value": self._subject.pseudonym}
        return _DROP

    def _reference(self, value: dict[str, Any]) -> Any:
        text = value.get("reference")
        target = self._target(text) if isinstance(text, str) else None
        if target is None:
            return _DROP
        kind = value.get("type")
        known = isinstance(kind, str) and kind in resource_types()
        return {"reference": target, **({"type": kind} if known else {})}

    def _target(self, text: str) -> str | None:
        if text.startswith("#"):
            return f"#{self._inside[text[1:]]}" if text[1:] in self._inside else ("#" if text == "#" else None)
        if text.startswith(("urn:uuid:", "urn:oid:")):
            name = self.people.bare.get(text[9:] if text.startswith("urn:uuid:") else text[8:])
            return self._resolve(name) if name else None
        if "?" in text:
            kind, _, query = text.partition("?")
            system, _, number = unquote(query.removeprefix("identifier=")).partition("|")
            name = self.people.identifiers.get((kind.rsplit("/", 1)[-1], system, number))
            return self._resolve(name) if name else None
        found = _REFERENCE.search(text)
        return self._resolve(f"{found[1]}/{found[2]}") if found else None

    def _resolve(self, name: str) -> str | None:
        """The pseudonymous form of "Type/id"."""
        target = self.people.references.get(name) or self.made.get(name)
        if target is None:
            kind = name.split("/", 1)[0]
            if kind not in resource_types():
                return None
            space, value = ("subject", name) if kind == "Patient" else ("fhir_id", name)
            target = self.made[name] = f"{kind}/{self.vault.pseudonyms(space, [value])[0]}"
        return target

    def _extension(self, value: dict[str, Any]) -> Any:
        url = value.get("url")
        if not isinstance(url, str) or url not in self.policy.extensions:
            shown = url if isinstance(url, str) and url.startswith("http") else "(no web address)"
            self.extensions[shown] = self.extensions.get(shown, 0) + 1
            return _DROP
        parts = self.policy.extensions[url]
        plan = self._plan("Extension")
        if parts is None:
            new = self._walk({k: v for k, v in value.items() if k not in ("url", "extension", "id")}, plan)
            return _DROP if new is _DROP else {"url": url, **new}
        nested = []
        for item in value.get("extension") or ():
            if isinstance(item, dict) and item.get("url") in parts:
                new = self._walk({k: v for k, v in item.items() if k not in ("url", "extension", "id")}, plan)
                if new is not _DROP:
                    nested.append({"url": item["url"], **new})
        return {"url": url, "extension": nested} if nested else _DROP

    def _attachment(self, value: dict[str, Any]) -> Any:
        """Plain text is treated as text; of everything else only the content type is left."""
        plan = self._plan("Attachment")
        keep: dict[str, Any] = {k: value[k] for k in ("contentType", "language", "creation") if k in value}
        new = self._walk(keep, plan)
        new = {} if new is _DROP else new
        content = str(value.get("contentType") or "").split(";")[0].strip().lower()
        data = value.get("data")
        if content == "text/plain" and isinstance(data, str):
            charset = re.search(r"charset=\"?([\w-]+)", str(value.get("contentType")), re.I)
            try:
                text = base64.b64decode(data, validate=True).decode(charset[1] if charset else "utf-8")
            except (binascii.Error, UnicodeDecodeError, LookupError):
                self.media["text/plain, unreadable"] = self.media.get("text/plain, unreadable", 0) + 1
            else:
                new["contentType"] = "text/plain; charset=utf-8"
                self._wait(new, "data", _Text(text, "text"))
                self.attachments.append(new)
        elif data is not None or value.get("url"):
            shown = content if re.fullmatch(r"[a-z]+/[a-z0-9.+-]{1,60}", content) else "unknown"
            self.media[shown] = self.media.get(shown, 0) + 1
        return new or _DROP

    def _contained(self, value: dict[str, Any]) -> Any:
        kind = value.get("resourceType")
        if kind not in resource_types() or kind in self.policy.withheld:
            self.unlisted["contained"] = self.unlisted.get("contained", 0) + 1
            return _DROP
        return self._resource(value, self._inside.get(str(value.get("id")), "c0"))


@dataclass(frozen=True)
class _Text:
    text: str
    how: str


def _text(value: Any, how: str) -> Any:
    return _Text(value, how) if isinstance(value, str) and value else _DROP


def _refuse(reason: str) -> Callable[[Any], Any]:
    def run(value: Any) -> Any:
        raise Withheld(reason)

    return run
