"""Into production and back: evidence, signature, alias, traffic, on a real registry, database, vault and router."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from toy_bundles import FEATURES, logistic

from pipelines.cli import cli
from tests.support.homes import leave, live_in
from tests.support.live_callers import Callers
from tests.support.release_evidence import judged
from trialops.errors import TrialOpsError
from trialops.governance.approval import APPROVED, REJECTED
from trialops.governance.audit import AuditTrail
from trialops.governance.signatures import Signatures
from trialops.models.evidence_store import put_evidence
from trialops.models.release import decide_release
from trialops.pages import render
from trialops.serving.client import HOST
from trialops.serving.deployment import (
    GATE_STEP,
    RECORD_KIND,
    Gate,
    conclude_deployment,
    deployment_gate,
    deployment_to_sign,
    rollout_documents,
    shown_gate,
)
from trialops.serving.deployment_page import gate_page, write_dossier
from trialops.serving.policy import DEFAULT
from trialops.serving.process import RouterProcess, ServerProcess
from trialops.serving.rollback import routing_file
from trialops.serving.routing import Backend, Routing, read_routing, write_routing
from trialops.settings import settings
from trialops.stores.context import Step, step
from trialops.stores.database import promotions
from trialops.stores.registry import CHALLENGER, CHAMPION, ModelRegistry
from trialops.stores.rollouts import append_event, rollout_events

TASK = "withdrawal"
PASSPHRASE = "correct horse battery"
OLD, NEW = logistic(), logistic((0.85, -0.62, 0.31), -0.42)


@pytest.fixture(scope="module")
def mlflow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made, to be copied."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    assert ModelRegistry(f"sqlite:///{path}", "unused").by_alias(TASK, CHAMPION) is None
    return path


@pytest.fixture
def run(tmp_path: Path, mlflow_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    shutil.copy(mlflow_file, tmp_path / "mlflow.db")
    live_in(tmp_path, monkeypatch)
    yield Step(GATE_STEP, {"task": TASK}, settings())
    leave()


def in_run(run: Step, run_id: str) -> Step:
    return Step(run.name, run.parameters, run.settings.model_copy(update={"run_id": run_id}))


def registered(run: Step, tmp_path: Path, *documents: str) -> str:
    """A version of the evidence's model, and some of the documents about it; the challenger."""
    evidence = judged()
    version = run.registry.log(
        evidence.model.save(tmp_path / "bundle"), name=TASK, run_id=run.run_id, requirements=["numpy"]
    ).version
    release = decide_release(
        run,
        evidence.task,
        evidence.rows,
        evidence.model,
        evidence.weak,
        training=evidence.training,
        evaluation=evidence.evaluation,
        fairness=evidence.fairness,
        champion="none",
    )
    every = {"evaluation": evidence.evaluation, "fairness": evidence.fairness, "comparison": release.as_dict()}
    put_evidence(run, TASK, version, {name: every[name] for name in documents or every})
    run.registry.set_alias(TASK, CHALLENGER, version)
    return version


def signer(run: Step) -> Signatures:
    signing = Signatures(run.engine, run.vault, cost=2**4)
    signing.enrol("alovelace", "Ada Lovelace", PASSPHRASE)
    return signing


def sign(signing: Signatures, gate: Gate, meaning: str = APPROVED, kind: str = RECORD_KIND) -> None:
    signing.sign(user="alovelace", passphrase=PASSPHRASE, meaning=meaning, kind=kind, record=TASK, digest=gate.to_sign)


def test_nothing_goes_into_production_unsigned(run: Step, tmp_path: Path) -> None:
    version = registered(run, tmp_path)
    signing = signer(run)
    waits = deployment_gate(run, TASK, version, "none")
    assert (waits.state, waits.approvals) == ("waits", ())
    sign(signing, waits, kind="model release")  # a signature on something else
    assert deployment_gate(run, TASK, version, "none").state == "waits"
    sign(signing, waits)
    approved = deployment_gate(run, TASK, version, "none")
    assert approved.state == "approved" and approved.approvals[0]["printed_name"] == "Ada Lovelace"
    sign(signing, waits, REJECTED)
    rejected = deployment_gate(run, TASK, version, "none")
    assert rejected.state == "rejected" and "Ada Lovelace" in rejected.reasons[0]
    assert "Ada Lovelace" in render(gate_page(rejected.as_dict()))


