"""Starting once, adopting, paging, evidence, deadlines: one job at a time, and a driver that is interrupted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws_server import Cloud, Direct
from tests.unit.transfer.test_provider_models import job_of
from trialops.stores.objects import open_store
from trialops.transfer.appflow import AppFlowJob
from trialops.transfer.checkpoints import Checkpoints
from trialops.transfer.drive import Driver
from trialops.transfer.failures import StartLost, StartUnsettled, TransferFailure
from trialops.transfer.job import Observed, Start, job_token
from trialops.transfer.policy import Policy, transfer_policy
from trialops.transfer.quicksight import QuickSightJob

NOW = datetime(2026, 3, 1, tzinfo=UTC)
STEP = {"appflow": "extract", "backup": "backup", "quicksight": "ingest", "datasync": "distribute"}


class Clock:
    """A clock that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.at = NOW
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)


def driver(folder: Path, clock: Clock, owner: str = "host/1/a", policy: Policy | None = None, **more: Any) -> Driver:
    checkpoints = Checkpoints(open_store(str(folder)), owner)
    return Driver(checkpoints, policy or transfer_policy(), now=clock, sleep=clock.sleep, **more)


def start(token: str, *, fresh: bool, age: float = 0) -> Start:
    return Start(token, NOW, NOW + timedelta(seconds=age), fresh)


def run(where: Driver, service: str, job: Any) -> Any:
    return where.run("run-1", STEP[service], "", service, lambda: job)


@pytest.mark.parametrize("service", STEP)
def test_a_job_is_started_once_and_believed_with_its_evidence(tmp_path: Path, service: str) -> None:
    cloud, clock = Cloud(), Clock()
    done = run(driver(tmp_path, clock), service, job_of(cloud, service))
    assert done.done and done.evidence and done.job_id == cloud.started(service)[0].id
    assert run(driver(tmp_path, clock, "host/2/b"), service, job_of(cloud, service)) == done
    assert len(cloud.started(service)) == 1
    assert cloud.violations == []


@pytest.mark.parametrize("service", STEP)
def test_a_start_whose_answer_was_lost_is_adopted(tmp_path: Path, service: str) -> None:
    cloud, clock = Cloud(), Clock()
    cloud.now = clock
    operation = {"appflow": "StartFlow", "backup": "StartBackupJob", "quicksight": "CreateIngestion"}
    cloud.faults[service, operation.get(service, "StartTaskExecution")] = ["drop_after"]
    with pytest.raises(TransferFailure) as raised:
        run(driver(tmp_path, clock), service, job_of(cloud, service))
    assert raised.value.exit_code == 75
    done = run(driver(tmp_path, clock, "host/2/b"), service, job_of(cloud, service))
    assert done.done and done.resumes == 1
    assert len(cloud.started(service)) == 1


@pytest.mark.parametrize("service", STEP)
def test_a_start_that_never_arrived_is_made(tmp_path: Path, service: str) -> None:
    cloud, clock = Cloud(), Clock()
    cloud.now = clock
    operation = {"appflow": "StartFlow", "backup": "StartBackupJob", "quicksight": "CreateIngestion"}
    cloud.faults[service, operation.get(service, "StartTaskExecution")] = ["drop_before"]
    with pytest.raises(TransferFailure):
        run(driver(tmp_path, clock), service, job_of(cloud, service))
    assert cloud.started(service) == []
    assert run(driver(tmp_path, clock, "host/2/b"), service, job_of(cloud, service)).done
    assert len(cloud.started(service)) == 1


def test_a_client_token_is_not_trusted_after_eight_hours() -> None:
    cloud = Cloud()
    cloud.now = lambda: NOW
    job = AppFlowJob(Direct(cloud, "appflow"), "flow-1")
    with pytest.raises(StartLost):
        job.start_or_adopt(start("t", fresh=False, age=8 * 3600))
    first = job.start_or_adopt(start("t", fresh=True))
    again = job.start_or_adopt(start("t", fresh=False, age=9 * 3600))
    assert (again.job_id, again.adopted, len(cloud.jobs)) == (first.job_id, True, 1)
    cloud.jobs[0].path = ["Successful"]
    job.start_or_adopt(start("other", fresh=True))
    with pytest.raises(TransferFailure) as raised:
        job.start_or_adopt(start("t", fresh=False, age=9 * 3600))
    assert raised.value.code == "ambiguous"


