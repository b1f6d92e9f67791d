"""What the scaffold writes passes its own tests as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import scaffold
from trialops.errors import TrialOpsError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's sources without its tests' content."""
    root = tmp_path / "project"
    for package in ("trialops", "components", "pipelines"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("compile", "local", "unit"):
        (root / "tests" / folder).mkdir(parents=True)
    for file in ("tests/conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / file, root / file)
    return root


@pytest.mark.slow
def test_component_and_pipeline_pass_their_tests(project: Path) -> None:
    written = scaffold.pipeline("site_inventory", "clinical_data", "inventories", project)
    written += scaffold.component("second_count", "inventories", project)
    names = {path.relative_to(project).as_posix() for path in written}
    assert {
        "trialops/inventories/site_inventory.py",
        "components/inventories.py",
        "pipelines/clinical_data/site_inventory.py",
        "pipelines/catalog.py",
        "tests/local/test_run_site_inventory.py",
        "tests/unit/inventories/test_second_count.py",
    } <= names
    environment = {**os.environ, "PYTHONPATH": str(project)}
    code = "from pipelines import catalog; print([entry.name for entry in catalog.CATALOG])"
    listed = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert listed.index("data_pipeline") < listed.index("site_inventory") < listed.index("scheduled_retraining")
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(project), "tests"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout[-3000:]
    assert "7 passed" in tests.stdout
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *(str(path) for path in written)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ruff.returncode == 0, ruff.stdout


def test_names_and_existing_things_are_refused(project: Path) -> None:
    with pytest.raises(TrialOpsError, match="is not a name here"):
        scaffold.component("Site-Count", "intake", project)
    scaffold.component("site_count", "inventories", project)
    with pytest.raises(TrialOpsError, match="exists already") as caught:
        scaffold.component("site_count", "inventories", project)
    assert "components/inventories.py" in caught.value.where
    before = (project / "pipelines" / "catalog.py").read_text()
    with pytest.raises(TrialOpsError, match="exists already"):
        scaffold.pipeline("data_pipeline", "clinical_data", "inventories", project)
    assert (project / "pipelines" / "catalog.py").read_text() == before
