"""Deployment as a person runs it: unsigned it waits, signed it goes out, bad ones come back, one command goes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.local.main_job import Home, states
from tests.support.homes import leave, live_in
from tests.support.release_evidence import bundle, judged
from trialops.governance.approval import APPROVED
from trialops.governance.signatures import Signatures
from trialops.models.bundle import Bundle
from trialops.models.release import champion_folder, decide_release, register
from trialops.serving.deployment import RECORD_KIND, deployment_gate
from trialops.stores import step
from trialops.stores.context import Step
from trialops.stores.database import promotions
from trialops.stores.rollouts import rollout_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TASK = "withdrawal"
USER, PASSPHRASE = "alovelace", "correct horse battery staple"


@dataclass
class Story:
    """A home, and its deployment runs by the part they play."""

    home: Home
    folder: Path
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    champion: dict[str, str] = field(default_factory=dict)
    challenger: dict[str, bool] = field(default_factory=dict)

    @contextmanager
    def step(self, run_id: str = "look") -> Iterator[Step]:
        """A step of another run in this home, in this process."""
        with pytest.MonkeyPatch.context() as patch:
            live_in(self.home.path, patch, run_id)
            try:
                with step("look") as run:
                    yield run
            finally:
                leave()

    def in_use(self, run: Step, alias: str = "champion") -> str:
        found = run.registry.by_alias(TASK, alias)
        return f"{found.version}:{found.digest}" if found else "none"

    def train(self, model: Bundle) -> str:
        """Register a model with all its evidence, compared with whatever is in use: the challenger."""
        evidence = judged()
        with self.step(f"train-{model.digest[:6]}") as run:
            run.write_named("training/withdrawal", evidence.rows)
            champion = self.in_use(run)
            folder = champion_folder(run, TASK, champion)
            evaluation, fairness = evidence.documents_of(model)
            documents = {"training": evidence.training, "evaluation": evaluation, "fairness": fairness}
            release = decide_release(
                run,
                evidence.task,
                evidence.rows,
                model,
                Bundle.load(folder) if folder else evidence.weak,
                champion=champion,
                **documents,
            )
            found = register(
                run,
                TASK,
                model.save(self.folder / model.digest),
                evidence.weak.save(self.folder / "baseline"),
                search={**evidence.search, "digest": model.digest},
                comparison=release.as_dict(),
                **documents,
            )
            run.registry.set_alias(TASK, "challenger", found.version)
            return found.version

    def sign(self, version: str) -> None:
        """Sign for a version as its approver."""
        with self.step() as run:
            signing = Signatures(run.engine, run.vault, cost=2**4)
            if USER not in signing.users():
                signing.enrol(USER, "Ada Lovelace", PASSPHRASE)
            digest = deployment_gate(run, TASK, version, self.in_use(run)).to_sign
            signing.sign(
                user=USER, passphrase=PASSPHRASE, meaning=APPROVED, kind=RECORD_KIND, record=TASK, digest=digest
            )

    def deploy(self, part: str) -> None:
        done = self.home.trialops("run", "model_deployment")
        assert done.returncode == 0, done.stdout + done.stderr
        self.runs[part] = self.home.run()
        with self.step() as run:
            self.champion[part] = self.in_use(run).partition(":")[0]
            self.challenger[part] = self.in_use(run, "challenger") != "none"

    def record(self, part: str, name: str) -> dict[str, Any]:
        path = self.home.path / "runs" / self.runs[part]["run_id"] / "steps" / name / "record.json"
        return dict(json.loads(path.read_text()))

    def decision(self, part: str, name: str) -> str:
        return str(self.record(part, name)["decision"]["decision"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Version 1 waits, is signed, goes out; 2, on another scale, comes back by itself; 3, better, takes its place."""
    folder = tmp_path_factory.mktemp("deployment")
    told = Story(Home(folder / "home"), folder / "bundles")
    task = judged().task
    told.train(bundle(task, 0.9))
    told.deploy("unsigned")
    told.sign("1")
    told.deploy("first")
    told.sign(told.train(replace(bundle(task, 0.9), intercept=1.4)))
    told.deploy("shifted")
    told.sign(told.train(judged().model))
    told.deploy("better")
    return told


