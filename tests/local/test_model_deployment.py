"""Deployment as a person runs it: unsigned it waits, signed it goes out, and one command goes back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.local.main_job import Home, states
from trialops.settings import Settings
from trialops.stores.context import Step
from trialops.stores.database import promotions
from trialops.stores.rollouts import rollout_events
from trialops.synthetic import generate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TASK = "withdrawal"
USER, PASSPHRASE = "alovelace", "correct horse battery staple"
TRIALS = ("--set", "trials=2")


@dataclass
class Story:
    """A home, and its deployment runs by the part they play."""

    home: Home
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    champion: dict[str, str] = field(default_factory=dict)

    def call(self, *arguments: str) -> str:
        done = self.home.trialops(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self, part: str, version: str) -> None:
        self.told[part] = self.call("run", "model_deployment", "--set", f"version={version}")
        self.runs[part] = self.home.run()
        self.champion[part] = self.now()

    def approve(self, part: str) -> None:
        run_id = self.runs[part]["run_id"]
        signed = ("--user", USER, "--passphrase", PASSPHRASE, "--reason", "evidence read")
        self.told[f"approval of {part}"] = self.call("approve", run_id, *signed)

    def now(self) -> str:
        found = self.stores().registry.by_alias(TASK, "champion")
        return found.version if found else ""

    def stores(self) -> Step:
        return Step("look", {}, Settings(home=self.home.path, run_id="look", actor="tester"))

    def record(self, part: str, step: str) -> dict[str, Any]:
        path = self.home.path / "runs" / self.runs[part]["run_id"] / "steps" / step / "record.json"
        return dict(json.loads(path.read_text()))

    def dossier(self, part: str) -> Path:
        return self.home.output(self.runs[part]["run_id"], "finish-deployment", "dossier")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Two versions trained and judged; the first waits, is signed and goes out; the second goes out over it."""
    folder = tmp_path_factory.mktemp("deployment")
    generate(folder / "trial", subjects=700, sites=12, seed=1, formats=("sdtm",))
    told = Story(Home(folder / "home"))
    source = ("--source", str(folder / "trial" / "sdtm"))
    told.call("run", "scheduled_retraining", *source, *TRIALS)
    told.call("audit", "enrol", "--user", USER, "--name", "Ada Lovelace", "--passphrase", PASSPHRASE)
    told.deploy("unsigned", "1")
    told.approve("unsigned")
    told.deploy("first", "1")
    told.call("run", "scheduled_retraining", *source, *TRIALS, "--set", "seed=2")
    told.deploy("second unsigned", "2")
    told.approve("second unsigned")
    told.deploy("second", "2")
    return told


def test_unsigned_it_waits_and_nothing_changes(story: Story) -> None:
    decision = story.record("unsigned", "approve-deployment")["decision"]
    assert decision["decision"] == "waits" and len(decision["numbers"]["to_sign"]) == 64
    assert states(story.runs["unsigned"])["roll-out"] != "ran" and story.champion["unsigned"] == ""
    assert story.record("unsigned", "finish-deployment")["decision"]["decision"] == "waits for a signature"
    told = story.told["approval of unsigned"]
    assert "Ada Lovelace" in told and decision["numbers"]["to_sign"] in told and "into production" in told


def test_signed_the_first_version_goes_into_production(story: Story) -> None:
    run = story.runs["first"]
    assert run["state"] == "succeeded" and states(run)["roll-out"] == "ran"
    assert story.record("first", "roll-out")["decision"]["decision"] == "promote"
    assert story.champion["first"] == "1"
    rows = promotions(story.stores().engine, TASK)
    own = [row for row in rows if row.run_id == run["run_id"]]
    assert [(row.action, row.to_version) for row in own] == [("promote", "1")] * 2
    assert "approved by signature of Ada Lovelace" in own[0].reason
    assert (
        own[0].decision["basis"]["to_sign"]
        == story.record("unsigned", "approve-deployment")["decision"]["numbers"]["to_sign"]
    )


def test_the_second_goes_through_every_share_beside_the_first(story: Story) -> None:
    run = story.runs["second"]
    outcome = story.record("second", "roll-out")["decision"]["decision"]
    events = rollout_events(story.stores().engine, f"{TASK}/2/{run['run_id']}")
    judged = [event for event in events if event.event == "judged"]
    # Whether so small a trial's second model keeps to the guards is the data's business; that both agree is ours.
    assert story.champion["second"] == {"promote": "2", "rollback": "1"}[outcome]
    assert judged[0].percent == 0 and judged[0].detail["record"]["candidate_served"] == 0
    if outcome == "promote":
        assert [event.percent for event in judged if event.detail["record"]["passed"]] == [0, 5, 25, 50, 100]
        served = [event.detail["record"]["candidate_served"] for event in judged]
        assert served == sorted(served) and served[-1] > 0
    assert events[-1].event == "concluded" and events[-1].run_id == run["run_id"]


def test_the_dossier_holds_approval_rollout_and_the_clusters_documents(story: Story) -> None:
    for part in ("first", "second"):
        folder = story.dossier(part)
        contents = json.loads((folder / "contents.json").read_text())
        for name, digest in contents.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        gate = json.loads((folder / "approval.json").read_text())
        assert [one["user_id"] for one in gate["approvals"]] == [USER]
        assert json.loads((folder / "rollout.json").read_text())["events"]
    assert (story.dossier("second") / "kserve" / "promote.yaml").exists()


def test_one_command_goes_back(story: Story) -> None:
    before = story.now()
    if before == "1":
        done = story.home.trialops("rollback", TASK, "--reason", "drill")
        assert done.returncode == 2 and "no earlier version" in done.stderr
        return
    told = story.call("rollback", TASK, "--reason", "drill")
    assert "from version 2 to 1" in told and story.now() == "1"
    assert story.stores().registry.history(TASK, story.stores().engine)[-1].reason == "drill"
