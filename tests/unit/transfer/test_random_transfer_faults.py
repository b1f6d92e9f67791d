"""A thousand sequences of faults: processes that die at any write or call, requests and answers that are lost, errors,
jobs that fail, data that cannot be trusted. No provider job is started twice, and nothing that must be told is lost.

The real driver, jobs and checkpoints run against the stand-ins of the services; time is a counter.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from obstore.store import MemoryStore

from tests.support.aws_server import Cloud, Direct
from tests.unit.transfer.test_provider_models import job_of
from trialops.stores.objects import ObjectStore, _Obstore
from trialops.transfer.alerts import alert_of
from trialops.transfer.checkpoints import Checkpoint, Checkpoints, Superseded
from trialops.transfer.drive import Driver
from trialops.transfer.failures import TransferFailure
from trialops.transfer.graph import NODES, Outcome, holds
from trialops.transfer.policy import transfer_policy

SEQUENCES = 1000
SERVICE = {"extract": "appflow", "backup": "backup", "ingest": "quicksight", "distribute": "datasync"}
STARTS = {"appflow": "StartFlow", "backup": "StartBackupJob", "quicksight": "CreateIngestion"}
LOOKS = {
    "appflow": "DescribeFlowExecutionRecords",
    "backup": "DescribeBackupJob",
    "quicksight": "DescribeIngestion",
    "datasync": "DescribeTaskExecution",
}
BAD = {
    "appflow": [("Error",), ("Canceled",)],
    "backup": [("FAILED",), ("EXPIRED",), ("PARTIAL",)],
    "quicksight": [("FAILED",), ("CANCELLED",)],
    "datasync": [("ERROR",)],
}
DOUBTFUL: dict[str, dict[str, Any]] = {
    "appflow": {"recordsProcessed": 0},
    "backup": {"IsEncrypted": False},
    "quicksight": {"RowsDropped": 1},
    "datasync": {"FilesVerified": 1},
}


class Killed(BaseException):
    """The process is gone."""


@dataclass
class World:
    """One sequence: the services, the store, and what will go wrong."""

    seed: int
    cloud: Cloud = field(default_factory=Cloud)
    at: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    raised: Counter[str] = field(default_factory=Counter)
    kills: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.store: ObjectStore = Mortal(_Obstore(MemoryStore(), "memory://"), self.dies)
        self.cloud.now = lambda: self.at
        self.deaths = self.rng.randint(0, 6)
        rng = self.rng
        for service in SERVICE.values():
            for operation in (STARTS.get(service, "StartTaskExecution"), LOOKS[service]):
                kinds = ["", "", "drop_before", "drop_after", "error:ThrottlingException"]
                self.cloud.faults[service, operation] = [rng.choice(kinds) for _ in range(rng.randint(0, 4))]
            self.cloud.paths[service] = [rng.choice(BAD[service]) for _ in range(rng.choice([0, 0, 0, 0, 1, 2]))]
            self.cloud.facts[service] = dict(DOUBTFUL[service]) if rng.random() < 0.06 else {}

    def dies(self) -> None:
        if self.deaths and self.rng.random() < 0.08:
            self.deaths -= 1
            self.kills += 1
            raise Killed

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.dies()


class Mortal:
    """An object store whose user may die just before or just after it writes."""

    def __init__(self, inner: Any, dies: Callable[[], None]) -> None:
        self._inner, self._dies = inner, dies

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if name not in ("put", "replace"):
            return call

        def mortal(*args: Any, **named: Any) -> Any:
            self._dies()
            done = call(*args, **named)
            self._dies()
            return done

        return mortal


def tell(world: World, checkpoints: Checkpoints, checkpoint: Checkpoint | None) -> None:
    """As a step does it: raise what is due, then write that down."""
    if checkpoint is not None and checkpoint.alert == "due":
        world.dies()
        world.raised[alert_of(checkpoint, "trial").name + checkpoint.step] += 1
        world.dies()
        try:
            checkpoints.advance(checkpoint, "alert raised", world.at, alert="raised")
        except Superseded:
            return


def step(world: World, owner: str, name: str) -> None:
    """One pod."""
    checkpoints = Checkpoints(world.store, owner)
    driver = Driver(checkpoints, transfer_policy(), now=lambda: world.at, sleep=world.sleep)
    try:
        if name in SERVICE:
            service = SERVICE[name]
            checkpoint = driver.run("run", name, "", service, lambda: job_of(world.cloud, service))
        else:
            checkpoint = driver.run_own("run", name, lambda: own(world, checkpoints, name))
    except TransferFailure:
        tell(world, checkpoints, checkpoints.read("run", name))
        raise
    tell(world, checkpoints, checkpoint)


def own(world: World, checkpoints: Checkpoints, name: str) -> dict[str, Any]:
    if name == "validate" and random.Random(f"{world.seed}v").random() < 0.2:
        raise TransferFailure("integrity", "The quality is too low", code="quality")
    if name == "fallback":
        failed = [c for c in checkpoints.of_run("run") if c.state == "failed" and c.step in ("extract", "validate")]
        if {c.failure["kind"] for c in failed} != {"integrity"}:
            raise TransferFailure("permanent", "Nothing to fall back from", code="no integrity error")
        return {"version": 1, "alert": True}
    return {"rows": 10}


def run(world: World) -> dict[str, Outcome]:
    """As the workflow does it: steps in order, pods again after death and code 75, and the exit handler."""
    outcomes: dict[str, Outcome] = {}
    pods = 0
    for node in NODES:
        if not holds(node.depends, outcomes):
            outcomes[node.name] = "Omitted"
            continue
        for attempt in range(30):
            pods += 1
            world.at += timedelta(seconds=transfer_policy().retry_delay(min(attempt + 1, 9)))
            try:
                step(world, f"h/{pods}/x", node.name)
                outcomes[node.name] = "Succeeded"
            except Killed:
                continue
            except TransferFailure as failure:
                if failure.kind == "retryable":
                    continue
                outcomes[node.name] = "Failed"
            break
        else:
            raise AssertionError(f"{node.name} never ended")
    for _ in range(30):  # the exit handler is a pod too
        try:
            checkpoints = Checkpoints(world.store, "h/exit/x")
            for checkpoint in checkpoints.of_run("run"):
                tell(world, checkpoints, checkpoint)
            break
        except Killed:
            continue
    return outcomes


def test_no_double_start_and_no_lost_alert_in_a_thousand_sequences() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEQUENCES):
        world = World(seed)
        outcomes = run(world)
        known = Checkpoints(_inner(world), "reader").of_run("run")
        tokens = Counter((job.service, job.token) for job in world.cloud.jobs)
        assert max(tokens.values(), default=0) <= 1, f"seed {seed}: a job was started twice"
        begun = {SERVICE[c.step]: c.attempt for c in known if c.step in SERVICE}
        for service, attempts in begun.items():
            assert len(world.cloud.started(service)) <= attempts, f"seed {seed}: more jobs than attempts"
        for checkpoint in known:
            assert checkpoint.alert != "due", f"seed {seed}: nobody was told of {checkpoint.step}"
            last = checkpoint.state == "failed"
            if last or (checkpoint.step == "fallback" and checkpoint.done):
                name = alert_of(checkpoint, "trial").name + checkpoint.step
                assert checkpoint.alert == "raised" and world.raised[name] >= 1, f"seed {seed}: {name} was lost"
        assert world.cloud.violations == []
        if outcomes["report"] == "Succeeded":
            assert all(len([j for j in world.cloud.started(s) if j.state in DONE]) == 1 for s in ("backup", "datasync"))
        seen.update({outcomes["report"]: 1, "kills": world.kills, "fallbacks": outcomes["fallback"] == "Succeeded"})
        seen["resumes"] += sum(c.resumes for c in known)
    # The sequences reach what they are meant to reach.
    assert seen["kills"] > 1000 and seen["resumes"] > 1000
    assert seen["Succeeded"] > 200 and seen["Omitted"] > 200 and seen["fallbacks"] > 50


DONE = {"COMPLETED", "SUCCESS", "Successful"}


def _inner(world: World) -> ObjectStore:
    found: ObjectStore = world.store._inner  # type: ignore[attr-defined]
    return found


def test_the_check_sees_a_double_start() -> None:
    """A driver without the intent written before the call starts jobs twice, and the check above would say so."""
    cloud = Cloud()
    cloud.faults["datasync", "StartTaskExecution"] = ["drop_after"]
    client = Direct(cloud, "datasync")
    for _ in range(2):
        try:
            client.start_task_execution(
                TaskArn="arn:aws:datasync:us-east-1:123456789012:task/task-0123456789abcdef0",
                OverrideOptions={"TaskQueueing": "ENABLED"},
                Tags=[{"Key": "trialops:token", "Value": "t"}],
            )
        except Exception:
            continue
    assert max(Counter(job.token for job in cloud.jobs).values()) == 2
