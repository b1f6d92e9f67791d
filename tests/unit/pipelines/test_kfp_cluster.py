"""Submitting runs and keeping recurring runs, against a small Kubeflow Pipelines API over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kfp_server import State, serving

from pipelines import schedules, submit
from pipelines.catalog import Entry
from trialops.errors import TrialOpsError


def entry(name: str, schedule: str | None) -> Entry:
    given = (("marks", "/marks"), ("rows", "5")) if schedule else ()
    return Entry(name, name.capitalize(), "toys", "toy_pipelines", schedule, (), "tester", "none", arguments=given)


CHAIN = entry("toy_chain", "0 3 * * 1")
NESTED = entry("toy_nested", "*/15 * * * *")
GUESS = entry("toy_guess", None)


@pytest.fixture
def server() -> Iterator[State]:
    with serving() as state:
        yield state


def actions(changes: list[schedules.Change]) -> dict[str, str]:
    return {change.name: change.action for change in changes}


def test_reconcile(server: State) -> None:
    client = submit.connect(server.url)
    foreign = [
        {"display_name": "nightly", "description": "by hand", "recurring_run_id": "f1"},
        {"display_name": "trialops-toy-chain", "description": "by hand, same name", "recurring_run_id": "f2"},
        {"display_name": "another", "description": "", "recurring_run_id": "f3"},
    ]
    server.items["recurringruns"] += foreign
    catalog = (CHAIN, NESTED, GUESS)
    before = schedules.diff(client, catalog)
    assert actions(before) == {"trialops-toy-chain": "create", "trialops-toy-nested": "create"}
    assert not [method for method, _ in server.requests if method != "GET"], "a diff changes nothing"

    schedules.apply(client, catalog)
    made = [item for item in server.items["recurringruns"] if item not in foreign]
    chain = next(item for item in made if item["display_name"] == "trialops-toy-chain")
    assert chain["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    assert chain["max_concurrency"] == "1" and chain["no_catchup"] is True and chain["mode"] == "ENABLE"
    assert chain["runtime_config"]["parameters"] == {"marks": "/marks", "rows": 5}
    assert "pipeline_version_id" not in chain["pipeline_version_reference"], "no version means the latest"
    assert server.refused == []
    assert set(actions(schedules.apply(client, catalog)).values()) == {"same"}

    moved = (replace(CHAIN, schedule="30 4 * * 1"), replace(NESTED, schedule=None), GUESS)
    changes = schedules.apply(client, moved)
    assert actions(changes) == {"trialops-toy-chain": "update", "trialops-toy-nested": "delete"}
    assert changes[0].why == "cron 0 0 3 * * 1 becomes 0 30 4 * * 1"
    left = [item for item in server.items["recurringruns"] if item not in foreign]
    assert [item["trigger"]["cron_schedule"]["cron"] for item in left] == ["0 30 4 * * 1"]
    assert all(item in server.items["recurringruns"] for item in foreign), "what is not ours stays"
    with pytest.raises(TrialOpsError, match="needs a value for marks"):
        schedules.apply(client, (replace(CHAIN, arguments=()),))
    assert len(server.items["recurringruns"]) == len(foreign) + 1, "nothing was deleted before the error"


def test_pinned_version_and_duplicates(server: State) -> None:
    client = submit.connect(server.url)
    schedules.apply(client, (CHAIN,))
    assert actions(schedules.diff(client, (CHAIN,), pinned=True)) == {"trialops-toy-chain": "update"}
    schedules.apply(client, (CHAIN,), pinned=True)
    (run,) = server.items["recurringruns"]
    (version,) = server.items["versions"]
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    server.items["recurringruns"].append({**run, "recurring_run_id": "again"})
    assert schedules.diff(client, (CHAIN,), pinned=True)[0].why == "found 2 times"
    schedules.apply(client, (CHAIN,), pinned=True)
    assert len(server.items["recurringruns"]) == 1
    server.items["recurringruns"][0]["mode"] = "DISABLE"
    (paused,) = schedules.diff(client, (CHAIN,), pinned=True)
    assert paused.action == "same" and paused.why == "paused on the server"


def test_submit_and_wait(server: State, tmp_path: Path) -> None:
    told: list[str] = []
    values = {"marks": str(tmp_path), "rows": "7"}
    done = submit.submit(CHAIN, values, host=server.url, wait=True, poll_seconds=0.01, told=told.append)
    assert done.state == "SUCCEEDED"
    assert told == [f"{server.url}/#/runs/details/{done.run_id}", "running", "succeeded"]
    (run,) = server.items["runs"]
    assert run["runtime_config"]["parameters"] == {"marks": str(tmp_path), "rows": 7}
    again = submit.submit(CHAIN, values, host=server.url)
    assert again.version == done.version and len(server.items["versions"]) == 1, "one version per content"
    server.states = ["CANCELED"]
    assert submit.submit(CHAIN, values, host=server.url, wait=True, poll_seconds=0.01).state == "CANCELED"


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="not encrypted"):
        submit.connect("http://kfp.example.org")
    with pytest.raises(TrialOpsError, match="no parameter"):
        submit.submit(CHAIN, {"marks": "x", "nothing": 1}, host="http://127.0.0.1:9")
    with serving(token="right") as state:
        # A stated namespace spares the client its health check, which would try five times.
        with pytest.raises(TrialOpsError, match="HTTP 401") as caught:
            schedules.diff(submit.connect(state.url, namespace="trial", token="wrong"), (CHAIN,))
        assert "token" in caught.value.fix
        schedules.diff(submit.connect(state.url, namespace="trial", token="right"), (CHAIN,))


def test_six_fields() -> None:
    assert schedules.six_fields("*/15 * * * *") == "0 */15 * * * *"
    with pytest.raises(TrialOpsError, match="five fields"):
        schedules.six_fields("0 0 3 * * 1")
