"""Eras and observation periods, derived from the event tables.

The rules are those OHDSI publishes with the CDM: exposures to an ingredient, or occurrences of a condition, no more
than 30 days apart are one era.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.standards import cdm
from trialops.standards.omop_facts import EHR
from trialops.standards.omop_ids import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from trialops.standards.vocabulary import Vocabulary

GAP_DAYS = 30
"""Longest gap within an era (persistence window)."""

CONTACTS = {
    "visit_occurrence": ("visit_start_date", "visit_end_date"),
    "procedure_occurrence": ("procedure_date", "procedure_end_date"),
    "measurement": ("measurement_date", None),
    "specimen": ("specimen_date", None),
    "note": ("note_date", None),
    "death": ("death_date", None),
}
"""First and last day of events at which somebody was seen."""

HISTORY = {
    "condition_occurrence": ("condition_start_date", "condition_end_date"),
    "drug_exposure": ("drug_exposure_start_date", "drug_exposure_end_date"),
    "device_exposure": ("device_exposure_start_date", "device_exposure_end_date"),
    "observation": ("observation_date", None),
}
"""First and last day of events that may be told of later; they make a period for persons without contact alone."""


def observation_periods(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """One period per person, from the first to the last day of contact."""
    import polars as pl

    seen = _spans(tables, CONTACTS)
    told = _spans(tables, HISTORY).join(seen, on="person_id", how="anti")
    whole = pl.concat([seen, told])
    whole = whole.with_columns(
        observation_period_id=_ids("observation_period", whole, ["person_id"]),
        observation_period_start_date="first",
        observation_period_end_date="last",
        # Derived from records of all kinds: the type is that of the record, not of a form.
        period_type_concept_id=pl.lit(EHR),
    )
    return cdm.conform("observation_period", whole)


def _spans(tables: Mapping[str, pl.DataFrame], fields: Mapping[str, tuple[str, str | None]]) -> pl.DataFrame:
    """person_id, first, last over the events of some tables."""
    import polars as pl

    spans = []
    for name, (first, last) in fields.items():
        end = pl.coalesce(last, first) if last else pl.col(first)
        spans.append(tables[name].lazy().group_by("person_id").agg(first=pl.col(first).min(), last=end.max()))
    return pl.concat(spans).group_by("person_id").agg(pl.col("first").min(), pl.col("last").max()).collect()


def condition_eras(conditions: pl.DataFrame) -> pl.DataFrame:
    """Condition eras; a condition without an end counts to the day after its start, one without a concept not."""
    import polars as pl

    spans = conditions.filter(pl.col("condition_concept_id") > 0).select(
        "person_id",
        concept="condition_concept_id",
        first="condition_start_date",
        last=pl.coalesce("condition_end_date", pl.col("condition_start_date") + pl.duration(days=1)),
    )
    eras = merge_spans(spans, ["person_id", "concept"], GAP_DAYS)
    return cdm.conform(
        "condition_era",
        eras.with_columns(
            condition_era_id=_ids("condition_era", eras, ["person_id", "concept", "first"]),
            condition_concept_id="concept",
            condition_era_start_date="first",
            condition_era_end_date="last",
            condition_occurrence_count="count",
        ),
    )


def ingredients(drugs: pl.DataFrame, vocabulary: Vocabulary) -> pl.DataFrame:
    """drug_concept_id, ingredient: the RxNorm ingredients of each drug by ancestry."""
    import polars as pl

    wanted = drugs.filter(pl.col("drug_concept_id") > 0).select("drug_concept_id").unique()
    if wanted.height == 0:
        return pl.DataFrame(schema={"drug_concept_id": pl.Int64, "ingredient": pl.Int64})
    simple = (
        vocabulary.table("concept")
        .filter(
            pl.col("concept_class_id") == "Ingredient",
            pl.col("vocabulary_id").is_in(["RxNorm", "RxNorm Extension"]),
            pl.col("standard_concept") == "S",
        )
        .select(ingredient="concept_id")
    )
    return (
        vocabulary.table("concept_ancestor")
        .select(drug_concept_id="descendant_concept_id", ingredient="ancestor_concept_id")
        .join(wanted.lazy(), on="drug_concept_id", how="semi")
        .join(simple, on="ingredient", how="semi")
        .unique()
        .collect()
    )


def drug_eras(drugs: pl.DataFrame, parts: pl.DataFrame) -> pl.DataFrame:
    """Drug eras by ingredient.

    Exposures that touch or overlap are merged first; the days between what is left count as gap.

    Args:
        drugs: drug_exposure.
        parts: From :func:`ingredients`.
    """
    import polars as pl

    spans = drugs.join(parts, on="drug_concept_id").select(
        "person_id",
        concept="ingredient",
        first="drug_exposure_start_date",
        last="drug_exposure_end_date",
    )
    solid = merge_spans(spans, ["person_id", "concept"], 0).with_columns(
        exposed=(pl.col("last") - pl.col("first")).dt.total_days()
    )
    eras = merge_spans(solid, ["person_id", "concept"], GAP_DAYS, pl.col("exposed").sum(), pl.col("count").sum())
    return cdm.conform(
        "drug_era",
        eras.with_columns(
            drug_era_id=_ids("drug_era", eras, ["person_id", "concept", "first"]),
            drug_concept_id="concept",
            drug_era_start_date="first",
            drug_era_end_date="last",
            drug_exposure_count="count",
            gap_days=(pl.col("last") - pl.col("first")).dt.total_days() - pl.col("exposed"),
        ),
    )


def dose_eras(drugs: pl.DataFrame, parts: pl.DataFrame, vocabulary: Vocabulary) -> pl.DataFrame:
    """Dose eras: spans of one daily dose of an ingredient.

    Daily dose = amount of the ingredient in a unit of the drug x quantity / days of supply (CDM documentation of
    drug_strength). Without amount, quantity or days of supply there is no dose.

    Args:
        drugs: drug_exposure.
        parts: From :func:`ingredients`.
        vocabulary: Its drug_strength has the amounts.
    """
    import polars as pl

    strength = (
        vocabulary.table("drug_strength")
        .filter(
            pl.col("amount_value") > 0,
            pl.col("amount_unit_concept_id").is_not_null(),
            pl.col("invalid_reason").is_null(),
        )
        .select("drug_concept_id", "amount_value", "amount_unit_concept_id", ingredient="ingredient_concept_id")
        .join(parts.lazy(), on=["drug_concept_id", "ingredient"], how="semi")
        .collect()
    )
    spans = (
        drugs.filter(pl.col("quantity") > 0, pl.col("days_supply") > 0)
        .join(strength, on="drug_concept_id")
        .select(
            "person_id",
            concept="ingredient",
            unit="amount_unit_concept_id",
            dose=pl.col("amount_value") * pl.col("quantity") / pl.col("days_supply"),
            first="drug_exposure_start_date",
            last="drug_exposure_end_date",
        )
    )
    by = ["person_id", "concept", "unit", "dose"]
    eras = merge_spans(spans, by, GAP_DAYS)
    return cdm.conform(
        "dose_era",
        eras.with_columns(
            dose_era_id=_ids("dose_era", eras, [*by, "first"]),
            drug_concept_id="concept",
            unit_concept_id="unit",
            dose_value="dose",
            dose_era_start_date="first",
            dose_era_end_date="last",
        ),
    )


def merge_spans(
    spans: pl.DataFrame,
    by: Sequence[str],
    gap: int,
    exposed: pl.Expr | None = None,
    count: pl.Expr | None = None,
) -> pl.DataFrame:
    """Merge spans of days that lie at most `gap` days apart.

    Args:
        spans: Columns of `by`, first, last (Date).
        by: What spans must share to be merged.
        gap: Days between the end of one and the start of the next.
        exposed: Aggregate to carry along under that name.
        count: Aggregate that replaces the number of spans.

    Returns:
        Columns of `by`, first, last, count (and exposed).
    """
    import polars as pl

    ordered = spans.sort(*by, "first", "last")
    reach = pl.col("last").cum_max().shift(1).over(by)
    new = (pl.col("first") > reach + pl.duration(days=gap)).fill_null(True)
    more = {} if exposed is None else {"exposed": exposed}
    return (
        ordered.with_columns(era=new.cast(pl.Int64).cum_sum())
        .group_by(*by, "era", maintain_order=True)
        .agg(
            first=pl.col("first").min(),
            last=pl.col("last").max(),
            count=pl.len().cast(pl.Int64) if count is None else count,
            **more,
        )
        .drop("era")
    )


def _ids(kind: str, rows: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    import polars as pl

    parts = [pl.lit(kind), *(pl.col(column).cast(pl.String) for column in columns)]
    return keys(rows.select(pl.concat_str(parts, separator="/").alias("id")).to_series())
