"""The router between real servers: protocol, assignment, fallback, breaker, records, drain."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_bundles import FEATURES, logistic

from trialops.errors import TrialOpsError
from trialops.serving.call_log import EXPOSURES, CallLog, LogReader
from trialops.serving.client import HOST, InferenceClient
from trialops.serving.process import RouterProcess, ServerProcess
from trialops.serving.route_request import answered, asked, narrowed
from trialops.serving.routing import Backend, Routing, assign, read_routing, unit_of, write_routing

NEW = logistic((0.85, -0.62, 0.31), -0.42)
OLD = logistic()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """The model in use and a good candidate."""
    folder = tmp_path_factory.mktemp("servers")
    with (
        ServerProcess(OLD.save(folder / "old"), "withdrawal", "1", folder / "s1") as old,
        ServerProcess(NEW.save(folder / "new"), "withdrawal", "2", folder / "s2") as new,
    ):
        yield old, new


def backends(servers: tuple[ServerProcess, ServerProcess]) -> tuple[Backend, Backend]:
    return Backend(HOST, servers[0].port, "1", OLD.digest), Backend(HOST, servers[1].port, "2", NEW.digest)


@contextmanager
def routed(folder: Path, routing: Routing, **how: Any) -> Iterator[RouterProcess]:
    write_routing(folder / "routing.json", routing)
    with RouterProcess(folder / "routing.json", "withdrawal", folder / "router", **how) as router:
        yield router


def body(subject: str | None = None, value: float = 0.5, **more: Any) -> bytes:
    tensors = [{"name": n, "datatype": "FP64", "shape": [1], "data": [value]} for n in FEATURES]
    parameters = {"parameters": {"subject_id": subject}} if subject else {}
    return json.dumps({"inputs": tensors, **parameters, **more}).encode()


def infer(client: InferenceClient, content: bytes, path: str = "/v2/models/withdrawal/infer") -> tuple[int, str]:
    """Status, and the version that answered."""
    status, answer = client.send("POST", path, content)
    return status, json.loads(answer).get("model_version", "") if status == 200 else ""


def records(router: RouterProcess, n: int) -> list[dict[str, Any]]:
    """The first n records, once they are there."""
    reader, found, until = LogReader(router.calls), [], time.monotonic() + 30
    while len(found) < n and time.monotonic() < until:
        found += reader.new()
        time.sleep(0.01)
    return found


def test_what_is_not_a_prediction_passes_through_to_the_stable_server(
    servers: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    stable, candidate = backends(servers)
    with (
        routed(tmp_path, Routing("withdrawal", stable, candidate, percent=100)) as router,
        router.client() as through,
        servers[0].client() as direct,
    ):
        for method, path in (
            ("GET", "/v2"), ("GET", "/v2/models/withdrawal"), ("GET", "/v2/models/another"), ("PUT", "/v2"),
            ("HEAD", "/v2/health/ready"), ("GET", "/v2/models/withdrawal/infer"),
            ("GET", "/v2/models/withdrawal/versions/9"),
        ):  # fmt: skip
            assert through.send(method, path) == direct.send(method, path)
        for malformed in (b"", b"[]", b'{"inputs": []}', b"\xff", b'{"inputs": 3}'):
            assert through.send("POST", f"{through.model}/infer", malformed) == direct.send(
                "POST", "/v2/models/withdrawal/infer", malformed
            )
        wrong = body(inputs=[{"name": "age", "datatype": "FP64", "shape": [1], "data": [1]}])
        assert through.send("POST", f"{through.model}/infer", wrong)[0] == 400  # both models refuse it
        metrics = through.send("GET", "/metrics")[1].decode()
        assert 'trialops_router_calls_total{arm="candidate",outcome="refused"} 2' in metrics
        assert 'outcome="error"' not in metrics


def test_a_version_asked_for_by_name_is_answered_by_it(
    servers: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    stable, candidate = backends(servers)
    with routed(tmp_path, Routing("withdrawal", stable, candidate)) as router, router.client() as client:
        assert infer(client, body(), "/v2/models/withdrawal/versions/2/infer") == (200, "2")
        assert infer(client, body(), "/v2/models/withdrawal/versions/1/infer") == (200, "1")
        assert infer(client, body(), "/v2/models/withdrawal/versions/7/infer")[0] == 404
        assert json.loads(client.send("GET", "/v2/models/withdrawal/versions/2")[1])["versions"] == ["2"]


def test_a_subject_always_meets_the_same_model_and_shares_are_as_told(
    servers: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    stable, candidate = backends(servers)
    told = Routing("withdrawal", stable, candidate, percent=30, salt="s", rollout="r-1")
    subjects = [f"P{i:03d}" for i in range(60)]
    with routed(tmp_path, told) as router, router.client() as client:
        for value in (0.1, 0.9):
            for subject in subjects:
                expected = "2" if assign(unit_of(subject), 30, "s") else "1"
                assert infer(client, body(subject, value)) == (200, expected)
        write_routing(router.routing, replace(told, percent=0))  # takes effect with the next request
        assert {infer(client, body(subject))[1] for subject in subjects} == {"1"}
        text = (router.calls).glob("*.jsonl")
        assert not any(subject in path.read_text() for path in text for subject in subjects)
        exposed = list(LogReader(router.calls, EXPOSURES).new())
        assert len(exposed) == 60  # first exposures, and none from the time without a share
        assert {e["unit"] for e in exposed if e["arm"] == "candidate"} == {
            unit_of(s) for s in subjects if assign(unit_of(s), 30, "s")
        }


def test_shadow_answers_are_recorded_and_never_given(
    servers: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    stable, candidate = backends(servers)
    told = Routing("withdrawal", stable, candidate, mirror=True, rollout="r", step=3, attempt=2)
    ids = [str(uuid.uuid4()) for _ in range(20)]
    with routed(tmp_path, told) as router, router.client() as client:
        for k, name in enumerate(ids):
            assert infer(client, body(value=k / 10, id=name)) == (200, "1")
        found = records(router, 20)
    assert {r["request"] for r in found} == set(ids)
    for record in found:
        assert (record["rollout"], record["step"], record["attempt"], record["served"]) == ("r", 3, 2, "stable")
        assert record["calls"]["candidate"]["mirror"] and not record["calls"]["stable"]["mirror"]
        value = ids.index(record["request"]) / 10
        x = np.full((1, 3), value)
        assert record["calls"]["candidate"]["probability"] == pytest.approx(NEW.predict(x)[0])
        assert record["calls"]["stable"]["probability"] == pytest.approx(OLD.predict(x)[0])
        assert record["calls"]["candidate"]["digest"] == NEW.digest


@pytest.mark.parametrize("fault", ["errors:1", "garbage", "hang", "refuse", "crash:1"])
def test_a_failing_candidate_is_replaced_within_the_request_and_then_no_longer_asked(
    servers: tuple[ServerProcess, ServerProcess], tmp_path: Path, fault: str
) -> None:
    stable, _ = backends(servers)
    program = ("-m", "tests.support.faulty_server", fault)
    with ServerProcess(
        NEW.save(tmp_path / "b"), "withdrawal", "2", tmp_path / "c", program=program, stop_seconds=2.0
    ) as bad:
        told = Routing(
            "withdrawal", stable, Backend(HOST, bad.port, "2"), percent=100, candidate_timeout=0.3, breaker=4
        )
        with routed(tmp_path, told) as router, router.client() as client:
            assert [infer(client, body(value=k / 7)) for k in range(8)] == [(200, "1")] * 8
            found = records(router, 8)
            metrics = client.send("GET", "/metrics")[1].decode()
    assert ["candidate" in r["calls"] for r in found] == [True] * 4 + [False] * 4
    assert all(r["served"] == "stable" for r in found)
    assert "trialops_router_breaker_open 1" in metrics and "trialops_router_fallbacks_total 4" in metrics


def test_another_bundle_than_the_one_told_answers_nobody(
    servers: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    stable, candidate = backends(servers)
    told = Routing("withdrawal", stable, replace(candidate, digest="0" * 64), percent=100)
    with routed(tmp_path, told) as router, router.client() as client:
        assert infer(client, body()) == (200, "1")
        (record,) = records(router, 1)
    assert record["calls"]["candidate"]["ok"] and record["calls"]["candidate"]["digest"] == NEW.digest


def test_a_routing_file_that_is_lost_or_broken_changes_nothing(
    servers: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    stable, candidate = backends(servers)
    with (
        routed(tmp_path, Routing("withdrawal", stable, candidate, percent=100)) as router,
        router.client() as client,
    ):
        router.routing.write_text("{")
        assert infer(client, body()) == (200, "2")
        router.routing.unlink()
        assert infer(client, body()) == (200, "2")
        assert "trialops_router_routing_unreadable_total 0" not in client.send("GET", "/metrics")[1].decode()
        write_routing(router.routing, Routing("withdrawal", stable))
        assert infer(client, body()) == (200, "1")
        write_routing(router.routing, Routing("withdrawal", None))
        assert infer(client, body())[0] == 503
    with pytest.raises(TrialOpsError, match="cannot be read"):
        read_routing(tmp_path / "absent")


def test_a_restarted_stable_server_costs_no_request(tmp_path: Path) -> None:
    folder = OLD.save(tmp_path / "b")
    server = ServerProcess(folder, "withdrawal", "1", tmp_path / "s")
    with (
        server,
        routed(tmp_path, Routing("withdrawal", Backend(HOST, server.port, "1"))) as router,
        router.client() as client,
    ):
        assert infer(client, body()) == (200, "1")
        server.stop()
        assert infer(client, body())[0] == 503
        with server:  # on the same port; the router's kept connection is dead
            assert infer(client, body()) == (200, "1")


def test_it_drains_on_sigterm(servers: tuple[ServerProcess, ServerProcess], tmp_path: Path) -> None:
    stable, _ = backends(servers)
    with routed(tmp_path, Routing("withdrawal", stable), drain=1.5) as router, router.client() as client:
        assert infer(client, body()) == (200, "1")
        os.kill(router.pid, signal.SIGTERM)
        until = time.monotonic() + 10
        while client.send("GET", "/v2/health/ready")[0] == 200 and time.monotonic() < until:
            time.sleep(0.01)
        assert client.send("GET", "/v2/health/ready")[0] == 503  # a balancer looks elsewhere
        assert infer(client, body()) == (200, "1")  # and whoever still comes is answered
        assert router.stop() == 0


def test_callers_at_once_over_kept_connections(servers: tuple[ServerProcess, ServerProcess], tmp_path: Path) -> None:
    stable, candidate = backends(servers)
    told = Routing("withdrawal", stable, candidate, percent=50, mirror=True)
    bad: list[object] = []

    def call(port: int, seed: int) -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=30)
        for k in range(40):
            connection.request("POST", "/v2/models/withdrawal/infer", body(value=seed + k / 40))
            answer = connection.getresponse()
            document = json.loads(answer.read())
            model = NEW if document["model_version"] == "2" else OLD
            expected = model.predict(np.full((1, 3), seed + k / 40))[0]
            if answer.status != 200 or abs(document["outputs"][0]["data"][0] - expected) > 1e-9:
                bad.append(document)  # another caller's answer would show here

    with routed(tmp_path, told) as router:
        threads = [threading.Thread(target=call, args=(router.port, seed)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bad == [] and len(records(router, 240)) == 240


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (body("P1", 0.1), body("P1", 0.9), True),
        (body("P1"), body("P2"), False),
        (body(value=0.1), body(value=0.1, id="another"), True),
        (body(value=0.1), body(value=0.2), False),
    ],
)
def test_units(one: bytes, other: bytes, same: bool) -> None:
    first, second = asked(one), asked(other)
    assert first is not None and second is not None
    assert (first.unit == second.unit) is same


def test_the_subject_tensor_names_the_unit_and_several_are_one() -> None:
    def tensor(*subjects: str) -> bytes:
        named = {"name": "subject_id", "datatype": "BYTES", "shape": [len(subjects)], "data": list(subjects)}
        return json.dumps({"inputs": [named]}).encode()

    one, two = asked(tensor("P1")), asked(tensor("P2", "P1"))
    assert one is not None and one.unit == unit_of("P1")
    assert two is not None and two == replace(two, unit=unit_of("P1\0P2"))
    assert asked(b"nothing") is None and asked(b'{"inputs": [{"name": 3}]}') is None


def test_only_answers_are_answers() -> None:
    def answer(data: Any, name: str = "probability") -> bytes:
        return json.dumps({"outputs": [{"name": name, "data": data}], "parameters": {"bundle_digest": "d"}}).encode()

    good = answered(answer([0.25, 1.0]))
    assert good is not None and (good.probability, good.digest) == (0.25, "d")
    for bad in (answer([]), answer([1.5]), answer([None]), answer("x"), answer([0.5], "other"), b"", b"{}"):
        assert answered(bad) is None


def test_a_request_is_cut_to_what_a_model_takes() -> None:
    content = body()
    assert narrowed(content, FEATURES) == content and narrowed(content, ()) == content
    cut = json.loads(narrowed(content, FEATURES[:2]))
    assert [tensor["name"] for tensor in cut["inputs"]] == list(FEATURES[:2])
    assert narrowed(content, ("unknown",)) == content  # the model says what is missing


def test_the_record_is_read_once_in_segments_and_an_unfinished_line_is_left_for_later(tmp_path: Path) -> None:
    log = CallLog(tmp_path, segment_bytes=60)
    reader = LogReader(tmp_path)
    for k in range(5):
        log.write({"k": k, "padding": "x" * 20})
    assert [r["k"] for r in reader.new()] == [0, 1, 2, 3, 4]
    assert len(list(tmp_path.glob("calls-*.jsonl"))) > 1
    assert list(reader.new()) == []
    log.close()
    last = max(tmp_path.glob("calls-*.jsonl"))
    with last.open("ab") as file:
        file.write(b'{"k": 5')
    assert list(reader.new()) == []
    with last.open("ab") as file:
        file.write(b"}\n")
    assert [r["k"] for r in reader.new()] == [5]


def test_assignment_is_nested_and_a_salt_of_its_own_is_independent() -> None:
    units = [unit_of(f"S{i}") for i in range(20_000)]

    def share(percent: float, salt: str) -> set[str]:
        return {unit for unit in units if assign(unit, percent, salt)}

    assert share(5, "a") < share(25, "a") < share(50, "a")
    assert len(share(25, "a") & share(25, "b")) / 20_000 == pytest.approx(0.0625, abs=0.008)


def test_the_router_needs_no_library_that_trains_tracks_or_holds_data() -> None:
    script = """
import sys
import trialops.serving.router, uvicorn
heavy = "kfp mlflow sklearn pandas polars pyarrow duckdb ray feast sqlalchemy scipy lightgbm fastapi numpy".split()
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
