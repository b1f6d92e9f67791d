"""Registered, judged, made the challenger: on a real registry, database and object store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.homes import leave, live_in
from tests.support.release_evidence import bundle, judged
from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.evidence_store import get_evidence
from trialops.models.judgement import conclude_judgement
from trialops.models.registration import NEEDS_SIGNATURE, NOT_PASSED, PASSED, last_training, passed, register_trained
from trialops.models.release import decide_release
from trialops.models.training import fetch_registered
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.registry import CANDIDATE, CHALLENGER, CHAMPION, ModelRegistry, Registered

TASK = "withdrawal"


@pytest.fixture(scope="module")
def mlflow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    assert ModelRegistry(f"sqlite:///{path}", "unused").by_alias(TASK, CHAMPION) is None
    return path


@pytest.fixture
def run(tmp_path: Path, mlflow_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    shutil.copy(mlflow_file, tmp_path / "mlflow.db")
    live_in(tmp_path, monkeypatch)
    yield Step("conclude-evaluation", {"task": TASK}, settings())
    leave()


def registered(run: Step, tmp_path: Path, model: Bundle | None = None) -> Registered:
    evidence = judged()
    chosen = model or evidence.model
    return register_trained(
        run,
        TASK,
        chosen.save(tmp_path / "bundles" / chosen.digest[:8]),
        evidence.weak.save(tmp_path / "bundles" / "baseline"),
        training=evidence.training,
        search={**evidence.search, "digest": chosen.digest},
    )


def conclude(run: Step, version: str, action: str, reasons: Any = (), **more: Any) -> str:
    """Judge the model of the evidence, with a decision as given."""
    evidence = judged()
    made = decide_release(
        run,
        evidence.task,
        evidence.rows,
        evidence.model,
        evidence.weak,
        training=evidence.training,
        evaluation=evidence.evaluation,
        fairness=evidence.fairness,
        champion="none",
    ).as_dict()
    comparison = {**made, "decision": {**made["decision"], "action": action, "reasons": list(reasons)}, **more}
    return conclude_judgement(
        run,
        TASK,
        version,
        evidence.model.save(run.workdir / "judged"),
        training=evidence.training,
        search=evidence.search,
        evaluation=evidence.evaluation,
        fairness=evidence.fairness,
        comparison=comparison,
    ).verdict


def unmet(*rules: str) -> list[dict[str, Any]]:
    return [{"rule": rule, "met": False, "text": rule} for rule in rules]


def alias(run: Step, name: str) -> str:
    found = run.registry.by_alias(TASK, name)
    return found.version if found else ""


def test_a_trained_model_is_the_candidate_and_can_be_fetched_whole(run: Step, tmp_path: Path) -> None:
    made, evidence = registered(run, tmp_path), judged()
    assert alias(run, CANDIDATE) == made.version and alias(run, CHALLENGER) == ""
    found = fetch_registered(run, TASK, alias=CANDIDATE)
    assert (found.version, found.digest) == (made.version, evidence.model.digest)
    assert Bundle.load(found.model).digest == evidence.model.digest
    assert Bundle.load(found.baseline).digest == evidence.weak.digest
    assert found.training == evidence.training and found.search["digest"] == evidence.model.digest
    last = last_training(run, TASK)
    assert last is not None and last[0] == made.version and len(last[1]["environment"]["uv_lock"]) == 64
    again = registered(run, tmp_path)
    assert again == made, "one bundle is one version"
    other = registered(run, tmp_path, bundle(evidence.task, 0.7))
    assert alias(run, CANDIDATE) == other.version != made.version
    with pytest.raises(TrialOpsError, match="alias nobody"):
        fetch_registered(run, TASK, alias="nobody")


def test_a_search_of_another_model_is_refused(run: Step, tmp_path: Path) -> None:
    evidence = judged()
    with pytest.raises(TrialOpsError, match="another model"):
        register_trained(
            run,
            TASK,
            bundle(evidence.task, 0.7).save(tmp_path / "b"),
            evidence.weak.save(tmp_path / "w"),
            training=evidence.training,
            search=evidence.search,
        )
    assert run.registry.versions(TASK) == []


def test_what_passes_is_the_challenger_until_it_no_longer_does(run: Step, tmp_path: Path) -> None:
    version = registered(run, tmp_path).version
    assert conclude(run, version, "promote") == PASSED
    assert alias(run, CHALLENGER) == version
    documents = get_evidence(run, TASK, version)
    assert set(documents) == {"training", "evaluation", "fairness", "comparison", "tripod"}
    folder = run.workdir / "dossier"
    assert json.loads((folder / "tripod_ai.json").read_text()) == documents["tripod"]
    assert "Model card" in (folder / "model_card.md").read_text()
    assert conclude(run, version, "reject", unmet("better than chance")) == NOT_PASSED
    assert alias(run, CHALLENGER) == ""
    assert conclude(run, version, "hold", unmet("fair"), signature_suffices=True, objections=[]) == NEEDS_SIGNATURE
    assert alias(run, CHALLENGER) == version, "the signature is asked for before production"


def test_the_evaluation_is_noted_in_mlflow(run: Step, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    made = registered(run, tmp_path)
    conclude(run, made.version, "promote")
    uri = run.settings.mlflow
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    noted = client.get_run(made.mlflow_run_id)
    assert noted.data.metrics["auroc"] == judged().evaluated.auroc.value
    assert noted.data.metrics["ici"] == judged().evaluated.calibration.ici
    assert client.get_model_version(TASK, made.version).tags["evaluation"] == PASSED
    files = {item.path for item in client.list_artifacts(made.mlflow_run_id, "files")}
    assert {"files/tripod_ai.md", "files/model_card.md", "files/requirements.lock.txt", "files/search.json"} <= files


def test_the_champion_is_no_challenger_of_itself(run: Step, tmp_path: Path) -> None:
    version = registered(run, tmp_path).version
    run.registry.set_alias(TASK, CHAMPION, version)
    assert conclude(run, version, "promote") == PASSED
    assert alias(run, CHALLENGER) == ""


def test_another_model_than_the_registered_one_is_refused(run: Step, tmp_path: Path) -> None:
    other = registered(run, tmp_path, bundle(judged().task, 0.7))
    with pytest.raises(TrialOpsError, match="not the registered version"):
        conclude(run, other.version, "promote")
    assert alias(run, CHALLENGER) == ""
    assert set(get_evidence(run, TASK, other.version)) == {"training"}


@pytest.mark.parametrize(
    ("action", "rules", "suffices", "objections", "verdict"),
    [
        ("promote", (), False, [], PASSED),
        ("hold", ("fair",), True, [], NEEDS_SIGNATURE),
        ("hold", ("fair",), False, [], NOT_PASSED),  # the policy does not let a signature stand for it
        ("hold", ("fair",), True, [{}], NOT_PASSED),  # a person has rejected it
        ("hold", ("fair", "enough subjects"), True, [], NOT_PASSED),
        ("unchanged", ("non-inferior",), False, [], NOT_PASSED),
    ],
)
def test_what_a_decision_means(
    action: str, rules: tuple[str, ...], suffices: bool, objections: Any, verdict: str
) -> None:
    comparison: Mapping[str, Any] = {
        "decision": {"action": action, "reasons": unmet(*rules)},
        "objections": objections,
        "signature_suffices": suffices,
    }
    assert passed(comparison) == verdict
