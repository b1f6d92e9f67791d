"""The export pipeline as a person runs it: submission, partner, research database, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
import yaml
from click.testing import CliRunner, Result

from components.intake import ingest_sdtm
from components.privacy import deidentify
from components.quality import quality_gate
from pipelines.cli_export import export as export_commands
from tests.local.main_job import Home, states
from tests.support.homes import artifact, leave, live_in
from tests.support.omop_database import omop_database
from trialops.errors import TrialOpsError
from trialops.intake.sdtm import read_folder
from trialops.intake.xport_read import read_transport
from trialops.privacy.sharing_run import share
from trialops.regulatory.research_database import read_table
from trialops.settings import settings
from trialops.standards.omop_run import DATASET
from trialops.stores.context import Step
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot
from trialops.synthetic import generate

pytestmark = pytest.mark.slow
REGULATORY, STEWARD = {"TRIALOPS_ROLE": "regulatory affairs"}, {"TRIALOPS_ROLE": "data steward"}
PURPOSE = ("--set", "purpose=Interim analysis of the export test")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    generate(folder / "out", subjects=160, sites=3, seed=8, formats=("sdtm",))
    return folder / "out" / "sdtm"


@pytest.fixture(scope="module")
def home(trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with validated tables: the first steps of data_pipeline, in this process."""
    made = Home(tmp_path_factory.mktemp("home"))
    with inside(made):
        out = {
            n: artifact(made.path, n) for n in ("raw", "quarantine", "clean", "withheld", "validated", "queries", "r")
        }
        ingest_sdtm.python_func(source=str(trial), raw=out["raw"], quarantine=out["quarantine"], report=out["r"])
        deidentify.python_func(raw=out["raw"], clean=out["clean"], withheld=out["withheld"], report=out["r"])
        quality_gate.python_func(
            clean=out["clean"], validated=out["validated"], queries=out["queries"], report=out["r"]
        )
    return made


