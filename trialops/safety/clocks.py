"""Reporting clocks: from what became known when to what is due when, and whether it was.

Day 0 is the calendar day, in the time zone of the safety desk, on which the sponsor first had the minimum criteria of a
report that qualifies; a report is due at the end of calendar day 0 + n in that zone. Weekends and holidays count. A
case's clocks are computed from its whole history each time: nothing is kept that could drift from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from trialops.errors import TrialOpsError
from trialops.safety.clock_times import end_of_day, local_day, utc_text

OPEN, ON_TIME, LATE, VOID = "open", "submitted on time", "submitted late", "void"


@dataclass(frozen=True)
class Known:
    """Something became known: a first report or further information.

    Attributes:
        at: When the sponsor had it, UTC.
        kind: What it makes due: grave, serious, or empty for nothing expedited (any more).
        version: Of the case.
        reason: The decision's words, for a clock that it ends.
    """

    at: datetime
    kind: str
    version: int
    reason: str = ""


@dataclass(frozen=True)
class Sent:
    """A report went out: when, which version of the case it told, and whether it was complete."""

    at: datetime
    version: int
    complete: bool = True


@dataclass(frozen=True)
class Clock:
    """One reporting clock.

    Attributes:
        authority: FDA or EU.
        kind: grave, serious, follow_up or complete.
        version: Version of the case that started it.
        start: Awareness, UTC.
        day_0: Its calendar day in the desk's zone.
        due_day: Last calendar day.
        due: Its end, UTC.
        ended: When it was submitted or became void; None while it is open.
        void: Why nothing is due any more; empty otherwise.
    """

    authority: str
    kind: str
    version: int
    start: datetime
    day_0: date
    due_day: date
    due: datetime
    ended: datetime | None = None
    void: str = ""

    @property
    def state(self) -> str:
        """open, submitted on time, submitted late, or void."""
        if self.void:
            return VOID
        if self.ended is None:
            return OPEN
        return ON_TIME if self.ended <= self.due else LATE

    def used(self, now: datetime) -> float:
        """Share of the time that has gone by, from awareness to the due time; over 1 when it has passed."""
        return (now - self.start) / (self.due - self.start)

    def overdue(self, now: datetime) -> bool:
        """Open, and the due time has passed."""
        return self.state == OPEN and now > self.due

    def alert(self, now: datetime, levels: Sequence[float]) -> str:
        """The highest alert reached: "overdue", "90 %", ..., or empty."""
        if self.state != OPEN:
            return ""
        if self.overdue(now):
            return "overdue"
        reached = [level for level in levels if self.used(now) >= level]
        return f"{100 * max(reached):.0f} %" if reached else ""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "authority": self.authority,
            "kind": self.kind,
            "version": self.version,
            "start": utc_text(self.start),
            "day_0": self.day_0.isoformat(),
            "due_day": self.due_day.isoformat(),
            "due": utc_text(self.due),
            "ended": utc_text(self.ended) if self.ended else "",
            "state": self.state,
            "void": self.void,
        }


def due(start: datetime, days: int, zone: str) -> tuple[date, date, datetime]:
    """Day 0, the last calendar day and its end in UTC.

    Args:
        start: Awareness, with a time zone.
        days: Calendar days.
        zone: IANA name of the desk's zone.

    Raises:
        TrialOpsError: The start has no time zone.
    """
    if start.tzinfo is None:
        raise TrialOpsError("An awareness needs a time zone", where="clocks", fix="Give UTC: 2026-01-31T14:05:00Z")
    day_0 = local_day(start, zone)
    last = day_0 + timedelta(days=days)
    return day_0, last, end_of_day(last, zone)


def clocks(
    known: Sequence[Known], sent: Sequence[Sent], *, authority: str, days: Mapping[str, int], zone: str
) -> list[Clock]:
    """All clocks of a case for one authority, in the order they started.

    * The first information that qualifies starts the clock; what came before and did not qualify starts none.
    * Further information before a report went out goes into that report: it starts no clock, except that a case which
      turns out fatal or life-threatening starts 7 days from then. The earlier due time is kept where it is earlier: an
      upgrade never prolongs.
    * A case that is no longer fatal or life-threatening before it was reported has its 15 days, from the first
      awareness. One that no longer qualifies has none: the clock is void, with the reason. Should it qualify once more,
      that information starts a new one.
    * After a report, further information of any kind starts its own clock: 7 days where the case turns out fatal or
      life-threatening for the first time, otherwise the days of a follow-up.
    * Where an incomplete 7-day report must be completed (EU), that is due so many days after the 7 days are over.
    * A report ends the clocks of every version up to the one it tells. What was known by then and is in none has its
      own clock as a follow-up, from its awareness.

    Args:
        known: Information, in any order; equal times in the order of versions.
        sent: Reports to this authority.
        authority: FDA or EU.
        days: Calendar days for grave, serious, follow_up and, where there is one, complete.
        zone: IANA name of the desk's zone.
    """
    steps: list[Known | Sent] = sorted([*known, *sent], key=lambda s: (s.at, s.version, isinstance(s, Sent)))
    found: list[Clock] = []
    first: datetime | None = None
    told = ""  # gravest kind that a report has told
    reached = 0  # newest version that a report has told
    seen: list[Known] = []
    for step in steps:
        if isinstance(step, Sent):
            said = [k.kind for k in seen if k.version <= step.version]
            if "".join(said):
                told = "grave" if "grave" in (told, said[-1]) else "serious"
            _submit(found, step)
            reached = max(reached, step.version)
            for left in seen if told else ():
                # What was known by then and is not in the report has a clock of its own, from its awareness.
                if left.version > reached and not any(c.version >= left.version and not c.void for c in found):
                    _start(found, left.at, "follow_up", left.version, authority, days, zone)
            continue
        seen.append(step)
        if not told:
            first = _before_report(found, step, first, authority, days, zone)
        else:
            grave = step.kind == "grave" and told != "grave" and not _open(found, "grave")
            _start(found, step.at, "grave" if grave else "follow_up", step.version, authority, days, zone)
    return found


def _before_report(
    found: list[Clock],
    step: Known,
    first: datetime | None,
    authority: str,
    days: Mapping[str, int],
    zone: str,
) -> datetime | None:
    """Take in information while nothing has been reported; returns the awareness that the 15 days count from."""
    at = _open(found, "grave") or _open(found, "serious")
    running = found[at - 1] if at else None
    if running is None:
        if step.kind:
            _start(found, step.at, step.kind, step.version, authority, days, zone)
            return step.at
        return None
    if not step.kind:
        _end_all(found, step.at, step.reason or "no longer to be expedited")
        return None
    if step.kind == running.kind:
        return first
    _end_all(found, step.at, "fatal or life-threatening: 7 days" if step.kind == "grave" else "downgraded to 15 days")
    began = step.at if step.kind == "grave" else first or running.start
    _start(found, began, step.kind, step.version, authority, days, zone)
    if step.kind == "grave" and running.due < found[-1].due:
        found[-1] = replace(found[-1], due=running.due, due_day=running.due_day)
    return first


def _start(
    found: list[Clock], at: datetime, kind: str, version: int, authority: str, days: Mapping[str, int], zone: str
) -> None:
    if kind == "grave" and "complete" in days:
        # Kept before the report's own clock, which callers look at as the last one.
        day_0, last, end = due(at, days["grave"] + days["complete"], zone)
        found.append(Clock(authority, "complete", version, at, day_0, last, end))
    day_0, last, end = due(at, days[kind], zone)
    found.append(Clock(authority, kind, version, at, day_0, last, end))


def _open(found: Sequence[Clock], kind: str) -> int:
    """Place, from 1, of the open clock of a kind; 0 for none."""
    return next((n for n, c in enumerate(found, start=1) if c.kind == kind and c.state == OPEN), 0)


def _end_all(found: list[Clock], at: datetime, reason: str) -> None:
    found[:] = [replace(c, ended=at, void=reason) if c.state == OPEN else c for c in found]


def _submit(found: list[Clock], sent: Sent) -> None:
    """End the clocks a report answers: of versions up to the one it tells; a completion only by a complete one."""
    for number, clock in enumerate(found):
        if clock.state == OPEN and clock.version <= sent.version and (clock.kind != "complete" or sent.complete):
            found[number] = replace(clock, ended=sent.at)
