"""Requests to start a pipeline, from one run to whatever starts runs: once each, with the reason, kept for the record.

On the cluster an event source watches the objects; on one machine `trialops triggers --run` starts what is waiting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore

PREFIX = "triggers"


@dataclass(frozen=True)
class Trigger:
    """A request to start a pipeline.

    Attributes:
        pipeline: Catalogue name.
        name: What asks, and for what: one request of a name is made once.
        arguments: Parameters to start it with.
        reason: In words.
        run_id: The run that asked.
        at: When, UTC.
        done_by: Run that was started for it; empty while it waits.
    """

    pipeline: str
    name: str
    arguments: Mapping[str, Any]
    reason: str
    run_id: str
    at: str
    done_by: str = ""

    @property
    def key(self) -> str:
        """Object key."""
        return f"{PREFIX}/{self.pipeline}/{self.name}.json"


def ask(run: Step, pipeline: str, name: str, *, arguments: Mapping[str, Any], reason: str) -> bool:
    """Ask for a run, unless it has been asked for under this name.

    Args:
        run: The step that asks.
        pipeline: Catalogue name of the pipeline to start.
        name: For example the task and the number of the monitoring window.
        arguments: Parameters to start it with.
        reason: In words; it goes into the audit trail.

    Returns:
        Whether this call asked first.
    """
    from datetime import UTC, datetime

    trigger = Trigger(pipeline, name, dict(arguments), reason, run.run_id, datetime.now(UTC).isoformat())
    first = run.objects.put(trigger.key, json.dumps(asdict(trigger), sort_keys=True).encode(), if_absent=True)
    if first:
        run.audit("trigger.ask", pipeline, name, reason=reason, arguments=dict(arguments))
    return bool(first)


def triggers(objects: ObjectStore, *, waiting: bool = True) -> list[Trigger]:
    """Requests, oldest first; only those no run was started for, unless asked otherwise."""
    found = []
    keys = set(objects.list(PREFIX))
    for key in sorted(keys):
        if key.endswith(".done"):
            continue
        body = json.loads(objects.get(key))
        if f"{key}.done" in keys:
            body["done_by"] = objects.get(f"{key}.done").decode()
        found.append(Trigger(**body))
    return sorted((t for t in found if not (waiting and t.done_by)), key=lambda t: (t.at, t.key))


def done(objects: ObjectStore, trigger: Trigger, run_id: str) -> None:
    """Note which run was started for a request.

    Raises:
        TrialOpsError: Another run was started for it before.
    """
    if not objects.put(f"{trigger.key}.done", run_id.encode(), if_absent=True):
        by = objects.get(f"{trigger.key}.done").decode()
        if by != run_id:
            raise TrialOpsError(
                f"Run {by} was started for this request before", where=trigger.key, fix="Nothing is left to do."
            )
