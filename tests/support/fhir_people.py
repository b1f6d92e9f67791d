"""A made-up patient with every kind of identifier, and resources about them."""

from __future__ import annotations

import base64
from typing import Any

NAME, TOWN, STREET = "Quillfeather", "Brambleford", "17 Thornapple Lane"
PHONE, EMAIL, MRN = "555-201-7788", "ada.quillfeather@example.org", "MRN-00481516"
CLINICIAN = "Dr. Ottoline Vandersloot"


def a_patient(**more: Any) -> dict[str, Any]:
    """A Patient with all that one can hold."""
    return {
        "resourceType": "Patient",
        "id": "p-81",
        "meta": {"versionId": "3", "lastUpdated": "2014-06-01T10:00:00Z", "source": "https://ehr.example.org/7"},
        "text": {"status": "generated", "div": f"<div xmlns='http://www.w3.org/1999/xhtml'>Ada {NAME}</div>"},
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName", "valueString": "Ploverwick"},
            {
                "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
                "extension": [
                    {
                        "url": "ombCategory",
                        "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"},
                    },
                    {"url": "text", "valueString": f"White, says {NAME}"},
                ],
            },
        ],
        "identifier": [
            {"system": "urn:trialops:study:T1", "value": "01-701-0081"},
            {"system": "urn:site:mrn", "value": MRN},
            {"system": "http://hl7.org/fhir/sid/us-ssn", "value": "999-12-3456"},
        ],
        "name": [{"family": NAME, "given": ["Ada", "Jane"]}],
        "telecom": [{"system": "phone", "value": PHONE}, {"system": "email", "value": EMAIL}],
        "gender": "female",
        "birthDate": "1950-03-04",
        "_birthDate": {
            "extension": [
                {
                    "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
                    "valueDateTime": "1950-03-04T04:05:00Z",
                }
            ]
        },
        "address": [
            {
                "line": [STREET],
                "city": TOWN,
                "district": "Wrexley",
                "state": "MA",
                "postalCode": "01752",
                "country": "US",
            }
        ],
        "photo": [{"contentType": "image/png", "data": base64.b64encode(b"face").decode()}],
        "contact": [{"name": {"family": "Ploverwick", "given": ["Bert"]}, "telecom": [{"value": "555-201-9900"}]}],
        "multipleBirthInteger": 2,
        "generalPractitioner": [{"reference": "Practitioner/d-1", "display": CLINICIAN}],
        **more,
    }


def an_observation(**more: Any) -> dict[str, Any]:
    """An Observation about the patient."""
    return {
        "resourceType": "Observation",
        "id": "o-1",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin"}], "text": "HGB"},
        "subject": {"reference": "Patient/p-81", "display": f"Ada {NAME}"},
        "effectiveDateTime": "2014-01-12T08:30:00+01:00",
        "issued": "2014-01-13T09:00:00Z",
        "valueQuantity": {"value": 13.2, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
        **more,
    }


def an_enrolment() -> dict[str, Any]:
    """The participation that gives day 1: 2 January 2014."""
    return {
        "resourceType": "ResearchSubject",
        "id": "r-1",
        "identifier": [{"system": "urn:trialops:study:T1", "value": "01-701-0081"}],
        "status": "on-study",
        "period": {"start": "2014-01-02"},
        "study": {"reference": "ResearchStudy/T1"},
        "individual": {"reference": "Patient/p-81"},
    }
