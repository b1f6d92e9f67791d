"""OMOP tables back to FHIR R4 resources.

A row that came from a FHIR resource becomes that resource again, under its id; the provenance table says which. Rows
of other origin get the type that fits their table, and their key as id. What the model has no field for (statuses,
categories, performers beyond the first) does not come back.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.standards import calendar, cdm
from trialops.standards.omop import Cdm, concept_field
from trialops.standards.omop_facts import facts

if TYPE_CHECKING:
    import polars as pl

Resource = dict[str, Any]
UCUM = "http://unitsofmeasure.org"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
CLINICAL_CODES = frozenset({"active", "recurrence", "relapse", "inactive", "remission", "resolved"})
_AMBULATORY = "AMB"

TYPES = {
    "condition_occurrence": "Condition",
    "drug_exposure": "MedicationStatement",
    "procedure_occurrence": "Procedure",
    "measurement": "Observation",
    "observation": "Observation",
    "device_exposure": "DeviceUseStatement",
    "specimen": "Specimen",
}
"""Type of a row that did not come from FHIR."""
RETURNED = frozenset(
    {
        "AllergyIntolerance",
        "Condition",
        "Immunization",
        "MedicationAdministration",
        "MedicationRequest",
        "MedicationStatement",
        "Observation",
        "Procedure",
    }
)
"""Types that come back as themselves; others as the type that fits their table, under their own id."""


def to_fhir(made: Cdm) -> dict[str, list[Resource]]:
    """All resources, by type, sorted by id.

    Args:
        made: Tables and their provenance.
    """
    found: dict[str, list[Resource]] = {}
    for resource in _all(made):
        found.setdefault(resource["resourceType"], []).append(resource)
    return {kind: sorted(found[kind], key=lambda r: str(r["id"])) for kind in sorted(found)}


@dataclass(frozen=True)
class _Names:
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
        return {"reference": f"Patient/{self.patients[row['person_id']]}"}

    def encounter(self, row: Mapping[str, Any]) -> Resource | None:
        key = row.get("visit_detail_id") or row.get("visit_occurrence_id") or 0
        return {"reference": f"Encounter/{self.encounters[key]}"} if key in self.encounters else None

    def provider(self, row: Mapping[str, Any]) -> Resource | None:
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
            codings.append(_clean({"system": system, "code": given}))
        standard = self.concepts.get(row[f"{field}_concept_id"] or 0)
        if standard is not None and standard[0] and all(c["code"] != standard[1] for c in codings):
            codings.append({"system": standard[0], "code": standard[1], "display": standard[2]})
        if codings:
            return _clean({"coding": codings, "text": value if value != given else None})
        return {"text": value or "unknown"}


def _study_day(day: dt.date) -> Resource:
    return {"extension": [{"url": calendar.STUDY_DAY_URL, "valueInteger": calendar.day_of(day)}]}


def _all(made: Cdm) -> Iterator[Resource]:
    import polars as pl

    origin = made.provenance
    ids = {
        table: dict(origin.filter(pl.col("table") == table).select("row_id", "source_id").iter_rows())
        for table in ("person", "visit_occurrence", "visit_detail", "care_site", "provider")
    }
    names = _Names(
        patients=_ids(made, "person", ids["person"]),
        encounters=_ids(made, "visit_occurrence", ids["visit_occurrence"])
        | _ids(made, "visit_detail", ids["visit_detail"]),
        providers=_named(made, "provider"),
        sites=_named(made, "care_site"),
        concepts=_concepts(made.tables["concept"]),
        study_days=made.study_days,
    )
    yield from _places(made, names)
    yield from _people(made, names)
    yield from _visits(made, names)
    yield from _events({table: _rows(made, table) for table in TYPES}, names)


def _ids(made: Cdm, table: str, known: Mapping[int, str]) -> dict[int, str]:
    keys = made.tables[table][cdm.table(table).primary_key or ""].to_list()
    return {key: _fhir_id(known.get(key), key) for key in keys}


def _fhir_id(source: str | None, key: int) -> str:
    """The source's id where it is one in FHIR (SDTM keys have slashes), else the key."""
    fine = source is not None and len(source) <= 64 and all(c.isascii() and (c.isalnum() or c in "-.") for c in source)
    return str(source) if fine else str(key)


