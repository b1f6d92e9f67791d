"""Every state and error code that botocore has for the operations used, against the tables of the transfer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.aws_server import PATHS, SERVICES, Cloud, Direct, model, serve
from trialops.transfer import appflow, backup, datasync, functions, quicksight
from trialops.transfer.failures import TransferFailure, classify, error_table, ingestion_kind, provider_errors

OPERATIONS = {
    "appflow": ("StartFlow", "DescribeFlowExecutionRecords", "CancelFlowExecutions"),
    "backup": ("StartBackupJob", "DescribeBackupJob", "DescribeRecoveryPoint", "StopBackupJob"),
    "quicksight": ("CreateIngestion", "DescribeIngestion", "CancelIngestion"),
    "datasync": (
        "StartTaskExecution",
        "DescribeTaskExecution",
        "ListTaskExecutions",
        "ListTagsForResource",
        "DescribeTask",
        "CancelTaskExecution",
    ),
}
CODES = [
    (service, operation, shape.name)
    for service, operations in OPERATIONS.items()
    for operation in operations
    for shape in model(service).operation_model(operation).error_shapes
]
STATES = {
    ("appflow", "ExecutionStatus"): appflow.STATES,
    ("backup", "BackupJobState"): backup.STATES,
    ("backup", "RecoveryPointStatus"): backup.POINTS,
    ("quicksight", "IngestionStatus"): quicksight.STATES,
    ("datasync", "TaskExecutionStatus"): datasync.STATES,
}
MINIMAL: dict[str, dict[str, Any]] = {
    "StartFlow": {"flowName": "f1"},
    "DescribeFlowExecutionRecords": {"flowName": "f1"},
    "CancelFlowExecutions": {"flowName": "f1"},
    "StartBackupJob": {"BackupVaultName": "v1", "ResourceArn": "arn", "IamRoleArn": "arn", "IdempotencyToken": "t"},
    "DescribeBackupJob": {"BackupJobId": "j"},
    "DescribeRecoveryPoint": {"BackupVaultName": "v1", "RecoveryPointArn": "arn"},
    "StopBackupJob": {"BackupJobId": "j"},
    "CreateIngestion": {"AwsAccountId": "123456789012", "DataSetId": "d", "IngestionId": "i"},
    "DescribeIngestion": {"AwsAccountId": "123456789012", "DataSetId": "d", "IngestionId": "i"},
    "CancelIngestion": {"AwsAccountId": "123456789012", "DataSetId": "d", "IngestionId": "i"},
    "StartTaskExecution": {"TaskArn": "arn:aws:datasync:us-east-1:123456789012:task/task-0123456789abcdef0"},
    "DescribeTaskExecution": {"TaskExecutionArn": "arn"},
    "ListTaskExecutions": {},
    "ListTagsForResource": {"ResourceArn": "arn:aws:datasync:us-east-1:123456789012:task/task-0123456789abcdef0"},
    "DescribeTask": {"TaskArn": "arn:aws:datasync:us-east-1:123456789012:task/task-0123456789abcdef0"},
    "CancelTaskExecution": {"TaskExecutionArn": "arn"},
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    held = Cloud()
    with serve(held):
        yield held


@pytest.fixture(scope="module")
def clients(cloud: Cloud) -> dict[str, Any]:
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    return {
        service: boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=cloud.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=config,
        )
        for service in SERVICES
    }


@pytest.mark.parametrize(("service", "shape"), STATES)
def test_every_state_of_the_model_has_a_meaning_and_no_other(service: str, shape: str) -> None:
    assert set(STATES[service, shape]) == set(model(service).shape_for(shape).enum)


def test_every_state_of_a_durable_function_has_a_meaning() -> None:
    durable = pytest.importorskip("azure.durable_functions")
    assert set(functions.STATES) == {status.value for status in durable.OrchestrationRuntimeStatus}


def test_every_error_of_an_ingestion_has_one_kind() -> None:
    table = error_table()["ingestion"]
    listed = [code for codes in table.values() for code in codes]
    assert sorted(listed) == sorted(model("quicksight").shape_for("IngestionErrorType").enum)
    assert len(set(listed)) == len(listed)
    assert ingestion_kind("SOMETHING_NEW") == "permanent"


def test_the_table_names_every_error_code_of_the_operations_and_no_stale_one() -> None:
    wanted: dict[str, set[str]] = {service: set() for service in SERVICES}
    for service, _, code in CODES:
        wanted[service].add(code)
    table = error_table()
    assert {service: set(table[service]) for service in SERVICES} == wanted


@pytest.mark.parametrize(("service", "operation", "code"), CODES)
def test_every_error_code_arrives_as_the_kind_the_table_says(
    cloud: Cloud, clients: dict[str, Any], service: str, operation: str, code: str
) -> None:
    cloud.faults[service, operation] = [f"error:{code}"]
    method = "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")
    expected = error_table()[service][code]
    with pytest.raises((TransferFailure, ClientError)) as raised, provider_errors(service, "here"):
        getattr(clients[service], method)(**MINIMAL[operation])
    if expected == "adopt":
        assert isinstance(raised.value, ClientError)
    else:
        assert isinstance(raised.value, TransferFailure)
        assert (raised.value.kind, raised.value.code) == (expected, code)
        assert "refused" not in str(raised.value)  # the provider's own text is not passed on
    assert cloud.violations == []


@pytest.mark.parametrize(
    ("service", "code", "status", "kind"),
    [
        ("appflow", "SomethingNew", 500, "retryable"),
        ("backup", "SomethingNew", 429, "retryable"),
        ("backup", "SomethingNew", 400, "permanent"),
        ("datasync", "ExpiredTokenException", 400, "retryable"),
        ("datasync", "AccessDeniedException", 400, "permanent"),
    ],
)
def test_codes_that_the_model_does_not_have(service: str, code: str, status: int, kind: str) -> None:
    assert classify(service, code, status) == kind


def job_of(cloud: Cloud, service: str) -> Any:
    if service == "appflow":
        return appflow.AppFlowJob(Direct(cloud, service), "flow-1")
    if service == "backup":
        rules = {"start_window_minutes": 60, "complete_window_minutes": 480, "delete_after_days": 2555}
        arn = "arn:aws:s3:::bucket"
        return backup.BackupJob(Direct(cloud, service), vault="vault", resource=arn, role=arn, rules=rules)
    if service == "quicksight":
        return quicksight.QuickSightJob(Direct(cloud, service), account="123456789012", dataset="d", rows=10)
    client = Direct(cloud, service)
    task = "arn:aws:datasync:us-east-1:123456789012:task/task-0123456789abcdef0"
    return datasync.DataSyncJob(client, client, task)


NATIVE = [(service, state) for (service, shape), states in STATES.items() if shape[0] != "R" for state in states]


@pytest.mark.parametrize(("service", "state"), NATIVE)
def test_every_state_is_seen_as_what_it_means(service: str, state: str) -> None:
    from datetime import UTC, datetime

    from trialops.transfer.job import Start

    cloud = Cloud()
    cloud.paths[service] = [(state,)]
    job = job_of(cloud, service)
    now = datetime.now(UTC)
    started = job.start_or_adopt(Start("trialops-token-01", now, now, fresh=True))
    seen = job.poll(started.job_id)
    expected = next(states for (s, shape), states in STATES.items() if s == service and shape[0] != "R")[state]
    assert (seen.native, seen.phase) == (state, expected)
    if expected == "failed":
        kinds = {"Canceled": "permanent", "CANCELLED": "permanent", "PARTIAL": "integrity"}
        kinds |= {"ABORTED": "permanent", "FAILED": "permanent" if service == "backup" else "retryable"}
        assert seen.kind == kinds.get(state, "retryable")
    assert cloud.violations == []


@pytest.mark.parametrize("status", sorted(backup.POINTS))
def test_every_state_of_a_recovery_point(status: str) -> None:
    from datetime import UTC, datetime

    from trialops.transfer.job import Start

    cloud = Cloud()
    cloud.paths["backup"], cloud.facts["backup"] = [("COMPLETED",)], {"Status": status}
    job, now = job_of(cloud, "backup"), datetime.now(UTC)
    started = job.start_or_adopt(Start("trialops-token-01", now, now, fresh=True))
    seen = job.poll(started.job_id)
    if backup.POINTS[status] == "running":
        assert seen.phase == "running"
    elif backup.POINTS[status] == "succeeded":
        assert job.evidence(started.job_id, seen)["point_status"] == status
    else:
        with pytest.raises(TransferFailure) as raised:
            job.evidence(started.job_id, seen)
        assert raised.value.kind == "integrity"


@pytest.mark.parametrize("service", SERVICES)
def test_the_stand_in_ends_where_the_model_says_a_job_ends(service: str) -> None:
    states = next(states for (s, shape), states in STATES.items() if s == service and shape[0] != "R")
    assert all(states[state] == "running" for state in PATHS[service][:-1])
    assert states[PATHS[service][-1]] == "succeeded"
