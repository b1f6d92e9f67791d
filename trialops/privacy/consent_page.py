"""The page of a consent check: how many subjects and rows a use may see, and why not the others."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.privacy.consent import REASONS
from trialops.privacy.consent_filter import AFTER_WITHDRAWAL, NO_SUBJECT, TRIAL_REASONS

if TYPE_CHECKING:
    from trialops.privacy.consent_filter import Permitted

MEANINGS = {
    **REASONS,
    **TRIAL_REASONS,
    NO_SUBJECT: "it is about a person, and not about exactly one patient",
    AFTER_WITHDRAWAL: "it was collected after the subject withdrew consent",
}


def consent_page(result: Permitted, *, purpose: str, at: dt.date, policy: str) -> Page:
    """Counts of subjects, small ones suppressed, and of rows of which no subject can be told."""
    import polars as pl

    subjects = result.decisions.height
    counts = result.decisions.group_by("decision", "reason").len().sort("len", "reason", descending=[True, False])
    lines = [(d, r, suppressed(int(n)), MEANINGS[r]) for d, r, n in counts.iter_rows()]
    frequent = {r: int(n) for _, r, n in counts.iter_rows() if suppressed(int(n)) == n}
    permitted = subjects - result.denied
    tone: Any = "good" if permitted == subjects else "warn"
    # One suppressed count could be told from the others and their sum.
    whole = suppressed(permitted) == permitted and suppressed(result.denied) == result.denied
    text = f"{permitted:,} of {subjects:,} subjects" if whole else f"most or few of {subjects:,} subjects"
    kept = sum(frame.height for frame in result.tables.values())
    withheld = result.withheld.group_by("table").agg(pl.col("rows").sum()).sort("table")
    facts = {
        "purpose": purpose,
        "on": at.isoformat(),
        "rows permitted": kept,
        "rows withheld": result.rows_withheld if whole else "some" if result.rows_withheld else 0,
        "policy": policy,
    }
    return Page(
        "Consent",
        [
            Section("The use", [Facts(facts)]),
            Section(
                "Subjects",
                [
                    Table(("decision", "reason", "subjects", "meaning"), lines),
                    Figure(plots.bars(list(frequent), list(frequent.values()), xlabel="subjects"))
                    if frequent
                    else Text("Every group is too small to be drawn.", quiet=True),
                ],
            ),
            Section(
                "Rows withheld",
                [Table(("table", "rows"), withheld.rows())]
                if whole
                else [Text("Too few subjects are concerned for rows to be counted here.", quiet=True)],
            ),
        ],
        Verdict("Permitted" if permitted else "Nothing is permitted", tone if permitted else "bad", text),
    )
