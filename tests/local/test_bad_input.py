"""Deliveries as they really come: each fault ends in quarantined rows or in one error a person can act on."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.local.main_job import Home
from trialops.settings import Settings
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot
from trialops.stores.sealed import unseal
from trialops.stores.vault import Vault, open_vault
from trialops.synthetic import generate
from trialops.synthetic.defects import ORPHAN

REASONS = {
    "duplicate_subject": "DUPLICATE_SUBJECT",
    "impossible_date": "DATE_IMPOSSIBLE",
    "orphan_subject": "ORPHAN_SUBJECT",
}
"""Defects that cost a row, and the reason the quarantine must give."""
FAULTS = (*REASONS, "encoding_cp1252", "empty_site", "tiny_site")
SIZE: dict[str, Any] = {"subjects": 200, "sites": 8, "seed": 4, "formats": ("sdtm",)}

pytestmark = pytest.mark.slow

Versions = dict[str, list[tuple[int, str]]]


def versions(home: Home) -> Versions:
    """Every table version that can be seen in the lake."""
    folder = home.path / "lake"
    lake = Lake(str(folder), open_store(str(home.path)))
    tables = sorted(log.parent.relative_to(folder).as_posix() for log in folder.glob("*/*/_delta_log"))
    return {table: [(v["version"], v["digest"]) for v in lake.versions(table)] for table in tables}


def read(home: Home, step: str, artifact: str, table: str = "rows") -> pl.DataFrame:
    """A table the newest run wrote."""
    snapshot = Snapshot.from_dict(json.loads(home.output(home.run()["run_id"], step, artifact).read_text()))
    return Lake(str(home.path / "lake"), open_store(str(home.path))).read(snapshot.tables[table])


def vault(home: Home) -> Vault:
    return open_vault(Settings(home=home.path))


def subjects(source: Path) -> set[str]:
    import pyreadstat

    return set(pyreadstat.read_xport(str(source / "dm.xpt"))[0]["USUBJID"])


def assert_tells_nothing_of(secrets: set[str], home: Home, run_id: str, done: subprocess.CompletedProcess[str]) -> None:
    """Neither the terminal nor any file of the run, log and page included, holds one of the texts."""
    files = [path for path in (home.path / "runs" / run_id).rglob("*") if path.is_file()]
    assert {"log.txt", "index.html", "run.json", "notification.json"} <= {path.name for path in files}
    for name, text in [("terminal", done.stdout + done.stderr), *((p.name, p.read_text("utf-8")) for p in files)]:
        assert not [secret for secret in secrets if secret in text], name


def assert_one_error(home: Home, run: dict[str, Any], done: subprocess.CompletedProcess[str], *named: str) -> None:
    """The run failed with what, where and fix: in its record, once at the terminal, and on its page."""
    assert done.returncode == 1 and run["state"] == "failed"
    failed = [step for step in run["steps"] if step["state"] == "failed"]
    assert [step["error"] for step in failed] == [run["error"]]
    error = run["error"]
    for name in named:
        assert name in f"{error['what']} {error['where']}"
    terminal = done.stdout + done.stderr
    folder = home.path / "runs" / run["run_id"]
    page = html.unescape((folder / "index.html").read_text())
    for part in ("what", "where", "fix"):
        assert error[part] and terminal.count(error[part]) == 1 and error[part] in page, part
    told = json.loads((folder / "notification.json").read_text())
    assert told["severity"] == "critical" and any(error["what"] in line for line in told["lines"])
    for text in (terminal, page, (folder / "run.json").read_text()):
        assert "Traceback" not in text


# -- faults of files: nothing is loaded ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Trials:
    """A sound delivery, and one with a column missing and a file cut off."""

    good: Path
    damaged: Path


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    folder = tmp_path_factory.mktemp("trials")
    generate(folder / "good", **SIZE)
    generate(folder / "damaged", **SIZE, defects=("missing_column", "truncated_file"))
    return Trials(folder / "good" / "sdtm", folder / "damaged" / "sdtm")


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that several deliveries come to, one after the other; blanks in its path must not matter."""
    return Home(tmp_path_factory.mktemp("a home of its own"))


def no_file(file: Path, trials: Trials) -> None:
    file.unlink()


def damaged(file: Path, trials: Trials) -> None:
    shutil.copyfile(trials.damaged / file.name, file)


def other_format(file: Path, trials: Trials) -> None:
    """A spreadsheet under the name of a transport file, a subject in the clear inside."""
    file.write_bytes(b"PK\x03\x04" + min(subjects(trials.good)).encode() * 40)


