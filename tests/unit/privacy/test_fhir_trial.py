"""The synthesized trial's bundles through the component: consent when read, notes, shared pseudonyms, the search."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.intake import ingest_fhir, ingest_sdtm
from components.privacy import deidentify, deidentify_fhir
from tests.support.homes import artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.synthetic import generate

SUBJECTS = 16


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    generate(folder / "trial", subjects=SUBJECTS, sites=2, seed=8, formats=("fhir", "sdtm"))
    return folder / "trial"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from texts(base64.b64decode(value).decode() if key == "data" else value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


@pytest.mark.slow
def test_component_on_the_synthesized_trial(source: Path, home: Path) -> None:
    raw, clean = artifact(home, "raw"), artifact(home, "clean")
    withheld, report = artifact(home, "withheld"), artifact(home, "report")
    ingest_fhir.python_func(str(source / "fhir"), raw, artifact(home, "quarantine"), artifact(home, "r0"))
    left = deidentify_fhir.python_func(raw, clean, withheld, report)
    run = Step("look", {}, settings())
    before, after = run.unseal(raw), run.read(clean)
    aside = run.read_table(withheld)
    assert left == aside.height == sum(f.height for f in before.values()) - sum(f.height for f in after.values()) > 0
    assert set(aside["reason"]) == {"CONSENT"}
    # Deny by default: exactly the subjects with a permit in force are there.
    consents = {c["patient"]["reference"].split("/")[1]: c for c in map(json.loads, before["Consent"]["json"])}
    permitted = {p for p, c in consents.items() if c["status"] == "active" and c["provision"]["type"] == "permit"}
    assert 0 < len(permitted) < SUBJECTS
    assert after["Patient"].height == len(permitted)
    assert {r.table for r in run.reference(clean).tables.values()} >= {"clean_fhir/patient", "clean_fhir/observation"}

    identifiers = set()
    for patient in map(json.loads, before["Patient"]["json"]):
        name, address = patient["name"][0], patient["address"][0]
        identifiers |= {f"{name['given'][0]} {name['family']}", f"{name['family']}, {name['given'][0]}"}
        identifiers |= {address["line"][0], patient["telecom"][0]["value"], patient["identifier"][0]["value"]}
    found = {t for f in after.values() for d in f["json"] for t in texts(json.loads(d))}
    assert not [t for t in found if any(i in t for i in identifiers)]
    assert not [t for t in found if re.search(r"\d{4}-\d{2}-\d{2}|\d{2}/\d{2}/\d{4}", t)]
    notes = [t for d in after["DocumentReference"]["json"] for t in texts(json.loads(d)) if len(t) > 100]
    assert len(notes) >= len(permitted) and all("[NAME]" in n and "[DATE]" in n for n in notes)
    # Terms of medicine stay what they are.
    events = {json.loads(d)["event"]["text"] for d in before["AdverseEvent"]["json"]}
    assert {json.loads(d)["event"]["text"] for d in after["AdverseEvent"]["json"]} <= events
    page = Path(report.path).read_text()
    assert "Safe Harbor" in page and not any(i in page for i in identifiers)

    # SDTM and FHIR name a subject alike, and the link leads back.
    raw_sdtm, clean_sdtm = artifact(home, "raw-sdtm"), artifact(home, "clean-sdtm")
    ingest_sdtm.python_func(str(source / "sdtm"), raw_sdtm, artifact(home, "q2"), artifact(home, "r2"))
    deidentify.python_func(raw_sdtm, clean_sdtm, artifact(home, "w2"), artifact(home, "r3"))
    dm = run.read(clean_sdtm)["DM"]
    assert set(after["Patient"]["subject"]) <= set(dm["USUBJID"])
    ages = dict(dm.select("USUBJID", "AGE").iter_rows())
    for identity, text in after["Patient"].select("id", "json").iter_rows():
        beside = json.loads(text)["_birthDate"]["extension"]
        assert abs(beside[0]["valueInteger"] - ages[identity]) <= 1  # DM counts to the first dose, FHIR to consent
    one = after["Patient"]["id"][0]
    key = run.vault.reidentify("subject", one, reason="test", actor="tester", engine=run.engine)
    assert key in run.unseal(raw_sdtm)["DM"]["USUBJID"].to_list()


@pytest.mark.parametrize("mode", ["strict", "limited"])
def test_notes_keep_their_place_in_time(source: Path, home: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """A note's date is an instant: strict leaves its study day, limited shifts it, and the dates in texts with it."""
    monkeypatch.setenv("HIPAA_COMPLIANCE_MODE", mode)
    settings.cache_clear()
    raw, clean = artifact(home, "raw"), artifact(home, "clean")
    ingest_fhir.python_func(str(source / "fhir"), raw, artifact(home, "quarantine"), artifact(home, "r0"))
    deidentify_fhir.python_func(raw, clean, artifact(home, "withheld"), artifact(home, "report"))
    notes = [json.loads(d) for d in Step("look", {}, settings()).read(clean)["DocumentReference"]["json"]]
    assert notes
    for note in notes:
        (text,) = (base64.b64decode(c["attachment"]["data"]).decode() for c in note["content"])
        if mode == "strict":
            (day,) = note["_date"]["extension"]
            assert "date" not in note and day["url"] == "urn:trialops:study-day" and "[DATE]" in text
        else:
            assert re.fullmatch(r"\d{4}-\d{2}-\d{2}T12:00:00Z", note["date"]) and "[DATE]" not in text


def test_a_resource_left_in_the_clear_stops_the_release(home: Path) -> None:
    """The residual search is not the walk: a hole in the policy is found by it, and the message does not quote."""
    from tests.support.fhir_people import a_patient, an_observation
    from trialops.intake.fhir_tables import to_tables
    from trialops.privacy.fhir_deidentify import deidentify_fhir as run
    from trialops.privacy.fhir_policy import Treatment, default_fhir_policy

    policy = default_fhir_policy()
    hole = {**policy.elements, "Patient.name": Treatment("keep", "keep")}
    holed = type(policy)(**{**policy.__dict__, "elements": hole})
    tables = to_tables([a_patient(), an_observation()])
    step = Step("look", {}, settings())
    with pytest.raises(TrialOpsError) as caught:
        run(tables, "strict", step.vault, policy=holed)
    assert "Patient.name.family" in caught.value.where and "Quillfeather" not in str(caught.value)
