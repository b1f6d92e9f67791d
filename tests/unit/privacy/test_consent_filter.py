"""Which rows a use may see: FHIR by the patients' consents, SDTM by the informed consent to take part."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from components.privacy import check_consent
from tests.support.homes import artifact, leave, live_in
from tests.support.raw_trial import SUBJECTS, table, trial
from tests.unit.privacy.test_consent import consent, rule
from trialops.errors import TrialOpsError
from trialops.intake.fhir_tables import to_tables
from trialops.privacy.consent import consent_policy, read_policy
from trialops.privacy.consent_filter import (
    decide_study_subjects,
    permitted_resources,
    permitted_rows,
    study_subjects,
    trial_basis,
)
from trialops.stores import step

AT = dt.date(2024, 6, 1)


def about(kind: str, own: str, patient: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": own, "subject": {"reference": f"Patient/{patient}"}, **more}


def clinic() -> list[dict[str, Any]]:
    """Four patients: permits all, permits all but conditions, refuses, says nothing."""
    no_conditions = rule("permit", rule("deny", data=["Condition"]))
    resources: list[dict[str, Any]] = []
    for number, made in enumerate((consent(), consent(no_conditions), consent(status="rejected"), None), 1):
        patient = f"p{number}"
        resources += [
            {"resourceType": "Patient", "id": patient},
            about("Observation", f"o{number}", patient),
            about("Condition", f"k{number}", patient),
        ]
        if made:
            resources.append({**made, "id": f"c{number}", "patient": {"reference": f"Patient/{patient}"}})
    study = {"system": "urn:trialops:study:T1"}
    resources += [
        {
            "resourceType": "ResearchSubject",
            "id": f"r{n}",
            "identifier": [{**study, "value": f"S-{n}"}],
            "individual": {"reference": f"Patient/p{n}"},
        }
        for n in (1, 3)
    ]
    resources += [
        {"resourceType": "Organization", "id": "org", "name": "General"},
        {"resourceType": "List", "id": "both"},
    ]
    return resources


def ids(tables: dict[str, pl.DataFrame], kind: str) -> list[str]:
    return sorted(tables[kind]["id"])


def test_resources_are_let_through_kind_by_kind() -> None:
    got = permitted_resources(to_tables(clinic()), purpose="HRESCH", at=AT)
    assert ids(got.tables, "Patient") == ["p1", "p2"] and ids(got.tables, "Observation") == ["o1", "o2"]
    assert ids(got.tables, "Condition") == ["k1"]  # the second patient excepted this kind
    assert ids(got.tables, "Organization") == ["org"] and got.tables["List"].is_empty()
    reasons = {(t, r): n for t, r, n in got.withheld.iter_rows()}
    assert (
        reasons["Condition", "EXCEPTION"] == reasons["Condition", "REFUSED"] == reasons["Condition", "NO_CONSENT"] == 1
    )
    assert reasons["List", "NO_SUBJECT"] == 1
    total = sum(f.height for f in to_tables(clinic()).values())
    assert sum(f.height for f in got.tables.values()) + got.rows_withheld == total
    assert got.denied == 2


def test_without_consents_nothing_personal_is_seen() -> None:
    tables = to_tables([r for r in clinic() if r["resourceType"] != "Consent"])
    got = permitted_resources(tables, purpose="HRESCH", at=AT)
    assert {kind for kind, frame in got.tables.items() if frame.height} == {"Organization"}


def test_secondary_use_of_sdtm_needs_the_consent_of_the_patient_behind() -> None:
    tables = to_tables(clinic())
    assert study_subjects(tables).rows() == [("p1", "S-1"), ("p3", "S-3")]
    got = decide_study_subjects(tables, ["S-3", "S-1", "S-9"], purpose="HRESCH", at=AT)
    assert got.select("subject", "decision", "reason").rows() == [
        ("S-1", "permit", "PERMITTED"),
        ("S-3", "deny", "REFUSED"),
        ("S-9", "deny", "NO_CONSENT"),
    ]
    frames = {"AE": pl.DataFrame({"USUBJID": ["S-1", "S-3", "S-9"]})}
    assert permitted_rows(frames, got).tables["AE"]["USUBJID"].to_list() == ["S-1"]


# -- the trial itself --------------------------------------------------------------------------------


def disposition(*rows: tuple[str, str, str | None]) -> pl.DataFrame:
    made = [
        {"STUDYID": "T1", "USUBJID": s, "DSSEQ": float(i), "DSDECOD": term, "DSSTDTC": day}
        for i, (s, term, day) in enumerate(rows, 1)
    ]
    return table("DS", made)


def reasons(tables: dict[str, pl.DataFrame]) -> dict[str, str]:
    return dict(trial_basis(tables).select("subject", "reason").iter_rows())


def test_enrolment_suffices_only_where_no_consent_is_delivered_for_anybody() -> None:
    raw = trial()
    assert set(reasons(raw).values()) == {"ENROLMENT"}
    signed = raw["DM"].with_columns(
        RFICDTC=pl.when(pl.col("USUBJID") != SUBJECTS[1]).then(pl.lit("2013-12-20")).otherwise(None)
    )
    got = reasons({**raw, "DM": signed})
    assert got[SUBJECTS[1]] == "NO_INFORMED_CONSENT"
    assert {got[s] for s in SUBJECTS if s != SUBJECTS[1]} == {"INFORMED_CONSENT"}
    # A milestone in DS is as good.
    milestone = disposition((SUBJECTS[1], "INFORMED CONSENT OBTAINED", "2013-12-20"))
    assert reasons({**raw, "DM": signed, "DS": milestone})[SUBJECTS[1]] == "INFORMED_CONSENT"


def test_a_policy_can_ask_for_the_document(tmp_path: Path) -> None:
    content = json.loads(json.dumps(consent_policy().content))
    content["trial"]["enrolment_suffices_where_no_consent_is_delivered"] = False
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    basis = trial_basis(trial(), read_policy(tmp_path / "own.yaml"))
    assert set(basis["decision"]) == {"deny"}


def test_somebody_who_is_not_enrolled_is_withheld() -> None:
    raw = trial()
    stray = raw["AE"].head(1).with_columns(USUBJID=pl.lit("S-99"))
    raw["AE"] = pl.concat([raw["AE"], stray])
    got = permitted_rows(raw, trial_basis(raw))
    assert "S-99" not in got.tables["AE"]["USUBJID"] and got.tables["AE"].height == 4
    assert got.withheld.rows() == [("AE", "NOT_ENROLLED", 1)]


@pytest.mark.parametrize("term", consent_policy().content["trial"]["withdrawal_terms"])
def test_what_was_collected_before_a_withdrawal_stays(term: str) -> None:
    raw = trial()
    subject, other = SUBJECTS[0], SUBJECTS[1]
    rows = [
        ("2014-01-10", None, "before"),
        ("2014-01-15", None, "that day"),
        ("2014-01-16", None, "after"),
        ("2014-01", None, "that month"),
        ("2014-02", None, "a later month"),
        (None, "2014-01-10", "onset before"),
        (None, "2014-01-20", "onset after"),
        (None, None, "no day"),
    ]
    made = [
        {"USUBJID": who, "AEDTC": told, "AESTDTC": onset, "AETERM": name}
        for who in (subject, other)
        for told, onset, name in rows
    ]
    raw["AE"] = table("AE", made)
    raw["DS"] = disposition((subject, term, "2014-01-15"), (other, "WITHDRAWAL BY SUBJECT", "2014-01-15"))
    basis = trial_basis(raw)
    assert dict(basis.select("subject", "withdrawn").iter_rows())[subject] == dt.date(2014, 1, 15)
    got = permitted_rows(raw, basis)
    kept = got.tables["AE"].filter(pl.col("USUBJID") == subject)["AETERM"].to_list()
    assert kept == ["before", "that day", "that month", "onset before", "no day"]
    # To stop taking part is not to take the consent back.
    assert got.tables["AE"].filter(pl.col("USUBJID") == other).height == len(rows)
    assert got.withheld.rows() == [("AE", "AFTER_WITHDRAWAL", 3)]
    # What came late and tells no day is withheld; what tells an earlier day is not.
    late = {**raw, "AE": table("AE", made, received=dt.date(2014, 3, 1))}
    kept = permitted_rows(late, basis).tables["AE"].filter(pl.col("USUBJID") == subject)["AETERM"].to_list()
    assert kept == ["before", "that day", "that month", "onset before"]


# -- the component --------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def run(
    home: Path, tables: dict[str, pl.DataFrame], **options: str
) -> tuple[int, dict[str, pl.DataFrame], pl.DataFrame]:
    raw, outputs = artifact(home, "raw"), [artifact(home, name) for name in ("permitted", "decisions", "report")]
    with step("seal") as run_:
        run_.seal(raw, tables)
    denied = check_consent.python_func(raw, *outputs, **options)
    with step("look") as run_:
        return denied, run_.unseal(outputs[0]), run_.read_table(outputs[1])


def test_component_lets_through_records_and_audits(home: Path) -> None:
    tables = to_tables(clinic())
    denied, permitted, decisions = run(home, tables, at="2024-06-01")
    assert denied == 2 and ids(permitted, "Condition") == ["k1"]
    assert decisions["decision"].to_list().count("permit") == 2
    with step("look") as run_:
        vault = run_.vault
        event = next(e for e in run_.trail.events() if e.action == "privacy.consent")
    # The same pseudonyms as de-identification gives: USUBJID where the study has one, else the Patient's own name.
    expected = set(vault.pseudonyms("subject", ["S-1", "S-3", "Patient/p2", "Patient/p4"]))
    assert set(decisions["subject"]) == expected
    assert event.detail["denied"] == 2 and event.detail["at"] == "2024-06-01"
    assert event.version == consent_policy().version
    for path in home.rglob("*"):
        if path.is_file() and path.suffix in (".html", ".json", ".jsonl"):
            text = path.read_text("utf-8", "replace")
            assert "S-1" not in text and '"p1"' not in text, path.name


def test_component_checks_the_trial(home: Path) -> None:
    denied, permitted, decisions = run(home, trial(), purpose="TRIAL")
    assert (
        denied == 0
        and permitted["AE"].equals(trial()["AE"])
        and decisions["reason"].unique().to_list() == ["ENROLMENT"]
    )


@pytest.mark.parametrize(("options", "said"), [({"purpose": "HRESCH"}, "hold no consent"), ({"at": "soon"}, "no date")])
def test_component_refuses_what_it_cannot_judge(home: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(TrialOpsError, match=said):
        run(home, trial(), **options)
