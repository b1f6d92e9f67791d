"""Eligibility judged row by row in plain Python, from the description of the facts: what the SQL is compared with.

Nothing here is shared with the product but the data classes of the criteria.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from trialops.trial.eligibility_rules import (
    Age,
    Count,
    Criterion,
    Group,
    Has,
    Investigator,
    Limits,
    Node,
    Order,
    Rows,
    Subject,
    Value,
    Window,
)

Truth = bool | None
EARLY, LATE = date(1, 1, 1), date(9999, 12, 31)
FACTORS = {
    ("CREAT", "mg/dL", "umol/L"): 10_000 / 113.12,
    ("CREAT", "umol/L", "mg/dL"): 113.12 / 10_000,
}
CODED = ("DECOD", "LLT", "BODSYS")


def both(items: Sequence[Truth]) -> Truth:
    """Kleene's AND: false wins over unknown."""
    if any(item is False for item in items):
        return False
    return None if any(item is None for item in items) else True


def either(items: Sequence[Truth]) -> Truth:
    """Kleene's OR: true wins over unknown."""
    if any(item is True for item in items):
        return True
    return None if any(item is None for item in items) else False


def opposite(item: Truth) -> Truth:
    return None if item is None else not item


def span(text: str | None) -> tuple[date, date]:
    """First and last day a date text can mean."""
    if not text:
        return EARLY, LATE
    parts = [int(part) for part in text.split("T")[0].split("-")]
    if len(parts) == 1:
        return date(parts[0], 1, 1), date(parts[0], 12, 31)
    if len(parts) == 2:
        return date(*parts, 1), date(*parts, calendar.monthrange(*parts)[1])
    return date(*parts), date(*parts)


class Person:
    """One subject with all rows."""

    def __init__(self, tables: dict[str, list[dict[str, Any]]], subject: str, delivered: Sequence[str]) -> None:
        self.dm = next(row for row in tables["DM"] if row["USUBJID"] == subject)
        self.rows = {name: [r for r in rows if r["USUBJID"] == subject] for name, rows in tables.items()}
        self.delivered = delivered
        self.randomised = self.dm["ARMCD"] not in ("", "Scrnfail", "NOTASSGN")
        exact = {k: (span(self.dm[k])[0] if span(self.dm[k])[0] == span(self.dm[k])[1] else None)
                 for k in ("RFICDTC", "DMDTC", "RFSTDTC")}  # fmt: skip
        self.anchors = {
            "screening": exact["DMDTC"],
            "consent": exact["RFICDTC"],
            "randomisation": exact["RFSTDTC"] if self.randomised else None,
        }
        self.cap = self.anchors["randomisation"] or LATE


def judge(node: Node, criterion: Criterion, person: Person) -> Truth:
    """The truth of a rule for a subject."""
    if isinstance(node, Group):
        parts = [judge(part, criterion, person) for part in node.parts]
        return {"all": both, "any": either, "none": lambda p: opposite(either(p))}[node.op](parts)
    if isinstance(node, Age):
        if person.dm["AGE"] is None or person.dm["AGEU"] not in ("YEARS", "MONTHS"):
            return None
        years = person.dm["AGE"] / (12 if person.dm["AGEU"] == "MONTHS" else 1)
        scale = {"years": 1, "months": 1 / 12}[node.unit]
        return compared(years, years, node.limits, scale=scale)
    if isinstance(node, Subject):
        value = person.dm[node.column]
        return None if value in (None, "", "U", "UNKNOWN") else value.upper() in node.values
    if isinstance(node, Investigator):
        exceptions = [r for r in person.rows.get("IE", []) if r["IETESTCD"].upper() == criterion.code.upper()]
        if exceptions:
            return not criterion.inclusion
        return criterion.inclusion if person.randomised else None
    if isinstance(node, Value):
        return value_truth(node, person)
    if isinstance(node, Order):
        return order_truth(node, person)
    return rows_truth(node, person)


