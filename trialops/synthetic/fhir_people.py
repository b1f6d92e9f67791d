"""FHIR resources with direct identifiers (patient, consent, notes) and the resources they refer to."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from trialops.synthetic.dates import iso
from trialops.synthetic.fhir_templates import BASE, TERMS
from trialops.synthetic.notes import Note, document_id
from trialops.synthetic.people import Person, clinicians, consent_state, site_city
from trialops.synthetic.population import DEATH, Population
from trialops.synthetic.protocol import STUDY, TITLE, Sites


def _entry(resource: dict[str, Any]) -> str:
    url = f"{resource['resourceType']}/{resource['id']}"
    return json.dumps(
        {"fullUrl": f"{BASE}/{url}", "resource": resource, "request": {"method": "PUT", "url": url}},
        separators=(",", ":"),
    )


def _consent(number: str, state: str, date: str, end: str) -> dict[str, Any]:
    """Consent to the research use of data beyond the trial."""
    status = {"permit": "active", "limited": "active", "withdrawn": "inactive", "refused": "rejected"}[state]
    purpose = [{"system": f"{TERMS}/v3-ActReason", "code": "HRESCH"}]
    provision: dict[str, Any] = {
        "type": "deny" if state == "refused" else "permit",
        "purpose": purpose,
        "period": {"start": date},
    }
    if state == "withdrawn":
        provision["period"]["end"] = end
    if state == "limited":
        provision["provision"] = [{"type": "deny", "purpose": [{"system": f"{TERMS}/v3-ActReason", "code": "HMARKT"}]}]
    return {
        "resourceType": "Consent",
        "id": f"{number}-consent",
        "status": status,
        "scope": {"coding": [{"system": f"{TERMS}/consentscope", "code": "research"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{number}"},
        "dateTime": date,
        "policyRule": {"text": f"{STUDY} consent to research use of trial data"},
        "provision": provision,
    }


def personal_entries(p: Population, sites: Sites, persons: list[Person], notes: list[Note]) -> list[list[str]]:
    """Entries with direct identifiers, per subject: patient, consent, research subject, notes."""
    dates = {name: iso(getattr(p, name)).to_list() for name in ("birth", "consent", "screening", "end", "contact_end")}
    states = consent_state(p)
    result: list[list[str]] = []
    for i, who in enumerate(persons):
        number, site = str(p.subject_numbers[i]), sites.ids[p.site[i]]
        patient: dict[str, Any] = {
            "resourceType": "Patient",
            "id": number,
            "identifier": [
                {
                    "type": {"coding": [{"system": f"{TERMS}/v2-0203", "code": "MR"}]},
                    "system": f"urn:trialops:site:{site}:mrn",
                    "value": who.mrn,
                }
            ],
            "name": [{"use": "official", "family": who.last, "given": [who.first]}],
            "telecom": [{"system": "phone", "value": who.phone, "use": "home"}],
            "gender": "female" if p.female[i] else "male",
            "birthDate": dates["birth"][i],
            "address": [
                {
                    "use": "home",
                    "line": [who.street],
                    "city": who.city,
                    "state": who.state,
                    "postalCode": who.postal,
                    "country": "US",
                }
            ],
            "generalPractitioner": [
                {"reference": f"Practitioner/investigator-{site}", "display": f"Dr. {who.clinician}"}
            ],
        }
        if p.reason[i] == DEATH:
            patient["deceasedDateTime"] = dates["end"][i]
        enrolled = {
            "resourceType": "ResearchSubject",
            "id": f"{number}-participation",
            "identifier": [{"system": f"urn:trialops:study:{STUDY}", "value": f"01-{site}-{number}"}],
            "status": "ineligible" if p.arm[i] < 0 else "off-study",
            "period": {"start": dates["consent"][i], "end": dates["contact_end"][i]},
            "study": {"reference": f"ResearchStudy/{STUDY}"},
            "individual": {"reference": f"Patient/{number}"},
            "consent": {"reference": f"Consent/{number}-consent"},
        }
        consent = _consent(number, states[i], dates["consent"][i], dates["end"][i])
        result.append([_entry(r) for r in (patient, consent, enrolled)])
    when = _note_dates(notes)
    for note, date in zip(notes, when, strict=True):
        key = int(p.subject_numbers[note.subject])
        data = base64.b64encode(note.text.encode()).decode()
        result[note.subject].append(
            _entry(
                {
                    "resourceType": "DocumentReference",
                    "id": document_id(key, note),
                    "status": "current",
                    "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3", "display": "Progress note"}]},
                    "subject": {"reference": f"Patient/{key}"},
                    "date": f"{date}T12:00:00Z",
                    "content": [{"attachment": {"contentType": "text/plain; charset=utf-8", "data": data}}],
                }
            )
        )
    return result


def _note_dates(notes: list[Note]) -> list[str]:
    """Dates of the notes."""
    import numpy as np

    return [str(t) for t in iso(np.array([n.date for n in notes], dtype=np.int64)).to_list()]


def write_study(folder: Path, sites: Sites, seed: int) -> None:
    """The resources the bundles refer to: study, site organisations, investigators."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    doctors = clinicians(np.arange(len(sites.ids), dtype=np.int64), seed)
    entries = [
        _entry(
            {
                "resourceType": "ResearchStudy",
                "id": STUDY,
                "status": "active",
                "title": TITLE,
                "site": [{"reference": f"Organization/site-{s}"} for s in sites.ids],
            }
        )
    ]
    for i, site in enumerate(sites.ids):
        city, state, _, _ = site_city(i)
        entries.append(
            _entry(
                {
                    "resourceType": "Organization",
                    "id": f"site-{site}",
                    "name": f"Site {site}, {city}, {state}",
                }
            )
        )
        entries.append(
            _entry(
                {
                    "resourceType": "Practitioner",
                    "id": f"investigator-{site}",
                    "name": [{"family": doctors[i], "prefix": ["Dr."]}],
                }
            )
        )
    text = '{"resourceType":"Bundle","type":"transaction","entry":[' + ",".join(entries) + "]}\n"
    (folder / "study.ndjson").write_text(text)
