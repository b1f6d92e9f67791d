"""An experiment from plan to end: a real router and servers, real exposures, looks kept, traffic put back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from test_ab import DOCUMENT
from toy_bundles import FEATURES, logistic

from pipelines.cli import cli
from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.serving import experiment_run
from trialops.serving.client import HOST
from trialops.serving.deployment import APPROVED, Gate
from trialops.serving.experiment import Experiment, load_experiment
from trialops.serving.process import RouterProcess, ServerProcess
from trialops.serving.rollback import routing_file
from trialops.serving.routing import Backend, Routing, read_routing, unit_of, write_routing
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.registry import CHAMPION, ModelRegistry

TASK = "withdrawal"
OLD, NEW = logistic(), logistic((0.85, -0.62, 0.31), -0.42)
SUBJECTS = [f"subject-{k:03d}" for k in range(240)]
PLAN = DOCUMENT | {
    "arms": [{"name": "current", "share": 0.5, "version": "1"}, {"name": "new", "share": 0.5, "version": "2"}],
    "metric": DOCUMENT["metric"] | {"minimum_effect": 0.25},
    "looks": [0.5, 1.0],
}


@pytest.fixture(scope="module")
def mlflow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    assert ModelRegistry(f"sqlite:///{path}", "unused").by_alias(TASK, CHAMPION) is None
    return path


@pytest.fixture
def run(tmp_path: Path, mlflow_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    """Version 1 in service, version 2 registered."""
    shutil.copy(mlflow_file, tmp_path / "mlflow.db")
    live_in(tmp_path, monkeypatch)
    made = Step("experiment", {}, settings())
    for number, model in enumerate((OLD, NEW), 1):
        made.registry.log(model.save(tmp_path / str(number)), name=TASK, run_id=f"r{number}", requirements=["numpy"])
    made.registry.promote(
        TASK, "1", expected_from=None, reason="good", decision={}, actor="tester", run_id="r1", engine=made.engine
    )
    yield made
    leave()


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    return path


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature on whatever version is asked for; that one is needed is the gate's own test and the next one's."""

    def gate(run: Step, task: str, version: str, champion: str) -> Gate:
        return Gate(APPROVED, (), task, version, run.registry.version(task, version).digest, champion, {}, {}, "")

    monkeypatch.setattr(experiment_run, "deployment_gate", gate)


def tell(*words: str) -> str:
    told = CliRunner().invoke(cli, ["experiment", *words])
    assert told.exit_code == 0, told.output + str(told.exception)
    return told.output


def outcomes(path: Path, experiment: Experiment, effect: bool, subjects: list[str]) -> Path:
    """Every third subject, and every one of the second arm but each sixth where there is an effect."""
    rows = [
        (s, int(k % 6 != 0) if effect and experiment.arm_of(s) == "new" else int(k % 3 == 0))
        for k, s in enumerate(subjects)
    ]
    path.write_text("subject_id,label\n" + "".join(f"{s},{y}\n" for s, y in rows))
    return path


def ask(client: Any, subject: str) -> str:
    tensors = [{"name": name, "datatype": "FP64", "shape": [1], "data": [0.1]} for name in FEATURES]
    body = json.dumps({"parameters": {"subject_id": subject}, "inputs": tensors}).encode()
    status, answer = client.send("POST", f"{client.model}/infer", body)
    assert status == 200
    return str(json.loads(answer)["model_version"])


def test_an_experiment_from_plan_to_end(run: Step, plan: Path, tmp_path: Path, signed: None) -> None:
    experiment = load_experiment(plan)
    said = tell("plan", str(plan))
    assert f"{experiment.planned[0]:,} with an outcome" in said and "look at  50%" in said
    file = routing_file(settings().home.resolve(), TASK)
    with (
        ServerProcess(tmp_path / "1", TASK, "1", tmp_path / "s1") as old,
        ServerProcess(tmp_path / "2", TASK, "2", tmp_path / "s2") as new,
    ):
        write_routing(file, Routing(TASK, Backend(HOST, old.port, "1")))
        with RouterProcess(file, TASK, file.parent) as router, router.client() as client:
            assert "50% of the subjects see version 2" in tell("begin", str(plan), "--candidate", f"{HOST}:{new.port}")
            seen = {s: ask(client, s) for s in SUBJECTS}
            assert seen == {s: {"current": "1", "new": "2"}[experiment.arm_of(s)] for s in SUBJECTS}
            assert {s: ask(client, s) for s in SUBJECTS[:20]} == {s: seen[s] for s in SUBJECTS[:20]}
            first = tell(
                "look", str(plan), "--outcomes", str(outcomes(tmp_path / "o.csv", experiment, False, SUBJECTS[:70]))
            )
            assert "look 1 at" in first and first.strip().endswith("continue")
            page = tmp_path / "looks.html"
            last = tell(
                "look", str(plan), "--outcomes", str(outcomes(tmp_path / "o.csv", experiment, True, SUBJECTS)),
                "--page", str(page),
            )  # fmt: skip
            assert "look 2 at" in last and last.strip().endswith("stop: difference")
            assert "Worklist ordered by the new model" in page.read_text() and "subject-" not in page.read_text()
            assert {ask(client, s) for s in SUBJECTS} == {"1"}
    assert read_routing(file).candidate is None
    actions = [event.action for event in run.trail.events()]
    assert actions.count("decision.experiment") == 2 and actions[-1] == "experiment.end"
    ended = CliRunner().invoke(cli, ["experiment", "end", str(plan), "--reason", "once more"])
    assert ended.exit_code == 2 and "It has ended" in ended.output


def test_an_unsigned_version_is_shown_to_nobody(run: Step, plan: Path) -> None:
    file = routing_file(settings().home.resolve(), TASK)
    write_routing(file, Routing(TASK, Backend(HOST, 1, "1")))
    with pytest.raises(TrialOpsError, match="not approved"):
        experiment_run.begin_experiment(run, load_experiment(plan), HOST, 2)
    assert read_routing(file).candidate is None


def test_what_is_looked_at_is_what_was_planned(run: Step, plan: Path, signed: None) -> None:
    file = routing_file(settings().home.resolve(), TASK)
    write_routing(file, Routing(TASK, Backend(HOST, 1, "1")))
    experiment = load_experiment(plan)
    with pytest.raises(TrialOpsError, match="not begun"):
        experiment_run.take_look(run, experiment, {})
    experiment_run.begin_experiment(run, experiment, HOST, 2)
    with pytest.raises(TrialOpsError, match="begun before"):
        experiment_run.begin_experiment(run, experiment, HOST, 2)
    plan.write_text(yaml.safe_dump(PLAN | {"alpha": 0.1}))
    with pytest.raises(TrialOpsError, match="plan does not change"):
        experiment_run.take_look(run, load_experiment(plan), {unit_of("subject-001"): 1.0})
    plan.write_text(yaml.safe_dump(PLAN | {"name": "another-1"}))
    with pytest.raises(TrialOpsError, match="going on"):
        experiment_run.begin_experiment(run, load_experiment(plan), HOST, 3)


def test_the_first_arm_is_the_version_in_use(run: Step, plan: Path, signed: None) -> None:
    swapped = [dict(PLAN["arms"][0], version="2"), dict(PLAN["arms"][1], version="1")]
    plan.write_text(yaml.safe_dump(PLAN | {"arms": swapped}))
    with pytest.raises(TrialOpsError, match="in service is version 1"):
        experiment_run.begin_experiment(run, load_experiment(plan), HOST, 2)
