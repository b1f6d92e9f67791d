"""FDA's rejection and warning rules, scenarios and acknowledgements against the reference files."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trialops.safety.e2b.acknowledgements import parse_acknowledgement
from trialops.safety.e2b.checking import check, rejections
from trialops.safety.e2b.elements import elements
from trialops.safety.e2b.rule_language import Facts
from trialops.safety.e2b.rules import rules

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def table(anchors: Path) -> list[dict[str, str]]:
    """The rules of FDA's sheet: element, id, severity."""
    rows, element = [], ""
    with (anchors / "e2b-r3" / "rejection_warning_rules.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in list(csv.reader(file))[7:]:
            if row[0].strip() and not row[0].startswith("("):
                element = row[0].strip()
            if row[3].strip() or row[4].strip():
                severity = "rejection" if row[3].strip() else "warning"
                rows.append({"element": element, "id": row[5].strip() or element, "severity": severity})
    return rows


def test_ids_and_severities_are_those_of_the_sheet(table: list[dict[str, str]]) -> None:
    ours = {rule.id: rule.severity for rule in rules()}
    assert ours == {row["id"]: row["severity"] for row in table}
    assert sum(1 for row in table if row["id"][0] in "RW") == 121
    assert sum(1 for row in table if row["severity"] == "rejection") == 111


def test_every_rule_is_about_the_element_of_its_line(table: list[dict[str, str]]) -> None:
    # The sheet names race without its last digit.
    named = {row["id"]: {"FDA.D.11.r": "FDA.D.11.r.1"}.get(row["element"], row["element"]) for row in table}
    assert {rule.id: rule.element for rule in rules()} == named


def test_every_element_a_rule_looks_at_is_one_of_the_standard() -> None:
    groups = {number.removeprefix("FDA.").rpartition(".")[0] for number in elements()} | {"G.k", "E.i", "D.11.r"}
    for rule in rules():
        unknown = {
            each for each in rule.elements() if each not in elements() and each not in groups and "#" not in each
        } - {"D.7.1", "D.10"}
        assert unknown == set(), rule.id


@pytest.mark.parametrize("scenario", [3, 4])
def test_no_scenario_of_fda_is_rejected(anchors: Path, scenario: int) -> None:
    from lxml import etree

    tree = etree.parse(str(anchors / "e2b-r3" / f"FAERS2022Scenario{scenario}.xml"))
    findings = check(tree, facts=Facts(initial=True), as_of=NOW)
    assert rejections(findings) == ()
    # Scenario 4 encloses 47 digits of base 64, which nobody can decode.
    assert [finding.rule for finding in findings] == ([] if scenario == 3 else ["DOCUMENT"])


def test_the_positive_acknowledgement(anchors: Path) -> None:
    found = parse_acknowledgement((anchors / "e2b-r3" / "R3ack-positive.ack").read_bytes())
    assert (found.number, found.sender, found.receiver) == ("33439257", "ZZFDA", "4567AB89012")
    assert (found.batch, found.local_number) == ("FAERS2022Scenario1-4069-a2dd-08002b30309d", "427032")
    assert (found.sent, found.batch_sent, found.code) == ("20220811135030-0400", "20141214151617-0500", "AA")
    (message,) = found.messages
    assert (message.code, message.local_report, message.sender) == ("CA", "19426648", "CDER")
    assert message.names("21ec1492-3aea-4069-a2ab-08002b30309d", "") and message.names("", "US-APHARMA-8744554B")
    assert not message.names("US-APHARMA", "21ec1492")


def test_the_negative_acknowledgement(anchors: Path) -> None:
    found = parse_acknowledgement((anchors / "e2b-r3" / "R3ack-negative.ack").read_bytes())
    assert (found.code, found.text) == ("AE", "some ICSR message(s) need further action")
    (message,) = found.messages
    assert (message.code, message.message) == ("CR", "US-APHARMA-7644554")
    assert message.elements == ("FDA.C.1.7.1", "FDA.C.1.12", "FDA.D.12")
    assert message.created == "20150227000000-0500"


def test_the_scenarios_answered_by_the_positive_acknowledgement_are_told_by_batch(anchors: Path) -> None:
    from lxml import etree

    from trialops.safety.e2b.values import read_values

    found = parse_acknowledgement((anchors / "e2b-r3" / "R3ack-positive.ack").read_bytes())
    values = read_values(etree.parse(str(anchors / "e2b-r3" / "FAERS2022Scenario3.xml")))
    assert values.first("N.1.2") == found.batch
    assert found.messages[0].names(values.first("N.2.r.1") or "", values.first("C.1.1") or "")
