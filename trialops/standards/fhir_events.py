"""From FHIR resources to events: which element of which type says what, when, and about whom.

Elements are read into columns, one list per element; nothing is decided here that needs another resource or the
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from trialops.standards import fhir_structs as fhir
from trialops.standards.omop_events import Codes, events
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


def _medicine(b: Batch) -> list[int]:
    """Keys of the medicine, given as a code or in a resource that is referred to."""
    elements = b.get("medicationCodeableConcept")
    references = b.get("medicationReference.reference")
    if references.count(None) == len(references):
        return b.codes.raw(elements)
    medicines = b.others.get("Medication", {})
    made = []
    for one, element, reference in zip(b.made, elements, references, strict=True):
        if reference is not None and not bytes(element):
            contained = {f"#{part.id}": part.code for part in one.contained}
            element = contained.get(reference) or medicines.get(id_of(reference)) or fhir.RAW
        made.append(element)
    return b.codes.raw(made)


def _dosage(b: Batch, path: str) -> Columns:
    """Text and route of the first dosage."""
    listed = b.get(path)
    if not any(listed):
        return {}
    return {
        "sig": [d[0].text if d else None for d in listed],
        "route": b.codes.raw([d[0].route if d else fhir.RAW for d in listed]),
        "unit": [d[0].doseAndRate[0].doseQuantity.unit if d and d[0].doseAndRate else None for d in listed],
    }


def medication_request(b: Batch) -> list[pl.DataFrame]:
    """Prescriptions."""
    columns = b.base(
        start=("authoredOn", "dispenseRequest.validityPeriod.start"),
        end=("dispenseRequest.validityPeriod.end",),
        domain="Drug",
        concept=_medicine(b),
        provider=b.reference("requester.reference"),
        quantity=b.first("dispenseRequest.quantity.value"),
        days_supply=_days([d.dispenseRequest.expectedSupplyDuration for d in b.made]),
        refills=b.first("dispenseRequest.numberOfRepeatsAllowed"),
        **_dosage(b, "dosageInstruction"),
    )
    forbidden = b.get("doNotPerform")
    if any(forbidden):
        skip = columns["skip"] or [None] * len(b.made)
        columns["skip"] = ["must not be given" if no else s for no, s in zip(forbidden, skip, strict=True)]
    return [events(columns, len(b.made))]


_DAYS = {"d": 1.0, "day": 1.0, "days": 1.0, "wk": 7.0, "mo": 30.0, "a": 365.0, "h": 1 / 24}


def _days(durations: Sequence[fhir.Quantity]) -> list[float | None] | None:
    """Durations in days; a month counts 30."""
    if all(d.value is None for d in durations):
        return None
    factors = [_DAYS.get(d.code or d.unit or "d") for d in durations]
    return [d.value * f if d.value is not None and f else None for d, f in zip(durations, factors, strict=True)]


def medication_administration(b: Batch) -> list[pl.DataFrame]:
    """Doses given."""
    columns = b.base(
        start=("effectiveDateTime", "effectivePeriod.start"),
        end=("effectivePeriod.end",),
        domain="Drug",
        concept=_medicine(b),
        quantity=b.first("dosage.dose.value"),
        unit=b.first("dosage.dose.unit"),
        sig=b.first("dosage.text"),
        route=b.code("dosage.route"),
    )
    columns["encounter"] = b.reference("context.reference")
    return [events(columns, len(b.made))]


def medication_statement(b: Batch) -> list[pl.DataFrame]:
    """Medicines somebody takes."""
    columns = b.base(
        start=("effectiveDateTime", "effectivePeriod.start"),
        end=("effectivePeriod.end",),
        domain="Drug",
        concept=_medicine(b),
        **_dosage(b, "dosage"),
    )
    columns["encounter"] = b.reference("context.reference")
    return [events(columns, len(b.made))]


def medication_dispense(b: Batch) -> list[pl.DataFrame]:
    """Medicines handed over."""
    columns = b.base(
        start=("whenHandedOver",),
        domain="Drug",
        concept=_medicine(b),
        quantity=b.first("quantity.value"),
        days_supply=_days([d.daysSupply for d in b.made]),
        **_dosage(b, "dosageInstruction"),
    )
    columns["encounter"] = b.reference("context.reference")
    return [events(columns, len(b.made))]


def immunization(b: Batch) -> list[pl.DataFrame]:
    """Vaccinations."""
    columns = b.base(
        start=("occurrenceDateTime",),
        domain="Drug",
        concept=b.code("vaccineCode"),
        lot=b.first("lotNumber"),
        quantity=b.first("doseQuantity.value"),
        unit=b.first("doseQuantity.unit"),
        route=b.code("route"),
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