def compared(low: float, high: float, limits: Limits, *, out_low: bool = False, out_high: bool = False,
             scale: float = 1.0) -> Truth:  # fmt: skip
    """Whether a number between low and high keeps the limits: tried at the ends."""
    results = []
    for op, bound in limits.bounds:
        n = bound * scale
        if op == "at_least":
            yes, no = low >= n, high < n or (high == n and out_high)
        elif op == "above":
            yes, no = low > n or (low == n and out_low), high <= n
        elif op == "at_most":
            yes, no = high <= n, low > n or (low == n and out_low)
        else:
            yes, no = high < n or (high == n and out_high), low >= n
        results.append(True if yes else False if no else None)
    return both(results)


def when(row: dict[str, Any], domain: str, person: Person) -> tuple[date, date, date, date, bool] | None:
    """First and last day of start and end, and whether the row was there before randomisation; None if it was not."""
    start = f"{domain}STDTC" if f"{domain}STDTC" in row else f"{domain}DTC"
    low, high = span(row[start])
    collected = row.get(f"{domain}DTC")
    if start.endswith("STDTC") and collected:
        high = min(high, max(span(collected)[1], low))
    if low > person.cap:
        return None
    seen = span(collected)[1] if collected else None
    known = high != LATE or seen is not None
    sure = not known or high <= person.cap or (seen is not None and seen <= person.cap)
    ongoing = row.get(f"{domain}ENRTPT") == "ONGOING"
    end_low, end_high = (LATE, LATE) if ongoing else span(row.get(f"{domain}ENDTC"))
    return low, high, max(end_low, low), end_high, sure


def in_window(times: tuple[date, date, date, date, bool], window: Window | None, person: Person) -> tuple[bool, bool]:
    """Whether it is in the window for certain, and whether it may be."""
    if window is None:
        return True, True
    anchor = person.anchors.get(window.anchor)
    if anchor is None:
        return False, True
    first = EARLY if window.start is None else anchor + timedelta(window.start)
    last = anchor + timedelta(window.end)
    low, high, end_low, end_high, _ = times
    if window.overlaps:
        return end_low >= first and high <= last, end_high >= first and low <= last
    return low >= first and high <= last, high >= first and low <= last


def fits(row: dict[str, Any], rows: Rows) -> Truth:
    """Whether the row has the values asked for; a code that is missing leaves it open."""
    tests: list[Truth] = []
    for conditions, match in ((rows.where, _equal), (rows.like, _like)):
        for column, values in conditions:
            text = (str(row[column]) if row[column] is not None else "").strip().upper()
            if not text:
                tests.append(None if column[2:] in CODED else False)
            else:
                tests.append(any(match(text, value) for value in values))
    return both(tests)


def _equal(text: str, value: str) -> bool:
    return text == value


def _like(text: str, pattern: str) -> bool:
    """Patterns of the tests have % at the ends alone."""
    if pattern.startswith("%") and pattern.endswith("%"):
        return pattern.strip("%") in text
    return text.startswith(pattern[:-1]) if pattern.endswith("%") else text == pattern


Hit = tuple[Truth, bool, date, date, int]
"""State of a row (certain, possible, denied), in time for certain, first and last day, --SEQ."""


def hits(rows: Rows, person: Person) -> tuple[list[tuple[bool, date, date, int]], bool]:
    """Rows that match or may (certain or not, first, last day, --SEQ), and whether one says it did not occur."""
    found, denied = [], False
    for row in person.rows[rows.domain]:
        times = when(row, rows.domain, person)
        if times is None:
            continue
        match = fits(row, rows)
        certain, possible = in_window(times, rows.window, person)
        if match is False or not possible:
            continue
        occurred: Truth = {None: True, "": True, "Y": True, "N": False}.get(row.get(f"{rows.domain}OCCUR"))
        if row.get(f"{rows.domain}STAT") == "NOT DONE":
            occurred = None
        if occurred is False:
            denied |= match is True
            continue
        sure = match is True and occurred is True and certain and times[4]
        found.append((sure, times[0], times[1], row[f"{rows.domain}SEQ"]))
    return found, denied