def _named(made: Cdm, table: str) -> dict[int, str]:
    rows = made.tables[table].select(f"{table}_id", f"{table}_source_value").iter_rows()
    return {key: _fhir_id(value, key) for key, value in rows}


def _concepts(concepts: pl.DataFrame) -> dict[int, tuple[str | None, str, str]]:
    systems: dict[str, str] = {}
    for url, vocabulary in facts().systems.items():
        systems.setdefault(vocabulary, url)
    rows = concepts.select("concept_id", "vocabulary_id", "concept_code", "concept_name").iter_rows()
    return {key: (systems.get(vocabulary), code, name) for key, vocabulary, code, name in rows if key}


def _rows(made: Cdm, table: str) -> list[dict[str, Any]]:
    """Rows of a table with their provenance; of the rows of one source the first, for they differ in target alone."""
    import polars as pl

    key = cdm.table(table).primary_key or ""
    origin = made.provenance.filter(pl.col("table") == table).drop("table", "person_id")
    joined = made.tables[table].join(origin, left_on=key, right_on="row_id", how="left", maintain_order="left")
    return joined.rename({key: "key"}).rows(named=True)


def _clean(resource: Resource) -> Resource:
    """Without elements that hold nothing."""
    return {name: value for name, value in resource.items() if value is not None and value not in ("", {}, [])}


def _places(made: Cdm, names: _Names) -> Iterator[Resource]:
    homes = {row["location_id"]: row for row in made.tables["location"].rows(named=True)}
    for row in made.tables["care_site"].rows(named=True):
        name = row["care_site_name"] or row["care_site_source_value"]
        address = _address(homes.get(row["location_id"]))
        yield _clean(
            {
                "resourceType": "Organization",
                "id": names.sites[row["care_site_id"]],
                "name": name,
                "address": [address] if address else None,
            }
        )
    for row in made.tables["provider"].rows(named=True):
        gender = _gender(row["gender_concept_id"], row["gender_source_value"])
        yield _clean({"resourceType": "Practitioner", "id": names.providers[row["provider_id"]], "gender": gender})


def _address(row: Mapping[str, Any] | None) -> Resource:
    if row is None:
        return {}
    return _clean(
        {
            "line": [row["address_1"]] if row["address_1"] else None,
            "city": row["city"],
            "state": row["state"],
            "postalCode": row["zip"],
            "country": row["country_source_value"],
        }
    )


def _gender(concept: int | None, value: str | None) -> str | None:
    known = {8507: "male", 8532: "female"}.get(concept or 0)
    return known or (value if value in ("other", "unknown") else "unknown" if value else None)


def _people(made: Cdm, names: _Names) -> Iterator[Resource]:
    import polars as pl

    homes = {row["location_id"]: row for row in made.tables["location"].rows(named=True)}
    deaths = {row["person_id"]: row for row in made.tables["death"].rows(named=True)}
    zones = dict(made.provenance.filter(pl.col("table") == "death").select("row_id", "zone").iter_rows())
    for row in made.tables["person"].rows(named=True):
        death = deaths.get(row["person_id"])
        address = _address(homes.get(row["location_id"]))
        site = names.sites.get(row["care_site_id"])
        provider = names.provider(row)
        yield _clean(
            {
                "resourceType": "Patient",
                "id": names.patients[row["person_id"]],
                "gender": _gender(row["gender_concept_id"], row["gender_source_value"]),
                "birthDate": _birth(row, names.study_days),
                "address": [address] if address else None,
                "generalPractitioner": [provider] if provider else None,
                "managingOrganization": {"reference": f"Organization/{site}"} if site else None,
                **_death(death, zones.get(row["person_id"]), names),
            }
        )


def _death(row: Mapping[str, Any] | None, zone: str | None, names: _Names) -> Resource:
    return {} if row is None else names.when("deceasedDateTime", row["death_date"], row["death_datetime"], zone)


def _birth(row: Mapping[str, Any], study_days: bool) -> str | None:
    if study_days:
        return None  # the year on the study calendar is no year of birth
    parts = [f"{row['year_of_birth']:04d}"]
    for name in ("month_of_birth", "day_of_birth"):
        if row[name] is None:
            break
        parts.append(f"{row[name]:02d}")
    return "-".join(parts)


