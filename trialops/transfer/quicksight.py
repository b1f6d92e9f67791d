"""QuickSight: a SPICE ingestion, believed where no row was dropped and every row of the cleansed table arrived."""

from __future__ import annotations

from typing import Any

from trialops.transfer.failures import TransferFailure, ingestion_kind, provider_errors
from trialops.transfer.job import Observed, Phase, Start, Started

STATES: dict[str, Phase] = {
    "INITIALIZED": "running",
    "QUEUED": "running",
    "RUNNING": "running",
    "COMPLETED": "succeeded",
    "FAILED": "failed",
    "CANCELLED": "failed",
}
"""IngestionStatus of botocore's model, all of it."""


class QuickSightJob:
    """A full refresh of one data set.

    Args:
        client: boto3 client of quicksight.
        account: AWS account id.
        dataset: Id of the data set.
        rows: Rows of the cleansed table; what the data set must hold afterwards.
        most_dropped: Rows that may be dropped.
    """

    provider = "quicksight"

    def __init__(self, client: Any, *, account: str, dataset: str, rows: int, most_dropped: int = 0) -> None:
        self._client, self._names = client, {"AwsAccountId": account, "DataSetId": dataset}
        self._rows, self._most = rows, most_dropped
        self.where = f"data set {dataset}"

    def start_or_adopt(self, start: Start) -> Started:
        """Create the ingestion under our own id; one that exists is ours. See `CloudJob`."""
        from botocore.exceptions import ClientError

        try:
            with provider_errors("quicksight", self.where):
                self._client.create_ingestion(**self._names, IngestionId=start.token, IngestionType="FULL_REFRESH")
        except ClientError:  # ResourceExistsException: the only code that is not turned into a failure
            return Started(start.token, adopted=True)
        return Started(start.token)

    def poll(self, job_id: str) -> Observed:
        """Look at the ingestion."""
        with provider_errors("quicksight", self.where):
            found = self._client.describe_ingestion(**self._names, IngestionId=job_id)["Ingestion"]
        native, rows = str(found["IngestionStatus"]), found.get("RowInfo", {})
        facts = {"rows_ingested": rows.get("RowsIngested"), "rows_dropped": rows.get("RowsDropped")}
        code = str(found.get("ErrorInfo", {}).get("Type", "")) or native
        kind = "permanent" if native == "CANCELLED" else ingestion_kind(code)
        return Observed(native, STATES.get(native, "running"), facts, kind, code)

    def cancel(self, job_id: str) -> None:
        """Ask QuickSight to cancel the ingestion."""
        with provider_errors("quicksight", self.where):
            self._client.cancel_ingestion(**self._names, IngestionId=job_id)

    def evidence(self, job_id: str, seen: Observed) -> dict[str, Any]:
        """Rows ingested and dropped, against the rows of the cleansed table."""
        dropped, rows = seen.facts.get("rows_dropped"), seen.facts.get("rows_ingested")
        if dropped is None or rows is None:
            raise TransferFailure(
                "integrity", "The ingestion says nothing of its rows", code="no row counts", where=self.where
            )
        if int(dropped) > self._most:
            raise TransferFailure("integrity", f"{int(dropped)} rows were dropped", code="dropped", where=self.where)
        if int(rows) != self._rows:
            raise TransferFailure(
                "integrity",
                f"{int(rows)} rows were ingested of {self._rows} in the cleansed table",
                code="row count",
                where=self.where,
            )
        return {"ingestion": job_id, **seen.facts}
