"""What a schema cannot see in an Argo workflow: references that lead nowhere, dependencies in circles, loose ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trialops.transfer.graph import names_in

TAG = re.compile(r"\{\{([^}]+)\}\}")


def lint(workflow: Mapping[str, Any]) -> list[str]:
    """Problems of a WorkflowTemplate, with their place."""
    spec = workflow["spec"]
    templates = {template["name"]: template for template in spec["templates"]}
    problems = [] if len(templates) == len(spec["templates"]) else ["two templates have one name"]
    for role in ("entrypoint", "onExit"):
        if spec.get(role) not in templates:
            problems.append(f"{role} names no template")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    arguments = {p["name"] for p in spec.get("arguments", {}).get("parameters", [])}
    used = {spec.get("entrypoint"), spec.get("onExit")}
    for name, template in templates.items():
        if "dag" in template:
            tasks = {task["name"]: task for task in template["dag"]["tasks"]}
            problems += _tasks(name, tasks, templates)
            used |= {task["template"] for task in tasks.values()}
        inputs = {p["name"] for p in template.get("inputs", {}).get("parameters", [])}
        for tag in _tags(template):
            if tag.startswith("workflow.parameters.") and tag.rsplit(".", 1)[1] not in arguments:
                problems.append(f"{name}: {tag} is no argument")
            if tag.startswith("inputs.parameters.") and tag.rsplit(".", 1)[1] not in inputs:
                problems.append(f"{name}: {tag} is no input")
        for mount in template.get("container", {}).get("volumeMounts", []):
            if mount["name"] not in volumes:
                problems.append(f"{name}: there is no volume {mount['name']}")
        if "container" in template and re.search(r":(latest)?$", template["container"]["image"]):
            problems.append(f"{name}: the image has no fixed tag")
        if "container" in template and ":" not in template["container"]["image"].rsplit("/", 1)[-1]:
            problems.append(f"{name}: the image has no tag")
    return problems + [f"template {name} is used by nobody" for name in sorted(set(templates) - used)]


def _tasks(dag: str, tasks: Mapping[str, Any], templates: Mapping[str, Any]) -> Iterator[str]:
    before = {name: names_in(task.get("depends", "")) for name, task in tasks.items()}
    for name, task in tasks.items():
        if "dependencies" in task or "continueOn" in task:
            yield f"{dag}.{name}: depends may not be mixed with what came before it"
        if task.get("template") not in templates:
            yield f"{dag}.{name}: there is no template {task.get('template')}"
            continue
        for other in before[name]:
            if other not in tasks:
                yield f"{dag}.{name}: depends on {other}, which is no task"
        wanted = {
            p["name"]
            for p in templates[task["template"]].get("inputs", {}).get("parameters", [])
            if "value" not in p and "default" not in p
        }
        given = {p["name"] for p in task.get("arguments", {}).get("parameters", [])}
        if wanted != given:
            yield f"{dag}.{name}: inputs {sorted(wanted)}, arguments {sorted(given)}"
        for tag in _tags(task):
            match = re.fullmatch(r"tasks\.([a-z-]+)\.outputs\.parameters\.(\w+)", tag)
            if match:
                made = templates.get(tasks.get(match[1], {}).get("template", ""), {})
                outputs = {p["name"] for p in made.get("outputs", {}).get("parameters", [])}
                if match[2] not in outputs or match[1] not in before[name]:
                    yield f"{dag}.{name}: {tag} is not there when it is read"
    done: set[str] = set()
    while True:
        ready = {name for name in tasks if name not in done and set(before[name]) <= done}
        if not ready:
            break
        done |= ready
    for name in sorted(set(tasks) - done):
        yield f"{dag}.{name}: its dependencies go in a circle or lead nowhere"


def _tags(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from (tag.strip() for tag in TAG.findall(value))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tags(one)
    elif isinstance(value, list):
        for one in value:
            yield from _tags(one)
