"""FHIR de-identification element by element: the 18 identifiers, dates, ages, addresses, attachments, references."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.fhir_people import (
    CLINICIAN,
    EMAIL,
    MRN,
    NAME,
    PHONE,
    STREET,
    TOWN,
    a_patient,
    an_enrolment,
    an_observation,
)
from tests.support.raw_trial import Keys
from trialops.errors import TrialOpsError
from trialops.intake.fhir_tables import to_tables
from trialops.privacy import fhir_dates
from trialops.privacy.deidentify import HIPAAComplianceOperator
from trialops.privacy.fhir_deidentify import FhirDeidentified, deidentify_fhir
from trialops.privacy.fhir_policy import default_fhir_policy, elements, parse

MARKS = (
    NAME,
    "Ada",
    TOWN,
    STREET,
    "Wrexley",
    PHONE,
    EMAIL,
    MRN,
    "999-12-3456",
    "Ploverwick",
    "Vandersloot",
    "555-201-9900",
)


class Letters(Keys):
    """Pseudonyms of letters, as the vault's are."""

    def pseudonyms(self, kind: str, values: list[str]) -> list[str]:
        return [
            base64.b32encode(bytes.fromhex(p + "0000")).decode().lower()[:16] for p in super().pseudonyms(kind, values)
        ]


def run(*resources: dict[str, Any], mode: str = "strict") -> FhirDeidentified:
    return deidentify_fhir(to_tables(resources), mode, Letters(), synthetic=mode == "off")


def one(result: FhirDeidentified, kind: str) -> dict[str, Any]:
    return dict(json.loads(result.tables[kind]["json"][0]))


def everything(result: FhirDeidentified) -> str:
    return "\n".join(t for f in result.tables.values() for t in f["json"])


@pytest.mark.slow  # loads the text models
def test_patient_in_safe_harbor() -> None:
    result = run(a_patient(), an_enrolment(), an_observation())
    patient = one(result, "Patient")
    subject = Letters().pseudonyms("subject", ["01-701-0081"])[0]
    assert not [mark for mark in MARKS if mark in everything(result)]
    assert patient["id"] == subject == result.tables["Patient"]["subject"][0]
    assert patient["identifier"] == [{"system": "urn:trialops:study:T1", "value": subject}]
    assert patient["address"] == [{"state": "MA", "postalCode": "017", "country": "US"}]
    assert patient["birthDate"] == "1950"
    assert patient["_birthDate"] == {"extension": [{"url": fhir_dates.AGE, "valueInteger": 63}]}
    assert patient["extension"] == [
        {
            "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
            "extension": [
                {"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"}}
            ],
        }
    ]
    assert patient["multipleBirthBoolean"] is True and "multipleBirthInteger" not in patient
    assert not {"name", "telecom", "photo", "text"} & set(patient) and "name" not in patient.get("contact", [{}])[0]
    assert set(patient["meta"]) == {"security"}
    assert patient["generalPractitioner"][0].keys() == {"reference"}


def test_observation_has_its_study_day_and_its_result() -> None:
    observation = one(run(a_patient(), an_enrolment(), an_observation()), "Observation")
    assert observation["_effectiveDateTime"] == {"extension": [{"url": fhir_dates.STUDY_DAY, "valueInteger": 11}]}
    assert not {"effectiveDateTime", "issued"} & set(observation)
    assert observation["valueQuantity"] == an_observation()["valueQuantity"]
    assert observation["code"] == an_observation()["code"]


