"""What a mapping to OMOP made: the tables, where each row came from, what was not loaded, how much is mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trialops.standards import cdm
from trialops.standards.omop_tables import EVENT_TABLES

if TYPE_CHECKING:
    import polars as pl

PERSONAL = (
    "person",
    "death",
    "observation_period",
    "visit_occurrence",
    "visit_detail",
    *EVENT_TABLES,
    "note",
    "condition_era",
    "drug_era",
    "dose_era",
)
"""Tables whose every row belongs to one person."""
SHARED = ("location", "care_site", "provider", "cdm_source", "concept", "domain", "vocabulary", "concept_class")
TABLES = (*PERSONAL, *SHARED)
"""The tables that are filled; the model's other tables stay empty."""

MAPPING = 1
"""Version of the rules in this package: tables made under another version are not added to, but made anew."""

PROVENANCE = {
    "table": "String",
    "row_id": "Int64",
    "person_id": "Int64",
    "kind": "String",
    "source_id": "String",
    "part": "Int32",
    "system": "String",
    "code": "String",
    "value_system": "String",
    "value_code": "String",
    "unit_system": "String",
    "zone": "String",
    "end_zone": "String",
}
"""Columns of the provenance: which resource or row each OMOP row came from, and what the model has no field for: the
codes with their systems and the time zones of its start and end."""


@dataclass(frozen=True)
class Cdm:
    """OMOP tables with what is known about how they were made.

    Attributes:
        tables: The tables named in TABLES, in the exact shape of the model.
        provenance: See PROVENANCE.
        outcomes: Sources that are not loaded, one by one: kind, id, subject, disposition, reason.
        read: kind -> number of resources or rows read.
        ignored: kind -> reason, for kinds of which nothing is loaded.
        study_days: Whether dates are study days on the calendar of `calendar`.
        vocabulary: Digest of the vocabulary used.
        references: Places and providers that sources name: table, id.
    """

    tables: Mapping[str, pl.DataFrame]
    provenance: pl.DataFrame
    outcomes: pl.DataFrame
    read: Mapping[str, int]
    ignored: Mapping[str, str]
    study_days: bool
    vocabulary: str
    references: pl.DataFrame = field(default_factory=lambda: no_references())

    def dispositions(self) -> pl.DataFrame:
        """kind, read, loaded, quarantined, ignored: the last three sum to the first."""
        import polars as pl

        counted = self.outcomes.group_by("kind", "disposition").agg(pl.len().cast(pl.Int64).alias("count"))
        wide = pl.DataFrame(
            {"kind": list(self.read), "read": list(self.read.values())}, schema={"kind": pl.String, "read": pl.Int64}
        )
        for name in ("quarantined", "ignored"):
            one = counted.filter(pl.col("disposition") == name).select("kind", pl.col("count").alias(name))
            wide = wide.join(one, on="kind", how="left").with_columns(pl.col(name).fill_null(0))
        whole = pl.col("kind").is_in(list(self.ignored))
        wide = wide.with_columns(ignored=pl.when(whole).then("read").otherwise("ignored"))
        loaded = pl.col("read") - pl.col("quarantined") - pl.col("ignored")
        return wide.select("kind", "read", loaded.alias("loaded"), "quarantined", "ignored").sort("kind")

    def reasons(self) -> pl.DataFrame:
        """kind, disposition, reason, count of what is not loaded."""
        import polars as pl

        by = ["kind", "disposition", "reason"]
        single = self.outcomes.group_by(by).agg(count=pl.len().cast(pl.Int64))
        rows = [(kind, "ignored", reason, self.read[kind]) for kind, reason in self.ignored.items()]
        return pl.concat([single, pl.DataFrame(rows, schema=single.schema, orient="row")]).sort(by)

    def mapping_rates(self) -> pl.DataFrame:
        """table, rows, mapped: rows whose concept is not 0."""
        import polars as pl

        rows = []
        for name in ("visit_occurrence", "visit_detail", *EVENT_TABLES):
            column = concept_field(name)
            frame = self.tables[name]
            rows.append((name, frame.height, int((frame[column] > 0).sum())))
        schema = {"table": pl.String, "rows": pl.Int64, "mapped": pl.Int64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def unmapped_rows(self) -> int:
        """Rows of events and visits whose concept is 0."""
        rates = self.mapping_rates()
        return int(rates["rows"].sum()) - int(rates["mapped"].sum())

    def unmapped(self, most: int = 20) -> pl.DataFrame:
        """The codes that are concept 0 most often: table, system, code, rows.

        Text that stands where a code should be may say anything about anybody, so all of it is one line per table.
        """
        import polars as pl

        found = []
        for name in EVENT_TABLES:
            frame, key = self.tables[name], cdm.table(name).primary_key or ""
            zero = frame.filter(pl.col(concept_field(name)) == 0).select(row_id=key)
            origin = self.provenance.filter(pl.col("table") == name).select("row_id", "system", "code")
            rows = zero.join(origin, on="row_id", how="left").with_columns(
                code=pl.coalesce("code", pl.lit("(text without a code)"))
            )
            counted = rows.group_by("system", "code").agg(rows=pl.len().cast(pl.Int64))
            found.append(counted.select(pl.lit(name).alias("table"), pl.col("system").fill_null(""), "code", "rows"))
        whole = pl.concat(found)
        return whole.sort("rows", "table", "system", "code", descending=[True, False, False, False]).head(most)


def no_references() -> pl.DataFrame:
    """Places and providers that sources name: table, id. Without rows."""
    import polars as pl

    return pl.DataFrame(schema={"table": pl.String, "id": pl.String})


def concept_field(table: str) -> str:
    """The field with the standard concept of an event or visit."""
    named = {"visit_occurrence": "visit", "visit_detail": "visit_detail", "condition_occurrence": "condition"}
    named["procedure_occurrence"] = "procedure"
    return f"{named.get(table, table.split('_')[0])}_concept_id"
