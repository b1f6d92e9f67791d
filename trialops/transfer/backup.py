"""AWS Backup: a backup job of the landing bucket, believed with its recovery point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialops.transfer.failures import Kind, TransferFailure, provider_errors
from trialops.transfer.job import Observed, Phase, Start, Started

STATES: dict[str, Phase] = {
    "CREATED": "running",
    "PENDING": "running",
    "RUNNING": "running",
    "ABORTING": "running",
    "COMPLETED": "succeeded",
    "ABORTED": "failed",
    "FAILED": "failed",
    "EXPIRED": "failed",
    "PARTIAL": "failed",
}
"""BackupJobState of botocore's model, all of it."""

KINDS: dict[str, Kind] = {"ABORTED": "permanent", "FAILED": "permanent", "EXPIRED": "retryable", "PARTIAL": "integrity"}
"""EXPIRED: the start window passed before it began. PARTIAL: some of the resource is not in the recovery point."""

POINTS: dict[str, Phase] = {
    "CREATING": "running",
    "COMPLETED": "succeeded",
    "AVAILABLE": "succeeded",
    "PARTIAL": "failed",
    "DELETING": "failed",
    "EXPIRED": "failed",
    "STOPPED": "failed",
}
"""RecoveryPointStatus of botocore's model, all of it. AVAILABLE is what a continuous backup says."""


class BackupJob:
    """A backup of one resource.

    Args:
        client: boto3 client of backup.
        vault: Name of the backup vault.
        resource: ARN of the resource, for example ``arn:aws:s3:::bucket``.
        role: ARN of the role AWS Backup takes on.
        rules: Windows (minutes) and retention (days); see policy.yaml.
        encrypted: Whether an unencrypted recovery point is no success.
    """

    provider = "backup"

    def __init__(
        self, client: Any, *, vault: str, resource: str, role: str, rules: Mapping[str, int], encrypted: bool = True
    ) -> None:
        self._client, self._vault, self._resource, self._role = client, vault, resource, role
        self._rules, self._encrypted = rules, encrypted
        self.where = f"backup vault {vault}"

    def start_or_adopt(self, start: Start) -> Started:
        """Start the job; the same token again gives the same job, with nothing done. See `CloudJob`."""
        with provider_errors("backup", self.where):
            answer = self._client.start_backup_job(
                BackupVaultName=self._vault,
                ResourceArn=self._resource,
                IamRoleArn=self._role,
                IdempotencyToken=start.token,
                StartWindowMinutes=int(self._rules["start_window_minutes"]),
                CompleteWindowMinutes=int(self._rules["complete_window_minutes"]),
                Lifecycle={"DeleteAfterDays": int(self._rules["delete_after_days"])},
                RecoveryPointTags={"trialops-token": start.token},
            )
        return Started(str(answer["BackupJobId"]), adopted=not start.fresh)

    def poll(self, job_id: str) -> Observed:
        """Look at the job, and once it is complete at its recovery point."""
        with provider_errors("backup", self.where):
            job = self._client.describe_backup_job(BackupJobId=job_id)
        native = str(job.get("State", ""))
        facts = {"recovery_point": job.get("RecoveryPointArn", ""), "bytes": job.get("BackupSizeInBytes")}
        if STATES.get(native) == "succeeded" and facts["recovery_point"]:
            with provider_errors("backup", self.where):
                point = self._client.describe_recovery_point(
                    BackupVaultName=self._vault, RecoveryPointArn=facts["recovery_point"]
                )
            status = str(point.get("Status", ""))
            facts |= {"point_status": status, "encrypted": bool(point.get("IsEncrypted", False))}
            if POINTS.get(status, "running") == "running":
                return Observed(native, "running", facts)
        return Observed(native, STATES.get(native, "running"), facts, KINDS.get(native, "permanent"), native)

    def cancel(self, job_id: str) -> None:
        """Ask AWS Backup to stop the job."""
        with provider_errors("backup", self.where):
            self._client.stop_backup_job(BackupJobId=job_id)

    def evidence(self, job_id: str, seen: Observed) -> dict[str, Any]:
        """A recovery point that is complete and encrypted."""
        status = str(seen.facts.get("point_status", ""))
        if not seen.facts.get("recovery_point") or POINTS.get(status) != "succeeded":
            raise TransferFailure(
                "integrity",
                f"The backup job completed, its recovery point is {status.lower() or 'missing'}",
                code=status or "no recovery point",
                where=self.where,
            )
        if self._encrypted and not seen.facts.get("encrypted"):
            raise TransferFailure(
                "integrity", "The recovery point is not encrypted", code="not encrypted", where=self.where
            )
        return {"job": job_id, **seen.facts}