def other_encoding(file: Path, trials: Trials) -> None:
    """A byte that is neither UTF-8 nor Windows-1252 in the middle of a term."""
    data = bytearray(file.read_bytes())
    data[data.index(b"HYPERTENSION") + 3] = 0x81
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("ds.xpt", no_file, ("DS", "Disposition")),
        ("vs.xpt", damaged, ("vs.xpt", "VSSTRESN")),
        ("sv.xpt", damaged, ("sv.xpt", "the end is missing")),
        ("ex.xpt", other_format, ("ex.xpt", "SAS XPORT")),
        ("mh.xpt", other_encoding, ("mh.xpt", "neither UTF-8 nor Windows-1252")),
    ],
    ids=["missing domain", "missing column", "truncated file", "unreadable file", "unknown encoding"],
)
def test_a_file_that_cannot_be_used_is_one_error_and_a_good_one_mends_it(
    name: str,
    change: Callable[[Path, Trials], None],
    named: tuple[str, ...],
    steady: Home,
    trials: Trials,
    tmp_path: Path,
) -> None:
    source = tmp_path / "delivery"
    shutil.copytree(trials.good, source)
    change(source / name, trials)
    before = versions(steady)
    failed = steady.trialops("run", "data_pipeline", "--source", str(source))
    run = steady.run()
    assert_one_error(steady, run, failed, str(source), *named)
    assert_tells_nothing_of(subjects(trials.good) | {"HYPERTENSION"}, steady, run["run_id"], failed)
    assert {step["state"] for step in run["steps"]} == {"failed", "not run", "ran"}
    assert versions(steady) == before

    shutil.copyfile(trials.good / name, source / name)
    mended = steady.trialops("run", "data_pipeline", "--resume")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    again = steady.run()
    assert (again["run_id"], again["state"], again["error"]) == (run["run_id"], "succeeded", None)
    assert read(steady, "ingest-sdtm", "quarantine").height == 0
    # However often it failed before, the sound delivery is there once.
    assert {len(found) for found in versions(steady).values()} == {1}


# -- faults of content: the main job -------------------------------------------------------------------------------


@dataclass(frozen=True)
class MainJob:
    """The main job on a trial nobody leaves, then on one with faulty rows and sites in the same folder."""

    home: Home
    one_class: dict[str, Any]
    refused: subprocess.CompletedProcess[str]
    before: Versions
    between: Versions
    faulty: dict[str, Any]
    done: subprocess.CompletedProcess[str]
    truth: list[dict[str, Any]]
    source: Path
    tiny: str

    def faults(self, kind: str) -> list[dict[str, Any]]:
        """What was put into the trial, as its truth file says."""
        return [record for record in self.truth if record["kind"] == kind]


@pytest.fixture(scope="module")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> MainJob:
    folder = tmp_path_factory.mktemp("content")
    generate(folder / "one_class", **SIZE, defects=("one_class_label",))
    generate(folder / "faulty", **SIZE, defects=FAULTS)
    truth = json.loads((folder / "faulty" / "truth" / "defects.json").read_text())
    home, source = Home(folder / "home"), folder / "delivery"
    # An earlier split held out the tiny site: then the model is judged on it, which is the harder side to be on.
    site = next(record["after"] for record in truth if record["kind"] == "tiny_site")
    tiny = vault(home).pseudonym("site", site)
    lake = Lake(str(home.path / "lake"), open_store(str(home.path)))
    lake.write("splits/withdrawal", pl.DataFrame({"site_id": [tiny], "role": ["held out"]}))
    before = versions(home)

    shutil.copytree(folder / "one_class" / "sdtm", source)
    refused = home.trialops("run", "scheduled_retraining", "--source", str(source), "--set", "trials=2")
    one_class, between = home.run(), versions(home)
    shutil.rmtree(source)
    shutil.copytree(folder / "faulty" / "sdtm", source)
    done = home.trialops("run", "scheduled_retraining", "--source", str(source), "--set", "trials=2")
    return MainJob(home, one_class, refused, before, between, home.run(), done, truth, source, tiny)


def test_one_class_label_is_one_error(main_job: MainJob) -> None:
    assert_one_error(main_job.home, main_job.one_class, main_job.refused, "same outcome", "0 events", "column label")
    secrets = subjects(main_job.source)
    assert_tells_nothing_of(secrets, main_job.home, main_job.one_class["run_id"], main_job.refused)
    failed = next(step["step"] for step in main_job.one_class["steps"] if step["state"] == "failed")
    assert failed == "build-training-set"
    # The steps before it wrote what they had to; the failed one left no table and no other split.
    new = {table.partition("/")[0] for table in main_job.between.keys() - main_job.before.keys()}
    assert new == {"clean", "consent", "features", "quality", "quarantine"}
    assert main_job.between["splits/withdrawal"] == main_job.before["splits/withdrawal"]


