"""Account for a FHIR delivery: merged with what is held, every item counted, files under harmless names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.intake import fhir_validation
from trialops.intake.domains import ROW, SOURCE
from trialops.intake.fhir_delivery import REASONS, Delivery

if TYPE_CHECKING:
    import polars as pl

    from trialops.intake.raw_zone import Held, Merged, RawZone

_PLAIN = re.compile(
    r"^(?:[A-Z][A-Za-z]{2,40}|bundle|bundles|corrections|study|manifest|export|bulk|fhir|page|deleted|error|errors)?"
    r"(?:[-_.]?(?:[A-Z][a-z]+[A-Z][A-Za-z]+|\d{1,4}|page|deleted|part))*(?:\.(?:nd)?json|\.jsonl)?(?:\.gz)?$"
)


def labels(names: list[str]) -> dict[str, str]:
    """File name -> what people outside the sealed zone are shown.

    Exports name files after patients, and folders after days, which beside a study day would give day 1 away. Names
    made of FHIR's own words and numbers stay; any other is replaced by its number in the order of names.
    """
    shown = {}
    for number, name in enumerate(sorted(names), 1):
        plain = all(_plain_part(part) for part in PurePosixPath(name).parts)
        suffix = "".join(s for s in PurePosixPath(name).suffixes if s in (".json", ".ndjson", ".jsonl", ".gz"))
        shown[name] = name if plain else f"document {number}{suffix}"
    return shown


def _plain_part(part: str) -> bool:
    if re.match(r"^\d{4}-\d{2}-\d{2}$", part):
        return False
    stem = part.split(".")[0]
    word = re.match(r"[A-Za-z]*", stem)
    known = word is not None and (not word[0] or not word[0][0].isupper() or fhir_validation.model_of(word[0]))
    return bool(_PLAIN.match(part)) and bool(known)


@dataclass(frozen=True)
class FhirIntake:
    """A delivery merged with what was held.

    Attributes:
        merged: What changes, see `raw_zone.Merged`.
        quarantine: One line per item set aside, files by label.
        dispositions: file (label), kind, read, loaded, quarantined, ignored, deletions (of those loaded), sha256, note.
        ignored: file (label), reason, rows.
        complete: Whether no document is missing, damaged or short.
        checked, skipped: Resources given to the validator, and those known by their content.
    """

    merged: Merged
    quarantine: pl.DataFrame
    dispositions: pl.DataFrame
    ignored: pl.DataFrame
    source_digest: str
    complete: bool
    checked: int
    skipped: int

    def total(self, column: str) -> int:
        """Sum of a column of the dispositions."""
        return int(self.dispositions[column].sum())


def merge_delivery(delivery: Delivery, held: Held, zone: RawZone) -> FhirIntake:
    """Merge a reading with what is held and account for every item.

    Raises:
        TrialOpsError: Items were lost: read is not loaded + quarantined + ignored for a file.
    """
    import polars as pl

    from trialops.intake.raw_zone import merge

    merged = merge(zone, held, delivery.tables, delivery.deletions)
    conflicts = merged.conflicts.select(
        file=SOURCE,
        row=ROW,
        domain="type",
        column=pl.format("{}.meta.versionId", "type"),
        reason=pl.lit("VERSION_CONFLICT"),
        message=pl.format("item {}: {}", ROW, pl.lit(REASONS["VERSION_CONFLICT"])),
        all_reasons=pl.lit("VERSION_CONFLICT"),
    )
    aside = pl.concat([delivery.quarantine, conflicts])
    older = merged.superseded.group_by(pl.col(SOURCE).alias("file")).agg(rows=pl.len().cast(pl.Int64))
    ignored = pl.concat([delivery.ignored, older.select("file", reason=pl.lit("OLDER_VERSION"), rows="rows")]).sort(
        "file", "reason"
    )
    counts = (
        delivery.files.join(
            merged.accepted.group_by(pl.col(SOURCE).alias("file")).agg(
                loaded=pl.len().cast(pl.Int64), deletions=pl.col("deleted").sum().cast(pl.Int64)
            ),
            on="file",
            how="left",
        )
        .join(aside.group_by("file").agg(quarantined=pl.len().cast(pl.Int64)), on="file", how="left")
        .join(ignored.group_by("file").agg(ignored=pl.col("rows").sum()), on="file", how="left")
        .with_columns(pl.col("loaded", "deletions", "quarantined", "ignored").fill_null(0))
    )
    shown = labels(counts["file"].to_list())
    named = pl.col("file").replace(shown)
    lost = counts.filter(pl.col("read") != pl.col("loaded") + pl.col("quarantined") + pl.col("ignored"))
    if lost.height:
        raise TrialOpsError(
            "Items were lost while reading: read is not loaded + quarantined + ignored.",
            where=", ".join(shown[name] for name in lost["file"]),
            fix="This is a fault of the intake itself; keep the files and report it.",
        )
    columns = ["file", "kind", "read", "loaded", "quarantined", "ignored", "deletions", "sha256", "note"]
    return FhirIntake(
        merged,
        aside.with_columns(named).sort("file", "row"),
        counts.with_columns(named).select(columns),
        ignored.with_columns(named),
        delivery.source_digest,
        delivery.complete,
        delivery.checked,
        delivery.skipped,
    )
