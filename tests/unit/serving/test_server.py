"""The model server as a real process."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_bundles import FEATURES, logistic, overflowing, trees

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.serving.process import ServerProcess
from trialops.serving.server import main

PATIENCE = 30.0
Save = Callable[[Bundle, str], Path]


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the logistic model, version 3."""
    folder = tmp_path_factory.mktemp("served")
    with ServerProcess(logistic().save(folder / "bundle"), "withdrawal", "3", folder / "work") as server:
        yield server


def infer_body(row: list[Any], **more: Any) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": row}], **more}
    ).encode()


def test_the_protocols_addresses_answer(served: ServerProcess) -> None:
    client = served.client()
    documents = {}
    for path in (
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/withdrawal",
        "/v2/models/withdrawal/ready",
        "/v2/models/withdrawal/versions/3",
        "/v2/models/withdrawal/versions/3/ready",
    ):
        status, text = client.send("GET", path)
        assert status == 200, path
        documents[path] = json.loads(text)
    assert documents["/v2"]["name"] == "trialops"
    assert documents["/v2/health/live"] == {"live": True}
    assert documents["/v2/health/ready"] == {"ready": True}
    assert documents["/v2/models/withdrawal/ready"] == {"name": "withdrawal", "ready": True}
    model = documents["/v2/models/withdrawal"]
    assert model == documents["/v2/models/withdrawal/versions/3"]
    assert model["versions"] == ["3"] and model["platform"] == "trialops_logistic"
    assert model["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 3]}]
    assert model["outputs"] == [
        {"name": "probability", "datatype": "FP64", "shape": [-1]},
        {"name": "contributions", "datatype": "FP64", "shape": [-1, 4]},
    ]
    assert model["parameters"] == {"features": list(FEATURES), "bundle_digest": logistic().digest}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/withdrawal/versions/4", 404),
        ("POST", "/v2/models/withdrawal/versions/4/infer", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/v2/models/withdrawal/infer", 405),
        ("DELETE", "/v2/models/withdrawal", 405),
    ],
)
def test_other_addresses_and_methods_are_refused_with_a_reason(
    served: ServerProcess, method: str, path: str, status: int
) -> None:
    got, text = served.client().send(method, path, b"{}" if method == "POST" else None)
    assert got == status
    assert json.loads(text)["error"]


@pytest.mark.parametrize("bundle", [logistic(), trees()], ids=["logistic", "lightgbm"])
def test_answers_equal_the_offline_model_for_one_row_and_for_many(
    bundle: Bundle, tmp_path: Path, rows: np.ndarray
) -> None:
    expected = bundle.predict(rows)
    assert np.ptp(expected) > 0.1
    with (
        ServerProcess(bundle.save(tmp_path / "b"), "withdrawal", "3", tmp_path) as server,
        server.client() as client,
    ):
        for x, wanted in ((rows[:1], expected[:1]), (rows, expected)):
            answer = client.infer(x, FEATURES)
            assert (answer.status, answer.digest) == (200, bundle.digest)
            np.testing.assert_allclose(answer.probability, wanted, rtol=0, atol=1e-12)
        shuffled = client.infer(rows[:, ::-1], FEATURES[::-1])
        np.testing.assert_allclose(shuffled.probability, expected, rtol=0, atol=1e-12)


def test_the_callers_id_comes_back_and_an_absent_one_is_made(served: ServerProcess) -> None:
    client = served.client()
    path = "/v2/models/withdrawal/versions/3/infer"
    assert json.loads(client.send("POST", path, infer_body([1, 2, 3], id="visit-4"))[1])["id"] == "visit-4"
    assert uuid.UUID(json.loads(client.send("POST", path, infer_body([1, 2, 3]))[1])["id"])


def test_bad_requests_get_400_and_the_server_goes_on(served: ServerProcess) -> None:
    client = served.client()
    for text in (b"", b"{", infer_body([1, 2]), infer_body(["x", 1, 2])):
        status, answer = client.send("POST", "/v2/models/withdrawal/infer", text)
        assert status == 400
        assert json.loads(answer)["error"]
    assert client.infer(np.zeros((1, 3)), FEATURES).status == 200


def test_a_declared_body_that_is_too_long_is_refused_unread(served: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    connection.putrequest("POST", "/v2/models/withdrawal/infer")
    connection.putheader("content-length", str(10**12))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 400
    assert "at most" in json.loads(response.read())["error"]
    connection.close()


def test_a_chunked_body_that_is_too_long_is_refused(tmp_path: Path) -> None:
    from trialops.serving.application import _body
    from trialops.serving.protocol import BadRequest

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 600, "more_body": True}

    with pytest.raises(BadRequest, match="longer than the 1000 bytes"):
        _body({"headers": []}, receive, 1000).send(None)