def definite(rows: Rows, person: Person, denied: bool) -> bool:
    before = [r for r in person.rows[rows.domain] if when(r, rows.domain, person) is not None]
    return {"closed": True, "collected": bool(before), "open": denied}[rows.absence]


def rows_truth(leaf: Has | Count, person: Person) -> Truth:
    rows = leaf.rows
    if rows.domain not in person.delivered:
        return None
    found, denied = hits(rows, person)
    sure = sum(1 for hit in found if hit[0])
    closed = definite(rows, person, denied)
    if isinstance(leaf, Has):
        return True if sure else None if found else False if closed else None
    return compared(sure, len(found) if closed else float("inf"), leaf.limits)


def value_truth(leaf: Value, person: Person) -> Truth:
    rows = leaf.rows
    if rows.domain not in person.delivered:
        return None
    found = []
    for row in person.rows[rows.domain]:
        times = when(row, rows.domain, person)
        if times is None or fits(row, rows) is not True or row.get(f"{rows.domain}STAT") == "NOT DONE":
            continue
        certain, possible = in_window(times, rows.window, person)
        if possible:
            clock = row[f"{rows.domain}DTC"].partition("T")[2] if row[f"{rows.domain}DTC"] else ""
            found.append(
                (certain and times[4], measured(row, leaf), times[0], times[1], clock, row[f"{rows.domain}SEQ"])
            )
    certain_rows = [f for f in found if f[0]]
    if leaf.pick in ("any", "all"):
        wanted = leaf.pick == "any"
        if any(f[1] is wanted for f in certain_rows):
            return wanted
        if any(f[1] is None or f[1] is wanted for f in found):
            return None
        return (not wanted) if certain_rows else None
    if not certain_rows:
        return None
    if leaf.pick == "most_recent":
        best = max(certain_rows, key=lambda f: (f[2], f[4], f[5]))
        rivals = [f for f in found if f[2] < f[3] and f[3] >= best[2]]
    else:
        best = min(certain_rows, key=lambda f: (f[3], f[4], f[5]))
        rivals = [f for f in found if f[2] < f[3] and f[2] <= best[3]]
    return best[1] if all(f[1] is best[1] for f in rivals) else None


def measured(row: dict[str, Any], leaf: Value) -> Truth:
    text = (row["LBORRES"] or "").strip()
    sign = text[:1] if text[:1] in "<>" and text else ""
    try:
        number = float(text.lstrip("<>"))
    except ValueError:
        return None
    unit = row["LBORRESU"] or ""
    if leaf.unit == "ULN":
        if not row["LBORNRHI"]:
            return None
        number /= float(row["LBORNRHI"])
    elif unit != leaf.unit:
        factor = FACTORS.get((leaf.test, unit, leaf.unit))
        if factor is None:
            return None
        number *= factor
    low = float("-inf") if sign == "<" else number
    high = float("inf") if sign == ">" else number
    return compared(low, high, leaf.limits, out_low=sign == ">", out_high=sign == "<")


def order_truth(leaf: Order, person: Person) -> Truth:
    if leaf.first.domain not in person.delivered or leaf.then.domain not in person.delivered:
        return None
    first, denied_first = hits(leaf.first, person)
    then, denied_then = hits(leaf.then, person)
    most = leaf.most if leaf.most is not None else float("inf")
    maybe = False
    for a in first:
        for b in then:
            if leaf.first.domain == leaf.then.domain and a[3] == b[3]:
                continue
            closest, farthest = _gap(b[1], a[2]), _gap(b[2], a[1])
            if a[0] and b[0] and closest >= leaf.least and farthest <= most:
                return True
            maybe |= farthest >= leaf.least and closest <= most
    if maybe:
        return None
    known_first, known_then = definite(leaf.first, person, denied_first), definite(leaf.then, person, denied_then)
    if (known_first and known_then) or (known_first and not first) or (known_then and not then):
        return False
    return None


def _gap(later: date, earlier: date) -> float:
    """Days between; a day that is not known is endlessly far."""
    if later == EARLY or earlier == LATE:
        return float("-inf")
    if later == LATE or earlier == EARLY:
        return float("inf")
    return (later - earlier).days
