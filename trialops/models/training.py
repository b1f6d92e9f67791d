"""What model_training and model_evaluation look up: whether training is due, and a registered version to judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.evidence_store import get_baseline, get_evidence
from trialops.models.registration import last_training
from trialops.models.training_trigger import Trigger, check_trigger, load_trigger_policy, task_digest
from trialops.stores.refs import Snapshot

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.task import Task
    from trialops.stores.context import Step

LABEL_TABLES = ("DM", "DS", "EX", "SV")


@dataclass(frozen=True)
class Fetched:
    """A registered version with what it was made from."""

    version: str
    digest: str
    model: Path
    baseline: Path
    training: Snapshot
    search: dict[str, Any]


def due(run: Step, validated: Snapshot, task: Task, *, force: bool = False) -> Trigger:
    """Compare the labelled subjects of now with those of the training set of the model trained last.

    Args:
        run: The step.
        validated: The clean tables.
        task: Prediction task.
        force: Train in any case.
    """
    import polars as pl

    from trialops.features.labels import label
    from trialops.privacy.permission import unrestricted

    # By prefix: a domain split over several tables (EX, EX_CONTINUED) belongs together.
    needed = {name: ref for name, ref in validated.tables.items() if name.split("_")[0] in LABEL_TABLES}
    tables = unrestricted(run.read_snapshot("validated", Snapshot(needed)), run)
    now = label(tables, task).filter(pl.col("excluded").is_null()).select("subject_id", "label")
    last = last_training(run, task.name)
    before, version, changed = None, "", False
    if last is not None:
        version, document = last
        before = _earlier(run, document)
        changed = document.get("task_digest", "") not in ("", task_digest(task))
    return check_trigger(now, before, load_trigger_policy(), last_version=version, changed_task=changed, force=force)


def _earlier(run: Step, document: dict[str, Any]) -> pl.DataFrame | None:
    """Subjects and labels of the last training set; None where retention or an erasure has removed that version."""
    try:
        frames = run.read_snapshot("last training set", Snapshot.from_dict(document["training_set"]))
    except TrialOpsError:
        return None
    return frames["rows"].select("subject_id", "label")


def fetch_registered(run: Step, task: str, *, alias: str, version: str = "") -> Fetched:
    """A registered version, its baseline and training set.

    Args:
        run: The step.
        task: Name of the registered model.
        alias: Alias to look up where no version is given.
        version: Version; empty for the alias.

    Raises:
        TrialOpsError: There is no such version, or it was registered without its training evidence.
    """
    registered = run.registry.version(task, version) if version else run.registry.by_alias(task, alias)
    if registered is None:
        raise TrialOpsError(
            f"No version has the alias {alias}",
            where=f"model {task}",
            fix="Train one first: trialops run model_training",
        )
    document = get_evidence(run, task, registered.version).get("training")
    if document is None:
        raise TrialOpsError(
            "The version was registered without its training evidence: its held-out sites are not known",
            where=f"model {task}, version {registered.version}",
            fix="Train again: trialops run model_training --set force=true",
        )
    return Fetched(
        version=registered.version,
        digest=registered.digest,
        model=run.registry.fetch(task, registered.version, run.workdir / "model"),
        baseline=get_baseline(run, task, registered.version, run.workdir / "baseline"),
        training=Snapshot.from_dict(document["training_set"]),
        search=document["search"],
    )
