"""Dates and ages of FHIR elements: cut to the year with a study day beside it, or shifted; ages over the limit."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

from trialops.privacy.fhir_people import Subject, years

STUDY_DAY = "urn:trialops:study-day"
AGE = "urn:trialops:age"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
MASKED: dict[str, Any] = {"url": ABSENT, "valueCode": "masked"}
UCUM = "http://unitsofmeasure.org"

PER_YEAR = {"a": 1, "a_j": 1, "mo": 12, "wk": Decimal("52.1775"), "d": Decimal("365.25"), "h": 8766}
"""UCUM unit of time -> how many make a year."""

_WORDS = {"year": "a", "years": "a", "yr": "a", "yrs": "a", "y": "a", "month": "mo", "months": "mo", "week": "wk"}
_WORDS |= {"weeks": "wk", "day": "d", "days": "d"}
_DATE = re.compile(r"^(\d{4})(?:-(\d{2})(?:-(\d{2})(T.*)?)?)?$")


def study_day(day: dt.date, first: dt.date) -> int:
    """Study day by SDTM: day 1 is `first`, the day before is -1, there is no day 0."""
    days = (day - first).days
    return days + 1 if days >= 0 else days


def cut(text: str, subject: Subject | None, limit: int) -> tuple[str | None, int | None]:
    """What Safe Harbor leaves of a date: its year, and the study day.

    Args:
        text: FHIR date or dateTime at any precision.
        subject: Whose date it is; None where it is about no subject, and then there is no study day.
        limit: Last age in years that may be told.

    Two dates with year and study day on either side of a New Year would give the calendar date of day 1, and with it
    all others. So of dates with a study day only day 1 keeps its year.

    Returns:
        The year, None for a subject with an age over the limit, a text that is not a date, and beside any study day
        but 1; and the study day, None where the date is not exact, there is no day 1, or the day tells an age over the
        limit.
    """
    found = _DATE.match(text)
    if not found:
        return None, None
    year = None if subject is not None and subject.old else found[1]
    if subject is None or subject.day_one is None or not found[3]:
        return year, None
    try:
        date = dt.date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return year, None
    day = study_day(date, subject.day_one)
    age = years(subject.birth, date)
    too_old = day < -365 * limit or (age is not None and age > limit)
    # Without a birth date the span of the record is what tells an age.
    unknown = subject.old and subject.birth is None and abs(day) > 365 * limit
    if too_old or unknown:
        return None, None
    return (year if day == 1 else None), day


def shift(text: str, days: int) -> str | None:
    """A date moved by so many days at the precision it has, time of day and zone kept; None where it is not a date.

    Exact dates move exactly. A month or a year moves with its middle, so that on average no interval grows or shrinks.
    """
    found = _DATE.match(text)
    if not found:
        return None
    year, month, day, rest = found.groups()
    try:
        moved = dt.date(int(year), int(month or 7), int(day or (15 if month else 2))) + dt.timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    shown = moved.isoformat()
    return shown + (rest or "") if day else shown[:7] if month else shown[:4]


def over_age(quantity: dict[str, Any], limit: int) -> bool:
    """Whether a quantity is a time longer than the limit in completed years: an age that may not be told."""
    value = quantity.get("value")
    unit = quantity.get("code") or _WORDS.get(str(quantity.get("unit", "")).strip().lower(), "")
    per = PER_YEAR.get(str(unit))
    if per is None or isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return False
    return Decimal(str(value)) / Decimal(str(per)) >= limit + 1


def capped(age: int) -> dict[str, Any]:
    """The quantity that stands for every age over the limit."""
    return {"value": age, "comparator": ">=", "unit": "years", "system": UCUM, "code": "a"}