def test_unsigned_it_waits_and_nothing_changes(story: Story) -> None:
    numbers = story.record("unsigned", "approve-deployment")["decision"]["numbers"]
    assert story.decision("unsigned", "approve-deployment") == "waits" and len(numbers["to_sign"]) == 64
    assert states(story.runs["unsigned"])["roll-out"] != "ran"
    assert story.decision("unsigned", "finish-deployment") == "waits for a signature"
    assert story.champion["unsigned"] == "none" and story.challenger["unsigned"]


def test_signed_the_first_version_goes_into_production(story: Story) -> None:
    run = story.runs["first"]
    assert run["state"] == "succeeded" and states(run)["roll-out"] == "ran"
    assert story.decision("first", "roll-out") == "promote" and story.champion["first"] == "1"
    with story.step() as look:
        own = [row for row in promotions(look.engine, TASK) if row.run_id == run["run_id"]]
    assert [(row.action, row.to_version) for row in own] == [("promote", "1")] * 2
    assert own[0].reason == "approved by signature of Ada Lovelace; the rollout passed"
    signed = story.record("unsigned", "approve-deployment")["decision"]["numbers"]["to_sign"]
    assert own[0].decision["basis"]["to_sign"] == signed


def test_a_version_on_another_scale_comes_back_from_the_shadow(story: Story) -> None:
    assert story.decision("shifted", "roll-out") == "rollback" and story.champion["shifted"] == "1"
    assert story.decision("shifted", "finish-deployment") == "rolled back" and not story.challenger["shifted"]
    assert "distribution" in story.record("shifted", "roll-out")["decision"]["numbers"]["reasons"]
    assert {event.percent for event in _judged(story, "shifted", "2")} == {0}


def test_a_better_version_goes_through_every_share(story: Story) -> None:
    assert story.decision("better", "roll-out") == "promote" and story.champion["better"] == "3"
    passed = [event for event in _judged(story, "better", "3") if event.detail["record"]["passed"]]
    assert [event.percent for event in passed] == [0, 5, 25, 50, 100]
    served = [event.detail["record"]["candidate_served"] for event in passed]
    assert served[0] == 0 and served == sorted(served) and served[-1] >= 400


def _judged(story: Story, part: str, version: str) -> list[Any]:
    with story.step() as look:
        events = rollout_events(look.engine, f"{TASK}/{version}/{story.runs[part]['run_id']}")
    assert events[-1].event == "concluded"
    return [event for event in events if event.event == "judged"]


@pytest.mark.parametrize("part", ["first", "shifted", "better"])
def test_the_dossier_holds_approval_rollout_and_the_clusters_documents(story: Story, part: str) -> None:
    folder = story.home.output(story.runs[part]["run_id"], "finish-deployment", "dossier")
    contents = json.loads((folder / "contents.json").read_text())
    for name, digest in contents.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    gate = json.loads((folder / "approval.json").read_text())
    assert [one["user_id"] for one in gate["approvals"]] == [USER]
    assert json.loads((folder / "rollout.json").read_text())["events"]
    assert ("kserve/promote.yaml" in contents) is (part != "first")
    assert judged().rows["subject_id"][0] not in (folder / "rollout.json").read_text()


def test_one_command_goes_back(story: Story) -> None:
    done = story.home.trialops("rollback", TASK, "--reason", "drill")
    assert done.returncode == 0, done.stderr
    assert "from version 3 to 1" in done.stdout
    with story.step() as look:
        last = look.registry.history(TASK, look.engine)[-1]
        assert story.in_use(look).startswith("1:") and (last.reason, last.actor) == ("drill", "tester")
