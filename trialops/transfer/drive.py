"""Driving one cloud job from its claim to its evidence, across processes that may die anywhere.

Before the first call of a start, the checkpoint says that one may be made (`starting`). Whoever finds it so later
cannot know whether the call arrived, and adopts: by the provider's idempotency where there is one, by looking for the
token where there is not. Only then is the job's id written down, and only with its evidence the job has succeeded.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from trialops.transfer.checkpoints import Checkpoint, Checkpoints, Superseded, failure_of
from trialops.transfer.failures import NOT_ASKED, StartLost, StartUnsettled, TransferFailure
from trialops.transfer.job import CloudJob, Observed, Start, job_token
from trialops.transfer.policy import Policy


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Driver:
    """What driving needs besides the job.

    Attributes:
        checkpoints: Where it is written down.
        policy: Waits, attempts, deadlines.
        now: The time.
        sleep: Waits so many seconds.
        told: Takes a line for people.
        again: Begin one more attempt where the last ended for good.
    """

    checkpoints: Checkpoints
    policy: Policy
    now: Callable[[], datetime] = _now
    sleep: Callable[[float], None] = time.sleep
    told: Callable[[str], None] = field(default=lambda line: None)
    again: bool = False

    def run(self, run_id: str, step: str, part: str, provider: str, make: Callable[[], CloudJob]) -> Checkpoint:
        """Bring one job to its end.

        Args:
            run_id: The run.
            step: The step.
            part: Flow or data set, or empty.
            provider: Who does it.
            make: Makes the job; called when there is something to do.

        Returns:
            The checkpoint, succeeded.

        Raises:
            TransferFailure: It failed; of kind retryable where calling again goes on with it.
        """
        checkpoint, mine = self.checkpoints.claim(run_id, step, part, provider, self.now())
        tried, job = False, None
        while not checkpoint.done:
            job = job or make()
            try:
                if not mine:
                    mine, checkpoint = True, self._take_up(checkpoint)
                elif checkpoint.state == "failed":
                    if tried:
                        raise self._conclusion(checkpoint)
                    checkpoint = self._next_attempt(checkpoint)
                    tried = True
                elif checkpoint.state in ("claimed", "starting"):
                    checkpoint, tried = self._start(job, checkpoint), True
                else:
                    checkpoint, tried = self._watch(job, checkpoint), True
            except Superseded:
                found = self.checkpoints.read(run_id, step, part)
                if found is None:
                    raise TransferFailure("retryable", "The checkpoint is gone", where=f"{step} {part}") from None
                checkpoint = found  # another process is at work on the same job: go on from where it stands
        return checkpoint

    def run_own(self, run_id: str, step: str, work: Callable[[], dict[str, Any]]) -> Checkpoint:
        """Do a step of our own once; it may die anywhere and is done again from its start, so it must be repeatable.

        Args:
            run_id: The run.
            step: The step.
            work: Does it; returns its evidence. `alert` in it says that somebody must be told.

        Raises:
            TransferFailure: It failed.
        """
        checkpoint, mine = self.checkpoints.claim(run_id, step, "", "", self.now())
        try:
            if not mine and not checkpoint.done:
                checkpoint = self._take_up(checkpoint)
            if checkpoint.done:
                return checkpoint
            if checkpoint.state == "failed":
                checkpoint = self._next_attempt(checkpoint)
            try:
                evidence = work()
            except TransferFailure as failure:
                if failure.kind != "retryable" and failure.code != NOT_ASKED:
                    self._failed(checkpoint, failure)
                raise
            at, due = self.now(), bool(evidence.pop("alert", False))
            self.told(f"{checkpoint.label}: succeeded")
            return self.checkpoints.advance(
                checkpoint,
                "succeeded",
                at,
                state="succeeded",
                evidence=evidence,
                alert="due" if due else "",
                started=checkpoint.began,
                finished=at.isoformat(),
            )
        except Superseded:
            raise TransferFailure(
                "retryable", "Another process does the same step", where=step, fix="Wait for it, then run again."
            ) from None

    def _take_up(self, checkpoint: Checkpoint) -> Checkpoint:
        if checkpoint.state == "failed":
            return checkpoint
        self.told(f"{checkpoint.label}: taken up where it was ({checkpoint.state})")
        return self.checkpoints.advance(checkpoint, "taken up", self.now())

    def _conclusion(self, checkpoint: Checkpoint) -> TransferFailure:
        """What a failed attempt means for the step: tried as often as the policy allows, somebody has to look."""
        failure = failure_of(checkpoint)
        if failure.kind == "retryable" and checkpoint.attempt >= self.policy.attempts:
            return TransferFailure("permanent", failure.what, code=failure.code, where=failure.where)
        return failure

    def _next_attempt(self, checkpoint: Checkpoint) -> Checkpoint:
        """A provider job of its own after one that failed, where that may pass or a person says so."""
        conclusion = self._conclusion(checkpoint)
        if conclusion.kind != "retryable" and not self.again:
            raise conclusion
        return self._renewed(checkpoint, "next attempt")

    def _renewed(self, checkpoint: Checkpoint, event: str) -> Checkpoint:
        number = checkpoint.attempt + 1
        token = job_token(checkpoint.run_id, checkpoint.step, checkpoint.part, number)
        return self.checkpoints.advance(
            checkpoint,
            event,
            self.now(),
            attempt=number,
            token=token,
            state="claimed",
            job_id="",
            native="",
            failure={},
            alert="",
            intended="",
            started="",
            finished="",
        )

    def _start(self, job: CloudJob, checkpoint: Checkpoint) -> Checkpoint:
        fresh = checkpoint.state == "claimed"
        if fresh:
            at = self.now()
            checkpoint = self.checkpoints.advance(checkpoint, "starting", at, state="starting", intended=at.isoformat())
        since = datetime.fromisoformat(checkpoint.intended)
        while True:
            try:
                started = job.start_or_adopt(Start(checkpoint.token, since, self.now(), fresh))
                break
            except StartUnsettled:
                self.sleep(max(self.policy.settle_seconds / 10, 0.01))
            except StartLost:
                return self._renewed(checkpoint, "start lost")
            except TransferFailure as failure:
                if failure.kind == "retryable":
                    raise
                return self._failed(checkpoint, failure)
        event = "adopted" if started.adopted else "started"
        self.told(f"{checkpoint.label}: {event}")
        at = self.now()
        return self.checkpoints.advance(
            checkpoint, event, at, state="running", job_id=started.job_id, started=at.isoformat()
        )

    def _watch(self, job: CloudJob, checkpoint: Checkpoint) -> Checkpoint:
        rng = random.Random(f"{checkpoint.token}/{checkpoint.sequence}")
        deadline = datetime.fromisoformat(checkpoint.started) + timedelta(
            seconds=self.policy.steps[checkpoint.step].deadline_seconds
        )
        native, look, failures = checkpoint.native, 0, 0
        while True:
            try:
                seen = job.poll(checkpoint.job_id)
                failures = 0
            except TransferFailure as failure:
                failures += 1
                if failure.kind != "retryable" or failures > self.policy.polling["failures"]:
                    raise  # nothing is known of the job: the checkpoint stays as it is
                seen = Observed(native, "running")
            if seen.phase == "succeeded":
                return self._concluded(job, checkpoint, seen)
            if seen.phase == "failed":
                what = f"The job at {checkpoint.provider} ended as {seen.native}"
                return self._failed(
                    checkpoint, TransferFailure(seen.kind, what, code=seen.code, where=job.where), native=seen.native
                )
            if seen.native != native:
                native = seen.native
                self.told(f"{checkpoint.label}: {native}")
            if self.now() >= deadline:
                return self._overdue(job, checkpoint, seen)
            self.sleep(self.policy.delay(look, rng))
            look += 1

    def _concluded(self, job: CloudJob, checkpoint: Checkpoint, seen: Observed) -> Checkpoint:
        try:
            evidence = job.evidence(checkpoint.job_id, seen)
        except TransferFailure as failure:
            return self._failed(checkpoint, failure, native=seen.native)
        at = self.now()
        self.told(f"{checkpoint.label}: succeeded, evidence checked")
        return self.checkpoints.advance(
            checkpoint,
            "succeeded",
            at,
            state="succeeded",
            native=seen.native,
            evidence=evidence,
            finished=at.isoformat(),
        )

    def _overdue(self, job: CloudJob, checkpoint: Checkpoint, seen: Observed) -> Checkpoint:
        """Past its deadline a job is stopped: what is forgotten goes on costing, and may finish over a later run."""
        try:
            job.cancel(checkpoint.job_id)
            stopped = "was told to stop"
        except TransferFailure:
            stopped = "could not be told to stop"
        what = f"The job at {checkpoint.provider} passed its deadline as {seen.native or 'not listed'} and {stopped}"
        return self._failed(checkpoint, TransferFailure("permanent", what, code="deadline", where=job.where))

    def _failed(self, checkpoint: Checkpoint, failure: TransferFailure, **changes: Any) -> Checkpoint:
        """Write a failure down, and that it must be told; the loop then decides whether there is another attempt."""
        at = self.now()
        last = failure.kind != "retryable" or checkpoint.attempt >= self.policy.attempts
        self.told(f"{checkpoint.label}: failed, {failure.kind}")
        return self.checkpoints.advance(
            checkpoint,
            f"failed: {failure.code or failure.kind}",
            at,
            state="failed",
            failure={"kind": failure.kind, "code": failure.code, **failure.as_dict()},
            alert="due" if last else checkpoint.alert,
            finished=at.isoformat(),
            **changes,
        )
