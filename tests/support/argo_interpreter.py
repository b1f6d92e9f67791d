"""Runs an Argo WorkflowTemplate's own DAG here, each pod as a process: what the controller does, as far as it is used.

Dependencies (`depends`), fan-out (`withParam`), retries by expression, output parameters, the exit handler, and the
phase of a DAG, which is that of its last tasks, where a task that was left out has the phase of those before it. Not
there: pods, volumes, images, backoff (nobody waits), mutexes, and the environment, which the caller gives.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trialops.transfer.graph import Outcome, holds, names_in

TAG = re.compile(r"\{\{\s*([^}]+?)\s*\}\}")


@dataclass(frozen=True)
class Pod:
    """One pod that ran: template, item of its fan-out, number of the attempt, exit code, and what it said."""

    template: str
    item: str
    attempt: int
    code: int
    said: str = ""


@dataclass
class Interpreter:
    """A run of a workflow.

    Args:
        workflow: The WorkflowTemplate.
        arguments: Workflow parameters.
        launch: Starts a process for a pod's command and arguments.
        folder: Stands for /work, a folder of its own for each pod.
        chaos: Called with template, item, attempt and process; may kill it.
    """

    workflow: Mapping[str, Any]
    arguments: Mapping[str, str]
    launch: Callable[[list[str]], subprocess.Popen[str]]
    folder: Path
    chaos: Callable[[str, str, int, subprocess.Popen[str]], None] = lambda template, item, attempt, process: None
    pods: list[Pod] = field(default_factory=list)
    phases: dict[str, Outcome] = field(default_factory=dict)
    _outputs: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> str:
        """Run the entry point and the exit handler; gives the workflow's phase."""
        spec = self.workflow["spec"]
        given = {p["name"]: p["value"] for p in spec["arguments"]["parameters"] if "value" in p} | dict(self.arguments)
        missing = {p["name"] for p in spec["arguments"]["parameters"]} - set(given)
        assert not missing, f"no value for {missing}"
        scope = {f"workflow.parameters.{name}": value for name, value in given.items()}
        templates = {template["name"]: template for template in spec["templates"]}
        phase = self._dag(templates[spec["entrypoint"]], templates, scope)
        ended = self._node(templates[spec["onExit"]], "", {**scope, "workflow.status": phase})
        return phase if ended == "Succeeded" else "Error"

    def _dag(self, dag: Mapping[str, Any], templates: Mapping[str, Any], scope: Mapping[str, str]) -> str:
        tasks = {task["name"]: task for task in dag["dag"]["tasks"]}
        waiting = list(tasks)
        while waiting:
            ready = [n for n in waiting if set(names_in(tasks[n].get("depends", ""))) <= set(self.phases)]
            assert ready, "the dependencies go in a circle"
            for name in ready:
                waiting.remove(name)
                if not holds(tasks[name].get("depends", ""), self.phases):
                    self.phases[name] = "Omitted"
                    continue
                self.phases[name] = self._task(tasks[name], templates[tasks[name]["template"]], scope)
        needed = {other for task in tasks.values() for other in names_in(task.get("depends", ""))}
        ends = [self._inherited(name, tasks) for name in tasks if name not in needed]
        return next((phase for phase in ("Errored", "Failed") if phase in ends), "Succeeded")

    def _inherited(self, name: str, tasks: Mapping[str, Any]) -> str:
        """A task that was left out has the phase of those before it, a failure first."""
        if self.phases[name] != "Omitted":
            return self.phases[name]
        before = [self._inherited(other, tasks) for other in names_in(tasks[name].get("depends", ""))]
        return next((phase for phase in ("Errored", "Failed") if phase in before), "Succeeded")

    def _task(self, task: Mapping[str, Any], template: Mapping[str, Any], scope: Mapping[str, str]) -> Outcome:
        scope = {**scope, **self._outputs}
        if "withParam" not in task:
            outcome = self._node(template, "", scope)
            for parameter in template.get("outputs", {}).get("parameters", []) if outcome == "Succeeded" else []:
                path = self._inside(parameter["valueFrom"]["path"], template["name"], "")
                self._outputs[f"tasks.{task['name']}.outputs.parameters.{parameter['name']}"] = Path(path).read_text()
            return outcome
        items = [str(item) for item in json.loads(_filled(task["withParam"], scope))]
        inputs = {p["name"]: p["value"] for p in task["arguments"]["parameters"]}

        def one(item: str) -> Outcome:
            own = {**scope, "item": item}
            return self._node(
                template, item, {**own, **{f"inputs.parameters.{k}": _filled(v, own) for k, v in inputs.items()}}
            )

        with ThreadPoolExecutor(len(items)) as pool:
            outcomes = list(pool.map(one, items))
        return next((phase for phase in ("Errored", "Failed") if phase in outcomes), "Succeeded")

    def _node(self, template: Mapping[str, Any], item: str, scope: Mapping[str, str]) -> Outcome:
        """One node with its retries."""
        retry, attempt = template["retryStrategy"], 0
        while True:
            attempt += 1
            code = self._pod(template, item, attempt, scope)
            if code == 0:
                return "Succeeded"
            last = SimpleNamespace(status="Failed", exitCode=str(code))
            if attempt > int(retry["limit"]) or not _expression(retry["expression"], last):
                return "Failed"

    def _pod(self, template: Mapping[str, Any], item: str, attempt: int, scope: Mapping[str, str]) -> int:
        container = template["container"]
        words = [_filled(word, scope) for word in (*container["command"], *container["args"])]
        process = self.launch([self._inside(word, template["name"], item) for word in words])
        self.chaos(template["name"], item, attempt, process)
        said, _ = process.communicate(timeout=300)
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        with self._lock:
            self.pods.append(Pod(template["name"], item, attempt, code, said))
        return code

    def _inside(self, word: str, template: str, item: str) -> str:
        if not word.startswith("/work"):
            return word
        return str(self.folder / f"{template}{item}") + word.removeprefix("/work")


def _filled(text: str, scope: Mapping[str, str]) -> str:
    """A text with its tags filled in; the controller leaves what it does not know, and so does this."""
    return TAG.sub(lambda match: scope.get(match[1], match[0]), text)


def _expression(text: str, last: SimpleNamespace) -> bool:
    """A retry's expression, in the subset that is also Python once its operators are."""
    plain = text.replace("||", " or ").replace("&&", " and ")
    assert re.fullmatch(r"[\w\s.=<>!()\[\],']+", plain), text
    return bool(eval(plain, {"__builtins__": {}}, {"lastRetry": last, "asInt": int}))