def test_binary_tensors_are_taken_and_given(served: ServerProcess) -> None:
    x = np.array([[1.0, np.nan, 3.0], [0.5, 2.0, -1.0]])
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "features", "datatype": "FP64", "shape": [2, 3],
                    "parameters": {"binary_data_size": 48},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    connection.request("POST", "/v2/models/withdrawal/infer", head + x.tobytes(), headers)
    response = connection.getresponse()
    text, split = response.read(), int(response.headers["Inference-Header-Content-Length"])
    connection.close()
    assert (response.status, response.headers["content-type"]) == (200, "application/octet-stream")
    assert json.loads(text[:split])["outputs"][0]["parameters"] == {"binary_data_size": 16}
    np.testing.assert_array_equal(np.frombuffer(text[split:]), logistic().predict(x))


def test_the_request_log_has_one_line_per_request_and_nothing_about_a_subject(
    tmp_path: Path,
) -> None:
    from trialops.serving.protocol import prediction_digest

    known = str(uuid.uuid4())
    with (
        ServerProcess(logistic().save(tmp_path / "b"), "withdrawal", "3", tmp_path) as server,
        server.client() as client,
    ):
        path = "/v2/models/withdrawal/infer"
        client.send("POST", path, infer_body([41.625, -7.0625, 3], id="01-701-1015"))
        client.send("POST", path, infer_body([41.625, -7.0625, 3], id=known))
        client.send("POST", path, infer_body(["01-701-1015", 2, 3]))
        assert wait_until(lambda: server.request_log.read_text().count("\n") == 3)
        text = server.request_log.read_text() + server.output.read_text()
        lines = [json.loads(line) for line in server.request_log.read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 200, 400]
    assert [line["n"] for line in lines] == [1, 1, 0]
    assert lines[1]["request_id"] == known
    assert uuid.UUID(lines[0]["request_id"])
    p = logistic().predict(np.array([[41.625, -7.0625, 3]]))
    assert lines[0]["prediction_digest"] == prediction_digest(p)
    assert {line["model_version"] for line in lines} == {"3"}
    assert all(line["latency_ms"] > 0 for line in lines)
    for secret in ("1015", "41.625", "7.0625"):
        assert secret not in text


def test_a_model_that_overflows_answers_500_and_keeps_its_values_to_itself(tmp_path: Path) -> None:
    with (
        ServerProcess(overflowing().save(tmp_path / "b"), "withdrawal", "3", tmp_path) as server,
        server.client() as client,
    ):
        assert client.infer(np.zeros((1, 3)), FEATURES).status == 200
        answer = client.infer(np.array([[87.25, 87.25, 1.0]]), FEATURES)
        assert answer.status == 500
        assert "87.25" not in answer.error + server.output.read_text()


def metric(text: str, name: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith(name)).rsplit(" ", 1)[1])


def test_metrics_count_requests_rows_and_latency(tmp_path: Path, rows: np.ndarray) -> None:
    with (
        ServerProcess(logistic().save(tmp_path / "b"), "withdrawal", "3", tmp_path) as server,
        server.client() as client,
    ):
        client.infer(rows, FEATURES)
        client.infer(rows[:1], FEATURES)
        client.send("POST", "/v2/models/withdrawal/infer", b"{")
        status, page = client.send("GET", "/metrics")
    text = page.decode()
    labels = 'model="withdrawal",version="3"'
    assert status == 200
    assert metric(text, f'trialops_inference_requests_total{{{labels},code="200"}}') == 2
    assert metric(text, f'trialops_inference_requests_total{{{labels},code="400"}}') == 1
    assert metric(text, f"trialops_inference_rows_total{{{labels}}}") == 201
    assert metric(text, f"trialops_inference_latency_seconds_count{{{labels}}}") == 3
    assert metric(text, f'trialops_prediction_probability_bucket{{{labels},le="0.5"}}') == (
        (logistic().predict(rows) <= 0.5).sum() + (logistic().predict(rows[:1]) <= 0.5).sum()
    )
    buckets = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if "latency_seconds_bucket" in line]
    assert buckets == sorted(buckets) and buckets[-1] == 3
    prometheus = pytest.importorskip("prometheus_client.parser")
    families = {family.name for family in prometheus.text_string_to_metric_families(text)}
    assert {
        "trialops_inference_requests",
        "trialops_inference_latency_seconds",
        "trialops_model_info",
    } <= families


