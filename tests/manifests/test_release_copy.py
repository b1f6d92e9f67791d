"""A copy of the manifests that names what was built: one image everywhere, and new versions of the pipelines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.release import Image, release
from tests.manifests.conftest import ROOT
from tests.manifests.test_generated_manifests import images
from tests.support.crd_validator import load_all
from trialops.errors import TrialOpsError

TAG = "0.1.0-1f2e3d4c5b6a"
DIGEST = "sha256:" + "ab" * 32


def released(folder: Path, image: str, *more: str) -> subprocess.CompletedProcess[str]:
    """By a process of its own, as on the command line."""
    command = [sys.executable, "-m", "pipelines.release", str(folder), "--image", image, *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


def render(kubectl: str, overlay: Path) -> list[dict[str, Any]]:
    done = subprocess.run([kubectl, "kustomize", str(overlay)], capture_output=True, text=True, check=True, timeout=60)
    return load_all(done.stdout)


def versions(documents: list[dict[str, Any]]) -> set[str]:
    return {document["metadata"]["name"] for document in documents if document["kind"] == "PipelineVersion"}


@pytest.mark.slow
def test_one_build_runs_everywhere_and_is_another_version(
    kubectl: str, rendered: Mapping[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    copy = tmp_path / "manifests"
    server = f"registry.example:5000/trialops/server@{DIGEST}"
    steps = f"registry.example:5000/trialops/steps:{TAG}"
    done = released(copy, steps, "--server-image", server)
    assert done.returncode == 0, done.stderr
    assert f"kubectl apply -k {copy}/overlays/dev" in done.stdout
    before = rendered["prod"]
    after = render(kubectl, copy / "overlays" / "prod")
    found = set().union(*(images(document) for document in after))
    assert {image for image in found if "trialops" in image} == {steps, server}
    # Text that names the image for Ray is changed with it, and nothing else of the settings.
    assert "trialops/python-trialops" not in yaml.safe_dump_all(after)
    assert len(versions(after)) == len(versions(before)) == 30
    assert not versions(after) & versions(before)
    kinds = [(document["kind"], document["metadata"].get("namespace")) for document in after]
    assert kinds == [(document["kind"], document["metadata"].get("namespace")) for document in before]
    # Again with the next build: the copy is replaced as a whole.
    (copy / "left.yaml").write_text("from before\n")
    assert released(copy, f"{steps}-next").returncode == 0
    assert not (copy / "left.yaml").exists()
    assert not versions(render(kubectl, copy / "overlays" / "prod")) & versions(after)


def test_what_does_not_say_which_image_is_refused(tmp_path: Path) -> None:
    for reference in ("ghcr.io/trialops/steps", "ghcr.io/trialops/steps:latest", "steps@sha256:12", ""):
        with pytest.raises(TrialOpsError, match="does not say which image"):
            release(tmp_path / "m", reference)
    assert list(tmp_path.iterdir()) == []
    assert Image.parse(f"a.io:5000/b/c:1@{DIGEST}") == Image("a.io:5000/b/c", "1", DIGEST)


def test_the_manifests_themselves_are_no_place_for_the_copy() -> None:
    before = (ROOT / "manifests" / "overlays" / "dev" / "kustomization.yaml").read_text()
    for folder in (ROOT / "manifests", ROOT / "manifests" / "copy"):
        done = released(folder, "ghcr.io/trialops/python-trialops:1")
        assert done.returncode == 1 and "may not lie in what it is made from" in done.stderr
    assert (ROOT / "manifests" / "overlays" / "dev" / "kustomization.yaml").read_text() == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = released(tmp_path, "ghcr.io/trialops/python-trialops:1")
    assert done.returncode == 1 and "no copy of manifests" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