def test_limited_keeps_town_and_shifts_dates() -> None:
    result = run(a_patient(), an_enrolment(), an_observation(), mode="limited")
    days = Letters().offset_days("01-701-0081")
    observation, patient = one(result, "Observation"), one(result, "Patient")
    assert observation["effectiveDateTime"] == fhir_dates.shift("2014-01-12T08:30:00+01:00", days)
    assert observation["issued"] == fhir_dates.shift("2014-01-13T09:00:00Z", days)
    assert patient["birthDate"] == fhir_dates.shift("1950-03-04", days)
    assert patient["address"] == [{"city": TOWN, "state": "MA", "postalCode": "01752", "country": "US"}]
    assert not [m for m in MARKS if m != TOWN and m in everything(result)]
    assert "not Safe Harbor" in result.report.label


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("2014-02-27", "2014-03-01"),
        ("2014-02-27T23:59:00.5-05:00", "2014-03-01T23:59:00.5-05:00"),
        ("2014-02", "2014-02"),
        ("2014", "2014"),
        ("2014-02-30", None),
        ("soon", None),
        ("9999-12-31", None),
    ],
)
def test_shift(text: str, moved: str | None) -> None:
    assert fhir_dates.shift(text, 2) == moved


def test_nobody_over_89_can_be_told() -> None:
    old = a_patient(birthDate="1922-03-04", deceasedDateTime="2015-01-01")
    long_ago = {
        "resourceType": "Condition",
        "id": "c-1",
        "subject": {"reference": "Patient/p-81"},
        "onsetDateTime": "1923-01-01",
        "recordedDate": "2014-01-03",
    }
    result = run(old, an_enrolment(), an_observation(), long_ago)
    patient, condition = one(result, "Patient"), one(result, "Condition")
    assert "birthDate" not in patient
    assert {"url": fhir_dates.AGE, "valueInteger": 90} in patient["_birthDate"]["extension"]
    assert not {"onsetDateTime", "_onsetDateTime"} & set(condition)  # 91 years before day 1
    assert "19" not in json.dumps(condition.get("recordedDate", ""))
    # Day 2 would do no harm by itself, but the subject is older than 89 on it, and no year is told anywhere.
    assert not [t for t in everything(result).split('"') if t in ("1922", "2013", "2014", "2015", "1923")]
    assert result.report.capped_ages == 1


def test_ages_and_durations_over_89() -> None:
    onset = {
        "resourceType": "Condition",
        "id": "c-1",
        "subject": {"reference": "Patient/p-81"},
        "onsetAge": {"value": 1100, "unit": "mo", "system": "http://unitsofmeasure.org", "code": "mo"},
    }
    told = an_observation(
        id="o-2",
        code={"coding": [{"system": "http://loinc.org", "code": "30525-0"}]},
        valueQuantity=None,
        valueInteger=93,
    )
    told.pop("valueQuantity")
    told["valueQuantity"] = {"value": 93, "unit": "years"}
    told.pop("valueInteger")
    result = run(a_patient(), an_enrolment(), onset, told)
    assert one(result, "Condition")["onsetAge"] == fhir_dates.capped(90)
    assert one(result, "Observation")["valueQuantity"] == fhir_dates.capped(90)
    young = {**onset, "onsetAge": {"value": 89.9, "unit": "years", "code": "a"}}
    assert one(run(a_patient(), young), "Condition")["onsetAge"]["value"] == 89.9


@pytest.mark.parametrize(
    ("postal", "country", "left"),
    [
        ("01752", "US", "017"),
        ("01752-1271", "", "017"),
        ("03601", "US", "000"),
        ("89301", "USA", "000"),
        ("2042", "AU", ""),
        ("SW1A 1AA", "GB", ""),
        ("0175", "DE", ""),
        ("ABCDE", "US", ""),
    ],
)
def test_zip_codes(postal: str, country: str, left: str) -> None:
    assert default_fhir_policy().three_digits(postal, country) == left


def test_restricted_zip_table_has_its_seventeen() -> None:
    policy = default_fhir_policy()
    assert len(policy.restricted) == 17 and policy.zip3_version == "census-2000"
    assert all(len(p) == 3 and p.isdigit() for p in policy.restricted)


def attachment(content_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": "d-1",
        "status": "current",
        "subject": {"reference": "Patient/p-81"},
        "content": [
            {
                "attachment": {
                    "contentType": content_type,
                    "data": base64.b64encode(data).decode(),
                    "title": NAME,
                    **more,
                }
            }
        ],
    }


