"""All subjects from the lake: the server's answers, what was known on a day, the table; and the two commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from online_trial import EMPTY, EXPIRED, FEATURES, GOOD, OLD, SPEC, ask, expected, frames, model, served, write

from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.features.current import remember_features
from trialops.features.study_time import timestamp_of
from trialops.serving.batch import score, score_subjects, table_of
from trialops.serving.input_policy import load_input_policy
from trialops.serving.service_file import read_service, write_service
from trialops.stores import step
from trialops.stores.refs import Snapshot

POLICY = load_input_policy()


def views() -> dict[str, pl.DataFrame]:
    """The trial's views as the lake has them: with the time each row became known, and history."""
    made = {name: frame.with_columns(created=pl.col("event_timestamp")) for name, frame in frames().items()}
    early = made["vitals"].filter(pl.col("subject_id") == GOOD[0])
    at = pl.lit(timestamp_of(7)).cast(pl.Datetime("us", "UTC"))
    early = early.with_columns(event_timestamp=at, created=at, weight_slope=pl.lit(-9.0), vitals_last_day=pl.lit(7.0))
    return made | {"vitals": pl.concat([made["vitals"], early])}


def by_subject(table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["subject_id"]: row for row in table.to_dicts()}


def test_scores_are_the_servers_answers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    write(url)
    found = by_subject(score(model(), views(), SPEC, POLICY))
    with served(tmp_path, url) as server, server.client() as client:
        for subject, row in found.items():
            status, text = client.send("POST", "/v2/models/withdrawal/infer", ask([subject]))
            if row["status"] != "ok":
                assert status == 409 and row["probability"] is None and row["flagged"] is None
                continue
            answer = {t["name"]: t["data"][0] for t in json.loads(text)["outputs"]}
            assert answer["study_day"] == row["study_day"]
            for name in ("probability", "low", "high"):
                assert abs(answer[name] - row[name]) <= 1e-12
    assert {s: row["status"] for s, row in found.items()} == {
        **dict.fromkeys(GOOD, "ok"),
        OLD: "refused: stale",
        EMPTY: "refused: incomplete",
        EXPIRED: "refused: stale",
    }


def test_a_day_in_the_past_is_predicted_from_what_was_known_then() -> None:
    table = score(model(), views(), SPEC, replace(POLICY, missing="warn", max_missing_share=0.0), day=10)
    found = by_subject(table)
    assert set(table["study_day"]) == {10}
    x = expected({GOOD[0]: 10})
    x[0, 0], x[0, 2], x[0, 3] = 3.0, -9.0, np.nan  # vitals of day 7; its adverse event of day 20 had not happened
    assert found[GOOD[0]]["probability"] == pytest.approx(model().predict(x)[0], abs=1e-12)
    assert found[GOOD[0]]["status"] == "incomplete"
    assert found[OLD]["study_day"] == 10


def test_a_policy_that_warns_predicts_and_says_so() -> None:
    found = by_subject(score(model(), views(), SPEC, replace(POLICY, stale="warn", missing="warn")))
    assert {s: found[s]["status"] for s in (OLD, EMPTY)} == {OLD: "stale", EMPTY: "incomplete"}
    assert all(row["probability"] is not None for row in found.values())
    assert {row["flagged"] for row in found.values()} == {True, False}


def test_views_the_model_needs_must_be_there() -> None:
    with pytest.raises(TrialOpsError, match="have not been built"):
        score(model(), {name: frame for name, frame in views().items() if name != "events"}, SPEC, POLICY)
    with pytest.raises(TrialOpsError, match="have not been built"):
        score(model(), views() | {"vitals": views()["vitals"].drop("weight_slope")}, SPEC, POLICY)
    without = replace(model(), interval=None)
    assert score(without, views(), SPEC, POLICY)["low"].null_count() == 6


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def saved(folder: Path) -> Path:
    made = model().save(folder)
    (made / "service.json").write_text(SPEC.to_json())
    return made


