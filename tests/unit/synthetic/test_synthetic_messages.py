"""FHIR bundles and HL7 messages carry the values of the SDTM files."""

from __future__ import annotations

import base64
import importlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trialops.synthetic import Summary

Tables = dict[str, pd.DataFrame]


def _bundles(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def resources(trial: tuple[Path, Summary]) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((trial[0] / "fhir").glob("bundle-*.ndjson")):
        for bundle in _bundles(path):
            assert bundle["type"] == "transaction"
            for entry in bundle["entry"]:
                resource = entry["resource"]
                key = f"{resource['resourceType']}/{resource['id']}"
                assert entry["request"] == {"method": "PUT", "url": key} and key not in found
                found[key] = resource
    return found


def _references(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["reference"]} if "reference" in value else set()
        return own.union(*(_references(v) for v in value.values()))
    if isinstance(value, list):
        return set().union(*(_references(v) for v in value))
    return set()


def test_counts_and_references(
    resources: dict[str, dict[str, Any]], trial: tuple[Path, Summary], tables: Tables
) -> None:
    kinds = Counter(key.split("/")[0] for key in resources)
    assert kinds["Patient"] == kinds["Consent"] == kinds["ResearchSubject"] == 250
    assert kinds["Observation"] == len(tables["LB"]) + len(tables["VS"])
    assert kinds["Encounter"] == len(tables["SV"]) and kinds["AdverseEvent"] == len(tables["AE"])
    assert kinds["MedicationAdministration"] == len(tables["EX"]) and kinds["Condition"] == len(tables["MH"])
    study = {
        f"{e['resource']['resourceType']}/{e['resource']['id']}"
        for b in _bundles(trial[0] / "fhir" / "study.ndjson")
        for e in b["entry"]
    }
    assert _references(list(resources.values())) <= set(resources) | study


def test_resources_are_valid_r4(resources: dict[str, dict[str, Any]]) -> None:
    models = importlib.import_module("fhir.resources.R4B")
    seen: Counter[str] = Counter()
    for resource in resources.values():
        kind = resource["resourceType"]
        seen[kind] += 1
        if seen[kind] <= 30:
            models.get_fhir_model_class(kind).model_validate(resource)
    assert len(seen) == 9


def test_observations_equal_sdtm_rows(resources: dict[str, dict[str, Any]], tables: Tables) -> None:
    for name, word in (("LB", "lab"), ("VS", "vital")):
        for row in tables[name].sample(300, random_state=1).to_dict("records"):
            o = resources[f"Observation/{row['USUBJID'][-6:]}-{word}-{int(row[name + 'SEQ'])}"]
            assert o["valueQuantity"]["value"] == float(row[f"{name}ORRES"])
            assert o["valueQuantity"]["unit"] == row[f"{name}ORRESU"] and o["code"]["text"] == row[f"{name}TESTCD"]
            assert o["effectiveDateTime"][: len(row[f"{name}DTC"])] == row[f"{name}DTC"]
            if name == "LB":
                assert o["referenceRange"][0]["high"]["value"] == float(row["LBORNRHI"])
    dm = tables["DM"].set_index("SUBJID")
    for subject, row in dm.iterrows():
        patient = resources[f"Patient/{subject}"]
        assert patient["birthDate"] == row["BRTHDTC"]
        assert patient["gender"] == {"F": "female", "M": "male"}[row["SEX"]]
        assert re.fullmatch(r"\(\d{3}\) 555-01\d\d", patient["telecom"][0]["value"])
    assert "TRX_Hi" not in json.dumps(list(resources.values())) and "81" not in {
        str(r.get("dosage", {}).get("dose")) for r in resources.values()
    }


def test_consent_has_refusals(resources: dict[str, dict[str, Any]]) -> None:
    states = Counter(r["status"] for k, r in resources.items() if k.startswith("Consent/"))
    assert states["active"] > 200 and states["inactive"] + states["rejected"] > 0


def test_note_spans_are_the_identifiers(resources: dict[str, dict[str, Any]], trial: tuple[Path, Summary]) -> None:
    kinds: Counter[str] = Counter()
    for path in (trial[0] / "fhir").glob("phi_spans-*.ndjson"):
        for line in path.read_text().splitlines():
            span = json.loads(line)
            document = resources[f"DocumentReference/{span['doc']}"]
            text = base64.b64decode(document["content"][0]["attachment"]["data"]).decode()
            piece = text[span["start"] : span["end"]]
            patient = resources[document["subject"]["reference"]]
            kinds[span["type"]] += 1
            name = patient["name"][0]
            if span["type"] == "NAME":
                assert set(piece.replace(",", "").split(" ")) <= {name["family"], *name["given"]}
            elif span["type"] == "PHONE":
                assert piece == patient["telecom"][0]["value"]
            elif span["type"] == "MRN":
                assert piece == patient["identifier"][0]["value"]
            elif span["type"] == "CLINICIAN":
                assert patient["generalPractitioner"][0]["display"] == f"Dr. {piece}"
            elif span["type"] == "ADDRESS":
                assert patient["address"][0]["line"][0] in piece and patient["address"][0]["postalCode"] in piece
            else:
                assert re.search(r"\d{4}", piece)
    assert set(kinds) == {"NAME", "PHONE", "MRN", "CLINICIAN", "ADDRESS", "DATE"}
    texts = [r for k, r in resources.items() if k.startswith("DocumentReference/")]
    assert len(texts) > 250


def test_every_mention_of_a_name_is_marked(resources: dict[str, dict[str, Any]], trial: tuple[Path, Summary]) -> None:
    spans: dict[str, list[tuple[int, int]]] = {}
    for path in (trial[0] / "fhir").glob("phi_spans-*.ndjson"):
        for line in path.read_text().splitlines():
            s = json.loads(line)
            spans.setdefault(s["doc"], []).append((s["start"], s["end"]))
    for key, document in resources.items():
        if key.startswith("DocumentReference/"):
            text = base64.b64decode(document["content"][0]["attachment"]["data"]).decode()
            patient = resources[document["subject"]["reference"]]
            for word in (
                patient["name"][0]["family"],
                patient["identifier"][0]["value"],
                patient["telecom"][0]["value"],
            ):
                for hit in re.finditer(re.escape(word), text):
                    assert any(a <= hit.start() and hit.end() <= b for a, b in spans[document["id"]])


def test_corrected_observations(trial: tuple[Path, Summary]) -> None:
    resources = [
        e["resource"] for p in (trial[0] / "fhir").glob("corrections-*.ndjson") for b in _bundles(p) for e in b["entry"]
    ]
    kinds = Counter(r["resourceType"] for r in resources)
    assert kinds == {
        "Observation": trial[1].counts["LB corrections"],
        "AdverseEvent": trial[1].counts["AE corrections"],
    }
    assert all(r["meta"]["versionId"] == "2" for r in resources)
    assert {r["status"] for r in resources if r["resourceType"] == "Observation"} == {"corrected"}


def test_hl7_messages(trial: tuple[Path, Summary], tables: Tables, resources: dict[str, dict[str, Any]]) -> None:
    text = b"".join(p.read_bytes() for p in sorted((trial[0] / "hl7").glob("*.hl7"))).decode("ascii")
    assert "\n" not in text and text.endswith("\r")
    segments = [s.split("|") for s in text.split("\r")[:-1]]
    kinds = Counter(s[0] for s in segments)
    assert kinds["MSH"] == kinds["PID"] == kinds["OBR"] == trial[1].counts["HL7 messages"]
    assert sum(int(s[1]) for s in segments if s[0] == "BTS") == kinds["MSH"]
    results: dict[str, dict[tuple[str, str, str], str]] = {"F": {}, "C": {}}
    subject = ""
    for s in segments:
        if s[0] == "MSH":
            assert (s[8], s[11]) == ("ORU^R01^ORU_R01", "2.5.1")
        elif s[0] == "PID":
            record, identifier = (p.split("^")[0] for p in s[3].split("~"))
            subject = identifier
            patient = resources[f"Patient/{subject[-6:]}"]
            assert record == patient["identifier"][0]["value"] and s[5].split("^")[0] == patient["name"][0]["family"]
        elif s[0] == "OBX":
            assert s[2] == "NM" and s[6].endswith("^^UCUM")
            results[s[11]][subject, s[14], s[3].split("^")[1]] = f"{s[5]} {s[7]} {s[8]}"
    labs = tables["LB"]
    when = labs["LBDTC"].str.replace(r"[-T:]", "", regex=True)
    value = labs["LBORRES"] + " " + labs["LBORNRLO"] + "-" + labs["LBORNRHI"] + " " + labs["LBNRIND"].str[0]
    assert results["F"] == dict(zip(zip(labs["USUBJID"], when, labs["LBTEST"], strict=True), value, strict=True))
    assert len(results["C"]) == trial[1].counts["LB corrections"] and set(results["C"]) <= set(results["F"])
