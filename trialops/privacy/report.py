"""What a de-identification did, in counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

LABELS = {
    "strict": "De-identified by Safe Harbor, 45 CFR 164.514(b)(2)",
    "limited": (
        "Limited data set, 45 CFR 164.514(e): dates are shifted, so it is not Safe Harbor "
        "and needs a data use agreement"
    ),
    "off": "Not de-identified: for synthetic data only",
}


@dataclass(frozen=True)
class DeidentificationReport:
    """What was done, in counts.

    Attributes:
        mode: strict, limited or off.
        label: What the result may be called.
        policy_version: Version of the column policy.
        subjects: Subjects in DM.
        columns: One line per input column: domain, column, action, identifier, values (not missing), listed.
        capped_ages: Rows of DM whose age became the top category.
        ages_without_unit: Rows of DM whose age was withheld: without a known unit it may be over the limit.
        withheld: Column -> values that became empty: results neither numeric nor coded, texts with a date.
        days_over_age: Column -> study days and durations that became empty: they tell an age over the limit.
        day_one: Where day 1 came from -> subjects; "first contact, treated" are among "first contact".
        day_one_outside: Subjects whose day 1 is not in their partial RFSTDTC.
        absent_columns: Optional columns the delivery lacks; the clean tables have them, empty.
        renumbered: --SEQ columns that were counted across subjects; the k-th of a subject is now k.
        identifiers: Identifier class -> columns that carried it.
        unlisted_columns: Columns dropped because the policy does not name them.
        dropped_columns: All columns dropped.
        day_disagreements: Date column -> rows whose study day in the source differs from the computed one.
        subjects_without_reference: Subjects without any exact date; their days are null.
        scanned: Columns, distinct values and identifiers of the residual check; empty in mode off.
    """

    mode: str
    label: str
    policy_version: str
    subjects: int
    columns: pl.DataFrame
    capped_ages: int
    identifiers: dict[str, list[str]]
    unlisted_columns: list[str]
    dropped_columns: list[str]
    day_disagreements: dict[str, int]
    subjects_without_reference: int
    ages_without_unit: int = 0
    withheld: dict[str, int] = field(default_factory=dict)
    days_over_age: dict[str, int] = field(default_factory=dict)
    day_one: dict[str, int] = field(default_factory=dict)
    day_one_outside: int = 0
    absent_columns: list[str] = field(default_factory=list)
    renumbered: list[str] = field(default_factory=list)
    scanned: dict[str, int] = field(default_factory=dict)

    def actions(self) -> dict[str, int]:
        """Columns by action."""
        return dict(self.columns.group_by("action").len().sort("action").iter_rows())

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for a step record."""
        plain = {k: v for k, v in self.__dict__.items() if k != "columns"}
        return {**plain, "actions": self.actions(), "columns": self.columns.to_dicts()}


@dataclass(frozen=True)
class Deidentified:
    """What de-identification gives.

    Attributes:
        tables: Clean tables by domain.
        report: What was done.
        quarantine: Rows that could not be de-identified; see `quarantine.SCHEMA`.
        links: Key space -> columns `raw` and `pseudonym`. Identifiable: for the vault alone, never shown or logged.
    """

    tables: dict[str, pl.DataFrame]
    report: DeidentificationReport
    quarantine: pl.DataFrame
    links: dict[str, pl.DataFrame] = field(default_factory=dict, repr=False)
