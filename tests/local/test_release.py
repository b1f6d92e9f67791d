"""The release of a model, end to end through the command line: held, signed, promoted, unchanged, replaced.

One home goes through it all, because each part starts from what the one before has left.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.local.main_job import Home, kill_in_new_step, states
from trialops.stores.database import connect, promotions
from trialops.stores.registry import ModelRegistry
from trialops.synthetic import generate

TASK = "withdrawal"
PURE = ("deidentify", "build-features", "build-training-set", "search-model", "evaluate-model", "assess-fairness")
RELEASE = ("canary-release", "conclude-release")
USER, PASSPHRASE = "alovelace", "correct horse battery staple"
SIZE: dict[str, Any] = {"subjects": 700, "sites": 12, "seed": 1, "formats": ("sdtm",)}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Story:
    """A home, and the runs it has seen by the name of the part they play."""

    home: Home
    source: Path
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    log: dict[str, list[tuple[str, str, str, str, str]]] = field(default_factory=dict)
    champion: dict[str, str] = field(default_factory=dict)

    def call(self, *arguments: str) -> str:
        done = self.home.trialops(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, part: str, *settings: str) -> None:
        given = ("--set", "trials=2", *(word for setting in settings for word in ("--set", setting)))
        self.told[part] = self.call("run", "scheduled_retraining", "--source", str(self.source), *given)
        self.note(part)

    def note(self, part: str) -> None:
        """Keep what the newest run has left, before the next one changes it."""
        self.runs[part] = self.home.run()
        rows = promotions(connect(f"sqlite:///{self.home.path / 'trialops.db'}"), TASK)
        names = {run["run_id"]: name for name, run in reversed(self.runs.items())}
        self.log[part] = [
            (names[row.run_id], row.action, row.decision["phase"], row.from_version, row.to_version) for row in rows
        ]
        registry = ModelRegistry(f"sqlite:///{self.home.path / 'mlflow.db'}", str(self.home.path / "models"))
        found = registry.by_alias(TASK, "champion")
        self.champion[part] = found.version if found else ""

    def approve(self, part: str) -> str:
        signer = ("--user", USER, "--passphrase", PASSPHRASE, "--reason", "groups too small to tell; accepted")
        return self.call("approve", self.runs[part]["run_id"], *signer)

    def document(self, part: str, step: str, artifact: str) -> dict[str, Any]:
        return json.loads(self.home.output(self.runs[part]["run_id"], step, artifact).read_text())

    def decision(self, part: str, step: str = "compare-with-champion") -> dict[str, Any]:
        folder = self.home.path / "runs" / self.runs[part]["run_id"] / "steps" / step
        return json.loads((folder / "record.json").read_text())["decision"]

    def card(self, part: str) -> str:
        return (self.home.output(self.runs[part]["run_id"], "release-dossier", "dossier") / "model_card.md").read_text()


def _killed_twice(story: Story) -> set[str]:
    """The run that promotes: killed in the canary and in the conclusion, resumed each time."""
    home, killed = story.home, set()
    first = story.runs["held"]
    lasted = {step["step"]: step["inside_seconds"] for step in first["steps"]} | {"canary-release": 2.0}
    others = set(states(first)) - set(RELEASE)
    arguments: tuple[str, ...] = ("--source", str(story.source), "--set", "trials=2")
    for _ in range(6):
        process = home.start("run", "scheduled_retraining", *arguments)
        killed |= {kill_in_new_step(home, process, others | killed, lasted)} - {""}
        arguments = ("--resume",)
        if home.run()["state"] == "succeeded":
            break
    return killed


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Held; signed; promoted although killed twice; unchanged; a second model held; signed; promoted over the first."""
    folder = tmp_path_factory.mktemp("release")
    generate(folder / "trial", **SIZE)
    told = Story(Home(folder / "home"), folder / "trial" / "sdtm")
    told.run("held")
    told.call("audit", "enrol", "--user", USER, "--name", "Ada Lovelace", "--passphrase", PASSPHRASE)
    told.told["signature"] = told.approve("held")
    assert _killed_twice(told) == set(RELEASE)
    told.note("promoted")
    told.run("unchanged")
    told.run("second held", "seed=2")
    told.approve("second held")
    told.run("second promoted", "seed=2")
    return told


HELD = [("held", "hold", "intent", "", ""), ("held", "hold", "done", "", "")]
PROMOTED = [("promoted", "promote", "intent", "", "1"), ("promoted", "promote", "done", "", "1")]
UNCHANGED = [("unchanged", "unchanged", "intent", "1", "1"), ("unchanged", "unchanged", "done", "1", "1")]
SECOND_HELD = [("second held", "hold", "intent", "1", "1"), ("second held", "hold", "done", "1", "1")]
SECOND = [("second promoted", "promote", "intent", "1", "2"), ("second promoted", "promote", "done", "1", "2")]


def test_a_decision_waits_for_a_signature(story: Story) -> None:
    numbers = story.decision("held")["numbers"]
    assert numbers["waits_for_signature"] and numbers["not_met"] == "fair" and numbers["auroc"] > 0.6
    assert states(story.runs["held"])["canary-release"] != "ran"
    assert story.document("held", "conclude-release", "release")["state"] == "held"
    assert story.log["held"] == HELD and story.champion["held"] == ""
    assert "Ada Lovelace" in story.told["signature"] and numbers["to_sign"] in story.told["signature"]


