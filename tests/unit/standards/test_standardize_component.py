"""The components on a real lake: full, then incremental, from the last whole load alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.standards import omop_to_fhir, standardize
from tests.support.athena import Athena
from tests.support.fhir_samples import encounter, measured, patient, tables
from tests.support.homes import artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.standards import omop_run, vocabulary
from trialops.standards.fhir_source import read_fhir
from trialops.standards.omop import build
from trialops.standards.omop_cdm import TABLES
from trialops.stores import step
from trialops.stores.digest import table_digest
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot

BASE = [patient(), patient("p2"), encounter(), measured(), measured("o2", "p2", encounter=None)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


def released(home: Path, name: str, resources: list[dict[str, Any]]) -> Any:
    """Resources as the step before leaves them."""
    made = artifact(home, name)
    with step(f"released-{name}") as run:
        run.write(made, tables(*resources), zone="clean_fhir")
    return made


def run_once(
    home: Path, name: str, resources: list[dict[str, Any]], **more: Any
) -> tuple[Any, dict[str, pl.DataFrame]]:
    omop = artifact(home, f"omop-{name}")
    standardize.python_func(
        omop,
        artifact(home, f"out-{name}"),
        artifact(home, f"page-{name}"),
        clean_fhir=released(home, name, resources),
        **more,
    )
    snapshot = Snapshot.from_dict(json.loads(Path(omop.path).read_text()))
    lake = Lake(str(home / "lake"), open_store(str(home)))
    return omop, {table: lake.read(ref) for table, ref in snapshot.tables.items()}


def page(home: Path, name: str) -> str:
    return Path(artifact(home, f"page-{name}").path).read_text()


def test_incremental_runs_leave_what_a_full_one_leaves(home: Path) -> None:
    _, first = run_once(home, "one", BASE)
    assert "Everything was mapped" in page(home, "one")
    after = [*BASE, measured("new", encounter=None, effectiveDateTime="2020-05-02")]
    _, second = run_once(home, "two", after)
    assert "Persons with changes were mapped again" in page(home, "two")
    expected = build(read_fhir(tables(*after), texts=True), vocabulary.none()).tables
    for table in TABLES:
        assert table_digest(second[table].to_arrow()) == table_digest(expected[table].to_arrow()), table
    assert second["measurement"].height == first["measurement"].height + 1


def test_a_load_that_died_is_not_gone_on_from(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of the second run are written, its manifest is not: the third goes on from the first."""
    run_once(home, "one", BASE)
    with monkeypatch.context() as patched:
        patched.setattr(
            Lake, "mark_validated", lambda *_, **__: (_ for _ in ()).throw(TrialOpsError("the disk is full"))
        )
        with pytest.raises(TrialOpsError, match="disk is full"):
            run_once(home, "two", [*BASE, measured("half", encounter=None)])
    after = [*BASE, measured("whole", encounter=None)]
    _, made = run_once(home, "three", after)
    assert set(made["provenance"].filter(pl.col("kind") == "Observation")["source_id"]) == {"o1", "o2", "whole"}
    expected = build(read_fhir(tables(*after), texts=True), vocabulary.none()).tables
    assert made["measurement"].equals(expected["measurement"])


def test_another_vocabulary_means_everything(home: Path, tmp_path: Path) -> None:
    run_once(home, "one", BASE)
    words = Athena()
    words.concept("LOINC", "2345-7", "Glucose", "Measurement")
    _, made = run_once(home, "two", BASE, vocabulary=str(words.write(tmp_path / "athena")))
    assert "Everything was mapped" in page(home, "two")
    assert made["measurement"]["measurement_concept_id"].min() > 2_000_000_000  # type: ignore[operator]
    assert "100" in page(home, "two")


def test_the_page_names_no_code_of_a_few(home: Path) -> None:
    run_once(home, "one", BASE)
    shown = page(home, "one")
    assert "2345-7" in shown
    assert "&lt;11" in shown
    assert "p2" not in shown


def test_back_to_fhir(home: Path) -> None:
    omop, _ = run_once(home, "one", BASE)
    resources = artifact(home, "resources")
    assert omop_to_fhir.python_func(omop, resources, artifact(home, "page")) == 0
    snapshot = Snapshot.from_dict(json.loads(Path(resources.path).read_text()))
    assert {name: ref.rows for name, ref in snapshot.tables.items()} == {"Encounter": 1, "Observation": 2, "Patient": 2}


def test_other_tables_are_no_load(home: Path) -> None:
    other = released(home, "other", BASE)
    with pytest.raises(TrialOpsError, match="not a load that standardize has kept"):
        omop_to_fhir.python_func(other, artifact(home, "r"), artifact(home, "p"))
    with step("look") as run:
        assert omop_run.last(run) is None
