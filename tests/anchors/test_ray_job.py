"""The RayJob of a search against KubeRay's own CRD, and the lint for what that lets through."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.compile.checks import closed
from trialops.errors import TrialOpsError
from trialops.models.ray_job import MODES, lint, parse_target, ray_job

ADDRESS = "kuberay://trials?image=ghcr.io/trialops/python-trialops:0.1.0&workers=3&cpu=4&memory=8Gi"


@pytest.fixture(scope="module")
def schema(anchors: Path) -> dict[str, Any]:
    definition = yaml.load((anchors / "crds" / "kuberay" / "ray.io_rayjobs.yaml").read_bytes(), yaml.CSafeLoader)[
        "spec"
    ]
    (version,) = [item for item in definition["versions"] if item["name"] == "v1"]
    return dict(closed(version["schema"]["openAPIV3Schema"]))


def job(**change: Any) -> dict[str, Any]:
    target = parse_target(ADDRESS + "".join(f"&{key}={value}" for key, value in change.items()))
    return ray_job("search-abc", target, ["python", "-m", "x", "a b"], run_id="r1", ray_version="2.60.0")


@pytest.mark.parametrize("change", [{}, {"queue": "trials"}, *({"mode": mode} for mode in MODES[:3])])
def test_the_manifest_is_valid_and_clean(schema: dict[str, Any], change: dict[str, str]) -> None:
    manifest = job(**change)
    jsonschema.Draft202012Validator(schema).validate(manifest)
    assert lint(manifest) == []
    assert manifest["spec"]["entrypoint"] == "python -m x 'a b'"
    assert manifest["spec"]["suspend"] == ("queue" in change)
    (workers,) = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert workers["replicas"] == 3
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "4", "memory": "8Gi"}


def test_the_schema_alone_lets_a_mode_through_that_does_not_exist(schema: dict[str, Any]) -> None:
    manifest = job()
    manifest["spec"]["submissionMode"] = "Bogus"
    jsonschema.Draft202012Validator(schema).validate(manifest)
    assert any("Bogus" in fault for fault in lint(manifest))


def broken(path: str, value: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(job())
    *way, last = path.split(".")
    place = manifest
    for key in way:
        place = place[int(key)] if key.isdigit() else place[key]  # type: ignore[index]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return manifest


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.entrypoint", None, "no entrypoint"),
        ("spec.shutdownAfterJobFinishes", False, "left running"),
        ("spec.clusterSelector", {"ray.io/cluster": "c"}, "exactly one"),
        ("spec.rayClusterSpec", None, "exactly one"),
        ("spec.submissionMode", "HTTPMode", "submitterPodTemplate"),
        ("spec.submissionMode", "InteractiveMode", "takes no entrypoint"),
        ("spec.activeDeadlineSeconds", None, "no time limit"),
        ("metadata.name", "x" * 48, "47 characters"),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.securityContext", {}, "root"),
        (
            "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.resources.limits",
            {"cpu": "1"},
            "equal requests",
        ),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.image", "reg:5000/app", "no image tag"),
    ],
)
def test_the_lint_names_each_fault(path: str, value: Any, words: str) -> None:
    assert any(words in fault for fault in lint(broken(path, value)))


@pytest.mark.parametrize(
    "address", ["kuberay://?image=a:1", "kuberay://n", "ray://n?image=a:1", "kuberay://n?image=a:1&gpus=3"]
)
def test_an_address_that_names_no_cluster_is_refused(address: str) -> None:
    with pytest.raises(TrialOpsError, match="names no Ray cluster"):
        parse_target(address)