def test_new_evidence_needs_a_new_signature(run: Step, tmp_path: Path) -> None:
    version = registered(run, tmp_path)
    gate = deployment_gate(run, TASK, version, "none")
    sign(signer(run), gate)
    changed = judged().fairness | {"note": "looked at again"}
    put_evidence(run, TASK, version, {"fairness": changed})
    again = deployment_gate(run, TASK, version, "none")
    assert again.state == "waits" and again.to_sign != gate.to_sign


@pytest.mark.parametrize("documents", [("evaluation", "comparison"), ("fairness",), ("evaluation", "fairness")])
def test_without_its_evidence_it_is_unfit(run: Step, tmp_path: Path, documents: tuple[str, ...]) -> None:
    version = registered(run, tmp_path, *documents)
    gate = deployment_gate(run, TASK, version, "none")
    assert gate.state == "unfit" and "run model_evaluation" in gate.reasons[0]


def test_compared_with_another_model_or_failed_it_is_unfit(run: Step, tmp_path: Path) -> None:
    version = registered(run, tmp_path)
    other = deployment_gate(run, TASK, version, "7:" + "0" * 64)
    assert other.state == "unfit" and "another model" in other.reasons[0]
    assert deployment_gate(run, TASK, version, f"{version}:{judged().model.digest}").state == "unchanged"
    evidence = judged()
    failed = {"decision": {"action": "reject", "model_digest": evidence.model.digest,
                           "reasons": [{"rule": "auroc", "met": False, "text": "AUROC below 0.6"}]},
              "comparison": {"difference": {"value": 0.0, "low": 0.0, "high": 0.0}, "role": "baseline"},
              "champion": "none", "objections": []}  # fmt: skip
    put_evidence(run, TASK, version, {"comparison": failed})
    assert deployment_gate(run, TASK, version, "none").reasons == ("AUROC below 0.6",)


def test_what_is_signed_is_shown_and_found_by_run(run: Step, tmp_path: Path) -> None:
    version = registered(run, tmp_path)
    assert deployment_to_sign(run.objects, "run-1") is None
    with step(GATE_STEP, task=TASK) as gated:
        gate = deployment_gate(gated, TASK, version, "none")
        gated.objects.put(f"{gated.key}/gate.json", json.dumps(gate.as_dict()).encode())
        gated.decide(gate.state, numbers={}, policy="signature")
    found = deployment_to_sign(run.objects, "run-1")
    assert found is not None and found["to_sign"] == gate.to_sign
    text = shown_gate(found)
    assert gate.to_sign in text and judged().model.digest in text and "AUROC" in text
    signing = signer(run)
    del signing
    told = CliRunner().invoke(
        cli,
        ["approve", "run-1", "--user", "alovelace", "--passphrase", PASSPHRASE, "--reason", "read it"],
    )
    assert told.exit_code == 0, told.output
    assert "into production" in told.output and deployment_gate(run, TASK, version, "none").state == "approved"


@pytest.mark.parametrize(
    ("outcome", "state", "champion", "challenger"),
    [
        ("promote", "promoted", "1", False),
        ("rollback", "rolled back", "none", False),
        ("waits", "waits for a signature", "none", True),
        ("rejected", "rejected", "none", False),
        ("unfit", "not fit for production", "none", False),
    ],
)
def test_every_outcome_moves_the_alias_as_it_says_and_twice_as_once(
    run: Step, tmp_path: Path, outcome: str, state: str, champion: str, challenger: bool
) -> None:
    version = registered(run, tmp_path)
    gate = deployment_gate(run, TASK, version, "none").as_dict()
    first = conclude_deployment(run, gate, outcome)
    rows = len(promotions(run.engine, TASK))
    assert conclude_deployment(run, gate, outcome) == first and len(promotions(run.engine, TASK)) == rows
    assert (first["state"], first["champion"]) == (state, champion)
    assert (run.registry.by_alias(TASK, CHALLENGER) is not None) is challenger
    assert rows == (0 if outcome == "waits" else 2)  # waiting decides nothing
    if rows:
        assert promotions(run.engine, TASK)[0].decision["basis"]["to_sign"] == gate["to_sign"]


