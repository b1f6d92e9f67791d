"""Every document of every overlay against its published schema; and that the validators see what is wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.manifests.conftest import MANIFESTS
from tests.support.crd_validator import Definitions, all_problems, load_all

KUBERNETES = "1.32"
UNPUBLISHED = {"EventBus", "EventSource", "Sensor"}
"""Kinds of Argo Events, whose definitions are not among the reference data."""


def core_problems(documents: list[dict[str, Any]], definitions: Definitions) -> list[str]:
    found = []
    for document in documents:
        if definitions.knows(document) or document["kind"] in UNPUBLISHED:
            continue
        name = f"{document['kind']}/{document['metadata'].get('name')}"
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{name}: {'.'.join(map(str, error.path))}: {error.message[:200]}")
        except kubernetes_validate.SchemaNotFoundError:
            found.append(f"{name}: there is no schema for it")
    return found


def test_every_document_of_every_overlay_is_valid(
    rendered: Mapping[str, list[dict[str, Any]]], definitions: Definitions
) -> None:
    assert all(rendered.values())
    # Overlays share most of their documents; each one is looked at once.
    every = list({json.dumps(d, sort_keys=True): d for documents in rendered.values() for d in documents}.values())
    assert all_problems(definitions, every) == []
    assert core_problems(every, definitions) == []
    for name in ("dev", "staging", "prod"):
        custom = {document["kind"] for document in rendered[name] if definitions.knows(document)}
        assert custom >= {
            "FeatureStore", "Pipeline", "PipelineVersion", "PodMonitor", "PrometheusRule", "RayCluster",
            "ServiceMonitor", "ServingRuntime",
        }  # fmt: skip
    assert {document["kind"] for document in rendered["prod"]} >= {"ExternalSecret", "SecretStore"} | UNPUBLISHED


def test_no_object_is_there_twice(rendered: Mapping[str, list[dict[str, Any]]]) -> None:
    for documents in rendered.values():
        keys = [
            (d["apiVersion"], d["kind"], d["metadata"].get("namespace"), d["metadata"].get("name")) for d in documents
        ]
        assert len(set(keys)) == len(keys)


def test_examples_are_valid_too(definitions: Definitions) -> None:
    files = sorted((MANIFESTS / "examples").rglob("*.yaml"))
    assert len(files) >= 22  # three forms of a canary by seven documents, and a search
    for file in files:
        documents = load_all(file.read_bytes())
        assert documents and all(definitions.knows(document) for document in documents), file
        assert all_problems(definitions, documents) == [], file


def test_every_rule_that_was_met_was_evaluated(
    rendered: Mapping[str, list[dict[str, Any]]], definitions: Definitions
) -> None:
    all_problems(definitions, rendered["dev"] + rendered["prod"])
    assert {rule: why for rule, why in definitions.skipped.items() if why != "about a transition"} == {}


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        *way, last = path.split(".")
        place: Any = document
        for key in way:
            place = place[int(key)] if key.isdigit() else place[key]
        place[int(last) if last.isdigit() else last] = value

    return apply


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", "spec.template.spec.containers.0.imagePullPollicy", "Always"),
        ("Deployment", "spec.replicas", "two"),
        ("NetworkPolicy", "spec.podSelektor", {}),
        ("RayCluster", "spec.headGroupSpec.template.spec.containers.0.securityContext.readOnlyRootFs", True),
        ("RayCluster", "spec.workerGroupSpecs.0.replicas", "2"),
        ("PipelineVersion", "spec.pipelinename", "x"),
        ("ServingRuntime", "spec.containers.0.resources.limits", {"cpu": []}),
        ("PrometheusRule", "spec.groups.0.rules.0.for", "ten minutes"),
        ("PodMonitor", "spec.podMetricsEndpoints.0.interval", "often"),
        ("FeatureStore", "spec.services.onlineStore.persistence.store.type", "memcached"),
        # Rules in CEL: exactly one of local and remote; a packaged repository is an absolute path.
        ("FeatureStore", "spec.services.registry.remote", {"hostname": "elsewhere:80"}),
        ("FeatureStore", "spec.feastProjectDir.packaged.featureRepoPath", "feature_repo"),
        ("FeatureStore", "spec.services.registry.local.server.restAPI", "yes"),
    ],
)
def test_a_seeded_fault_is_found(
    rendered: Mapping[str, list[dict[str, Any]]], definitions: Definitions, kind: str, path: str, value: Any
) -> None:
    document = copy.deepcopy(next(d for d in rendered["dev"] if d["kind"] == kind))
    change(path, value)(document)
    assert all_problems(definitions, [document]) + core_problems([document], definitions)


def test_a_canary_rule_of_kserve_is_evaluated(definitions: Definitions) -> None:
    (document,) = load_all((MANIFESTS / "examples/canary/standard/step-01-5.yaml").read_bytes())
    assert definitions.problems(document) == []
    wrong = copy.deepcopy(document)
    wrong["spec"]["canary"][0]["trafficPercent"] = 101
    assert definitions.problems(wrong)


def test_the_argo_rule_about_deadlines_is_evaluated(definitions: Definitions) -> None:
    document = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": "x"},
        "spec": {
            "entrypoint": "all",
            "templates": [
                {"name": "all", "dag": {"tasks": [{"name": "one", "template": "leaf"}]}},
                {"name": "leaf", "container": {"image": "a:1"}, "activeDeadlineSeconds": 5},
            ],
        },
    }
    assert definitions.problems(document) == []
    document["spec"]["templates"][0]["activeDeadlineSeconds"] = 5  # type: ignore[index]
    assert definitions.problems(document)


def test_the_definitions_are_found_by_group_and_kind(definitions: Definitions, anchors: Path) -> None:
    files = [
        file for file in (anchors / "crds").rglob("*.yaml") if "CustomResourceDefinition" in file.read_text()[:2000]
    ]
    assert len(definitions.kinds()) == len(files) == 29
