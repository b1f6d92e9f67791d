"""Decide, sign, register, conclude: on a real registry, database and vault."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.homes import leave, live_in
from tests.support.release_evidence import bundle, judged
from trialops.errors import TrialOpsError
from trialops.governance.approval import APPROVED
from trialops.governance.signatures import Signature, Signatures
from trialops.models.bundle import Bundle
from trialops.models.release import (
    DECIDING_STEP,
    RECORD_KIND,
    Release,
    champion_bundle,
    champion_folder,
    conclude,
    decide_release,
    evidence_to_sign,
    register,
)
from trialops.settings import settings
from trialops.stores import step
from trialops.stores.context import Step
from trialops.stores.refs import Snapshot, TableRef
from trialops.stores.registry import CHALLENGER, CHAMPION, ModelRegistry, Registered

TASK = "withdrawal"
PASSPHRASE = "correct horse battery"


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
    yield Step(DECIDING_STEP, {"task": TASK}, settings())
    leave()


def in_run(run: Step, run_id: str) -> Step:
    """The same stores, another run."""
    return Step(run.name, run.parameters, run.settings.model_copy(update={"run_id": run_id}))


def decided(run: Step, **change: Any) -> Release:
    evidence = judged()
    facts = {
        "model": evidence.model,
        "other": evidence.weak,
        "training": evidence.training,
        "evaluation": evidence.evaluation,
        "fairness": evidence.fairness,
        "champion": "none",
    } | change
    return decide_release(run, evidence.task, evidence.rows, facts.pop("model"), facts.pop("other"), **facts)


@pytest.fixture
def signing(run: Step) -> Signatures:
    signing = Signatures(run.engine, run.vault, cost=2**4)
    signing.enrol("alovelace", "Ada Lovelace", PASSPHRASE)
    return signing


def sign(signing: Signatures, digest: str, **change: str) -> Signature:
    fields = {
        "user": "alovelace",
        "passphrase": PASSPHRASE,
        "meaning": APPROVED,
        "kind": RECORD_KIND,
        "record": TASK,
        "digest": digest,
    }
    return signing.sign(**(fields | change))


# -- the decision --------------------------------------------------------------------------------------------------


def test_without_signature_it_waits(run: Step) -> None:
    release = decided(run)
    assert [reason.rule for reason in release.decision.reasons if not reason.met] == ["fair"]
    assert (release.action, release.decision.action, release.waits, release.approvals) == ("hold", "hold", True, ())
    assert release.numbers()["waits_for_signature"] and release.numbers()["not_met"] == "fair"
    assert release.comparison.role == "baseline"


def test_approving_signature_on_this_evidence_promotes(run: Step, signing: Signatures) -> None:
    signature = sign(signing, decided(run).to_sign, reason="criteria met")
    release = decided(run)
    assert (release.action, release.decision.action, release.waits) == ("promote", "hold", False)
    assert [approval["id"] for approval in release.approvals] == [signature.id]
    document = release.as_dict()
    assert document["decision"]["action"] == "promote" and document["decision"]["by_policy"] == "hold"
    assert document["approvals"][0]["printed_name"] == "Ada Lovelace"
    assert "signature" not in document["approvals"][0]


@pytest.mark.parametrize("wrong", ["evidence", "meaning", "task", "kind"])
def test_any_other_signature_changes_nothing(run: Step, signing: Signatures, wrong: str) -> None:
    digest = decided(run).to_sign
    change = {
        "evidence": {"digest": "b" * 64},
        "meaning": {"meaning": "reviewed"},
        "task": {"record": "another-task"},
        "kind": {"kind": "protocol"},
    }[wrong]
    sign(signing, change.pop("digest", digest), **change)
    release = decided(run)
    assert (release.action, release.waits, release.approvals) == ("hold", True, ())


def test_forged_row_is_no_signature(run: Step, signing: Signatures) -> None:
    from trialops.stores.tables import signatures

    sign(signing, "b" * 64)
    with run.engine.begin() as connection:
        row = dict(connection.execute(sa.select(signatures)).one()._mapping)
        connection.execute(signatures.insert().values(**(row | {"id": "forged", "digest": decided(run).to_sign})))
    release = decided(run)
    assert (release.action, release.approvals) == ("hold", ())


@pytest.mark.parametrize("part", ["model", "evaluation", "fairness", "comparison"])
def test_what_is_signed_covers_every_part(run: Step, part: str) -> None:
    evidence = judged()
    before = decided(run).to_sign
    assert decided(run).to_sign == before, "the same evidence gives the same digest in every run"
    noted = replace(evidence.model, notes=("another note",))
    evaluation, fairness = evidence.documents_of(noted)
    change: dict[str, Any] = {
        "model": {"model": noted, "evaluation": evaluation, "fairness": fairness},
        "evaluation": {"evaluation": {**evidence.evaluation, "note": "x"}},
        "fairness": {"fairness": {**evidence.fairness, "policy": "x"}},
        "comparison": {"other": bundle(evidence.task, -0.3)},
    }[part]
    assert decided(run, **change).to_sign != before


def test_signature_does_not_overrule_another_rule(run: Step, signing: Signatures) -> None:
    poor = judged().evaluation["baseline"]
    evaluation = {**judged().evaluation, "model": {**poor, "digest": judged().model.digest}}
    digest = decided(run, evaluation=evaluation).to_sign
    sign(signing, digest)
    release = decided(run, evaluation=evaluation)
    assert {"fair"} < {reason.rule for reason in release.decision.reasons if not reason.met}
    assert release.action == release.decision.action == "reject"
    assert len(release.approvals) == 1 and not release.waits


def test_fair_model_needs_no_signature_and_unfair_one_gets_none(run: Step, signing: Signatures) -> None:
    passed = {**judged().fairness, "verdict": "pass"}
    release = decided(run, fairness=passed)
    assert (release.action, release.waits, release.approvals) == ("promote", False, ())
    failed = {**judged().fairness, "verdict": "fail"}
    sign(signing, decided(run, fairness=failed).to_sign)
    assert decided(run, fairness=failed).action == "reject"


def test_rejecting_signature_keeps_the_model_out_whatever_others_sign(run: Step, signing: Signatures) -> None:
    digest = decided(run).to_sign
    sign(signing, digest)
    sign(signing, digest, meaning="rejected")
    release = decided(run)
    assert (release.action, release.waits) == ("hold", False)
    assert (len(release.approvals), len(release.objections)) == (0, 1), "the last word of a signer counts"
    fair = {**judged().fairness, "verdict": "pass"}
    sign(signing, decided(run, fairness=fair).to_sign, meaning="rejected")
    release = decided(run, fairness=fair)
    assert (release.decision.action, release.action) == ("promote", "hold")


@pytest.mark.parametrize("wrong", ["model", "training set", "unnamed"])
def test_evidence_of_another_model_or_training_set_is_refused(run: Step, wrong: str) -> None:
    other = Snapshot({"rows": TableRef("training/withdrawal", 1, 300, "b" * 64)})
    change: dict[str, Any] = {
        "model": {"model": replace(judged().model, notes=("another",))},
        "training set": {"training": other},
        "unnamed": {"fairness": {k: v for k, v in judged().fairness.items() if k != "training"}},
    }[wrong]
    with pytest.raises(TrialOpsError, match="belongs to another"):
        decided(run, **change)


def test_evidence_to_sign_is_found_only_where_a_decision_waits(run: Step) -> None:
    with pytest.raises(TrialOpsError, match="no release decision of its own"):
        evidence_to_sign(run.objects, "run-1")
    with step(DECIDING_STEP, task=TASK) as deciding:
        release = decided(deciding)
        deciding.decide(release.action, numbers=release.numbers(), policy=release.policy())
    assert evidence_to_sign(run.objects, "run-1") == (TASK, release.to_sign)
    with step(DECIDING_STEP, task=TASK) as deciding:
        release = decided(deciding, fairness={**judged().fairness, "verdict": "pass"})
        deciding.decide(release.action, numbers=release.numbers(), policy=release.policy())
    with pytest.raises(TrialOpsError, match="does not wait"):
        evidence_to_sign(run.objects, "run-1")


# -- the registry --------------------------------------------------------------------------------------------------


def registered(run: Step, tmp_path: Path, weight: float = 1.2) -> Registered:
    evidence = judged()
    model = bundle(evidence.task, weight)
    evaluation, fairness = evidence.documents_of(model)
    return register(
        run,
        TASK,
        model.save(tmp_path / "bundles" / str(weight)),
        evidence.weak.save(tmp_path / "bundles" / "baseline"),
        training=evidence.training,
        search={**evidence.search, "digest": model.digest},
        evaluation=evaluation,
        fairness=fairness,
        comparison={
            "decision": {"action": "hold", "model_digest": model.digest, "reasons": []},
            "objections": [],
            "training": evidence.training.digest,
        },
    )


def test_one_model_is_one_version_however_often_it_is_registered(run: Step, tmp_path: Path) -> None:
    first = registered(run, tmp_path)
    assert (first.version, first.digest) == ("1", judged().model.digest)
    assert registered(run, tmp_path) == first
    assert registered(in_run(run, "run-2"), tmp_path).version == "1"
    assert registered(run, tmp_path, weight=1.1).version == "2"
    found = run.registry._client.get_run(first.mlflow_run_id).data
    assert found.metrics["auroc"] == pytest.approx(judged().evaluated.auroc.value)
    assert (
        found.tags["training_digest"] == judged().training.digest and found.tags["fairness"] == "insufficient evidence"
    )
    # What KServe is told to load is there, for the second version too.
    for name in run.objects.list(f"models/{TASK}/1/bundle"):
        target = tmp_path / "from_store" / name.rpartition("/")[2]
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(run.objects.get(name))
    assert Bundle.load(tmp_path / "from_store").digest == first.digest
    assert list(run.objects.list(f"models/{TASK}/2/bundle"))


def test_champion_is_fetched_and_must_be_the_one_the_run_started_with(run: Step, tmp_path: Path) -> None:
    assert champion_folder(run, TASK, "none") is None and champion_bundle(run, TASK, "none") is None
    first = registered(run, tmp_path)
    folder = champion_folder(run, TASK, f"{first.version}:{first.digest}")
    assert folder is not None and Bundle.load(folder).digest == first.digest
    found = champion_bundle(run, TASK, f"{first.version}:{first.digest}")
    assert found is not None and found.coefficients == judged().model.coefficients
    second = registered(run, tmp_path, weight=1.1)
    with pytest.raises(TrialOpsError, match="not the one the run started with") as caught:
        champion_folder(run, TASK, f"{second.version}:{first.digest}")
    assert caught.value.where == "model withdrawal, version 2" and "new run" in caught.value.fix
    with pytest.raises(TrialOpsError):
        champion_folder(run, TASK, f"9:{first.digest}")


def test_damaged_champion_is_not_handed_out(run: Step, tmp_path: Path) -> None:
    first = registered(run, tmp_path)
    for stored in (tmp_path / "models").rglob("bundle.json"):
        stored.write_text(stored.read_text().replace('"intercept": -0.9', '"intercept": 0.9'))
    with pytest.raises(TrialOpsError):
        champion_folder(run, TASK, f"{first.version}:{first.digest}")


# -- the conclusion ------------------------------------------------------------------------------------------------

MET = {"rule": "fair", "met": True, "text": "fair enough"}
NOT_MET = {"rule": "fair", "met": False, "text": "groups too small to tell"}


def comparison(*reasons: dict[str, Any], champion: Registered | None = None, by: str = "") -> dict[str, Any]:
    """The part of a comparison that a conclusion reads."""
    return {
        "decision": {"action": "x", "reasons": list(reasons)},
        "champion": f"{champion.version}:{champion.digest}" if champion else "none",
        "objections": [{"printed_name": by}] if by else [],
    }


@pytest.mark.parametrize(
    ("outcome", "reasons", "state", "reason", "champion"),
    [
        ("promote", (MET,), "promoted", "every rule met and the canary passed", "2"),
        ("promote", (MET, NOT_MET), "promoted", "approved by signature; the canary passed", "2"),
        ("rollback", (MET,), "rolled back", "the canary failed", "1"),
        ("hold", (NOT_MET,), "held", "groups too small to tell", "1"),
        ("reject", (NOT_MET,), "rejected", "groups too small to tell", "1"),
        ("unchanged", (MET,), "unchanged", "the model in use stays", "1"),
    ],
)
def test_every_outcome_twice(
    run: Step,
    tmp_path: Path,
    outcome: str,
    reasons: tuple[dict[str, Any], ...],
    state: str,
    reason: str,
    champion: str,
) -> None:
    first, second = registered(run, tmp_path), registered(run, tmp_path, weight=1.1)
    conclude(in_run(run, "run-0"), TASK, first.version, "promote", comparison(MET))
    run.registry.set_alias(TASK, CHALLENGER, second.version)
    decision = comparison(*reasons, champion=first)
    released = conclude(run, TASK, second.version, outcome, decision)
    assert released == {
        "state": state,
        "model": TASK,
        "version": "2",
        "champion": champion,
        "champion_digest": (second if champion == "2" else first).digest,
        "reason": reason,
    }
    assert conclude(run, TASK, second.version, outcome, decision) == released
    told = run.registry.history(TASK, run.engine)[1:]
    assert [(entry.action, entry.version, entry.to_version) for entry in told] == [(outcome, "2", champion)]
    assert told[0].confirmed and told[0].reason == reason and told[0].actor == "tester"
    assert run.registry.by_alias(TASK, CHALLENGER) is None, "a model decided on is not under test any more"


def test_model_is_promoted_only_over_the_one_it_was_compared_with(run: Step, tmp_path: Path) -> None:
    first, second, third = (registered(run, tmp_path, weight=weight) for weight in (1.2, 1.1, 1.0))
    conclude(in_run(run, "run-0"), TASK, first.version, "promote", comparison(MET))
    conclude(in_run(run, "run-00"), TASK, second.version, "promote", comparison(MET, champion=first))
    for compared_with in (first, None):
        with pytest.raises(TrialOpsError, match="version 2 is the champion now") as caught:
            conclude(run, TASK, third.version, "promote", comparison(MET, champion=compared_with))
        assert caught.value.where == "model withdrawal" and "new run" in caught.value.fix
    assert len(run.registry.history(TASK, run.engine)) == 2
    assert conclude(run, TASK, third.version, "hold", comparison(NOT_MET, champion=first))["champion"] == "2"


def test_unknown_outcome_and_objection(run: Step, tmp_path: Path) -> None:
    first = registered(run, tmp_path)
    with pytest.raises(TrialOpsError, match="not an outcome"):
        conclude(run, TASK, first.version, "perhaps", comparison(MET))
    held = conclude(run, TASK, first.version, "hold", comparison(NOT_MET, by="Ada Lovelace"))
    assert held["reason"] == "rejected by signature of Ada Lovelace; groups too small to tell"


def test_first_release_and_first_hold_without_a_champion(run: Step, tmp_path: Path) -> None:
    first = registered(run, tmp_path)
    held = conclude(in_run(run, "run-0"), TASK, first.version, "hold", comparison(NOT_MET))
    assert (held["state"], held["champion"], held["champion_digest"]) == ("held", "none", "")
    rolled = conclude(in_run(run, "run-00"), TASK, first.version, "rollback", comparison(MET))
    assert (rolled["state"], rolled["champion"]) == ("rolled back", "none")
    assert conclude(run, TASK, first.version, "promote", comparison(MET))["champion"] == "1"


def test_a_run_decides_once(run: Step, tmp_path: Path) -> None:
    first = registered(run, tmp_path)
    conclude(run, TASK, first.version, "hold", comparison(NOT_MET))
    with pytest.raises(TrialOpsError, match="has already decided to hold version 1"):
        conclude(run, TASK, first.version, "promote", comparison(MET))
    assert run.registry.by_alias(TASK, CHAMPION) is None


def test_old_run_cannot_take_the_alias_back(run: Step, tmp_path: Path) -> None:
    first, second = registered(run, tmp_path), registered(run, tmp_path, weight=1.1)
    conclude(in_run(run, "run-1"), TASK, first.version, "promote", comparison(MET))
    conclude(in_run(run, "run-2"), TASK, second.version, "promote", comparison(MET, champion=first))
    late = conclude(in_run(run, "run-1"), TASK, first.version, "promote", comparison(MET))
    assert late["champion"] == "2"
