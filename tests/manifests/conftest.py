"""The overlays as kustomize renders them, and the definitions they are held against."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.crd_validator import Definitions, load_all

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
OVERLAYS = ("dev", "staging", "prod")
EXTRA = ("serving/knative", "serving/standard", "serving/httproute")


@lru_cache(maxsize=8)
def _render(name: str) -> str:
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / name)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="session")
def kubectl() -> str:
    """kubectl; its tests are skipped where it is absent, unless TRIALOPS_REQUIRE_KUBECTL=1."""
    found = shutil.which("kubectl")
    if found is None:
        if os.environ.get("TRIALOPS_REQUIRE_KUBECTL") == "1":
            pytest.fail("kubectl is not installed")
        pytest.skip("kubectl is not installed")
    return found


@pytest.fixture(scope="session")
def rendered(kubectl: str) -> Mapping[str, list[dict[str, Any]]]:
    """Documents by overlay, and those of the first InferenceService in each form."""
    folders = [*(f"overlays/{name}" for name in OVERLAYS), *EXTRA]
    return {name.removeprefix("overlays/"): load_all(_render(name)) for name in folders}


@pytest.fixture(scope="session")
def definitions(anchors: Path) -> Definitions:
    """The published CRDs."""
    return Definitions(anchors / "crds")
