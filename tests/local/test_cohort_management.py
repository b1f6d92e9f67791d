"""Cohorts of a synthesized trial, as a person runs them: first run, no change, a changed definition, changed data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from components.intake import ingest_sdtm
from components.privacy import deidentify
from components.standards import standardize
from components.trial import describe_cohorts, evaluate_cohorts
from pipelines.cli_cohorts import cohort as commands
from tests.local.main_job import Home, states
from tests.support.homes import artifact, leave, live_in
from trialops.settings import settings
from trialops.standards.omop_run import DATASET as LOAD
from trialops.stores.context import Step
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot
from trialops.stores.sealed import unseal
from trialops.synthetic import generate
from trialops.trial.cohorts.definitions import SHIPPED, in_folder
from trialops.trial.cohorts.membership import members_of
from trialops.trial.cohorts.records import DATASET, last

pytestmark = pytest.mark.slow
NAMES = ["elderly-high-pressure", "liver-enzymes", "skin-reaction", "treated"]


@contextmanager
def inside(home: Home, run_id: str = "run-1") -> Iterator[Step]:
    """A step of this process in a home."""
    with pytest.MonkeyPatch.context() as patch:
        live_in(home.path, patch, run_id)
        yield Step("look", {}, settings())
    leave()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """OMOP tables of a trial without a vocabulary: the steps of data_standardization that SDTM needs, in this process.

    Then the first run of cohort_management from the command line.
    """
    folder = tmp_path_factory.mktemp("cohorts")
    generate(folder / "trial", subjects=160, sites=4, seed=5, formats=("sdtm",))
    made = Home(folder / "home")
    with inside(made):
        out = {n: artifact(made.path, n) for n in ("raw", "quarantine", "clean", "withheld", "omop", "outcomes", "r")}
        ingest_sdtm.python_func(
            source=str(folder / "trial" / "sdtm"), raw=out["raw"], quarantine=out["quarantine"], report=out["r"]
        )
        deidentify.python_func(raw=out["raw"], clean=out["clean"], withheld=out["withheld"], report=out["r"])
        standardize.python_func(clean=out["clean"], omop=out["omop"], outcomes=out["outcomes"], report=out["r"])
    run(made)
    return made


def run(home: Home, *more: str) -> None:
    done = home.trialops("run", "cohort_management", *more)
    assert done.returncode == 0, done.stdout + done.stderr


def evaluate(home: Home, run_id: str, folder: Path) -> int:
    """The steps of a run over other definitions, in this process; cohorts that have changed."""
    with inside(home, run_id):
        names = ("cdm", "cohorts", "changes", "summary", "pages", "report", "tables", "described")
        out = {name: artifact(home.path, name, run_id) for name in names}
        changed = evaluate_cohorts.python_func(definitions=str(folder), **{name: out[name] for name in names[:6]})
        inputs = {name: out[name] for name in ("cdm", "cohorts", "summary", "tables")}
        assert describe_cohorts.python_func(report=out["described"], **inputs) >= 1
    return int(changed)


def page(home: Home) -> str:
    return (home.path / "runs" / home.run()["run_id"] / "index.html").read_text()


def command(home: Home, *arguments: str, role: str = "") -> Result:
    with inside(home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIALOPS_ROLE", role)
        settings.cache_clear()
        return CliRunner().invoke(commands, list(arguments))


def test_first_run(home: Home) -> None:
    """Every shipped definition finds members on source values alone; the tables are OMOP's; pages tell no one."""
    assert list(states(home.run()).values()) == ["ran"] * 3
    with inside(home) as look:
        before = last(look)
        assert before is not None and sorted(before.manifest.evidence["cohorts"]) == NAMES
        sizes = {name: members_of(before.cohorts, before.noted(name)["id"])["person_id"].n_unique() for name in NAMES}
        assert all(size >= 11 for size in sizes.values()), sizes
        lake = Lake(str(home.path / "lake"), open_store(str(home.path)))
        clean = lake.versions("clean/ex")[0]
        exposed = lake.read(_ref("clean/ex", clean))
        load = {n: lake.read(r) for n, r in lake.last_validated(LOAD).snapshot.tables.items()}  # type: ignore[union-attr]
        assert sizes["treated"] == exposed["USUBJID"].n_unique()
        persons = set(load["person"]["person_id"])
        assert set(before.cohorts["subject_id"]) <= persons
    folder = home.path / "runs" / home.run()["run_id"]
    text = "".join(p.read_text() for p in folder.rglob("*") if p.suffix in (".json", ".jsonl", ".html"))
    assert "first run" in page(home) and "TRX-101" not in text and "PLACEBO" not in text
    assert not any(str(person) in text for person in list(persons)[:50])
    pages = home.output(home.run()["run_id"], "evaluate-cohorts", "pages")
    assert sorted(p.stem for p in pages.glob("*.html")) == NAMES
    tables = json.loads(home.output(home.run()["run_id"], "describe-cohorts", "tables").read_text())
    assert tables["skin-reaction"]["beside"] == "treated" and tables["treated"]["beside"] == "everybody else"
    ages = next(line for line in tables["treated"]["lines"] if line["name"].startswith("Age"))
    assert ages["smd"] is not None and ages["first"] != "–"


