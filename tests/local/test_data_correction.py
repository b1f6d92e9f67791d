"""The correction pipeline as a person runs it: dry run, applied, and what the next data pipeline makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.local.main_job import Home, states
from trialops.intake.sdtm import read_folder
from trialops.synthetic import generate

pytestmark = pytest.mark.slow


def test_correction_pipeline(tmp_path: Path) -> None:
    generate(tmp_path / "trial", subjects=80, sites=6, seed=5, formats=("sdtm",))
    source = tmp_path / "trial" / "sdtm"
    home = Home(tmp_path / "home")
    assert home.trialops("run", "data_pipeline", "--source", str(source)).returncode == 0
    before = home.state()
    lb = read_folder(source).tables["LB"].filter(pl.col("LBTESTCD") == "AST", pl.col("_RECEIVED").is_null())
    row = lb.sort("USUBJID", "LBSEQ").row(10, named=True)
    file = tmp_path / "corrections.csv"
    home.trialops("corrections", "template", "--out", str(file))
    lines = [
        f"LB,{row['USUBJID']},LBSEQ={row['LBSEQ']:.0f},{name},{row[name]},77,transcription error,Site nurse,2026-01-05"
        for name in ("LBORRES", "LBSTRESC", "LBSTRESN")
    ] + ["LB,01-999-999999,LBSEQ=1,LBSTRESN,1,2,no such subject,Site nurse,2026-01-05"]
    with file.open("a") as out:
        out.write("\n".join(lines) + "\n")
    arguments = ("run", "data_correction", "--source", str(source), "--set", f"corrections={file}")

    dry = home.trialops(*arguments)
    assert dry.returncode == 0, dry.stderr
    assert home.state() == before
    assert home.trialops(*arguments, "--set", "apply=true").returncode == 0
    run = home.run()
    assert set(states(run).values()) == {"ran"}
    record = json.loads((home.path / "runs" / run["run_id"] / "steps/apply-corrections/record.json").read_text())
    assert record["metrics"]["subjects"] == 1 and record["metrics"]["of"] == 80
    assert record["decision"]["decision"] == "pass"
    rejected = json.loads((home.path / "runs" / run["run_id"] / "steps/propose-corrections/record.json").read_text())
    assert rejected["metrics"] == {"lines": 4, "changes": 3, "rejected": 1}
    after = home.state()
    changed = {name for name in after if after[name] != before[name]}
    assert changed - {"quality/queries"} == {"clean/lb", "features/labs"}
    page = (home.path / "runs" / run["run_id"] / "index.html").read_text()
    assert "1 of 80 subjects" in page and str(row["USUBJID"]) not in page
    events = (home.path / "runs" / run["run_id"] / "openlineage.ndjson").read_text().splitlines()
    jobs = {json.loads(event)["job"]["name"] for event in events}
    assert "data_correction.apply-corrections" in jobs

    assert home.trialops("run", "data_pipeline", "--source", str(source)).returncode == 0
    assert home.state() == after
    assert home.trialops("audit", "verify").returncode == 0
