"""DataSync: one execution of a task, believed where every file transferred was verified.

StartTaskExecution has no idempotency token. So an execution carries ours as a tag; a start that may have been made
before looks for it first, waits until it would show, and never queues behind another execution.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from trialops.transfer.failures import Kind, StartUnsettled, TransferFailure, provider_errors
from trialops.transfer.job import Observed, Phase, Start, Started

STATES: dict[str, Phase] = {
    "QUEUED": "running",
    "CANCELLING": "running",
    "LAUNCHING": "running",
    "PREPARING": "running",
    "TRANSFERRING": "running",
    "VERIFYING": "running",
    "SUCCESS": "succeeded",
    "ERROR": "failed",
}
"""TaskExecutionStatus of botocore's model, all of it."""

TASK_BUSY = frozenset({"RUNNING", "QUEUED", "CREATING"})
"""States of a task (TaskStatus) in which it takes no execution now but will."""

TAG = "trialops:token"


class DataSyncJob:
    """One execution of a task.

    Args:
        client: boto3 client of datasync.
        starter: One that sends a request once; see `clients.SINGLE`.
        task: ARN of the task.
        settle_seconds: How long a start without an answer may take to show.
    """

    provider = "datasync"

    def __init__(self, client: Any, starter: Any, task: str, *, settle_seconds: float = 90) -> None:
        self._client, self._starter, self._task = client, starter, task
        self._settle = timedelta(seconds=settle_seconds)
        self.where = f"task {task.rsplit('/', 1)[-1]}"

    def start_or_adopt(self, start: Start) -> Started:
        """Start an execution that carries the token, or take up the one that does; see `CloudJob`."""
        if not start.fresh:
            found = self._tagged(start.token)
            if found:
                return Started(found, adopted=True)
            if start.now - start.since < self._settle:
                raise StartUnsettled
        try:
            with provider_errors("datasync", self.where):
                answer = self._starter.start_task_execution(
                    TaskArn=self._task,
                    OverrideOptions={"VerifyMode": "ONLY_FILES_TRANSFERRED", "TaskQueueing": "DISABLED"},
                    Tags=[{"Key": TAG, "Value": start.token}],
                )
        except TransferFailure as failure:
            if failure.code != "InvalidRequestException":
                raise
            return self._refused(start, failure)
        return Started(str(answer["TaskExecutionArn"]))

    def _refused(self, start: Start, failure: TransferFailure) -> Started:
        """DataSync has one code for everything that is wrong with a request: look what it was."""
        found = self._tagged(start.token)
        if found:
            return Started(found, adopted=True)
        with provider_errors("datasync", self.where):
            state = str(self._client.describe_task(TaskArn=self._task).get("Status", ""))
        if state in TASK_BUSY:
            raise TransferFailure("retryable", "The task runs for somebody else", code=state, where=self.where)
        raise failure

    def _executions(self) -> Iterator[str]:
        token = ""
        while True:
            with provider_errors("datasync", self.where):
                more = {"NextToken": token} if token else {}
                page = self._client.list_task_executions(TaskArn=self._task, MaxResults=100, **more)
            for entry in page.get("TaskExecutions", []):
                yield str(entry["TaskExecutionArn"])
            token = page.get("NextToken", "")
            if not token:
                return

    def _tagged(self, wanted: str) -> str:
        for arn in self._executions():
            token = ""
            while True:
                with provider_errors("datasync", self.where):
                    more = {"NextToken": token} if token else {}
                    page = self._client.list_tags_for_resource(ResourceArn=arn, **more)
                if any(tag.get("Key") == TAG and tag.get("Value") == wanted for tag in page.get("Tags", [])):
                    return arn
                token = page.get("NextToken", "")
                if not token:
                    break
        return ""

    def poll(self, job_id: str) -> Observed:
        """Look at the execution."""
        with provider_errors("datasync", self.where):
            found = self._client.describe_task_execution(TaskExecutionArn=job_id)
        native, result = str(found.get("Status", "")), found.get("Result", {})
        failed = found.get("FilesFailed", {})
        facts = {
            "files_transferred": found.get("FilesTransferred"),
            "files_verified": found.get("FilesVerified"),
            "files_failed": sum(int(value) for value in failed.values()) if failed else 0,
            "bytes_written": found.get("BytesWritten"),
            "transfer_status": result.get("TransferStatus", ""),
            "verify_status": result.get("VerifyStatus", ""),
        }
        code = str(result.get("ErrorCode", "")) or native
        return Observed(native, STATES.get(native, "running"), facts, _kind(result), code)

    def cancel(self, job_id: str) -> None:
        """Ask DataSync to cancel the execution."""
        with provider_errors("datasync", self.where):
            self._client.cancel_task_execution(TaskExecutionArn=job_id)

    def evidence(self, job_id: str, seen: Observed) -> dict[str, Any]:
        """Transfer and verification succeeded, no file failed, and as many were verified as transferred."""
        facts = seen.facts
        if facts.get("verify_status") != "SUCCESS" or facts.get("transfer_status") != "SUCCESS":
            status = facts.get("verify_status") or "missing"
            raise TransferFailure(
                "integrity",
                f"The execution succeeded, its verification is {status}",
                code=str(status),
                where=self.where,
            )
        moved, verified, failed = facts.get("files_transferred"), facts.get("files_verified"), facts["files_failed"]
        if failed or moved is None or verified is None or int(moved) != int(verified):
            raise TransferFailure(
                "integrity",
                f"{moved or 0} files were transferred, {verified or 0} verified, {failed} failed",
                code="not verified",
                where=self.where,
            )
        return {"execution": job_id.rsplit("/", 1)[-1], **facts}


def _kind(result: dict[str, Any]) -> Kind:
    """How an execution failed: verification that failed is no transport problem."""
    return "integrity" if result.get("VerifyStatus") == "ERROR" else "retryable"
