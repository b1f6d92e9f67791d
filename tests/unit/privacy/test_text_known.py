"""The subject's own identifiers are found in every form in which they are written, and plain words are not."""

from __future__ import annotations

import datetime as dt
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.privacy.known import find_known, fold, squeeze
from trialops.privacy.spans import Known, merge

WHO = Known(
    names=("Katherine O'Neil-Vandermeer",),
    addresses=("12 North Elm Street, Springfield, IL 62704-1234",),
    phones=("+1 (614) 555-0142",),
    emails=("k.vandermeer@example.org",),
    identifiers=("MRN-0012345", "01-701-1015"),
    dates=(dt.date(2013, 3, 4),),
)


def found(text: str, known: Known = WHO) -> list[tuple[str, str]]:
    return [(s.kind, text[s.start : s.end]) for s in merge(text, find_known(text, known))]


@pytest.mark.parametrize(
    "written",
    [
        "Katherine O'Neil-Vandermeer",
        "KATHERINE O'NEIL-VANDERMEER",
        "katherine oneil vandermeer",
        "O'Neil-Vandermeer, Katherine",
        "Vandermeer, K.",
        "K. Vandermeer",
        "Katie",
        "Kate Vandermeer",
        "K a t h e r i n e",
        "K A T H E R I N E  V A N D E R M E E R",
        "O\u2019Neil",
        "Kathérine",
        "Vander-\nmeer",
        "Vandermeers",
        "KatherineVandermeer",
        "Ｋａｔｈｅｒｉｎｅ",
    ],
)
def test_names(written: str) -> None:
    assert found(f"seen: {written}; stable") == [("NAME", written.rstrip("."))]


def test_a_possessive_and_initials_belong_to_the_name_and_its_neighbours_do_not() -> None:
    assert found("J. K. Vandermeer's gait") == [("NAME", "J. K. Vandermeer")]
    assert found("gave Katherine a cup") == [("NAME", "Katherine")]


def test_particles_and_hyphenated_parts_go_with_the_name() -> None:
    known = Known(names=("Sang-soo van der Kuijpers",))
    text = "Mrs VAN DER KUIJPERS; van der Kuijpers, Sang-soo; sang-soo slept; a soo of van"
    assert [piece for _, piece in found(text, known)] == ["VAN DER KUIJPERS", "van der Kuijpers, Sang-soo", "sang-soo"]


@pytest.mark.parametrize(
    "written",
    [
        "(614) 555-0142",
        "614.555.0142",
        "6145550142",
        "+1 614 555 0142",
        "1-614-555-0142",
        "555-0142",
        "6 1 4 5 5 5 0 1 4 2",
        "614/555/0142",
    ],
)
def test_telephone_numbers(written: str) -> None:
    assert [kind for kind, _ in found(f"call {written} now")] == ["PHONE"]


@pytest.mark.parametrize(
    "written",
    ["MRN-0012345", "mrn0012345", "0012345", "12345", "MRN 00 123 45", "01-701-1015", "01 701 1015", "017011015"],
)
def test_identifiers(written: str) -> None:
    assert [kind for kind, _ in found(f"chart {written}.")] == ["ID"]


@pytest.mark.parametrize(
    "written",
    [
        "12 North Elm Street",
        "12 N. Elm St.",
        "12 N Elm St",
        "North Elm",
        "12 north elm street",
        "Springfield",
        "SPRINGFIELD",
        "62704",
        "62704-1234",
        "Springfield, IL 62704",
    ],
)
def test_addresses(written: str) -> None:
    assert {kind for kind, _ in found(f"lives: {written} since")} == {"LOCATION"}


@pytest.mark.parametrize("written", ["k.vandermeer@example.org", "K.VANDERMEER@EXAMPLE.ORG", "k.vandermeer"])
def test_mail(written: str) -> None:
    assert len(found(f"mail {written} or call")) == 1


@pytest.mark.parametrize("written", ["20130304", "04032013", "030413", "040313", "03 04 2013"])
def test_dates_without_separators(written: str) -> None:
    assert found(f"on {written} seen") == [("DATE", written)]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("patient will take the will to court", Known(names=("Will May",))),
        ("may improve, park the car", Known(names=("May Park",))),
        ("platelets 112345 and 123456", Known(identifiers=("12345",))),
        ("an nurse gave annual advice", Known(names=("Ann Li",))),
        ("main complaint of the day", Known(addresses=("Main Street",))),
        ("dose 1015.5 mg", Known(identifiers=("015",))),
    ],
)
def test_plain_words_and_other_numbers_are_kept(text: str, known: Known) -> None:
    assert found(text, known) == []


def test_common_words_count_with_a_capital() -> None:
    known = Known(names=("Will May",))
    assert found("Will was seen; MAY agreed", known) == [("NAME", "Will"), ("NAME", "MAY")]


def test_empty_texts_and_empty_records() -> None:
    assert find_known("", WHO) == []
    assert find_known("--- ...", WHO) == []
    assert find_known("Ann Lee", Known()) == []
    assert find_known("Ann Lee", Known(names=("", " ", "-"), addresses=("",), phones=("n/a",), identifiers=("",))) == []


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_folding_keeps_positions_and_spans_lie_inside(text: str) -> None:
    assert len(fold(text)) == len(text)
    assert all(0 <= s.start < s.end <= len(text) for s in find_known(text, WHO))


SEPARATORS = st.lists(st.sampled_from(["", " ", "-", ".", "/", ") ", " ("]), min_size=9, max_size=9)


@given(SEPARATORS, st.sampled_from(["tel ", "", "(", "ph:"]))
@settings(max_examples=150, deadline=None)
def test_a_number_is_found_whatever_stands_between_its_digits(gaps: list[str], before: str) -> None:
    digits = "6145550142"
    written = "".join(d + g for d, g in zip(digits, [*gaps, ""], strict=True))
    text = f"{before}{written} end"
    covered = {p for s in find_known(text, WHO) for p in range(s.start, s.end)}
    assert all(p in covered for p in range(len(before), len(before) + len(written)) if text[p].isdigit())


@given(st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_a_name_is_found_in_any_case_order_and_spacing(seed: int) -> None:
    rng = random.Random(seed)
    first, last = (
        rng.choice(["Zofia", "Anneliese", "Bartholomew"]),
        rng.choice(["Kowalczyk", "Grünewald", "Østergaard"]),
    )
    words = [first, last] if rng.random() < 0.5 else [last, first]
    text = rng.choice([" ", ", ", "\n", "  ", "_"]).join(words)
    text = rng.choice([str.upper, str.lower, str.title, str.swapcase])(text)
    spans = find_known(f"({text})", Known(names=(f"{first} {last}",)))
    covered = {p for s in spans for p in range(s.start - 1, s.end - 1)}
    assert all(p in covered for p, c in enumerate(text) if c.isalpha())
    assert squeeze(text) in (squeeze(first + last), squeeze(last + first))
