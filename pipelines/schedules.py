"""Recurring runs on a Kubeflow Pipelines server, kept equal to the catalogue.

A recurring run cannot be edited on the server, so a changed one is deleted and created again. Only runs that
this module created are touched: they carry the prefix in their name and, in their description, the digest of
what was asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.catalog import CATALOG, Entry, load
from pipelines.compile import ir_yaml, version_of
from pipelines.parameters import typed
from pipelines.submit import PAGE, calls, pages, publish
from trialops.errors import TrialOpsError

PREFIX = "trialops-"
_MARK = re.compile(r"^Kept by TrialOps from its catalogue\. sha256:([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class Change:
    """What has to happen to one recurring run, and why."""

    action: Literal["create", "update", "delete", "same"]
    name: str
    why: str
    entry: Entry | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """A recurring run as the catalogue asks for it."""

    name: str
    pipeline: str
    cron: str
    version: str
    parameters: dict[str, Any]
    max_concurrency: int = 1
    no_catchup: bool = True

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        return hashlib.sha256(json.dumps(self.__dict__, sort_keys=True).encode()).hexdigest()

    @property
    def description(self) -> str:
        """What marks a recurring run as ours."""
        return f"Kept by TrialOps from its catalogue. sha256:{self.digest}"


def six_fields(cron: str) -> str:
    """KFP's cron, which starts with seconds, from a five-field expression.

    Raises:
        TrialOpsError: When the expression does not have five fields.
    """
    if len(cron.split()) != 5:
        raise TrialOpsError(
            f"A schedule has five fields, not {cron!r}",
            where="pipelines/catalog.py",
            fix="Write minute hour day month weekday.",
        )
    return f"0 {cron}"


def wanted(entry: Entry, *, pinned: bool) -> Wanted:
    """The recurring run an entry asks for; pinned to the present version, or following the latest."""
    if entry.schedule is None:
        raise TrialOpsError(f"Pipeline {entry.name} has no schedule", where="pipelines/catalog.py")
    # A missing value shows here, before anything is deleted, and not at three in the morning.
    parameters = typed(load(entry).pipeline_spec, dict(entry.arguments))
    version = f"{entry.kfp_name}-{version_of(ir_yaml(entry))}" if pinned else "latest"
    return Wanted(f"{PREFIX}{entry.kfp_name}", entry.kfp_name, six_fields(entry.schedule), version, parameters)


def diff(
    client: Any,
    catalog: tuple[Entry, ...] = CATALOG,
    *,
    namespace: str | None = None,
    pinned: bool = False,
) -> list[Change]:
    """Compare the server's recurring runs with the catalogue.

    Args:
        client: A KFP client (:func:`pipelines.submit.connect`).
        catalog: What should be scheduled.
        namespace: Namespace to look in.
        pinned: Whether runs use the version compiled now, or whatever is latest when they start.

    Returns:
        One change per recurring run, by name.
    """
    with calls(client._existing_config.host):
        found = list(
            pages(
                lambda token: client.list_recurring_runs(page_token=token, page_size=PAGE, namespace=namespace),
                "recurring_runs",
            )
        )
    owned: dict[str, list[Any]] = {}
    for run in found:
        if (run.display_name or "").startswith(PREFIX) and _MARK.search(run.description or ""):
            owned.setdefault(run.display_name, []).append(run)
    changes = []
    for entry in catalog:
        if entry.schedule is not None:
            want = wanted(entry, pinned=pinned)
            changes.append(_change(entry, want, owned.pop(want.name, [])))
    for name, runs in owned.items():
        ids = tuple(str(run.recurring_run_id) for run in runs)
        changes.append(Change("delete", name, "no longer scheduled in the catalogue", None, ids))
    return sorted(changes, key=lambda change: change.name)


def _change(entry: Entry, want: Wanted, runs: list[Any]) -> Change:
    ids = tuple(str(run.recurring_run_id) for run in runs)
    if not runs:
        return Change("create", want.name, f"{want.cron} (UTC), {want.version} version", entry)
    if len(runs) > 1:
        return Change("update", want.name, f"found {len(runs)} times", entry, ids)
    run = runs[0]
    mark = _MARK.search(run.description or "")
    cron = run.trigger.cron_schedule.cron if run.trigger and run.trigger.cron_schedule else None
    if cron != want.cron:
        return Change("update", want.name, f"cron {cron} becomes {want.cron}", entry, ids)
    if mark is None or mark.group(1) != want.digest:
        return Change("update", want.name, f"version or settings changed; now {want.version}", entry, ids)
    paused = str(run.mode or "").upper().endswith("DISABLE")
    return Change("same", want.name, "paused on the server" if paused else want.cron, entry, ids)


def apply(
    client: Any,
    catalog: tuple[Entry, ...] = CATALOG,
    *,
    namespace: str | None = None,
    pinned: bool = False,
    experiment: str = "trialops",
    service_account: str | None = None,
) -> list[Change]:
    """Make the server's recurring runs equal to the catalogue; a second time changes nothing.

    Returns:
        What was found and done, as :func:`diff` told it.
    """
    import kfp_server_api

    changes = diff(client, catalog, namespace=namespace, pinned=pinned)
    group = None
    for change in changes:
        if change.action == "same":
            continue
        target: tuple[str, str, str] | None = None
        if change.entry is not None:
            # Everything that can fail for a reason of ours comes before the old run is deleted.
            target = publish(client, change.entry, namespace=namespace)
        with calls(client._existing_config.host):
            if target is not None and group is None:
                group = client.create_experiment(experiment, namespace=namespace)
            for recurring_run_id in change.ids:
                client.delete_recurring_run(recurring_run_id)
            if change.entry is None or target is None or group is None:
                continue
            want = wanted(change.entry, pinned=pinned)
            reference = kfp_server_api.V2beta1PipelineVersionReference(
                pipeline_id=target[0], pipeline_version_id=target[1] if pinned else None
            )
            body = kfp_server_api.V2beta1RecurringRun(
                display_name=want.name,
                description=want.description,
                pipeline_version_reference=reference,
                runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=want.parameters),
                experiment_id=group.experiment_id,
                trigger=kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=want.cron)),
                mode=kfp_server_api.RecurringRunMode.ENABLE,
                max_concurrency=str(want.max_concurrency),
                no_catchup=want.no_catchup,
                service_account=service_account,
                namespace=namespace,
            )
            # The client's create_recurring_run insists on a version; leaving it out is how "latest" is said.
            client._recurring_run_api.recurring_run_service_create_recurring_run(recurring_run=body)
    return changes