def export(home: Home, what: str, role: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    return home.trialops("run", "data_export", "--set", f"what={what}", *PURPOSE, *more, **role)


@contextmanager
def inside(home: Home) -> Iterator[Step]:
    """A step of this process in a home."""
    with pytest.MonkeyPatch.context() as patch:
        live_in(home.path, patch)
        yield Step("look", {}, settings())
    leave()


def command(home: Home, *arguments: object) -> Result:
    """An export command, in this process."""
    with inside(home):
        # Help options as the parent command hands them down: click keeps those it makes first.
        return CliRunner().invoke(export_commands, [str(a) for a in arguments], help_option_names=["-h", "--help"])


def pages(home: Home) -> str:
    return (home.path / "runs" / home.run()["run_id"] / "index.html").read_text()


def test_submission(home: Home, trial: Path, tmp_path: Path) -> None:
    target = tmp_path / "package"
    arguments = ("--source", str(trial), "--set", f"target={target}", "--set", "stamp=2026-02-03T00:00:00")
    done = export(home, "submission", REGULATORY, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {step: state for step, state in states(home.run()).items() if state == "ran"}
    assert set(found) == {"admit-export", "ingest-sdtm", "export-submission", "notify"}
    verified = command(home, "verify", target)
    assert verified.exit_code == 0 and "files are what was written" in verified.output
    sdtm = next(target.glob("m5/datasets/*/tabulations/sdtm"))
    delivered = read_folder(trial).tables
    for domain in ("DM", "AE", "LB"):
        frame = read_transport((sdtm / f"{domain.lower()}.xpt").read_bytes()).frame
        first = delivered[domain].filter(pl.col("_RECEIVED").is_null())
        assert frame.height == first.height and set(frame["USUBJID"]) == set(first["USUBJID"])
    corrected = delivered["LB"].filter(pl.col("_RECEIVED").is_not_null()).row(0, named=True)
    lb = read_transport((sdtm / "lb.xpt").read_bytes()).frame
    value = lb.filter(USUBJID=corrected["USUBJID"], LBSEQ=corrected["LBSEQ"])["LBORRES"].to_list()
    assert value == [corrected["LBORRES"]], "the newest version of a corrected row is submitted"
    assert (sdtm / "suppdm.xpt").exists()
    # No identifier on the run's page, in its records, or in the manifest artifact.
    run = home.path / "runs" / home.run()["run_id"]
    text = "".join(p.read_text() for p in run.rglob("*") if p.suffix in (".json", ".jsonl", ".html", ".ndjson"))
    assert corrected["USUBJID"] not in text
    assert "rules on definitions and data hold" in pages(home)
    (sdtm / "ae.xpt").write_bytes(b"x" + (sdtm / "ae.xpt").read_bytes()[1:])
    broken = command(home, "verify", target)
    assert broken.exit_code == 1 and "ae.xpt: the content has changed" in broken.output


def test_partner(home: Home, trial: Path, tmp_path: Path) -> None:
    terms = {
        "id": "acme-2026",
        "recipient": "Acme Research",
        "contact": "data@acme.example",
        "purpose": "Secondary analysis",
        "legal_basis": "Data use agreement, 45 CFR 164.514(e)",
        "expires": dt.date.today() + dt.timedelta(days=30),
        "tables": {"DM": ["SEX", "ARMCD"], "AE": ["AESEQ", "AEDECOD", "AESEV"]},
        "small_cells": ["AE.AEDECOD"],
    }
    paths = {}
    for name in ("acme-2026", "bolt-2026"):
        paths[name] = tmp_path / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump({**terms, "id": name, "recipient": name.upper()}))
    arguments = ("--set", f"agreement={paths['acme-2026']}", "--set", f"target={tmp_path}")
    done = export(home, "partner", STEWARD, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "At least 11 subjects in every class" in pages(home)
    with inside(home) as run:
        # The same data under the same agreement are the same package; another recipient's is another.
        again = share(run, paths["acme-2026"], "clean", today=dt.date.today())
        other = share(run, paths["bolt-2026"], "clean", today=dt.date.today())
    package = tmp_path / f"{again.share}.share"
    assert not again.new and again.package == package.read_bytes() and other.new
    (tmp_path / f"{other.share}.share").write_bytes(other.package)
    subjects = set(read_folder(trial).tables["DM"]["USUBJID"])
    for name in (again.share, other.share):
        key, out = tmp_path / f"{name}.key", tmp_path / name
        assert command(home, "key", name, "--out", key, "--reason", "handed over").exit_code == 0
        opened = command(home, "open", tmp_path / f"{name}.share", "--key", key, "--out", out)
        assert opened.exit_code == 0, opened.output
        rows = pl.read_csv(out / "data" / "ae.csv")
        assert rows.height > 100 and json.loads((out / "manifest.json").read_text())["k"] == 11
        assert not subjects & set(rows["USUBJID"])
        rows.drop("USUBJID").write_csv(tmp_path / "leaked.csv")
        traced = command(home, "trace", tmp_path / "leaked.csv", "--table", "AE")
        named = [line for line in traced.output.splitlines() if line.rstrip().endswith("yes")]
        assert traced.exit_code == 0 and len(named) == 1 and named[0].startswith(name), traced.output
    key, part = tmp_path / f"{again.share}.key", tmp_path / "release"
    assert command(home, "release", package, "--out", part, "--reason", "asked for").exit_code == 0
    opening = ("open", package, "--key", key, "--out")
    elsewhere = Home(tmp_path / "elsewhere")
    assert command(elsewhere, *opening, tmp_path / "a", "--release", part).exit_code == 0
    assert command(home, "revoke", again.share, "--reason", "purpose exceeded").exit_code == 0
    refused = command(home, *opening, tmp_path / "b")
    assert refused.exit_code != 0 and "is revoked" in str(refused.exception) and not (tmp_path / "b").exists()
    listed = {s["share"]: s["state"] for s in json.loads(command(home, "shares", "--json").output)}
    assert listed == {again.share: "revoked", other.share: "active"}
    with inside(home) as run, pytest.raises(TrialOpsError, match="is revoked"):
        share(run, paths["acme-2026"], "clean", today=dt.date.today())
    with inside(home) as run:
        assert run.trail.verify().ok


def test_research_database(home: Home, tmp_path: Path) -> None:
    lake, tables = Lake(str(home.path / "lake"), open_store(str(home.path))), omop_database(30)
    refs = {name: lake.write(f"omop/{name}", frame) for name, frame in tables.items()}
    lake.mark_validated(DATASET, Snapshot(refs), {}, run_id="standardization")
    url = f"sqlite:///{tmp_path}/research.db"
    done = export(home, "research", STEWARD, "--set", f"target={url}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_table(url, "measurement").height == tables["measurement"].height
    assert "equal what was sent" in pages(home)
