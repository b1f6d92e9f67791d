"""Synthesized sentences: positions are true, parts share nothing, the same seed gives the same texts."""

from __future__ import annotations

import datetime as dt

import pytest

from trialops.synthetic.clinical_text import KIND_OF, Writer, diagnoses, grammar, prose
from trialops.synthetic.text_names import origins, part_of
from trialops.synthetic.text_slots import towns
from trialops.synthetic.text_subject import DATE_FORMS, subject, subject_notes, written


@pytest.mark.parametrize("part", ["training", "judging"])
def test_spans_are_disjoint_ordered_and_hold_what_they_say(part: str) -> None:
    notes = list(Writer(4, part).documents(400))
    for note in notes:
        assert all(a[1] <= b[0] for a, b in zip(note.spans, note.spans[1:], strict=False))
        assert all(note.text[a:b] and k in set(KIND_OF.values()) for a, b, k in note.spans)
        assert all("@" in note.text[a:b] for a, b, k in note.spans if k == "EMAIL")
    assert len({n.text for n in notes}) > 390
    assert {k for n in notes for _, _, k in n.spans} == set(KIND_OF.values())


def test_the_same_seed_gives_the_same_texts() -> None:
    assert list(Writer(4).documents(50)) == list(Writer(4).documents(50)) != list(Writer(5).documents(50))


def test_parts_share_no_sentence_town_diagnosis_prose_or_name() -> None:
    for make in (towns, prose, diagnoses):
        assert not set(make("training")) & set(make("judging"))
    rules = {
        part: {line for name in ("gen", "clin", "none") for line in grammar(part)[name]}
        for part in ("training", "judging")
    }
    # What stays is the marks at which any sentence of that kind is drawn.
    assert all(line.strip("<>").isalpha() for line in rules["training"] & rules["judging"])
    slots = [Writer(1, part).slots for part in ("training", "judging")]
    names = [{s._first() for _ in range(800)} for s in slots]
    assert not names[0] & names[1]
    assert {part_of(n) for n in names[1]} == {"judging"}
    assert len(names[0]) > 500 and len(origins()) > 15


def test_a_note_about_a_subject_has_the_subjects_identifiers_and_moves_only_its_days() -> None:
    plain, moved = list(subject_notes(30, 2)), list(subject_notes(30, 2, offset=9))
    assert [who for who, _, _ in plain] == [subject(2 * 1_000_003 + i) for i in range(30)]
    assert sum(who.last.lower() in note.text.lower() for who, note, _ in plain) > 20
    for (who, _, dates), (_, _, later) in zip(plain, moved, strict=True):
        assert len(dates) == len(later)
        forms = {written(d, f): written(d + dt.timedelta(days=9), f) for d in who.dates for f in DATE_FORMS}
        assert all(forms[a] == b or a.isdigit() for a, b in zip(dates, later, strict=True))
