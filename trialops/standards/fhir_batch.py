"""A batch of decoded FHIR resources, read into columns: one list per element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from trialops.standards import fhir_structs as fhir
from trialops.standards.omop_events import Codes
from trialops.standards.omop_facts import facts

if TYPE_CHECKING:
    import polars as pl

Columns = dict[str, Any]
T = TypeVar("T")


class Batch:
    """Decoded resources of one type with the id and subject of each.

    Args:
        kind: Resource type.
        made: Decoded resources.
        ids: Resource ids, in the same order.
        subjects: Keys of the persons, in the same order.
        codes: Takes the coded elements.
        others: For elements that lie in another resource: type -> id -> raw coded element.
    """

    def __init__(
        self,
        kind: str,
        made: list[Any],
        ids: pl.Series,
        subjects: pl.Series,
        codes: Codes,
        others: dict[str, dict[str, fhir.Raw]],
    ) -> None:
        self.kind, self.made, self.ids, self.subjects, self.codes, self.others = (
            kind,
            made,
            ids,
            subjects,
            codes,
            others,
        )
        self._elements: dict[str, list[Any]] = {}

    def get(self, path: str) -> list[Any]:
        """An element of every resource."""
        head, _, rest = path.partition(".")
        found = self._elements.get(head)
        if found is None:
            found = self._elements[head] = list(map(attrgetter(head), self.made))
        if not rest or not found:
            return found
        if found.count(found[0]) == len(found):
            # Mostly the element is absent everywhere: one look at the first says what all of them hold.
            return [attrgetter(rest)(found[0])] * len(found)
        return list(map(attrgetter(rest), found))

    def first(self, *paths: str) -> list[Any] | None:
        """The first of some elements that each resource has; None when no resource has any."""
        found = self.get(paths[0])
        for path in paths[1:]:
            if None not in found:
                break
            found = [a if a is not None else b for a, b in zip(found, self.get(path), strict=True)]
        return None if found.count(None) == len(found) else found

    def days(self, *paths: str) -> list[int | None] | None:
        """Study days beside dates; None when there are none."""
        made: list[int | None] | None = None
        for path in paths:
            beside = self.get(path)
            if beside.count(fhir.NONE) == len(beside):
                continue
            found = [fhir.study_day(part) for part in beside]
            made = found if made is None else [a if a is not None else b for a, b in zip(made, found, strict=True)]
        return made

    def code(self, path: str) -> list[int] | None:
        """Keys of a coded element; None when no resource has it."""
        keys = self.codes.raw(self.get(path))
        return keys if any(keys) else None

    def reference(self, path: str) -> pl.Series | None:
        """Ids that references name."""
        found = self.first(path)
        return None if found is None else ids_of(found)

    def visit(self) -> list[str | None] | None:
        """Ids of the visits that the resources name."""
        return each_distinct(
            self.get("encounter"), fhir.Reference, lambda r: id_of(r.reference) if r.reference else None
        )

    def base(self, *, start: Sequence[str], end: Sequence[str] = (), domain: Any, **more: Any) -> Columns:
        """The columns every event has. `start` and `end` name the elements that say when, in order of preference."""
        return {
            "kind": self.kind,
            "id": self.ids,
            "subject": self.subjects,
            "domain": domain,
            "start": self.first(*start),
            "start_day": self.days(*(f"{path}_" for path in start if path not in INSTANTS)),
            "end": self.first(*end) if end else None,
            "end_day": self.days(*(f"{path}_" for path in end)) if end else None,
            "encounter": self.visit(),
            "skip": self.skipped(),
            **more,
        }

    def skipped(self, status: list[Any] | None = None) -> list[str | None] | None:
        """Reasons to leave a resource out by its status; None when all are to be loaded."""
        reasons = facts().skipped.get(self.kind, {})
        if not reasons:
            return None
        values = self.get("status") if status is None else status
        found = {value: reasons.get(value) for value in set(values)}
        return [found[value] for value in values] if any(found.values()) else None

    def status_codes(self, path: str) -> list[str | None] | None:
        """The code of a status that is a CodeableConcept."""
        return plain_codes(self.get(path))


UCUM = "http://unitsofmeasure.org"
INSTANTS = frozenset({"effectiveInstant", "issued", "created"})
"""Elements beside which de-identification leaves no study day."""


def ids_of(references: Sequence[str | None]) -> pl.Series:
    """Ids in references of any form: Type/id, urn:uuid:id, absolute, with or without a version."""
    import polars as pl

    text = pl.Series(references, dtype=pl.String)
    ids = text.str.split("/").list
    last = pl.select(pl.lit(ids.last()).str.strip_prefix("urn:uuid:")).to_series()
    if not text.str.contains("/_history/", literal=True).any():
        return last
    return pl.Series([None if t is None else id_of(t) for t in references], dtype=pl.String)


def id_of(reference: str) -> str:
    """The id in one reference; see :func:`ids_of`."""
    return reference.partition("/_history/")[0].rpartition("/")[2].removeprefix("urn:uuid:")


def each_distinct(elements: Sequence[Any], kind: Any, read: Callable[[Any], T | None]) -> list[T | None] | None:
    """Read raw elements, each distinct one once; None when none of them has anything to say.

    Args:
        elements: msgspec.Raw or bytes.
        kind: Type to decode as; an element that is not of it is read as None.
        read: What to take from it.
    """
    import msgspec

    decode = msgspec.json.Decoder(kind).decode
    index: dict[bytes, int] = {b"": 0}
    places = [0 if e is fhir.RAW else index.setdefault(bytes(e), len(index)) for e in elements]
    values: list[T | None] = [None] * len(index)
    for raw, place in index.items():
        if raw:
            try:
                values[place] = read(decode(raw))
            except msgspec.MsgspecError:
                values[place] = None
    if values.count(None) == len(values):
        return None
    return [values[place] for place in places]


def plain_codes(elements: Sequence[Any]) -> list[str | None] | None:
    """The first code, or else the text, of each raw CodeableConcept; None when there is none at all."""
    return each_distinct(
        elements, fhir.CodeableConcept, lambda one: next((c.code for c in one.coding if c.code), one.text)
    )
