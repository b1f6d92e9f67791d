"""What holds for every element of an E2B(R3) message: required, coded, sized, typed, dated, null flavour allowed.

FDA gives these checks a text and no error id; the names are ours. A finding of theirs is a rejection, but for DOCUMENT:
FDA takes a document as it is, and finds out later that it cannot be opened.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import MappingProxyType

from trialops.safety.e2b.elements import Element, elements
from trialops.safety.e2b.rule_language import Found, Path, Report, groups_of
from trialops.safety.e2b.rules import REJECTION, WARNING, Finding, repeat_text

NAMES = MappingProxyType(
    {
        "REQUIRED": "a required element has neither a value nor an allowed null flavour",
        "CODE": "a value is none of the codes allowed",
        "LENGTH": "a value is longer than allowed",
        "TYPE": "a value is not of the element's type",
        "FUTURE": "a date lies in the future",
        "PRECISION": "a date is not given to the day",
        "FULL_PRECISION": "a time is not given to the second",
        "NULL_FLAVOUR": "a null flavour is not allowed for the element",
        "MEDDRA_VERSION": "terms of a report are coded in more than one version of MedDRA",
        "DOCUMENT": "an enclosed document cannot be decoded",
        "SAME_TIME": "the message was not made when the report was (N.2.r.4, C.1.2)",
    }
)
"""The general checks, by name."""

TO_THE_SECOND = frozenset({"N.1.5", "N.2.r.4", "C.1.2"})
TO_THE_DAY = frozenset({"C.1.4", "C.1.5", "D.2.1"})
"""Elements with a minimum precision above the year (ICH E2B(R3) implementation guide)."""

# A report has these at least once; that there is a reporter, rule R0021 says.
_AT_LEAST_ONE = ("E.i", "G.k", "D.11.r")
_FUTURE_SLACK = timedelta(hours=26)
"""A date without a time zone may be today's somewhere on Earth."""

_DATE = re.compile(
    r"(?P<year>\d{4})(?:(?P<month>\d{2})(?:(?P<day>\d{2})(?:(?P<hour>\d{2})(?:(?P<minute>\d{2})(?:(?P<second>\d{2})"
    r"(?:\.\d{1,4})?)?)?)?)?)?(?P<zone>[+-]\d{2}(?:\d{2})?)?"
)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_LETTERS = re.compile(r"[A-Za-z]+")
_MEDDRA = re.compile(r"\d{1,2}\.[01]")
_CODE_LENGTH = {2: re.compile(r"[A-Z]{2}"), 3: re.compile(r"[a-z]{3}")}


def check_general(report: Report, *, as_of: datetime | None = None, number: int = 1) -> Iterator[Finding]:
    """The general checks that do not hold for a report.

    Args:
        report: The report.
        as_of: When it is checked, with a time zone; None leaves out what lies in the future.
        number: Which message of the batch.
    """
    yield from _required(report, number)
    known = elements()
    for item in report.found:
        element = known.get(item.number)
        if element is not None:
            for name, fix in _one(element, item, as_of):
                yield _finding(name, item.number, item.path, fix, number)
    versions = sorted(
        {i.value for n, e in known.items() if "MedDRA Version" in e.name for i in report.of(n) if i.value}
    )
    if len(versions) > 1:
        yield _finding("MEDDRA_VERSION", "E.i.2.1a", (), "Code the whole report in one version.", number)
    made, created = report.of("N.2.r.4"), report.of("C.1.2")
    if made and created and made[0].value != created[0].value:
        yield _finding("SAME_TIME", "N.2.r.4", (), "Write the same time into both.", number)


def _finding(name: str, element: str, path: Path, fix: str, number: int) -> Finding:
    return Finding(
        severity=WARNING if name == "DOCUMENT" else REJECTION,
        rule=name,
        element=element,
        repeat=repeat_text(element, path),
        message=NAMES[name][0].upper() + NAMES[name][1:],
        fix=fix,
        report=number,
    )


def _required(report: Report, number: int) -> Iterator[Finding]:
    for element in elements().values():
        regional = element.premarket if report.route == "premarket" else element.postmarket if report.route else ""
        if "required" not in (element.ich, regional):
            continue
        groups = groups_of(element.number)
        places: list[Path] = [()]
        if groups:
            places = list(report.repeats(groups[-1])) or ([()] if groups[-1] in _AT_LEAST_ONE else [])
        stated = {item.path[: len(groups)] for item in report.of(element.number)}
        for place in places:
            if place not in stated:
                allowed = f", or a null flavour ({', '.join(element.null_flavors)})" if element.null_flavors else ""
                yield _finding("REQUIRED", element.number, place, f"Give {element.name}{allowed}.", number)


def _one(element: Element, item: Found, as_of: datetime | None) -> Iterator[tuple[str, str]]:
    if item.null:
        if item.null not in element.null_flavors:
            allowed = ", ".join(element.null_flavors) or "none"
            yield "NULL_FLAVOUR", f"Give a value, or an allowed null flavour ({allowed})."
        return
    value = item.value
    # The reference to a reaction is a UUID: 32 digits, which are written with four hyphens.
    length = len(value.replace("-", "")) if element.number == "G.k.9.i.1" else len(value)
    if element.max_length and length > element.max_length:
        yield "LENGTH", f"Shorten it to {element.max_length} characters."
    if element.allowed:
        if value not in element.allowed:
            yield "CODE", f"Use one of {', '.join(element.allowed)}."
    elif element.data_type == "date":
        yield from _date(element.number, value, as_of)
    elif element.data_type == "B64":
        if not _decodes(value):
            yield "DOCUMENT", "Enclose the document again, in base 64."
    elif not _typed(element, value):
        yield "TYPE", f"Give a value of type {element.data_type}."


def _typed(element: Element, value: str) -> bool:
    if "MedDRA Version" in element.name:
        return bool(_MEDDRA.fullmatch(value))
    if element.data_type == "N":
        return bool(_NUMBER.fullmatch(value))
    if element.data_type == "A" or ("Country" in element.name and element.max_length == 2):
        code = _CODE_LENGTH.get(element.max_length or 0)
        return bool((code or _LETTERS).fullmatch(value))
    return True


def _decodes(value: str) -> bool:
    try:
        base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _date(number: str, value: str, as_of: datetime | None) -> Iterator[tuple[str, str]]:
    match = _DATE.fullmatch(value)
    earliest = _earliest(match) if match else None
    if match is None or earliest is None:
        yield "TYPE", "Write a date as CCYYMMDDhhmmss+ZZzz, from the left as far as it is known."
        return
    if number in TO_THE_SECOND and match["second"] is None:
        yield "FULL_PRECISION", "Give the time to the second."
    elif number in TO_THE_DAY and match["day"] is None:
        yield "PRECISION", "Give the date to the day."
    if as_of is not None and earliest > as_of + (timedelta() if earliest.tzinfo and match["zone"] else _FUTURE_SLACK):
        yield "FUTURE", "Correct the date, or the clock of whoever wrote it."


def _earliest(match: re.Match[str]) -> datetime | None:
    """The first moment a date can mean, in its zone or UTC; None where there is no such day."""
    zone = (match["zone"] or "+0000").ljust(5, "0")
    parts = [match[name] or default for name, default in (("month", "01"), ("day", "01"))]
    times = [match[name] or "00" for name in ("hour", "minute", "second")]
    try:
        return datetime.fromisoformat(f"{match['year']}-{parts[0]}-{parts[1]}T{':'.join(times)}{zone[:3]}:{zone[3:]}")
    except ValueError:
        return None
