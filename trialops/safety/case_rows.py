"""What the tables have on the events that are cases: rows of each subject, and the events as one record each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from trialops.safety.classification import Facts, Role
from trialops.safety.seriousness import NOT_SERIOUS, SERIOUS, TO_CONFIRM

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.safety_policy import SafetyPolicy
    from trialops.trial.tables import TrialTables

DOMAINS = ("DM", "AE", "EX", "CM", "MH", "LB", "VS", "CE", "DS")


@dataclass(frozen=True)
class CaseEvent:
    """One event that is a case: all rows that record it, taken together.

    Attributes:
        subject: USUBJID.
        event: EVENT of the safety event table.
        row: The newest row.
        rows: How many record it.
        serious: Of its rows the gravest: serious, to confirm, not serious.
        basis: Why, of all rows.
        criteria: Criteria met, in order of gravity.
        fatal, life_threatening: By any row.
        expected: False where any row is unexpected, None where any has no reference.
        investigator: True where any row says related, False where one says not and none says related.
        sponsor: The sponsor's assessment.
        aware: First day a row that makes it serious can have been known, by the policy's order; None for the receipt.
        aware_basis: Which of the policy's sources that was.
        latest: Last day a row was written down; None where no row says it.
    """

    subject: str
    event: str
    row: Mapping[str, Any]
    rows: int
    serious: str
    basis: tuple[str, ...]
    criteria: tuple[str, ...]
    fatal: bool
    life_threatening: bool
    expected: bool | None
    investigator: bool | None
    sponsor: bool | None
    aware: date | None
    aware_basis: str
    latest: date | None

    @property
    def grave(self) -> bool:
        """Fatal or life-threatening."""
        return self.fatal or self.life_threatening

    def facts(self, role: Role = "blinded") -> Facts:
        """What a classification needs."""
        return Facts(self.serious, self.expected, self.investigator, self.sponsor, self.grave, role)


def case_events(
    events: pl.DataFrame, policy: SafetyPolicy, *, also: Sequence[tuple[str, str]] = ()
) -> dict[tuple[str, str], CaseEvent]:
    """The events that are or were cases, by subject and EVENT, sorted.

    Args:
        events: From `safety_events`.
        policy: The study's.
        also: Events to return though they are not serious (any more): those that the register holds as cases.
    """
    import polars as pl

    from trialops.intake.partial_dates import earliest, latest

    wanted = events.filter(pl.col("SERIOUS") != NOT_SERIOUS).select("USUBJID", "EVENT")
    if also:
        more = pl.DataFrame(list(also), schema={"USUBJID": pl.String, "EVENT": pl.String}, orient="row")
        wanted = pl.concat([wanted, more])
    collected = earliest("AEDTC") if "AEDTC" in events.columns else pl.lit(None, pl.Date)
    written = latest("AEDTC") if "AEDTC" in events.columns else pl.lit(None, pl.Date)
    rows = events.join(wanted.unique(), on=["USUBJID", "EVENT"], how="semi").with_columns(
        _collected=collected, _written=written
    )
    rows = rows.sort("USUBJID", "EVENT", "_written", "AESEQ", nulls_last=False)
    found = {}
    for (subject, event), group in rows.group_by("USUBJID", "EVENT", maintain_order=True):
        records = group.to_dicts()
        key = (str(subject), str(event))
        found[key] = _one(*key, records, policy)
    return dict(sorted(found.items()))


def _one(subject: str, event: str, records: list[dict[str, Any]], policy: SafetyPolicy) -> CaseEvent:
    grades = [record["SERIOUS"] for record in records]
    serious = next((g for g in (SERIOUS, TO_CONFIRM) if g in grades), NOT_SERIOUS)
    counted = [record for record in records if record["SERIOUS"] != NOT_SERIOUS] or records
    day, basis = _aware(counted, policy)
    met = {criterion for record in records for criterion in record["CRITERIA"]}
    judged = [record["EXPECTED"] for record in records]
    said = [record["RELATED_INVESTIGATOR"] for record in records]
    written = [record["_written"] for record in records if record["_written"] is not None]
    return CaseEvent(
        subject,
        event,
        records[-1],
        len(records),
        serious,
        tuple(sorted({record["SERIOUS_BASIS"] for record in counted} - {""})),
        tuple(c for c in dict.fromkeys(policy.criteria.values()) if c in met),
        any(record["FATAL"] for record in records),
        any(record["LIFE_THREATENING"] for record in records),
        False if False in judged else None if None in judged else True,
        True if True in said else False if False in said else None,
        records[-1]["RELATED_SPONSOR"],
        day,
        basis,
        max(written, default=None),
    )


def _aware(records: list[dict[str, Any]], policy: SafetyPolicy) -> tuple[date | None, str]:
    """The first day by the policy's first source that any row has."""
    columns = {"AEDTC": "_collected"}
    for source in policy.awareness:
        days = [record[columns.get(source, source)] for record in records if columns.get(source, source) in record]
        known = [day for day in days if day is not None]
        if known:
            return min(known), source
    return None, "received"


class SubjectRows:
    """Rows of the domains a case quotes, by subject; only of the subjects asked for."""

    def __init__(self, trial: TrialTables, subjects: Sequence[str]) -> None:
        """Take the tables, blinded or not, and the subjects."""
        import polars as pl

        self._parts: dict[str, dict[str, pl.DataFrame]] = {}
        for domain in DOMAINS:
            frame = trial.get(domain)
            if frame is None or "USUBJID" not in frame.columns:
                continue
            kept = frame.filter(pl.col("USUBJID").is_in(sorted(set(subjects))))
            parts = kept.partition_by("USUBJID", as_dict=True)
            self._parts[domain] = {str(key[0]): part for key, part in parts.items()}

    def frame(self, domain: str, subject: str) -> pl.DataFrame | None:
        """The subject's rows of a domain, or None."""
        return self._parts.get(domain, {}).get(subject)

    def dicts(self, domain: str, subject: str) -> list[dict[str, Any]]:
        """The same as dictionaries."""
        frame = self.frame(domain, subject)
        return [] if frame is None else frame.to_dicts()


def iso_date(text: str) -> str | None:
    """A date of SDTM as a case takes it: as precise as it is known from the left; None where not even the year is."""
    match = re.match(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d)?)?)?)?)?", text)
    return match.group(0) if match else None


def number(value: Any) -> str:
    """A number with the digits it has: 76, 1.25."""
    return f"{float(value):.10g}"


def day_of(text: str) -> date | None:
    """The day a text of SDTM names, where it names one."""
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def text_of(row: Mapping[str, Any], *columns: str) -> str:
    """The first of the columns that has a text."""
    return next((str(row[c]).strip() for c in columns if row.get(c) not in (None, "")), "")
