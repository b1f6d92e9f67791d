"""Events on their way to OMOP: one shape for every source, and the coded elements they carry.

An event is one coded thing about one person on one day, from a FHIR resource, one of its components, or an SDTM row.
Its table is decided later, by the domain of its standard concept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from trialops.standards.omop_facts import facts

if TYPE_CHECKING:
    import polars as pl

    from trialops.standards.vocabulary import Vocabulary

EVENT_SCHEMA = {
    "kind": "String",
    "id": "String",
    "part": "Int32",
    "subject": "String",
    "encounter": "String",
    "provider": "String",
    "domain": "String",
    "concept": "Int64",
    "start": "String",
    "start_day": "Int64",
    "end": "String",
    "end_day": "Int64",
    "number": "Float64",
    "text": "String",
    "value": "Int64",
    "comparator": "String",
    "unit": "String",
    "unit_code": "String",
    "low": "Float64",
    "high": "Float64",
    "status": "String",
    "quantity": "Float64",
    "days_supply": "Float64",
    "refills": "Int64",
    "sig": "String",
    "route": "Int64",
    "lot": "String",
    "device": "String",
    "skip": "String",
}
"""Column -> polars type.

kind, id, part: source type, its id, and the place of a component in it (0 for the whole). subject: key of the person.
encounter, provider: id of the resource. domain: where it goes when no concept says so. concept, value, route: keys
into :class:`Codes`. start, end: ISO 8601, any precision. start_day, end_day: study days, which win over dates.
status: as a source value. skip: reason not to load it.
"""


@cache
def event_types() -> dict[str, Any]:
    """EVENT_SCHEMA with polars types."""
    import polars as pl

    return {name: getattr(pl, kind) for name, kind in EVENT_SCHEMA.items()}


def events(columns: dict[str, Any], height: int) -> pl.DataFrame:
    """A frame of the columns given; a value that is no list or series stands for every row.

    Columns that hold nothing at all are left out: the union of the sources fills them.
    """
    import polars as pl

    made = []
    for name, values in columns.items():
        kind = event_types()[name]
        if isinstance(values, list):
            made.append(pl.Series(name, values, dtype=kind))
        elif isinstance(values, pl.Series):
            made.append(values.cast(kind).alias(name))
        elif values is not None:
            made.append(pl.Series(name, [values], dtype=kind).new_from_index(0, height))
    return pl.DataFrame(made)


def union(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """All events with every column."""
    import polars as pl

    whole = pl.concat([pl.DataFrame(schema=event_types()), *frames], how="diagonal")
    return whole.with_columns(pl.col("part").fill_null(0))


@dataclass
class Codes:
    """The distinct coded elements of a data set, numbered in order of appearance; key 0 is "none".

    FHIR elements come as raw JSON of a CodeableConcept, a Coding, or a list of either; SDTM ones as system, code and
    text. Each distinct element is parsed and looked up once, however many events carry it.
    """

    index: dict[bytes, int] = field(default_factory=lambda: {b"": 0})

    def raw(self, elements: Sequence[Any]) -> list[int]:
        """Keys of elements in msgspec.Raw (or bytes), in order."""
        from trialops.standards.fhir_structs import RAW

        index, absent = self.index, RAW
        return [0 if e is absent else index.setdefault(bytes(e), len(index)) for e in elements]

    def plain(self, system: str | None, codes: Sequence[str | None], texts: Sequence[str | None]) -> list[int]:
        """Keys of codes of one system with their text."""
        import msgspec

        index, encode = self.index, msgspec.json.encode
        known: dict[tuple[str | None, str | None], int] = {}
        made = []
        for pair in zip(codes, texts, strict=True):
            key = known.get(pair)
            if key is None:
                code, text = pair
                coding = [{"system": system, "code": code}] if code else []
                element = {"coding": coding, **({"text": text} if text else {})} if coding or text else None
                key = known[pair] = index.setdefault(encode(element) if element else b"", len(index))
            made.append(key)
        return made

    def codings(self) -> pl.DataFrame:
        """One row per coding: key, position, system, code, display, text (of the element)."""
        import msgspec
        import polars as pl

        from trialops.standards import fhir_structs as fhir

        concept = msgspec.json.Decoder(fhir.CodeableConcept).decode
        concepts = msgspec.json.Decoder(list[fhir.CodeableConcept]).decode
        coding = msgspec.json.Decoder(fhir.Coding).decode
        rows: list[tuple[int, int, str | None, str | None, str | None, str | None]] = []
        for raw, key in self.index.items():
            try:
                if not raw:
                    found, text = [], None
                elif raw.startswith(b"["):
                    listed = concepts(raw)
                    found = [c for item in listed for c in item.coding]
                    text = next((item.text for item in listed if item.text), None)
                else:
                    one = concept(raw)
                    found, text = list(one.coding), one.text
                    if not found and text is None:
                        single = coding(raw)
                        found = [single] if single.code else []
            except msgspec.MsgspecError:
                found, text = [], None
            if not found:
                rows.append((key, 0, None, None, None, text))
            rows += [(key, at, c.system, c.code, c.display, text) for at, c in enumerate(found)]
        return pl.DataFrame(
            rows,
            schema={
                "key": pl.Int64,
                "position": pl.Int64,
                "system": pl.String,
                "code": pl.String,
                "display": pl.String,
                "text": pl.String,
            },
            orient="row",
        )

    def resolve(self, vocabulary: Vocabulary) -> pl.DataFrame:
        """What each element means in the vocabulary.

        Of an element's codings the one counts that maps to a standard concept; else one that the vocabulary knows;
        else one of a system that OMOP names; else the first.

        Returns:
            key, n, concept_id, domain_id, source_concept_id, value_concept_id, source_value, text, system, code: one
            row per key and target, keys without gaps from 0.
        """
        import polars as pl

        systems = facts().systems
        rows = self.codings().with_columns(
            vocabulary_id=pl.col("system").replace_strict(systems, default=None, return_dtype=pl.String)
        )
        mapped = vocabulary.resolve(rows.select("vocabulary_id", concept_code="code"))
        rows = rows.join(
            mapped, left_on=["vocabulary_id", "code"], right_on=["vocabulary_id", "concept_code"], how="left"
        )
        rank = (
            pl.when(pl.col("concept_id") > 0)
            .then(0)
            .when(pl.col("source_concept_id") > 0)
            .then(1)
            .when(pl.col("vocabulary_id").is_not_null())
            .then(2)
            .otherwise(3)
        )
        best = (
            rows.with_columns(rank=rank)
            .sort("key", "rank", "position", "n", nulls_last=False)
            .filter(
                (pl.col("position") == pl.col("position").first().over("key"))
                & (pl.col("rank") == pl.col("rank").first().over("key"))
            )
        )
        return best.select(
            "key",
            n=pl.int_range(pl.len()).over("key"),
            concept_id=pl.col("concept_id").fill_null(0),
            domain_id="domain_id",
            source_concept_id=pl.col("source_concept_id").fill_null(0),
            value_concept_id="value_concept_id",
            source_value=pl.coalesce("code", "text", "display").str.head(50),
            text="text",
            system="system",
            code="code",
        )
