"""The OpenAPI document is the server: generated requests, good and bad, find no difference between the two."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from online_trial import served, write
from toy_bundles import trees

from trialops.serving.process import ServerProcess

RUN = "from schemathesis.cli import schemathesis; schemathesis()"


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with an online store and intervals."""
    folder = tmp_path_factory.mktemp("openapi")
    url = f"sqlite:///{folder}/online.db"
    write(url)
    with served(folder, url) as server:
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with neither."""
    folder = tmp_path_factory.mktemp("plain")
    with ServerProcess(trees().save(folder / "b"), "withdrawal", "3", folder / "w") as server:
        yield server


def schemathesis(where: str, *options: str, cwd: Path) -> tuple[int, str]:
    """All checks in all phases, with one seed."""
    command = [sys.executable, "-c", RUN, "run", where, "--seed=1", "--no-color", "--suppress-health-check=all"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=cwd, timeout=200)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("which", ["trial", "plain"])
def test_schemathesis_finds_nothing(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server = request.getfixturevalue(which)
    code, text = schemathesis(f"{server.url}/openapi.json", "--max-examples=6", cwd=tmp_path)
    assert code == 0, text
    assert "No issues found" in text
    assert "internal" not in server.client().send("GET", "/metrics")[1].decode()


def test_schemathesis_finds_a_document_that_is_not_the_servers(trial: ServerProcess, tmp_path: Path) -> None:
    document = json.loads(trial.client().send("GET", "/openapi.json")[1])
    document["components"]["schemas"]["Live"]["required"].append("since")
    document["paths"] = {"/v2/health/live": document["paths"]["/v2/health/live"]}
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    code, text = schemathesis("wrong.json", f"--url={trial.url}", "--max-examples=3", cwd=tmp_path)
    assert code == 1 and "since" in text, text


def test_the_document_names_every_address_and_tensor(trial: ServerProcess, plain: ServerProcess) -> None:
    document = json.loads(trial.client().send("GET", "/openapi.json")[1])
    assert document["openapi"].startswith("3.1")
    model = "/v2/models/withdrawal"
    assert set(document["paths"]) == {
        "/v2", "/v2/health/live", "/v2/health/ready", "/openapi.json", "/metrics", model, f"{model}/ready",
        f"{model}/infer", f"{model}/versions/3", f"{model}/versions/3/ready", f"{model}/versions/3/infer",
    }  # fmt: skip
    for path in document["paths"]:
        if not path.endswith("/infer"):
            assert trial.client().send("GET", path)[0] == 200, path
    assert "subject_id" in json.dumps(document)
    other = json.dumps(json.loads(plain.client().send("GET", "/openapi.json")[1]))
    assert "subject_id" not in other and '"low"' not in other
