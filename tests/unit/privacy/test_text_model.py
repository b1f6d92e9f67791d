"""The named-entity model that comes with the package: its digest, its size, what it finds, how it is trained."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from trialops.errors import TrialOpsError
from trialops.privacy import text_model, train_text_model
from trialops.privacy.text_model import CARD, FOLDER, LABELS, WEIGHTS, find_model, load
from trialops.synthetic.clinical_text import Labelled, Writer


def test_the_card_describes_the_weights() -> None:
    card = json.loads((FOLDER / CARD).read_text())
    packed = (FOLDER / WEIGHTS).read_bytes()
    assert card["sha256"] == sha256(packed).hexdigest()
    assert card["bytes"] == len(packed) < 6_000_000
    assert card["labels"] == list(LABELS)
    assert {"command", "trained_on", "kept_back", "threshold", "limits", "intended_use"} <= set(card)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "models")
    weights = tmp_path / "models" / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(TrialOpsError, match="not the one its card describes"):
        load(tmp_path / "models")


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="not there"):
        load(tmp_path)


def test_names_without_any_announcement_are_found() -> None:
    texts = [
        "Agnieszka Wrzosek tolerated the second infusion well.",
        "It was Mirjana who noticed the rash.",
        "no names here",
    ]
    found = find_model(texts)
    assert any(s.kind == "NAME" and "Wrzosek" in texts[0][s.start : s.end] for s in found[0])
    assert any("Mirjana" in texts[1][s.start : s.end] for s in found[1])
    assert found[2] == []


def test_a_text_gives_the_same_spans_alone_and_among_others() -> None:
    texts = [note.text for note in Writer(9, "judging").documents(60)]
    together = find_model(texts)
    assert [find_model([t])[0] for t in texts[:20]] == together[:20]
    assert find_model([]) == [] and find_model([""]) == [[]]


@pytest.mark.slow
def test_recall_and_precision_on_sentences_kept_back_are_those_of_the_card() -> None:
    model = load()
    result = train_text_model.judge(model, list(Writer(train_text_model.SEED, "judging").documents(600)))
    assert abs(result["all"]["recall"] - model.card["kept_back"]["all"]["recall"]) < 0.02
    assert result["all"]["recall"] > 0.93
    assert result["all"]["precision"] > 0.85


@pytest.mark.slow
def test_training_is_reproducible_and_learns(tmp_path: Path) -> None:
    one = train_text_model.train(480, 5, log=False)
    two = train_text_model.train(480, 5, log=False)
    assert train_text_model.write(one, tmp_path / "a", {}) == train_text_model.write(two, tmp_path / "b", {})
    notes = list(Writer(6, "training").documents(200))
    untrained = train_text_model.train(0, 5, log=False)
    assert train_text_model.judge(one, notes)["all"]["exact"] > 0.5
    assert (
        train_text_model.judge(one, notes)["all"]["precision"]
        > train_text_model.judge(untrained, notes)["all"]["precision"]
    )
    assert load(tmp_path / "a").threshold == one.threshold


def test_labels_follow_the_spans() -> None:
    doc = text_model.blank().make_doc("Dr. Lee-Ann, Rome")
    labels = train_text_model.labels_of(doc, Labelled(doc.text, ((4, 11, "NAME"), (13, 17, "LOCATION"))))
    named = {t.text: LABELS[i] for t, i in zip(doc, labels, strict=True)}
    assert named["Lee"] == named["Ann"] == "NAME" and named["Rome"] == "LOCATION" and named[","] == "O"
