"""FHIR to OMOP, resource by resource: values, dates, routing, links, and what becomes of the rest."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from tests.support.athena import Athena
from tests.support.fhir_samples import (
    LOINC,
    RXNORM,
    SNOMED,
    about,
    concept,
    encounter,
    measured,
    patient,
    quantity,
    tables,
)
from trialops.standards import cdm_load, fhir_source, vocabulary
from trialops.standards.fhir_source import read_fhir
from trialops.standards.omop import build
from trialops.standards.omop_cdm import Cdm
from trialops.standards.omop_people import NO_BIRTH

DAY = {"url": "urn:trialops:study-day"}


def mapped(*resources: dict[str, Any], words: vocabulary.Vocabulary | None = None, texts: bool = False) -> Cdm:
    made = build(read_fhir(tables(*resources), texts=texts), words or vocabulary.none())
    assert cdm_load.violations(made.tables).height == 0
    given = made.dispositions()
    assert (given["read"] == given["loaded"] + given["quarantined"] + given["ignored"]).all()
    return made


def one(made: Cdm, table: str) -> dict[str, Any]:
    assert made.tables[table].height == 1
    return made.tables[table].row(0, named=True)


def reasons(made: Cdm) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in made.outcomes.iter_rows(named=True)}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vocabulary.Vocabulary]:
    """Glucose is a measurement; one LOINC code is about a condition; one condition code maps to two concepts."""
    made = Athena()
    made.concept("LOINC", "2345-7", "Glucose", "Measurement")
    made.concept("LOINC", "11450-4", "Problem", "Condition")
    made.concept("SNOMED", "10828004", "Positive", "Meas Value")
    old = made.concept("SNOMED", "100", "old", "Condition", standard=False)
    for target, domain in (("101", "Condition"), ("102", "Observation")):
        made.relate(old, "Maps to", made.concept("SNOMED", target, target, domain))
    dead = made.concept("SNOMED", "200", "dead", "Condition", standard=False, invalid_reason="U")
    made.relate(dead, "Maps to", made.concept("SNOMED", "201", "late", "Condition"), valid_end_date="20200102")
    made.relate(dead, "Maps to", made.concept("SNOMED", "202", "not standard", "Condition", standard=False))
    newer = made.concept("SNOMED", "301", "newer", "Condition")
    made.relate(newer, "Maps to", newer, valid_start_date="20210601")
    folder = tmp_path_factory.mktemp("athena")
    yield vocabulary.load(made.write(folder / "download"), folder / "store")


def concept_code(made: Cdm, concept_id: int) -> str:
    return str(made.tables["concept"].filter(pl.col("concept_id") == concept_id)["concept_code"][0])


# -- persons and visits ----------------------------------------------------------------------------------------


def test_person() -> None:
    race = {
        "url": fhir_source._RACE,
        "extension": [
            {"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"}},
            {"url": "text", "valueString": "White"},
        ],
    }
    made = mapped(
        patient(
            extension=[race],
            deceasedDateTime="2021-02-03T04:05:06Z",
            address=[{"line": ["Main St 1"], "city": "X", "state": "MA", "postalCode": "02136-1856", "country": "US"}],
        )
    )
    person = one(made, "person")
    assert (person["gender_concept_id"], person["year_of_birth"], person["month_of_birth"]) == (8532, 1950, 3)
    assert (person["race_concept_id"], person["race_source_value"], person["ethnicity_concept_id"]) == (
        8527,
        "2106-3",
        0,
    )
    assert person["birth_datetime"] == dt.datetime(1950, 3, 4)
    location = one(made, "location")
    assert location["location_id"] == person["location_id"]
    assert (location["state"], location["zip"]) == ("MA", "021361856")
    assert one(made, "death")["death_datetime"] == dt.datetime(2021, 2, 3, 4, 5, 6)


def test_partial_birth_date_and_none() -> None:
    made = mapped(
        patient("a", birthDate="1950"), patient("b", birthDate="1950-07"), {"resourceType": "Patient", "id": "c"}
    )
    months = dict(made.tables["person"].select("person_source_value", "month_of_birth").iter_rows())
    assert months == {"a": None, "b": 7}
    assert reasons(made) == {"c": NO_BIRTH}


def test_visits_within_visits() -> None:
    made = mapped(
        patient(),
        encounter("stay", **{"class": {"code": "IMP"}}),
        encounter("ward", partOf={"reference": "Encounter/stay"}),
        encounter("bed", partOf={"reference": "Encounter/ward"}),
        encounter("next", day="2020-06-01"),
        measured(encounter={"reference": "Encounter/bed"}),
    )
    visits, details = made.tables["visit_occurrence"], made.tables["visit_detail"]
    stay = visits.filter(pl.col("visit_concept_id") == 9201).row(0, named=True)
    assert visits.height == 2
    assert set(details["visit_occurrence_id"]) == {stay["visit_occurrence_id"]}
    assert details["parent_visit_detail_id"].null_count() == 1
    later = visits.filter(pl.col("visit_concept_id") == 9202).row(0, named=True)
    assert later["preceding_visit_occurrence_id"] == stay["visit_occurrence_id"]
    value = one(made, "measurement")
    assert value["visit_occurrence_id"] == stay["visit_occurrence_id"]
    assert value["visit_detail_id"] in details["visit_detail_id"].to_list()


def test_visits_in_a_circle_are_visits() -> None:
    made = mapped(
        patient(),
        encounter("a", partOf={"reference": "Encounter/b"}),
        encounter("b", partOf={"reference": "Encounter/a"}),
    )
    assert made.tables["visit_occurrence"].height == 2


def test_a_class_that_the_vocabulary_lacks_is_no_concept() -> None:
    visit = one(mapped(patient(), encounter(**{"class": {"code": "HH"}})), "visit_occurrence")
    assert (visit["visit_concept_id"], visit["visit_source_value"]) == (0, "HH")


def test_places_that_nobody_describes_are_known_by_name() -> None:
    made = mapped(
        patient(),
        encounter(
            serviceProvider={"reference": "Organization/o"},
            participant=[{"individual": {"reference": "Practitioner/d"}}],
        ),
        {"resourceType": "Organization", "id": "other", "name": "Other"},
    )
    sites = dict(made.tables["care_site"].select("care_site_source_value", "care_site_name").iter_rows())
    assert sites == {"o": None, "other": "Other"}
    assert one(made, "provider")["provider_source_value"] == "d"


# -- values and dates ------------------------------------------------------------------------------------------


def test_measurement() -> None:
    value = one(
        mapped(
            patient(),
            encounter(),
            measured(
                valueQuantity={**quantity(5.5, "mmol/L"), "comparator": "<"},
                referenceRange=[{"low": {"value": 3}, "high": {"value": 6.1}}],
            ),
        ),
        "measurement",
    )
    assert (value["value_as_number"], value["operator_concept_id"]) == (5.5, 4171756)
    assert (value["unit_concept_id"], value["unit_source_value"]) == (8753, "mmol/L")
    assert (value["range_low"], value["range_high"]) == (3.0, 6.1)
    assert value["measurement_datetime"] == dt.datetime(2020, 5, 1, 8, 30)
    assert (value["measurement_concept_id"], value["measurement_source_value"]) == (0, "2345-7")
    assert value["measurement_type_concept_id"] == 32817


def test_components_beside_their_panel() -> None:
    pressure = measured(
        code=concept(LOINC, "85354-9"),
        valueQuantity=None,
        component=[
            {"code": concept(LOINC, "8480-6"), "valueQuantity": quantity(120, "mm[Hg]")},
            {"code": concept(LOINC, "8462-4"), "valueQuantity": quantity(80, "mm[Hg]")},
        ],
    )
    rows = mapped(patient(), encounter(), pressure).tables["measurement"]
    values = dict(rows.select("measurement_source_value", "value_as_number").iter_rows())
    assert values == {"85354-9": None, "8480-6": 120.0, "8462-4": 80.0}


@pytest.mark.parametrize(
    ("value", "column", "expected"),
    [
        ({"valueString": "turbid"}, "value_as_string", "turbid"),
        ({"valueBoolean": True}, "value_as_string", "true"),
        ({"valueInteger": 3}, "value_as_number", 3.0),
        ({"valueCodeableConcept": concept(SNOMED, "10828004")}, "value_source_value", "10828004"),
        ({"valueCodeableConcept": {"text": "never"}}, "value_source_value", "never"),
    ],
)
def test_value_types(value: dict[str, Any], column: str, expected: Any) -> None:
    social = [concept("http://terminology.hl7.org/CodeSystem/observation-category", "social-history")]
    row = one(mapped(patient(), measured(valueQuantity=None, category=social, encounter=None, **value)), "observation")
    assert row[column] == expected


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2020", "2020", ("2020-01-01", "2020-12-31")),
        ("2020-02", "2020-02", ("2020-02-01", "2020-02-29")),
        ("2020-02-03", "2020-02-04T23:59:00Z", ("2020-02-03", "2020-02-04")),
        ("2020-05-01", "2019", ("2020-05-01", None)),
    ],
)
def test_partial_dates(start: str, end: str, days: tuple[str, str | None]) -> None:
    sick = about("Condition", "c", code=concept(SNOMED, "1"), onsetDateTime=start, abatementDateTime=end)
    row = one(mapped(patient(), sick), "condition_occurrence")
    found = [None if d is None else d.isoformat() for d in (row["condition_start_date"], row["condition_end_date"])]
    assert found == list(days)


def test_without_a_date_the_visit_says_when() -> None:
    row = one(mapped(patient(), encounter(), measured(effectiveDateTime=None)), "measurement")
    assert (row["measurement_date"], row["measurement_datetime"]) == (dt.date(2020, 5, 1), None)


def test_an_event_that_names_no_visit_is_linked_by_day() -> None:
    made = mapped(
        patient(),
        encounter("e1"),
        measured("on", encounter=None),
        measured("off", encounter=None, effectiveDateTime="2020-05-02"),
    )
    linked = dict(made.tables["measurement"].select("measurement_date", "visit_occurrence_id").iter_rows())
    assert linked[dt.date(2020, 5, 1)] == one(made, "visit_occurrence")["visit_occurrence_id"]
    assert linked[dt.date(2020, 5, 2)] is None


def test_another_persons_visit_is_not_linked() -> None:
    made = mapped(patient(), patient("p2"), encounter("e1", "p2"), measured(effectiveDateTime="2019-01-01"))
    assert one(made, "measurement")["visit_occurrence_id"] is None


# -- medicines -------------------------------------------------------------------------------------------------


def test_prescription() -> None:
    row = one(
        mapped(
            patient(),
            about(
                "MedicationRequest",
                "m",
                status="active",
                intent="order",
                medicationCodeableConcept=concept(RXNORM, "1"),
                authoredOn="2020-01-01",
                dosageInstruction=[{"text": "one a day", "route": {"text": "oral"}}],
                dispenseRequest={
                    "quantity": {"value": 30},
                    "numberOfRepeatsAllowed": 2,
                    "expectedSupplyDuration": quantity(4, "wk"),
                },
            ),
        ),
        "drug_exposure",
    )
    assert (row["quantity"], row["refills"], row["days_supply"]) == (30.0, 2, 28)
    assert row["drug_exposure_end_date"] == dt.date(2020, 1, 28)
    assert row["verbatim_end_date"] is None
    assert (row["sig"], row["route_source_value"]) == ("one a day", "oral")


@pytest.mark.parametrize("place", ["shared", "contained"])
def test_medicine_in_another_resource(place: str) -> None:
    medicine = {"resourceType": "Medication", "id": "med", "code": concept(RXNORM, "77")}
    given = about(
        "MedicationAdministration",
        "a",
        status="completed",
        medicationReference={"reference": "Medication/med" if place == "shared" else "#med"},
        effectiveDateTime="2020-01-01",
        **({} if place == "shared" else {"contained": [medicine]}),
    )
    made = mapped(patient(), given, *([medicine] if place == "shared" else []))
    assert one(made, "drug_exposure")["drug_source_value"] == "77"


# -- routing ---------------------------------------------------------------------------------------------------


def test_the_domain_of_the_concept_decides(words: vocabulary.Vocabulary) -> None:
    made = mapped(patient(), measured(code=concept(LOINC, "11450-4"), encounter=None), words=words)
    row = one(made, "condition_occurrence")
    assert made.tables["measurement"].height == 0
    assert concept_code(made, row["condition_concept_id"]) == "11450-4"


def test_one_code_two_concepts(words: vocabulary.Vocabulary) -> None:
    made = mapped(
        patient(), about("Condition", "c", code=concept(SNOMED, "100"), onsetDateTime="2020-01-01"), words=words
    )
    condition, other = one(made, "condition_occurrence"), one(made, "observation")
    assert concept_code(made, condition["condition_concept_id"]) == "101"
    assert concept_code(made, other["observation_concept_id"]) == "102"
    assert condition["condition_source_concept_id"] == other["observation_source_concept_id"]
    assert concept_code(made, condition["condition_source_concept_id"]) == "100"
    assert made.dispositions().row(0) == ("Condition", 1, 1, 0, 0)


def test_relations_count_while_they_are_valid(words: vocabulary.Vocabulary) -> None:
    sick = [about("Condition", c, code=concept(SNOMED, c), onsetDateTime="2020-01-01") for c in ("200", "301")]
    made = mapped(patient(), *sick, words=words)
    found = dict(
        made.tables["condition_occurrence"].select("condition_source_value", "condition_concept_id").iter_rows()
    )
    assert found["200"] == 0
    assert concept_code(made, found["301"]) == "301"
    # The newest relation of the download says on which day mappings must be valid.
    assert words.at == dt.date(2021, 6, 1)


def test_the_coding_that_maps_is_taken(words: vocabulary.Vocabulary) -> None:
    several = {"coding": [{"system": "urn:local", "code": "x"}, {"system": LOINC, "code": "2345-7"}]}
    made = mapped(patient(), measured(code=several, encounter=None), words=words)
    row = one(made, "measurement")
    assert row["measurement_source_value"] == "2345-7"
    assert row["measurement_concept_id"] > 0


def test_value_as_concept(words: vocabulary.Vocabulary) -> None:
    positive = measured(valueQuantity=None, valueCodeableConcept=concept(SNOMED, "10828004"), encounter=None)
    made = mapped(patient(), positive, words=words)
    assert concept_code(made, one(made, "measurement")["value_as_concept_id"]) == "10828004"


def test_unmapped_codes_are_counted_and_texts_are_not_shown() -> None:
    made = mapped(
        patient(),
        measured("a", encounter=None),
        measured("b", encounter=None),
        measured("c", code={"text": "Mrs Miller's glucose"}, encounter=None),
    )
    assert made.unmapped_rows() == 3
    listed = made.unmapped().rows()
    assert listed == [("measurement", LOINC, "2345-7", 2), ("measurement", "", "(text without a code)", 1)]


# -- dispositions ----------------------------------------------------------------------------------------------


def test_what_is_not_loaded_has_a_reason() -> None:
    made = mapped(
        patient(),
        measured("wrong", status="entered-in-error"),
        measured("stranger", subject="nobody"),
        measured("when", effectiveDateTime=None, encounter=None),
        measured("broken", valueQuantity={"value": "many"}),
        about("Condition", "not", code=concept(SNOMED, "1"), verificationStatus=concept("x", "refuted")),
        about("CareTeam", "team"),
        about("Basic", "odd"),
    )
    assert reasons(made) == {
        "wrong": "entered in error",
        "stranger": "its person is not among the patients",
        "when": "no date",
        "broken": "an element has a type that FHIR R4 does not allow there",
        "not": "refuted",
    }
    whole = {row["kind"]: row["reason"] for row in made.reasons().iter_rows(named=True) if row["kind"] in made.ignored}
    assert whole["CareTeam"].startswith("people around")
    assert whole["Basic"] == "the model has no place for this type"


@pytest.mark.parametrize("texts", [True, False])
def test_notes_only_after_deidentification(texts: bool) -> None:
    note = about(
        "DocumentReference",
        "n",
        status="current",
        type=concept(LOINC, "11506-3"),
        date="2020-05-01T10:00:00Z",
        content=[{"attachment": {"contentType": "text/plain", "data": base64.b64encode(b"fine").decode()}}],
    )
    made = mapped(patient(), encounter(), note, texts=texts)
    if texts:
        row = one(made, "note")
        assert (row["note_text"], row["note_source_value"]) == ("fine", "11506-3")
        assert row["visit_occurrence_id"] is not None
    else:
        assert made.tables["note"].height == 0
        assert made.ignored["DocumentReference"] == fhir_source.IDENTIFIABLE


def test_study_days() -> None:
    """Safe Harbor: years alone, and days beside them; the dates lie on the study calendar."""
    made = mapped(
        {
            "resourceType": "Patient",
            "id": "p1",
            "birthDate": "1950",
            "_birthDate": {"extension": [{"url": "urn:trialops:age", "valueInteger": 63}]},
        },
        {"resourceType": "Patient", "id": "unknown", "birthDate": "1950"},
        measured(
            effectiveDateTime="2014",
            _effectiveDateTime={"extension": [{**DAY, "valueInteger": 12}]},
            encounter=None,
        ),
        about(
            "Encounter",
            "e",
            status="finished",
            period={"start": "2014", "_start": {"extension": [{**DAY, "valueInteger": -2}]}},
            **{"class": {"code": "AMB"}},
        ),
        measured("year", effectiveDateTime="2014", encounter=None),
    )
    assert made.study_days
    assert one(made, "measurement")["measurement_date"] == dt.date(2000, 1, 12)
    assert one(made, "visit_occurrence")["visit_start_date"] == dt.date(1999, 12, 30)
    years = dict(made.tables["person"].select("person_source_value", "year_of_birth").iter_rows())
    assert years == {"p1": 1937}
    assert reasons(made) == {"year": "no date", "unknown": NO_BIRTH}


def test_keys_are_the_same_in_every_run() -> None:
    first = mapped(patient(), encounter(), measured())
    again = mapped(patient(), encounter(), measured("other"), measured())
    key = one(first, "measurement")["measurement_id"]
    assert key == 8139570893377598229
    assert key in again.tables["measurement"]["measurement_id"].to_list()
