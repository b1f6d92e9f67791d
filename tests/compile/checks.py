"""What must be true of every compiled pipeline; each check returns what is wrong, in words."""

from __future__ import annotations

import re
from typing import Any

import yaml

IGNORED = {"image", "command", "sdkVersion"}


def documents(ir: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pipeline spec and platform spec of an IR file."""
    spec, *rest = yaml.safe_load_all(ir)
    return spec, (rest[0] if rest else {})


def structure(ir: bytes) -> list[Any]:
    """An IR without what changes with the code inside components: image, command and SDK version."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key not in IGNORED}
        if isinstance(node, list):
            return [strip(item) for item in node]
        return node

    return [strip(document) for document in documents(ir) if document]


def signature(ir: bytes) -> dict[str, Any]:
    """Parameters with type, default and whether they may be left out."""
    spec, _ = documents(ir)
    given = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return {name: {key: value for key, value in facts.items() if key != "description"} for name, facts in given.items()}


def unhardened(ir: bytes) -> list[str]:
    """Executors without limits, requests, a timeout, a non-root user, or the run id."""
    spec, platform = documents(ir)
    places = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    wrong = []
    for name, executor in spec["deploymentSpec"]["executors"].items():
        if "container" not in executor:
            continue
        resources = executor["container"].get("resources", {})
        for need in (
            "resourceCpuLimit",
            "resourceMemoryLimit",
            "resourceCpuRequest",
            "resourceMemoryRequest",
        ):
            if not resources.get(need):
                wrong.append(f"{name}: no {need}")
        place = places.get(name, {})
        if not int(place.get("activeDeadlineSeconds", 0)):
            wrong.append(f"{name}: no timeout")
        if place.get("securityContext", {}).get("runAsNonRoot") is not True:
            wrong.append(f"{name}: may run as root")
        fields = {item["name"]: item["fieldPath"] for item in place.get("fieldPathAsEnv", [])}
        if fields.get("TRIALOPS_RUN_ID") != "metadata.labels['pipeline/runid']":
            wrong.append(f"{name}: does not know its run id")
    return wrong


def guessed_conditions(ir: bytes) -> list[str]:
    """Conditions that kfp.local cannot resolve: a bare If on a named output of a task beside it."""
    spec, _ = documents(ir)
    graphs = {"root": spec["root"], **spec["components"]}
    wrong = []
    for owner, component in graphs.items():
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            condition = task.get("triggerPolicy", {}).get("condition", "")
            for reference in re.findall(r"parameter_values\['([^']+)'\]", condition):
                source = task.get("inputs", {}).get("parameters", {}).get(reference, {})
                key = source.get("taskOutputParameter", {}).get("outputParameterKey", "Output")
                if key != "Output":
                    wrong.append(f"{owner}/{name}: If without Else on output {key!r}")
    return wrong


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI schema as strict JSON schema: fields it does not name are errors, metadata aside."""
    result = dict(schema)
    if "properties" in schema:
        result["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    if isinstance(schema.get("items"), dict):
        result["items"] = closed(schema["items"])
    return result
