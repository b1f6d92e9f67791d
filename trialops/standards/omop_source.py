"""What a source (FHIR resources, SDTM tables) gives to the mapping: people, visits, places, events, notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from trialops.standards.omop_events import Codes, union

if TYPE_CHECKING:
    import polars as pl

SHAPES = {
    "persons": {
        "kind": "String",
        "id": "String",
        "subject": "String",
        "gender": "String",
        "birth": "String",
        "age": "Float64",
        "race": "String",
        "race_text": "String",
        "ethnicity": "String",
        "ethnicity_text": "String",
        "death": "String",
        "death_day": "Int64",
        "address": "String",
        "city": "String",
        "state": "String",
        "zip": "String",
        "country": "String",
        "provider": "String",
        "site": "String",
    },
    "visits": {
        "kind": "String",
        "id": "String",
        "subject": "String",
        "visit_class": "String",
        "label": "String",
        "start": "String",
        "start_day": "Int64",
        "end": "String",
        "end_day": "Int64",
        "parent": "String",
        "provider": "String",
        "site": "String",
        "admitted": "String",
        "discharged": "String",
        "skip": "String",
    },
    "sites": {
        "kind": "String",
        "id": "String",
        "name": "String",
        "place": "String",
        "address": "String",
        "city": "String",
        "state": "String",
        "zip": "String",
        "country": "String",
    },
    "providers": {"kind": "String", "id": "String", "gender": "String", "birth": "String", "specialty": "String"},
    "notes": {
        "kind": "String",
        "id": "String",
        "subject": "String",
        "encounter": "String",
        "start": "String",
        "start_day": "Int64",
        "label": "String",
        "text": "String",
        "skip": "String",
    },
    "outcomes": {
        "kind": "String",
        "id": "String",
        "subject": "String",
        "disposition": "String",
        "reason": "String",
    },
}
"""Columns of each part. Dates are ISO 8601 of any precision; a study day (`*_day`) wins over the date beside it."""


@cache
def shape(part: str) -> dict[str, Any]:
    """Columns of a part with polars types."""
    import polars as pl

    return {name: getattr(pl, kind) for name, kind in SHAPES[part].items()}


def part(name: str, frame: pl.DataFrame | None = None) -> pl.DataFrame:
    """A frame in the shape of a part; columns it lacks are null."""
    import polars as pl

    columns = shape(name)
    if frame is None:
        return pl.DataFrame(schema=columns)
    return frame.select(
        (pl.col(n).cast(kind) if n in frame.columns else pl.lit(None, kind)).alias(n) for n, kind in columns.items()
    )


@dataclass
class Source:
    """One source, read.

    Attributes:
        read: kind -> number of resources or rows read.
        ignored: kind -> reason, for kinds of which nothing is loaded.
        outcomes: Single ones that are not loaded, as far as reading could tell.
    """

    codes: Codes = field(default_factory=Codes)
    persons: pl.DataFrame = field(default_factory=lambda: part("persons"))
    visits: pl.DataFrame = field(default_factory=lambda: part("visits"))
    sites: pl.DataFrame = field(default_factory=lambda: part("sites"))
    providers: pl.DataFrame = field(default_factory=lambda: part("providers"))
    notes: pl.DataFrame = field(default_factory=lambda: part("notes"))
    events: pl.DataFrame = field(default_factory=lambda: union([]))
    outcomes: pl.DataFrame = field(default_factory=lambda: part("outcomes"))
    read: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)

    @property
    def has_study_days(self) -> bool:
        """Whether dates are study days (strict de-identification) rather than dates."""
        frames = (self.events, self.visits, self.notes)
        return any(frame["start_day"].null_count() < frame.height for frame in frames)
