"""The report function as an HTTP host runs it: asked by the transfer's client, replayed by Durable Functions' SDK."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.images.transferred import RUN, TRIAL, Transferred
from tests.support.functions_host import FUNCTION_KEY, HOOKS, SYSTEM_KEY, FunctionsHost, Instance, new_instance, replay
from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.stores import step
from trialops.stores.objects import open_store
from trialops.transfer.failures import TransferFailure
from trialops.transfer.final_reports import (
    KINDS,
    cleansed_exports,
    make_reports,
    parse_request,
    publish,
    verify_repository,
)
from trialops.transfer.functions import FunctionJob
from trialops.transfer.job import Start

APP = Path(__file__).resolve().parents[2] / "docker" / "report_function"
NOW = datetime(2024, 4, 2, 3, 30, tzinfo=UTC)
HEADERS = {"x-functions-key": FUNCTION_KEY}


def load_app() -> ModuleType:
    """The app's file, as the worker loads it."""
    spec = importlib.util.spec_from_file_location("function_app", APP / "function_app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("TRIALOPS_REPORT_RETRY_MILLISECONDS", "5")
    return load_app()


@pytest.fixture
def environment(transferred: Transferred, monkeypatch: pytest.MonkeyPatch) -> Transferred:
    monkeypatch.setenv("TRIALOPS_HOME", str(transferred.home))
    monkeypatch.setenv("TRIALOPS_REPOSITORY_URL", str(transferred.repository))
    return transferred


@pytest.fixture
def host(module: ModuleType) -> Iterator[FunctionsHost]:
    with FunctionsHost(module.app, clock=lambda: NOW) as running:
        yield running


def job(host: FunctionsHost, payload: dict[str, Any], client: httpx.Client) -> FunctionJob:
    place = f"{host.url}/api/reports/{{instance}}"
    return FunctionJob(
        client,
        start=place,
        status=place,
        stop=f"{place}/terminate",
        payload=payload,
        headers=lambda: HEADERS,
    )


def ended(host: FunctionsHost, identity: str) -> Instance:
    instance = host.instances[identity]
    assert instance.ended.wait(60)
    return instance


@pytest.mark.slow
def test_the_transfer_starts_it_once_and_believes_its_output(
    environment: Transferred, host: FunctionsHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token, payload = new_instance(), {**environment.request, "kinds": ["trial_progress"]}
    with httpx.Client() as client:
        asked = job(host, payload, client)
        started = asked.start_or_adopt(Start(token, NOW, NOW, fresh=True))
        assert started.job_id == token and not started.adopted
        first = asked.poll(token)
        assert first.phase == "running" and first.native in ("Pending", "Running")
        # A pod that starts again has neither the status address nor the knowledge that it was started.
        other = job(host, payload, client)
        assert other.start_or_adopt(Start(token, NOW, NOW, fresh=True)).adopted
        assert other.start_or_adopt(Start(token, NOW, NOW, fresh=False)).adopted
        ended(host, token)
        seen = other.poll(token)
        assert (seen.native, seen.phase) == ("Completed", "succeeded"), seen.facts
        evidence = other.evidence(token, seen)
        names = [report["name"] for report in evidence["reports"]]
        assert names == [f"trialops01-trial_progress-blinded-2024-03-31.{end}" for end in ("html", "pdf")]
    kept = environment.repository / TRIAL / "reports" / f"{RUN}.json"
    said = json.loads(kept.read_text())
    assert {(r["name"], r["sha256"], r["bytes"]) for r in said["reports"]} == {
        (r["name"], r["sha256"], r["bytes"]) for r in evidence["reports"]
    }
    assert {table["dataset"] for table in said["tables"]} == {"ae", "dm"}
    # What leaves the function, and what is written down of it, holds neither a key nor a subject.
    instance = host.instances[token]
    words = " ".join([kept.read_text(), json.dumps(instance.told()), json.dumps(instance.history), *host.lines])
    words += caplog.text
    assert FUNCTION_KEY not in words and SYSTEM_KEY not in words
    assert not [subject for subject in environment.subjects if subject in words]

    # Replay is the same at every step of the history, now and on another day.
    orchestrator = host.orchestrators[instance.name]
    assert len(instance.actions) == 4
    for _ in range(2):
        again = [
            replay(orchestrator, token, instance.input, instance.history[:upto])["actions"]
            for upto in episodes(instance.history)
        ]
        assert [json.dumps(actions, sort_keys=True) for actions in again] == instance.actions
    last = replay(orchestrator, token, instance.input, instance.history)
    assert last["isDone"] and last["output"] == instance.output

    # Asked again under another id (the transfer's next attempt), the reports are those that are there.
    with httpx.Client() as client:
        repeated = new_instance()
        job(host, payload, client).start_or_adopt(Start(repeated, NOW, NOW, fresh=True))
    assert ended(host, repeated).output == instance.output
    assert kept.read_text() == json.dumps(said, indent=1, sort_keys=True)


def episodes(history: list[dict[str, Any]]) -> list[int]:
    """Ends of the parts of a history after which the orchestrator ran."""
    completed = [k for k, event in enumerate(history) if event["EventType"] == 13]
    return [*completed, len(history)]


def test_a_repository_that_was_changed_is_refused_and_not_tried_again(
    environment: Transferred, host: FunctionsHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "repository"
    shutil.copytree(environment.repository, damaged)
    file = next(damaged.rglob("*.csv"))
    file.write_bytes(file.read_bytes().replace(b",", b";", 1))
    monkeypatch.setenv("TRIALOPS_REPOSITORY_URL", str(damaged))
    with httpx.Client() as client:
        asked, token = job(host, environment.request, client), new_instance()
        asked.start_or_adopt(Start(token, NOW, NOW, fresh=True))
        instance = ended(host, token)
        seen = asked.poll(token)
    assert (seen.native, seen.phase) == ("Failed", "failed")
    assert "verify: A file of the final repository is not the one that was cleansed" in instance.output
    assert [event["EventType"] for event in instance.history].count(4) == 1


@pytest.mark.parametrize(
    ("part", "answers", "attempts", "status"),
    [("make", [None, None, "result"], 3, "Completed"), ("verify", [None, None, None], 3, "Failed")],
)
def test_what_may_pass_is_tried_again(
    module: ModuleType, part: str, answers: list[Any], attempts: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    left = list(answers)

    def perform(named: str, document: dict[str, Any]) -> dict[str, Any]:
        calls.append(named)
        if named == part and left.pop(0) is None:
            raise RuntimeError(f"{named} ended with exit code 1")
        return {"result": {"run_id": document["request"]["run_id"], "as_of": document["as_of"]}}

    monkeypatch.setattr(module, "perform", perform)
    request = parse_request(asked()).as_dict()
    with FunctionsHost(module.app, clock=lambda: NOW) as running, httpx.Client(headers=HEADERS) as client:
        assert client.post(f"{running.url}/api/reports/i-1", json=request).status_code == 202
        instance = ended(running, "i-1")
        told = client.get(f"{running.url}/api/reports/i-1")
    assert calls.count(part) == attempts and instance.status == status, instance.output
    assert told.status_code == 200 and told.json()["runtimeStatus"] == status
    if status == "Completed":
        assert told.json()["output"] == {"run_id": "r1", "as_of": "2024-04-02"}
        assert told.json()["customStatus"] == "publish"
    else:
        assert "exit code 1" in told.json()["output"]


def asked(**changes: Any) -> dict[str, Any]:
    base = {"run_id": "r1", "trial": "T1", "snapshot": "0" * 64, "rows": 10, "validated_version": 1, "degraded": False}
    return {**base, **changes}


@pytest.fixture
def still(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[FunctionsHost]:
    """A host whose orchestrations stay where they are until the test ends."""
    import threading

    done = threading.Event()

    def perform(part: str, document: dict[str, Any]) -> dict[str, Any]:
        done.wait(30)
        return {"refused": {"what": "the test has ended", "where": ""}}

    monkeypatch.setattr(module, "perform", perform)
    with FunctionsHost(module.app, clock=lambda: NOW) as running:
        yield running
        done.set()


def test_addresses_keys_and_states(still: FunctionsHost) -> None:
    place = f"{still.url}/api/reports/i-1"
    with httpx.Client() as client:
        assert client.post(place, json=asked()).status_code == 401
        assert client.post(place, json=asked(), headers={"x-functions-key": "wrong"}).status_code == 401
        assert not still.instances
        assert client.get(place, headers=HEADERS).status_code == 404
        assert client.post(f"{place}/terminate", headers=HEADERS).status_code == 404
        started = client.post(place, json=asked(), headers=HEADERS)
        assert started.status_code == 202 and started.headers["Retry-After"] == "10"
        assert started.headers["Location"] == place == started.json()["statusQueryGetUri"]
        assert SYSTEM_KEY not in started.text and FUNCTION_KEY not in started.text and "code=" not in started.text
        again = client.post(place, json=asked(), headers=HEADERS)
        assert again.status_code == 409 and again.headers["Location"] == place
        running = client.get(place, headers=HEADERS)
        assert running.status_code == 202 and running.headers["Location"] == place
        assert running.json()["runtimeStatus"] in ("Pending", "Running") and running.json()["instanceId"] == "i-1"
        assert "input" not in running.json() and running.headers["Cache-Control"] == "no-store"
        # The extension's own address says the same to who holds its key.
        assert client.get(f"{still.url}{HOOKS}/instances/i-1", headers=HEADERS).status_code == 401
        own = client.get(f"{still.url}{HOOKS}/instances/i-1", params={"code": SYSTEM_KEY})
        assert own.status_code == 202 and own.json()["runtimeStatus"] == running.json()["runtimeStatus"]
        assert client.post(f"{place}/terminate", headers=HEADERS).status_code == 202
        stopped = client.get(place, headers=HEADERS)
        assert stopped.status_code == 200 and stopped.json()["runtimeStatus"] == "Terminated"
        assert client.post(place, json=asked(), headers=HEADERS).status_code == 409
        with pytest.raises(TransferFailure):  # the client does not take a terminated instance for a success
            ask = job(still, asked(), client)
            ask.evidence("i-1", ask.poll("i-1"))


def test_two_starts_at_once_make_one_instance(still: FunctionsHost) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def start(number: int) -> int:
        return httpx.post(f"{still.url}/api/reports/i-1", json=asked(), headers=HEADERS).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(start, range(8)))
    assert codes == [202] + [409] * 7 and list(still.instances) == ["i-1"]


BAD = {
    "no json": b"{",
    "nothing": b"null",
    "a list": b"[]",
    "no run": json.dumps({k: v for k, v in asked().items() if k != "run_id"}).encode(),
    "run that climbs": json.dumps(asked(run_id="../../x")).encode(),
    "rows as text": json.dumps(asked(rows="10")).encode(),
    "rows below zero": json.dumps(asked(rows=-1)).encode(),
    "version true": json.dumps(asked(validated_version=True)).encode(),
    "digest too short": json.dumps(asked(snapshot="ab")).encode(),
    "kinds empty": json.dumps(asked(kinds=[])).encode(),
    "kinds not names": json.dumps(asked(kinds=["x; rm"])).encode(),
    "more than it knows": json.dumps(asked(subject="01-701-1015")).encode(),
}


@pytest.mark.parametrize("name", BAD)
def test_a_request_that_is_none_starts_nothing(still: FunctionsHost, name: str) -> None:
    refused = httpx.post(f"{still.url}/api/reports/i-1", content=BAD[name], headers=HEADERS)
    assert refused.status_code == 400 and not still.instances
    assert "01-701-1015" not in refused.text and "../" not in refused.text


@pytest.mark.parametrize("identity", ["-x", "a" * 101, "a%20b", "a.b", "%2e%2e"])
def test_an_id_that_is_none_is_refused(still: FunctionsHost, identity: str) -> None:
    refused = httpx.post(f"{still.url}/api/reports/{identity}", json=asked(), headers=HEADERS)
    assert refused.status_code in (400, 404) and not still.instances


def test_the_request_of_the_transfer_is_understood() -> None:
    assert parse_request(asked()).kinds == KINDS
    assert parse_request(parse_request(asked(kinds=["all"])).as_dict()).kinds == ("all",)
    with pytest.raises(TrialOpsError, match="run_id, rows missing or of the wrong kind; 1 unknown"):
        parse_request({**asked(run_id="", rows=None), "x": 1})


def test_what_was_not_distributed_or_was_published_otherwise_is_refused(
    environment: Transferred, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = open_store(str(environment.repository))
    request = parse_request(environment.request)
    exports = {"dm": {"key": f"{TRIAL}/dm/{'0' * 32}.csv", "rows": 1, "sha256": "0" * 64}}
    with pytest.raises(TrialOpsError, match="lacks a file"):
        verify_repository(repository, request, exports)
    with pytest.raises(TrialOpsError, match="nothing to distribute"):
        verify_repository(repository, request, {})
    live_in(environment.home, monkeypatch, RUN)
    other = open_store(str(tmp_path / "other"))
    try:
        with step("test") as run:
            with pytest.raises(TrialOpsError, match="not of what the run cleansed"):
                cleansed_exports(run.objects, replace(request, rows=request.rows + 1))
            with pytest.raises(TrialOpsError, match="no finished cleansing"):
                cleansed_exports(run.objects, replace(request, run_id="another"))
            with pytest.raises(TrialOpsError, match="no such validated version"):
                make_reports(run, replace(request, validated_version=9), as_of=NOW.date())
            first = publish(run, other, request, verified=[], made=[])
            assert publish(run, other, request, verified=[], made=[]) == first
            with pytest.raises(TrialOpsError, match="published other reports"):
                publish(run, other, request, verified=[{"dataset": "dm"}], made=[])
    finally:
        leave()


def test_host_settings_keep_inputs_out_of_the_telemetry_and_running_instances_in_place() -> None:
    settings = json.loads((APP / "host.json").read_text())
    durable = settings["extensions"]["durableTask"]
    assert durable["overridableExistingInstanceStates"] == "NonRunningStates"
    assert durable["tracing"]["traceInputsAndOutputs"] is False
    assert settings["extensions"]["http"]["routePrefix"] == "api"
    assert not list(APP.rglob("function.json")), "the v2 programming model has none"


def test_every_part_of_an_instance_is_of_one_day(module: ModuleType) -> None:
    """The day is the orchestration's first, however long it takes."""
    ticks = iter(range(10_000))
    days: list[str] = []

    def perform(part: str, document: dict[str, Any]) -> dict[str, Any]:
        days.append(document["as_of"])
        return {"result": {"run_id": "r1"}}

    module.perform = perform  # type: ignore[attr-defined]
    with FunctionsHost(module.app, clock=lambda: NOW + timedelta(hours=6 * next(ticks))) as running:
        made = httpx.post(f"{running.url}/api/reports/i-1", json=asked(), headers=HEADERS)
        assert made.status_code == 202
        ended(running, "i-1")
    assert days == ["2024-04-02"] * 3 and sys.version_info[:2] == (3, 11)
