"""A pipeline's graph laid out flat: every task with a name of its own, in running order."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kfp.local import graph_utils
from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec, PipelineSpec, PipelineTaskSpec


@dataclass(frozen=True)
class Planned:
    """A task of the unfolded pipeline before it runs."""

    path: str
    title: str
    exits: bool


def unfold(spec: PipelineSpec) -> tuple[PipelineSpec, list[Planned]]:
    """Give every task its own component, named by its path in the graph.

    kfp.local names a task's folder after its component, so two calls of one nested pipeline would write to
    the same place; and a path is what a log line, a table row and a resumed run can name.

    Returns:
        The rewritten spec and its leaf tasks in running order.
    """
    result = PipelineSpec()
    result.CopyFrom(spec)
    original = dict(spec.components.items())
    for name in list(result.components):
        del result.components[name]
    plan: list[Planned] = []

    def walk(owner: ComponentSpec, prefix: str, heading: str, exits: bool) -> None:
        # A protobuf map has another order in every process; by name first, the running order is always the same.
        for task_name in reversed(graph_utils.topological_sort_tasks(dict(sorted(owner.dag.tasks.items())))):
            task = owner.dag.tasks[task_name]
            component = original[task.component_ref.name]
            path = f"{prefix}{task_name}"
            last = exits or _is_exit(task)
            task.component_ref.name = f"comp-{path}"
            copy = result.components[f"comp-{path}"]
            copy.CopyFrom(component)
            title = f"{heading}{task.task_info.name or task_name}"
            if component.WhichOneof("implementation") == "dag":
                control = re.match(r"(for-loop|condition|condition-branches|exit-handler)-\d+$", task_name)
                walk(copy, f"{path}/", heading if control else f"{title}: ", last)
            else:
                plan.append(Planned(path, title, last))

    walk(result.root, "", "", False)
    return result, sorted(plan, key=lambda item: item.exits)


def _is_exit(task: PipelineTaskSpec) -> bool:
    return any(value.HasField("task_final_status") for value in task.inputs.parameters.values())
