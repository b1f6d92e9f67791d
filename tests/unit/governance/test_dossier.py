"""The release dossier: what is in it, and that its digests hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.clean_trial import make_trial
from tests.support.homes import artifact, leave, live_in
from tests.support.release_evidence import judged
from trialops.governance.approval import APPROVED
from trialops.governance.audit import AuditTrail
from trialops.governance.dossier import FILES, Dossier, Evidence, write_dossier
from trialops.governance.signatures import Signatures
from trialops.models.comparison import compare, decide
from trialops.models.policy import load_promotion_policy
from trialops.models.release import RECORD_KIND, decide_release
from trialops.settings import settings
from trialops.stores import step
from trialops.stores.context import Step

PASSPHRASE = "correct horse battery"
RELEASE = {"model": "withdrawal", "version": "7", "champion": "none", "champion_digest": "", "reason": "cannot tell"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch, "run-0")
    leave()


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return make_trial(30, seed=5)


def release_document(run: Step) -> dict[str, Any]:
    """The decision as the comparing step writes it."""
    evidence = judged()
    return decide_release(
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


def written(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    tables: Mapping[str, pl.DataFrame],
    *,
    state: str = "held",
    comparison: Mapping[str, Any] | None = None,
) -> Dossier:
    """A training set made in one run, the dossier of a later one."""
    training = artifact(home, "training", "run-0")
    live_in(home, monkeypatch, "run-0")
    with step("build-training-set", task="withdrawal") as run:
        run.write_table(training, judged().rows, table="training/withdrawal")
    live_in(home, monkeypatch, "run-1")
    decided = artifact(home, "comparison", "run-1")
    with step("compare-with-champion", task="withdrawal") as run:
        run.reference(training)
        run.write_json(decided, comparison or release_document(run))
        run.decide("hold", numbers={"auroc": 0.9}, policy="promotion")
    with step("release-dossier", task="withdrawal") as run:
        evidence = Evidence(
            task="withdrawal",
            tables=tables,
            training=run.reference(training),
            model=judged().model.save(home / "bundle"),
            search=judged().search,
            evaluation=judged().evaluation,
            fairness=judged().fairness,
            comparison=run.read_json(decided),
            release={**RELEASE, "state": state},
        )
        return write_dossier(run, evidence)


def test_every_file_is_listed_with_its_digest(
    home: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, pl.DataFrame]
) -> None:
    dossier = written(home, monkeypatch, tables)
    listed = (dossier.folder / "contents.json").read_bytes()
    contents = json.loads(listed)
    files = {p.relative_to(dossier.folder).as_posix(): p for p in dossier.folder.rglob("*") if p.is_file()}
    assert set(files) == set(contents) | {"contents.json"}
    assert contents == {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in contents}
    assert contents == dict(dossier.contents)
    assert dossier.digest == hashlib.sha256(listed).hexdigest()
    assert set(FILES) - {"canary.json"} | {"index.html", "model/bundle.json"} <= set(contents)


def test_the_trail_holds_the_digest_of_the_dossier(
    home: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, pl.DataFrame]
) -> None:
    from trialops.stores.database import connect

    dossier = written(home, monkeypatch, tables)
    trail = AuditTrail(connect(settings().database))
    event = next(event for event in trail.events() if event.action == "dossier.write")
    assert (event.object, event.version, event.run_id) == ("withdrawal", dossier.digest, "run-1")
    assert event.reason == "release held" and trail.verify().ok


def test_documents_lead_back_over_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, pl.DataFrame]
) -> None:
    folder = written(home, monkeypatch, tables).folder
    document = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    steps = [(part["run_id"], part["step"]) for part in document["lineage"]["steps"]]
    assert steps == [("run-0", "build-training-set"), ("run-1", "compare-with-champion")]
    assert {edge["tables"] for edge in document["lineage"]["edges"]} == {"training/withdrawal@0", ""}
    digests = document["data_digests"]
    assert [(part["table"], part["version"], part["rows"]) for part in digests] == [("training/withdrawal", 0, 300)]
    audit = document["audit_extract"]
    assert audit["enabled"] and audit["verified"] and audit["checked"] == len(audit["events"])
    assert {event["run_id"] for event in audit["events"]} == {"run-0", "run-1"}
    assert [event["seq"] for event in audit["events"]] == list(range(1, audit["checked"] + 1))
    assert document["evaluation"] == judged().evaluation and document["fairness"] == judged().fairness
    assert document["search"] == judged().search
    assert document["trial"]["subjects"] == 30 and document["environment"]["packages"]["polars"] == pl.__version__
    card = (folder / "model_card.md").read_text()
    assert judged().model.digest in card and str(judged().evaluated.auroc) in card


def test_dossier_names_no_subject(home: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, pl.DataFrame]) -> None:
    dossier = written(home, monkeypatch, tables)
    subjects = {*judged().rows["subject_id"], *tables["DM"]["USUBJID"]}
    for path in dossier.folder.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not [subject for subject in subjects if f'"{subject}"' in text or f">{subject}<" in text], path.name


def test_approval_without_signature_says_what_it_waits_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, pl.DataFrame]
) -> None:
    dossier = written(home, monkeypatch, tables)
    text = (dossier.folder / "approval.md").read_text()
    decision = json.loads((dossier.folder / "decision.json").read_text())
    assert "withdrawal version 7" in text and "State: **held**. cannot tell" in text
    assert f"`{decision['to_sign']}`" in text and load_promotion_policy().digest in text
    assert "No person has signed this evidence." in text
    assert dossier.page.verdict is not None and (dossier.page.verdict.label, dossier.page.verdict.tone) == (
        "Held",
        "warn",
    )


def test_approval_names_every_signer_with_time_and_meaning(
    home: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, pl.DataFrame]
) -> None:
    with step("prepare") as run:
        digest = release_document(run)["to_sign"]
        signing = Signatures(run.engine, run.vault, cost=2**4)
        made = []
        for user, name in (("alovelace", "Ada Lovelace"), ("cbabbage", "Charles Babbage")):
            signing.enrol(user, name, PASSPHRASE, by=made[0].user_id if made else "", by_passphrase=PASSPHRASE)
            signed = {"meaning": APPROVED, "kind": RECORD_KIND, "record": "withdrawal", "digest": digest}
            made.append(signing.sign(user=user, passphrase=PASSPHRASE, **signed))
        document = release_document(run)
    dossier = written(home, monkeypatch, tables, state="promoted", comparison=document)
    text = (dossier.folder / "approval.md").read_text()
    for signature in made:
        line = next(line for line in text.splitlines() if signature.printed_name in line)
        assert line == (
            f"- {signature.printed_name} ({signature.user_id}), {signature.at}, meaning: approved; "
            f"signature {signature.id}, audit record {signature.audit_seq}"
        )
    assert "No person has signed" not in text and PASSPHRASE not in text
    assert "Decision of policy promotion" in text and text.rstrip().count("\n- ") == 2
    assert dossier.page.verdict is not None and dossier.page.verdict.tone == "good"


def test_written_again_it_keeps_nothing_of_an_earlier_attempt(
    home: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, pl.DataFrame]
) -> None:
    first = written(home, monkeypatch, tables)
    (first.folder / "half.json").write_text("{")
    second = written(home, monkeypatch, tables)
    assert second.folder == first.folder and set(second.contents) == set(first.contents)
    same = {name for name in first.contents if first.contents[name] == second.contents[name]}
    # The trail has grown, and the records hold times; everything that was found is byte for byte the same.
    assert set(first.contents) - same <= {"audit_extract.json", "lineage.json"}


def test_without_a_trail_the_extract_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, pl.DataFrame]
) -> None:
    monkeypatch.setenv("HIPAA_COMPLIANCE_MODE", "off")
    monkeypatch.setenv("AUDIT_LOG_ENABLED", "false")
    evidence = judged()
    against = compare(evidence.model, evidence.weak, evidence.rows, role="baseline")
    decision = decide(evidence.evaluated, against, evidence.audited, load_promotion_policy())
    document = {
        "comparison": against.as_dict(),
        "decision": {**decision.as_dict(), "by_policy": decision.action},
        "to_sign": "d" * 64,
        "approvals": [],
        "objections": [],
        "training": evidence.training.digest,
    }
    dossier = written(home, monkeypatch, tables, comparison=document)
    extract = json.loads((dossier.folder / "audit_extract.json").read_text())
    assert extract == {"enabled": False, "events": []}
