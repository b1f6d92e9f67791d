"""The readable case form: all a case says is there, nothing a blinded reader may not see, the same bytes twice."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from html import unescape
from typing import Any

import pytest

from tests.support.e2b_case import full_case
from trialops.regulatory.documents.html import to_html
from trialops.regulatory.documents.pdf import to_pdf
from trialops.safety.case import Case, Null, Patient, Quantity
from trialops.safety.case_form import case_document, case_form, case_html, case_page
from trialops.safety.case_form_lines import WITHHELD, shown
from trialops.safety.e2b.elements import elements

# Not for reading: the bytes of documents, and units that the form writes in words.
NOT_SHOWN = {"content", "media_type", "file_name", "unit"}
TELLING = ("TRX-101", "trioxanamine", "LOT7", "54 mg", "one patch", "Transdermal", "IND123456", "59762-2858", "Patchy")


def unblinded_case() -> Case:
    case = full_case()
    return replace(case, drugs=(replace(case.drugs[0], blinded=False), case.drugs[1]))


def texts(part: Any) -> list[tuple[str, str]]:
    found = []
    for spec in fields(part):
        value = getattr(part, spec.name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Null):
                continue
            if hasattr(each, "__dataclass_fields__"):
                found += texts(each)
            elif isinstance(each, str) and spec.name not in NOT_SHOWN:
                found.append((spec.name, each))
    return found


def test_everything_a_case_says_stands_on_its_form() -> None:
    page = unescape(case_html(unblinded_case(), unblinded=True).decode())
    missing = [(name, text) for name, text in texts(unblinded_case()) if text not in page]
    assert missing == []
    assert len(texts(unblinded_case())) > 200


def test_a_blinded_form_withholds_the_treatment_and_the_texts_that_may_tell_it() -> None:
    case = unblinded_case()
    document = case_document(
        case,
        study="S",
        cut=date(2026, 2, 28),
        stamp=datetime(2026, 3, 1, tzinfo=UTC),
        source="a" * 64,
        program="b" * 64,
    )
    for form in (case_html(case).decode(), to_html(document).decode()):
        page = unescape(form)
        for told in (*TELLING, case.narrative.text, "Related, in the sponsor's view.", "Eine Frau", "Patch came loose"):
            assert told not in page, told
        assert WITHHELD in page
        # What does not tell it stays: the reaction, the concomitant drug, what is thought, when it was taken.
        for kept in ("Myocardial infarction", "Aspirin", "Not Suspected", "2026-01-10 to 2026-02-18", "withdrawn"):
            assert kept in page, kept
    assert document.audience == "blinded"


def test_an_unblinded_form_tells_it_and_says_so() -> None:
    page = unescape(case_html(unblinded_case(), unblinded=True).decode())
    assert all(told in page for told in TELLING)
    assert "Do not pass it to blinded staff" in page
    assert WITHHELD not in page


def test_a_case_without_the_treatment_has_nothing_to_withhold() -> None:
    case = full_case()
    case = replace(case, drugs=(replace(case.drugs[0], name="Blinded study product"), case.drugs[1]))
    assert case_html(case) == case_html(case, unblinded=True)
    assert WITHHELD not in case_html(case).decode()


def test_the_form_is_made_of_the_case_alone() -> None:
    case = unblinded_case()
    assert case_html(case) == case_html(Case.from_dict(case.to_dict()))
    assert case_page(case) == case_page(Case.from_dict(case.to_dict()))


def test_text_of_a_case_cannot_become_markup() -> None:
    case = replace(full_case(), patient=replace(full_case().patient, name="<script>alert(1)</script>"))
    page = case_html(case).decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_every_line_names_an_element_and_boxes_of_the_two_forms() -> None:
    numbers = set(elements())
    for part in case_form(unblinded_case(), unblinded=True):
        for block in part.blocks:
            for line in block.lines:
                assert any(number.startswith(line.element) for number in numbers), line.element
                assert line.section in {"", *"ABCDEGH"}
                assert re.fullmatch(r"|\d+[a-d]?([-,] ?\d+)?", line.box), line.box


def test_a_short_case_has_no_empty_tables() -> None:
    case = replace(
        full_case(), drugs=(), tests=(), reactions=full_case().reactions[1:2], patient=Patient(name=Null("masked"))
    )
    parts = case_form(case)
    assert [part.title for part in parts] == ["Report", "Patient", "Reactions", "Course of the case"]
    assert all(block.lines for part in parts for block in part.blocks)
    assert case_page(case).verdict is not None
    assert case_page(case).verdict.label == "Not serious"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (Null("asked but unknown"), "not given (asked but unknown)"),
        (Quantity("48", "a"), "48 years"),
        (Quantity("5", "mg"), "5 mg"),
    ],
    ids=["nothing", "true", "false", "null", "years", "milligrams"],
)
def test_values_in_words(value: object, words: str) -> None:
    assert shown(value) == words


def test_the_pdf_is_the_same_twice() -> None:
    def made() -> bytes:
        return to_pdf(
            case_document(
                unblinded_case(),
                study="TRIALOPS01",
                cut=date(2026, 2, 28),
                stamp=datetime(2026, 3, 1, tzinfo=UTC),
                source="a" * 64,
                program="b" * 64,
            )
        )

    first = made()
    assert first.startswith(b"%PDF-")
    assert first == made()
