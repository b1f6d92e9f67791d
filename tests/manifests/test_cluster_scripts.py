"""The scripts that bring up a cluster: what can be shown without one."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.manifests.conftest import MANIFESTS
from tests.support.kubernetes_api import Cluster, Schemas, cluster

ROOT = MANIFESTS.parent
SCRIPTS = [
    *sorted((MANIFESTS / "cluster").glob("*.sh")),
    ROOT / ".ci" / "run",
    ROOT / "docker" / "build.sh",
    ROOT / "tests" / "images" / "without_registry.sh",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        if os.environ.get("TRIALOPS_REQUIRE_SHELLCHECK") == "1":
            pytest.fail("shellcheck is not installed")
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, "-x", str(script)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def made(held: Cluster) -> dict[tuple[str, str], dict[str, str]]:
    return {
        (space, name): {key: base64.b64decode(value).decode() for key, value in document["data"].items()}
        for (plural, space, name), document in held.objects.items()
        if plural == "secrets"
    }


def test_secrets_are_made_once_and_agree_with_each_other(kubectl: str, anchors: Path, tmp_path: Path) -> None:
    environment = {
        "PATH": f"{Path(kubectl).parent}:/usr/bin:/bin", "HOME": str(tmp_path), "KUBECONFIG": "/dev/null",
    }  # fmt: skip
    with cluster(Schemas(core=True)) as held:

        def run() -> tuple[str, dict[tuple[str, str], dict[str, str]]]:
            done = subprocess.run(
                ["bash", str(MANIFESTS / "cluster" / "secrets.sh")],
                env={**environment, "SERVER": held.url, "VALIDATE": "false"},
                capture_output=True, text=True, timeout=100, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout + done.stderr, made(held)

        shown, secrets = run()
        assert run()[1] == secrets, "what is there is left as it is"
    own, stores = secrets["trialops", "trialops-secrets"], secrets["trialops", "trialops-dev-stores"]
    assert own["CLINICAL_DB_PASSWORD"] == stores["POSTGRES_PASSWORD"]
    assert f":{stores['REDIS_PASSWORD']}@trialops-redis.trialops.svc" in own["TRIALOPS_ONLINE_URL"]
    assert len(base64.b64decode(own["TRIALOPS_VAULT_KEY"])) == 32
    assert len(secrets["trialops", "trialops-alerts"]["TRIALOPS_ALERTS_KEY"]) >= 32
    assert secrets["kubeflow", "trialops-secrets"] == own
    assert secrets["kubeflow", "trialops-alerts"] == secrets["trialops", "trialops-alerts"]
    feast = secrets["trialops-features", "trialops-feast"]
    assert set(feast) == {"redis", "sql"} and stores["POSTGRES_PASSWORD"] in feast["sql"]
    assert not any(value in shown for values in secrets.values() for value in values.values())
    assert all(len(value) >= 20 for value in (*stores.values(), own["AWS_ACCESS_KEY_ID"], own["AWS_SECRET_ACCESS_KEY"]))


def test_versions_are_those_of_the_readme_and_of_the_schemas() -> None:
    pinned = dict(re.findall(r"^([A-Z_]+)=(\S+)$", (MANIFESTS / "cluster" / "versions.env").read_text(), re.MULTILINE))
    readme = (MANIFESTS / "README.md").read_text()
    for name, version in pinned.items():
        assert version.lstrip("v") in readme, name
    script = (MANIFESTS / "cluster" / "up.sh").read_text()
    used = set(re.findall(r"\$\{?([A-Z_]+)", script))
    assert set(pinned) - used <= {"KIND", "ARGO_WORKFLOWS", "ARGO_EVENTS", "EXTERNAL_SECRETS"}  # of other overlays
