"""Parts of FHIR resources made from OMOP rows: names, codes, dates, values, and the body of each type."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trialops.standards import calendar
from trialops.standards.omop_facts import facts

Resource = dict[str, Any]
UCUM = "http://unitsofmeasure.org"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
CLINICAL_CODES = frozenset({"active", "recurrence", "relapse", "inactive", "remission", "resolved"})
AMBULATORY = "AMB"


@dataclass(frozen=True)
class Names:
    """What ids and codes are called in FHIR.

    Attributes:
        patients, encounters, providers, sites: Key -> id.
        concepts: concept_id -> (system or None, code, name).
        study_days: Whether dates are study days.
    """

    patients: Mapping[int, str]
    encounters: Mapping[int, str]
    providers: Mapping[int, str]
    sites: Mapping[int, str]
    concepts: Mapping[int, tuple[str | None, str, str]]
    study_days: bool

    def patient(self, row: Mapping[str, Any]) -> Resource:
        """The reference to a row's person."""
        return {"reference": f"Patient/{self.patients[row['person_id']]}"}

    def encounter(self, row: Mapping[str, Any]) -> Resource | None:
        """The reference to a row's visit, the inner one where there are two."""
        key = row.get("visit_detail_id") or row.get("visit_occurrence_id") or 0
        return {"reference": f"Encounter/{self.encounters[key]}"} if key in self.encounters else None

    def provider(self, row: Mapping[str, Any]) -> Resource | None:
        """The reference to a row's provider."""
        key = row.get("provider_id") or 0
        return {"reference": f"Practitioner/{self.providers[key]}"} if key in self.providers else None

    def when(self, name: str, day: dt.date | None, time: dt.datetime | None, zone: str | None) -> Resource:
        """A date element; with its time where the zone is known, as FHIR asks. A study day is an extension."""
        if day is None:
            return {}
        if self.study_days:
            return {f"_{name}": _study_day(day)}
        return {name: time.isoformat(timespec="seconds") + zone if time is not None and zone else day.isoformat()}

    def period(self, row: Mapping[str, Any], start: str, end: str) -> Resource:
        """A period from the columns `<start>_date(time)` and `<end>_date(time)`."""
        return {
            **self.when("start", row[f"{start}_date"], row[f"{start}_datetime"], row["zone"]),
            **self.when("end", row[f"{end}_date"], row[f"{end}_datetime"], row["end_zone"]),
        }

    def code(self, row: Mapping[str, Any], field: str) -> Resource:
        """A CodeableConcept: the source code, and the standard concept beside it where that is another."""
        value, system = row[f"{field}_source_value"], row["system"]
        given = row["code"]
        codings = []
        source = self.concepts.get(row[f"{field}_source_concept_id"] or 0)
        if source is not None and source[0]:
            codings.append({"system": source[0], "code": source[1], "display": source[2]})
        elif given:
            codings.append(clean({"system": system, "code": given}))
        standard = self.concepts.get(row[f"{field}_concept_id"] or 0)
        if standard is not None and standard[0] and all(c["code"] != standard[1] for c in codings):
            codings.append({"system": standard[0], "code": standard[1], "display": standard[2]})
        if codings:
            return clean({"coding": codings, "text": value if value != given else None})
        return {"text": value or "unknown"}


def _study_day(day: dt.date) -> Resource:
    return {"extension": [{"url": calendar.STUDY_DAY_URL, "valueInteger": calendar.day_of(day)}]}


def clean(resource: Resource) -> Resource:
    """Without elements that hold nothing."""
    return {name: value for name, value in resource.items() if value is not None and value not in ("", {}, [])}


def _span(row: Mapping[str, Any], table: str) -> tuple[Any, Any, Any, Any]:
    """Start and end of an event: day, time, day, time."""
    name = table if table.endswith("exposure") else table.partition("_")[0]
    point = table in ("procedure_occurrence", "measurement", "observation", "specimen")
    start = name if point else f"{name}_start"
    last = "verbatim_end_date" if table == "drug_exposure" else f"{name}_end_date"
    return row[f"{start}_date"], row.get(f"{start}_datetime"), row.get(last), row.get(f"{name}_end_datetime")


def _when(row: Mapping[str, Any], names: Names, table: str, moment: str, period: str) -> Resource:
    """A date, or a period where an end is known."""
    start, start_time, end, end_time = _span(row, table)
    if end is None:
        return names.when(moment, start, start_time, row["zone"])
    span = {
        **names.when("start", start, start_time, row["zone"]),
        **names.when("end", end, end_time, row["end_zone"]),
    }
    return {period: span}


