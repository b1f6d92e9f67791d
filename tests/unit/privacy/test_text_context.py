"""Rules of context: what words announce, and what a form gives away; medicine is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.privacy.clinical_terms import find_terms
from trialops.privacy.context import find_context
from trialops.privacy.gazetteer import COUNTRIES, STATES, find_places
from trialops.privacy.spans import merge


def found(text: str) -> dict[str, str]:
    """What the rules find, by text."""
    return {text[s.start : s.end]: s.kind for s in merge(text, find_context(text))}


@pytest.mark.parametrize(
    ("text", "what", "kind"),
    [
        ("seen by Dr. Zzyzk today", "Zzyzk", "NAME"),
        ("DR ZZYZK informed", "ZZYZK", "NAME"),
        ("dr zzyzk informed", "zzyzk", "NAME"),
        ("Pt Qorvath, Anna was seen", "Qorvath, Anna", "NAME"),
        ("Patient Name: qorvath anna", "qorvath anna", "NAME"),
        ("Signed, Q. Norvath", "Q. Norvath", "NAME"),
        ("Sincerely,\nQuilla Norvath", "Quilla Norvath", "NAME"),
        ("Dear Quilla,", "Quilla", "NAME"),
        ("Quilla Norvath, MD", "Quilla Norvath", "NAME"),
        ("with her daughter Quilla at home", "Quilla", "NAME"),
        ("spouse (Quilla) agrees", "Quilla", "NAME"),
        ("Re: Norvath, Quilla", "Norvath, Quilla", "NAME"),
        ("My name is Quilla Norvath.", "Quilla Norvath", "NAME"),
        ("Norvath is a 54-year-old man", "Norvath", "NAME"),
        ("cc: Quilla Norvath", "Quilla Norvath", "NAME"),
        ("Mr. van der Norvath slept", "van der Norvath", "NAME"),
        ("MRN: 00123456", "00123456", "ID"),
        ("Medical record number A-1234", "A-1234", "ID"),
        ("Acct # 55512", "55512", "ID"),
        ("pacemaker serial PM-88123X", "PM-88123X", "ID"),
        ("license plate 7XYZ 123", "7XYZ 123", "ID"),
        ("VIN 1HGCM82633A004352", "1HGCM82633A004352", "ID"),
        ("Subject 1015 was dosed", "1015", "ID"),
        ("SSN 123-45-6789", "123-45-6789", "ID"),
        ("passport no. X1234567", "X1234567", "ID"),
        ("see https://norvath.example/a?b=1 there", "https://norvath.example/a?b=1", "URL"),
        ("MAC 00:1A:2B:3C:4D:5E", "00:1A:2B:3C:4D:5E", "ID"),
        ("username: qnorvath77", "qnorvath77", "ID"),
        ("call 614-555-0142 today", "614-555-0142", "PHONE"),
        ("Tel. 0151 23456789", "0151 23456789", "PHONE"),
        ("pager 5512", None, None),
        ("fax +49 (30) 901820", "+49 (30) 901820", "PHONE"),
        ("lives at 12 Quill Lane, Norvath, OH 44512", "12 Quill Lane, Norvath, OH 44512", "LOCATION"),
        ("Address: 5 rue de la Paix, 75002 Paris", "5 rue de la Paix, 75002 Paris", "LOCATION"),
        ("wohnt Hauptstraße 5", "Hauptstraße 5", "LOCATION"),
        ("P.O. Box 123", "P.O. Box 123", "LOCATION"),
        ("zip code 44512", "44512", "LOCATION"),
        ("postcode SW1A 1AA", "SW1A 1AA", "LOCATION"),
        ("she moved to Norvathia last year", "Norvathia", "LOCATION"),
        ("Room 412 by the door", "412", "LOCATION"),
        ("admitted to Norvath General Hospital", "Norvath General Hospital", "ORGANIZATION"),
        ("works for Quill & Sons", "Quill & Sons", "ORGANIZATION"),
        ("at St. Quillan's again", "St. Quillan's", "ORGANIZATION"),
        ("University of Norvath", "University of Norvath", "ORGANIZATION"),
        ("a 93-year-old woman", "93", "AGE"),
        ("aged 101", "101", "AGE"),
        ("ninety-two years old", "ninety-two", "AGE"),
        ("in her late nineties", "late nineties", "AGE"),
        ("91 y/o M", "91", "AGE"),
        ("born in 1921", "1921", "DATE"),
    ],
)
def test_announced(text: str, what: str | None, kind: str | None) -> None:
    if what is None:
        assert found(text) == {}
    else:
        assert any(what in piece and k == kind for piece, k in found(text).items()), found(text)


@pytest.mark.parametrize(
    "text",
    [
        "a 54-year-old woman, aged 54, 88 y/o",
        "Metformin 500 mg BID, aspirin 81 mg",
        "BP 120/80, HR 72, T 36.8",
        "Hb 12.3 g/dL, platelets 250000, WBC 5.6 x10^9/L",
        "visit 3 of 12, week 26, cycle 2 day 1",
        "trial NCT01234567, rs1234567, HLA-B27",
        "dr advised rest; pt denies pain; patient reports nausea",
        "The patient was seen. She slept well.",
        "9/10 pain, 1:640 titre, L4-L5",
        "no chest pain or shortness of breath",
        "[NAME] called from [LOCATION]; Dr. [NAME]",
    ],
)
def test_clinical_meaning_is_kept(text: str) -> None:
    assert found(text) == {}


@pytest.mark.parametrize(
    "text",
    [
        "Foley catheter",
        "Parkinson's disease",
        "Crohn's disease",
        "Glasgow Coma Scale",
        "Brugada syndrome",
        "Babinski sign",
        "Lyme disease",
    ],
)
def test_eponyms_are_terms(text: str) -> None:
    covered = {p for a, b in find_terms(f"known {text}, stable") for p in range(a, b)}
    assert set(range(6, 6 + len(text))) <= covered


def test_a_disease_of_somebody_is_no_term() -> None:
    assert find_terms("Norvath's disease has progressed") == []
    assert find_terms("") == []


def test_places_need_a_capital_and_are_whole_words() -> None:
    text = "from Timbuktu? no: Toulouse, New Zealand, TEXAS and turkey, Parisian"
    assert [text[s.start : s.end] for s in find_places(text)] == ["Toulouse", "New Zealand", "TEXAS"]


def test_countries_and_states_are_distinct() -> None:
    assert len(set(COUNTRIES)) == len(COUNTRIES) and len(set(STATES)) == len(STATES)


@given(st.text(max_size=150))
@settings(max_examples=150, deadline=None)
def test_any_text_gives_spans_inside_it(text: str) -> None:
    for span in (*find_context(text), *find_places(text)):
        assert 0 <= span.start < span.end <= len(text)
