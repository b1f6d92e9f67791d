"""FHIR resources, as tables of JSON, read for the mapping to OMOP."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trialops.standards import fhir_structs as fhir
from trialops.standards.fhir_batch import Batch, each_distinct, ids_of, plain_codes
from trialops.standards.fhir_events import READERS
from trialops.standards.omop_events import Codes, union
from trialops.standards.omop_facts import facts
from trialops.standards.omop_source import Source, part

if TYPE_CHECKING:
    import polars as pl

CHUNK = 8_000
"""Resources decoded at a time: bounds the memory of the objects, of which a thousandth of the data is left as codes."""
NO_PLACE = "the model has no place for this type"
UNREADABLE = "an element has a type that FHIR R4 does not allow there"
IDENTIFIABLE = "text is loaded only after de-identification"
EMPTY_TEXT = "no plain text"
_AGE = "urn:trialops:age"
_RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
_ETHNICITY = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity"


def read_fhir(
    tables: Mapping[str, pl.DataFrame],
    *,
    texts: bool = False,
    codes: Codes | None = None,
    progress: Callable[[str, float | None], None] | None = None,
) -> Source:
    """Read resources.

    Args:
        tables: Resource type -> rows with id, subject and json (other columns are not looked at).
        texts: Whether the text of documents has been de-identified and may be loaded as notes.
        codes: Coded elements of another source that this one is to be put beside.
        progress: Told what is read and how far.
    """
    import polars as pl

    source = Source(codes=codes or Codes())
    others = {"Medication": _elements(tables, "Medication", "code"), "Device": _elements(tables, "Device", "type")}
    others["Device.identifier"] = _barcodes(tables)
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in ("persons", "visits", "sites", "providers", "notes")}
    found: list[pl.DataFrame] = []
    outcomes: list[pl.DataFrame] = []
    whole = sum(frame.height for frame in tables.values()) or 1
    done = 0
    for kind in sorted(tables):
        frame = tables[kind]
        source.read[kind] = frame.height
        if kind in PARTS or kind in READERS or (kind == "DocumentReference" and texts):
            for start in range(0, frame.height, CHUNK):
                piece = frame.slice(start, CHUNK).select("id", "subject", "json")
                made, bad = fhir.decode(kind, piece["json"].to_list())
                if bad:
                    outcomes.append(_outcome(kind, piece[bad], "quarantined", UNREADABLE))
                    good = [i for i, one in enumerate(made) if one is not None]
                    made, piece = [made[i] for i in good], piece[good]
                batch = Batch(kind, made, piece["id"], piece["subject"], source.codes, others)
                if kind in PARTS:
                    name, reader = PARTS[kind]
                    parts[name].append(reader(batch))
                elif kind == "DocumentReference":
                    parts["notes"].append(_notes(batch))
                else:
                    found += READERS[kind](batch)
                done += piece.height
                if progress is not None and frame.height > CHUNK:
                    progress(f"reading {kind}", done / whole)
        else:
            reason = IDENTIFIABLE if kind == "DocumentReference" else facts().ignored.get(kind, NO_PLACE)
            source.ignored[kind] = reason
    source.events = union(found)
    for name, frames in parts.items():
        setattr(source, name, pl.concat([part(name), *frames]))
    source.outcomes = pl.concat([part("outcomes"), *outcomes])
    return source


def _outcome(kind: str, rows: pl.DataFrame, disposition: str, reason: str) -> pl.DataFrame:
    import polars as pl

    return part(
        "outcomes",
        rows.select("id", "subject").with_columns(
            kind=pl.lit(kind), disposition=pl.lit(disposition), reason=pl.lit(reason)
        ),
    )


def _elements(tables: Mapping[str, pl.DataFrame], kind: str, name: str) -> dict[str, fhir.Raw]:
    """Raw coded element by id of resources that others refer to."""
    frame = tables.get(kind)
    if frame is None:
        return {}
    made, _ = fhir.decode(kind, frame["json"].to_list())
    return {key: getattr(one, name) for key, one in zip(frame["id"], made, strict=True) if one is not None}


def _barcodes(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    frame = tables.get("Device")
    if frame is None:
        return {}
    made, _ = fhir.decode("Device", frame["json"].to_list())
    return {
        key: one.udiCarrier[0].deviceIdentifier
        for key, one in zip(frame["id"], made, strict=True)
        if one is not None and one.udiCarrier
    }


def _frame(shape: str, b: Batch, **columns: Any) -> pl.DataFrame:
    import polars as pl

    base: dict[str, Any] = {"id": b.ids, "subject": b.subjects, **{k: v for k, v in columns.items() if v is not None}}
    return part(shape, pl.DataFrame(base, strict=False).with_columns(kind=pl.lit(b.kind)))


def _address(listed: list[Any]) -> dict[str, list[str | None]]:
    first = [addresses[0] if addresses else fhir.Address() for addresses in listed]
    return {
        "address": [", ".join(a.line) or None for a in first],
        "city": [a.city for a in first],
        "state": [a.state for a in first],
        "zip": [a.postalCode for a in first],
        "country": [a.country for a in first],
    }


def _us_core(extensions: tuple[fhir.Extension, ...], url: str) -> tuple[str | None, str | None]:
    """OMB category code and text of a US Core race or ethnicity extension."""
    for extension in extensions:
        if extension.url == url:
            coded = [
                bytes(e.valueCoding) for e in extension.extension if e.url == "ombCategory" and bytes(e.valueCoding)
            ]
            text = next((e.valueString for e in extension.extension if e.url == "text"), None)
            code = each_distinct(coded[:1], fhir.Coding, lambda one: one.code)
            return (code[0] if code else None), text
    return None, None


def _age(beside: fhir.Primitive) -> int | None:
    """The age on study day 1 that de-identification left beside a birth date."""
    return next((e.valueInteger for e in beside.extension if e.url == _AGE), None)


def _patients(b: Batch) -> pl.DataFrame:
    extensions = b.get("extension")
    races = [_us_core(e, _RACE) for e in extensions]
    ethnicities = [_us_core(e, _ETHNICITY) for e in extensions]
    practitioners = b.get("generalPractitioner")
    return _frame(
        "persons",
        b,
        gender=b.get("gender"),
        birth=b.get("birthDate"),
        age=[_age(beside) for beside in b.get("birthDate_")],
        race=[code for code, _ in races],
        race_text=[text for _, text in races],
        ethnicity=[code for code, _ in ethnicities],
        ethnicity_text=[text for _, text in ethnicities],
        death=b.get("deceasedDateTime"),
        death_day=b.days("deceasedDateTime_"),
        provider=ids_of([refs[0].reference if refs else None for refs in practitioners]),
        site=b.reference("managingOrganization.reference"),
        **_address(b.get("address")),
    )


def _encounters(b: Batch) -> pl.DataFrame:
    types = _labels(b.get("type"))
    participants = b.get("participant")
    return _frame(
        "visits",
        b,
        visit_class=each_distinct(b.get("class_"), fhir.Coding, lambda one: one.code),
        label=types,
        start=b.first("period.start"),
        start_day=b.days("period.start_"),
        end=b.first("period.end"),
        end_day=b.days("period.end_"),
        parent=b.reference("partOf.reference"),
        provider=ids_of([p[0].individual.reference if p else None for p in participants]),
        site=b.reference("serviceProvider.reference"),
        admitted=plain_codes(b.get("hospitalization.admitSource")),
        discharged=plain_codes(b.get("hospitalization.dischargeDisposition")),
        skip=b.skipped(),
    )


def _labels(elements: list[fhir.Raw]) -> list[str | None] | None:
    """Code, or else text, of the first of a raw list of CodeableConcepts."""
    return each_distinct(
        elements,
        list[fhir.CodeableConcept],
        lambda listed: next(
            (c.code for one in listed for c in one.coding if c.code),
            next((one.text for one in listed if one.text), None),
        ),
    )


def _organizations(b: Batch) -> pl.DataFrame:
    return _frame("sites", b, name=b.get("name"), place=_labels(b.get("type")), **_address(b.get("address")))


def _practitioners(b: Batch) -> pl.DataFrame:
    qualifications = b.get("qualification")
    codes = [q[0].get("code", fhir.RAW) if q else fhir.RAW for q in qualifications]
    return _frame("providers", b, gender=b.get("gender"), birth=b.get("birthDate"), specialty=plain_codes(codes))


def _notes(b: Batch) -> pl.DataFrame:
    texts = [_text(one.content) for one in b.made]
    skip = b.skipped() or [None] * len(b.made)
    return _frame(
        "notes",
        b,
        encounter=ids_of([one.context.encounter[0].reference if one.context.encounter else None for one in b.made]),
        start=b.first("date"),
        start_day=b.days("date_"),
        label=plain_codes(b.get("type")),
        text=texts,
        skip=[s or (None if t else EMPTY_TEXT) for s, t in zip(skip, texts, strict=True)],
    )


def _text(contents: tuple[fhir.Content, ...]) -> str | None:
    """Plain text of a document's attachments."""
    found = []
    for content in contents:
        attachment = content.attachment
        if (attachment.contentType or "").startswith("text/plain") and attachment.data:
            try:
                found.append(base64.b64decode(attachment.data, validate=True).decode())
            except (binascii.Error, UnicodeDecodeError):
                continue
    return "\n".join(found) or None


PARTS: dict[str, tuple[str, Callable[[Batch], pl.DataFrame]]] = {
    "Encounter": ("visits", _encounters),
    "Organization": ("sites", _organizations),
    "Patient": ("persons", _patients),
    "Practitioner": ("providers", _practitioners),
}
"""Types that are no events: part of the source and reader."""
