"""The steps of study progress inside one process: queries by site, the register's ages, refusals, commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from components.intake import ingest_sdtm
from components.trial import follow_progress, monitor_sites
from pipelines.cli_progress import retention, sites
from tests.support.homes import Made, artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.quality.queries import Queries
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.synthetic import generate
from trialops.trial.progress_run import queries_by_site
from trialops.trial.tables import TrialTables, cut_day

PURPOSE = "A look at retention by arm for the monitoring board"


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Made]]:
    folder = tmp_path_factory.mktemp("progress")
    generate(folder / "trial", subjects=80, sites=4, seed=3, formats=("sdtm",))
    with pytest.MonkeyPatch.context() as patch:
        home = live_in(folder / "home", patch)
        raw = artifact(home, "raw")
        ingest_sdtm.python_func(
            source=str(folder / "trial" / "sdtm"), raw=raw, quarantine=artifact(home, "q"), report=artifact(home, "r")
        )
        yield home, raw
    leave()


def _monitor(home: Path, raw: Made, **more: Any) -> int:
    out = {name: artifact(home, name) for name in ("scores", "findings", "report")}
    return int(monitor_sites.python_func(raw=raw, **out, **more))


def _follow(home: Path, raw: Made, **more: Any) -> str:
    out = {name: artifact(home, name) for name in ("progress", "by_arm", "report")}
    return str(follow_progress.python_func(raw=raw, **out, **more))


def test_queries_are_counted_at_the_site_of_their_subject(ingested: tuple[Path, Made]) -> None:
    home, raw = ingested
    run = Step("look", {}, settings())
    tables = run.unseal(raw)
    trial = TrialTables("TRIALOPS01", tables, "source")
    day = cut_day("2024-03-31")
    assert queries_by_site(run, trial, day) is None, "a register that was never used tells nothing"
    dm = tables["DM"].unique("USUBJID", keep="last").sort("USUBJID")
    subjects = dm["USUBJID"][:3].to_list()
    asked = pl.DataFrame(
        {
            "rule": ["R1", "R1", "R2", "R3"],
            "priority": ["major"] * 4,
            "domain": ["AE"] * 4,
            "USUBJID": [*run.vault.pseudonyms("subject", subjects), None],
            "record": ["1", "2", "3", ""],
            "message": ["Please check."] * 4,
        }
    )
    Queries(run.engine, "TRIALOPS01").sync(asked, {"R1", "R2", "R3"}, actor="tester")
    today = cut_day("")
    found = queries_by_site(run, trial, today)
    assert found is not None and found.columns == ["SITEID", "state", "age"]
    assert sorted(found["SITEID"]) == sorted(dm["SITEID"][:3]), "the one without a subject has no site"
    assert set(found["age"]) == {0} and set(found["state"]) == {"open"}
    before = queries_by_site(run, trial, day)
    assert before is not None and before.is_empty(), "opened after the day asked for"
    assert _monitor(home, raw, as_of=today.isoformat()) >= 0
    record = json.loads((home / "runs" / "run-1" / "steps" / "monitor-sites" / "record.json").read_text())
    assert record["decision"]["numbers"]["sites"] == 4


def test_the_cut_is_not_beyond_what_the_data_reach(ingested: tuple[Path, Made]) -> None:
    home, raw = ingested
    assert _follow(home, raw, as_of="2030-01-01") in ("late", "on course")
    course = json.loads(Path(artifact(home, "progress").path).read_text())
    assert "2024-01-01" < course["as_of"] < "2025-01-01" and course["ongoing"] == 0


def test_a_wrong_study_file_time_or_role_is_refused(
    ingested: tuple[Path, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, raw = ingested
    with pytest.raises(TrialOpsError, match="ISO 8601"):
        _monitor(home, raw, as_of="yesterday")
    other = home.parent / "study.yaml"
    other.write_text("protocol: {number: X, title: T, planned_enrolment: 10, blinded: true, visit: []}")
    with pytest.raises(TrialOpsError, match="did you mean visits"):
        _follow(home, raw, study=str(other), as_of="2024-01-01")
    with pytest.raises(TrialOpsError, match="may not use this"):
        _follow(home, raw, as_of="2024-01-01", purpose=PURPOSE)
    monkeypatch.setenv("TRIALOPS_ROLE", "statistician (unblinded)")
    settings.cache_clear()
    try:
        assert _follow(home, raw, as_of="2024-01-01", purpose=PURPOSE)
        told = CliRunner().invoke(retention, ["--purpose", PURPOSE])
        assert told.exit_code == 0 and "TRX_Lo" in told.output and "2 degrees" in told.output
    finally:
        monkeypatch.delenv("TRIALOPS_ROLE")
        settings.cache_clear()
    refused = CliRunner().invoke(retention, ["--purpose", PURPOSE])
    assert isinstance(refused.exception, TrialOpsError)


def test_the_table_of_flags_is_of_the_cut_asked_for(ingested: tuple[Path, Made]) -> None:
    home, raw = ingested
    for as_of in ("2023-10-01", "2024-03-01"):
        _monitor(home, raw, as_of=as_of)
    older = CliRunner().invoke(sites, ["--as-of", "2023-10-01", "--all"])
    assert older.exit_code == 0 and "Data to 2023-10-01" in older.output and "Screen failures" in older.output
    newest = json.loads(CliRunner().invoke(sites, ["--all", "--json"]).output)
    assert newest["as_of"] >= "2024-03-01"
    few = [row for row in newest["rows"] if row["indicator"] == "Serious adverse events" and row["count"] == "<11"]
    assert few and all(row["figure"] is None and row["score"] is None for row in few)


def test_without_a_run_the_command_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_in(tmp_path / "empty", monkeypatch)
    try:
        found = CliRunner().invoke(sites, [])
        assert isinstance(found.exception, TrialOpsError) and "study_progress" in found.exception.fix
    finally:
        leave()
