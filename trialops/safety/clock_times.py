"""Days and ends of days in the time zone of a safety desk."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from trialops.errors import TrialOpsError


@cache
def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name.

    Raises:
        TrialOpsError: There is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise TrialOpsError(
            f"There is no time zone {name!r}", where="safety.time_zone", fix="Use an IANA name: Europe/Berlin, UTC."
        ) from None


def moment(text: str, *, where: str = "as_of") -> datetime:
    """A time from ISO 8601 text, in UTC; without an offset it is UTC, a day alone is its beginning.

    Raises:
        TrialOpsError: The text is not one.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise TrialOpsError("This is not an ISO 8601 time", where=where, fix="2026-01-31T14:05:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def utc_text(at: datetime) -> str:
    """A time as the database keeps it: UTC, microseconds, final Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def start_of_day(day: date, name: str) -> datetime:
    """The first instant of a calendar day in a zone, in UTC."""
    return end_of_day(day - timedelta(days=1), name) + timedelta(microseconds=1)


def local_day(at: datetime, name: str) -> date:
    """The calendar day of a time in a zone."""
    return at.astimezone(zone(name)).date()


def end_of_day(day: date, name: str) -> datetime:
    """The last microsecond of a calendar day in a zone, in UTC.

    It is the microsecond before the first instant that bears a later date. Where midnight comes twice, the first one
    counts; where it does not exist (daylight saving time that begins at midnight, a day left out at the date line), the
    first instant after the gap.
    """
    place = zone(name)
    following = day + timedelta(days=1)
    midnight = datetime(following.year, following.month, following.day)
    # Of a midnight that comes twice, fold 0 is the first.
    instant = midnight.replace(tzinfo=place).astimezone(UTC)
    real = instant.astimezone(place).replace(tzinfo=None, fold=0) == midnight
    return (instant if real else _after_gap(instant, day, name)) - timedelta(microseconds=1)


def _after_gap(near: datetime, day: date, name: str) -> datetime:
    """The first instant whose local date is later than the day, by bisection around a gap that swallowed midnight."""
    place, low = zone(name), near - timedelta(hours=50)
    first, last = 0, timedelta(hours=100) // timedelta(microseconds=1)
    while first < last:
        middle = (first + last) // 2
        if (low + timedelta(microseconds=middle)).astimezone(place).date() > day:
            last = middle
        else:
            first = middle + 1
    return low + timedelta(microseconds=first)
