"""The page of an intake of laboratory messages."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from trialops.intake.subjects import REASONS
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.pages.page import Item

if TYPE_CHECKING:
    from trialops.intake.hl7_intake import LabIntake


def lab_page(intake: LabIntake) -> Page:
    """Counts alone; no result and no identifier is shown."""
    import polars as pl

    rows, files = intake.results.rows, intake.dispositions
    counts = {name: int(files[name].sum()) for name in ("read", "loaded", "quarantined", "ignored")}
    waiting = intake.results.unmatched
    verdict = Verdict(
        f"{counts['read']:,} laboratory records read",
        "warn" if counts["quarantined"] else "good",
        " + ".join(f"{counts[n]:,} {n}" for n in ("loaded", "quarantined", "ignored"))
        + f" = {counts['loaded'] + counts['quarantined'] + counts['ignored']:,}",
    )
    status = rows.group_by("STATUS").len().sort("STATUS")
    tests = rows.group_by("LBTEST").len().sort("len", "LBTEST", descending=[True, False]).head(15)
    facts = {
        "results that count": rows.height,
        "subjects": suppressed(rows["USUBJID"].n_unique()),
        "tests": rows.select("LBLOINC", "LOCAL_CODE").n_unique(),
        "laboratories": rows["SENDER"].n_unique(),
        "changed without a correction": intake.results.changed,
        "flag contradicts its range": intake.results.flags_disagree,
    }
    held: list[Item] = [Facts(facts)]
    if tests.height:
        held.append(
            Figure(plots.bars(tests["LBTEST"].fill_null("?").to_list(), tests["len"].to_list(), xlabel="results"))
        )
    held.append(Table(("status (HL7 table 0085)", "results"), status.rows()))
    reasons = (
        intake.quarantine.group_by("reason", "message")
        .agg(pl.len().alias("records"))
        .sort("records", "reason", descending=[True, False])
        if intake.quarantine.height
        else intake.quarantine.select("reason", "message").with_columns(records=pl.lit(0))
    )
    queue = waiting.group_by("REASON").agg(pl.len(), pl.col("RESULTS").sum()).sort("REASON")
    unmatched: list[Item] = [
        Table(
            ("why", "identifier sets", "results"),
            [(REASONS[r], suppressed(n), results) for r, n, results in queue.iter_rows()],
        )
    ]
    if waiting.height:
        unmatched.append(
            Text("See the queue with: trialops labs unmatched; decide with: trialops labs match", quiet=True)
        )
    columns = ("file", "read", "loaded", "quarantined", "ignored", "reason")
    sections = [
        Section("Results", held),
        Section("Files", [Table((*columns[:-1], "remark"), files.select(columns).rows())]),
        Section("Set aside", [Table(("reason", "what it says", "records"), reasons.rows())]),
        Section("Ignored", [Table(("reason", "what it says", "records"), intake.ignored.rows())]),
        Section("Subjects not found", unmatched),
    ]  # fmt: skip
    if intake.notes:
        sections.append(Section("Tolerated", [Table(("what", "files"), list(intake.notes.items()))]))
    if intake.reconciliation is not None:
        found = {name.replace("_", " "): n for name, n in asdict(intake.reconciliation).items()}
        sections.append(Section("Against requisitions", [Facts(found)]))
    return Page("Laboratory results", sections, verdict)