def test_the_dossier_lists_everything_by_digest(run: Step, tmp_path: Path) -> None:
    import hashlib

    version = registered(run, tmp_path)
    gate = deployment_gate(run, TASK, version, "none").as_dict() | {"champion": "7:" + "a" * 64}
    append_event(run.engine, f"{TASK}/{version}/{run.run_id}", 1, "started", model=TASK, policy_digest="p")
    events, manifests = rollout_documents(run, gate)
    release: dict[str, Any] = {
        "state": "promoted", "reason": "because", "model": TASK, "version": version, "champion": version,
    }  # fmt: skip
    folder, page = write_dossier(run, gate, release, events, manifests)
    contents = json.loads((folder / "contents.json").read_text())
    assert {"approval.json", "rollout.json", "release.json", "index.html", "kserve/promote.yaml"} <= set(contents)
    for name, digest in contents.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert json.loads((folder / "rollout.json").read_text())["events"][0]["event"] == "started"
    assert page.verdict is not None and page.verdict.label == "Promoted"


# -- back ----------------------------------------------------------------------------------------------------------


def two_versions(run: Step, tmp_path: Path) -> None:
    """Version 1 was the champion, version 2 is."""
    for number, (model, before) in enumerate(((OLD, None), (NEW, "1")), 1):
        found = run.registry.log(
            model.save(tmp_path / str(number)), name=TASK, run_id=f"run-{number}", requirements=["numpy"]
        )
        run.registry.promote(
            TASK, found.version, expected_from=before, reason="good", decision={}, actor="tester",
            run_id=f"run-{number}", engine=run.engine,
        )  # fmt: skip


def champion(run: Step) -> str:
    found = run.registry.by_alias(TASK, CHAMPION)
    return found.version if found else ""


def test_one_command_takes_a_promoted_model_back_traffic_included(run: Step, tmp_path: Path) -> None:
    two_versions(run, tmp_path)
    file = routing_file(settings().home.resolve(), TASK)
    with (
        ServerProcess(tmp_path / "1", TASK, "1", tmp_path / "s1") as old,
        ServerProcess(tmp_path / "2", TASK, "2", tmp_path / "s2") as new,
    ):
        write_routing(file, Routing(TASK, Backend(HOST, new.port, "2"), previous=Backend(HOST, old.port, "1")))
        with RouterProcess(file, TASK, tmp_path / "router") as router, router.client() as client:
            x = np.zeros((1, 3))
            assert client.infer(x, FEATURES).digest == NEW.digest
            with Callers(router.port, TASK, np.zeros((5, 3)), FEATURES) as callers:
                told = CliRunner().invoke(cli, ["rollback", TASK, "--reason", "predictions look wrong"])
                assert client.infer(x, FEATURES).digest == OLD.digest
            assert callers.failures == []
    assert told.exit_code == 0, told.output
    assert "from version 2 to 1" in told.output and "on version 1" in told.output
    assert champion(run) == "1"
    last = run.registry.history(TASK, run.engine)[-1]
    assert (last.action, last.from_version, last.to_version) == ("rollback", "2", "1")
    assert (last.reason, last.actor) == ("predictions look wrong", "tester") and last.confirmed
    event = next(e for e in AuditTrail(run.engine).events() if e.action == "model.rollback")
    assert (event.actor, event.reason, event.version) == ("tester", "predictions look wrong", "1")