def _condition(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    start, start_time, end, end_time = _span(row, table)
    status = row.get("condition_status_source_value")
    clinical = status if status in CLINICAL_CODES else "resolved" if end else "active"
    return {
        "clinicalStatus": {"coding": [{"system": CLINICAL, "code": clinical}]},
        "verificationStatus": {"coding": [{"system": VERIFIED, "code": "confirmed"}]},
        "code": code,
        "subject": names.patient(row),
        **names.when("onsetDateTime", start, start_time, row["zone"]),
        **names.when("abatementDateTime", end, end_time, row["end_zone"]),
        "asserter": names.provider(row),
    }


def _observation(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    provider = names.provider(row)
    return {
        "status": "final",
        "code": code,
        "subject": names.patient(row),
        **_when(row, names, table, "effectiveDateTime", "effectivePeriod"),
        **({} if row["part"] else value_of(row, names)),
        "performer": [provider] if provider else None,
    }


def value_of(row: Mapping[str, Any], names: Names) -> Resource:
    """The value of a measurement or observation, and its range."""
    made: Resource = {}
    number, unit = row.get("value_as_number"), row.get("unit_source_value")
    if number is not None:
        comparator = {concept: sign for sign, concept in facts().operators.items()}.get(
            row.get("operator_concept_id") or 0
        )
        known = row["unit_system"]
        made["valueQuantity"] = clean(
            {
                "value": number,
                "comparator": comparator if comparator != "=" else None,
                "unit": unit,
                "system": known,
                "code": unit if known else None,
            }
        )
    elif row.get("value_code"):
        made["valueCodeableConcept"] = {"coding": [clean({"system": row["value_system"], "code": row["value_code"]})]}
    elif row.get("value_as_string") or row.get("value_source_value"):
        made["valueString"] = row.get("value_as_string") or row.get("value_source_value")
    ends = {side: row.get(f"range_{side}") for side in ("low", "high")}
    if any(value is not None for value in ends.values()):
        span = {side: clean({"value": v, "unit": unit}) for side, v in ends.items() if v is not None}
        made["referenceRange"] = [span]
    return made


def _procedure(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    return {
        "status": "completed",
        "code": code,
        "subject": names.patient(row),
        **_when(row, names, table, "performedDateTime", "performedPeriod"),
    }


def _route(row: Mapping[str, Any]) -> Resource | None:
    return {"text": row["route_source_value"]} if row.get("route_source_value") else None


def _request(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    start, start_time, end, end_time = _span(row, table)
    dosage = clean({"text": row.get("sig"), "route": _route(row)})
    quantity, supply = row.get("quantity"), row.get("days_supply")
    dispense = clean(
        {
            "validityPeriod": {**names.when("end", end, end_time, row["end_zone"])} if end else None,
            "quantity": {"value": quantity} if quantity is not None else None,
            "numberOfRepeatsAllowed": row.get("refills"),
            "expectedSupplyDuration": {"value": supply, "unit": "d", "system": UCUM, "code": "d"} if supply else None,
        }
    )
    return {
        "status": "unknown",
        "intent": "order",
        "medicationCodeableConcept": code,
        "subject": names.patient(row),
        **names.when("authoredOn", start, start_time, row["zone"]),
        "requester": names.provider(row),
        "dosageInstruction": [dosage] if dosage else None,
        "dispenseRequest": dispense,
    }


def _administration(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    quantity, unit = row.get("quantity"), row.get("dose_unit_source_value")
    dose = clean({"value": quantity, "unit": unit})
    dosage = clean({"text": row.get("sig"), "route": _route(row), "dose": dose if quantity is not None else None})
    return {
        "status": "completed",
        "medicationCodeableConcept": code,
        "subject": names.patient(row),
        "context": names.encounter(row),
        **_when(row, names, table, "effectiveDateTime", "effectivePeriod"),
        # FHIR wants a dose or a rate in a dosage.
        "dosage": dosage if "dose" in dosage or "text" in dosage else None,
    }


def _statement(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    dosage = clean({"text": row.get("sig"), "route": _route(row)})
    return {
        "status": "unknown",
        "medicationCodeableConcept": code,
        "subject": names.patient(row),
        "context": names.encounter(row),
        **_when(row, names, table, "effectiveDateTime", "effectivePeriod"),
        "dosage": [dosage] if dosage else None,
    }


def _immunization(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    start, start_time, _, _ = _span(row, table)
    return {
        "status": "completed",
        "vaccineCode": code,
        "patient": names.patient(row),
        **names.when("occurrenceDateTime", start, start_time, row["zone"]),
        "lotNumber": row.get("lot_number"),
        "route": _route(row),
    }


def _allergy(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    start, start_time, _, _ = _span(row, table)
    return {
        "code": code,
        "patient": names.patient(row),
        **names.when("onsetDateTime", start, start_time, row["zone"]),
    }


def _device(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    text = code.get("text") or code["coding"][0]["code"]
    return {
        "status": "active",
        "subject": names.patient(row),
        "device": {"display": text},
        **_when(row, names, table, "timingDateTime", "timingPeriod"),
    }


def _specimen(row: Mapping[str, Any], names: Names, table: str, code: Resource) -> Resource:
    day, time, _, _ = _span(row, table)
    return {
        "type": code,
        "subject": names.patient(row),
        "collection": names.when("collectedDateTime", day, time, row["zone"]),
    }


BODIES = {
    "AllergyIntolerance": _allergy,
    "Condition": _condition,
    "DeviceUseStatement": _device,
    "Immunization": _immunization,
    "MedicationAdministration": _administration,
    "MedicationRequest": _request,
    "MedicationStatement": _statement,
    "Observation": _observation,
    "Procedure": _procedure,
    "Specimen": _specimen,
}
