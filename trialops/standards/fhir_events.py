"""From FHIR resources to events: which element of which type says what, when, and about whom.

Elements are read into columns, one list per element; nothing is decided here that needs another resource or the
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trialops.standards import fhir_structs as fhir
from trialops.standards.fhir_batch import UCUM, Batch, Columns, each_distinct, ids_of
from trialops.standards.fhir_medicines import (
    immunization,
    medication_administration,
    medication_dispense,
    medication_request,
    medication_statement,
)
from trialops.standards.omop_events import Codes, events
from trialops.standards.omop_facts import facts

if TYPE_CHECKING:
    import polars as pl


def condition(b: Batch) -> list[pl.DataFrame]:
    """Conditions: from onset, or else from the day of the record."""
    columns = b.base(
        start=("onsetDateTime", "onsetPeriod.start", "recordedDate"),
        end=("abatementDateTime", "abatementPeriod.end", "onsetPeriod.end"),
        domain="Condition",
        concept=b.code("code"),
        provider=b.reference("asserter.reference"),
        status=b.status_codes("clinicalStatus"),
    )
    verified = b.status_codes("verificationStatus")
    columns["skip"] = b.skipped(verified) if verified else None
    return [events(columns, len(b.made))]


def observation(b: Batch) -> list[pl.DataFrame]:
    """Observations and their components; a panel without a value of its own says that it was done."""
    whole = b.base(
        start=("effectiveDateTime", "effectivePeriod.start", "effectiveInstant", "issued"),
        end=("effectivePeriod.end",),
        domain=_observation_domains(b),
        concept=b.code("code"),
        provider=_first_reference(b, "performer"),
        **_values(b.made, b.codes),
    )
    frame = events(whole, len(b.made))
    components = [(i, j, part) for i, one in enumerate(b.made) if one.component for j, part in enumerate(one.component)]
    if not components:
        return [frame]
    import polars as pl

    parts = [part for _, _, part in components]
    rows = pl.Series([i for i, _, _ in components])
    shared = (
        "kind",
        "id",
        "subject",
        "domain",
        "start",
        "start_day",
        "end",
        "end_day",
        "encounter",
        "provider",
        "skip",
    )
    kept = [name for name in shared if name in frame.columns]
    more = events(
        {
            "part": [j + 1 for _, j, _ in components],
            "concept": b.codes.raw([part.code for part in parts]),
            **_values(parts, b.codes),
        },
        len(parts),
    )
    return [frame, pl.concat([frame.select(kept)[rows], more], how="horizontal")]


def _observation_domains(b: Batch) -> list[str]:
    """Measurement or Observation by category; without one, whatever has a quantity is a measurement."""
    categories = facts().categories
    found = each_distinct(
        b.get("category"),
        list[fhir.CodeableConcept],
        lambda listed: next(
            (categories[c.code] for one in listed for c in one.coding if c.code in categories),
            None,
        ),
    )
    quantities = b.get("valueQuantity.value")
    found = found or [None] * len(quantities)
    return [
        said or ("Observation" if number is None else "Measurement")
        for said, number in zip(found, quantities, strict=True)
    ]


def _values(parts: list[Any], codes: Codes) -> Columns:
    """The value[x] of observations or components."""
    quantities = [part.valueQuantity for part in parts]
    numbers: list[float | None] = [q.value for q in quantities]
    coded = {q.system for q in quantities} <= {UCUM, None}
    made: Columns = {
        "number": numbers,
        "unit_code": [q.code for q in quantities]
        if coded
        else [q.code if q.system == UCUM else None for q in quantities],
    }
    if None in made["unit_code"]:
        made["unit"] = [q.unit or q.code for q in quantities]
    comparators = [q.comparator for q in quantities]
    if comparators.count(None) < len(comparators):
        made["comparator"] = comparators
    # A value has one type: only those without a number can have another.
    rest = [i for i, number in enumerate(numbers) if number is None]
    if rest:
        _other_values(made, parts, rest, codes)
    elements = [part.referenceRange for part in parts]
    made["low"] = each_distinct(elements, tuple[fhir.Range, ...], lambda r: r[0].low.value if r else None)
    made["high"] = each_distinct(elements, tuple[fhir.Range, ...], lambda r: r[0].high.value if r else None)
    return made


def _other_values(made: Columns, parts: list[Any], rest: list[int], codes: Codes) -> None:
    """Values that are no quantities, put in their columns."""
    texts: list[str | None] = [None] * len(parts)
    keys = [0] * len(parts)
    elements = codes.raw([parts[i].valueCodeableConcept for i in rest])
    for i, key in zip(rest, elements, strict=True):
        part = parts[i]
        keys[i] = key
        if part.valueString is not None:
            texts[i] = part.valueString
        elif part.valueBoolean is not None:
            texts[i] = "true" if part.valueBoolean else "false"
        elif part.valueInteger is not None:
            made["number"][i] = part.valueInteger
        else:
            texts[i] = getattr(part, "valueDateTime", None)
    if any(elements):
        made["value"] = keys
    if texts.count(None) < len(texts):
        made["text"] = texts


def _first_reference(b: Batch, path: str) -> pl.Series | None:
    listed = b.get(path)
    if not any(listed):
        return None
    return ids_of([refs[0].reference if refs else None for refs in listed])


def procedure(b: Batch) -> list[pl.DataFrame]:
    """Procedures."""
    columns = b.base(
        start=("performedDateTime", "performedPeriod.start"),
        end=("performedPeriod.end",),
        domain="Procedure",
        concept=b.code("code"),
    )
    return [events(columns, len(b.made))]


def allergy(b: Batch) -> list[pl.DataFrame]:
    """Allergies."""
    columns = b.base(
        start=("onsetDateTime", "recordedDate"),
        domain="Observation",
        concept=b.code("code"),
        status=b.status_codes("clinicalStatus"),
    )
    verified = b.status_codes("verificationStatus")
    columns["skip"] = b.skipped(verified) if verified else None
    return [events(columns, len(b.made))]


def device_use(b: Batch) -> list[pl.DataFrame]:
    """Devices in use."""
    devices = ids_of(b.get("device.reference")).to_list()
    types, barcodes = b.others.get("Device", {}), b.others.get("Device.identifier", {})
    columns = b.base(
        start=("timingDateTime", "timingPeriod.start"),
        end=("timingPeriod.end",),
        domain="Device",
        concept=b.codes.raw([types.get(d or "", fhir.RAW) for d in devices]),
        device=[barcodes.get(d or "") for d in devices],
    )
    columns["encounter"] = None
    return [events(columns, len(b.made))]


def report(b: Batch) -> list[pl.DataFrame]:
    """Reports without observations of their own; the others are their observations."""
    columns = b.base(
        start=("effectiveDateTime", "effectivePeriod.start", "issued"),
        end=("effectivePeriod.end",),
        domain="Measurement",
        concept=b.code("code"),
    )
    skip = columns["skip"] or [None] * len(b.made)
    results = b.get("result")
    columns["skip"] = [
        s if s is not None else ("its results are loaded as observations" if r else None)
        for s, r in zip(skip, results, strict=True)
    ]
    return [events(columns, len(b.made))]


def care_plan(b: Batch) -> list[pl.DataFrame]:
    """Plans of care, by category."""
    columns = b.base(
        start=("period.start", "created"),
        end=("period.end",),
        domain="Observation",
        concept=b.code("category"),
    )
    return [events(columns, len(b.made))]


def imaging(b: Batch) -> list[pl.DataFrame]:
    """Imaging studies: the procedure, or the kind of imaging."""
    columns = b.base(
        start=("started",),
        domain="Procedure",
        concept=b.codes.raw([bytes(o.procedureCode) or (o.series[0].modality if o.series else b"") for o in b.made]),
    )
    return [events(columns, len(b.made))]


def adverse_event(b: Batch) -> list[pl.DataFrame]:
    """Adverse events."""
    columns = b.base(
        start=("date", "detected"),
        domain="Condition",
        concept=b.code("event"),
        status=b.status_codes("severity"),
    )
    return [events(columns, len(b.made))]


def research_subject(b: Batch) -> list[pl.DataFrame]:
    """Participation in a study, with its state as the value."""
    columns = b.base(
        start=("period.start",),
        domain="Observation",
        concept=b.codes.plain(None, [None] * len(b.made), ["ResearchSubject"] * len(b.made)),
        text=b.get("status"),
    )
    columns["encounter"] = None
    return [events(columns, len(b.made))]


def specimen(b: Batch) -> list[pl.DataFrame]:
    """Specimens."""
    columns = b.base(
        start=("collection.collectedDateTime", "collection.collectedPeriod.start"),
        domain="Specimen",
        concept=b.code("type"),
        quantity=b.first("collection.quantity.value"),
        unit=b.first("collection.quantity.unit"),
        unit_code=b.first("collection.quantity.code"),
    )
    columns["encounter"] = None
    return [events(columns, len(b.made))]


READERS: dict[str, Callable[[Batch], list[pl.DataFrame]]] = {
    "AdverseEvent": adverse_event,
    "AllergyIntolerance": allergy,
    "CarePlan": care_plan,
    "Condition": condition,
    "DeviceUseStatement": device_use,
    "DiagnosticReport": report,
    "ImagingStudy": imaging,
    "Immunization": immunization,
    "MedicationAdministration": medication_administration,
    "MedicationDispense": medication_dispense,
    "MedicationRequest": medication_request,
    "MedicationStatement": medication_statement,
    "Observation": observation,
    "Procedure": procedure,
    "ResearchSubject": research_subject,
    "Specimen": specimen,
}
"""Reader by resource type."""
