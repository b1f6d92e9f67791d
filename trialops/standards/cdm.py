"""The OMOP Common Data Model 5.4 as data: tables, fields, types, required fields, keys.

The facts are read from ``cdm-5.4.txt`` beside this module; an anchor test compares every one of them with the
specification that OHDSI publishes (CommonDataModel, Apache-2.0).

Keys are 63-bit integers here: the model says "integer" and leaves the width to the implementer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

VERSION = "5.4"
VERSION_CONCEPT = 756265
"""Concept that names CDM v5.4.0 in ``cdm_source.cdm_version_concept_id``."""

_FIELD = re.compile(
    r"^(?P<name>\w+) (?P<type>integer|float|date|datetime|text|varchar)(?:\((?P<length>\d+)\))?(?P<required>!)?"
    r"(?P<key> #)?(?: > (?P<table>\w+)\.(?P<field>\w+)(?: @ (?P<domain>[^%]+?))?(?: % (?P<cls>.+))?)?$"
)


@dataclass(frozen=True)
class Field:
    """One field of a table.

    Attributes:
        name: Lower case.
        type: integer, float, date, datetime, varchar or text.
        length: Longest value of a varchar in characters; None for the other types.
        required: Whether a row must have a value.
        primary_key: Whether it is the table's primary key.
        foreign_table: Table it refers to; None when it is no foreign key.
        foreign_field: Field it refers to.
        domain: Domain that its concept belongs to; "Procedure, Regimen" names two.
        concept_class: Class that its concept belongs to.
    """

    name: str
    type: str
    length: int | None
    required: bool
    primary_key: bool
    foreign_table: str | None
    foreign_field: str | None
    domain: str | None
    concept_class: str | None


@dataclass(frozen=True)
class Table:
    """One table: its name in lower case, its schema (CDM, VOCAB or RESULTS) and its fields in order."""

    name: str
    schema: str
    fields: tuple[Field, ...]

    @property
    def primary_key(self) -> str | None:
        """Name of the key field; None where the model has none (death, relations)."""
        return next((field.name for field in self.fields if field.primary_key), None)

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """Fields by name."""
        return {field.name: field for field in self.fields}


@cache
def spec() -> Mapping[str, Table]:
    """All 39 tables by lower-case name, in the order of the specification."""
    text = resources.files("trialops.standards").joinpath("cdm-5.4.txt").read_text(encoding="utf-8")
    return {table.name: table for table in _parse(text)}


def table(name: str) -> Table:
    """One table of the model.

    Raises:
        TrialOpsError: When the model has none of that name.
    """
    found = spec().get(name.lower())
    if found is None:
        raise TrialOpsError(f"OMOP CDM {VERSION} has no table {name!r}", fix=f"Tables: {', '.join(spec())}.")
    return found


@cache
def schema(name: str) -> Mapping[str, pl.DataType]:
    """Column types of a table for polars, in order."""
    import polars as pl

    types: dict[str, pl.DataType] = {
        "integer": pl.Int64(),
        "float": pl.Float64(),
        "date": pl.Date(),
        "datetime": pl.Datetime("us"),
        "varchar": pl.String(),
        "text": pl.String(),
    }
    return {field.name: types[field.type] for field in table(name).fields}


def empty(name: str) -> pl.DataFrame:
    """A table without rows."""
    import polars as pl

    return pl.DataFrame(schema=dict(schema(name)))


def conform(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of a table in its order and types, texts cut to their length, rows in a fixed order.

    Columns the frame lacks are null. Rows are sorted by person, where a table has persons, and then by key (without a
    key field by all columns): the same rows give the same bytes, and a person's rows lie together.

    Args:
        name: Table.
        frame: Rows; columns that the model does not know are dropped.
    """
    import polars as pl

    known = table(name)
    columns = []
    for field in known.fields:
        kind = schema(name)[field.name]
        if field.name not in frame.columns:
            columns.append(pl.lit(None, kind).alias(field.name))
            continue
        column = pl.col(field.name).cast(kind)
        columns.append(column.str.head(field.length) if field.length else column)
    made = frame.select(columns) if frame.height else empty(name)
    names = [field.name for field in known.fields]
    order = [known.primary_key] if known.primary_key else names
    return made.sort(["person_id", *order] if "person_id" in names else order)


def _parse(text: str) -> Iterator[Table]:
    name, area, fields = "", "", list[Field]()
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if fields:
                yield Table(name, area, tuple(fields))
            name, area = line.strip("[]").split()
            fields = []
            continue
        found = _FIELD.match(line)
        if found is None:
            raise TrialOpsError("The data file of the CDM has a line that is no field", where=f"cdm-5.4.txt: {line}")
        fields.append(
            Field(
                name=found["name"],
                type=found["type"],
                length=int(found["length"]) if found["length"] else None,
                required=bool(found["required"]),
                primary_key=bool(found["key"]),
                foreign_table=found["table"],
                foreign_field=found["field"],
                domain=found["domain"],
                concept_class=found["cls"],
            )
        )
    yield Table(name, area, tuple(fields))
