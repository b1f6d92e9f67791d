"""ICD-10-CM: format, leaves, validity by date, suggestions, malformed order files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import simple_icd_10_cm as library
from hypothesis import given
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.standards.icd10 import ICD10, changes, fiscal_year, normalise, read_order_file

ICD = ICD10()
DAY = dt.date.fromisoformat


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("e119", "E11.9"),
        (" E11.9 ", "E11.9"),
        ("I10", "I10"),
        ("s72001a", "S72.001A"),
        ("U07.1", "U07.1"),
        ("C4A.0", "C4A.0"),
        ("G20.A1", "G20.A1"),
        ("W61.62XD", "W61.62XD"),
        ("E1l.9", ""),
        ("11.9", ""),
        ("E11.12345", ""),
        ("E11.", ""),
        ("", ""),
        ("I10-I1A", ""),
    ],
)
def test_format(text: str, code: str) -> None:
    assert normalise(text) == code


@pytest.mark.parametrize(
    ("code", "day", "status"),
    [
        ("E11.9", None, "valid"),
        ("E11", None, "not billable"),
        ("S72.001", None, "not billable"),  # the 7th character is missing
        ("S72.001A", None, "valid"),
        ("S72.001Z", None, "unknown"),
        ("E11.99", None, "unknown"),
        ("R05", "2021-09-30", "valid"),
        ("R05", "2021-10-01", "no longer valid"),
        ("R05", None, "no longer valid"),
        ("R05.1", "2021-09-30", "not yet valid"),
        ("R05.1", "2021-10-01", "valid"),
        ("U07.1", "2020-03-31", "not yet valid"),
        ("U07.1", "2020-04-01", "valid"),
        ("G35", "2025-09-30", "valid"),
        ("G35", "2026-04-01", "no longer valid"),
        ("E11.9", "2015-09-30", "not yet valid"),
        ("A00-B99", None, "bad format"),
    ],
)
def test_status(code: str, day: str | None, status: str) -> None:
    finding = ICD.check(code, DAY(day) if day else None)
    assert finding.status == status
    assert finding.valid == (status == "valid")
    assert bool(finding.reason) != finding.valid


def test_why_a_code_is_not_billable() -> None:
    assert ICD.check("S72.001").reason == "its 7th character is missing"
    assert ICD.check("T36.0X1").reason == "its 7th character is missing"  # X holds the 6th place
    assert "subdivisions" in ICD.check("S72").reason and "subdivisions" in ICD.check("E11").reason


def test_changes_agree_with_the_release() -> None:
    """What the list says was added is billable in the release; what was deleted is not."""
    assert len(changes()) > 60
    for code, change in changes().items():
        there = library.is_valid_item(code) and library.is_leaf(code)
        assert there == change.added, code
        assert change.day.day == 1 and change.day.month in (1, 4, 10)


def test_basis_is_stated() -> None:
    assert ICD.check("E11.9", DAY("2026-05-01")).basis == "ICD-10-CM April 2026"
    assert "known changes" in ICD.check("E11.9", DAY("2019-05-01")).basis


@pytest.mark.parametrize(
    ("code", "day", "meant"),
    [
        ("E1l.9", None, "E11.9"),
        ("I5O.9", None, "I50.9"),
        ("E19.1", None, "E11.9"),
        ("E11", None, "E11.00"),
        ("R05", "2022-01-01", "R05.9"),
        ("R05.1", "2020-01-01", "R05"),
        ("S72.001", None, "S72.001A"),
    ],
)
def test_suggestions(code: str, day: str | None, meant: str) -> None:
    offered = dict(ICD.check(code, DAY(day) if day else None).suggestions)
    assert meant in offered and offered[meant]


def test_ancestors() -> None:
    assert ICD.ancestors("E11.9") == ["E11", "E08-E13", "4"]
    assert ICD.ancestors("nothing") == []


@pytest.mark.slow
def test_text_finds_codes() -> None:
    assert ICD.search("Type 2 diabetes mellitus without complications")[0][0] == "E11.9"
    assert ICD.search("type 2 diabetis melitus without complication")[0][0] == "E11.9"
    assert ICD.search("hypertension")[0][0] == "I10"
    assert "H93.19" in [code for code, _, _ in ICD.search("tinnitus")[:3]]
    assert ICD.search("zzzzqqq") == []


def line(number: int, code: str, flag: str, text: str) -> str:
    return f"{number:05d} {code:<7} {flag} {text[:60]:<60} {text}"


def test_order_file_decides_its_year(tmp_path: Path) -> None:
    path = tmp_path / "icd10cm-order-2019.txt"
    rows = [("R05", "1", "Cough"), ("E11", "0", "Type 2 diabetes mellitus"), ("E119", "1", "Type 2 DM w/o compl")]
    path.write_text("\n".join(line(i, *row) for i, row in enumerate(rows, 1)) + "\n")
    icd = ICD10([read_order_file(path)])
    in_year, after = DAY("2018-10-01"), DAY("2019-10-01")
    assert icd.check("R05", in_year).status == "valid"
    assert icd.check("R05", in_year).basis == "order file 2019"
    assert icd.check("E11", in_year).status == "not billable"
    assert icd.check("R05.1", in_year).status == "not yet valid"
    assert icd.check("I10", in_year).status == "no longer valid"
    assert icd.check("Z99.99", in_year).status == "unknown"
    assert icd.check("I10", after).status == "valid"  # another year: the release answers


def test_fiscal_year() -> None:
    assert [fiscal_year(DAY(day)) for day in ("2021-09-30", "2021-10-01", "2022-01-01")] == [2021, 2022, 2022]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("codes.txt", line(1, "R05", "1", "Cough"), "fiscal year"),
        ("icd10cm-order-2024.txt", "", "empty"),
        ("icd10cm-order-2024.txt", "R05 Cough\n", "Line 1"),
        ("icd10cm-order-2024.txt", line(1, "R05", "1", "Cough") + "\n" + line(2, "R0", "1", "x"), "Line 2"),
        ("icd10cm-order-2024.txt", line(1, "R05", "7", "Cough"), "Line 1"),
        ("icd10cm-order-2024.txt", "\x00\xff" * 40, "Line 1"),
    ],
)
def test_malformed_order_files(tmp_path: Path, name: str, content: str, what: str) -> None:
    path = tmp_path / name
    path.write_text(content, "latin-1")
    with pytest.raises(TrialOpsError, match=what):
        read_order_file(path)


@given(st.text(max_size=10), st.none() | st.dates(dt.date(2010, 1, 1), dt.date(2030, 1, 1)))
def test_any_text_has_a_status(text: str, day: dt.date | None) -> None:
    finding = ICD.check(text, day)
    assert finding.valid or finding.reason


@given(st.sampled_from(["E119", "S72001A", "I10", "G20A1", "W6162XD"]), st.booleans(), st.booleans())
def test_normalising_twice_changes_nothing(code: str, lower: bool, blank: bool) -> None:
    once = normalise((code.lower() if lower else code) + (" " if blank else ""))
    assert once and normalise(once) == once and normalise(once.replace(".", "")) == once
