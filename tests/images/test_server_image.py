"""The model server image answers the Open Inference Protocol, and leaves as an orchestrator expects."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.images.image_engine import Engine, Started
from tests.images.locked import script
from trialops.models.bundle import Bundle

SERVING = Path(__file__).resolve().parents[1] / "unit" / "serving" / "toy_bundles.py"
PORTS = ("--publish=127.0.0.1::8080", "--publish=127.0.0.1::8081")
ROWS = [[0.5, -1.0, 2.0], [0.1, -1.0, 0.0], [0.1, 0.5, 1.0]]
ASK = {"id": "7", "inputs": [{"name": "features", "datatype": "FP64", "shape": [3, 3], "data": sum(ROWS, [])}]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import importlib.util

    spec = importlib.util.spec_from_file_location("toy_bundles_of_serving", SERVING)
    assert spec is not None and spec.loader is not None
    toy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toy)
    folder = tmp_path_factory.mktemp("bundle")
    toy.trees().save(folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def server(engine: Engine, bundle: Path) -> Iterator[Started]:
    with engine.started("server", options=[*PORTS, f"--volume={bundle}:/mnt/models:ro"]) as running:
        ready(running)
        yield running


def ready(running: Started) -> float:
    """Wait until it says so; returns the seconds since its start was asked for."""
    port, last = running.port(8080), ""
    for _ in range(600):
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2)
            if answer.status_code == 200:
                return time.perf_counter() - running.begun
            last = str(answer.status_code)
        except httpx.TransportError as error:
            last = type(error).__name__
        time.sleep(0.01)
    raise AssertionError(f"{last}: {running.logs()}")


def test_rest(server: Started, bundle: Path) -> None:
    place = f"http://127.0.0.1:{server.port(8080)}"
    assert httpx.get(f"{place}/v2/health/live").status_code == 200
    told = httpx.get(f"{place}/v2/models/withdrawal").json()
    assert told["name"] == "withdrawal" and told["inputs"][0]["shape"] == [-1, 3]
    answer = httpx.post(f"{place}/v2/models/withdrawal/infer", json=ASK).json()
    expected = Bundle.load(bundle).predict(np.array(ROWS))
    assert answer["id"] == "7" and answer["model_name"] == "withdrawal"
    np.testing.assert_allclose(answer["outputs"][0]["data"], expected, rtol=1e-12)
    wrong = httpx.post(f"{place}/v2/models/withdrawal/infer", json={"inputs": []})
    assert wrong.status_code == 400 and "error" in wrong.json()


def test_grpc(server: Started, bundle: Path) -> None:
    import grpc

    from trialops.serving.grpc_messages import SERVICE, messages

    kinds = messages()
    with grpc.insecure_channel(f"127.0.0.1:{server.port(8081)}") as channel:

        def call(name: str, request: object, kind: str) -> object:
            made = channel.unary_unary(
                f"/{SERVICE}/{name}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=kinds[kind].FromString,
            )
            return made(request, timeout=10)

        assert call("ServerReady", kinds["ServerReadyRequest"](), "ServerReadyResponse").ready
        request = kinds["ModelInferRequest"](model_name="withdrawal", id="7")
        tensor = request.inputs.add(name="features", datatype="FP64", shape=[3, 3])
        tensor.contents.fp64_contents.extend(sum(ROWS, []))
        answer = call("ModelInfer", request, "ModelInferResponse")
    expected = Bundle.load(bundle).predict(np.array(ROWS))
    output = answer.outputs[0]
    found = output.contents.fp64_contents or np.frombuffer(answer.raw_output_contents[0])
    np.testing.assert_allclose(list(found), expected, rtol=1e-12)


def test_the_health_check_of_the_image_holds(server: Started, engine: Engine) -> None:
    told = engine.inspect("server")
    check = (told.get("Healthcheck") or told["Config"]["Healthcheck"])["Test"]
    assert check[0] == "CMD"
    assert engine("exec", server.name, *check[1:], check=False).returncode == 0
    words = [word.replace("TRIALOPS_SERVE_PORT", "PORT_OF_NOBODY") for word in check[1:]]
    gone = engine("exec", "--env=PORT_OF_NOBODY=9", server.name, *words, check=False)
    assert gone.returncode != 0


def test_sigterm_finishes_what_is_in_flight(engine: Engine, bundle: Path) -> None:
    answered, broken = [0] * 4, []
    with engine.started("server", options=[*PORTS, f"--volume={bundle}:/mnt/models:ro"]) as running:
        ready(running)
        place = f"http://127.0.0.1:{running.port(8080)}/v2/models/withdrawal/infer"

        def ask(number: int) -> None:
            with httpx.Client() as client:
                while True:
                    try:
                        answer = client.post(place, json=ASK)
                    except httpx.TransportError:
                        return
                    if answer.status_code != 200 or len(answer.json()["outputs"][0]["data"]) != 3:
                        broken.append(answer.status_code)
                    answered[number] += 1

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while sum(answered) < 200:
            time.sleep(0.01)
        assert running.stop() == 0
        for thread in threads:
            thread.join(30)
        lines = [line for line in running.logs().splitlines() if line.startswith("{")]
    assert broken == [] and len(lines) >= sum(answered)


def test_the_server_is_the_smallest_of_the_images(engine: Engine) -> None:
    sizes = {image: int(engine.inspect(image)["Size"]) for image in ("components", "server", "report_function")}
    assert sizes["server"] < sizes["report_function"] < sizes["components"]
    base = os.environ.get("BASE", "docker.io/library/python:3.11-slim-bookworm")
    found = engine("image", "inspect", base, check=False)
    if found.returncode == 0:
        assert sizes["server"] - int(json.loads(found.stdout)[0]["Size"]) < 140e6
    assert script("sources").about("server")["packages"]