@pytest.mark.slow
def test_a_signed_version_is_rolled_out_under_real_callers_and_the_alias_follows(run: Step, tmp_path: Path) -> None:
    """The commands a person types: route, rollout; a rollout without a signature is refused."""
    content = yaml.safe_load(DEFAULT.read_text())
    content |= {"requests_per_step": 200, "look_every": 50, "required_live": ["error_rate", "distribution"]}
    content["error_rate"]["max"] = 0.02
    content["latency"]["p50"] |= {"floor_seconds": 2.0}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(content))
    version = registered(run, tmp_path)
    with ServerProcess(tmp_path / "bundle", TASK, version, tmp_path / "s") as server:
        at = f"{HOST}:{server.port}"
        command = ["rollout", TASK, "--version", version, "--candidate", at, "--policy", str(tmp_path / "policy.yaml")]
        refused = CliRunner().invoke(cli, [*command, "--poll", "0.02"])
        assert refused.exit_code == 2 and "nobody has signed" in refused.output
        sign(signer(run), deployment_gate(run, TASK, version, "none"))
        lost = CliRunner().invoke(cli, [*command, "--poll", "0.02"])
        assert lost.exit_code == 2 and "routing file" in lost.output
        file = routing_file(settings().home.resolve(), TASK)
        write_routing(file, Routing(TASK, None, Backend(HOST, server.port, version)))
        calls = file.parent / "calls"
        with RouterProcess(file, TASK, tmp_path / "router", calls=calls) as router:
            x = np.random.default_rng(1).normal(size=(300, 2))
            with Callers(router.port, TASK, x, judged().model.features) as callers:
                led = CliRunner().invoke(cli, [*command, "--poll", "0.02", "--wait", "60"])
            assert callers.failures == []
        assert led.exit_code == 0 and f"Version {version}: promoted" in led.output, led.output
        routing = read_routing(file)
        assert routing.stable is not None and (routing.stable.version, routing.candidate) == (version, None)
        assert champion(run) == version and promotions(run.engine, TASK)[-1].action == "promote"
        again = CliRunner().invoke(cli, [*command, "--poll", "0.02"])
        assert again.exit_code == 2 and "is the champion" in again.output


def test_a_rollout_in_progress_is_ended_and_the_champion_stays(run: Step, tmp_path: Path) -> None:
    two_versions(run, tmp_path)
    plan = {"rollout": "r", "model": TASK, "candidate": "3", "stable": "2", "candidate_digest": "", "stable_digest": ""}
    append_event(run.engine, "r", 1, "started", model=TASK, detail={"plan": plan}, policy_digest="p")
    file = routing_file(settings().home.resolve(), TASK)
    stable = Backend(HOST, 1, "2")
    write_routing(file, Routing(TASK, stable, Backend(HOST, 2, "3"), percent=25, mirror=True))
    told = CliRunner().invoke(cli, ["rollback", TASK, "--reason", "enough"])
    assert told.exit_code == 0, told.output
    assert "Rollout r ended" in told.output and "from version 3 to 2" in told.output
    routing = read_routing(file)
    assert (routing.stable, routing.candidate, routing.percent) == (stable, None, 0)
    assert champion(run) == "2" and rollout_events(run.engine, "r")[-1].event == "aborted"
    assert "enough" in rollout_events(run.engine, "r")[-1].detail["reasons"][0]
    # A controller that had promoted it already but not moved the alias: back to the one before.
    append_event(run.engine, "q", 1, "started", model=TASK, detail={"plan": plan | {"rollout": "q"}}, policy_digest="p")
    write_routing(file, Routing(TASK, Backend(HOST, 2, "3"), previous=stable))
    CliRunner().invoke(cli, ["rollback", TASK, "--reason", "enough"])
    assert read_routing(file).stable == stable


def test_a_version_may_be_named_and_what_cannot_be_done_changes_nothing(run: Step, tmp_path: Path) -> None:
    empty = CliRunner().invoke(cli, ["rollback", TASK, "--reason", "x"])
    assert empty.exit_code == 2
    two_versions(run, tmp_path)
    before = len(promotions(run.engine, TASK))
    for arguments in (["--reason", " "], ["--to", "9", "--reason", "x"]):
        assert CliRunner().invoke(cli, ["rollback", TASK, *arguments]).exit_code == 2
    assert champion(run) == "2" and len(promotions(run.engine, TASK)) == before
    told = CliRunner().invoke(cli, ["rollback", TASK, "--to", "1", "--reason", "x"])
    assert told.exit_code == 0 and champion(run) == "1" and "no router here" in told.output
    with pytest.raises(TrialOpsError, match="has already decided"):
        in_run(run, "run-2").registry.rollback(
            TASK, "2", reason="x", decision={}, actor="a", run_id="run-2", engine=run.engine
        )
