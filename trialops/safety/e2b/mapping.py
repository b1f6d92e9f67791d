"""A case as the values of a message and back, by the element numbers that the fields of a case carry.

`values_of` is what a message of the case must say, `case_of` the case that a message tells. Neither knows XML: the
writer makes it by hand, `values.read_values` reads it by the table of elements, and tests hold the three against
each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any

from trialops.errors import TrialOpsError
from trialops.safety.case import Case, Null, Quantity, Relation, Term, Test
from trialops.safety.e2b.times import hl7_time, iso_time
from trialops.safety.e2b.values import Repeat, Value, Values
from trialops.safety.terms import NULL_REASONS, code_of, word_of

_REASONS = {flavor: reason for reason, flavor in NULL_REASONS.items()}
# Flags whose absence a message must state: "no information".
_STATED = ("E.i.3.2", "FDA.E.i.3.2")
_FDA = "FDA."


def values_of(case: Case, *, fda: bool = True) -> Values:
    """The elements of section C to H that a message of this case says, ids of drugs and reactions left out.

    Args:
        case: The case.
        fda: Whether FDA's regional elements are said.
    """
    found: dict[str, dict[Repeat, Value]] = {}
    for number, place, value in _told(case, "", ()):
        if fda or not number.startswith(_FDA):
            found.setdefault(number, {})[place] = value
    found["C.1.6.1"] = {(): Value("true" if case.report.documents else "false")}
    found["C.1.9.1"] = {(): Value("true") if case.report.other_identifiers else Value(None, "NI")}
    return Values(found)


def _told(part: Any, prefix: str, place: Repeat) -> Iterator[tuple[str, Repeat, Value]]:
    for spec in fields(part):
        kind, number = spec.metadata["kind"], _number(spec, prefix)
        value = getattr(part, spec.name)
        if kind == "flag":
            yield from _told_flag(number, place, value)
        elif value is None or kind == "index" or not number:
            continue
        elif kind == "part":
            yield from _told(value, number, place)
        elif kind == "parts":
            for count, each in enumerate(value, 1):
                inner = (*place, each.reaction if isinstance(each, Relation) else count)
                yield from _told(each, number, inner)
        elif kind in {"texts", "codes"}:
            for count, each in enumerate(value, 1):
                yield number, (*place, count), _single(each, "code" if kind == "codes" else "text", spec)
        elif isinstance(value, Quantity):
            yield number + "a", place, Value(value.value)
            yield number + "b", place, Value(value.unit)
        elif isinstance(value, Term):
            if value.version is not None:
                yield number + "a", place, Value(value.version)
            yield number + "b", place, Value(value.code)
        else:
            yield number, place, _single(value, kind, spec)
    if isinstance(part, Test) and part.comparator is not None:
        side = "high" if part.comparator.startswith("<") else "low"
        yield f"{prefix}.3.2#{side}", place, Value("true" if part.comparator.endswith("=") else "false")


def _told_flag(number: str, place: Repeat, value: bool) -> Iterator[tuple[str, Repeat, Value]]:
    if value:
        yield number, place, Value("1" if number == "C.2.r.5" else "true")
    elif number.startswith(_STATED):
        yield number, place, Value(None, "NI")


def _single(value: Any, kind: str, spec: Field[Any]) -> Value:
    if isinstance(value, Null):
        return Value(None, NULL_REASONS[value.reason])
    if kind == "date":
        return Value(hl7_time(value))
    if kind == "code":
        return Value(code_of(spec.metadata["terms"], value))
    if kind == "bool":
        return Value("true" if value else "false")
    return Value(value)


def _number(spec: Field[Any], prefix: str) -> str:
    number: str = spec.metadata["element"]
    return prefix + number if number.startswith(".") else number


def case_of(values: Values) -> Case:
    """The case that a message tells.

    Raises:
        TrialOpsError: If a message lacks what a case cannot be without, or has a value that is none (an unknown code, a
            date that is no date). The message names the element, not the value.
    """
    case: Case = _made(Case, "", (), values.found)
    return case


_Found = Mapping[str, Mapping[Repeat, Value]]


def _made(cls: type, prefix: str, place: Repeat, found: _Found) -> Any:
    given = {}
    for spec in fields(cls):
        number = _number(spec, prefix)
        value = _field(cls, spec, number, prefix, place, found)
        if value is not None and value != ():
            given[spec.name] = value
        elif spec.default is MISSING and spec.metadata["kind"] != "part":
            raise TrialOpsError(
                "a message lacks what a case cannot be without", where=f"element {number}", fix="send it again with it"
            )
    return cls(**given)


def _field(cls: type, spec: Field[Any], number: str, prefix: str, place: Repeat, found: _Found) -> Any:
    kind = spec.metadata["kind"]
    inner = spec.metadata["of"]
    if kind == "index":
        return place[-1]
    if kind == "part":
        required = spec.default is MISSING
        return _made(inner, number, place, found) if required or _has(inner, number, place, found) else None
    if kind == "parts":
        return tuple(_made(inner, number, (*place, each), found) for each in _places(inner, number, place, found))
    if kind in {"texts", "codes"}:
        single = "code" if kind == "codes" else "text"
        below = sorted(each for each in found.get(number, ()) if each[:-1] == place and len(each) > len(place))
        return tuple(_plain(found[number][each], single, spec, number) for each in below)
    if kind in {"quantity", "meddra", "term"}:
        first, second = (_text(found, number + letter, place) for letter in "ab")
        return _pair(kind, first, second, number)
    if cls is Test and spec.name == "comparator":
        return _comparator(prefix, place, found)
    value = found.get(number, {}).get(place)
    return None if value is None else _plain(value, kind, spec, number)


def _text(found: _Found, number: str, place: Repeat) -> str | None:
    value = found.get(number, {}).get(place)
    return None if value is None else value.value


def _pair(kind: str, first: str | None, second: str | None, number: str) -> Quantity | Term | None:
    if kind == "quantity":
        if first is None and second is None:
            return None
        if first is None or second is None:
            raise TrialOpsError(
                "a quantity without number or unit", where=f"elements {number}a and {number}b", fix="send both"
            )
        return Quantity(first, second)
    return None if second is None else Term(second, first)


def _comparator(prefix: str, place: Repeat, found: _Found) -> str | None:
    for side, sign in (("low", ">"), ("high", "<")):
        included = _text(found, f"{prefix}.3.2#{side}", place)
        if included is not None:
            return sign + "=" if included == "true" else sign
    return None


def _plain(value: Value, kind: str, spec: Field[Any], number: str) -> Any:
    if kind == "flag":
        return value.value in {"true", "1"}
    if value.value is None:
        flavor = value.null or ""
        if flavor not in _REASONS:
            raise TrialOpsError(
                "a null flavour that E2B(R3) does not know", where=f"element {number}", fix="correct it"
            )
        return Null(_REASONS[flavor])
    if kind == "date":
        return iso_time(value.value, f"element {number}")
    if kind == "code":
        return word_of(spec.metadata["terms"], value.value)
    if kind == "bool":
        if value.value not in {"true", "false"}:
            raise TrialOpsError("a value that is neither true nor false", where=f"element {number}", fix="correct it")
        return value.value == "true"
    return value.value


@cache
def _numbers(cls: type, prefix: str) -> tuple[str, ...]:
    """Every number that a part and the parts in it can fill."""
    numbers: list[str] = []
    for spec in fields(cls):
        kind, number = spec.metadata["kind"], _number(spec, prefix)
        if kind in {"part", "parts"}:
            numbers += _numbers(spec.metadata["of"], number)
        elif kind in {"quantity", "meddra", "term"}:
            numbers += [number + "a", number + "b"]
        elif number:
            numbers.append(number)
    return tuple(numbers)


def _has(cls: type, prefix: str, place: Repeat, found: _Found) -> bool:
    return any(each[: len(place)] == place for number in _numbers(cls, prefix) for each in found.get(number, ()))


def _places(cls: type, prefix: str, place: Repeat, found: _Found) -> list[int]:
    """The numbers of the parts that a message tells something of; 0 is an id that nothing in the message has."""
    depth = len(place)
    below = {
        each[depth]
        for number in _numbers(cls, prefix)
        for each in found.get(number, ())
        if len(each) > depth and each[:depth] == place
    }
    if 0 in below:
        raise TrialOpsError(
            "a message refers to a drug or reaction that it does not have",
            where=f"element {prefix}",
            fix="correct the id",
        )
    return sorted(below)
