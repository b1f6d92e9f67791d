"""Training and evaluation as a person runs them: a candidate where enough is new, its evidence, the challenger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.local.main_job import Home, states
from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.evidence_store import get_evidence
from trialops.settings import Settings
from trialops.stores.context import Step
from trialops.stores.registry import CANDIDATE, CHALLENGER, CHAMPION, Registered
from trialops.synthetic import generate

pytestmark = pytest.mark.slow

TASK = "withdrawal"
TRIALS = ("--set", "trials=4")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with validated data and features, trained once."""
    folder = tmp_path_factory.mktemp("trial")
    generate(folder / "out", subjects=260, sites=10, seed=4, formats=("sdtm",))
    home = Home(tmp_path_factory.mktemp("home"))
    for arguments in (("data_pipeline", "--source", str(folder / "out" / "sdtm")), ("model_training", *TRIALS)):
        done = home.trialops("run", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    return home


def stores(home: Home) -> Step:
    return Step("look", {}, Settings(home=home.path, run_id="look", actor="tester"))


def by_alias(home: Home, alias: str) -> Registered | None:
    return stores(home).registry.by_alias(TASK, alias)


def decision(home: Home, run_id: str, step: str) -> dict[str, Any]:
    return dict(json.loads((home.path / "runs" / run_id / "steps" / step / "record.json").read_text())["decision"])


def test_training_registers_a_candidate_with_its_evidence(home: Home) -> None:
    run = next(r for r in home.runs() if r["pipeline"] == "model_training")
    assert run["state"] == "succeeded"
    assert decision(home, run["run_id"], "training-due")["decision"] == "train"
    candidate = by_alias(home, CANDIDATE)
    assert candidate is not None and candidate.version == "1"
    assert by_alias(home, CHALLENGER) is None and by_alias(home, CHAMPION) is None
    training = get_evidence(stores(home), TASK, "1")["training"]
    assert training["digest"] == candidate.digest and len(training["search"]["trials"]) == 4
    assert training["selection"]["action"] == "register"
    roles = {item["role"] for item in training["data"]}
    assert roles == {"training", "validated", "features"}


def test_mlflow_holds_what_an_inspector_asks_for(home: Home) -> None:
    """Read back from the real store: parameters, metrics, curves, data, environment, signature, example."""
    from mlflow import MlflowClient
    from mlflow.models import Model

    uri = f"sqlite:///{home.path / 'mlflow.db'}"
    client, candidate = MlflowClient(tracking_uri=uri, registry_uri=uri), by_alias(home, CANDIDATE)
    assert candidate is not None
    run = client.get_run(candidate.mlflow_run_id)
    training = get_evidence(stores(home), TASK, "1")["training"]
    search = training["search"]
    bundle = Bundle.load(stores(home).registry.fetch(TASK, "1", home.path / "fetched"))
    assert run.data.params["kind"] == bundle.kind
    assert {name: run.data.params[name] for name in bundle.params} == {k: str(v) for k, v in bundle.params.items()}
    assert run.data.metrics["cv_log_loss"] == search["log_loss"]
    losses = client.get_metric_history(run.info.run_id, "trial_log_loss")
    assert {p.step: p.value for p in losses} == {row["number"]: row["log_loss"] for row in search["trials"]}
    assert search["curves"]
    for row in search["curves"]:
        points = client.get_metric_history(run.info.run_id, f"trial_{row['number']:03d}_log_loss")
        assert sorted([p.step, p.value] for p in points) == row["curve"]
    used = {item.dataset.name: json.loads(item.dataset.source)["sha256"] for item in run.inputs.dataset_inputs}
    assert used == {f"{item['table']}@{item['version']}": item["digest"] for item in training["data"]}
    assert any(name.startswith("training/withdrawal@") for name in used)

    lock = training["environment"]
    assert run.data.tags["environment.requirements"] == lock["requirements_digest"]
    assert run.data.tags["environment.uv_lock"] == lock["uv_lock"] and len(lock["uv_lock"]) == 64
    folder = Path(client.download_artifacts(run.info.run_id, "files"))
    assert (folder / "requirements.lock.txt").read_text().split("\n")[:-1] == lock["requirements"]
    assert (home.path / run.data.tags["lineage.step"]).is_file()

    version = client.get_model_version(TASK, "1")
    model = Model.load(client.get_model_version_download_uri(TASK, version.version) + "/artifacts/../MLmodel")
    assert model.signature.inputs.input_names() == list(bundle.features)
    assert model.saved_input_example_info is not None


def test_a_second_training_with_nothing_new_is_skipped(home: Home) -> None:
    done = home.trialops("run", "model_training", *TRIALS)
    assert done.returncode == 0, done.stdout + done.stderr
    run = home.run()
    assert run["state"] == "succeeded"
    found = states(run)
    assert found["skip-training"] == "ran" and found.get("search-model") not in ("ran", "reused")
    assert decision(home, run["run_id"], "training-due")["decision"] == "skip"
    assert [v.version for v in stores(home).registry.versions(TASK)] == ["1"]


def test_forced_training_on_the_same_data_gives_the_same_model(home: Home) -> None:
    before = by_alias(home, CANDIDATE)
    done = home.trialops("run", "model_training", "--no-cache", "--set", "force=true", *TRIALS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert states(home.run())["search-model"] == "ran"
    after = by_alias(home, CANDIDATE)
    assert before is not None and after is not None and after.digest == before.digest
    assert [v.version for v in stores(home).registry.versions(TASK)] == ["1"], "one model is one version"


def test_evaluation_judges_the_candidate_and_stores_the_evidence(home: Home) -> None:
    done = home.trialops("run", "model_evaluation")
    assert done.returncode == 0, done.stdout + done.stderr
    run = home.run()
    verdict = decision(home, run["run_id"], "conclude-evaluation")["decision"]
    candidate, challenger = by_alias(home, CANDIDATE), by_alias(home, CHALLENGER)
    assert candidate is not None
    assert (challenger == candidate) == (verdict != "not passed")
    evidence = get_evidence(stores(home), TASK, candidate.version)
    assert set(evidence) == {"training", "evaluation", "fairness", "comparison", "tripod"}
    assert evidence["evaluation"]["model"]["digest"] == candidate.digest
    held = evidence["training"]["search"]["split"]["held_out"]
    assert evidence["evaluation"]["model"]["n"] == held["subjects"]
    assert evidence["evaluation"]["against_baseline"]["net_benefit"]["method"].startswith("paired")
    dossier = home.output(run["run_id"], "conclude-evaluation", "dossier")
    card = (dossier / "tripod_ai.md").read_text()
    assert "| 23a |" in card and "not reported" in card and candidate.digest in card
    page = (home.path / "runs" / run["run_id"] / "index.html").read_text()
    for heading in ("TRIPOD+AI checklist", "Calibration", "Net benefit", "Over sites"):
        assert heading in page

    again = home.trialops("run", "model_evaluation", "--set", "version=1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert get_evidence(stores(home), TASK, candidate.version) == evidence, "judged again, found the same"


def test_an_unknown_version_is_refused(home: Home) -> None:
    done = home.trialops("run", "model_evaluation", "--set", "version=9")
    assert done.returncode != 0
    with pytest.raises(TrialOpsError):
        stores(home).registry.version(TASK, "9")
