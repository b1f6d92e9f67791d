"""From FHIR resources about medicines to events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.standards import fhir_structs as fhir
from trialops.standards.fhir_batch import Batch, Columns, id_of
from trialops.standards.omop_events import events

if TYPE_CHECKING:
    import polars as pl


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
