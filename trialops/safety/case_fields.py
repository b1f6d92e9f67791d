"""What a field of a case may hold: a word or value, or the reason why there is none; checked where a case is made.

Each field of the classes in `trialops.safety.case` says its kind and the number of the ICH E2B(R3) element it
stands for. A number that starts with a dot continues the number of the part it lies in ("D.7.1.r" + ".2"): one
class serves patient and parent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from trialops.errors import TrialOpsError
from trialops.safety.terms import NULL_REASONS, TERMS

_DATE = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(T(?P<hour>\d\d)(:(?P<minute>\d\d)(:(?P<second>\d\d)(\.\d{1,4})?)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?"
)
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Null:
    """A value that is not there, and why ("masked", "asked but unknown", ...; the words of `NULL_REASONS`)."""

    reason: str

    def __post_init__(self) -> None:
        if self.reason not in NULL_REASONS:
            raise TrialOpsError(
                f"'{self.reason}' is no reason for a missing value", fix=f"use one of: {', '.join(NULL_REASONS)}"
            )


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its UCUM unit. The number keeps its digits: it is a text."""

    value: str
    unit: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", number_text(self.value, "a quantity"))
        _text(self.unit, "the unit of a quantity")


@dataclass(frozen=True, slots=True)
class Term:
    """A code of a dictionary and the dictionary's version (MedDRA "25.0"; EDQM, NDC: a date or number, or none)."""

    code: str
    version: str | None = None

    def __post_init__(self) -> None:
        _text(self.code, "the code of a term")
        if self.version is not None:
            _text(self.version, "the version of a term")


def item(
    kind: str,
    element: str = "",
    *,
    default: Any = None,
    required: bool = False,
    of: type | None = None,
    terms: str = "",
) -> Any:
    """A field of a case.

    Args:
        kind: text, date, number, bool, flag (true or nothing), code, country, quantity, meddra, term, file, index; the
            repeating texts and codes; part and parts for what has fields of its own.
        element: Number of the element; for pairs (quantity, meddra, term) without the letter a or b.
        default: Value where none is given; tuples for repeating kinds.
        required: Whether a case cannot be made without it.
        of: Class of a part.
        terms: Name of the list of words of a code.
    """
    metadata = {"kind": kind, "element": element, "of": of, "terms": terms}
    if required:
        return field(metadata=metadata)
    if kind in {"texts", "codes", "parts"} and default is None:
        default = ()
    return field(default=default, metadata=metadata)


def check(instance: Any) -> None:
    """Check every field of a part of a case against its kind; lists become tuples, numbers texts.

    Raises:
        TrialOpsError: If a value is not of the kind of its field. The message names class and field, never the value.
    """
    cls: type = type(instance)
    nullable = _nullable(cls)
    for spec in fields(instance):
        kind = spec.metadata.get("kind")
        if kind is None:
            continue
        where = f"{cls.__name__}.{spec.name}"
        if spec.metadata["element"]:
            where += f" (element {spec.metadata['element']})"
        value = getattr(instance, spec.name)
        if value is None and spec.default is not MISSING:
            continue
        checked = _checked(value, kind, spec.metadata, where, spec.name in nullable)
        if checked is not value:
            object.__setattr__(instance, spec.name, checked)


@cache
def _nullable(cls: type) -> frozenset[str]:
    """Fields whose type says that a reason may stand in place of a value (Text, Flag, or Null itself)."""
    return frozenset(
        spec.name for spec in fields(cls) if str(spec.type) in {"Text", "Flag"} or "Null" in str(spec.type)
    )


def _checked(value: Any, kind: str, metadata: Mapping[str, Any], where: str, nullable: bool) -> Any:
    if kind in {"texts", "codes", "parts"}:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise _wrong(where, "a list")
        single = {"texts": "text", "codes": "code", "parts": "part"}[kind]
        return tuple(_checked(each, single, metadata, where, nullable) for each in value)
    if kind == "part":
        if not isinstance(value, metadata["of"]):
            raise _wrong(where, f"a {metadata['of'].__name__}")
        return value
    if isinstance(value, Null):
        if not nullable:
            raise _wrong(where, "a value, or nothing: E2B(R3) knows no reason for a missing value here")
        return value
    if kind == "index":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _wrong(where, "a whole number from 1 on")
        return value
    if kind in {"text", "file"}:
        # Blanks around base64 are no part of it, and a message does not keep them.
        return _text(value, where) if kind == "text" else _text(value, where).strip()
    if kind == "date":
        return date_text(value, where)
    if kind == "number":
        return number_text(value, where)
    if kind in {"bool", "flag"}:
        if not isinstance(value, bool):
            raise _wrong(where, "true or false")
        return value
    if kind == "code":
        pairs = TERMS[metadata["terms"]][1]
        if not isinstance(value, str) or value not in pairs:
            raise _wrong(where, f"one of: {', '.join(pairs)}")
        return value
    if kind == "country":
        if not isinstance(value, str) or not re.fullmatch(r"[A-Z]{2}", value):
            raise _wrong(where, "a country code of two capital letters (ISO 3166-1, or EU)")
        return value
    expected = {"quantity": Quantity, "meddra": Term, "term": Term}[kind]
    if not isinstance(value, expected):
        raise _wrong(where, f"a {expected.__name__}")
    if kind == "meddra" and isinstance(value, Term) and not (re.fullmatch(r"\d{8}", value.code) and value.version):
        raise _wrong(where, "a MedDRA code of eight digits with the dictionary's version")
    return value


