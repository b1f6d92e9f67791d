"""Every pod of every overlay, also those that operators make of custom resources, meets the restricted standard."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.conftest import MANIFESTS
from tests.support.crd_validator import load_all
from tests.support.pod_templates import PodTemplate, faults, immutable, pod_templates

EXEMPTIONS = yaml.safe_load((Path(__file__).parent / "exemptions.yaml").read_text())["exemptions"]
EXEMPT = {(entry["kind"], check): entry["reason"] for entry in EXEMPTIONS for check in entry["checks"]}


def pods(documents: list[dict[str, Any]]) -> list[PodTemplate]:
    return [template for document in documents for template in pod_templates(document)]


def test_every_pod_is_locked_down_limited_and_probed(rendered: Mapping[str, list[dict[str, Any]]]) -> None:
    used = set()
    for documents in rendered.values():
        found = [(template.kind, *fault) for template in pods(documents) for fault in faults(template)]
        assert [text for kind, check, text in found if (kind, check) not in EXEMPT] == []
        used |= {(kind, check) for kind, check, _ in found}
    assert set(EXEMPT) <= used, "an exemption is not needed any more"
    assert all(len(reason) > 40 for reason in EXEMPT.values())


def test_pods_are_found_in_every_kind_that_has_some(rendered: Mapping[str, list[dict[str, Any]]]) -> None:
    kinds = {template.kind for name in ("dev", "prod") for template in pods(rendered[name])}
    assert kinds >= {
        "Deployment", "StatefulSet", "RayCluster", "ServingRuntime", "FeatureStore", "PipelineVersion", "Sensor",
        "EventSource", "EventBus", "Job",
    }  # fmt: skip
    assert len([t for t in pods(rendered["dev"]) if t.kind == "PipelineVersion"]) > 100  # one for each step


def test_examples_are_locked_down_too() -> None:
    for file in sorted((MANIFESTS / "examples").rglob("*.yaml")):
        assert [fault for template in pods(load_all(file.read_bytes())) for fault in faults(template)] == []
    (job,) = load_all((MANIFESTS / "examples/search/rayjob.yaml").read_bytes())
    assert len(pods([job])) == 3


def test_an_inference_service_runs_in_the_runtime_that_is_there(rendered: Mapping[str, list[dict[str, Any]]]) -> None:
    runtimes = {d["metadata"]["name"] for d in rendered["prod"] if d["kind"] == "ServingRuntime"}
    accounts = {d["metadata"]["name"] for d in rendered["prod"] if d["kind"] == "ServiceAccount"}
    for form in ("knative", "standard", "httproute"):
        services = [d for d in rendered[f"serving/{form}"] if d["kind"] == "InferenceService"]
        assert services
        for service in services:
            predictor = service["spec"]["predictor"]
            assert predictor["model"]["runtime"] in runtimes
            assert predictor["serviceAccountName"] in accounts


BROKEN: dict[str, tuple[str, Any]] = {
    "runAsNonRoot": ("securityContext.runAsNonRoot", False),
    "runAsUser": ("securityContext.runAsUser", 0),
    "seccompProfile": ("securityContext.seccompProfile.type", "Unconfined"),
    "allowPrivilegeEscalation": ("containers.0.securityContext.allowPrivilegeEscalation", True),
    "readOnlyRootFilesystem": ("containers.0.securityContext.readOnlyRootFilesystem", False),
    "capabilities": ("containers.0.securityContext.capabilities.drop", ["NET_RAW"]),
    "privileged": ("containers.0.securityContext.privileged", True),
    "resources": ("containers.0.resources.limits", {"cpu": "1"}),
    "probes": ("containers.0.livenessProbe", None),
    "image": ("containers.0.image", "ghcr.io/trialops/python-trialops:latest"),
    "host": ("hostNetwork", True),
    "volumes": ("volumes.0", {"name": "tmp", "hostPath": {"path": "/"}}),
    "emptyDir": ("volumes.0.emptyDir", {}),
    "mounts": ("containers.0.volumeMounts.0.name", "nowhere"),
}


@pytest.mark.parametrize("check", sorted(BROKEN))
def test_each_fault_is_found(rendered: Mapping[str, list[dict[str, Any]]], check: str) -> None:
    found = next(d for d in rendered["dev"] if d["kind"] == "Deployment" and d["metadata"]["name"] == "trialops-mlflow")
    document = copy.deepcopy(found)
    path, value = BROKEN[check]
    *way, last = path.split(".")
    place: Any = document["spec"]["template"]["spec"]
    for key in way:
        place = place[int(key)] if key.isdigit() else place[key]
    place[int(last) if last.isdigit() else last] = value
    (template,) = pod_templates(document)
    assert check in {name for name, _ in faults(template)}


@pytest.mark.parametrize(
    ("image", "fixed"),
    [
        ("ghcr.io/a/b:1.2.3", True),
        ("ghcr.io/a/b:0.1.0-abc123def456", True),
        ("postgres:16.8-bookworm", True),
        (f"a/b@sha256:{'0' * 64}", True),
        ("a/b", False),
        ("a/b:latest", False),
        ("a/b:v1", False),
        ("localhost:5000/a", False),
        ("a/b:main", False),
    ],
)
def test_what_an_immutable_image_is(image: str, fixed: bool) -> None:
    assert immutable(image) is fixed


def test_namespaces_enforce_a_pinned_standard(rendered: Mapping[str, list[dict[str, Any]]]) -> None:
    for name in ("dev", "staging", "prod"):
        spaces = {d["metadata"]["name"]: d["metadata"]["labels"] for d in rendered[name] if d["kind"] == "Namespace"}
        assert set(spaces) == {"trialops", "trialops-features"}
        for space, labels in spaces.items():
            levels = {mode: labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")}
            assert levels == {
                "enforce": "baseline" if space == "trialops-features" else "restricted",
                "audit": "restricted",
                "warn": "restricted",
            }
            for mode in levels:
                assert labels[f"pod-security.kubernetes.io/{mode}-version"] == "v1.32"
