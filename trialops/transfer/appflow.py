"""AppFlow: one on-demand flow run per site, believed with the records it processed.

A client token makes the start idempotent for eight hours (API reference of StartFlow); after that the execution records
are asked, because the same token would start a second run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from trialops.transfer.failures import Kind, StartLost, TransferFailure, provider_errors
from trialops.transfer.job import Observed, Phase, Start, Started

STATES: dict[str, Phase] = {
    "InProgress": "running",
    "CancelStarted": "running",
    "Successful": "succeeded",
    "Error": "failed",
    "Canceled": "failed",
}
"""ExecutionStatus of botocore's model, all of it."""

TOKEN_HOURS = 8


class AppFlowJob:
    """A run of one flow.

    Args:
        client: boto3 client of appflow.
        flow: Name of an on-demand flow.
        least_records: Fewer are no success.
        margin_seconds: How far the provider's clock may differ from ours.
    """

    provider = "appflow"

    def __init__(self, client: Any, flow: str, *, least_records: int = 1, margin_seconds: float = 300) -> None:
        self._client, self._flow, self._least = client, flow, least_records
        self._margin = timedelta(seconds=margin_seconds)
        self.where = f"flow {flow}"

    def start_or_adopt(self, start: Start) -> Started:
        """Start the flow under the token, or take up the run an earlier call started; see `CloudJob`."""
        if not start.fresh and start.now - start.since > timedelta(hours=TOKEN_HOURS) - self._margin:
            return self._adopt(start)
        with provider_errors("appflow", self.where):
            answer = self._client.start_flow(flowName=self._flow, clientToken=start.token)
        execution = answer.get("executionId", "")
        if not execution:
            raise TransferFailure(
                "permanent",
                "The flow started nothing: it is scheduled or event-driven, or not active",
                code=str(answer.get("flowStatus", "")),
                where=self.where,
                fix="Make its trigger on demand and activate it.",
            )
        return Started(execution, adopted=not start.fresh)

    def _adopt(self, start: Start) -> Started:
        since = start.since - self._margin
        found = [str(r["executionId"]) for r in self._records() if (_utc(r.get("startedAt")) or since) >= since]
        if not found:
            raise StartLost
        if len(found) > 1:
            raise TransferFailure(
                "permanent",
                f"{len(found)} runs of the flow began since the start was meant; which is ours cannot be told",
                code="ambiguous",
                where=self.where,
                fix="Look at the runs of the flow; then run the step with --again.",
            )
        return Started(found[0], adopted=True)

    def _records(self) -> Iterator[Mapping[str, Any]]:
        token = ""
        while True:
            with provider_errors("appflow", self.where):
                more = {"nextToken": token} if token else {}
                page = self._client.describe_flow_execution_records(flowName=self._flow, maxResults=100, **more)
            yield from page.get("flowExecutions", [])
            token = page.get("nextToken", "")
            if not token:
                return

    def poll(self, job_id: str) -> Observed:
        """Find the run among the execution records, page by page; one that is not listed yet is running."""
        record = next((r for r in self._records() if r.get("executionId") == job_id), None)
        if record is None:
            return Observed("", "running")
        native = str(record.get("executionStatus", ""))
        result = record.get("executionResult", {})
        facts = {
            "records": result.get("recordsProcessed"),
            "bytes_written": result.get("bytesWritten"),
            "bytes_processed": result.get("bytesProcessed"),
            "failed_puts": result.get("errorInfo", {}).get("putFailuresCount", 0),
        }
        # The model has no code for why a run failed, only text: a connector that did not answer is the usual cause.
        kind: Kind = "retryable" if native == "Error" else "permanent"
        return Observed(native, STATES.get(native, "running"), facts, kind, native)

    def cancel(self, job_id: str) -> None:
        """Ask AppFlow to cancel the run."""
        with provider_errors("appflow", self.where):
            self._client.cancel_flow_executions(flowName=self._flow, executionIds=[job_id])

    def evidence(self, job_id: str, seen: Observed) -> dict[str, Any]:
        """Records processed, bytes written, and no failed put."""
        records, failed = seen.facts.get("records"), int(seen.facts.get("failed_puts") or 0)
        if records is None or int(records) < self._least:
            raise TransferFailure(
                "integrity",
                f"The flow succeeded with {0 if records is None else int(records)} records, fewer than {self._least}",
                code="no records",
                where=self.where,
            )
        if failed:
            raise TransferFailure(
                "integrity", f"The flow succeeded, but {failed} writes failed", code="failed puts", where=self.where
            )
        return {"execution": job_id, **seen.facts}


def _utc(when: datetime | None) -> datetime | None:
    return None if when is None else when.astimezone(UTC)