def test_a_lost_start_gets_a_token_of_its_own(tmp_path: Path) -> None:
    cloud, clock = Cloud(), Clock()
    cloud.now = clock
    cloud.faults["appflow", "StartFlow"] = ["drop_before"]
    with pytest.raises(TransferFailure):
        run(driver(tmp_path, clock), "appflow", job_of(cloud, "appflow"))
    clock.at += timedelta(hours=9)
    done = run(driver(tmp_path, clock, "host/2/b"), "appflow", job_of(cloud, "appflow"))
    assert (done.attempt, len(cloud.jobs)) == (2, 1)


def test_an_execution_far_back_in_the_records_is_found() -> None:
    cloud = Cloud()
    job = AppFlowJob(Direct(cloud, "appflow"), "flow-1")
    first = job.start_or_adopt(start("t", fresh=True))
    cloud.jobs[0].path = ["Successful"]
    for number in range(5):
        cloud.paths["appflow"] = [("Successful",)]
        job.start_or_adopt(start(f"t{number}", fresh=True))
    cloud.calls.clear()
    assert job.poll(first.job_id).phase == "succeeded"
    assert cloud.calls["appflow", "DescribeFlowExecutionRecords"] == 3


def test_an_execution_is_found_by_its_tag_among_others() -> None:
    cloud = Cloud()
    job = job_of(cloud, "datasync")
    for number in range(5):
        cloud.paths["datasync"] = [("SUCCESS",)]
        job.start_or_adopt(start(f"t{number}", fresh=True))
    found = job.start_or_adopt(start("t4", fresh=False))
    assert (found.adopted, found.job_id, len(cloud.jobs)) == (True, cloud.jobs[4].id, 5)
    with pytest.raises(StartUnsettled):
        job.start_or_adopt(start("t9", fresh=False, age=10))
    assert not job.start_or_adopt(start("t9", fresh=False, age=100)).adopted


def test_a_task_that_runs_for_somebody_else_is_waited_for() -> None:
    cloud = Cloud()
    job = job_of(cloud, "datasync")
    job.start_or_adopt(start("theirs", fresh=True))
    with pytest.raises(TransferFailure) as raised:
        job.start_or_adopt(start("ours", fresh=True))
    assert (raised.value.kind, len(cloud.jobs)) == ("retryable", 1)
    cloud.jobs[0].path = ["SUCCESS"]
    cloud.faults["datasync", "StartTaskExecution"] = ["error:InvalidRequestException"]
    with pytest.raises(TransferFailure) as raised:
        job.start_or_adopt(start("ours", fresh=True))
    assert raised.value.kind == "permanent"


@pytest.mark.parametrize(
    ("service", "facts", "code"),
    [
        ("appflow", {"recordsProcessed": 0}, "no records"),
        ("appflow", {"errorInfo": {"putFailuresCount": 2}}, "failed puts"),
        ("backup", {"IsEncrypted": False}, "not encrypted"),
        ("backup", {"RecoveryPointArn": ""}, "no recovery point"),
        ("backup", {"Status": "PARTIAL"}, "PARTIAL"),
        ("quicksight", {"RowsDropped": 1}, "dropped"),
        ("quicksight", {"RowsIngested": 9}, "row count"),
        ("quicksight", {"RowsDropped": None, "RowsIngested": None}, "no row counts"),
        ("datasync", {"FilesVerified": 2}, "not verified"),
        ("datasync", {"FilesFailed": {"Prepare": 0, "Transfer": 0, "Verify": 1, "Delete": 0}}, "not verified"),
        ("datasync", {"Result": {"TransferStatus": "SUCCESS", "VerifyStatus": "PENDING"}}, "PENDING"),
        ("datasync", {"Result": {}}, "missing"),
    ],
)
def test_success_without_its_evidence_is_an_integrity_error(
    tmp_path: Path, service: str, facts: dict[str, Any], code: str
) -> None:
    cloud, clock = Cloud(), Clock()
    cloud.facts[service] = facts
    with pytest.raises(TransferFailure) as raised:
        run(driver(tmp_path, clock), service, job_of(cloud, service))
    assert (raised.value.exit_code, raised.value.code) == (65, code)
    held = driver(tmp_path, clock).checkpoints.read("run-1", STEP[service])
    assert held is not None and (held.state, held.alert) == ("failed", "due")
    # The same again is the same answer, and no second job.
    with pytest.raises(TransferFailure):
        run(driver(tmp_path, clock, "host/2/b"), service, job_of(cloud, service))
    assert len(cloud.started(service)) == 1


