"""The approver sees what is signed before the passphrase is asked for, may reject, and leaves an anchored trail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipelines import cli, cli_release
from tests.support.homes import leave, live_in
from tests.unit.governance.test_approval import DIGEST, TASK, kept, records
from trialops.governance.anchors import stored_anchors
from trialops.governance.approval import approvals_and_objections
from trialops.models.release import DECIDING_STEP, RECORD_KIND
from trialops.stores.objects import open_store

PHRASE = "correct horse battery"
REASON = ("--reason", "gaps are small and the groups too few")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    live_in(tmp_path, monkeypatch)
    content = records()
    content[f"runs/r2/steps/{DECIDING_STEP}/record.json"] = content.pop("runs/r2/steps/compare/record.json")
    kept(tmp_path, content)
    cli_release.signatures().enrol("ada", "Ada Lovelace", PHRASE)
    yield tmp_path
    leave()


@pytest.fixture
def approve(home: Path) -> Callable[..., Result]:
    def run(*arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(cli.cli, ["approve", "r2", "--user", "ada", *REASON, *arguments], input=typed)

    return run


@pytest.mark.parametrize("reject", [False, True])
def test_shown_then_signed_then_anchored(approve: Callable[..., Result], home: Path, reject: bool) -> None:
    signed = approve(*(["--reject"] if reject else []), typed=f"{PHRASE}\n")
    assert signed.exit_code == 0, signed.output
    places = [
        signed.output.index(text)
        for text in ("AUROC:", "Rules not met:  fair", "reject this" if reject else "approve this", "Passphrase of ada")
    ]
    assert places == sorted(places) and PHRASE not in signed.output
    assert f"Meaning:    {'rejected' if reject else 'approved'}" in signed.output
    signing = cli_release.signatures()
    approvals, objections = approvals_and_objections(signing, RECORD_KIND, TASK, DIGEST)
    assert (len(approvals), len(objections)) == ((0, 1) if reject else (1, 0))
    assert [anchor.seq for anchor in stored_anchors(open_store(str(home)))] == [signing.trail.head()[0]]


def test_evidence_that_cannot_be_shown_is_not_signed(approve: Callable[..., Result], home: Path) -> None:
    record = home / "runs" / "r1" / "steps" / "assess-fairness" / "record.json"
    record.write_text(json.dumps({"decision": None}))
    refused = approve("--passphrase", PHRASE)
    assert refused.exit_code == 2 and "cannot be shown" in refused.stderr
    assert cli_release.signatures().of(RECORD_KIND, TASK) == []


def test_decision_that_does_not_wait_is_not_signed(approve: Callable[..., Result], home: Path) -> None:
    path = home / "runs" / "r2" / "steps" / DECIDING_STEP / "record.json"
    path.write_text(path.read_text().replace('"waits_for_signature": true', '"waits_for_signature": false'))
    refused = approve("--passphrase", PHRASE)
    assert refused.exit_code == 2 and "does not wait" in refused.stderr
