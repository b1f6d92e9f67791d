"""The text de-identifier as a whole: placeholders, shifted dates, positions, and nothing left to do the second time."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.privacy.spans import KINDS, Intervals, Known, Span, merge
from trialops.privacy.text import TextDeidentifier
from trialops.synthetic.clinical_text import Writer

STRICT, LIMITED = TextDeidentifier("strict"), TextDeidentifier("limited")
WHO = Known(names=("Zofia Norvath",), identifiers=("7712345",), dates=(dt.date(2013, 4, 3),))
PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(KINDS)})\]")


def test_strict_mode_puts_placeholders() -> None:
    text = "Zofia Norvath (MRN 7712345) was seen on 3 April 2013 by Dr. Quillan."
    assert STRICT.scrub([text], [WHO]) == ["[NAME] (MRN [ID]) was seen on [DATE] by Dr. [NAME]."]


def test_limited_mode_shifts_dates_and_nothing_else_differs() -> None:
    text = "Norvath, Zofia seen 03/04/2013, again Monday, 15 April 2013; due May 2013; Christmas off."
    [out] = LIMITED.scrub([text], [WHO], [10])
    assert out == "[NAME] seen 13/04/2013, again Thursday, 25 April 2013; due May 2013; [DATE] off."


def test_a_year_alone_stays() -> None:
    assert "2013" in STRICT.scrub(["surgery in 2013"])[0]


@pytest.mark.parametrize(
    "text",
    [
        "Parkinson's disease, Crohn's disease and a Foley catheter.",
        "Glasgow Coma Scale 15, Babinski sign negative.",
        "Metformin 500 mg BID; atorvastatin 20 mg daily.",
        "Hb 12.3 g/dL, creatinine 88 µmol/L, eGFR 72.",
        "BP 120/80, HR 72, temperature 36.8.",
        "A 54-year-old woman with chest pain and nausea.",
        "Cultures grew Staphylococcus aureus.",
        "",
        " \n\t ",
        "0",
    ],
)
def test_clinical_meaning_survives(text: str) -> None:
    assert STRICT.scrub([text]) == [text]


def test_find_gives_positions_of_the_text_as_it_was() -> None:
    text = "\u00dcber\U0001f600 Zofia Norvath: tel 614-555-0142"
    spans = STRICT.find([text], [WHO])[0]
    assert [(text[s.start : s.end], s.kind) for s in spans if s.source == "known"] == [("Zofia Norvath", "NAME")]
    assert any(text[s.start : s.end] == "614-555-0142" for s in spans)


def test_many_texts_are_treated_each_with_its_own_record() -> None:
    texts = ["norvath slept", "quillan slept"] * 100
    known = [Known(names=("Norvath",)), Known(names=("Norvath",))] * 100
    out = TextDeidentifier(model=False).scrub(texts, known)
    assert out == ["[NAME] slept", "quillan slept"] * 100


def test_a_long_text() -> None:
    text = "The patient slept well. " * 1000 + "Zofia Norvath called. " + "No pain. " * 1000
    [out] = STRICT.scrub([text], [WHO])
    assert "Norvath" not in out and out.count("slept well") == 1000


def test_wrong_arguments_say_what_to_do() -> None:
    with pytest.raises(TrialOpsError, match="mode"):
        TextDeidentifier("safe")  # type: ignore[arg-type]
    with pytest.raises(TrialOpsError, match="known"):
        STRICT.scrub(["a", "b"], [None])
    with pytest.raises(TrialOpsError, match="limited mode"):
        STRICT.scrub(["a"], offsets=[3])
    with pytest.raises(TrialOpsError, match="limited mode"):
        LIMITED.scrub(["a"])
    with pytest.raises(TrialOpsError, match="offsets"):
        LIMITED.scrub(["a"], offsets=[1, 2])


def test_placeholders_of_an_earlier_run_are_left_alone() -> None:
    text = "[NAME] saw Dr. [NAME] at [ORGANIZATION], [LOCATION] on [DATE]; MRN [ID], aged [AGE]."
    assert STRICT.scrub([text]) == [text]


@pytest.mark.slow
def test_scrubbing_twice_changes_nothing() -> None:
    texts = [note.text for part in ("training", "judging") for note in Writer(3, part).documents(150)]
    once = STRICT.scrub(texts)
    assert STRICT.scrub(once) == once
    assert sum(bool(PLACEHOLDER.search(t)) for t in once) > 150


@given(st.lists(st.text(max_size=60), max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_texts_can_be_scrubbed_twice(texts: list[str]) -> None:
    once = STRICT.scrub(texts)
    assert STRICT.scrub(once) == once
    for text, spans in zip(texts, STRICT.find(texts), strict=True):
        assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))
        assert all(0 <= s.start < s.end <= len(text) for s in spans)


PIECES = st.sampled_from(
    ["Zofia Norvath", "7712345", "03.04.2013", "slept well", "[NAME]", "Dr. ", "\n", ", ", "tel 614-555-0142", "Ω", "é"]
)


@given(st.lists(PIECES, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_between_the_spans_is_kept_to_the_letter(pieces: list[str]) -> None:
    text = " ".join(pieces)
    [spans], [out] = STRICT.find([text], [WHO]), STRICT.scrub([text], [WHO])
    rest, at = [], 0
    for span in spans:
        rest.append(text[at : span.start])
        at = span.end
    rebuilt = "".join(x for pair in zip(rest, (f"[{s.kind}]" for s in spans), strict=True) for x in pair) + text[at:]
    assert rebuilt == out
    assert "Norvath" not in out and "7712345" not in out


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=8), st.integers(0, 40), st.integers(1, 9))
def test_intervals_say_what_a_look_at_every_one_would(pairs: list[tuple[int, int]], start: int, length: int) -> None:
    places, span = Intervals((a, a + n) for a, n in pairs), set(range(start, start + length))
    taken = {p for a, n in pairs for p in range(a, a + n)}
    touched = {p for a, b in places.touching(start, start + length) for p in range(a, b)}
    assert touched & span == taken & span
    assert not places.hold(start, start + length) or span <= taken
    assert all(places.hold(a, a + n) for a, n in pairs)


def test_merging_keeps_the_kind_of_the_surest_layer() -> None:
    text = "Zofia Norvath 12"
    spans = [Span(0, 16, "LOCATION", "model"), Span(0, 5, "NAME", "known"), Span(6, 13, "NAME", "context")]
    assert merge(text, spans) == [Span(0, 16, "NAME", "known")]
