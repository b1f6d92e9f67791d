"""Evidence of a registered version: stored, replaced, read back, refused when it is not that."""

from __future__ import annotations

from pathlib import Path

import pytest

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.evidence_store import (
    evidence_index,
    evidence_key,
    get_baseline,
    get_evidence,
    put_baseline,
    put_evidence,
)
from trialops.settings import Settings
from trialops.stores.context import Step


@pytest.fixture
def run(tmp_path: Path) -> Step:
    return Step("store-evidence", {}, Settings(home=tmp_path, run_id="r1", actor="tester"))


@pytest.fixture
def bundle(run: Step, tmp_path: Path) -> Bundle:
    """A registered model, version 1."""
    made = Bundle("m", "logistic", ("age",), 0.5, {}, {"sites": []}, "", {}, {"age": 0.0}, (0.0,), (1.0,), (1.0,))
    run.registry.log(made.save(tmp_path / "bundle"), name="m", run_id="r1", requirements=["numpy"])
    return made


def test_what_is_put_is_read_back_and_history_is_kept(run: Step, bundle: Bundle) -> None:
    assert get_evidence(run, "m", "1") == {}
    first = {"model": {"digest": bundle.digest}, "training": "t1"}
    put_evidence(run, "m", "1", {"evaluation": first, "training": {"digest": bundle.digest, "rows": 3}})
    second = {**first, "training": "t2"}
    stored = put_evidence(run, "m", "1", {"evaluation": second})
    assert set(stored) == {"evaluation", "training"}
    assert get_evidence(run, "m", "1") == {"evaluation": second, "training": {"digest": bundle.digest, "rows": 3}}
    history = [key for key in run.objects.list("models/m/1/evidence/history") if "/evaluation-" in key]
    assert len(history) == 2
    assert evidence_index(run, "m", "1")["evaluation"]["run_id"] == "r1"
    assert [event.action for event in run.trail.events()].count("model.evidence") == 2


def test_evidence_of_another_model_is_refused(run: Step, bundle: Bundle) -> None:
    for name, content in (
        ("evaluation", {"model": {"digest": "f" * 64}}),
        ("fairness", {"digest": "f" * 64}),
        ("comparison", {"decision": {"model_digest": "f" * 64}}),
        ("training", {"digest": "f" * 64}),
    ):
        with pytest.raises(TrialOpsError, match="another model"):
            put_evidence(run, "m", "1", {name: content})
    with pytest.raises(TrialOpsError, match="no evidence"):
        put_evidence(run, "m", "1", {"gossip": {}})
    assert get_evidence(run, "m", "1") == {}


def test_a_changed_document_is_noticed(run: Step, bundle: Bundle) -> None:
    put_evidence(run, "m", "1", {"fairness": {"digest": bundle.digest, "verdict": "fail"}})
    run.objects.put(evidence_key("m", "1", "fairness"), b'{"verdict": "pass"}')
    assert get_evidence(run, "m", "1")["fairness"]["verdict"] == "fail", "the history still holds the stored one"
    for key in list(run.objects.list("models/m/1/evidence/history")):
        run.objects.delete(key)
    with pytest.raises(TrialOpsError, match="not what was stored"):
        get_evidence(run, "m", "1")


def test_the_baseline_is_kept_beside_the_version(run: Step, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="No prespecified model"):
        get_baseline(run, "m", "1", tmp_path / "back")
    put_baseline(run, "m", "1", bundle.save(tmp_path / "base"))
    assert Bundle.load(get_baseline(run, "m", "1", tmp_path / "back")).digest == bundle.digest