def test_new_run_succeeds_once_the_trial_has_both_outcomes(main_job: MainJob) -> None:
    assert main_job.done.returncode == 0, main_job.done.stdout + main_job.done.stderr
    assert main_job.faulty["state"] == "succeeded" and main_job.faulty["error"] is None
    secrets = subjects(main_job.source) | {ORPHAN}
    for kind in (*REASONS, "encoding_cp1252"):
        secrets |= {str(fault[key]) for fault in main_job.faults(kind) for key in ("before", "after") if fault[key]}
    assert_tells_nothing_of(secrets, main_job.home, main_job.faulty["run_id"], main_job.done)


@pytest.mark.parametrize("kind", REASONS)
def test_faulty_rows_are_quarantined_with_reason_file_and_row(main_job: MainJob, kind: str) -> None:
    wanted = {(Path(fault["file"]).name, fault["row"], fault["column"]) for fault in main_job.faults(kind)}
    quarantine = read(main_job.home, "ingest-sdtm", "quarantine").filter(pl.col("reason") == REASONS[kind])
    assert set(quarantine.select("file", "row", "column").iter_rows()) == wanted
    assert quarantine.height == len(wanted) > 0


def test_nothing_but_the_faulty_rows_is_quarantined(main_job: MainJob) -> None:
    quarantine = read(main_job.home, "ingest-sdtm", "quarantine")
    assert quarantine.height == sum(len(main_job.faults(kind)) for kind in REASONS)
    text = quarantine.write_csv()
    assert not [subject for subject in subjects(main_job.source) | {ORPHAN} if subject in text]
    clean = read(main_job.home, "deidentify", "clean", "DM")
    assert clean.height == clean["USUBJID"].n_unique() == len(subjects(main_job.source))


def test_cp1252_file_is_read_as_such(main_job: MainJob) -> None:
    fault = main_job.faults("encoding_cp1252")[0]
    raw = json.loads(main_job.home.output(main_job.faulty["run_id"], "ingest-sdtm", "raw").read_text())
    history = unseal(raw, vault=vault(main_job.home), objects=open_store(str(main_job.home.path)))["MH"]
    row = history.filter((pl.col("_SOURCE") == Path(fault["file"]).name) & (pl.col("_ROW") == fault["row"]))
    assert row[fault["column"]].to_list() == [fault["after"]]
    page = (main_job.home.path / "runs" / main_job.faulty["run_id"] / "steps" / "ingest-sdtm" / "page.html").read_text()
    lines = [line for line in page.splitlines() if "windows-1252" in line]
    assert len(lines) == 1 and "mh.xpt" in lines[0]


def test_empty_site_is_nowhere_and_harms_nothing(main_job: MainJob) -> None:
    site = main_job.faults("empty_site")[0]["after"]
    pseudonym = vault(main_job.home).pseudonym("site", site)
    sites = set(read(main_job.home, "deidentify", "clean", "DM")["SITEID"])
    assert len(sites) == SIZE["sites"] and pseudonym not in sites


def test_site_of_three_is_judged_with_the_others_and_alone_only_as_far_as_it_goes(main_job: MainJob) -> None:
    clean = read(main_job.home, "deidentify", "clean", "DM")
    assert clean.filter(pl.col("SITEID") == main_job.tiny).height == main_job.faults("tiny_site")[0]["before"] == 3
    rows = read(main_job.home, "build-training-set", "training")
    own = rows.filter(pl.col("site_id") == main_job.tiny)
    assert 1 <= own.height <= 3 and set(own["split"]) == {"held out"}
    held_out = rows.filter(pl.col("split") == "held out")
    assert held_out["site_id"].n_unique() > 1 and rows.filter(pl.col("split") == "train")["label"].n_unique() == 2
    evaluation = json.loads(main_job.home.output(main_job.faulty["run_id"], "evaluate-model", "evaluation").read_text())
    by_site = {part["site"]: part for part in evaluation["model"]["by_site"]}
    assert by_site[main_job.tiny]["n"] == own.height and by_site[main_job.tiny]["events"] == own["label"].sum()
    assert sum(part["n"] for part in by_site.values()) == held_out.height
