"""The elements of FHIR R4 resources that OMOP has a place for, as msgspec Structs.

Decoding reads only what is named here; everything else is skipped over. What repeats itself (codes, reference ranges,
visits) stays raw JSON: the same few thousand texts come back in millions of resources, and each is parsed once.

This is the only module that imports msgspec at its top; import it inside functions.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from trialops.standards.calendar import STUDY_DAY_URL


class _Part(Struct, frozen=True, gc=False):
    """Base of all elements: immutable, and not tracked by the garbage collector, for there are no cycles."""


class Extension(_Part, frozen=True, gc=False):
    """An extension with the value types that are used."""

    url: str = ""
    valueInteger: int | None = None
    valueString: str | None = None
    valueCode: str | None = None
    valueCoding: Raw = Raw()
    extension: tuple[Extension, ...] = ()


class Primitive(_Part, frozen=True, gc=False):
    """What stands beside a primitive element (`_effectiveDateTime`)."""

    extension: tuple[Extension, ...] = ()


NONE = Primitive()


def study_day(beside: Primitive) -> int | None:
    """The study day that de-identification left beside a date."""
    for extension in beside.extension:
        if extension.url == STUDY_DAY_URL:
            return extension.valueInteger
    return None


class Reference(_Part, frozen=True, gc=False):
    """A reference to another resource."""

    reference: str | None = None


class Period(_Part, frozen=True, gc=False):
    """A period; each end may have a study day beside it."""

    start: str | None = None
    end: str | None = None
    start_: Primitive = field(default=NONE, name="_start")
    end_: Primitive = field(default=NONE, name="_end")


class Quantity(_Part, frozen=True, gc=False):
    """A quantity with its unit as text and as code."""

    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    system: str | None = None
    code: str | None = None


class Coding(_Part, frozen=True, gc=False):
    """A code from a system."""

    system: str | None = None
    code: str | None = None
    display: str | None = None


class CodeableConcept(_Part, frozen=True, gc=False):
    """Codings of one meaning."""

    coding: tuple[Coding, ...] = ()
    text: str | None = None


NO_REFERENCE = Reference()
NO_PERIOD = Period()
NO_QUANTITY = Quantity()
RAW = Raw()


class Range(_Part, frozen=True, gc=False):
    """A reference range."""

    low: Quantity = NO_QUANTITY
    high: Quantity = NO_QUANTITY


class Address(_Part, frozen=True, gc=False):
    """An address."""

    line: tuple[str, ...] = ()
    city: str | None = None
    district: str | None = None
    state: str | None = None
    postalCode: str | None = None
    country: str | None = None


class Patient(_Part, frozen=True, gc=False):
    """A patient."""

    id: str = ""
    gender: str | None = None
    birthDate: str | None = None
    birthDate_: Primitive = field(default=NONE, name="_birthDate")
    deceasedDateTime: str | None = None
    deceasedDateTime_: Primitive = field(default=NONE, name="_deceasedDateTime")
    deceasedBoolean: bool | None = None
    address: tuple[Address, ...] = ()
    extension: tuple[Extension, ...] = ()
    generalPractitioner: tuple[Reference, ...] = ()
    managingOrganization: Reference = NO_REFERENCE


class Organization(_Part, frozen=True, gc=False):
    """An organization."""

    id: str = ""
    name: str | None = None
    type: Raw = RAW
    address: tuple[Address, ...] = ()


class Practitioner(_Part, frozen=True, gc=False):
    """A practitioner. The name is not read: a provider is known by its id."""

    id: str = ""
    gender: str | None = None
    birthDate: str | None = None
    qualification: tuple[dict[str, Raw], ...] = ()


class Participant(_Part, frozen=True, gc=False):
    """Who took part in an encounter."""

    individual: Reference = NO_REFERENCE


class Hospitalization(_Part, frozen=True, gc=False):
    """Where a patient came from and went to."""

    admitSource: Raw = RAW
    dischargeDisposition: Raw = RAW


NO_HOSPITALIZATION = Hospitalization()


class Encounter(_Part, frozen=True, gc=False):
    """An encounter."""

    id: str = ""
    status: str | None = None
    class_: Raw = field(default=RAW, name="class")
    type: Raw = RAW
    period: Period = NO_PERIOD
    participant: tuple[Participant, ...] = ()
    serviceProvider: Reference = NO_REFERENCE
    partOf: Reference = NO_REFERENCE
    hospitalization: Hospitalization = NO_HOSPITALIZATION


class _Event(_Part, frozen=True, gc=False):
    """What most resources about a patient share."""

    id: str = ""
    status: str | None = None
    code: Raw = RAW
    encounter: Raw = RAW


class Condition(_Event, frozen=True, gc=False):
    """A condition."""

    clinicalStatus: Raw = RAW
    verificationStatus: Raw = RAW
    onsetDateTime: str | None = None
    onsetDateTime_: Primitive = field(default=NONE, name="_onsetDateTime")
    onsetPeriod: Period = NO_PERIOD
    recordedDate: str | None = None
    recordedDate_: Primitive = field(default=NONE, name="_recordedDate")
    abatementDateTime: str | None = None
    abatementDateTime_: Primitive = field(default=NONE, name="_abatementDateTime")
    abatementPeriod: Period = NO_PERIOD
    asserter: Reference = NO_REFERENCE


class Component(_Part, frozen=True, gc=False):
    """A component of an observation."""

    code: Raw = RAW
    valueQuantity: Quantity = NO_QUANTITY
    valueCodeableConcept: Raw = RAW
    valueString: str | None = None
    valueInteger: int | None = None
    valueBoolean: bool | None = None
    referenceRange: Raw = RAW


class Observation(_Event, frozen=True, gc=False):
    """An observation."""

    category: Raw = RAW
    effectiveDateTime: str | None = None
    effectiveDateTime_: Primitive = field(default=NONE, name="_effectiveDateTime")
    effectivePeriod: Period = NO_PERIOD
    effectiveInstant: str | None = None
    issued: str | None = None
    performer: tuple[Reference, ...] = ()
    valueQuantity: Quantity = NO_QUANTITY
    valueCodeableConcept: Raw = RAW
    valueString: str | None = None
    valueInteger: int | None = None
    valueBoolean: bool | None = None
    valueDateTime: str | None = None
    referenceRange: Raw = RAW
    component: tuple[Component, ...] = ()


class Procedure(_Event, frozen=True, gc=False):
    """A procedure."""

    performedDateTime: str | None = None
    performedDateTime_: Primitive = field(default=NONE, name="_performedDateTime")
    performedPeriod: Period = NO_PERIOD


class Dose(_Part, frozen=True, gc=False):
    """One dose and rate."""

    doseQuantity: Quantity = NO_QUANTITY


class Dosage(_Part, frozen=True, gc=False):
    """How a medicine is taken: `dosageInstruction`, or the `dosage` of a statement."""

    text: str | None = None
    route: Raw = RAW
    doseAndRate: tuple[Dose, ...] = ()


class AdministrationDosage(_Part, frozen=True, gc=False):
    """The dosage of an administration."""

    text: str | None = None
    route: Raw = RAW
    dose: Quantity = NO_QUANTITY


class Dispense(_Part, frozen=True, gc=False):
    """What may be dispensed on a request."""

    quantity: Quantity = NO_QUANTITY
    numberOfRepeatsAllowed: int | None = None
    expectedSupplyDuration: Quantity = NO_QUANTITY
    validityPeriod: Period = NO_PERIOD


class Contained(_Part, frozen=True, gc=False):
    """A contained Medication or Device."""

    id: str = ""
    code: Raw = RAW


class _Medicine(_Event, frozen=True, gc=False):
    """What all resources about medicines share."""

    medicationCodeableConcept: Raw = RAW
    medicationReference: Reference = NO_REFERENCE
    contained: tuple[Contained, ...] = ()
    context: Reference = NO_REFERENCE


class MedicationRequest(_Medicine, frozen=True, gc=False):
    """A prescription."""

    authoredOn: str | None = None
    authoredOn_: Primitive = field(default=NONE, name="_authoredOn")
    requester: Reference = NO_REFERENCE
    dosageInstruction: tuple[Dosage, ...] = ()
    dispenseRequest: Dispense = Dispense()
    doNotPerform: bool = False


class MedicationAdministration(_Medicine, frozen=True, gc=False):
    """A dose given."""

    effectiveDateTime: str | None = None
    effectiveDateTime_: Primitive = field(default=NONE, name="_effectiveDateTime")
    effectivePeriod: Period = NO_PERIOD
    dosage: AdministrationDosage = AdministrationDosage()


class MedicationStatement(_Medicine, frozen=True, gc=False):
    """A medicine somebody takes."""

    effectiveDateTime: str | None = None
    effectiveDateTime_: Primitive = field(default=NONE, name="_effectiveDateTime")
    effectivePeriod: Period = NO_PERIOD
    dosage: tuple[Dosage, ...] = ()


class MedicationDispense(_Medicine, frozen=True, gc=False):
    """A medicine handed over."""

    whenHandedOver: str | None = None
    whenHandedOver_: Primitive = field(default=NONE, name="_whenHandedOver")
    quantity: Quantity = NO_QUANTITY
    daysSupply: Quantity = NO_QUANTITY
    dosageInstruction: tuple[Dosage, ...] = ()


class Medication(_Part, frozen=True, gc=False):
    """A medicine that others refer to."""

    id: str = ""
    code: Raw = RAW


class Immunization(_Event, frozen=True, gc=False):
    """A vaccination."""

    vaccineCode: Raw = RAW
    occurrenceDateTime: str | None = None
    occurrenceDateTime_: Primitive = field(default=NONE, name="_occurrenceDateTime")
    lotNumber: str | None = None
    route: Raw = RAW
    doseQuantity: Quantity = NO_QUANTITY


class AllergyIntolerance(_Event, frozen=True, gc=False):
    """An allergy."""

    verificationStatus: Raw = RAW
    clinicalStatus: Raw = RAW
    onsetDateTime: str | None = None
    onsetDateTime_: Primitive = field(default=NONE, name="_onsetDateTime")
    recordedDate: str | None = None
    recordedDate_: Primitive = field(default=NONE, name="_recordedDate")


class Carrier(_Part, frozen=True, gc=False):
    """A device's barcode."""

    deviceIdentifier: str | None = None


