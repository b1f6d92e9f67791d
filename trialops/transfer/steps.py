"""Running one step of the transfer, as a pod, a command and the embedded runner do it alike."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trialops.transfer.checkpoints import Checkpoint, Checkpoints, checked_run
from trialops.transfer.config import TransferConfig
from trialops.transfer.drive import Driver
from trialops.transfer.failures import NOT_ASKED, TransferFailure
from trialops.transfer.job import CloudJob
from trialops.transfer.policy import Policy, transfer_policy

if TYPE_CHECKING:
    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore


def owner_name() -> str:
    """Name of this process, other than any other's at any time."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Transfer:
    """One run of a trial's transfer.

    Attributes:
        config: The trial's jobs.
        run_id: The run.
        objects: Where checkpoints, chains and durations are.
        policy: Waits, deadlines, evidence.
        told: Takes lines for people.
        again: Begin one more attempt of what has ended for good.
        owner: Name of this process.
    """

    config: TransferConfig
    run_id: str
    objects: ObjectStore
    policy: Policy = field(default_factory=transfer_policy)
    told: Callable[[str], None] = field(default=lambda line: None)
    again: bool = False
    owner: str = field(default_factory=owner_name)

    def __post_init__(self) -> None:
        checked_run(self.run_id)

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints."""
        return Checkpoints(self.objects, self.owner)

    @property
    def driver(self) -> Driver:
        """Drives jobs."""
        return Driver(self.checkpoints, self.policy, told=self.told, again=self.again)

    def run_step(self, step: str, part: str = "") -> list[Checkpoint]:
        """Run a step, or one part of it, to its end.

        Returns:
            Its checkpoints, succeeded.

        Raises:
            TransferFailure: It failed; somebody has been told where it failed for good.
        """
        from trialops.transfer.graph import STEPS

        parts = self.config.parts(step) if step in STEPS else ()
        if not parts or (part and part not in parts):
            raise TransferFailure(
                "permanent",
                "There is no such step, flow or data set",
                where=f"{step} {part}".strip(),
                fix=f"Steps are {', '.join(STEPS)}.",
            )
        wanted = (part,) if part else parts
        if len(wanted) == 1:
            return [self._one(step, wanted[0])]
        return self._many(step, wanted)

    def _many(self, step: str, parts: Sequence[str]) -> list[Checkpoint]:
        """Parts beside each other, within the quota; all come to their end before a failure is told."""
        most = min(self.policy.steps[step].concurrent, len(parts))
        found: list[Checkpoint] = []
        failures: list[TransferFailure] = []
        with ThreadPoolExecutor(most) as pool:
            for future in [pool.submit(self._one, step, part) for part in parts]:
                try:
                    found.append(future.result())
                except TransferFailure as failure:
                    failures.append(failure)
        if failures:
            order = ("permanent", "integrity", "retryable")
            raise min(failures, key=lambda failure: order.index(failure.kind))
        return found

    def _one(self, step: str, part: str) -> Checkpoint:
        from trialops.stores.context import step as step_context
        from trialops.transfer import durations

        name = f"transfer-{step}" + (f"-{part}" if part else "")
        with step_context(name, run=self.run_id, trial=self.config.trial, part=part) as run:
            try:
                done = self._work(run, step, part)
            except TransferFailure:
                self.tell(run, self.checkpoints.read(self.run_id, step, part))
                raise
            if self.tell(run, done) is False:
                raise TransferFailure("retryable", "The step is done, but nobody could be told", where=step)
            run.metrics |= {"seconds": done.seconds, "attempt": done.attempt, "resumes": done.resumes}
            run.audit("transfer.step", name, done.token, evidence=dict(done.evidence), job=done.job_id)
            durations.note(self.objects, done, self.policy)
        return done

    def _work(self, run: Step, step: str, part: str) -> Checkpoint:
        if step == "plan":
            return self.driver.run_own(self.run_id, step, self._plan)
        planned = self.checkpoints.read(self.run_id, "plan")
        if planned is None or not planned.done:
            raise TransferFailure("permanent", "The run has no plan", where=self.run_id, fix="Run the step plan first.")
        if planned.evidence["config"] != self.config.digest:
            raise TransferFailure(
                "permanent",
                "The configuration is not the one this run began with",
                where=self.run_id,
                fix="Put the earlier configuration back, or begin a new run.",
            )
        own = {"validate": self._validate, "fallback": self._fall_back, "cleanse": self._cleanse}
        if step in own:
            return self.driver.run_own(self.run_id, step, lambda: own[step](run))
        provider = self.policy.steps[step].provider
        return self.driver.run(self.run_id, step, part, provider, lambda: self._job(step, part))

    # -- steps of our own ----------------------------------------------------------------------------------------

    def _plan(self) -> dict[str, Any]:
        flows = [flow.name for flow in self.config.flows]
        return {"config": self.config.digest, "policy": self.policy.digest, "flows": flows}

    def _validate(self, run: Step) -> dict[str, Any]:
        from trialops.stores.objects import open_store
        from trialops.transfer.tables import validate_landed

        extracted = {flow.name: self._evidence("extract", flow.name) for flow in self.config.flows}
        return validate_landed(run, self.config, self.policy, open_store(self.config.landing), extracted)

    def _fall_back(self, run: Step) -> dict[str, Any]:
        from trialops.stores.objects import open_store
        from trialops.transfer.tables import fall_back

        failed = [c for c in self.checkpoints.of_run(self.run_id) if c.step in ("extract", "validate")]
        kinds = {c.failure.get("kind"): c.failure.get("code", "") for c in failed if c.state == "failed"}
        if set(kinds) != {"integrity"}:
            raise TransferFailure(
                "permanent",
                "The run did not fail for the integrity of its data: an earlier version is no answer to that",
                code=NOT_ASKED,
                where=self.run_id,
                fix="Correct what stopped the run, then go on with it.",
            )
        return fall_back(run, self.config, open_store(self.config.landing), kinds["integrity"])

    def _cleanse(self, run: Step) -> dict[str, Any]:
        from trialops.stores.objects import open_store
        from trialops.transfer.tables import cleanse

        chosen = self.chosen()
        return cleanse(
            run,
            self.config,
            self.policy,
            open_store(self.config.cleansed),
            int(chosen["version"]),
            str(chosen["digest"]),
        )

    def chosen(self) -> Mapping[str, Any]:
        """The validated version this run uses: its own, or the one fallen back to."""
        for step in ("validate", "fallback"):
            checkpoint = self.checkpoints.read(self.run_id, step)
            if checkpoint is not None and checkpoint.done:
                return checkpoint.evidence
        raise TransferFailure("permanent", "The run has no validated version", where=self.run_id)

    def _evidence(self, step: str, part: str = "") -> Mapping[str, Any]:
        checkpoint = self.checkpoints.read(self.run_id, step, part)
        if checkpoint is None or not checkpoint.done:
            raise TransferFailure(
                "permanent",
                f"Step {step} has not succeeded",
                where=f"{self.run_id} {part}".strip(),
                fix="Run it first.",
            )
        return checkpoint.evidence

    # -- provider jobs -------------------------------------------------------------------------------------------

    def _job(self, step: str, part: str) -> CloudJob:
        from trialops.transfer.appflow import AppFlowJob
        from trialops.transfer.backup import BackupJob
        from trialops.transfer.clients import SINGLE, aws
        from trialops.transfer.datasync import DataSyncJob
        from trialops.transfer.quicksight import QuickSightJob

        config, policy, region = self.config, self.policy, self.config.region
        if step == "extract":
            least = int(policy.evidence["least_records"])
            return AppFlowJob(aws("appflow", region), part, least_records=least, margin_seconds=policy.margin_seconds)
        if step == "backup":
            return BackupJob(
                aws("backup", region),
                vault=config.vault,
                resource=config.resource,
                role=config.role,
                rules=policy.backup,
                encrypted=bool(policy.evidence["encrypted"]),
            )
        if step == "ingest":
            rows = int(self._evidence("cleanse")["exports"][part]["rows"])
            return QuickSightJob(
                aws("quicksight", region),
                account=config.account,
                dataset=part,
                rows=rows,
                most_dropped=int(policy.evidence["most_dropped_rows"]),
            )
        if step == "distribute":
            client, starter = aws("datasync", region), aws("datasync", region, SINGLE)
            return DataSyncJob(client, starter, config.task, settle_seconds=policy.settle_seconds)
        return self._function()

    def _function(self) -> CloudJob:
        import httpx

        from trialops.transfer.functions import FunctionJob, credentials

        cleansed, chosen, function = self._evidence("cleanse"), self.chosen(), self.config.function
        payload = {
            "run_id": self.run_id,
            "trial": self.config.trial,
            "snapshot": cleansed["digest"],
            "rows": cleansed["rows"],
            "validated_version": chosen["version"],
            "degraded": "of_run" in chosen,
        }
        return FunctionJob(
            httpx.Client(timeout=httpx.Timeout(30, connect=5)),
            start=function["start"],
            status=function["status"],
            stop=function.get("stop", ""),
            payload=payload,
            headers=credentials(function.get("scope", "")),
        )

    def cancel(self, step: str = "") -> list[str]:
        """Ask the providers to stop what this run has running; returns what was asked."""
        asked = []
        for checkpoint in self.checkpoints.of_run(self.run_id):
            if checkpoint.state == "running" and checkpoint.provider and step in ("", checkpoint.step):
                self._job(checkpoint.step, checkpoint.part).cancel(checkpoint.job_id)
                asked.append(checkpoint.label)
        return asked

    # -- telling -------------------------------------------------------------------------------------------------

    def tell(self, run: Step, checkpoint: Checkpoint | None) -> bool:
        """Raise the alert a checkpoint says is due; False where it could not be raised, and stays due.

        An alert that was raised and not yet marked so is raised again: it is the same alert, counted once more.
        """
        from trialops.alerts.raise_alert import raise_alert
        from trialops.transfer.alerts import alert_of

        if checkpoint is None or checkpoint.alert != "due":
            return True
        try:
            raise_alert(run, alert_of(checkpoint, self.config.trial))
        except Exception as error:  # the database may be away; the checkpoint remembers
            self.told(f"{checkpoint.label}: nobody could be told yet ({type(error).__name__})")
            return False
        self.mark_told(checkpoint)
        return True

    def mark_told(self, checkpoint: Checkpoint) -> None:
        """Write down that an alert was raised; a process that was faster has done so, or will see it due again."""
        from trialops.transfer.checkpoints import Superseded

        try:
            self.checkpoints.advance(checkpoint, "alert raised", datetime.now(UTC), alert="raised")
        except Superseded:
            return


def open_transfer(config_path: str, run_id: str, **more: Any) -> Transfer:
    """A run on the platform's own stores; the run id is made this process's.

    Raises:
        TrialOpsError: The configuration or the run id cannot be used.
    """
    from trialops.settings import settings
    from trialops.stores.objects import open_store
    from trialops.transfer.config import read_config

    checked_run(run_id)
    os.environ["TRIALOPS_RUN_ID"] = run_id
    settings.cache_clear()
    return Transfer(read_config(config_path), run_id, open_store(settings().objects), **more)
