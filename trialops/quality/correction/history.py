"""Looking back: values as they were known at a moment, and who changed what, when and why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.intake.domains import current_rows

if TYPE_CHECKING:
    import polars as pl

    from trialops.quality.correction.register import Entry
    from trialops.stores.lake import Lake


def as_of(lake: Lake, dataset: str, table: str, at: dt.datetime, *, day: int | None = None) -> pl.DataFrame:
    """A clean table as it was in force at a moment: system time, and where asked for the time of knowledge too.

    Args:
        lake: The lake.
        dataset: Name of the chain of validated versions.
        table: Domain code ("LB").
        at: The moment, with its time zone.
        day: Study day; only what was known by then (KNOWNDY) counts. None counts everything.

    Returns:
        One row per record: the version that was the newest.

    Raises:
        TrialOpsError: Nothing was in force at that moment, or the data set has no such table.
    """
    import polars as pl

    manifest = lake.as_of(dataset, at)
    if manifest is None:
        raise TrialOpsError(
            "Nothing was in force at that moment",
            where=f"data set {dataset}, {at.isoformat()}",
            fix="The first validated version is younger; see the run page for its time.",
        )
    ref = manifest.snapshot.tables.get(table.upper())
    if ref is None:
        raise TrialOpsError(
            f"The data set has no table {table.upper()}",
            where=f"data set {dataset}",
            fix=f"Use one of {', '.join(sorted(manifest.snapshot.tables))}.",
        )
    rows = lake.read(ref)
    if day is not None:
        rows = rows.filter(pl.col("KNOWNDY") <= day)
    return current_rows(table.upper(), rows)


def changes_of(
    entries: Sequence[Entry], *, subjects: Sequence[str] = (), domain: str = ""
) -> list[dict[str, str | int]]:
    """Applied changes, oldest first: who, when, old, new and why (21 CFR 11.10(e)). Identifiable data.

    Args:
        entries: Of the register.
        subjects: Only these USUBJIDs; empty means all.
        domain: Only this domain; empty means all.
    """
    return [
        {
            "entry": entry.sequence,
            "applied": entry.at,
            "applied_by": entry.actor,
            "signatures": ", ".join(entry.signatures),
            "domain": change.domain,
            "usubjid": change.usubjid,
            "record": change.record,
            "variable": change.variable,
            "old": change.old or "",
            "new": change.new or "",
            "reason": change.reason,
            "decided_by": change.by,
            "decided": change.at,
        }
        for entry in entries
        for change in entry.changes
        if (not subjects or change.usubjid in subjects) and domain in ("", change.domain)
    ]
