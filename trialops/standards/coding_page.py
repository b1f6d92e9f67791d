"""Page of a coding run: what was coded, what waits, what stays uncoded and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.pages.page import SMALLEST_CELL
from trialops.standards.coding import STATUSES, Coded
from trialops.standards.coding_policy import policy

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 40


def coding_page(coded: Coded, units: dict[str, pl.DataFrame], *, queued: int) -> Page:
    """The page.

    Args:
        coded: Of the operator.
        units: Findings tables with standard units, by domain.
        queued: Items that were new to the queue.
    """
    counts = coded.counts()
    waiting = sum(1 for coding in coded.codings if coding.status == "review")
    rows = sum(coding.source.rows for coding in coded.codings)
    verdict = (
        Verdict("Everything is decided", "good")
        if not waiting
        else Verdict(f"{waiting} texts wait for a person", "warn", "Open the queue with: trialops coding serve")
    )
    sections = [
        Section("Result", (Facts(_facts(coded, rows, queued)), _status_table(counts), _plot(counts))),
        Section("Waiting for a person", _waiting(coded)),
        Section("Uncoded", (_reasons(coded),)),
        Section("Laboratory tests", (_labs(coded),)),
        Section("Units", _units(units)),
        Section("Basis", (Facts(dict(coded.releases) | _policy_facts()),)),
    ]
    return Page("Medical coding", sections, verdict)


def _facts(coded: Coded, rows: int, queued: int) -> dict[str, object]:
    return {"Distinct texts": len(coded.codings), "Rows they stand for": rows, "New in the queue": queued}


def _policy_facts() -> dict[str, object]:
    return {"Policy": f"version {policy().version}, {policy().digest[:12]}", "Taken from score": policy().auto_score}


def _status_table(counts: dict[tuple[str, str], tuple[int, int]]) -> Table:
    kinds = sorted({kind for kind, _ in counts})
    rows = []
    for kind in kinds:
        carried = sum(n for (k, _), (_, n) in counts.items() if k == kind)
        rows.append([kind, *(counts.get((kind, status), (0, 0))[0] for status in STATUSES), carried])
    return Table(["kind", *STATUSES, "rows"], rows, "Distinct texts by status, and the rows they stand for.")


def _plot(counts: dict[tuple[str, str], tuple[int, int]]) -> Figure:
    by_status = [(status, sum(n for (_, s), (_, n) in counts.items() if s == status)) for status in STATUSES]
    svg = plots.bars([status for status, _ in by_status], [float(n) for _, n in by_status], xlabel="rows")
    return Figure(svg, "Rows by what became of their text.")


def _waiting(coded: Coded) -> tuple[Text | Table, ...]:
    items = sorted(coded.waiting, key=lambda item: (-item.rows, item.system, item.verbatim))
    if not items:
        return (Text("Nothing waits.", quiet=True),)
    # What people wrote is read in the queue, not on a page; names of tests are no one's words.
    shown = [item for item in items if item.rows >= SMALLEST_CELL][:_SHOWN]
    rows = [
        [
            item.system,
            item.verbatim if item.kind == "lab" else "in the queue",
            item.candidates[0].code if item.candidates else "",
            item.candidates[0].score if item.candidates else None,
            item.reason,
            item.rows,
        ]
        for item in shown
    ]
    columns = ["system", "text", "first candidate", "score", "why", "rows"]
    left = len(items) - len(shown)
    rest = f" {left} more are in the queue." if left else ""
    return (Table(columns, rows, f"Items on {SMALLEST_CELL} rows or more.{rest}"),)


def _reasons(coded: Coded) -> Table | Text:
    found: Counter[tuple[str, str]] = Counter()
    rows: Counter[tuple[str, str]] = Counter()
    for coding in coded.codings:
        if coding.status == "rejected":
            reason = coding.reason.split(":")[0]
            found[coding.source.kind, reason] += 1
            rows[coding.source.kind, reason] += coding.source.rows
    if not found:
        return Text("Nothing is uncoded.", quiet=True)
    return Table(
        ["kind", "reason", "texts", "rows"],
        [[kind, reason, n, suppressed(rows[kind, reason])] for (kind, reason), n in sorted(found.items())],
    )


def _labs(coded: Coded) -> Table | Text:
    rows = [
        [c.source.verbatim, c.source.context.get("unit", ""), c.code, c.display, c.score, suppressed(c.source.rows)]
        for c in coded.codings
        if c.source.kind == "lab" and c.status in ("auto", "remembered") and c.source.rows >= SMALLEST_CELL
    ]
    if not rows:
        return Text("No test was coded.", quiet=True)
    return Table(["test", "unit", "LOINC", "name", "score", "rows"], rows[: 3 * _SHOWN])


def _units(units: dict[str, pl.DataFrame]) -> tuple[Text | Table, ...]:
    import polars as pl

    if not units:
        return (Text("There are no findings tables.", quiet=True),)
    rows = []
    for domain, frame in sorted(units.items()):
        reason = f"{domain}STREASN"
        reasons = frame.group_by(reason).agg(pl.len()).sort("len", reason, descending=[True, False])
        rows += [[domain, why or "standard result", suppressed(n)] for why, n in reasons.iter_rows()]
    return (Table(["domain", "outcome", "rows"], rows, "Results in standard units, and why the others have none."),)
