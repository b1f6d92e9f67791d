"""The page of an intake: the trial in figures, and where every row went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.intake.domains import file_labels
from trialops.intake.facts import trial_facts
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.intake.sdtm import Intake


def intake_page(intake: Intake) -> Page:
    """Counts alone: no row of the delivery is shown."""
    import polars as pl

    facts = trial_facts(intake.tables)
    counts = {name: int(intake.dispositions[name].sum()) for name in ("read", "loaded", "quarantined", "ignored")}
    balance = counts["loaded"] + counts["quarantined"] + counts["ignored"]
    labels = file_labels(intake.dispositions["file"])
    later = any(name != label for name, label in labels.items())
    numbered = [Text("Corrections are numbered from 2 on, in the order of their days.", quiet=True)] if later else []
    files = intake.dispositions.with_columns(pl.col("file").replace(labels))
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
        "screen failures": suppressed(facts["screen_failures"]),
        "sites": facts["sites"],
        # How many, not which: a delivery is unblinded, and this page is for everybody.
        "arms": len(facts["arms"]),
        "completed": suppressed(facts.get("completed") or 0),
        "discontinued": suppressed(facts.get("discontinued") or 0),
    }
    reasons_left = facts.get("reasons") or {}
    frequent = {reason: n for reason, n in reasons_left.items() if suppressed(n) == n}
    left: list[Figure | Text] = []
    if frequent:
        left.append(Figure(plots.bars(list(frequent), list(frequent.values()), xlabel="subjects")))
    if rare := len(reasons_left) - len(frequent):
        left.append(Text(f"{rare} more reasons have too few subjects to be shown.", quiet=True))
    if not reasons_left:
        left.append(Text("No reason was delivered.", quiet=True))
    return Page(
        "Intake",
        [
            Section("The trial as delivered", [Facts(shown)]),
            Section(
                "Rows by file",
                [
                    Table(columns, files.select(columns).rows()),
                    *numbered,
                ],
            ),
            Section(
                "Quarantine",
                [Table(("reason", "file", "rows"), reasons.select("reason", "file", "rows").rows())],
            ),
            Section(
                "Why subjects left",
                left,
            ),
        ],
        verdict,
    )
