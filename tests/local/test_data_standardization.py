"""Standardization end to end on a synthesized trial: SDTM and FHIR in, OMOP out, and back."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.local.main_job import Home
from trialops.standards import cdm
from trialops.standards.omop_cdm import TABLES
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot
from trialops.synthetic import generate

pytestmark = pytest.mark.slow

SUBJECTS = 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One run under Safe Harbor, with a vocabulary-less mapping."""
    folder = tmp_path_factory.mktemp("standardization")
    trial = folder / "trial"
    generate(trial, subjects=SUBJECTS, sites=4, seed=5, formats=("sdtm", "fhir"))
    home = Home(folder / "home")
    done = home.trialops("run", "data_standardization", "--source", str(trial))
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def tables(home: Home, step: str, artifact: str) -> dict[str, pl.DataFrame]:
    path = home.output(home.run()["run_id"], step, artifact)
    snapshot = Snapshot.from_dict(json.loads(path.read_text()))
    lake = Lake(str(home.path / "lake"), open_store(str(home.path)))
    return {name: lake.read(ref) for name, ref in snapshot.tables.items()}


def steps(home: Home) -> Path:
    return home.path / "runs" / str(home.run()["run_id"]) / "steps"


def test_tables_have_the_shape_of_the_model(home: Home) -> None:
    made = tables(home, "standardize", "omop")
    assert set(TABLES) <= set(made)
    for name in TABLES:
        assert dict(made[name].schema) == dict(cdm.schema(name)), name
    assert made["person"].height == SUBJECTS
    assert made["measurement"].height > 100 * SUBJECTS


def test_no_date_is_a_real_one(home: Home) -> None:
    """Under Safe Harbor every date lies on the study calendar, and nobody's key is an identifier."""
    made = tables(home, "standardize", "omop")
    days = made["measurement"]["measurement_date"]
    assert days.dt.year().is_between(1999, 2003).all()
    assert not made["person"]["person_source_value"].str.contains("-").any()
    assert made["location"]["address_1"].null_count() == made["location"].height


def test_each_fact_is_loaded_once(home: Home) -> None:
    """SDTM and FHIR tell the same visits: one visit of the CDM for each row of SV."""
    made = tables(home, "standardize", "omop")
    clean = tables(home, "deidentify", "clean")
    assert made["visit_occurrence"].height == clean["SV"].height
    kinds = set(made["provenance"].filter(pl.col("table") == "measurement")["kind"])
    assert kinds == {"LB", "VS"}


def test_resources_come_back_valid(home: Home) -> None:
    back = tables(home, "omop-to-fhir", "resources")
    assert {"Patient", "Encounter", "Observation", "Condition", "MedicationStatement"} <= set(back)
    assert back["Patient"].height == SUBJECTS
    record = json.loads((steps(home) / "omop-to-fhir" / "record.json").read_text())
    assert record["metrics"]["invalid"] == 0
    assert record["metrics"]["resources"] == sum(frame.height for frame in back.values())


def test_pages_show_no_subject(home: Home) -> None:
    page = (steps(home) / "standardize" / "page.html").read_text()
    assert "study days" in page
    assert "No vocabulary is loaded" in page
    made = tables(home, "standardize", "omop")
    assert not any(key in page for key in made["person"]["person_source_value"])


def test_codes_found_by_coding_are_used(home: Home) -> None:
    """LB has no LOINC of its own: the codes in the provenance come from the coding step."""
    made = tables(home, "standardize", "omop")
    labs = made["provenance"].filter(pl.col("kind") == "LB")
    assert labs["code"].null_count() == 0
    assert set(labs["system"]) == {"http://loinc.org"}


def test_a_trial_without_fhir_is_standardized_too(tmp_path: Path) -> None:
    generate(tmp_path / "trial", subjects=12, sites=2, seed=6, formats=("sdtm",))
    home = Home(tmp_path / "home")
    done = home.trialops("run", "data_standardization", "--source", str(tmp_path / "trial" / "sdtm"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert tables(home, "standardize", "omop")["person"].height == 12
    (skipped,) = {step["state"] for step in home.run()["steps"] if step["task"] in ("ingest-fhir", "deidentify-fhir")}
    assert skipped == "skipped"
