"""What every cloud job has in common: the protocol, what is seen of a job, and the token it is known by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from trialops.transfer.failures import Kind

Phase = Literal["running", "succeeded", "failed"]


@dataclass(frozen=True)
class Started:
    """A provider job: its id, and whether it was there already."""

    job_id: str
    adopted: bool = False


@dataclass(frozen=True)
class Observed:
    """One look at a provider job.

    Attributes:
        native: The provider's own state.
        phase: What it means.
        facts: Numbers and names that count as evidence; JSON values, no text of the provider's.
        kind: How it failed, where it failed.
        code: The provider's error code, where it failed.
    """

    native: str
    phase: Phase
    facts: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = "permanent"
    code: str = ""


@dataclass(frozen=True)
class Start:
    """What a start has to know.

    Attributes:
        token: The provider job's own name for this run, step and attempt.
        since: When we first meant to start it.
        now: The time.
        fresh: Whether no call can have been made before, by this process or one that died.
    """

    token: str
    since: datetime
    now: datetime
    fresh: bool


class CloudJob(Protocol):
    """A job at a provider that can be started once, looked at, stopped, and believed with its evidence."""

    provider: str
    where: str

    def start_or_adopt(self, start: Start) -> Started:
        """Start the job, or take up the one an earlier call started; never two for one token.

        Raises:
            TransferFailure: It cannot be started, now or at all.
            StartLost: The token can be used no more, and nothing was started under it.
            StartUnsettled: An earlier call may still take effect; look again later.
        """
        ...

    def poll(self, job_id: str) -> Observed:
        """Look at the job once.

        Raises:
            TransferFailure: It cannot be looked at, now or at all.
        """
        ...

    def cancel(self, job_id: str) -> None:
        """Ask the provider to stop the job; no error where it has ended."""
        ...

    def evidence(self, job_id: str, seen: Observed) -> dict[str, Any]:
        """What shows that a job that says it succeeded did what it was to do.

        Raises:
            TransferFailure: Of kind integrity where it did not, or does not show it.
        """
        ...


def job_token(run_id: str, step: str, part: str, attempt: int) -> str:
    """The name of one provider job: the same for the same run, step, part and attempt; fit for every provider.

    Letters, digits and dashes, 44 characters: AppFlow and Backup take it as idempotency token, QuickSight as the id of
    the ingestion, DataSync as a tag, Durable Functions as the id of the instance.
    """
    named = hashlib.sha256("\0".join([run_id, step, part, str(attempt)]).encode()).hexdigest()
    return f"trialops-{named[:32]}-{attempt:02d}"