def _ref(table: str, commit: dict[str, object]) -> object:
    from trialops.stores.refs import TableRef

    return TableRef(table, int(commit["version"]), int(commit["rows"]), str(commit["digest"]))  # type: ignore[call-overload]


def test_second_run_says_no_change_and_a_changed_definition_says_so(home: Home, tmp_path: Path) -> None:
    with inside(home) as look:
        lake, first = look.lake, look.lake.manifests(DATASET)
        versions = lake.versions("omop/cohort")
    run(home)
    assert "no change" in page(home)
    with inside(home) as look:
        assert look.lake.versions("omop/cohort") == versions and look.lake.manifests(DATASET) == first
    changed = tmp_path / "definitions"
    shutil.copytree(SHIPPED, changed)
    file = changed / "elderly-high-pressure.yaml"
    file.write_text(file.read_text().replace('{age: ">= 70"}', '{age: ">= 78"}'))
    assert evaluate(home, "run-definition", changed) == 1
    told = Path(artifact(home.path, "report", "run-definition").path).read_text()
    assert "1 of 4 cohorts have changed" in told and "(definition changed)" in told
    with inside(home) as look:
        now = last(look)
        assert now is not None
        assert {n: now.noted(n)["version"] for n in NAMES} == {n: 1 + (n == NAMES[0]) for n in NAMES}
        sealed = now.manifest.evidence["sealed"]
        frames = unseal(sealed, vault=look.vault, objects=look.objects)
        assert set(frames["changes"]["cohort"]) == {NAMES[0]}
        assert set(frames["changes"]["reason"]) == {"definition changed"} and set(frames["changes"]["change"]) == {
            "left"
        }
        assert set(frames["changes"]["first_unmet"]) == {"Aged 70 or more"}
        assert frames["standing"].height == 4 * 160
    refused = command(home, "diff", "--members", "--purpose", "Look at who has left")
    assert refused.exit_code != 0 and "may not use this" in str(refused.exception)
    listed = command(home, "diff", NAMES[0], "--members", "--purpose", "Look at who has left", role="data manager")
    assert listed.exit_code == 0 and listed.output.count("definition changed") == frames["changes"].height
    followed = command(home, "history", NAMES[0], "--members", "--purpose", "Follow who has left", role="data manager")
    lines = [line for line in followed.output.splitlines() if line.startswith(f"{frames['changes']['person_id'][0]},")]
    assert [line.split(",")[2] for line in lines] == ["member", "rule not met"]
    assert command(home, "history", NAMES[0]).output.count("definition changed") == 1
    counted = command(home, "diff")
    assert "definition changed" in counted.output and str(frames["changes"]["person_id"][0]) not in counted.output


def test_changed_data_are_told_from_a_changed_definition(home: Home, tmp_path: Path) -> None:
    """Half of the persons' labs go, and a definition changes in the same run: each change has its own reason."""
    with inside(home, "run-data") as look:
        load = look.lake.last_validated(LOAD)
        assert load is not None
        frames = {n: look.lake.read(r) for n, r in load.snapshot.tables.items()}
        keep = frames["person"]["person_id"].sort()[::2]
        labs = frames["measurement"].filter(
            pl.col("person_id").is_in(keep.implode()) | (pl.col("measurement_source_value") != "SYSBP")
        )
        refs = {n: look.lake.write(f"omop/{n}", labs if n == "measurement" else f) for n, f in frames.items()}
        look.lake.mark_validated(LOAD, Snapshot(refs), dict(load.evidence), run_id="new data")
        changed = tmp_path / "definitions"
        shutil.copytree(SHIPPED, changed)
        file = changed / "elderly-high-pressure.yaml"
        file.write_text(file.read_text().replace('{age: ">= 70"}', '{age: ">= 74"}'))
        assert evaluate(home, "run-data", changed) >= 1
    with inside(home) as look:
        now = last(look)
        assert now is not None
        changes = unseal(now.manifest.evidence["sealed"], vault=look.vault, objects=look.objects)["changes"]
        mine = changes.filter(pl.col("cohort") == NAMES[0])
        # Who entered can owe it to the definition alone, and only where the labs are still there.
        entered = mine.filter(pl.col("change") == "entered")
        assert entered.height and set(entered["person_id"]) <= set(keep)
        assert set(entered["reason"]) == {"definition changed"}
        left = mine.filter(pl.col("change") == "left")
        assert left.height and not set(left["person_id"]) & set(keep) and set(left["reason"]) == {"data changed"}
        assert now.noted(NAMES[0])["version"] == 3


def test_imported_definitions_are_used(home: Home) -> None:
    imported = command(home, "import", str(SHIPPED / "treated.yaml"))
    assert imported.exit_code == 0 and "version 1" in imported.output
    listed = json.loads(command(home, "list", "--json").output)
    assert listed["source"] == "imported definitions" and [c["name"] for c in listed["cohorts"]] == ["treated"]
    shown = command(home, "show", "treated", "--expression")
    assert json.loads(shown.output)["ConceptSets"][0]["studyTreatment"] is True
    assert "CREATE OR REPLACE TEMP TABLE" in command(home, "show", "treated", "--sql").output
    assert len(in_folder(SHIPPED)) == len(NAMES)