def _visits(made: Cdm, names: _Names) -> Iterator[Resource]:
    classes = {concept: code for code, concept in reversed(list(facts().visits.items())) if code != "SV"}
    for table, prefix in (("visit_occurrence", "visit"), ("visit_detail", "visit_detail")):
        for row in _rows(made, table):
            value = row[f"{prefix}_source_value"]
            known = value if value in facts().visits and value != "SV" else None
            code = known or classes.get(row[f"{prefix}_concept_id"], _AMBULATORY)
            site = names.sites.get(row["care_site_id"])
            provider = names.provider(row)
            parent = row.get("parent_visit_detail_id") or (
                row.get("visit_occurrence_id") if prefix != "visit" else None
            )
            yield _clean(
                {
                    "resourceType": "Encounter",
                    "id": names.encounters[row["key"]],
                    "status": "finished",
                    "class": {"system": ACT, "code": code},
                    "type": None if known or not value else [{"text": value}],
                    "subject": names.patient(row),
                    "period": names.period(row, f"{prefix}_start", f"{prefix}_end"),
                    "participant": [{"individual": provider}] if provider else None,
                    "serviceProvider": {"reference": f"Organization/{site}"} if site else None,
                    "partOf": {"reference": f"Encounter/{names.encounters[parent]}"} if parent else None,
                }
            )


def _events(tables: Mapping[str, Sequence[dict[str, Any]]], names: _Names) -> Iterator[Resource]:
    """Resources of the event tables: all rows of one source are one resource, its components among them.

    A code that maps to several concepts has made several rows. They differ in the concept alone, and in what their
    table can hold: the row in the table that belongs to the type counts.
    """
    grouped: dict[tuple[str, str], dict[int, tuple[str, dict[str, Any]]]] = {}
    for table, rows in tables.items():
        for row in rows:
            kind = row["kind"] if row["kind"] in RETURNED else TYPES[table]
            parts = grouped.setdefault((kind, _fhir_id(row["source_id"], row["key"])), {})
            place = row["part"] or 0
            if place not in parts or (table in _HOME[kind] and parts[place][0] not in _HOME[kind]):
                parts[place] = (table, row)
    for (kind, key), parts in grouped.items():
        table, first = parts[min(parts)]
        resource = _clean(
            {
                "resourceType": kind,
                "id": key,
                **_BODIES[kind](first, names, table, names.code(first, _field(table))),
                "encounter": names.encounter(first) if kind in _WITH_ENCOUNTER else None,
            }
        )
        pieces = [
            _clean({"code": names.code(row, _field(home)), **_value(row, names)})
            for part, (home, row) in sorted(parts.items())
            if part
        ]
        if kind == "Observation" and pieces:
            resource["component"] = pieces
        yield resource


def _field(table: str) -> str:
    return concept_field(table).removesuffix("_concept_id")


_DRUGS = ("drug_exposure",)
_HOME = {
    "AllergyIntolerance": ("observation",),
    "Condition": ("condition_occurrence",),
    "DeviceUseStatement": ("device_exposure",),
    "Immunization": _DRUGS,
    "MedicationAdministration": _DRUGS,
    "MedicationRequest": _DRUGS,
    "MedicationStatement": _DRUGS,
    "Observation": ("measurement", "observation"),
    "Procedure": ("procedure_occurrence",),
    "Specimen": ("specimen",),
}
_WITH_ENCOUNTER = frozenset(
    {"AllergyIntolerance", "Condition", "Immunization", "MedicationRequest", "Observation", "Procedure"}
)


def _span(row: Mapping[str, Any], table: str) -> tuple[Any, Any, Any, Any]:
    """Start and end of an event: day, time, day, time."""
    name = table if table.endswith("exposure") else table.partition("_")[0]
    point = table in ("procedure_occurrence", "measurement", "observation", "specimen")
    start = name if point else f"{name}_start"
    last = "verbatim_end_date" if table == "drug_exposure" else f"{name}_end_date"
    return row[f"{start}_date"], row.get(f"{start}_datetime"), row.get(last), row.get(f"{name}_end_datetime")


def _when(row: Mapping[str, Any], names: _Names, table: str, moment: str, period: str) -> Resource:
    """A date, or a period where an end is known."""
    start, start_time, end, end_time = _span(row, table)
    if end is None:
        return names.when(moment, start, start_time, row["zone"])
    span = {
        **names.when("start", start, start_time, row["zone"]),
        **names.when("end", end, end_time, row["end_zone"]),
    }
    return {period: span}