def test_a_failure_that_may_pass_gets_one_more_job_and_then_a_person(tmp_path: Path) -> None:
    cloud, clock = Cloud(), Clock()
    cloud.paths["datasync"] = [("ERROR",), ("ERROR",), ("SUCCESS",)]
    codes = []
    for owner in ("host/1/a", "host/2/b", "host/3/c"):
        with pytest.raises(TransferFailure) as raised:
            run(driver(tmp_path, clock, owner), "datasync", job_of(cloud, "datasync"))
        codes.append(raised.value.exit_code)
    assert (codes, len(cloud.jobs)) == ([75, 78, 78], 2)
    done = run(driver(tmp_path, clock, "host/4/d", again=True), "datasync", job_of(cloud, "datasync"))
    assert (done.attempt, len(cloud.jobs)) == (3, 3)
    assert len({job.token for job in cloud.jobs}) == 3


@pytest.mark.parametrize("service", STEP)
def test_a_job_past_its_deadline_is_stopped_and_told(tmp_path: Path, service: str) -> None:
    cloud, clock = Cloud(), Clock()
    running = {"appflow": "InProgress", "backup": "RUNNING", "quicksight": "RUNNING", "datasync": "TRANSFERRING"}
    cloud.paths[service] = [(running[service],)]
    with pytest.raises(TransferFailure) as raised:
        run(driver(tmp_path, clock), service, job_of(cloud, service))
    assert (raised.value.code, raised.value.exit_code) == ("deadline", 78)
    assert cloud.jobs[0].path[0] in ("CancelStarted", "ABORTED", "CANCELLED", "ERROR")
    limit = transfer_policy().steps[STEP[service]].deadline_seconds
    assert limit <= sum(clock.slept) <= limit + transfer_policy().polling["cap_seconds"]


def test_looks_grow_apart_and_are_jittered_the_same_way_each_time() -> None:
    import random

    policy = transfer_policy()
    waits = [policy.delay(look, random.Random(look)) for look in range(30)]
    assert waits == [policy.delay(look, random.Random(look)) for look in range(30)]
    assert 2.5 <= waits[0] <= 5 and all(60 <= wait <= 120 for wait in waits[10:])
    assert len(set(waits)) > 20


def test_looks_that_fail_now_and_then_do_not_end_the_wait(tmp_path: Path) -> None:
    cloud, clock = Cloud(), Clock()
    cloud.faults["backup", "DescribeBackupJob"] = ["error:ServiceUnavailableException", "", "drop_before", "drop_after"]
    assert run(driver(tmp_path, clock), "backup", job_of(cloud, "backup")).done
    cloud.faults["quicksight", "DescribeIngestion"] = ["error:ThrottlingException"] * 20
    with pytest.raises(TransferFailure) as raised:
        run(driver(tmp_path, clock), "quicksight", job_of(cloud, "quicksight"))
    assert raised.value.exit_code == 75
    cloud.faults.clear()
    assert run(driver(tmp_path, clock, "host/2/b"), "quicksight", job_of(cloud, "quicksight")).done
    assert len(cloud.started("quicksight")) == 1


def test_a_state_the_provider_adds_later_is_waited_out(tmp_path: Path) -> None:
    clock, states = Clock(), ["REINDEXING", "COMPLETED"]

    class Later(QuickSightJob):
        def poll(self, job_id: str) -> Observed:
            seen = super().poll(job_id)
            native = states.pop(0)
            return replace(seen, native=native, phase="succeeded" if native == "COMPLETED" else "running")

    cloud = Cloud()
    cloud.paths["quicksight"] = [("COMPLETED",)]
    job = Later(Direct(cloud, "quicksight"), account="123456789012", dataset="d", rows=10)
    assert run(driver(tmp_path, clock), "quicksight", job).done


def test_tokens_fit_every_provider_and_are_never_the_same() -> None:
    import re

    tokens = {job_token(run, step, part, n) for run in ("a", "b") for step in "xy" for part in "pq" for n in (1, 2)}
    assert len(tokens) == 16
    assert job_token("a", "x", "p", 1) == job_token("a", "x", "p", 1)
    assert all(re.fullmatch(r"[a-zA-Z0-9-]{1,128}", token) for token in tokens)
