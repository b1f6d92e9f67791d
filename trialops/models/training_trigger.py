"""Whether there is enough new to train on: subjects and events that the last training did not have.

A subject is new when the last training set did not hold them, changed when their label is another now, and gone when
they are no longer in the data (erased, or their consent withdrawn): a model that still knows them has to be replaced.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.models.policy import open_policy
from trialops.models.record import plain
from trialops.pages import suppressed

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.task import Task

TRAIN, SKIP = "train", "skip"


@dataclass(frozen=True)
class TriggerPolicy:
    """How much has to be new.

    Attributes:
        name: Name of the policy.
        min_new_subjects: Newly labelled subjects from which training starts, with `min_new_events` among them.
        min_new_events: Events among them.
        min_changed_labels: Changed labels from which training starts.
        min_gone_subjects: Subjects gone from the data from which training starts.
        on_changed_task: Whether a changed task definition starts training.
        digest: SHA-256 of the policy's content.
    """

    name: str
    min_new_subjects: int
    min_new_events: int
    min_changed_labels: int
    min_gone_subjects: int
    on_changed_task: bool
    digest: str


@dataclass(frozen=True)
class Trigger:
    """What is new since the last training, and whether to train.

    Attributes:
        action: "train" or "skip".
        reasons: Why, with numbers and limits.
        subjects: Labelled subjects now.
        events: Events among them.
        new_subjects: Of them, those the last training did not have.
        new_events: Events among the new.
        changed: Labels that are others now.
        gone: Subjects of the last training that are not labelled now.
        last_version: Version of the model trained last; empty where there is none.
        policy: Name of the policy.
        policy_digest: Its digest.
    """

    action: str
    reasons: tuple[str, ...]
    subjects: int
    events: int
    new_subjects: int
    new_events: int
    changed: int
    gone: int
    last_version: str
    policy: str
    policy_digest: str

    def as_dict(self) -> dict[str, Any]:
        """The trigger as JSON values."""
        return plain(self)


def load_trigger_policy(source: str | Path = "training_trigger") -> TriggerPolicy:
    """Load and check a policy.

    Raises:
        TrialOpsError: The file is missing, or a key is missing, unknown or out of range.
    """
    top, digest = open_policy(source)
    policy = TriggerPolicy(
        name=top.get("name", str),
        min_new_subjects=top.whole("min_new_subjects", 1),
        min_new_events=top.whole("min_new_events", 0),
        min_changed_labels=top.whole("min_changed_labels", 1),
        min_gone_subjects=top.whole("min_gone_subjects", 1),
        on_changed_task=top.get("on_changed_task", bool),
        digest=digest,
    )
    top.done()
    return policy


def task_digest(task: Task) -> str:
    """SHA-256 of a task's definition."""
    return hashlib.sha256(json.dumps(task.as_dict(), sort_keys=True).encode()).hexdigest()


def check_trigger(
    now: pl.DataFrame,
    before: pl.DataFrame | None,
    policy: TriggerPolicy,
    *,
    last_version: str = "",
    changed_task: bool = False,
    force: bool = False,
) -> Trigger:
    """Compare the labelled subjects with those of the last training.

    Args:
        now: Labelled subjects: subject_id, label (not null), one row each.
        before: The same columns of the last training set; None where there is none.
        policy: The policy.
        last_version: Version of the model trained last.
        changed_task: Whether the task is defined otherwise than at the last training.
        force: Train in any case; the numbers are reported all the same.

    Returns:
        The trigger.
    """
    import polars as pl

    subjects, events = now.height, int(now["label"].sum() or 0)
    if before is None:
        new, new_events, changed, gone = subjects, events, 0, 0
    else:
        old = before.select("subject_id", old=pl.col("label").cast(pl.Int8))
        joined = now.select("subject_id", pl.col("label").cast(pl.Int8)).join(old, on="subject_id", how="left")
        fresh = joined.filter(pl.col("old").is_null())
        new, new_events = fresh.height, int(fresh["label"].sum() or 0)
        changed = joined.filter(pl.col("old") != pl.col("label")).height
        gone = old.join(now, on="subject_id", how="anti").height
    enough = new >= policy.min_new_subjects and new_events >= policy.min_new_events
    # In words a handful is not counted: they reach pages and messages. The figures are exact in the document.
    few = suppressed(new) != new
    text = (
        f"{suppressed(new)} new subjects (at least {policy.min_new_subjects}) with "
        f"{suppressed(new) if few else suppressed(new_events)} events (at least {policy.min_new_events})"
    )
    found = [
        (force, "asked for by parameter"),
        (enough, text if last_version else f"{text}; no model has been trained yet"),
        (
            changed >= policy.min_changed_labels,
            f"{suppressed(changed)} changed labels (at least {policy.min_changed_labels})",
        ),
        (gone >= policy.min_gone_subjects, f"{suppressed(gone)} subjects gone (at least {policy.min_gone_subjects})"),
        (changed_task and policy.on_changed_task, "the task is defined otherwise"),
    ]
    reasons = [reason for met, reason in found if met]
    nothing = f"{text}, {suppressed(changed)} changed labels, {suppressed(gone)} subjects gone: too little is new"
    return Trigger(
        TRAIN if reasons else SKIP,
        tuple(reasons) or (nothing,),
        subjects,
        events,
        new,
        new_events,
        changed,
        gone,
        last_version,
        policy.name,
        policy.digest,
    )
