"""The small images' package lists are what their programs import: nothing else can be imported, and everything runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.images.locked import DOCKER, requirements, script
from tests.images.transferred import Transferred

ROOT = DOCKER.parent
SERVING = ROOT / "tests" / "unit" / "serving" / "toy_bundles.py"

GUARD = '''
import importlib.abc, json, sys
allowed = set(json.loads(sys.argv.pop(1)))
class Guard(importlib.abc.MetaPathFinder):
    """Only the standard library, the packages named and the project: as in an image that has no others."""
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in allowed or top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        if not known and top not in ("trialops", "function_app"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None
sys.meta_path.insert(0, Guard())
for name in [n for n in sys.modules if n.partition(".")[0] not in sys.stdlib_module_names | allowed | {"__main__"}]:
    del sys.modules[name]
'''


def modules_of(image: str) -> list[str]:
    """Top-level modules of the packages an image installs; of packages kept as single files, none but their folder."""
    names = requirements(image)
    found: set[str] = set()
    for one in distributions():
        if script("sbom").normal(one.metadata["Name"]) in names:
            for file in one.files or ():
                head = file.parts[0]
                if head.endswith((".dist-info", ".data", ".libs", ".pth")) or head in ("..", "__pycache__"):
                    continue
                found.add(head.split(".")[0])
    assert len(names) > 10 and {"numpy", "yaml"} <= found
    return sorted(found)


def bundle(folder: Path) -> Path:
    import importlib.util

    spec = importlib.util.spec_from_file_location("toy_bundles_of_images", SERVING)
    assert spec is not None and spec.loader is not None
    toy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toy)
    toy.trees().save(folder)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server image's own sources, alone."""
    folder = tmp_path_factory.mktemp("server")
    script("sources").copy("server", folder)
    return folder


START = (
    GUARD
    + """
class NoPackage(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "lightgbm":  # the image keeps its library alone: importing the package must not be tried
            raise ModuleNotFoundError("No module named 'lightgbm'", name=name)
import ctypes, pathlib
from trialops.models import booster
assert pathlib.Path(booster.__file__).is_relative_to(sys.argv[1]), booster.__file__
library = booster._library()
assert library is not None
sys.meta_path.insert(0, NoPackage())
from trialops.serving import router  # the same image runs it
from trialops.stores.online import postgres, redis, sqlite
from trialops.serving import server
sys.argv = ["server", *sys.argv[2:]]
code = server.main()
tops = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print("LOADED", json.dumps(sorted(tops)), file=sys.stderr)
sys.exit(code)
"""
)


@pytest.fixture(scope="module")
def answered(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict, dict, str, int]]:
    """Answers over REST and gRPC of a server that has the image's sources and packages only, and what it had loaded."""
    import grpc

    from trialops.serving.grpc_messages import SERVICE, messages

    folder = tmp_path_factory.mktemp("run")
    model = bundle(folder / "bundle")
    options = ["--bundle", str(model), "--port", "0", "--port-file", str(folder / "port")]
    options += ["--grpc-port", "0", "--grpc-port-file", str(folder / "grpc"), "--request-log", str(folder / "log")]
    options += ["--prediction-log", str(folder / "predictions")]
    command = [sys.executable, "-c", START, json.dumps(modules_of("server")), str(sources), *options]
    environment = {**os.environ, "PYTHONPATH": str(sources)}
    with subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        waiting = threading.Event()
        for _ in range(1200):
            if (folder / "port").exists() or process.poll() is not None:
                break
            waiting.wait(0.05)
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        tensor = {"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [0.5, -1.0, 2.0]}
        asked = {"inputs": [tensor], "outputs": [{"name": "probability"}, {"name": "contributions"}]}
        place = f"http://127.0.0.1:{(folder / 'port').read_text()}/v2/models/withdrawal/infer"
        rest = httpx.post(place, json=asked).json()
        kinds = messages()
        with grpc.insecure_channel(f"127.0.0.1:{(folder / 'grpc').read_text()}") as channel:
            call = channel.unary_unary(
                f"/{SERVICE}/ModelInfer",
                request_serializer=kinds["ModelInferRequest"].SerializeToString,
                response_deserializer=kinds["ModelInferResponse"].FromString,
            )
            request = kinds["ModelInferRequest"](model_name="withdrawal")
            request.inputs.add(name="features", datatype="FP64", shape=[1, 3]).contents.fp64_contents.extend(
                tensor["data"]
            )
            made = call(request, timeout=10)
        values = made.outputs[0].contents.fp64_contents or np.frombuffer(made.raw_output_contents[0])
        process.terminate()
        said = process.communicate(timeout=30)[1]
        yield rest, {"probability": list(values)}, said, process.returncode


def test_the_server_runs_on_its_sources_and_packages_alone(answered: tuple[dict, dict, str, int]) -> None:
    rest, rpc, said, code = answered
    assert code == 0, said
    # -0.75 and 0.5 are the leaf values: 0.5 > 0.25 goes right.
    probability = 1 / (1 + np.exp(-0.5))
    outputs = {one["name"]: one["data"] for one in rest["outputs"]}
    np.testing.assert_allclose(outputs["probability"], [probability], rtol=1e-12)
    np.testing.assert_allclose(sum(outputs["contributions"]), 0.5, rtol=1e-9)
    np.testing.assert_allclose(rpc["probability"], [probability], rtol=1e-12)


def test_the_server_needs_all_that_its_list_names(answered: tuple[dict, dict, str, int]) -> None:
    """Every package that images.toml names for it is loaded when everything is on."""
    loaded = set(json.loads(answered[2].split("LOADED ", 1)[1].splitlines()[0]))
    modules = {"pyyaml": "yaml", "grpcio": "grpc", "protobuf": "google", "psycopg[binary]": "psycopg"}
    named = script("sources").about("server")["packages"]
    # Drivers and the policy's parser are loaded when a store is opened, uvloop and httptools by the loop.
    later = {"hiredis", "redis", "psycopg", "yaml"}
    assert {modules.get(name, name) for name in named} - loaded <= later


REPORTS = GUARD + ("part = sys.argv[1]\nfrom trialops.transfer import final_reports\nsys.exit(final_reports.main())\n")


@pytest.mark.slow
def test_the_report_function_makes_reports_on_its_packages_alone(transferred: Transferred, tmp_path: Path) -> None:
    made = transferred
    environment = {**os.environ, "TRIALOPS_HOME": str(made.home), "TRIALOPS_RUN_ID": made.request["run_id"]}
    environment |= {"TRIALOPS_REPOSITORY_URL": str(made.repository), "PYTHONPATH": str(ROOT)}
    document: dict = {"request": {**made.request, "kinds": ["trial_progress"]}, "as_of": "2024-04-02"}
    for part, gives in (("verify", "verified"), ("make", "made"), ("publish", "output")):
        command = [sys.executable, "-c", REPORTS, json.dumps(modules_of("report_function")), part]
        done = subprocess.run(
            command, input=json.dumps(document), env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        document[gives] = json.loads(done.stdout.splitlines()[-1])["result"]
    assert len(document["output"]["reports"]) == 2


def test_the_apps_file_imports_no_more_than_the_two_azure_packages() -> None:
    code = GUARD + "sys.path.insert(0, sys.argv[1])\nimport function_app\nprint(len(function_app.app.get_functions()))"
    command = [sys.executable, "-c", code, json.dumps(modules_of("report_function")), str(DOCKER / "report_function")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout.strip() == "7", done.stderr
