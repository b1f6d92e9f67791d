"""The data quality pipeline as a person runs it: a trial with defects, its queries, the correction that closes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.local.main_job import Home, states
from trialops.quality.queries import Queries
from trialops.settings import Settings
from trialops.stores.database import connect
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot
from trialops.stores.vault import open_vault
from trialops.synthetic import generate

pytestmark = pytest.mark.slow

SIZE: dict[str, Any] = {"subjects": 60, "sites": 4, "seed": 6, "formats": ("sdtm",)}
DEFECTS = ("fatal_not_serious", "decimal_shift", "day_zero", "copied_subject", "pregnant_male")


def record(home: Home) -> dict[str, Any]:
    path = home.path / "runs" / home.run()["run_id"] / "steps" / "validate-data" / "record.json"
    return dict(json.loads(path.read_text()))


def output(home: Home, artifact: str) -> pl.DataFrame:
    snapshot = Snapshot.from_dict(json.loads(home.output(home.run()["run_id"], "validate-data", artifact).read_text()))
    return Lake(str(home.path / "lake"), open_store(str(home.path))).read(snapshot.tables["rows"])


def queries(home: Home) -> pl.DataFrame:
    return Queries(connect(Settings(home=home.path).database), "TRIALOPS01").table()


def test_from_defects_to_settled_queries(tmp_path: Path) -> None:
    generate(tmp_path / "faulty", **SIZE, defects=DEFECTS)
    generate(tmp_path / "sound", **SIZE)
    truth = json.loads((tmp_path / "faulty" / "truth" / "defects.json").read_text())
    home = Home(tmp_path / "home")
    done = home.trialops("run", "data_quality", "--source", str(tmp_path / "faulty" / "sdtm"))
    assert done.returncode == 0, done.stdout + done.stderr
    run = home.run()
    assert set(states(run).values()) == {"ran"}

    first = record(home)
    assert first["decision"]["decision"] in ("pass", "fail")
    assert first["decision"]["policy"]["mode"] == "report"
    assert first["decision"]["numbers"]["score"] == pytest.approx(first["metrics"]["score"], abs=0.01)
    results, findings = output(home, "results"), output(home, "findings")
    assert set(results["book"]) == {"SDTM", "As received", "Anomalies"}  # no FHIR, no OMOP has been taken in here
    assert results.filter(pl.col("status") == "error").is_empty()
    found = set(findings["rule"])
    assert {"AE-FATAL-SERIOUS", "sdtm.AE.day-zero", "DM-TWICE", "AE-SEX-TERM", "LB-DECIMAL"} <= found

    # Every subject in a query is a pseudonym; the vault leads from it back to the rows that the generator spoilt.
    vault = open_vault(Settings(home=home.path))
    for kind, rule in (("fatal_not_serious", "AE-FATAL-SERIOUS"), ("day_zero", "sdtm.AE.day-zero")):
        who = sorted({r["usubjid"] for r in truth if r["kind"] == kind})
        assert set(findings.filter(pl.col("rule") == rule)["USUBJID"]) == set(vault.pseudonyms("subject", who))
    raw = {r["usubjid"] for r in truth}
    folder = home.path / "runs" / run["run_id"]
    page = (folder / "index.html").read_text()
    assert "What would raise it" in page and "Anomaly methods" in page and "How long the waiting queries" in page
    for text in (done.stdout + done.stderr, page, *(p.read_text() for p in folder.rglob("record.json"))):
        assert not [subject for subject in raw if subject in text]

    opened = queries(home)
    assert opened.height == findings.select("rule", "domain", "USUBJID", "record").n_unique()
    assert set(opened["state"]) == {"open"}
    one = opened.filter(pl.col("rule") == "AE-FATAL-SERIOUS")["query"][0]
    answered = home.trialops("queries", "answer", one, "--reason", "The site will correct it.")
    assert answered.returncode == 0, answered.stderr

    # A delivery without the faults closes what they raised, the answered query too.
    assert home.trialops("run", "data_quality", "--source", str(tmp_path / "sound" / "sdtm")).returncode == 0
    second = record(home)
    assert second["metrics"]["score"] > first["metrics"]["score"]
    assert second["decision"]["decision"] == "pass"
    after = queries(home)
    settled = after.filter(pl.col("rule").is_in(["AE-FATAL-SERIOUS", "sdtm.AE.day-zero", "DM-TWICE", "AE-SEX-TERM"]))
    assert settled.height > 8 and set(settled["state"]) == {"closed"} and set(settled["cause"]) == {"corrected"}
    assert home.trialops("audit", "verify").returncode == 0