def test_notes_are_scrubbed_and_other_content_goes() -> None:
    note = f"Seen on 2014-01-12: Ada {NAME}, {MRN}, of {STREET}. Call {PHONE}. Signed {CLINICIAN}"
    clean = one(
        run(a_patient(), an_enrolment(), attachment("text/plain; charset=utf-8", note.encode())), "DocumentReference"
    )
    left = clean["content"][0]["attachment"]
    text = base64.b64decode(left["data"]).decode()
    assert not [m for m in (*MARKS, "2014") if m in text] and "[NAME]" in text and "Seen on" in text
    assert set(left) == {"contentType", "data"}
    for kind, data in (("application/pdf", b"%PDF"), ("text/html", note.encode()), ("text/plain", b"\xff\xfe\xff")):
        result = run(a_patient(), attachment(kind, data, url="https://ehr.example.org/7.pdf"))
        assert set(one(result, "DocumentReference")["content"][0]["attachment"]) == {"contentType"}
        assert sum(result.report.media.values()) == 1


def test_references_stay_consistent_and_lose_their_words() -> None:
    told = an_observation(
        performer=[
            {"reference": "Practitioner/d-1", "display": CLINICIAN},
            {"reference": "https://ehr.example.org/fhir/Practitioner/d-1/_history/2"},
            {"reference": "Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|99999"},
            {"identifier": {"system": "urn:npi", "value": "99999"}, "display": CLINICIAN},
            {"reference": "urn:uuid:5f3a"},
        ],
        contained=[{"resourceType": "Specimen", "id": MRN, "accessionIdentifier": {"value": MRN}}],
        specimen={"reference": f"#{MRN}"},
    )
    doctor = {
        "resourceType": "Practitioner",
        "id": "d-1",
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-npi", "value": "99999"}],
        "name": [{"text": CLINICIAN}],
    }
    result = run(a_patient(), an_enrolment(), told, doctor)
    observation, practitioner = one(result, "Observation"), one(result, "Practitioner")
    assert observation["performer"] == [{"reference": f"Practitioner/{practitioner['id']}"}] * 3
    assert observation["subject"] == {"reference": f"Patient/{one(result, 'Patient')['id']}"}
    assert observation["contained"] == [{"resourceType": "Specimen", "id": "c1"}]
    assert observation["specimen"] == {"reference": "#c1"}
    assert set(practitioner) == {"resourceType", "id", "meta"}


def test_fails_closed() -> None:
    odd = an_observation(
        patientNickname=NAME, code={"coding": [{"system": "urn:site:codes", "code": "X"}], "hint": NAME}
    )
    result = run(a_patient(), odd)
    assert result.report.unlisted == {"Observation": 1, "CodeableConcept": 1}
    assert one(result, "Observation")["code"] == {"coding": [{"code": "X"}]}
    wrong = an_observation(note={"text": NAME}, valueQuantity=[NAME], status=["final"])
    assert not {"note", "valueQuantity", "status"} & set(one(run(a_patient(), wrong), "Observation"))


def test_what_changes_the_meaning_is_not_released() -> None:
    result = run(
        a_patient(),
        an_observation(id="o-2", modifierExtension=[{"url": "http://x.org/negated", "valueBoolean": True}]),
        an_observation(id="o-3", implicitRules="http://x.org/rules"),
        {"resourceType": "Binary", "id": "b-1", "contentType": "text/plain", "data": "QWRh"},
        {"resourceType": "Nonsense", "id": "n-1"},
    )
    assert sorted(result.quarantine["reason"]) == [
        "TYPE_NOT_RELEASED",
        "TYPE_NOT_RELEASED",
        "UNKNOWN_MODIFIER",
        "UNKNOWN_RULES",
    ]
    assert set(result.tables) == {"Patient"}


