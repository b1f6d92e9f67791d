"""The trial's tables as safety, conduct and reporting read them: newest rows, real dates, cut at a day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Artifact, Step

STARTS = ("STDTC", "DTC")
"""Ends of the names of the dates a row begins with, the first that a domain has."""


@dataclass(frozen=True)
class TrialTables:
    """A delivery as it stands.

    Identifiable and, with DM's arms and EX in it, unblinded: it never leaves a step but sealed.

    Attributes:
        study: STUDYID.
        tables: SDTM data sets by name, SUPP-- and trial design among them; newest version of every row.
        source: SHA-256 of the sealed delivery.
        cut: Last day that is looked at; None where nothing was cut.
    """

    study: str
    tables: Mapping[str, pl.DataFrame]
    source: str
    cut: date | None = None

    def table(self, name: str) -> pl.DataFrame:
        """A data set.

        Raises:
            TrialOpsError: The delivery has none of that name.
        """
        if name not in self.tables:
            raise TrialOpsError(
                f"The delivery has no {name}", where=self.study, fix=f"Deliver {name.lower()}.xpt with the others."
            )
        return self.tables[name]

    def get(self, name: str) -> pl.DataFrame | None:
        """A data set, or None where the delivery has none."""
        return self.tables.get(name)


def trial_tables(run: Step, raw: Artifact, *, reason: str) -> TrialTables:
    """Open a sealed delivery for safety, conduct or reporting.

    Args:
        run: The step.
        raw: Output of ``ingest_sdtm``.
        reason: Why it is opened, for the audit trail.

    Raises:
        TrialOpsError: There is no DM, or a file cannot be read.
    """
    from trialops.regulatory.cut import make_cut

    cut = make_cut(run.unseal(raw), run.unseal_files(raw, reason=reason))
    digest = next((str(item["digest"]) for item in run.inputs if item.get("kind") == "sealed"), "")
    return TrialTables(str(cut.tables["DM"]["STUDYID"][0]), cut.tables, digest)


def last_day(trial: TrialTables) -> date:
    """The latest day that any exact date of the trial reaches, of one in a thousand subjects at least.

    Each subject's last date is taken; the day returned is the one that the latest 0.1 % of them reach, so that a
    mistyped year in one record moves it only in a small trial.

    Raises:
        TrialOpsError: No row has an exact date.
    """
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    parts = []
    for frame in trial.tables.values():
        named = [c for c in frame.columns if c.endswith("DTC")]
        if "USUBJID" in frame.columns and named:
            days = frame.select("USUBJID", pl.max_horizontal([exact_day(c) for c in named]).alias("day"))
            parts.append(days.group_by("USUBJID").agg(pl.col("day").max()))
    last = pl.concat(parts).group_by("USUBJID").agg(pl.col("day").max())["day"].drop_nulls() if parts else None
    if last is None or last.is_empty():
        raise TrialOpsError("No row of the delivery has an exact date", where=trial.study, fix="Name the data cut.")
    return last.sort(descending=True)[-(-len(last) // 1000) - 1]


def cut_at(trial: TrialTables, day: date) -> TrialTables:
    """The trial as of a data cut: rows that begin after the day are left out; dates of what had not happened are empty.

    A row is placed by its start (--STDTC, else --DTC) at the earliest day that can mean; a row without a date stays,
    for nothing says that it came later. Ends and other dates after the cut are emptied, and what an end says with them
    (--ENRF, AEOUT of an event that was going on) is left as it is: it is the site's word, and listings show the cut.

    Args:
        trial: The delivery.
        day: Last day that counts.
    """
    import polars as pl

    from trialops.intake.partial_dates import earliest

    tables = {}
    for name, frame in trial.tables.items():
        dated = [c for c in frame.columns if c.endswith("DTC")]
        if "USUBJID" not in frame.columns or not dated:
            tables[name] = frame
            continue
        if name == "DM":
            screened = [c for c in ("RFICDTC", "RFSTDTC", "DMDTC") if c in dated]
            start = pl.min_horizontal([earliest(c) for c in screened])
        else:
            start = pl.coalesce(
                [earliest(c) for end in STARTS for c in dated if c == f"{name[:2]}{end}"] or [pl.lit(None)]
            )
        kept = frame.filter((start <= day).fill_null(True))
        tables[name] = kept.with_columns(
            pl.when(earliest(c) > day).then(None).otherwise(pl.col(c)).alias(c) for c in dated
        )
    subjects = tables["DM"].select("USUBJID")
    for name, frame in tables.items():
        if "USUBJID" in frame.columns:
            kept = frame.join(subjects, on="USUBJID", how="semi", maintain_order="left")
            tables[name] = _of_parents(kept, name, tables)
    return replace(trial, tables=tables, cut=day)


def _of_parents(frame: pl.DataFrame, name: str, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Supplemental qualifiers without those of rows that were cut away."""
    import polars as pl

    parent = tables.get(name[4:6]) if name.startswith("SUPP") else None
    number = f"{name[4:6]}SEQ"
    if parent is None or number not in parent.columns or "IDVAR" not in frame.columns:
        return frame
    keys = parent.select("USUBJID", pl.col(number).cast(pl.Float64, strict=False).alias("_number"))
    numbered = frame.with_columns(pl.col("IDVARVAL").str.strip_chars().cast(pl.Float64, strict=False).alias("_number"))
    there = numbered.join(
        keys.with_columns(_kept=pl.lit(True)), on=["USUBJID", "_number"], how="left", maintain_order="left"
    )
    return there.filter(pl.col("_kept").fill_null(False) | (pl.col("IDVAR") != number)).drop("_number", "_kept")


def cut_day(as_of: str) -> date:
    """The day a report stands at: that of an ISO 8601 day or moment (UTC where it has a zone); today (UTC) if empty.

    Raises:
        TrialOpsError: The text is neither.
    """
    from datetime import UTC, datetime

    if not as_of.strip():
        return datetime.now(UTC).date()
    try:
        moment = datetime.fromisoformat(as_of.strip())
    except ValueError:
        raise TrialOpsError(
            "as_of is no ISO 8601 day or moment", where="as_of", fix="Write 2024-05-31 or 2024-05-31T12:00:00Z."
        ) from None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date()
