"""The facts in ``omop_facts.yaml``: concepts the model fixes, code systems, routing, statuses that keep data out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

EHR = 32817
"""Type concept of a row that came from an electronic record."""
CASE_REPORT_FORM = 32809
"""Type concept of a row that came from a trial's case report form."""
SDTM_KINDS = ("DM", "SV", "AE", "CM", "DS", "EX", "LB", "MH", "VS")
"""Kinds of rows that come from a case report form; all others come from a record."""
VALID_FROM, VALID_TO = "1970-01-01", "2099-12-31"


@dataclass(frozen=True)
class Facts:
    """See the keys of ``omop_facts.yaml``."""

    version: int
    concepts: tuple[tuple[int, str, str, str, str, str], ...]
    systems: Mapping[str, str]
    tables: Mapping[str, str]
    gender: Mapping[str, int]
    race: Mapping[str, int]
    ethnicity: Mapping[str, int]
    visits: Mapping[str, int]
    operators: Mapping[str, int]
    categories: Mapping[str, str]
    skipped: Mapping[str, Mapping[str, str]]
    ignored: Mapping[str, str]


@cache
def facts() -> Facts:
    """The facts, read once."""
    import yaml

    text = resources.files("trialops.standards").joinpath("omop_facts.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    data["concepts"] = tuple(tuple(row) for row in data["concepts"])
    return Facts(**data)


def type_concept(kind: str) -> pl.Expr:
    """The type concept of rows by the column with their kind."""
    import polars as pl

    form = pl.col(kind).is_in(SDTM_KINDS)
    return pl.when(form).then(pl.lit(CASE_REPORT_FORM, pl.Int64)).otherwise(pl.lit(EHR, pl.Int64))


def built_in_concepts() -> pl.DataFrame:
    """The fixed concepts as rows of the concept table; standard but for 0 and the type of the model's version."""
    import polars as pl

    from trialops.standards import cdm

    rows = pl.DataFrame(
        [(str(i), *rest) for i, *rest in facts().concepts],
        schema=["concept_id", "concept_name", "domain_id", "vocabulary_id", "concept_class_id", "concept_code"],
        orient="row",
    )
    return cdm.conform(
        "concept",
        rows.with_columns(
            pl.col("concept_id").cast(pl.Int64),
            standard_concept=pl.when(pl.col("domain_id") != "Metadata").then(pl.lit("S")),
            valid_start_date=pl.lit(VALID_FROM).str.to_date(),
            valid_end_date=pl.lit(VALID_TO).str.to_date(),
        ),
    )