def test_sigterm_makes_it_not_ready_finishes_what_is_in_flight_and_exits_0(tmp_path: Path) -> None:
    bundle = logistic()
    with ServerProcess(bundle.save(tmp_path / "b"), "withdrawal", "3", tmp_path, drain=3.0) as server:
        text = infer_body([1, 2, 3])
        slow = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        head = f"POST /v2/models/withdrawal/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(text)}\r\n\r\n"
        slow.sendall(head.encode() + text[:10])  # a request whose body is still on its way
        with server.client() as client:
            assert wait_until(
                lambda: b'in_flight{model="withdrawal",version="3"} 1' in client.send("GET", "/metrics")[1]
            )
            os.kill(server.pid, signal.SIGTERM)
            assert wait_until(lambda: client.send("GET", "/v2/health/ready") == (503, b'{"ready": false}'))
            assert client.send("GET", "/v2/health/live")[0] == 200
            assert client.infer(np.zeros((1, 3)), FEATURES).status == 200  # still answers while it drains
            os.kill(server.pid, signal.SIGTERM)  # a second signal ends the drain
            refused = wait_until(lambda: server.client(timeout=1.0).send("GET", "/v2/health/live")[0] == 0)
            assert refused and server.alive()  # closed for others, but not gone: a request is in flight
        slow.sendall(text[10:])
        answer = b""
        while chunk := slow.recv(65536):
            answer += chunk
        slow.close()
        assert answer.startswith(b"HTTP/1.1 200")
        assert (
            json.loads(answer.split(b"\r\n\r\n", 1)[1])["outputs"][0]["data"]
            == bundle.predict(np.array([[1.0, 2.0, 3.0]])).tolist()
        )
        assert server.stop() == 0


def test_a_bundle_that_does_not_load_is_a_clear_error_with_the_log_tail(save: Save, tmp_path: Path) -> None:
    folder = save(trees(), "bad")
    with (folder / "booster.lgb").open("a") as file:
        file.write("\n")
    server = ServerProcess(folder, "withdrawal", "3", tmp_path / "w")
    with pytest.raises(TrialOpsError) as error, server:
        pass
    assert "ended with code 1 before it was ready" in error.value.what
    assert "altered after it was written" in error.value.what
    assert "server.out" in error.value.fix
    assert not server.alive()


def test_a_model_that_cannot_answer_its_warm_up_never_becomes_ready(save: Save, tmp_path: Path) -> None:
    bundle = replace(overflowing(), fill=dict.fromkeys(FEATURES, 10.0))
    server = ServerProcess(save(bundle, "b"), "withdrawal", "3", tmp_path / "w")
    with pytest.raises(TrialOpsError, match="failed its warm-up"), server:
        pass


def test_a_server_that_is_not_ready_in_time_is_ended(save: Save, tmp_path: Path) -> None:
    server = ServerProcess(save(logistic(), "b"), "withdrawal", "3", tmp_path / "w", start_seconds=0.0)
    with pytest.raises(TrialOpsError, match="not ready within 0 s"), server:
        pass
    assert not server.alive()


def test_a_port_in_use_is_named(save: Save, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(logistic(), "b")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["--bundle", str(folder), "--name", "w", "--version", "1", "--port", str(port)])
    assert code == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("thread", ["main", "other"])
def test_killing_the_parent_ends_the_server(save: Save, tmp_path: Path, thread: str) -> None:
    script = f"""
import sys, threading, time
from pathlib import Path
from trialops.serving.process import ServerProcess
server = ServerProcess(Path({str(save(logistic(), "b"))!r}), "withdrawal", "3", Path({str(tmp_path / "w")!r}))
def start():
    server.__enter__()
if {thread!r} == "main":
    start()
else:
    starter = threading.Thread(target=start); starter.start(); starter.join()
time.sleep(0.2)
print(server.pid, server.client().ready(), flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        pid, ready = parent.stdout.readline().split()
        assert ready == "True" and running(int(pid))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert wait_until(lambda: not running(int(pid)))


def test_an_exception_in_the_block_ends_the_server(save: Save, tmp_path: Path) -> None:
    server = ServerProcess(save(logistic(), "b"), "withdrawal", "3", tmp_path / "w")
    with pytest.raises(ZeroDivisionError), server:
        pid = server.pid
        raise ZeroDivisionError
    assert not running(pid)
    assert server.stop() == 0


def test_the_server_needs_no_training_or_tracking_library(save: Save, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import numpy as np, uvicorn
import trialops.serving.server, trialops.serving.application
from trialops.models.bundle import Bundle
Bundle.load(Path(sys.argv[1])).predict(np.zeros((1, 3)))
heavy = "kfp mlflow sklearn pandas polars pyarrow duckdb ray feast sqlalchemy scipy lightgbm fastapi".split()
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(save(trees(), "b"))], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_concurrent_callers_each_get_their_own_answer(served: ServerProcess, rows: np.ndarray) -> None:
    expected = logistic().predict(rows)
    wrong: list[int] = []

    def ask(start: int) -> None:
        with served.client() as client:
            for i in range(start, 200, 8):
                answer = client.infer(rows[i : i + 1], FEATURES)
                if answer.status != 200 or abs(answer.probability[0] - expected[i]) > 1e-12:
                    wrong.append(i)

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
