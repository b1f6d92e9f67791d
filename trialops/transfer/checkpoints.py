"""Checkpoints: one object per run, step and part, which holds the provider's job id.

It is created only if absent (the claim) and replaced only while it is what was read (compare and set), so of two pods
that work on the same step one moves it and the other sees that it was moved. A pod that starts again finds the provider
job in it and takes it up. Times are UTC text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from trialops.errors import TrialOpsError
from trialops.stores.objects import ObjectStore
from trialops.transfer.failures import TransferFailure
from trialops.transfer.job import job_token

State = Literal["claimed", "starting", "running", "succeeded", "failed"]
PREFIX = "transfer/runs"
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,99}")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@#!-]{0,199}")


@dataclass(frozen=True)
class Checkpoint:
    """How far one part of one step of one run is.

    Attributes:
        run_id: The run.
        step: The step.
        part: Flow or data set; empty where the step is one job.
        provider: Who does it; empty for a step of our own.
        attempt: Number of the provider job: 1, or more where the one before failed and might be tried again.
        token: Name of the provider job, from run, step, part and attempt.
        state: claimed, starting (a start may have been sent), running, succeeded or failed.
        owner: The process that moved it last.
        job_id: The provider's id of the job; empty before it is known.
        native: The provider's state when it was last looked at.
        evidence: What shows that it succeeded.
        failure: kind, code, what, where, fix of how it failed.
        alert: "" where there is nothing to tell, "due", or "raised".
        began: When the step was claimed.
        intended: When this attempt's start was first meant.
        started: When this attempt's job was known to run.
        finished: When it ended.
        events: What happened, in order: at, owner, event.
        sequence: Number of this version of the object.
    """

    run_id: str
    step: str
    part: str
    provider: str
    attempt: int
    token: str
    state: State
    owner: str
    began: str
    job_id: str = ""
    native: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    failure: Mapping[str, str] = field(default_factory=dict)
    alert: Literal["", "due", "raised"] = ""
    intended: str = ""
    started: str = ""
    finished: str = ""
    events: tuple[Mapping[str, str], ...] = ()
    sequence: int = 1

    @property
    def done(self) -> bool:
        """Whether it succeeded."""
        return self.state == "succeeded"

    @property
    def seconds(self) -> float | None:
        """Wall time from the claim to the end; None while it lasts."""
        if not self.finished:
            return None
        return (datetime.fromisoformat(self.finished) - datetime.fromisoformat(self.began)).total_seconds()

    @property
    def resumes(self) -> int:
        """How often another process took it up."""
        return sum(event["event"] == "taken up" for event in self.events)

    @property
    def label(self) -> str:
        """Step, and part where there is one."""
        return f"{self.step} {self.part}".strip()


def failure_of(checkpoint: Checkpoint) -> TransferFailure:
    """The failure a checkpoint holds."""
    known = checkpoint.failure
    kind = known.get("kind", "permanent")
    return TransferFailure(
        "retryable" if kind == "retryable" else "integrity" if kind == "integrity" else "permanent",
        known.get("what", "The step failed"),
        code=known.get("code", ""),
        where=known.get("where", checkpoint.label),
        fix=known.get("fix", ""),
    )


class Superseded(Exception):
    """Another process moved the checkpoint: read it again."""


class Checkpoints:
    """The checkpoints of an object store.

    Args:
        objects: Where they are kept.
        owner: Name of this process, other than any other's.
    """

    def __init__(self, objects: ObjectStore, owner: str) -> None:
        self._objects, self.owner = objects, owner

    def claim(self, run_id: str, step: str, part: str, provider: str, at: datetime) -> tuple[Checkpoint, bool]:
        """The checkpoint of a step, made where there is none.

        Returns:
            The checkpoint, and whether this call made it.
        """
        now = at.isoformat()
        fresh = Checkpoint(
            run_id,
            step,
            part,
            provider,
            attempt=1,
            token=job_token(run_id, step, part, 1),
            state="claimed",
            owner=self.owner,
            began=now,
            events=({"at": now, "owner": self.owner, "event": "claimed"},),
        )
        if self._objects.put(self._key(run_id, step, part), _dump(fresh), if_absent=True):
            return fresh, True
        found = self.read(run_id, step, part)
        if found is None:
            raise TrialOpsError("A checkpoint vanished while it was claimed", where=self._key(run_id, step, part))
        # A create whose answer was lost is repeated by the client and then finds its own object.
        return found, _same(found, fresh)

    def advance(self, before: Checkpoint, event: str, at: datetime, **changes: Any) -> Checkpoint:
        """Move a checkpoint on.

        Raises:
            Superseded: Another process was faster; nothing was written.
        """
        key = self._key(before.run_id, before.step, before.part)
        line = {"at": at.isoformat(), "owner": self.owner, "event": event}
        after = replace(
            before, owner=self.owner, events=(*before.events, line), sequence=before.sequence + 1, **changes
        )
        try:
            held, tag = self._objects.get_tagged(key)
        except KeyError:
            raise Superseded from None
        if not _same(_load(held, key), before):
            raise Superseded
        if not self._objects.replace(key, _dump(after), tag):
            # A replacement whose answer was lost is repeated by the client and then finds its own content.
            found = self.read(after.run_id, after.step, after.part)
            if found is None or not _same(found, after):
                raise Superseded
        return after

    def read(self, run_id: str, step: str, part: str = "") -> Checkpoint | None:
        """The checkpoint of a step; None where it was never claimed."""
        key = self._key(run_id, step, part)
        try:
            return _load(self._objects.get(key), key)
        except KeyError:
            return None

    def of_run(self, run_id: str) -> list[Checkpoint]:
        """All checkpoints of a run, by step and part."""
        prefix = f"{PREFIX}/{checked_run(run_id)}"
        return [_load(self._objects.get(key), key) for key in self._objects.list(prefix) if key.count("/") == 4]

    def _key(self, run_id: str, step: str, part: str) -> str:
        if part and not _PART.fullmatch(part):
            raise TrialOpsError("The name of a flow or data set cannot be used as a key", where=part[:40])
        return f"{PREFIX}/{checked_run(run_id)}/{step}/{part or '_'}.json"


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two are the same version: every version has a number, and a process writes each number once."""
    return (one.sequence, one.owner) == (other.sequence, other.owner)


def checked_run(run_id: str) -> str:
    """A run id fit for a key.

    Raises:
        TrialOpsError: It is empty, has other characters, or is a template the workflow engine did not fill in.
    """
    if _RUN.fullmatch(run_id):
        return run_id
    raise TrialOpsError(
        "The run id cannot be used" + (": the workflow engine did not fill it in" if "{{" in run_id else ""),
        where="--run-id",
        fix="Give an id of letters, digits and . _ : + -; a workflow that no schedule made needs one of its own.",
    )


def _dump(checkpoint: Checkpoint) -> bytes:
    return json.dumps(asdict(checkpoint), sort_keys=True, indent=1).encode()


def _load(data: bytes, key: str) -> Checkpoint:
    try:
        body = json.loads(data)
        return Checkpoint(**{**body, "events": tuple(body["events"])})
    except (ValueError, TypeError, KeyError):
        raise TrialOpsError(
            "A checkpoint cannot be read", where=key, fix="Restore the object's earlier version; do not delete it."
        ) from None
