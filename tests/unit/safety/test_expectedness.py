"""Expectedness: the version in force at onset, partly known onsets, severity, specificity, outcomes."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.safety import expectedness as module
from trialops.safety.expectedness import expected_column, expectedness, read_reference, references
from trialops.safety.safety_policy import safety_policy
from trialops.trial.study_file import parse_study, study_file

SHIPPED = Path(module.__file__).with_name("reference_safety.yaml")
VERSIONS = read_reference(SHIPPED)


def judged(term: str, earliest: date | None, latest: date | None = None, **more: Any) -> bool | None:
    return expectedness(VERSIONS, term=term, earliest=earliest, latest=latest or earliest, **more).expected


def test_the_version_in_force_at_onset_decides() -> None:
    last_old, first_new = date(2023, 8, 31), date(2023, 9, 1)
    assert judged("Syncope", last_old, severity="MILD") is False
    assert judged("Syncope", first_new, severity="MILD") is True
    answer = expectedness(VERSIONS, term="SYNCOPE", earliest=first_new, latest=first_new, severity="MILD")
    assert answer.versions == ("IB edition 2, section 7",)
    assert judged("APPLICATION SITE PRURITUS", date(2022, 11, 13)) is False, "nothing was in force yet"
    assert judged("APPLICATION SITE PRURITUS", date(2022, 11, 14)) is True


def test_a_partly_known_onset_is_expected_only_if_by_every_version_it_can_mean() -> None:
    year = (date(2023, 1, 1), date(2023, 12, 31))
    assert judged("SYNCOPE", *year, severity="MILD") is False
    assert judged("APPLICATION SITE ERYTHEMA", *year) is True
    assert judged("APPLICATION SITE ERYTHEMA", date(2022, 1, 1), date(2022, 12, 31)) is False
    assert judged("APPLICATION SITE ERYTHEMA", None) is False, "it may have been before the first version"


@pytest.mark.parametrize(
    ("term", "more", "expected"),
    [
        ("NAUSEA", {"severity": "MILD"}, True),
        ("NAUSEA", {"severity": "MODERATE"}, True),
        ("NAUSEA", {"severity": "SEVERE"}, False),
        ("NAUSEA", {"severity": ""}, False),  # it may have been worse than listed
        ("NAUSEA", {"severity": "MILD", "fatal": True}, False),
        ("NAUSEA", {"severity": "MILD", "life_threatening": True}, False),
        ("SYNCOPE", {"severity": "SEVERE"}, True),
        ("SYNCOPE", {"severity": "SEVERE", "lowest": "Syncope vasovagal with convulsion"}, False),
        ("SYNCOPE VASOVAGAL", {"severity": "MILD"}, False),  # a term of its own is not the listed one
        ("MYOCARDIAL INFARCTION", {"severity": "SEVERE"}, True),
        ("MYOCARDIAL INFARCTION", {"life_threatening": True}, True),
        ("MYOCARDIAL INFARCTION", {"fatal": True}, False),
        ("MYOCARDIAL INFARCTION", {"grade": 5}, False),
        ("HEPATIC ENZYME INCREASED", {"grade": 3}, True),
        ("HEPATIC ENZYME INCREASED", {"grade": 4}, False),
        ("HEPATIC ENZYME INCREASED", {"grade": None}, False),
    ],
)
def test_more_severe_more_specific_or_fatal_is_unexpected(term: str, more: dict[str, Any], expected: bool) -> None:
    assert judged(term, date(2024, 1, 1), **more) is expected


def test_without_a_reference_nothing_is_known() -> None:
    answer = expectedness([], term="NAUSEA", earliest=date(2024, 1, 1), latest=date(2024, 1, 1))
    assert answer.expected is None and "no reference" in answer.reason


def test_a_gap_between_versions_is_no_reference() -> None:
    content = [
        {"version": "1", "valid_from": date(2020, 1, 1), "valid_to": date(2020, 6, 30), "terms": ["NAUSEA"]},
        {"version": "2", "valid_from": date(2020, 8, 1), "terms": ["NAUSEA"]},
    ]
    found = references(_study(content))
    for earliest, latest, expected in (
        (date(2020, 6, 1), date(2020, 6, 30), True),
        (date(2020, 6, 1), date(2020, 8, 31), False),
        (date(2020, 7, 15), date(2020, 7, 15), False),
        (date(2020, 8, 1), date(2021, 1, 1), True),
    ):
        assert expectedness(found, term="nausea", earliest=earliest, latest=latest).expected is expected


def test_a_version_ends_the_day_before_the_next_begins_and_overlaps_are_refused() -> None:
    first = {"version": "1", "valid_from": date(2020, 1, 1), "terms": ["A"]}
    second = {"version": "2", "valid_from": date(2021, 1, 1), "terms": ["B"]}
    assert [v.valid_to for v in references(_study([second, first]))] == [date(2020, 12, 31), None]
    with pytest.raises(TrialOpsError, match="in force at once"):
        references(_study([first | {"valid_to": date(2021, 1, 1)}, second]))


def test_a_study_file_may_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "rsi.yaml").write_text(SHIPPED.read_text())
    named = [{"version": "IB edition 2, section 7", "valid_from": date(2024, 1, 1), "path": "rsi.yaml"}]
    found = references(_study(named, tmp_path))
    assert [(v.version, v.valid_from, v.product) for v in found] == [
        ("IB edition 2, section 7", date(2024, 1, 1), "TRX-101")
    ]
    with pytest.raises(TrialOpsError, match="no version"):
        references(_study([named[0] | {"version": "IB edition 9"}], tmp_path))


def test_the_reference_of_the_investigational_product_counts_and_of_two_that_of_each(tmp_path: Path) -> None:
    def made(role: str) -> Any:
        text = SHIPPED.read_text().replace("product: TRX-101", "product: Second").replace("NAUSEA", "VOMITING")
        (tmp_path / "first.yaml").write_text(SHIPPED.read_text())
        (tmp_path / "second.yaml").write_text(text)
        named = {"version": "IB edition 2, section 7", "valid_from": date(2023, 1, 1)}
        found = _study([named | {"path": "first.yaml"}, named | {"path": "second.yaml"}], tmp_path)
        products = [{"name": "TRX-101", "role": "investigational"}, {"name": "Second", "role": role}]
        return safety_policy(replace(found, safety={**found.safety, "products": products})).references

    day = {"earliest": date(2024, 1, 1), "latest": date(2024, 1, 1), "severity": "MILD"}
    alone, both = made("comparator"), made("investigational")
    assert len(alone) == 1 and expectedness(alone, term="NAUSEA", **day).expected is True
    assert len(both) == 2 and expectedness(both, term="NAUSEA", **day).expected is False
    assert expectedness(both, term="SYNCOPE", **day).expected is True


def test_the_demonstration_study_names_the_shipped_file() -> None:
    assert [v.version for v in safety_policy(study_file()).references] == [v.version for v in VERSIONS]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("product: X\nversions: [{version: a, valid_from: 2020-01-01, terms: [{term: A, worst: 1}]}]", "listed term"),
        ("product: X\nversions: [{version: a, valid_from: 2020-01-01, terms: [], extra: 1}]", "Unknown in a version"),
        ("product: X\nversions: [{version: a, valid_from: 2020-01-01, terms: [{term: A, max_severity: BAD}]}]", "BAD"),
        ("product: X", "cannot be read"),
        (": :", "cannot be read"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "rsi.yaml").write_text(text)
    with pytest.raises(TrialOpsError, match=problem):
        read_reference(tmp_path / "rsi.yaml")


def test_the_column_is_the_function_of_each_row() -> None:
    rows = [
        {"AEDECOD": "NAUSEA", "AESEV": "MILD", "FATAL": False},
        {"AEDECOD": "NAUSEA", "AESEV": "SEVERE", "FATAL": False},
        {"AEDECOD": "NAUSEA", "AESEV": "MILD", "FATAL": True},
        {"AEDECOD": "NAUSEA", "AESEV": "MILD", "FATAL": False},
        {"AEDECOD": None, "AESEV": None, "FATAL": False},
    ]
    day = date(2024, 1, 1)
    schema = {"AEDECOD": pl.String, "AESEV": pl.String, "FATAL": pl.Boolean}
    events = pl.DataFrame(rows, schema=schema).with_columns(
        ONSET_EARLIEST=pl.lit(day),
        ONSET_LATEST=pl.lit(day),
        LIFE_THREATENING=pl.lit(False),
        GRADE=pl.lit(None, pl.Int64),
    )
    assert expected_column(events, VERSIONS).to_list() == [True, False, False, True, False]
    assert expected_column(events, []).to_list() == [None] * 5


def _study(content: list[dict[str, Any]], folder: Path | None = None) -> Any:
    document = {
        "protocol": {"number": "T", "title": "A trial", "blinded": True, "planned_enrolment": 10},
        "safety": {"reference_safety_information": content},
    }
    return parse_study(document, **({"folder": folder} if folder else {}))
