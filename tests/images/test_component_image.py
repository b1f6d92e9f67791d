"""The component image does a catalogue pipeline's work as a cluster starts it: restricted, without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.image_engine import Engine
from trialops.synthetic import generate

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    generate(folder, subjects=40, sites=3, seed=5, formats=("sdtm",))
    return folder / "sdtm"


def given_to_everybody(folder: Path) -> Path:
    """A folder that the image's user may write to."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    return folder


def test_a_step_runs_by_the_command_that_kubeflow_gives_it(engine: Engine, trial: Path, tmp_path: Path) -> None:
    import yaml

    from pipelines.catalog import find
    from pipelines.compile import ir_yaml

    spec = next(iter(yaml.safe_load_all(ir_yaml(find("data_quality")))))
    component = spec["components"]["comp-ingest-sdtm"]
    container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    out = given_to_everybody(tmp_path / "out")
    artifacts = {
        name: {"artifacts": [{"name": name, "type": told["artifactType"], "uri": f"/out/{name}", "metadata": {}}]}
        for name, told in component["outputDefinitions"]["artifacts"].items()
    }
    asked = {
        "inputs": {"parameterValues": {"source": "/in"}},
        "outputs": {
            "artifacts": artifacts,
            "parameters": {"Output": {"outputFile": "/out/Output"}},
            "outputFile": "/out/executor_output.json",
        },
    }
    words = [word.replace("{{$}}", json.dumps(asked)) for word in [*container["command"], *container["args"]]]
    options = [f"--volume={trial}:/in:ro", f"--volume={out}:/out", "--env=TRIALOPS_RUN_ID=run-1"]
    done = engine.run("components", *words[1:], options=options, entrypoint=words[0])
    assert '"event": "finish", "step": "ingest-sdtm"' in done.stdout
    said = json.loads((out / "executor_output.json").read_text())
    assert said["parameterValues"]["Output"] == 0
    sealed = json.loads((out / "raw").read_text())
    assert sealed["kind"] == "sealed" and sealed["tables"]["DM"]["rows"] == 40
    assert b"<html" in (out / "report").read_bytes()[:500]


def test_a_pipeline_runs_inside_by_the_command_line(engine: Engine, trial: Path, tmp_path: Path) -> None:
    assert re.fullmatch(r"trialops, version \S+\n", engine.run("components", "trialops", "--version").stdout)
    home = given_to_everybody(tmp_path / "home")
    options = [f"--volume={trial}:/in:ro", f"--volume={home}:/home-of-run"]
    when = ("--set", "kinds=trial_progress", "--set", "as_of=2024-04-02")
    done = engine.run(
        "components",
        *("trialops", "--home", "/home-of-run", "run", "regulatory_reporting", "--source", "/in", *when),
        options=options,
    )
    assert "trial_progress" in done.stdout or (home / "documents").exists(), done.stdout
    run = json.loads(next(home.glob("runs/*/run.json")).read_text())
    assert run["state"] == "succeeded"
    labels = engine.inspect("components").get("Labels") or engine.inspect("components")["Config"]["Labels"]
    assert run["code_version"] == labels["org.opencontainers.image.revision"]


RUN_IN_DOCKER = """
import sys
import docker
from kfp import local
from pipelines.data_quality.data_quality import data_quality
source, home, root = sys.argv[1:]
mounts = [docker.types.Mount("/in", source, type="bind", read_only=True),
          docker.types.Mount("/var/lib/trialops", home, type="bind")]
runner = local.DockerRunner(mounts=mounts, read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"],
                            network_mode="none", tmpfs={"/tmp": "mode=1777"})
local.init(runner=runner, pipeline_root=root, raise_on_error=True)
task = data_quality(source="/in")
print("DONE", task.state)
"""


@pytest.fixture
def docker_socket(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """Address of the engine's Docker API; podman serves it on a socket."""
    if not engine.command.endswith("podman"):
        yield os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        return
    socket = Path(f"/tmp/trialops-{os.getpid()}.sock")
    command = [engine.command, "system", "service", "--time=0", f"unix://{socket}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(200):
            if socket.exists():
                break
            time.sleep(0.05)
        yield f"unix://{socket}"
        process.terminate()
    socket.unlink(missing_ok=True)


def test_kubeflows_docker_runner_runs_the_whole_pipeline(
    engine: Engine, docker_socket: str, trial: Path, tmp_path: Path
) -> None:
    home, root = given_to_everybody(tmp_path / "home"), given_to_everybody(tmp_path / "root")
    environment = {**os.environ, "DOCKER_HOST": docker_socket, "TRIALOPS_IMAGE": engine.reference("components")}
    # The runner's process makes each task's folder, the image's user writes into it.
    script = "import os; os.umask(0)\n" + RUN_IN_DOCKER
    done = subprocess.run(
        [sys.executable, "-c", script, str(trial), str(home), str(root)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    finished = set(re.findall(r'"event": "finish", "step": "([a-z-]+)"', said))
    assert {"ingest-sdtm", "check-consent", "deidentify", "validate-data"} <= finished, sorted(finished)
    owners = {path.stat().st_uid for path in home.rglob("*") if path.is_file()}
    assert owners == {10001}
