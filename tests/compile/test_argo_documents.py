"""The generated Argo documents: up to date, valid on Argo 4 (CRDs, CEL) and 3.7 (JSON schema), sound, restricted."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.argo.__main__ import FOLDER
from pipelines.argo.workflow import GRACE_SECONDS, documents, render
from tests.support.argo_lint import lint
from tests.support.crd_validator import Definitions
from trialops.transfer.graph import NODES
from trialops.transfer.policy import transfer_policy

WORKFLOWS = ("workflow-template.yaml", "cron-workflow.yaml")


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, Any]]:
    return documents()


@pytest.fixture(scope="module")
def definitions(anchors: Path) -> Definitions:
    return Definitions(anchors / "crds" / "argo-workflows")


@pytest.fixture(scope="module")
def older(anchors: Path) -> Callable[[Mapping[str, Any]], list[str]]:
    """The JSON schema of Argo 3.7.3, closed: a field that it does not name is an error."""
    schema = json.loads((anchors / "crds" / "argo-workflows" / "schema-v3.7.3.json").read_text())
    # The published schema calls every IntOrString text; Argo's own examples give numbers.
    schema["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"] = ["string", "integer"]
    for definition in schema["definitions"].values():
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)

    def problems(document: Mapping[str, Any]) -> list[str]:
        name = f"io.argoproj.workflow.v1alpha1.{document['kind']}"
        whole = {"$ref": f"#/definitions/{name}", "definitions": schema["definitions"]}
        found = jsonschema.Draft202012Validator(whole).iter_errors(document)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in found]

    return problems


def template_of(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(template for template in document["spec"]["templates"] if template["name"] == name)


def test_what_is_in_the_repository_is_what_is_generated(made: dict[str, dict[str, Any]]) -> None:
    for name, document in made.items():
        assert (FOLDER / name).read_text() == render(document), f"{name}: run python -m pipelines.argo"
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*made, "trial.yaml"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_valid_for_argo_4(made: dict[str, dict[str, Any]], definitions: Definitions, name: str) -> None:
    assert definitions.problems(made[name]) == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_valid_for_argo_3_7(
    made: dict[str, dict[str, Any]], older: Callable[[Mapping[str, Any]], list[str]], name: str
) -> None:
    assert older(made[name]) == []


def test_the_validators_see_what_is_wrong(
    made: dict[str, dict[str, Any]], definitions: Definitions, older: Callable[[Mapping[str, Any]], list[str]]
) -> None:
    for change in (
        lambda spec: spec.update(entryPoint="transfer"),
        lambda spec: spec["templates"][0]["retryStrategy"].update(limits=3),
        lambda spec: spec["podGC"].update(strategy=3),
    ):
        broken = copy.deepcopy(made["workflow-template.yaml"])
        change(broken["spec"])
        assert definitions.problems(broken) and older(broken)
    broken = copy.deepcopy(made["workflow-template.yaml"])  # a rule in CEL: a deadline belongs to a leaf
    template_of(broken, "transfer")["activeDeadlineSeconds"] = 10
    assert definitions.problems(broken)
    gone = copy.deepcopy(made["cron-workflow.yaml"])  # removed in Argo 4
    gone["spec"]["schedule"] = gone["spec"].pop("schedules")[0]
    assert definitions.problems(gone)


def test_nothing_leads_nowhere(made: dict[str, dict[str, Any]]) -> None:
    workflow = made["workflow-template.yaml"]
    assert lint(workflow) == []
    for change, said in (
        (lambda spec: spec.update(onExit="goodbye"), "onExit"),
        (lambda spec: tasks(spec)["backup"].update(depends="cleanse.Succeeded"), "circle"),
        (lambda spec: tasks(spec)["extract"].pop("arguments"), "inputs"),
        (lambda spec: tasks(spec)["extract"].update(withParam="{{tasks.plan.outputs.parameters.x}}"), "not there"),
        (lambda spec: spec["templates"][1]["container"].update(image="x:latest"), "image"),
        (lambda spec: spec["volumes"].pop(), "volume"),
    ):
        broken = copy.deepcopy(workflow)
        change(broken["spec"])
        assert any(said in problem for problem in lint(broken)), said


def tasks(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    dag = next(template for template in spec["templates"] if "dag" in template)
    return {task["name"]: task for task in dag["dag"]["tasks"]}


def test_the_order_is_strict_and_the_fallback_stands_beside_it(made: dict[str, dict[str, Any]]) -> None:
    found = {name: task.get("depends", "") for name, task in tasks(made["workflow-template.yaml"]["spec"]).items()}
    assert found == {node.name: node.depends for node in NODES}
    assert found["backup"] == "validate.Succeeded || fallback.Succeeded"
    # One task is nobody's condition: the phase of the workflow is that of the last step.
    assert [name for name in found if not any(f"{name}." in depends for depends in found.values())] == ["report"]


def test_every_pod_is_restricted_limited_and_ends(made: dict[str, dict[str, Any]]) -> None:
    spec = made["workflow-template.yaml"]["spec"]
    context = spec["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    steps = [template for template in spec["templates"] if "container" in template]
    assert len(steps) == len(NODES) + 1
    policy = transfer_policy()
    for template in steps:
        own = template["container"]["securityContext"]
        assert own["readOnlyRootFilesystem"] and own["runAsNonRoot"] and own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        size = template["container"]["resources"]
        assert size["requests"] == size["limits"] and set(size["limits"]) == {"cpu", "memory", "ephemeral-storage"}
        retry = template["retryStrategy"]
        assert "75" in retry["expression"] and "65" not in retry["expression"] and "78" not in retry["expression"]
        assert "maxDuration" not in retry["backoff"]
        known = policy.steps.get(template["name"])
        if known is not None:
            assert template["activeDeadlineSeconds"] == known.deadline_seconds + GRACE_SECONDS
        names = {metric["name"] for metric in template["metrics"]["prometheus"]}
        assert len(names) == 2
        labels = {label["key"] for metric in template["metrics"]["prometheus"] for label in metric["labels"]}
        assert labels == {"job", "status"}  # never a run: every run would be a series of its own
    assert spec["synchronization"]["mutexes"] and "mutex" not in spec["synchronization"]
    assert spec["ttlStrategy"]["secondsAfterFailure"] > spec["ttlStrategy"]["secondsAfterSuccess"] > 3600
    assert spec["podGC"]["strategy"] == "OnPodSuccess"


def test_quotas_are_the_policys(made: dict[str, dict[str, Any]]) -> None:
    quotas = made["quotas.yaml"]["data"]
    for template in made["workflow-template.yaml"]["spec"]["templates"]:
        provider = transfer_policy().steps[template["name"]].provider if template["name"] in _steps() else ""
        if not provider:
            assert "synchronization" not in template
            continue
        reference = template["synchronization"]["semaphores"][0]["configMapKeyRef"]
        assert reference == {"name": made["quotas.yaml"]["metadata"]["name"], "key": provider}
        assert int(quotas[provider]) == transfer_policy().steps[template["name"]].concurrent


def _steps() -> set[str]:
    return set(transfer_policy().steps)


def test_the_key_and_the_identity_of_the_function_are_where_it_is_asked(made: dict[str, dict[str, Any]]) -> None:
    for template in made["workflow-template.yaml"]["spec"]["templates"]:
        text = json.dumps(template)
        assert ("TRIALOPS_REPORT_FUNCTION_KEY" in text) == ("azure-token" in text) == (template["name"] == "report")


def test_the_example_of_a_trial_can_be_read_and_holds_no_secret() -> None:
    from trialops.transfer.config import parse_config

    document = yaml.safe_load((FOLDER / "trial.yaml").read_text())
    config = parse_config(yaml.safe_load(document["data"]["transfer.yaml"]))
    assert config.parts("extract") == ("trial-site-01", "trial-site-02")
    assert "code=" not in document["data"]["transfer.yaml"]
