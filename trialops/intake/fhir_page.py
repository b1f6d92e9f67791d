"""The page of a FHIR intake: where every item went, and what is held now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialops.intake.fhir_delivery import IGNORED, REASONS
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.intake.fhir_account import FhirIntake
    from trialops.intake.raw_zone import Held

MANY_FILES = 60


def fhir_page(intake: FhirIntake, held: Held, *, source: str, notes: Sequence[str] = ()) -> Page:
    """Counts of resources alone: no content, and no name of a file that may be a patient's.

    Args:
        intake: The delivery, merged.
        held: The raw zone after it.
        source: "delivery folder" or "FHIR server".
        notes: What else a reader should know, a sentence each.
    """
    import polars as pl

    counts = {name: intake.total(name) for name in ("read", "loaded", "quarantined", "ignored")}
    balance = counts["loaded"] + counts["quarantined"] + counts["ignored"]
    tone: Any = "good" if not counts["quarantined"] and intake.complete else "warn"
    verdict = Verdict(
        f"{counts['read']:,} items read",
        tone,
        " + ".join(f"{counts[name]:,} {name}" for name in ("loaded", "quarantined", "ignored")) + f" = {balance:,}",
    )
    facts: Mapping[str, Any] = {
        "source": source,
        "documents": intake.dispositions.height,
        "deletions": intake.total("deletions"),
        "checked in full": intake.checked,
        "state of the raw zone": held.seq,
    }
    held_rows = {kind: int(item["rows"]) for kind, item in sorted(held.tables.items())}
    patients = {k: suppressed(n) if k == "Patient" else n for k, n in held_rows.items()}
    shown = {k: n for k, n in held_rows.items() if not isinstance(patients[k], str)}
    columns = ("file", "kind", "read", "loaded", "quarantined", "ignored", "deletions", "note")
    files = intake.dispositions.select(columns)
    trouble = files.filter((pl.col("quarantined") > 0) | (pl.col("note") != ""))
    listed = files if files.height <= MANY_FILES else trouble.head(MANY_FILES)
    rest = files.height - listed.height
    aside = (
        intake.quarantine.group_by("reason", "domain")
        .agg(pl.len().alias("items"))
        .sort("items", "reason", "domain", descending=[True, False, False])
    )
    left_out = (
        intake.ignored.group_by("reason").agg(pl.col("rows").sum()).sort("rows", "reason", descending=[True, False])
    )
    return Page(
        "FHIR intake",
        [
            Section("The delivery", [Facts(facts), *(Text(note) for note in notes)]),
            Section(
                "Items by document",
                [
                    Table(columns, listed.rows()),
                    *([Text(f"{rest} more documents without anything to report.", quiet=True)] if rest else []),
                    Text(
                        "Documents are numbered in the order of their names where a name could be a patient's.",
                        quiet=True,
                    ),
                ],
            ),
            Section(
                "Quarantine",
                [
                    Table(
                        ("reason", "type", "items", "meaning"),
                        [(r, d, n, REASONS[r]) for r, d, n in aside.iter_rows()],
                    )
                ],
            ),
            Section(
                "Ignored",
                [Table(("reason", "items", "meaning"), [(r, n, IGNORED[r]) for r, n in left_out.iter_rows()])],
            ),
            Section(
                "What is held",
                [
                    Figure(plots.bars(list(shown), list(shown.values()), xlabel="current resources"))
                    if shown
                    else Text("Nothing is held yet.", quiet=True),
                    Table(("type", "current resources"), list(patients.items())),
                ],
            ),
        ],
        verdict,
    )
