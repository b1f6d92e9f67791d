"""FHIR resources as tables: one frame per resource type, one row per resource, the content as JSON text.

A row is found by type and id; the columns beside the JSON are what intake, consent and de-identification ask for
without parsing it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from trialops.intake.domains import RECEIVED, ROW, SOURCE

if TYPE_CHECKING:
    import datetime as dt

    import polars as pl

RESOURCE_SCHEMA = {
    "id": "String",
    "subject": "String",
    "version": "String",
    "updated": "String",
    "digest": "String",
    "json": "String",
    SOURCE: "String",
    ROW: "Int64",
    RECEIVED: "Date",
}
"""Column -> polars type.

id: Resource.id. subject: id of the Patient the resource is about (for Patient its own), null where there is none or
more than one. version, updated: meta.versionId and meta.lastUpdated, empty where absent. digest: SHA-256 (hex) of
the canonical JSON. json: the resource, compact. _SOURCE, _ROW: file and 1-based line or entry. _RECEIVED: day of
the delivery, or null.
"""
SUBJECT_ELEMENTS = ("subject", "patient", "individual", "beneficiary", "for", "member", "candidate")
"""Elements of R4 resources that point to whom the resource is about; a type has one of them."""
SUBJECT_PATHS = {
    "Appointment": ("participant", "actor"),
    "AppointmentResponse": ("actor",),
    "Group": ("member", "entity"),
    "Person": ("link", "target"),
    "Provenance": ("target",),
    "Schedule": ("actor",),
    "Slot": (),
}
"""Types whose subject is named elsewhere."""
_PATIENT = re.compile(r"(?:^|/)Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$")


def schema() -> dict[str, Any]:
    """RESOURCE_SCHEMA with polars types."""
    import polars as pl

    return {name: getattr(pl, kind) for name, kind in RESOURCE_SCHEMA.items()}


def empty() -> pl.DataFrame:
    """A resource table without rows."""
    import polars as pl

    return pl.DataFrame(schema=schema())


@cache
def _encoder() -> Any:
    import msgspec

    return msgspec.json.Encoder(order="deterministic", decimal_format="number")


@cache
def _decoder() -> Any:
    import msgspec

    return msgspec.json.Decoder(float_hook=Decimal)


def parse(text: str | bytes) -> Any:
    """JSON text to Python values, numbers with a fraction as Decimal: 1.10 and 1.1 differ in FHIR."""
    return _decoder().decode(text)


def canonical(resource: Mapping[str, Any]) -> bytes:
    """The resource as JSON with sorted keys, without white space, numbers as they were written."""
    encoded: bytes = _encoder().encode(resource)
    return encoded


def content_digest(resource: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON."""
    return hashlib.sha256(canonical(resource)).hexdigest()


def patient_of(reference: Any) -> str | None:
    """The Patient id a reference text points to, relative or absolute, or None."""
    found = _PATIENT.search(reference) if isinstance(reference, str) else None
    return found[1] if found else None


def subject_of(resource: Mapping[str, Any]) -> str | None:
    """Id of the one Patient a resource is about; None where it names none or several."""
    kind = resource.get("resourceType")
    if kind == "Patient":
        own = resource.get("id")
        return own if isinstance(own, str) else None
    paths = [SUBJECT_PATHS[kind]] if kind in SUBJECT_PATHS else [(name,) for name in SUBJECT_ELEMENTS]
    for path in paths:
        found = {patient_of(node.get("reference")) for node in _walk(resource, path)} - {None}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _walk(node: Any, path: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """The objects at a path, lists opened on the way."""
    if isinstance(node, list):
        for item in node:
            yield from _walk(item, path)
    elif isinstance(node, Mapping):
        if path:
            yield from _walk(node.get(path[0]), path[1:])
        else:
            yield node


@dataclass
class TableBuilder:
    """Collects resources row by row and hands them out as frames; holds text alone, never parsed resources."""

    _rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def add(
        self,
        resource: Mapping[str, Any],
        *,
        source: str = "",
        row: int = 0,
        received: dt.date | None = None,
        encoded: bytes | None = None,
    ) -> str:
        """Add one resource; returns its digest.

        Args:
            resource: A resource with resourceType and id.
            source: File it came from.
            row: 1-based line or entry.
            received: Day of the delivery.
            encoded: Its canonical JSON where the caller has it already.
        """
        data = canonical(resource) if encoded is None else encoded
        digest = hashlib.sha256(data).hexdigest()
        meta = resource.get("meta") or {}
        self._rows.setdefault(str(resource["resourceType"]), []).append(
            (
                resource["id"],
                subject_of(resource),
                str(meta.get("versionId") or ""),
                str(meta.get("lastUpdated") or ""),
                digest,
                data.decode(),
                source,
                row,
                received,
            )
        )
        return digest

    def tables(self) -> dict[str, pl.DataFrame]:
        """One frame per resource type, in the order rows were added."""
        import polars as pl

        return {
            kind: pl.DataFrame(rows, schema=schema(), orient="row") for kind, rows in sorted(self._rows.items()) if rows
        }


def to_tables(
    resources: Iterable[Mapping[str, Any]], *, source: str = "", received: dt.date | None = None
) -> dict[str, pl.DataFrame]:
    """Tables from parsed resources, each with resourceType and id; nothing is checked or superseded."""
    builder = TableBuilder()
    for row, resource in enumerate(resources, 1):
        builder.add(resource, source=source, row=row, received=received)
    return builder.tables()


def resources_of(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The resources of a table, parsed, in row order."""
    for text in frame["json"]:
        yield parse(text)
