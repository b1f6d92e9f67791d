"""DataSync at moto's server, over HTTP and in its own protocol; a success without evidence is not believed there."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from tests.support.s3_server import s3
from tests.unit.transfer.test_cloud_jobs import Clock, driver
from trialops.stores.objects import open_store
from trialops.transfer.checkpoints import Checkpoints
from trialops.transfer.datasync import DataSyncJob
from trialops.transfer.drive import Driver
from trialops.transfer.failures import TransferFailure
from trialops.transfer.policy import transfer_policy

__all__ = ["driver", "s3"]


def make_task() -> str:
    client = boto3.client("datasync", region_name="us-east-1")
    ends = [
        client.create_location_s3(
            S3BucketArn=f"arn:aws:s3:::{name}", S3Config={"BucketAccessRoleArn": "arn:aws:iam::123456789012:role/x"}
        )["LocationArn"]
        for name in ("landing", "final")
    ]
    return str(client.create_task(SourceLocationArn=ends[0], DestinationLocationArn=ends[1], Name="t")["TaskArn"])


def test_an_execution_is_started_watched_and_not_believed_without_verification(s3: str) -> None:
    client, clock = boto3.client("datasync", region_name="us-east-1"), Clock()
    job = DataSyncJob(client, client, make_task())
    store = open_store(f"{s3}/datasync")
    checkpoints = Checkpoints(store, "host/1/a")
    where = Driver(checkpoints, transfer_policy(), now=clock, sleep=clock.sleep)
    with pytest.raises(TransferFailure) as raised:
        where.run("run-1", "distribute", "", "datasync", lambda: job)
    # Moto's execution succeeds and says nothing of a verification.
    assert (raised.value.exit_code, raised.value.code) == (65, "missing")
    held = checkpoints.read("run-1", "distribute")
    assert held is not None
    assert held.native == "SUCCESS" and held.job_id.startswith("arn:aws:datasync")
    assert [event["event"] for event in held.events][:3] == ["claimed", "starting", "started"]


def test_a_second_start_while_one_runs_is_refused_there_too(s3: str) -> None:
    client = boto3.client("datasync", region_name="us-east-1")
    task = make_task()
    client.start_task_execution(TaskArn=task)
    with pytest.raises(client.exceptions.InvalidRequestException):
        client.start_task_execution(TaskArn=task)


def test_a_pods_own_identity_is_enough(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key anywhere: the projected token is exchanged at STS, and the client works with what that gives."""
    from trialops.transfer.clients import aws

    token = tmp_path / "token"
    token.write_text("projected")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/trialops-transfer")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    aws.cache_clear()
    try:
        client = aws("datasync", "us-east-1")
        assert "Tasks" in client.list_tasks()
        assert client._request_signer._credentials.method == "assume-role-with-web-identity"
    finally:
        aws.cache_clear()
        boto3.DEFAULT_SESSION = None
