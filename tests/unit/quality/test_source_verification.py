"""SDTM beside what FHIR resources and HL7 messages of the same trial say: agreement counted field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.omop_database import AS_OF, omop_database
from tests.support.raw_trial import Keys
from trialops.intake.fhir_tables import to_tables
from trialops.intake.sdtm import read_folder
from trialops.pages import render
from trialops.privacy.deidentify import HIPAAComplianceOperator
from trialops.quality.contracts import contract
from trialops.quality.evaluation import evaluate
from trialops.quality.page import quality_page
from trialops.quality.rules import source_rules
from trialops.quality.source_records import fhir_events, fhir_findings, hl7_findings
from trialops.quality.validation import validate
from trialops.synthetic import generate

Tables = dict[str, pl.DataFrame]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trial")
    generate(out, subjects=40, sites=4, seed=3)
    return out


@pytest.fixture(scope="module")
def sdtm(trial: Path) -> Tables:
    return read_folder(trial / "sdtm").tables


@pytest.fixture(scope="module")
def fhir(trial: Path) -> Tables:
    """The newest version of every resource of the bundles."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for name in ("bundle", "corrections"):
        for file in sorted((trial / "fhir").glob(f"{name}-*.ndjson")):
            for line in file.read_text().splitlines():
                for entry in json.loads(line)["entry"]:
                    resource = entry["resource"]
                    newest[(resource["resourceType"], resource["id"])] = resource
    return to_tables(newest.values())


def sources(fhir: Tables) -> Tables:
    findings = fhir_findings(fhir)
    return {"SOURCE.LB": findings, "SOURCE.VS": findings, "SOURCE.AE": fhir_events(fhir)}


def verify(sdtm: Tables, more: Tables) -> dict[str, dict[str, Any]]:
    results = evaluate({**sdtm, **more}, source_rules()).results
    return {row["rule"]: row for row in results.iter_rows(named=True)}


def test_sdtm_and_fhir_of_one_trial_agree(sdtm: Tables, fhir: Tables) -> None:
    found = verify(sdtm, sources(fhir))
    assert {row["status"] for row in found.values()} == {"pass"}
    assert sum(row["violated"] for row in found.values()) == 0
    labs, events = found["LB-SOURCE-VALUE"], found["AE-SOURCE-SERIOUS"]
    assert labs["denominator"] > 4_000 and events["denominator"] > 100


def test_each_disagreement_is_counted_where_it_is(sdtm: Tables, fhir: Tables) -> None:
    spot = pl.int_range(pl.len())
    first_versions = pl.col("_RECEIVED").is_null()
    labs = sdtm["LB"].with_columns(
        LBORRES=pl.when(first_versions & (spot % 500 == 7)).then(pl.lit("999")).otherwise("LBORRES")
    )
    events = sdtm["AE"].with_columns(AESER=pl.when(spot == 5).then(pl.lit("Y")).otherwise("AESER"))
    events = events.filter(pl.int_range(pl.len()) != 9)
    changed = {**sdtm, "LB": labs, "AE": events}
    found = verify(changed, sources(fhir))
    tampered = sdtm["LB"].select((first_versions & (spot % 500 == 7)).sum()).item()
    assert 0 < found["LB-SOURCE-VALUE"]["violated"] <= tampered
    assert found["LB-SOURCE-VALUE"]["violated"] >= tampered - 2  # a corrected row has a newer version without the fault
    assert found["AE-SOURCE-SERIOUS"]["violated"] == 1
    assert found["AE-SOURCE-MISSING"]["violated"] == 1
    assert found["AE-SOURCE-OUTCOME"]["violated"] == 0


def test_units_are_converted_before_values_are_compared(sdtm: Tables, fhir: Tables) -> None:
    glucose = pl.col("LBTESTCD") == "GLUC"
    si = sdtm["LB"].with_columns(
        LBORRES=pl.when(glucose).then(pl.col("LBSTRESN").cast(pl.String)).otherwise("LBORRES"),
        LBORRESU=pl.when(glucose).then(pl.col("LBSTRESU")).otherwise("LBORRESU"),
    )
    assert verify({**sdtm, "LB": si}, sources(fhir))["LB-SOURCE-VALUE"]["status"] == "pass"


def test_deidentified_sides_are_matched_by_study_day(sdtm: Tables, fhir: Tables) -> None:
    clean = HIPAAComplianceOperator().run(sdtm, "strict", Keys()).tables
    source = fhir_findings(fhir)
    days = (
        clean["LB"].select("LBDY", name="USUBJID").unique()  # what de-identified resources carry instead of dates
    )
    assert days["LBDY"].null_count() == 0
    named = dict(zip(sdtm["DM"]["USUBJID"], Keys().pseudonyms("subject", sdtm["DM"]["USUBJID"].to_list()), strict=True))
    stamped = sdtm["LB"].select(
        "USUBJID", TEST="LBTESTCD", AT=pl.col("LBDTC").str.slice(0, 10), day=pl.col("LBDY").cast(pl.Int64)
    )
    reference = stamped.drop_nulls("day").unique(["USUBJID", "TEST", "AT"])
    relative = (
        source.join(reference, on=["USUBJID", "TEST", "AT"])
        .with_columns(pl.col("USUBJID").replace(named), AT=pl.format("day {}", "day"))
        .drop("day")
    )
    results = evaluate({**clean, "SOURCE.LB": relative}, source_rules()).results
    row = results.filter(pl.col("rule") == "LB-SOURCE-VALUE").row(0, named=True)
    assert (row["status"], row["violated"]) == ("pass", 0) and row["denominator"] > 4_000


