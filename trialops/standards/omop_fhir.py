"""OMOP tables back to FHIR R4 resources.

A row that came from a FHIR resource becomes that resource again, under its id; the provenance table says which. Rows
of other origin get the type that fits their table, and their key as id. What the model has no field for (statuses,
categories, performers beyond the first) does not come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialops.standards import cdm
from trialops.standards.omop_cdm import Cdm, concept_field
from trialops.standards.omop_facts import facts
from trialops.standards.omop_fhir_parts import ACT, AMBULATORY, BODIES, Names, Resource, clean, value_of

if TYPE_CHECKING:
    import polars as pl

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


def _all(made: Cdm) -> Iterator[Resource]:
    import polars as pl

    origin = made.provenance
    ids = {
        table: dict(origin.filter(pl.col("table") == table).select("row_id", "source_id").iter_rows())
        for table in ("person", "visit_occurrence", "visit_detail", "care_site", "provider")
    }
    names = Names(
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


def _places(made: Cdm, names: Names) -> Iterator[Resource]:
    homes = {row["location_id"]: row for row in made.tables["location"].rows(named=True)}
    for row in made.tables["care_site"].rows(named=True):
        name = row["care_site_name"] or row["care_site_source_value"]
        address = _address(homes.get(row["location_id"]))
        yield clean(
            {
                "resourceType": "Organization",
                "id": names.sites[row["care_site_id"]],
                "name": name,
                "address": [address] if address else None,
            }
        )
    for row in made.tables["provider"].rows(named=True):
        gender = _gender(row["gender_concept_id"], row["gender_source_value"])
        yield clean({"resourceType": "Practitioner", "id": names.providers[row["provider_id"]], "gender": gender})


def _address(row: Mapping[str, Any] | None) -> Resource:
    if row is None:
        return {}
    return clean(
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


def _people(made: Cdm, names: Names) -> Iterator[Resource]:
    import polars as pl

    homes = {row["location_id"]: row for row in made.tables["location"].rows(named=True)}
    deaths = {row["person_id"]: row for row in made.tables["death"].rows(named=True)}
    zones = dict(made.provenance.filter(pl.col("table") == "death").select("row_id", "zone").iter_rows())
    for row in made.tables["person"].rows(named=True):
        death = deaths.get(row["person_id"])
        address = _address(homes.get(row["location_id"]))
        site = names.sites.get(row["care_site_id"])
        provider = names.provider(row)
        yield clean(
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


def _death(row: Mapping[str, Any] | None, zone: str | None, names: Names) -> Resource:
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


def _visits(made: Cdm, names: Names) -> Iterator[Resource]:
    classes = {concept: code for code, concept in reversed(list(facts().visits.items())) if code != "SV"}
    for table, prefix in (("visit_occurrence", "visit"), ("visit_detail", "visit_detail")):
        for row in _rows(made, table):
            value = row[f"{prefix}_source_value"]
            known = value if value in facts().visits and value != "SV" else None
            code = known or classes.get(row[f"{prefix}_concept_id"], AMBULATORY)
            site = names.sites.get(row["care_site_id"])
            provider = names.provider(row)
            parent = row.get("parent_visit_detail_id") or (
                row.get("visit_occurrence_id") if prefix != "visit" else None
            )
            yield clean(
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


def _events(tables: Mapping[str, Sequence[dict[str, Any]]], names: Names) -> Iterator[Resource]:
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
        resource = clean(
            {
                "resourceType": kind,
                "id": key,
                **BODIES[kind](first, names, table, names.code(first, _field(table))),
                "encounter": names.encounter(first) if kind in _WITH_ENCOUNTER else None,
            }
        )
        pieces = [
            clean({"code": names.code(row, _field(home)), **value_of(row, names)})
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
