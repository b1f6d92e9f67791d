"""The small pieces that every part of an E2B(R3) message is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from trialops.safety.case import Null, Quantity, Term
from trialops.safety.e2b import oids
from trialops.safety.e2b.times import hl7_time
from trialops.safety.e2b.values import HL7, XSI
from trialops.safety.terms import NULL_REASONS

TYPE = f"{XSI}type"
OBS = {"classCode": "OBS", "moodCode": "EVN"}
Text = str | Null | None


@cache
def _sub_element() -> Callable[..., Any]:
    from lxml.etree import SubElement

    return SubElement


def sub(parent: Any, tag: str, attributes: Mapping[str, str] | None = None, text: str | None = None) -> Any:
    """A child element of the HL7 namespace with its attributes and text."""
    element = _sub_element()(parent, HL7 + tag, attributes or {})
    if text is not None:
        element.text = text
    return element


def chain(parent: Any, *steps: tuple[str, Mapping[str, str]]) -> Any:
    """Children in each other; the innermost is returned."""
    for tag, attributes in steps:
        parent = sub(parent, tag, attributes)
    return parent


def null(value: Null) -> dict[str, str]:
    """The attribute that says why a value is not there."""
    return {"nullFlavor": NULL_REASONS[value.reason]}


def text(parent: Any, tag: str, value: Text) -> Any:
    """An element with a text, or with the reason why there is none; nothing for None."""
    if value is None:
        return None
    return sub(parent, tag, null(value)) if isinstance(value, Null) else sub(parent, tag, None, value)


def time(parent: Any, tag: str, value: Text) -> Any:
    """An element whose attribute `value` is a point in time; nothing for None."""
    if value is None:
        return None
    return sub(parent, tag, null(value) if isinstance(value, Null) else {"value": hl7_time(value)})


def identifier(parent: Any, root: str, value: Text) -> Any:
    """An `id` in a system; nothing for None."""
    if value is None:
        return None
    shown = null(value) if isinstance(value, Null) else {"extension": value}
    return sub(parent, "id", {**shown, "root": root})


def coded(parent: Any, tag: str, code: str | Null | None, system: str, kind: str = "") -> Any:
    """An element with a code of a system; `kind` is its HL7 data type where the element can have several."""
    if code is None:
        return None
    shown = null(code) if isinstance(code, Null) else {"code": code, "codeSystem": system}
    return sub(parent, tag, {TYPE: kind, **shown} if kind else shown)


def meddra(parent: Any, tag: str, term: Term | None, *, typed: bool = True) -> Any:
    """An element with a MedDRA code; without a term only the code system stands there, for a text beside it."""
    attributes = {TYPE: "CE"} if typed else {}
    if term is not None:
        attributes["code"] = term.code
    attributes["codeSystem"] = oids.MEDDRA
    if term is not None and term.version:
        attributes["codeSystemVersion"] = term.version
    return sub(parent, tag, attributes)


def dictionary(parent: Any, tag: str, term: Term | None, system: str, typed: str = "") -> Any:
    """An element with the code of another dictionary (dose form, route, product, substance)."""
    attributes = {TYPE: typed} if typed else {}
    if term is not None:
        attributes |= {"code": term.code, "codeSystem": system}
        if term.version:
            attributes["codeSystemVersion"] = term.version
    return sub(parent, tag, attributes)


def observation_code(parent: Any, code: str) -> None:
    """The `code` that says what an observation is about."""
    sub(parent, "code", {"code": code, "codeSystem": oids.OBSERVATION, "displayName": oids.OBSERVATIONS[code]})


def observed(parent: Any, relation: str, kind: str, code: str) -> Any:
    """An observation in a relation to its parent; its code is written, its value is to follow."""
    inner = sub(sub(parent, relation, {"typeCode": kind}), "observation", OBS)
    observation_code(inner, code)
    return inner


def observed_event(parent: Any, relation: str) -> Any:
    """An observation about the report as a whole, or about its assessment."""
    return chain(parent, (relation, {"typeCode": "COMP"}), ("observationEvent", OBS))


def flag(parent: Any, value: bool | Null | None) -> None:
    """A boolean value."""
    if value is not None:
        sub(parent, "value", {TYPE: "BL", **(null(value) if isinstance(value, Null) else {"value": truth(value)})})


def truth(value: bool) -> str:
    """True or false, as XML says it."""
    return "true" if value else "false"


def quantity(parent: Any, value: Quantity | None, tag: str = "value", typed: str = "PQ") -> None:
    """A physical quantity."""
    if value is not None:
        sub(parent, tag, {**({TYPE: typed} if typed else {}), "value": value.value, "unit": value.unit})


def words(parent: Any, value: Text, typed: str = "ED") -> Any:
    """A text as a value."""
    if value is None:
        return None
    element = sub(parent, "value", {TYPE: typed, **(null(value) if isinstance(value, Null) else {})})
    if isinstance(value, str):
        element.text = value
    return element


def author(parent: Any, actor: str) -> None:
    """Who said it: sender, reporter or source reporter."""
    entity = chain(parent, ("author", {"typeCode": "AUT"}), ("assignedEntity", {"classCode": "ASSIGNED"}))
    sub(entity, "code", {"code": actor, "codeSystem": oids.ACTOR, "displayName": oids.ACTORS[actor]})


def interval(
    parent: Any, start: Text, end: Text, width: Quantity | None, period: Mapping[str, str] | None = None
) -> None:
    """When something was: from, to, for how long and how often.

    One interval where one says it all; components (HL7 SXPR_TS) where a period, or start, end and duration together,
    need them.
    """
    if start is None and end is None and width is None and period is None:
        return
    if isinstance(start, Null) and end is None and width is None and period is None:
        sub(parent, "effectiveTime", null(start))
        return
    if period is None and (width is None or start is None or end is None):
        whole = sub(parent, "effectiveTime", {TYPE: "IVL_TS"})
        time(whole, "low", start)
        time(whole, "high", end)
        quantity(whole, width, "width", "")
        return
    whole = sub(parent, "effectiveTime", {TYPE: "SXPR_TS"})
    joined: dict[str, str] = {}
    if period is not None:
        sub(sub(whole, "comp", {TYPE: "PIVL_TS"}), "period", period)
        joined = {"operator": "A"}
    if start is not None or end is not None:
        bounds = sub(whole, "comp", {TYPE: "IVL_TS", **joined})
        time(bounds, "low", start)
        time(bounds, "high", end)
        joined = {"operator": "A"}
    if width is not None:
        quantity(sub(whole, "comp", {TYPE: "IVL_TS", **joined}), width, "width", "")


def address(parent: Any, street: Text, city: Text, state: Text, postcode: Text, country: Text = None) -> None:
    """A postal address; nothing where nothing of it is known."""
    if not any(each is not None for each in (street, city, state, postcode, country)):
        return
    place = sub(parent, "addr")
    for tag, value in (
        ("streetAddressLine", street),
        ("city", city),
        ("state", state),
        ("postalCode", postcode),
        ("country", country),
    ):
        text(place, tag, value)


def telecom(parent: Any, scheme: str, value: Text) -> None:
    """A telephone, fax or mail address. FDA: with a null flavour the scheme stands without its colon."""
    if isinstance(value, Null):
        sub(parent, "telecom", {**null(value), "value": scheme})
    elif value is not None:
        sub(parent, "telecom", {"value": f"{scheme}:{value}"})


def person(parent: Any, title: Text, given: Text, middle: Text, family: Text) -> None:
    """A name. The middle name is the second given name, so an unknown first one stands empty before it."""
    if not any(each is not None for each in (title, given, middle, family)):
        return
    name = sub(parent, "name")
    text(name, "prefix", title)
    if given is None and middle is not None:
        sub(name, "given")
    text(name, "given", given)
    text(name, "given", middle)
    text(name, "family", family)


def organisation(parent: Any, department: Text, name: Text) -> None:
    """A department and the organisation it belongs to."""
    if department is None and name is None:
        return
    attributes = {"classCode": "ORG", "determinerCode": "INSTANCE"}
    inner = sub(parent, "representedOrganization", attributes)
    text(inner, "name", department)
    if name is not None:
        outer = chain(inner, ("assignedEntity", {"classCode": "ASSIGNED"}), ("representedOrganization", attributes))
        text(outer, "name", name)


def located(parent: Any, country: Text) -> None:
    """The country a person is in."""
    if country is not None:
        place = chain(
            parent,
            ("asLocatedEntity", {"classCode": "LOCE"}),
            ("location", {"classCode": "COUNTRY", "determinerCode": "INSTANCE"}),
        )
        coded(place, "code", country, oids.COUNTRY)