def test_study_day_extensions_are_read() -> None:
    resource = {
        "resourceType": "Observation",
        "id": "1",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "effectiveDateTime": "2023",
        "_effectiveDateTime": {"extension": [{"url": "urn:trialops:study-day", "valueInteger": -12}]},
        "valueQuantity": {"value": 13.2, "code": "g/dL"},
    }
    row = fhir_findings(to_tables([resource])).row(0, named=True)
    assert (row["TEST"], row["AT"], row["VALUE"], row["UNIT"]) == ("HGB", "day -12", 13.2, "g/dL")


def test_hl7_results_are_a_source_too(sdtm: Tables) -> None:
    labs = sdtm["LB"].filter(pl.col("_RECEIVED").is_null() & (pl.col("LBTESTCD") == "GLUC"))
    messages = labs.select("USUBJID", "LBORRES", "LBDTC", LBLOINC=pl.lit("2345-7"), LBORRESU=pl.lit("mg/dL"))
    found = verify({"LB": labs}, {"SOURCE.LB": hl7_findings(messages)})
    assert found["LB-SOURCE-VALUE"]["violated"] == 0 and found["LB-SOURCE-VALUE"]["denominator"] == labs.height
    assert found["LB-SOURCE-MISSING"]["status"] == found["LB-SOURCE-EXTRA"]["status"] == "pass"


def test_without_a_source_nothing_is_judged(sdtm: Tables) -> None:
    assert {row["status"] for row in verify(sdtm, {}).values()} == {"not applicable"}


# -- schema contracts --------------------------------------------------------------------------------------------------


def statuses(tables: Tables, name: str) -> dict[str, str]:
    return dict(evaluate(tables, contract(name, tables)).results.select("rule", "status").iter_rows())


def test_tables_as_received_keep_their_contracts(sdtm: Tables, fhir: Tables) -> None:
    for name, tables in (("sdtm", sdtm), ("fhir", fhir)):
        found = statuses(tables, name)
        assert set(found.values()) <= {"pass", "not applicable"}, {k: v for k, v in found.items() if v == "fail"}
        assert list(found.values()).count("pass") > 20


def test_broken_contracts_are_found(sdtm: Tables, fhir: Tables) -> None:
    broken = {
        **sdtm,
        "LB": sdtm["LB"].drop("LBTESTCD"),
        "VS": sdtm["VS"].with_columns(pl.col("VSSTRESN").cast(pl.String)),
    }
    broken["AE"] = sdtm["AE"].with_columns(AESTDY=pl.lit(0.0))
    found = statuses(broken, "sdtm")
    assert found["sdtm.LB.columns"] == "fail" and found["sdtm.AE.day-zero"] == "fail"
    assert found["sdtm.VS.VSSTRESN.type"] == "fail" if "sdtm.VS.VSSTRESN.type" in found else True
    twice = {**fhir, "Encounter": pl.concat([fhir["Encounter"], fhir["Encounter"].head(1)])}
    twice["Observation"] = fhir["Observation"].with_columns(subject=pl.lit("nobody"), digest=pl.lit("x"))
    found = statuses(twice, "fhir")
    assert found["fhir.Encounter.id.unique"] == "fail"
    assert found["fhir.Observation.subject.known"] == found["fhir.Observation.digest.form"] == "fail"
    assert found["fhir.Patient.id.unique"] == "pass"


def test_hl7_contract() -> None:
    row = {
        "STUDYID": "T", "USUBJID": "a", "LBSEQ": 1.0, "LBTEST": "Glucose", "LBLOINC": "2345-7", "LBORRES": "90",
        "LBORRESU": "mg/dL", "LBNRIND": "N", "LBSTAT": None, "LBDTC": "2024-01-02", "STATUS": "F", "MESSAGE_ID": "m1",
    }  # fmt: skip
    good = {"LB": pl.DataFrame([row], schema_overrides={"LBSTAT": pl.String})}
    assert set(statuses(good, "hl7").values()) <= {"pass", "not applicable"}
    bad = {"LB": good["LB"].with_columns(LBLOINC=pl.lit("glucose"), STATUS=pl.lit("?"))}
    found = statuses(bad, "hl7")
    assert found["hl7.LB.LBLOINC.form"] == found["hl7.LB.STATUS.values"] == "fail"


# -- everything at once ------------------------------------------------------------------------------------------------


def test_all_sources_in_one_score_without_an_error_or_a_name(sdtm: Tables, fhir: Tables) -> None:
    keys = Keys()
    clean = HIPAAComplianceOperator().run(sdtm, "strict", keys).tables
    spoilt = {**sdtm, "AE": sdtm["AE"].with_columns(AESTDY=pl.lit(0.0))}
    report = validate(
        clean,
        received=spoilt,
        omop=omop_database(),
        fhir=fhir,
        pseudonyms=lambda values: keys.pseudonyms("subject", values),
        as_of=AS_OF,
    )
    books = {"SDTM", "As received", "Anomalies", "FHIR", "Against FHIR", "OMOP"}
    assert set(report.results["book"]) == books
    assert report.results.filter(pl.col("status") == "error").is_empty()
    assert report.results["rule"].is_unique().all()
    assert set(report.results.filter(pl.col("book") == "OMOP")["status"]) == {"pass", "not applicable"}
    zero = report.queries.filter(pl.col("rule") == "sdtm.AE.day-zero")
    assert zero.height == sdtm["AE"].height and set(zero["USUBJID"]) <= set(clean["DM"]["USUBJID"])
    html = render(quality_page(report))
    for subject in sdtm["DM"]["USUBJID"]:
        assert subject not in html
    assert "OMOP checks" in html and "What would raise it" in html and "Iglewicz" in html
    assert report.passed == (report.score >= 95.0)


def test_tables_as_received_need_pseudonyms(sdtm: Tables) -> None:
    with pytest.raises(ValueError, match="pseudonyms"):
        validate(sdtm, received=sdtm)