def test_the_rest_of_the_eighteen() -> None:
    subject = {"reference": "Patient/p-81"}
    device = {
        "resourceType": "Device",
        "id": "v-1",
        "patient": subject,
        "serialNumber": "SN-558812",
        "lotNumber": "LOT-77",
        "distinctIdentifier": "DI-5588",
        "udiCarrier": [{"deviceIdentifier": "UDI-0001", "carrierHRF": "(01)0001"}],
        "url": "http://10.1.2.3/pump",
        "type": {"coding": [{"system": "http://snomed.info/sct", "code": "43770009"}]},
    }
    coverage = {
        "resourceType": "Coverage",
        "id": "k-1",
        "status": "active",
        "subscriberId": "HPB-993311",
        "beneficiary": subject,
        "payor": [subject],
        "class": [{"type": {"text": "group"}, "value": "GRP-4411"}],
    }
    account = {"resourceType": "Account", "id": "a-1", "status": "active", "subject": [subject], "name": "ACC-118822"}
    questions = {
        "resourceType": "QuestionnaireResponse",
        "id": "q-1",
        "status": "completed",
        "subject": subject,
        "item": [
            {"linkId": "1", "text": "Plate?", "answer": [{"valueString": f"my licence is {MRN}, see www.ada.org"}]}
        ],
    }
    media = {
        "resourceType": "Media",
        "id": "m-1",
        "status": "completed",
        "subject": subject,
        "content": {"contentType": "image/jpeg", "data": "QWRh"},
    }
    result = run(a_patient(), an_enrolment(), device, coverage, account, questions, media)
    text = everything(result)
    wanted = ("SN-558812", "LOT-77", "DI-5588", "UDI-0001", "10.1.2.3", "HPB-993311", "GRP-4411", "ACC-118822", MRN)
    assert not [w for w in (*wanted, "www.ada", "QWRh") if w in text]
    assert one(result, "Device")["type"]["coding"][0]["code"] == "43770009"
    letters = set("".join(i for _, _, i, seen, _ in result.report.elements if seen))
    assert {"A", "B", "C", "D", "I", "J", "M", "Q", "R"} <= letters


def test_operator_is_one_class_for_both() -> None:
    tables = to_tables([a_patient(), an_observation()])
    result = HIPAAComplianceOperator().run_fhir(tables, "strict", Letters())
    assert result.tables["Observation"].height == 1
    with pytest.raises(TrialOpsError, match="not declared synthetic"):
        HIPAAComplianceOperator().run_fhir(tables, "off", Letters())
    with pytest.raises(TrialOpsError, match="no de-identification mode"):
        HIPAAComplianceOperator().run_fhir(tables, "harbour", Letters())
    kept = HIPAAComplianceOperator().run_fhir(tables, "off", Letters(), synthetic=True)
    assert kept.tables["Patient"]["json"].to_list() == tables["Patient"]["json"].to_list()


def test_a_subject_number_claimed_twice_serves_nobody() -> None:
    twin = a_patient(id="p-82")
    result = run(a_patient(), twin)
    assert result.tables["Patient"]["id"].n_unique() == 2
    assert result.report.keys["USUBJID claimed twice"] == 1


def test_policy_is_checked() -> None:
    import yaml

    from trialops.privacy import fhir_policy

    data = yaml.safe_load((fhir_policy.Path(fhir_policy.__file__).with_name("fhir_policy.yaml")).read_text())
    with pytest.raises(TrialOpsError, match="does not exist"):
        parse({**data, "elements": {"Patient.shoeSize": {"strict": "drop"}}})
    with pytest.raises(TrialOpsError, match="not usable"):
        parse({**data, "elements": {"Patient.name": {"strict": "hide"}}})
    policy = default_fhir_policy()
    unknown = [
        (kind, name)
        for kind, fields in elements().items()
        for name, element in fields.items()
        if policy.treatment(fhir_policy.path_of(kind), name, element) is None
    ]
    assert unknown == []
