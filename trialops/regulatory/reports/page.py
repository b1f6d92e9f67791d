"""The page of a reporting run: which documents there are, for which period, by when they are filed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, plots

if TYPE_CHECKING:
    from trialops.regulatory.reports.operator import Made

SOON = 14
"""Days before a document is due from which the page warns."""


def reports_page(made: Sequence[Made], *, today: date, signed: Sequence[int]) -> Page:
    """Say what was made.

    Args:
        made: The reports.
        today: Day of the run.
        signed: Signatures that hold on each.
    """
    if not made:
        return Page(
            "Regulatory reports",
            verdict=Verdict("Nothing was due", "plain", "no period ended last month; name reports to make them"),
        )
    new = sum(one.new for one in made)
    rows = [
        (
            one.document.title,
            one.version.document,
            one.version.version,
            "new" if one.new else "as before",
            f"{one.period.since} to {one.period.cut}",
            one.period.due.isoformat(),
            signatures,
            one.version.manifest[:12],
        )
        for one, signatures in zip(made, signed, strict=True)
    ]
    columns = ("report", "document", "version", "state", "period", "file by", "signatures", "manifest")
    days = [(one.period.due - today).days for one in made]
    late = [one for one, left, n in zip(made, days, signed, strict=True) if left < 0 and not n]
    tone: Tone = "bad" if late else "warn" if any(0 <= left <= SOON for left in days) else "good"
    sizes = [sum(1 for _ in one.document.numbered()) for one in made]
    figure = Figure(
        plots.bars([one.document.title for one in made], list(map(float, sizes)), xlabel="tables, listings, figures"),
        "What each document holds.",
    )
    first = made[0].document
    facts = Facts(
        {
            "documents": len(made),
            "new versions": new,
            "audience": first.audience,
            "source": first.source[:12],
            "program": first.program,
        }
    )
    how = Text(
        "The documents hold listings by subject: they are encrypted in the register. "
        "trialops documents list, get, sign, check.",
        quiet=True,
    )
    text = f"{new} new" + (f", {len(late)} past their date and unsigned" if late else "")
    return Page(
        "Regulatory reports",
        [Section("Documents", [facts, Table(columns, rows), how]), Section("Content", [figure])],
        Verdict(f"{len(made)} documents", tone, text),
    )
