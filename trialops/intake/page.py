"""The page of an intake: the trial in figures, and where every row went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.intake.facts import trial_facts
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots

if TYPE_CHECKING:
    from trialops.intake.sdtm import Intake


def intake_page(intake: Intake) -> Page:
    """Counts alone: no row of the delivery is shown."""
    import polars as pl

    facts = trial_facts(intake.tables)
    counts = {name: int(intake.dispositions[name].sum()) for name in ("read", "loaded", "quarantined", "ignored")}
    balance = counts["loaded"] + counts["quarantined"] + counts["ignored"]
    columns = ("file", "domain", "read", "loaded", "quarantined", "ignored", "encoding", "reason")
    reasons = (
        intake.quarantine.group_by("reason", "file")
        .agg(pl.len().alias("rows"))
        .sort("rows", "file", descending=[True, False])
        if intake.quarantine.height
        else intake.quarantine.select("reason", "file").with_columns(rows=pl.lit(0))
    )
    verdict = Verdict(
        f"{counts['read']:,} rows read",
        "warn" if counts["quarantined"] else "good",
        " + ".join(f"{counts[name]:,} {name}" for name in ("loaded", "quarantined", "ignored")) + f" = {balance:,}",
    )
    shown = {
        "subjects": facts["subjects"],
        "randomised": facts["randomised"],
        "screen failures": facts["screen_failures"],
        "sites": facts["sites"],
        "completed": facts.get("completed"),
        "discontinued": facts.get("discontinued"),
    }
    arms = facts["arms"]
    return Page(
        "Intake",
        [
            Section("The trial as delivered", [Facts(shown), Table(("arm", "randomised"), list(arms.items()))]),
            Section("Rows by file", [Table(columns, intake.dispositions.select(columns).rows())]),
            Section(
                "Quarantine",
                [Table(("reason", "file", "rows"), reasons.select("reason", "file", "rows").rows())],
            ),
            Section(
                "Why subjects left",
                [Figure(plots.bars(list(facts["reasons"]), list(facts["reasons"].values()), xlabel="subjects"))]
                if facts.get("reasons")
                else [Text("No disposition table was delivered.", quiet=True)],
            ),
        ],
        verdict,
    )