def _condition(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
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


def _observation(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
    provider = names.provider(row)
    return {
        "status": "final",
        "code": code,
        "subject": names.patient(row),
        **_when(row, names, table, "effectiveDateTime", "effectivePeriod"),
        **({} if row["part"] else _value(row, names)),
        "performer": [provider] if provider else None,
    }


def _value(row: Mapping[str, Any], names: _Names) -> Resource:
    """The value of a measurement or observation, and its range."""
    made: Resource = {}
    number, unit = row.get("value_as_number"), row.get("unit_source_value")
    if number is not None:
        comparator = {concept: sign for sign, concept in facts().operators.items()}.get(
            row.get("operator_concept_id") or 0
        )
        known = row["unit_system"]
        made["valueQuantity"] = _clean(
            {
                "value": number,
                "comparator": comparator if comparator != "=" else None,
                "unit": unit,
                "system": known,
                "code": unit if known else None,
            }
        )
    elif row.get("value_code"):
        made["valueCodeableConcept"] = {"coding": [_clean({"system": row["value_system"], "code": row["value_code"]})]}
    elif row.get("value_as_string") or row.get("value_source_value"):
        made["valueString"] = row.get("value_as_string") or row.get("value_source_value")
    ends = {side: row.get(f"range_{side}") for side in ("low", "high")}
    if any(value is not None for value in ends.values()):
        span = {side: _clean({"value": v, "unit": unit}) for side, v in ends.items() if v is not None}
        made["referenceRange"] = [span]
    return made


def _procedure(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
    return {
        "status": "completed",
        "code": code,
        "subject": names.patient(row),
        **_when(row, names, table, "performedDateTime", "performedPeriod"),
    }


def _route(row: Mapping[str, Any]) -> Resource | None:
    return {"text": row["route_source_value"]} if row.get("route_source_value") else None


def _request(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
    start, start_time, end, end_time = _span(row, table)
    dosage = _clean({"text": row.get("sig"), "route": _route(row)})
    quantity, supply = row.get("quantity"), row.get("days_supply")
    dispense = _clean(
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


def _administration(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
    quantity, unit = row.get("quantity"), row.get("dose_unit_source_value")
    dose = _clean({"value": quantity, "unit": unit})
    dosage = _clean({"text": row.get("sig"), "route": _route(row), "dose": dose if quantity is not None else None})
    return {
        "status": "completed",
        "medicationCodeableConcept": code,
        "subject": names.patient(row),
        "context": names.encounter(row),
        **_when(row, names, table, "effectiveDateTime", "effectivePeriod"),
        # FHIR wants a dose or a rate in a dosage.
        "dosage": dosage if "dose" in dosage or "text" in dosage else None,
    }


def _statement(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
    dosage = _clean({"text": row.get("sig"), "route": _route(row)})
    return {
        "status": "unknown",
        "medicationCodeableConcept": code,
        "subject": names.patient(row),
        "context": names.encounter(row),
        **_when(row, names, table, "effectiveDateTime", "effectivePeriod"),
        "dosage": [dosage] if dosage else None,
    }


def _immunization(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
    start, start_time, _, _ = _span(row, table)
    return {
        "status": "completed",
        "vaccineCode": code,
        "patient": names.patient(row),
        **names.when("occurrenceDateTime", start, start_time, row["zone"]),
        "lotNumber": row.get("lot_number"),
        "route": _route(row),
    }


def _allergy(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
    start, start_time, _, _ = _span(row, table)
    return {
        "code": code,
        "patient": names.patient(row),
        **names.when("onsetDateTime", start, start_time, row["zone"]),
    }


def _device(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
    text = code.get("text") or code["coding"][0]["code"]
    return {
        "status": "active",
        "subject": names.patient(row),
        "device": {"display": text},
        **_when(row, names, table, "timingDateTime", "timingPeriod"),
    }


def _specimen(row: Mapping[str, Any], names: _Names, table: str, code: Resource) -> Resource:
    day, time, _, _ = _span(row, table)
    return {
        "type": code,
        "subject": names.patient(row),
        "collection": names.when("collectedDateTime", day, time, row["zone"]),
    }


_BODIES = {
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
