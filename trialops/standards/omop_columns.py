"""The columns of the event tables, as expressions over mapped events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trialops.standards import cdm
from trialops.standards.omop_facts import facts, type_concept

if TYPE_CHECKING:
    import polars as pl


def shared(name: str, columns: dict[str, pl.Expr]) -> dict[str, pl.Expr]:
    """The columns every event table has, under its own names."""
    import polars as pl

    prefix = {"condition_occurrence": "condition", "procedure_occurrence": "procedure"}.get(name, name.split("_")[0])
    key = cdm.table(name).primary_key or ""
    made = {
        key: pl.col("key"),
        "person_id": pl.col("person_id"),
        f"{prefix}_concept_id": pl.col("concept_id"),
        f"{prefix}_type_concept_id": type_concept("kind"),
        f"{prefix}_source_value": pl.col("source_value"),
        f"{prefix}_source_concept_id": pl.col("source_concept_id"),
        "provider_id": pl.col("provider_id"),
        "visit_occurrence_id": pl.col("visit_occurrence_id"),
        "visit_detail_id": pl.col("visit_detail_id"),
    }
    fields = cdm.table(name).by_name
    return {column: expr for column, expr in made.items() if column in fields and column not in columns}


def _conditions() -> dict[str, pl.Expr]:
    import polars as pl

    return {
        "condition_start_date": pl.col("first"),
        "condition_start_datetime": pl.col("start_time"),
        "condition_end_date": pl.col("last"),
        "condition_end_datetime": pl.col("end_time"),
        "condition_status_source_value": pl.col("status"),
    }


def _drugs() -> dict[str, pl.Expr]:
    import polars as pl

    supply = pl.col("days_supply").round().cast(pl.Int64)
    supplied = pl.col("first") + pl.duration(days=pl.max_horizontal(supply - 1, 0))
    return {
        "drug_exposure_start_date": pl.col("first"),
        "drug_exposure_start_datetime": pl.col("start_time"),
        "drug_exposure_end_date": pl.coalesce(pl.col("last"), supplied, pl.col("first")),
        "drug_exposure_end_datetime": pl.col("end_time"),
        "verbatim_end_date": pl.col("last"),
        "refills": pl.col("refills"),
        "quantity": pl.col("quantity"),
        "days_supply": supply,
        "sig": pl.col("sig"),
        "route_concept_id": pl.when(pl.col("route") > 0).then("route_target"),
        "lot_number": pl.col("lot"),
        "route_source_value": pl.col("route_text"),
        "dose_unit_source_value": pl.col("unit_text"),
    }


def _procedures() -> dict[str, pl.Expr]:
    import polars as pl

    return {
        "procedure_date": pl.col("first"),
        "procedure_datetime": pl.col("start_time"),
        "procedure_end_date": pl.col("last"),
        "procedure_end_datetime": pl.col("end_time"),
    }


def _devices() -> dict[str, pl.Expr]:
    import polars as pl

    return {
        "device_exposure_start_date": pl.col("first"),
        "device_exposure_start_datetime": pl.col("start_time"),
        "device_exposure_end_date": pl.col("last"),
        "device_exposure_end_datetime": pl.col("end_time"),
        "unique_device_id": pl.col("device"),
    }


def _value_source() -> pl.Expr:
    import polars as pl

    number = pl.col("number").cast(pl.String).str.strip_suffix(".0")
    return pl.coalesce("value_text", "text", number)


def _value_concept() -> pl.Expr:
    import polars as pl

    return pl.when(pl.col("value") > 0).then("value_target").otherwise("value_concept_id")


def _measurements() -> dict[str, pl.Expr]:
    import polars as pl

    return {
        "measurement_date": pl.col("first"),
        "measurement_datetime": pl.col("start_time"),
        "measurement_time": pl.col("start_time").dt.strftime("%H:%M:%S"),
        "operator_concept_id": pl.col("comparator").replace_strict(
            facts().operators, default=None, return_dtype=pl.Int64
        ),
        "value_as_number": pl.col("number"),
        "value_as_concept_id": _value_concept(),
        "unit_concept_id": pl.col("unit_target"),
        "range_low": pl.col("low"),
        "range_high": pl.col("high"),
        "unit_source_value": pl.col("unit_text"),
        "unit_source_concept_id": pl.col("unit_target"),
        "value_source_value": _value_source(),
    }


def _observations() -> dict[str, pl.Expr]:
    import polars as pl

    return {
        "observation_date": pl.col("first"),
        "observation_datetime": pl.col("start_time"),
        "value_as_number": pl.col("number"),
        "value_as_string": pl.coalesce("text", "value_text"),
        "value_as_concept_id": _value_concept(),
        "unit_concept_id": pl.col("unit_target"),
        "unit_source_value": pl.col("unit_text"),
        "qualifier_source_value": pl.col("status"),
        "value_source_value": _value_source(),
    }


def _specimens() -> dict[str, pl.Expr]:
    import polars as pl

    return {
        "specimen_date": pl.col("first"),
        "specimen_datetime": pl.col("start_time"),
        "quantity": pl.col("quantity"),
        "unit_concept_id": pl.col("unit_target"),
        "specimen_source_id": pl.col("id"),
        "unit_source_value": pl.col("unit_text"),
    }


COLUMNS: dict[str, Callable[[], dict[str, pl.Expr]]] = {
    "condition_occurrence": _conditions,
    "drug_exposure": _drugs,
    "procedure_occurrence": _procedures,
    "device_exposure": _devices,
    "measurement": _measurements,
    "observation": _observations,
    "specimen": _specimens,
}
"""By table, a function that gives the columns of its own."""