def test_signed_it_is_promoted_once_although_killed_in_the_canary_and_in_the_conclusion(story: Story) -> None:
    run = story.runs["promoted"]
    assert run["state"] == "succeeded"
    assert {step: states(run)[step] for step in PURE} == dict.fromkeys(PURE, "reused")
    assert story.decision("promoted", "canary-release")["decision"] == "promote"
    released = story.document("promoted", "conclude-release", "release")
    assert (released["state"], released["champion"]) == ("promoted", "1")
    assert released["reason"] == "approved by signature; the canary passed"
    assert story.champion["promoted"] == "1" and story.log["promoted"] == HELD + PROMOTED
    comparison = story.document("promoted", "compare-with-champion", "comparison")
    assert [signature["user_id"] for signature in comparison["approvals"]] == [USER]
    assert comparison["champion"] == "none" and comparison["comparison"]["role"] == "baseline"
    record = story.home.path / "runs" / run["run_id"] / "steps" / "canary-release" / "canary.json"
    kept = story.home.output(run["run_id"], "release-dossier", "dossier") / "canary.json"
    assert json.loads(kept.read_text()) == json.loads(record.read_text())


def test_the_model_card_tells_of_search_split_and_the_run_that_trained(story: Story) -> None:
    card = story.card("promoted")
    assert f"run {story.runs['held']['run_id']}, step search-model" in card
    assert "2 configurations fixed in advance" in card
    search = story.document("held", "search-model", "search")
    held, train = search["split"]["held_out"], search["split"]["train"]
    assert f"{held['sites']} sites, {held['subjects']} subjects" in card and train["subjects"] > held["subjects"] > 0
    assert f"training/withdrawal version {search['training']['version']}" in card


def test_the_same_data_again_changes_nothing_and_says_so(story: Story) -> None:
    assert {step: states(story.runs["unchanged"])[step] for step in PURE} == dict.fromkeys(PURE, "reused")
    released = story.document("unchanged", "conclude-release", "release")
    assert (released["state"], released["champion"]) == ("unchanged", "1")
    assert "the trained model is the model in use" in released["reason"]
    page = (story.home.path / "runs" / story.runs["unchanged"]["run_id"] / "index.html").read_text()
    assert "the trained model is the model in use" in page
    assert story.champion["unchanged"] == "1" and story.log["unchanged"] == HELD + PROMOTED + UNCHANGED


def test_a_second_model_is_compared_with_the_champion_and_replaces_it_when_signed(story: Story) -> None:
    first = story.document("promoted", "conclude-release", "release")["champion_digest"]
    comparison = story.document("second held", "compare-with-champion", "comparison")
    assert comparison["champion"] == f"1:{first}"
    assert comparison["comparison"]["role"] == "champion" and comparison["comparison"]["comparator_digest"] == first
    assert story.decision("second held")["numbers"]["waits_for_signature"]
    assert story.champion["second held"] == "1"
    canary = story.decision("second promoted", "canary-release")
    assert canary["decision"] == "promote" and canary["numbers"]["steps"] > 1
    assert story.champion["second promoted"] == "2"
    assert story.log["second promoted"] == HELD + PROMOTED + UNCHANGED + SECOND_HELD + SECOND
    assert story.home.trialops("audit", "verify").returncode == 0


# -- data that cannot be used --------------------------------------------------------------------------------------


def without_sites(source: Path, rows: int) -> None:
    """Demographics as a careless export leaves them: no site for the first subjects."""
    import pyreadstat

    frame, meta = pyreadstat.read_xport(str(source / "dm.xpt"))
    frame.loc[: rows - 1, "SITEID"] = ""
    labels = meta.column_labels
    pyreadstat.write_xport(frame, str(source / "dm.xpt"), table_name="DM", column_labels=labels, file_format_version=5)


def test_a_delivery_that_fails_the_gate_is_replaced_by_the_last_validated_version(tmp_path: Path) -> None:
    home, source = Home(tmp_path / "home"), tmp_path / "delivery"
    size = {**SIZE, "subjects": 40, "sites": 4}
    faults = ("unit_swap", "missing_unit", "out_of_range", "duplicate_subject", "impossible_date", "orphan_subject")
    generate(tmp_path / "good", **size)
    generate(tmp_path / "bad", **size, defects=faults)
    without_sites(tmp_path / "bad" / "sdtm", 3)

    def deliver(kind: str) -> subprocess.CompletedProcess[str]:
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(tmp_path / kind / "sdtm", source)
        return home.trialops("run", "data_pipeline", "--source", str(source))

    good, good_run = deliver("good"), home.run()["run_id"]
    bad, bad_run = deliver("bad"), home.run()["run_id"]
    assert (good.returncode, bad.returncode) == (0, 0), good.stdout + bad.stdout + bad.stderr
    record = json.loads((home.path / "runs" / bad_run / "steps" / "quality-gate" / "record.json").read_text())
    assert record["decision"]["decision"] == "fallback" and record["decision"]["numbers"]["score"] < 95
    used = home.output(bad_run, "quality-gate", "validated").read_bytes()
    assert used == home.output(good_run, "quality-gate", "validated").read_bytes()
    assert home.output(bad_run, "deidentify", "clean").read_bytes() != used

    notification = json.loads((home.path / "runs" / bad_run / "notification.json").read_text())
    assert notification["severity"] == "warning" and "quality-gate: fallback" in notification["lines"]
    out = tmp_path / "trail.jsonl"
    assert home.trialops("audit", "export", "--run", bad_run, "--out", str(out)).returncode == 0
    events = [json.loads(line) for line in out.read_text().splitlines()]
    (alert,) = [event for event in events if event["action"] == "alert.quality"]
    assert alert["object"] and alert["detail"]["score"] == record["decision"]["numbers"]["score"]