class Device(_Part, frozen=True, gc=False):
    """A device that others refer to."""

    id: str = ""
    type: Raw = RAW
    udiCarrier: tuple[Carrier, ...] = ()


class DeviceUseStatement(_Event, frozen=True, gc=False):
    """The use of a device."""

    device: Reference = NO_REFERENCE
    timingDateTime: str | None = None
    timingDateTime_: Primitive = field(default=NONE, name="_timingDateTime")
    timingPeriod: Period = NO_PERIOD


class Attachment(_Part, frozen=True, gc=False):
    """Text or a file, base64."""

    contentType: str | None = None
    data: str | None = None


class Content(_Part, frozen=True, gc=False):
    """The content of a document."""

    attachment: Attachment = Attachment()


class DocumentContext(_Part, frozen=True, gc=False):
    """Where a document belongs."""

    encounter: tuple[Reference, ...] = ()


class DocumentReference(_Event, frozen=True, gc=False):
    """A document."""

    type: Raw = RAW
    date: str | None = None
    date_: Primitive = field(default=NONE, name="_date")
    content: tuple[Content, ...] = ()
    context: DocumentContext = DocumentContext()


class DiagnosticReport(_Event, frozen=True, gc=False):
    """A report over observations."""

    effectiveDateTime: str | None = None
    effectiveDateTime_: Primitive = field(default=NONE, name="_effectiveDateTime")
    effectivePeriod: Period = NO_PERIOD
    issued: str | None = None
    result: tuple[Reference, ...] = ()
    presentedForm: tuple[Attachment, ...] = ()