def _wrong(where: str, expected: str) -> TrialOpsError:
    return TrialOpsError("a value of the case is not of its kind", where=where, fix=f"give {expected}")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, "a text that is not empty (or leave it out, or a Null with the reason)")
    if _NOT_XML.search(value):
        raise _wrong(where, "a text without control characters (XML 1.0 cannot hold them)")
    # As XML reads line ends, so that a text comes back equal from a message.
    return value.replace("\r\n", "\n").replace("\r", "\n") if "\r" in value else value


def number_text(value: Any, where: str) -> str:
    """A decimal number as text, with the digits it was given.

    Raises:
        TrialOpsError: If it is no finite decimal number.
    """
    if isinstance(value, bool):
        raise _wrong(where, "a decimal number")
    if isinstance(value, int | float):
        try:
            value = format(Decimal(repr(value)), "f")
        except InvalidOperation:
            raise _wrong(where, "a decimal number") from None
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise _wrong(where, "a decimal number")
    return value


def date_text(value: Any, where: str) -> str:
    """An ISO 8601 date or time of any precision from the year on (2022, 2022-06, 2022-06-15T10:00:00-05:00).

    Raises:
        TrialOpsError: If it is no date of the calendar.
    """
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _wrong(where, "an ISO 8601 date, as precise as it is known (2022, 2022-06, 2022-06-15T10:00:00-05:00)")
    part = match.groupdict()
    try:
        date(int(part["year"]), int(part["month"] or 1), int(part["day"] or 1))
        datetime(2000, 1, 1, int(part["hour"] or 0), int(part["minute"] or 0), int(part["second"] or 0))
    except ValueError:
        raise _wrong(where, "a date of the calendar") from None
    # One way to write Greenwich time, so that equal times are equal texts.
    return value[:-1] + "+00:00" if value.endswith("Z") else value


def to_plain(value: Any) -> Any:
    """A part of a case as dictionaries, lists and texts; what is not there is left out."""
    if isinstance(value, Null):
        return {"null": value.reason}
    if is_dataclass(value) and not isinstance(value, type):
        plain = {}
        for spec in fields(value):
            each = to_plain(getattr(value, spec.name))
            if each is not None and each != [] and not (each is False and spec.metadata.get("kind") == "flag"):
                plain[spec.name] = each
        return plain
    if isinstance(value, tuple):
        return [to_plain(each) for each in value]
    return value


def from_plain(cls: type, plain: Any, where: str = "") -> Any:
    """The part of a case that `to_plain` wrote.

    Raises:
        TrialOpsError: If a name is unknown, something required is missing, or a value is not of its kind.
    """
    where = where or cls.__name__
    if not isinstance(plain, Mapping):
        raise _wrong(where, "a mapping of names to values")
    known = {spec.name: spec for spec in fields(cls)}
    unknown = sorted(set(plain) - set(known))
    if unknown:
        raise TrialOpsError(
            "a case has names that its model does not know",
            where=f"{where}: {', '.join(unknown)}",
            fix=f"the names are {', '.join(known)}",
        )
    missing = sorted(n for n, s in known.items() if n not in plain and s.default is MISSING)
    if missing:
        raise TrialOpsError(
            "a case lacks what it cannot be without", where=f"{where}: {', '.join(missing)}", fix="give these values"
        )
    return cls(**{name: _value(known[name].metadata, each, f"{where}.{name}") for name, each in plain.items()})


def _value(metadata: Mapping[str, Any], plain: Any, where: str) -> Any:
    kind = metadata.get("kind")
    if isinstance(plain, Mapping) and set(plain) == {"null"}:
        return Null(plain["null"])
    if kind == "part":
        return from_plain(metadata["of"], plain, where)
    if kind in {"parts", "texts", "codes"}:
        if not isinstance(plain, list | tuple):
            raise _wrong(where, "a list")
        if kind == "parts":
            return tuple(from_plain(metadata["of"], each, f"{where}[{n}]") for n, each in enumerate(plain, 1))
        return tuple(_value({}, each, where) for each in plain)
    if kind == "quantity":
        return from_plain(Quantity, plain, where)
    if kind in {"meddra", "term"}:
        return from_plain(Term, plain, where)
    return plain
