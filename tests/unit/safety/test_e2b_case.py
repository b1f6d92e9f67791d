"""The neutral case: what it holds, what it refuses, that it comes back from plain data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from tests.support.e2b_case import full_case, meddra
from trialops.errors import TrialOpsError
from trialops.safety.case import (
    Case,
    Document,
    Drug,
    MedicalHistory,
    Null,
    Parent,
    PastDrug,
    Patient,
    Quantity,
    Reaction,
    Relation,
    Report,
    Reporter,
    Term,
    Test,
)
from trialops.safety.e2b.elements import elements
from trialops.safety.terms import TERMS, code_of, word_of, words

SECRET = "Zebedee-4711"


def test_a_case_comes_back_from_json() -> None:
    case = full_case()
    again = Case.from_dict(json.loads(json.dumps(case.to_dict())))
    assert again == case
    assert json.dumps(again.to_dict()) == json.dumps(case.to_dict())


def test_plain_data_leave_out_what_is_not_there() -> None:
    plain = full_case().to_dict()
    assert "study" in plain
    assert plain["reactions"][1] == {
        "outcome": "recovering",
        "term": {"code": "10037844", "version": "27.0"},
        "start": {"null": "masked"},
    }
    assert plain["drugs"][0]["devices"][1]["malfunction"] is False  # false is an answer, unlike a flag that is not set


def test_nothing_of_a_case_can_be_changed() -> None:
    case = full_case()
    with pytest.raises(FrozenInstanceError):
        case.reactions[0].outcome = "recovered"  # type: ignore[misc]
    assert isinstance(Case.from_dict(case.to_dict()).reactions, tuple)


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: Reaction(outcome="better"), "Reaction.outcome"),
        (lambda: Reaction(outcome="fatal", start="2026-02-30"), "Reaction.start"),
        (lambda: Reaction(outcome="fatal", start="2026-13"), "Reaction.start"),
        (lambda: Reaction(outcome="fatal", start="02/03/2026"), "Reaction.start"),
        (lambda: Reaction(outcome="fatal", start="2026-02-03T25"), "Reaction.start"),
        (lambda: Reaction(outcome="fatal", term=Term("123", "27.0")), "Reaction.term"),
        (lambda: Reaction(outcome="fatal", term=Term("10028596")), "Reaction.term"),
        (lambda: Reaction(outcome="fatal", death="Y"), "Reaction.death"),  # type: ignore[arg-type]
        (lambda: Reaction(outcome="fatal", country="USA"), "Reaction.country"),
        (lambda: Reaction(outcome="fatal", duration="3 d"), "Reaction.duration"),  # type: ignore[arg-type]
        (lambda: Quantity("many", "d"), "quantity"),
        (lambda: Quantity(float("nan"), "d"), "quantity"),  # type: ignore[arg-type]
        (lambda: Quantity("3", ""), "unit"),
        (lambda: Patient(weight_kg="heavy"), "Patient.weight_kg"),
        (lambda: Patient(races=("martian",)), "Patient.races"),
        (lambda: Patient(races="white"), "Patient.races"),  # type: ignore[arg-type]
        (lambda: Reporter(given_name=""), "Reporter.given_name"),
        (lambda: Reporter(given_name="a\x00b"), "Reporter.given_name"),
        (lambda: Reporter(given_name="a\ud800b"), "Reporter.given_name"),
        (lambda: Reporter(given_name="a\uffff"), "Reporter.given_name"),
        (lambda: Null("secret"), ""),
        (lambda: Reaction(outcome=Null("unknown")), "Reaction.outcome"),  # type: ignore[arg-type]
        (lambda: Drug(name=Null("masked"), role="suspect"), "Drug.name"),  # type: ignore[arg-type]
        (lambda: Patient(age=Null("unknown")), "Patient.age"),  # type: ignore[arg-type]
        (lambda: Test(value="5", comparator="about"), "Test.comparator"),
        (lambda: Test(comparator="<"), "Test.comparator"),
        (lambda: Test(value="5", result_text="five"), "F.r.3.4"),
        (lambda: PastDrug(product=Term("1"), pharmaceutical_product=Term("2")), "Drug or PastDrug"),
        (lambda: Drug(name="A", role="suspect", relations=(Relation(0),)), "Relation.reaction"),
        (lambda: Parent(history=(MedicalHistory(term=meddra(1), family_history=True),)), "Parent.history"),
        (lambda: replace(full_case(), reactions=()), "Drug.relations"),
        (
            lambda: replace(full_case(), drugs=(Drug(name="A", role="suspect", relations=(Relation(1), Relation(1))),)),
            "Drug.relations",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_case_is_refused(make: Callable[[], Any], where: str) -> None:
    with pytest.raises(TrialOpsError) as error:
        make()
    assert where in error.value.where
    assert error.value.fix


def test_an_error_never_repeats_a_value() -> None:
    plain = full_case().to_dict()
    for section, name in (("patient", "birth_date"), ("patient", "sex"), ("report", "first_received")):
        spoilt = {**plain, section: {**plain[section], name: SECRET}}
        with pytest.raises(TrialOpsError) as error:
            Case.from_dict(spoilt)
        assert SECRET not in str(error.value)
        assert name in error.value.where


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda plain: plain | {"verdict": 1}, "Case: verdict"),
        (lambda plain: plain | {"patient": {**plain["patient"], "age_in_years": 75}}, "Case.patient: age_in_years"),
        (lambda plain: plain | {"patient": "AB"}, "Case.patient"),
        (lambda plain: plain | {"reactions": {"outcome": "fatal"}}, "Case.reactions"),
        (lambda plain: {name: each for name, each in plain.items() if name != "sender"}, "Case: sender"),
        (lambda plain: plain | {"reactions": [{"text": "headache"}]}, "Case.reactions[1]: outcome"),
    ],
    ids=["unknown section", "unknown field", "no mapping", "no list", "section missing", "required field missing"],
)
def test_plain_data_that_are_no_case_are_refused(change: Callable[[Any], Any], where: str) -> None:
    with pytest.raises(TrialOpsError) as error:
        Case.from_dict(change(full_case().to_dict()))
    assert error.value.where.startswith(where)


def test_numbers_become_texts_with_their_digits() -> None:
    assert Quantity(48, "a").value == "48"  # type: ignore[arg-type]
    assert Quantity(0.1, "mg").value == "0.1"  # type: ignore[arg-type]
    assert Quantity("5.0", "mg").value == "5.0"
    assert Quantity(1e-7, "mg").value == "0.0000001"  # type: ignore[arg-type]


def test_lines_end_as_xml_ends_them() -> None:
    assert replace(full_case().narrative, text="one\r\ntwo\rthree").text == "one\ntwo\nthree"


def test_blanks_around_a_document_are_no_part_of_it() -> None:
    assert Document(title="Letter", content="dGV4dA==\n").content == "dGV4dA=="


def test_greenwich_has_one_spelling() -> None:
    report = replace(full_case().report, created="2026-03-01T09:30:00Z")
    assert report.created == "2026-03-01T09:30:00+00:00"


@pytest.mark.parametrize("day", ["2024-02-29", "2024-02", "2024", "2024-02-29T23", "2024-02-29T23:59:59.1234+14:00"])
def test_a_date_is_as_precise_as_it_is_known(day: str) -> None:
    assert Reaction(outcome="unknown", start=day).start == day


def test_words_and_codes_are_each_others_inverse() -> None:
    for name, (_, pairs) in TERMS.items():
        assert len(set(pairs.values())) == len(pairs)
        for word in words(name):
            assert word_of(name, code_of(name, word)) == word
    with pytest.raises(TrialOpsError, match="no sex"):
        code_of("sex", "M")
    with pytest.raises(TrialOpsError, match="code of sex") as error:
        word_of("sex", "9")
    assert error.value.where == "element D.5"


def test_a_reason_may_stand_where_the_table_has_null_flavours() -> None:
    """Apart from criteria (True or "no information") and bounds of results, which the case says in another way."""
    otherwise = {f"E.i.3.2{letter}" for letter in "abcdef"} | {"FDA.E.i.3.2h", "F.r.3.2"}
    shared = {"D.10.8.r.1"}  # one class for the drugs of patient and parent
    different = set()

    def visit(cls: type, prefix: str) -> None:
        for spec in fields(cls):
            number = spec.metadata["element"]
            number = prefix + number if number.startswith(".") else number
            if spec.metadata["kind"] in {"part", "parts"}:
                visit(spec.metadata["of"], number)
            elif number in elements():
                allowed = str(spec.type) in {"Text", "Flag"} or "Null" in str(spec.type)
                if allowed != bool(elements()[number].null_flavors):
                    different.add(number)

    visit(Case, "")
    assert different == otherwise | shared


def test_the_full_case_fills_every_field() -> None:
    """The fixture of the message tests: a field that nobody fills is a field that nobody tests."""
    filled: set[tuple[str, str]] = set()
    known: set[tuple[str, str]] = set()

    def visit(part: Any) -> None:
        for spec in fields(part):
            known.add((type(part).__name__, spec.name))
            value = getattr(part, spec.name)
            if value is not None and value != () and value is not False:
                filled.add((type(part).__name__, spec.name))
            for each in value if isinstance(value, tuple) else (value,):
                if hasattr(each, "__dataclass_fields__"):
                    visit(each)

    visit(full_case())
    assert known - filled == set()
    assert ("Report", "linked_reports") in filled
    assert Report in {type(full_case().report)}