def with_features(run: Any) -> Snapshot:
    """Validated tables and the views built from them, in the lake of a step."""
    clean = Snapshot({"DM": run.lake.write("clean/dm", pl.DataFrame({"USUBJID": list(GOOD)}))})
    run.lake.mark_validated("clean", clean, {}, run_id="run-1")
    built = Snapshot({name: run.lake.write(f"features/{name}", frame) for name, frame in views().items()})
    remember_features(run, clean, built)
    return built


def test_the_table_in_the_lake_names_the_model_and_the_record_its_inputs(home: Path, tmp_path: Path) -> None:
    with step("score-subjects") as run:
        built = with_features(run)
        table = score_subjects(run, saved(tmp_path / "b"), "withdrawal", "3")
        kept = run.read_latest(table_of("withdrawal"))
        assert run.inputs[0]["digest"] == built.digest
        assert [item["artifact"] for item in run.outputs] == ["scores/withdrawal"]
        assert run.metrics["subjects"] == 6 and run.metrics["predicted"] == 3
        again = score_subjects(run, tmp_path / "b", "withdrawal", "3")
        assert run.metrics["table_version"] == 0  # the same content is the same version
    assert kept is not None and kept.equals(table) and again.equals(table)
    assert set(kept["bundle_digest"]) == {model().digest} and set(kept["version"]) == {"3"}


def test_the_command_writes_the_table_and_shows_no_small_counts(home: Path, tmp_path: Path) -> None:
    from pipelines.cli import cli

    with step("build-features") as run:
        with_features(run)
    done = CliRunner().invoke(cli, ["score", "withdrawal", "--bundle", str(saved(tmp_path / "b"))])
    assert done.exit_code == 0, done.output
    assert "table scores/withdrawal version 0" in done.output
    assert "refused: stale: <11" in done.output
    assert all(subject not in done.output for subject in (*GOOD, OLD))


def test_serve_prints_where_it_is_and_a_request_that_works(tmp_path: Path) -> None:
    write(f"sqlite:///{tmp_path}/online.db")
    environment = {
        **os.environ,
        "TRIALOPS_HOME": str(tmp_path / "home"),
        "TRIALOPS_ONLINE_URL": f"sqlite:///{tmp_path}/online.db",
    }
    command = [sys.executable, "-m", "pipelines.cli", "serve", "withdrawal", "--port", "0"]
    command += ["--bundle", str(saved(tmp_path / "b"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            first, curl = server.stdout.readline(), server.stdout.readline()
            url = first.split(" answers at ")[1].strip()
            body = curl.split("-d '")[1].strip().rstrip("'").replace("SUBJECT", GOOD[0])
            request = urllib.request.Request(f"{url}/v2/models/withdrawal/infer", body.encode())
            with urllib.request.urlopen(request, timeout=20) as answer:
                p = json.loads(answer.read())["outputs"][0]["data"]
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    assert p == pytest.approx(model().predict(expected({GOOD[0]: 28})), abs=1e-12)
    assert len(list((tmp_path / "home" / "predictions" / "withdrawal").iterdir())) == 1


@pytest.mark.slow  # MLflow makes its database
def test_without_a_champion_there_is_nothing_to_serve(home: Path) -> None:
    from pipelines.cli import cli

    done = CliRunner().invoke(cli, ["serve", "withdrawal"])
    assert done.exit_code == 2 and "no champion" in done.output


def test_a_service_is_written_where_the_definitions_have_the_models_features(tmp_path: Path) -> None:
    assert write_service(tmp_path, model()) is None
    bundle = replace(model(), features=("age", "days_since_vitals"))
    path = write_service(tmp_path, bundle)
    assert path is not None
    service = read_service(path)
    assert service.ages == {"days_since_vitals": "vitals.vitals_last_day"} and "age" in service.columns
    with pytest.raises(TrialOpsError, match="cannot be read"):
        read_service(tmp_path / "absent.json")
    assert len(FEATURES) == 4
