"""Recall and precision on 1,500 labelled sentences of another origin, kept for judging: nothing is learnt from them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from trialops.privacy.spans import Span
from trialops.privacy.text import TextDeidentifier

#: Titles (Mr) and nationality, religion or politics are in no HIPAA class; ages are one only over 89.
NOT_HIPAA = frozenset({"TITLE", "NRP", "AGE"})


@dataclass(frozen=True)
class Score:
    """Counts over all sentences.

    Attributes:
        total: Labelled spans by class.
        half: Those of which one found span covers at least half.
        whole: Those of which every letter and digit was found.
        given: Spans found.
        right: Those at least half inside a labelled span.
    """

    total: Counter[str]
    half: Counter[str]
    whole: Counter[str]
    given: int
    right: int

    def recall(self, counted: Counter[str]) -> float:
        """Share of the spans of HIPAA classes that were found."""
        classes = set(self.total) - NOT_HIPAA
        return sum(counted[c] for c in classes) / sum(self.total[c] for c in classes)

    @property
    def precision(self) -> float:
        """Share of found spans that are right."""
        return self.right / self.given


@cache
def score(folder: Path, model: bool = True) -> Score:
    sentences = json.loads((folder / "phi-text" / "synth_dataset_v2.json").read_text(encoding="utf-8"))
    found = TextDeidentifier("strict", model=model).find([s["full_text"] for s in sentences])
    total, half, whole = Counter[str](), Counter[str](), Counter[str]()
    right = 0
    for sentence, spans in zip(sentences, found, strict=True):
        text = sentence["full_text"]
        true = [(s["start_position"], s["end_position"], s["entity_type"]) for s in sentence["spans"]]
        marked = {p for s in spans for p in range(s.start, s.end)}
        for start, end, kind in true:
            total[kind] += 1
            half[kind] += 2 * max((_overlap(s, start, end) for s in spans), default=0) >= end - start
            whole[kind] += all(p in marked for p in range(start, end) if text[p].isalnum())
        labelled = {p for start, end, _ in true for p in range(start, end)}
        right += sum(2 * sum(p in labelled for p in range(s.start, s.end)) >= s.end - s.start for s in spans)
    return Score(total, half, whole, sum(map(len, found)), right)


def _overlap(span: Span, start: int, end: int) -> int:
    return min(span.end, end) - max(span.start, start)


def test_the_file_is_the_one_the_figures_are_about(anchors: Path) -> None:
    assert sum(score(anchors).total.values()) == 2863
    assert score(anchors).total["PERSON"] == 857


@pytest.mark.slow
def test_recall_over_hipaa_classes(anchors: Path) -> None:
    result = score(anchors)
    table = {k: f"{result.half[k]}/{n}" for k, n in sorted(result.total.items())}
    print(f"half {result.recall(result.half):.4f} whole {result.recall(result.whole):.4f}")
    print(f"precision {result.precision:.4f} {table}")
    assert result.recall(result.half) >= 0.90
    assert result.recall(result.whole) >= 0.88
    assert result.precision >= 0.70


@pytest.mark.slow
def test_numbers_with_a_form_are_all_found(anchors: Path) -> None:
    result = score(anchors)
    for kind in ("CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "US_SSN", "IP_ADDRESS", "DOMAIN_NAME"):
        assert result.half[kind] == result.total[kind]


@pytest.mark.slow
def test_names_need_the_model(anchors: Path) -> None:
    without = score(anchors, model=False)
    assert without.half["PERSON"] < 0.5 * score(anchors).half["PERSON"]
    assert without.precision > score(anchors).precision
