"""Approval: the last word of each signer counts, an objection blocks, and nobody signs what cannot be shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.support.vaults import vault_in
from trialops.errors import TrialOpsError
from trialops.governance.approval import approvals_and_objections, shown
from trialops.governance.signatures import Signature, Signatures
from trialops.stores.objects import ObjectStore, open_store

KIND, TASK, DIGEST, OTHER = "model release", "withdrawal", "a" * 64, "b" * 64
PHRASES = {"ada": "correct horse battery", "ben": "difference engine no 2"}


@pytest.fixture
def signing(engine: Engine, tmp_path: Path) -> Signatures:
    signing = Signatures(engine, vault_in(tmp_path), cost=2**4)
    signing.enrol("ada", "Ada Lovelace", PHRASES["ada"])
    signing.enrol("ben", "Ben Ito", PHRASES["ben"], by="ada", by_passphrase=PHRASES["ada"])
    return signing


def sign(signing: Signatures, user: str, meaning: str, digest: str = DIGEST, record: str = TASK) -> Signature:
    return signing.sign(
        user=user, passphrase=PHRASES[user], meaning=meaning, kind=KIND, record=record, digest=digest, reason="read it"
    )


def test_nothing_signed(signing: Signatures) -> None:
    standing = approvals_and_objections(signing, KIND, TASK, DIGEST)
    assert standing == ((), ()) and not standing.approved


def test_an_objection_blocks_whoever_approves(signing: Signatures) -> None:
    yes, no = sign(signing, "ada", "approved"), sign(signing, "ben", "rejected")
    approvals, objections = standing = approvals_and_objections(signing, KIND, TASK, DIGEST)
    assert (approvals, objections) == ((yes,), (no,)) and not standing.approved
    again = sign(signing, "ada", "approved")
    assert approvals_and_objections(signing, KIND, TASK, DIGEST) == ((again,), (no,)), "one signer cannot outvote"
    withdrawn = sign(signing, "ben", "approved")
    standing = approvals_and_objections(signing, KIND, TASK, DIGEST)
    assert standing == ((again, withdrawn), ()) and standing.approved


def test_the_last_word_of_a_signer_counts(signing: Signatures) -> None:
    sign(signing, "ada", "approved")
    no = sign(signing, "ada", "rejected")
    sign(signing, "ada", "reviewed")
    assert approvals_and_objections(signing, KIND, TASK, DIGEST) == ((), (no,))


@pytest.mark.parametrize("change", [{"digest": OTHER}, {"record": "another task"}, {"meaning": "witnessed"}], ids=str)
def test_other_evidence_and_meanings_do_not_count(signing: Signatures, change: dict[str, str]) -> None:
    sign(signing, "ada", **{"meaning": "approved", **change})
    sign(signing, "ben", **{"meaning": "rejected", **change})
    assert approvals_and_objections(signing, KIND, TASK, DIGEST) == ((), ())


def test_a_signature_that_does_not_hold_says_nothing(signing: Signatures, monkeypatch: pytest.MonkeyPatch) -> None:
    yes = sign(signing, "ada", "approved")
    forged = replace(yes, id="forged", meaning="rejected")
    monkeypatch.setattr(signing, "of", lambda kind, record: [yes, forged])
    assert approvals_and_objections(signing, KIND, TASK, DIGEST) == ((yes,), ())


# -- what is shown --------------------


def records() -> dict[str, dict[str, Any]]:
    """A decision that waits, with an evaluation made by an earlier run."""
    return {
        "runs/r2/steps/compare/record.json": {
            "parameters": {"task": TASK, "champion": "none"},
            "inputs": [
                {"artifact": "model", "digest": "c" * 64, "record": "runs/r1/steps/search-model/record.json"},
                {"artifact": "evaluation", "digest": "", "record": "runs/r1/steps/evaluate-model/record.json"},
                {"artifact": "fairness", "digest": "", "record": "runs/r1/steps/assess-fairness/record.json"},
            ],
            "decision": {
                "decision": "hold",
                "numbers": {
                    "auroc": 0.7,
                    "auroc_baseline": 0.6,
                    "difference": 0.1,
                    "difference_low": 0.02,
                    "difference_high": 0.18,
                    "not_met": "fair",
                    "to_sign": DIGEST,
                    "waits_for_signature": True,
                },
            },
        },
        "runs/r1/steps/evaluate-model/record.json": {
            "metrics": {"auroc": 0.7, "auroc_low": 0.61, "auroc_high": 0.79},
        },
        "runs/r1/steps/assess-fairness/record.json": {
            "decision": {"decision": "insufficient evidence", "numbers": {"race": "too few", "sex": "pass: small gap"}},
        },
    }


def kept(folder: Path, content: dict[str, dict[str, Any]]) -> ObjectStore:
    objects = open_store(str(folder))
    for key, record in content.items():
        objects.put(key, json.dumps(record).encode())
    return objects


def test_shown_is_what_the_records_say(tmp_path: Path) -> None:
    found = shown(kept(tmp_path, records()), "r2", "compare")
    assert found.digest == DIGEST and found.not_met == ("fair",)
    text = found.as_text()
    for fact in (
        "Task:           withdrawal",
        f"Model, SHA-256: {'c' * 64}",
        "AUROC:          0.700 (95 % CI 0.610 to 0.790)",
        "Difference:     0.100 (95 % CI 0.020 to 0.180) to the baseline",
        "Fairness:       insufficient evidence",
        "                race: too few",
        "Rules not met:  fair",
        "runs/r2/index.html",
    ):
        assert fact in text


@pytest.mark.parametrize("lost", ["evaluation record", "figure", "decision"])
def test_what_cannot_be_shown_cannot_be_signed(tmp_path: Path, lost: str) -> None:
    content = records()
    if lost == "evaluation record":
        del content["runs/r1/steps/evaluate-model/record.json"]
    elif lost == "figure":
        del content["runs/r1/steps/evaluate-model/record.json"]["metrics"]["auroc_low"]
    else:
        content["runs/r2/steps/compare/record.json"]["decision"] = None
    with pytest.raises(TrialOpsError, match="cannot be shown"):
        shown(kept(tmp_path, content), "r2", "compare")