class CarePlan(_Event, frozen=True, gc=False):
    """A plan of care."""

    category: Raw = RAW
    period: Period = NO_PERIOD
    created: str | None = None


class Series(_Part, frozen=True, gc=False):
    """A series of images."""

    modality: Raw = RAW


class ImagingStudy(_Event, frozen=True, gc=False):
    """An imaging study."""

    started: str | None = None
    started_: Primitive = field(default=NONE, name="_started")
    procedureCode: Raw = RAW
    series: tuple[Series, ...] = ()


class AdverseEvent(_Event, frozen=True, gc=False):
    """An adverse event."""

    event: Raw = RAW
    severity: Raw = RAW
    date: str | None = None
    date_: Primitive = field(default=NONE, name="_date")
    detected: str | None = None
    detected_: Primitive = field(default=NONE, name="_detected")


class ResearchSubject(_Event, frozen=True, gc=False):
    """Participation in a study."""

    period: Period = NO_PERIOD
    study: Reference = NO_REFERENCE


class Collection(_Part, frozen=True, gc=False):
    """How a specimen was taken."""

    collectedDateTime: str | None = None
    collectedDateTime_: Primitive = field(default=NONE, name="_collectedDateTime")
    collectedPeriod: Period = NO_PERIOD
    quantity: Quantity = NO_QUANTITY
    bodySite: Raw = RAW


class Specimen(_Event, frozen=True, gc=False):
    """A specimen."""

    type: Raw = RAW
    collection: Collection = Collection()


STRUCTS: dict[str, type[Struct]] = {
    struct.__name__: struct
    for struct in (
        AdverseEvent,
        AllergyIntolerance,
        CarePlan,
        Condition,
        Device,
        DeviceUseStatement,
        DiagnosticReport,
        DocumentReference,
        Encounter,
        ImagingStudy,
        Immunization,
        Medication,
        MedicationAdministration,
        MedicationDispense,
        MedicationRequest,
        MedicationStatement,
        Observation,
        Organization,
        Patient,
        Practitioner,
        Procedure,
        ResearchSubject,
        Specimen,
    )
}
"""Struct by resource type."""


def decode(kind: str, texts: list[str]) -> tuple[list[Any], list[int]]:
    """Decode resources of one type.

    Args:
        kind: Resource type; a key of STRUCTS.
        texts: JSON, one resource each.

    Returns:
        The decoded resources, and the positions of those that cannot be decoded: their place holds None.
    """
    struct = STRUCTS[kind]
    try:
        # One call for all: the common case, and half the time of one call each.
        made = msgspec.json.decode(f"[{','.join(texts)}]".encode(), type=list[struct])  # type: ignore[valid-type]
        if len(made) == len(texts):
            return made, []
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        pass
    one = msgspec.json.Decoder(struct).decode
    result: list[Any] = []
    bad: list[int] = []
    for position, text in enumerate(texts):
        try:
            result.append(one(text.encode()))
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
            result.append(None)
            bad.append(position)
    return result, bad
