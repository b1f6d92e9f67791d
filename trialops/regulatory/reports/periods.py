"""Which reports are due, for which data cut and period, and when they have to be filed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

if TYPE_CHECKING:
    from trialops.trial.study_file import StudyFile

QUARTERS = (1, 4, 7, 10)


@cache
def catalogue() -> Mapping[str, Any]:
    """reports.yaml."""
    import yaml

    loaded: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("reports.yaml").read_text("utf-8"))
    return loaded


def catalogue_digest() -> str:
    """SHA-256 of what the reports are to hold."""
    return document_digest(dict(catalogue()))


def kinds() -> tuple[str, ...]:
    """The reports there are."""
    return tuple(catalogue()["reports"])


@dataclass(frozen=True)
class Period:
    """A reporting period: its first and last day (the data cut), and by when the report is filed."""

    since: date
    cut: date
    due: date


def anniversary(day: date, year: int) -> date:
    """A day in another year; 29 February is 28 February there where it must be."""
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 2, 28)


def period_of(kind: str, study: StudyFile, *, begun: date, cut: date) -> Period:
    """The period that ends with a data cut.

    A month or quarter begins with the calendar's, a year on the anniversary before the cut (the cut itself may be the
    day before an anniversary: the period is then the whole year up to it). No period begins before the trial did.

    Args:
        kind: One of `kinds`.
        study: The study file.
        begun: First consent.
        cut: Data cut.
    """
    rule = report(kind)
    if rule["every"] == "year":
        origin = study.safety.get(rule["anniversary"]) or begun
        since = anniversary(origin, cut.year)
        if since > cut:
            since = anniversary(origin, cut.year - 1)
    else:
        month = cut.month if rule["every"] == "month" else max(m for m in QUARTERS if m <= cut.month)
        since = date(cut.year, month, 1)
    return Period(min(max(since, begun), cut), cut, cut + timedelta(days=int(rule["due_days"])))


def cut_for(kind: str, study: StudyFile, *, begun: date, latest: date) -> date:
    """The last end of a period that the data reach: the data cut of a report nobody gave one for.

    Args:
        kind: One of `kinds`.
        study: The study file.
        begun: First consent.
        latest: Last day the data reach.

    Returns:
        The last day of a month or quarter, or the eve of an anniversary; `latest` where the trial has not come so far.
    """
    rule = report(kind)
    after = latest + timedelta(days=1)
    if rule["every"] == "year":
        origin = study.safety.get(rule["anniversary"]) or begun
        end = anniversary(origin, after.year)
        end = end if end <= after else anniversary(origin, after.year - 1)
    else:
        month = after.month if rule["every"] == "month" else max(m for m in QUARTERS if m <= after.month)
        end = date(after.year, month, 1)
    eve = end - timedelta(days=1)
    return eve if eve > begun else latest


def due_kinds(study: StudyFile, *, begun: date, today: date) -> tuple[str, ...]:
    """The reports whose period has ended in the month before a day: what a run at the beginning of a month makes.

    Args:
        study: The study file.
        begun: First consent.
        today: Day of the run.
    """
    first = today.replace(day=1)
    before = first - timedelta(days=1)
    found = []
    for kind, rule in catalogue()["reports"].items():
        every = rule["every"]
        if every == "month" or (every == "quarter" and first.month in QUARTERS):
            found.append(kind)
        elif every == "year":
            origin = study.safety.get(rule["anniversary"]) or begun
            end = anniversary(origin, before.year) - timedelta(days=1)
            if before.replace(day=1) <= end <= before and end > begun:
                found.append(kind)
    return tuple(found)


def report(kind: str) -> Mapping[str, Any]:
    """What a report is to hold.

    Raises:
        TrialOpsError: There is none of that name.
    """
    known: Mapping[str, Any] = catalogue()["reports"]
    if kind not in known:
        raise TrialOpsError(f"There is no report called {kind!r}", where="kinds", fix=f"Use one of {', '.join(known)}.")
    found: Mapping[str, Any] = known[kind]
    return found
