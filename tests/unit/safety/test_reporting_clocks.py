"""Reporting clocks against a brute force that walks days and quarters of an hour, over 10,000 drawn histories."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from trialops.errors import TrialOpsError
from trialops.safety.clock_times import end_of_day, local_day, moment, start_of_day
from trialops.safety.clocks import LATE, ON_TIME, OPEN, VOID, Clock, Known, Sent, clocks, due
from trialops.safety.safety_policy import alert_levels, clock_days

SEED, CASES = 20261127, 10_000
ZONES = (
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kolkata",  # +05:30
    "Asia/Kathmandu",  # +05:45
    "America/St_Johns",  # -03:30, with daylight saving time
    "Australia/Lord_Howe",  # daylight saving time of half an hour
    "Pacific/Chatham",  # +12:45
    "Pacific/Apia",  # 30 December 2011 did not exist
    "Pacific/Kiritimati",  # +14
    "Etc/GMT+12",  # -12
    "America/Sao_Paulo",  # daylight saving time began at midnight until 2018
    "Asia/Beirut",  # so it does there
)
TURNS = (date(2012, 2, 28), date(2016, 2, 29), date(2011, 12, 29), date(2015, 10, 17), date(2024, 3, 9),
         date(2024, 11, 2), date(2023, 12, 31), date(2020, 3, 28), date(2013, 10, 19), date(2010, 11, 6))  # fmt: skip


# -- the brute force: nothing of the code under test, datetime alone ---------------------------------------------------


@cache
def brute_end(day: date, zone: str) -> datetime:
    """The end of a day: walk quarters of an hour from two days before until the date is later."""
    place = ZoneInfo(zone)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=1)
    while at.astimezone(place).date() <= day:
        at += timedelta(minutes=15)
    return at - timedelta(microseconds=1)


def brute_due(start: datetime, days: int, zone: str) -> datetime:
    day = start.astimezone(ZoneInfo(zone)).date()
    for _ in range(days):
        day += timedelta(days=1)
    return brute_end(day, zone)


def brute(
    known: Sequence[Known], sent: Sequence[Sent], authority: str, zone: str
) -> list[tuple[str, int, datetime, datetime, str]]:
    """Kind, version, start, due and state of every clock, from the definitions: each question looks at everything."""
    days = clock_days()[authority]
    found: list[tuple[str, int, datetime, datetime, str]] = []
    ordered = sorted(known, key=lambda k: (k.at, k.version))

    def told_before(item: Known) -> str:
        kinds = ""
        for report in sorted(sent, key=lambda s: (s.at, s.version)):
            if (report.at, report.version, True) > (item.at, item.version, False):
                continue
            inside = [k for k in ordered if k.version <= report.version and _before(k, report)]
            if any(k.kind for k in inside):
                kinds = "grave" if kinds == "grave" or inside[-1].kind == "grave" else "serious"
        return kinds

    def answered(version: int, start: datetime, kind: str, began: Known, at_end: datetime | None) -> str:
        end = at_end
        for report in sorted(sent, key=lambda s: (s.at, s.version)):
            if report.version < version or not _before(began, report) or (kind == "complete" and not report.complete):
                continue
            if end is None or report.at <= end and (report.at, report.version) < (end, 10**9):
                limit = dues[-1]
                return ON_TIME if report.at <= limit else LATE
        return OPEN if at_end is None else VOID

    # Before anything was reported: segments between changes of what is due.
    untold = [k for k in ordered if not told_before(k)]
    first: datetime | None = None
    running: tuple[str, int, datetime, datetime, Known] | None = None
    dues: list[datetime] = []
    segments: list[tuple[tuple[str, int, datetime, datetime, Known], Known | None]] = []
    for item in untold:
        if running is None:
            if item.kind:
                running, first = (
                    (item.kind, item.version, item.at, brute_due(item.at, days[item.kind], zone), item),
                    item.at,
                )
        elif item.kind != running[0]:
            segments.append((running, item))
            if not item.kind:
                running, first = None, None
            elif item.kind == "grave":
                limit = min(running[3], brute_due(item.at, days["grave"], zone))
                running = ("grave", item.version, item.at, limit, item)
            else:
                assert first is not None
                running = ("serious", item.version, first, brute_due(first, days["serious"], zone), item)
    if running is not None:
        segments.append((running, None))
    for (kind, version, start, limit, began), ended in segments:
        if kind == "grave" and "complete" in days:
            dues.append(brute_due(start, days["grave"] + days["complete"], zone))
            state = answered(version, start, "complete", began, ended.at if ended else None)
            found.append(("complete", version, start, dues[-1], state))
        dues.append(limit)
        found.append((kind, version, start, limit, answered(version, start, kind, began, ended.at if ended else None)))
    # After a report: every further information has a clock.
    grave_started = [k for (kind, _, _, _, k), ended in segments if kind == "grave" and ended is None]
    open_grave = grave_started[-1] if grave_started else None
    for item in ordered:
        told = told_before(item)
        if not told:
            continue
        kind = "follow_up"
        if item.kind == "grave" and told != "grave" and not _still_open(open_grave, item, sent):
            kind, open_grave = "grave", item
        if kind == "grave" and "complete" in days:
            dues.append(brute_due(item.at, days["grave"] + days["complete"], zone))
            found.append(
                ("complete", item.version, item.at, dues[-1], answered(item.version, item.at, "complete", item, None))
            )
        dues.append(brute_due(item.at, days[kind], zone))
        found.append((kind, item.version, item.at, dues[-1], answered(item.version, item.at, kind, item, None)))
    # What a report left out though it was known.
    for item in untold:
        for report in sorted(sent, key=lambda s: (s.at, s.version)):
            told_then = any(k.kind for k in ordered if k.version <= report.version and _before(k, report))
            covered = any(c[1] >= item.version and c[4] != VOID for c in found if _existed(c, ordered, report))
            reached = max(r.version for r in sent if (r.at, r.version) <= (report.at, report.version))
            if _before(item, report) and item.version > reached and told_then and not covered:
                dues.append(brute_due(item.at, days["follow_up"], zone))
                found.append(
                    (
                        "follow_up",
                        item.version,
                        item.at,
                        dues[-1],
                        answered(item.version, item.at, "follow_up", item, None),
                    )
                )
                break
    return sorted(found)


def _before(item: Known, report: Sent) -> bool:
    return (item.at, item.version, False) < (report.at, report.version, True)


def _still_open(began: Known | None, item: Known, sent: Sequence[Sent]) -> bool:
    if began is None:
        return False
    return not any(
        r.version >= began.version and _before(began, r) and (r.at, r.version, True) < (item.at, item.version, False)
        for r in sent
    )


def _existed(clock: tuple[str, int, datetime, datetime, str], ordered: Sequence[Known], report: Sent) -> bool:
    """Whether a clock had been started when a report went out."""
    return any(k.version == clock[1] and _before(k, report) for k in ordered)


# -- drawn histories ---------------------------------------------------------------------------------------------------


def drawn(rng: random.Random) -> tuple[list[Known], list[Sent], str, str]:
    zone, authority = rng.choice(ZONES), rng.choice(("FDA", "EU"))
    if rng.random() < 0.5:
        day = rng.choice(TURNS) - timedelta(days=rng.choice((0, 1, 7, 8, 15, 16)))
    else:
        day = date(2011, 1, 1) + timedelta(days=rng.randrange(366 * 20))
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=rng.randrange(86_400))
    known, sent = [], []
    for version in range(1, rng.choice((1, 1, 2, 3, 4, 5)) + 1):
        known.append(Known(at, rng.choice(("grave", "serious", "serious", "")), version, "a reason"))
        if rng.random() < 0.45:
            later = at + timedelta(seconds=rng.randrange(1, 20 * 86_400))
            sent.append(Sent(later, version, rng.random() < 0.8))
        at += timedelta(seconds=rng.randrange(1, 12 * 86_400))
    return known, sent, authority, zone


@pytest.mark.slow
def test_ten_thousand_histories_have_the_clocks_of_the_brute_force() -> None:
    rng, days = random.Random(SEED), clock_days()
    started = {"follow_up": 0, "complete": 0, "grave": 0, "serious": 0}
    states = {OPEN: 0, ON_TIME: 0, LATE: 0, VOID: 0}
    for number in range(CASES):
        known, sent, authority, zone = drawn(rng)
        found = clocks(known, sent, authority=authority, days=days[authority], zone=zone)
        mine = sorted((c.kind, c.version, c.start, c.due, c.state) for c in found)
        assert mine == brute(known, sent, authority, zone), f"case {number} of seed {SEED}"
        for clock in found:
            started[clock.kind] += 1
            states[clock.state] += 1
    assert min(started.values()) > 500 and min(states.values()) > 1000, (started, states)


# -- one by one, with the numbers of the law ---------------------------------------------------------------------------


def at(text: str) -> datetime:
    return moment(text)


def run(known: list[Known], sent: Sequence[Sent] = (), authority: str = "FDA", zone: str = "UTC") -> list[Clock]:
    return clocks(known, sent, authority=authority, days=clock_days()[authority], zone=zone)


@pytest.mark.parametrize(
    ("kind", "authority", "start", "zone", "end"),
    [
        ("grave", "FDA", "2024-02-25T10:00Z", "UTC", "2024-03-03T23:59:59.999999Z"),  # over 29 February
        ("grave", "FDA", "2023-02-25T10:00Z", "UTC", "2023-03-04T23:59:59.999999Z"),
        ("serious", "EU", "2023-12-24T12:00Z", "UTC", "2024-01-08T23:59:59.999999Z"),  # holidays count
        # Still 8 March in New York; the clocks go forward on the 10th.
        ("grave", "FDA", "2024-03-09T04:59Z", "America/New_York", "2024-03-16T03:59:59.999999Z"),
        ("grave", "FDA", "2024-03-09T05:00Z", "America/New_York", "2024-03-17T03:59:59.999999Z"),
        ("serious", "FDA", "2024-10-25T12:00Z", "America/New_York", "2024-11-10T04:59:59.999999Z"),  # and back
        ("grave", "EU", "2024-05-01T18:29Z", "Asia/Kolkata", "2024-05-08T18:29:59.999999Z"),
        ("grave", "EU", "2024-05-01T18:30Z", "Asia/Kolkata", "2024-05-09T18:29:59.999999Z"),
    ],
)
def test_a_report_is_due_at_the_end_of_the_last_day(kind: str, authority: str, start: str, zone: str, end: str) -> None:
    clock = run([Known(at(start), kind, 1)], authority=authority, zone=zone)[-1]
    assert clock.due == at(end) and (clock.due_day - clock.day_0).days == {"grave": 7, "serious": 15}[kind]


def test_the_end_of_days_that_clocks_and_calendars_bend() -> None:
    # Samoa went from 29 to 31 December 2011; both sides of the day that was left out.
    assert end_of_day(date(2011, 12, 29), "Pacific/Apia") == at("2011-12-30T09:59:59.999999Z")
    assert end_of_day(date(2011, 12, 30), "Pacific/Apia") == at("2011-12-30T09:59:59.999999Z")
    assert start_of_day(date(2011, 12, 31), "Pacific/Apia") == at("2011-12-30T10:00Z")
    # No midnight: 18 October 2015 began at 01:00 in Sao Paulo.
    assert end_of_day(date(2015, 10, 17), "America/Sao_Paulo") == at("2015-10-18T02:59:59.999999Z")
    # Two midnights: at 00:01 on 7 November 2010 it became 23:01 again in St. John's; the first one ends the day.
    assert end_of_day(date(2010, 11, 6), "America/St_Johns") == at("2010-11-07T02:29:59.999999Z")
    assert local_day(at("2010-11-07T02:45:00Z"), "America/St_Johns") == date(2010, 11, 6), "it is the 6th once more"
    for name in ZONES:
        for day in (date(2024, 2, 29), date(2024, 3, 31), date(2024, 10, 27)):
            assert local_day(end_of_day(day, name), name) == day
            assert local_day(end_of_day(day, name) + timedelta(microseconds=1), name) == day + timedelta(days=1)


def test_an_upgrade_counts_from_its_own_awareness_and_never_prolongs() -> None:
    early = run([Known(at("2024-01-01T12:00Z"), "serious", 1), Known(at("2024-01-03T12:00Z"), "grave", 2)])
    assert [(c.kind, c.due_day, c.state) for c in early] == [
        ("serious", date(2024, 1, 16), VOID),
        ("grave", date(2024, 1, 10), OPEN),
    ]
    late = run([Known(at("2024-01-01T12:00Z"), "serious", 1), Known(at("2024-01-14T12:00Z"), "grave", 2)])
    assert late[-1].due_day == date(2024, 1, 16), "seven days from the 14th would be later than what was due already"


def test_further_information_after_a_report_has_its_own_clock() -> None:
    history = [Known(at("2024-01-01T12:00Z"), "serious", 1), Known(at("2024-02-01T12:00Z"), "serious", 2)]
    told = [Sent(at("2024-01-10T00:00Z"), 1)]
    assert [(c.kind, c.due_day, c.state) for c in run(history, told)] == [
        ("serious", date(2024, 1, 16), ON_TIME),
        ("follow_up", date(2024, 2, 16), OPEN),
    ]
    fatal = [history[0], Known(at("2024-02-01T12:00Z"), "grave", 2)]
    assert run(fatal, told)[-1].due_day == date(2024, 2, 8) and run(fatal, told)[-1].kind == "grave"


def test_the_eu_wants_an_incomplete_report_completed_within_eight_days_more() -> None:
    known = [Known(at("2024-01-01T12:00Z"), "grave", 1)]
    open_ = {c.kind: c.due_day for c in run(known, authority="EU")}
    assert open_ == {"complete": date(2024, 1, 16), "grave": date(2024, 1, 8)}
    partly = {c.kind: c.state for c in run(known, [Sent(at("2024-01-08T12:00Z"), 1, False)], authority="EU")}
    assert partly == {"complete": OPEN, "grave": ON_TIME}
    whole = {c.kind: c.state for c in run(known, [Sent(at("2024-01-08T12:00Z"), 1)], authority="EU")}
    assert whole == {"complete": ON_TIME, "grave": ON_TIME}
    assert [c.kind for c in run(known)] == ["grave"]


def test_a_downgrade_ends_the_clock_with_its_reason_and_keeps_fifteen_days() -> None:
    lighter = run([Known(at("2024-01-01T12:00Z"), "grave", 1), Known(at("2024-01-04T12:00Z"), "serious", 2)])
    assert [(c.kind, c.state, c.due_day) for c in lighter] == [
        ("grave", VOID, date(2024, 1, 8)),
        ("serious", OPEN, date(2024, 1, 16)),
    ]
    gone = run([Known(at("2024-01-01T12:00Z"), "grave", 1), Known(at("2024-01-04T12:00Z"), "", 2, "not serious")])
    assert [(c.state, c.void) for c in gone] == [(VOID, "not serious")]
    assert not gone[0].overdue(at("2025-01-01T00:00Z")), "a void clock is not overdue"


def test_a_report_that_was_overtaken_leaves_a_clock_for_what_it_did_not_tell() -> None:
    known = [Known(at("2024-01-01T12:00Z"), "serious", 1), Known(at("2024-01-05T12:00Z"), "serious", 2)]
    found = run(known, [Sent(at("2024-01-06T12:00Z"), 1)])
    assert [(c.kind, c.version, c.due_day, c.state) for c in found] == [
        ("serious", 1, date(2024, 1, 16), ON_TIME),
        ("follow_up", 2, date(2024, 1, 20), OPEN),
    ]
    assert len(run(known, [Sent(at("2024-01-06T12:00Z"), 2)])) == 1
    # The newer version went out first: the older report, late on its way, leaves nothing out.
    assert len(run(known, [Sent(at("2024-01-06T12:00Z"), 2), Sent(at("2024-01-07T12:00Z"), 1)])) == 1


def test_alerts_and_states() -> None:
    clock = run([Known(at("2024-01-01T00:00Z"), "grave", 1)])[0]
    levels = alert_levels()
    assert levels == (0.5, 0.75, 0.9)
    moments = {0.49: "", 0.5: "50 %", 0.74: "50 %", 0.75: "75 %", 0.9: "90 %", 0.999: "90 %", 1.001: "overdue"}
    for share, alert in moments.items():
        now = clock.start + share * (clock.due - clock.start) + timedelta(seconds=1)
        assert clock.alert(now, levels) == alert
    at_once = run([Known(clock.start, "grave", 1)], [Sent(clock.start, 1)])
    assert [c.state for c in at_once] == [ON_TIME], "known comes before sent"
    on_the_last = run([Known(at("2024-01-01T00:00Z"), "grave", 1)], [Sent(clock.due, 1)])[0]
    after = run([Known(at("2024-01-01T00:00Z"), "grave", 1)], [Sent(clock.due + timedelta(microseconds=1), 1)])[0]
    assert (on_the_last.state, after.state) == (ON_TIME, LATE)
    assert on_the_last.alert(clock.due + timedelta(days=9), levels) == "", "what was sent alerts nobody"


def test_times_need_a_zone_and_zones_a_name() -> None:
    with pytest.raises(TrialOpsError, match="time zone"):
        due(datetime(2024, 1, 1), 7, "UTC")
    with pytest.raises(TrialOpsError, match="no time zone"):
        due(at("2024-01-01"), 7, "Mars/Olympus")
    assert at("2024-01-01T10:00+02:00") == at("2024-01-01T08:00Z")
