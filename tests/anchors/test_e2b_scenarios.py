"""FDA's table of ICSR data elements and its scenarios 3 and 4: the shipped facts, the messages read and written."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from tests.support.e2b_case import STAMP, full_case
from tests.support.e2b_structure import ADDITIONAL, listed, orders, turned
from trialops.safety.case import Case
from trialops.safety.e2b.elements import corrections, elements
from trialops.safety.e2b.make_elements import COLUMNS, rows_of
from trialops.safety.e2b.mapping import values_of
from trialops.safety.e2b.paths import null_of, repaired
from trialops.safety.e2b.reader import parse, read_messages
from trialops.safety.e2b.reports import FDA_IND_CDER, ReportSettings, ind_report
from trialops.safety.e2b.values import read_values
from trialops.safety.e2b.writer import BatchHeader, MessageHeader, write_batch
from trialops.safety.terms import NULL_REASONS, TERMS

NAMESPACES = {"h": "urn:hl7-org:v3", "xsi": "http://www.w3.org/2001/XMLSchema-instance"}
SCENARIOS = {3: 87, 4: 76}
"""Official XPaths that a scenario fills (notes of the reference data)."""


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    anchors: Path = request.getfixturevalue("anchors")
    return anchors / "e2b-r3"


@pytest.fixture
def table(folder: Path) -> Path:
    return folder / "icsr_data_elements.csv"


def scenario(folder: Path, number: int) -> bytes:
    return (folder / f"FAERS2022Scenario{number}.xml").read_bytes()


def official_paths(table: Path) -> dict[str, str]:
    """The table's own XPaths: well-formed, without the letters of repetitions, names in the namespace."""
    with table.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.reader(handle))[2:]
    paths = {}
    for row in rows:
        number, path = row[2].strip(), re.sub(r"\[[rik]\]", "", repaired(row[32]))
        if number not in {"", "(Header)"} and path:
            paths[number] = "".join(
                part
                if part.startswith("'")
                else re.sub(r"(?<![@\w:-])([A-Za-z_][\w.-]*)(?![\w.-]*\s*\(|:)(?![\w.-])", r"h:\1", part)
                for part in re.split(r"('[^']*')", path)
            )
    return paths


def filled(document: bytes, table: Path) -> dict[str, list[str]]:
    """What the official XPaths find in a document; blanks around a value do not count."""
    tree = parse(document)
    found = {}
    for number, path in official_paths(table).items():
        try:
            result = tree.xpath(path, namespaces=NAMESPACES)
        except etree.XPathError:
            continue
        texts = [result] if isinstance(result, str) else [str(each) for each in result]
        texts = [text.strip() for text in texts if text.strip()]
        if texts:
            found[number] = texts
    return found


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_shipped_elements_are_those_of_the_table(table: Path) -> None:
    shipped = elements()
    rows = {row["number"]: row for row in rows_of(table)}
    assert list(shipped) == list(rows)
    assert len(rows) == 251
    conformance = {"R": "required", "C": "conditional", "O": "optional", "": ""}
    for number, row in rows.items():
        element = shipped[number]
        assert set(row) == set(COLUMNS)
        assert element.name == row["name"]
        assert (str(element.max_length) if element.max_length else "") == row["length"]
        assert element.data_type == row["type"]
        assert " ".join(element.allowed) == row["allowed"]
        assert element.ich == conformance[row["ich"]]
        assert element.postmarket == conformance[row["postmarket"]]
        assert element.premarket == conformance[row["premarket"]]
        assert " ".join(element.null_flavors) == row["nulls"]
        assert " ".join(element.oids) == row["oids"]
        assert element.xpath == row["path"]
        assert element.null_xpath == (null_of(row["path"]) if row["null"] == "=" else row["null"])


def test_the_table_has_235_xpaths_and_every_other_element_a_correction(table: Path) -> None:
    with table.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.reader(handle))[2:]
    with_path = [row[2].strip() for row in rows if row[2].strip() not in {"", "(Header)"} and "/MCCI_" in row[32]]
    assert len(with_path) == 235
    unread = [number for number, element in elements().items() if not element.paths]
    assert unread == ["FDA.G.k.12.r.7"]  # a heading that the table numbers
    for number in set(elements()) - set(with_path) - set(unread):
        assert elements()[number].correction, number


def test_words_of_a_case_are_the_codes_of_the_table() -> None:
    for name, (number, pairs) in TERMS.items():
        assert sorted(pairs.values()) == sorted(elements()[number].allowed), name
    flavors = {flavor for element in elements().values() for flavor in element.null_flavors}
    assert flavors == set(NULL_REASONS.values())


def test_a_correction_is_needed_and_those_seen_in_a_scenario_are_filled_there(folder: Path) -> None:
    read = set()
    for number in SCENARIOS:
        read |= set(read_values(parse(scenario(folder, number))))
    for number, fix in corrections().items():
        if fix["seen"] == "scenario" and number not in {"C.1.6.1.r.2#media", "C.1.6.1.r.2#file"}:
            assert number in read or fix["path"] == elements()[number].xpath, number
        if "#" not in number:
            assert (elements()[number].xpath,) != elements()[number].paths, number


# --- the scenarios ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SCENARIOS)
def test_a_scenario_fills_the_official_xpaths(folder: Path, table: Path, number: int) -> None:
    assert len(filled(scenario(folder, number), table)) == SCENARIOS[number]


@pytest.mark.parametrize("number", SCENARIOS)
def test_the_message_of_the_neutral_case_fills_every_official_xpath_with_equal_values(
    folder: Path, table: Path, number: int
) -> None:
    header, (message,) = read_messages(scenario(folder, number))
    told = json.dumps(message.case.to_dict())  # nothing but content can pass
    assert "xsi" not in told and "2.16.840" not in told
    case = Case.from_dict(json.loads(told))
    written = write_batch(header, [(message.header, case)])
    expected = filled(scenario(folder, number), table)
    assert len(expected) == SCENARIOS[number]
    assert filled(written, table) == expected


@pytest.mark.parametrize("number", SCENARIOS)
def test_the_message_says_every_element_that_the_scenario_says(folder: Path, number: int) -> None:
    """Also those that the official XPaths miss: IND numbers, race, roles, opinions, criteria of FDA."""
    header, (message,) = read_messages(scenario(folder, number))
    (again,) = read_messages(write_batch(header, [(message.header, message.case)]))[1]
    assert again.case == message.case
    assert again.header == message.header
    ids = {"E#id", "G#id", "G.k.9.i.1"}
    before = {key: places for key, places in message.values.found.items() if key not in ids}
    after = {key: places for key, places in again.values.found.items() if key not in ids}
    assert after == before
    assert set(values_of(message.case)) <= set(after)


def test_what_scenario_3_says_is_understood(folder: Path) -> None:
    _, (message,) = read_messages(scenario(folder, 3))
    case = message.case
    assert [drug.name for drug in case.drugs] == ["MK-001", "Drug B", "Drug C"]
    assert [drug.role for drug in case.drugs] == ["suspect", "suspect", "concomitant"]
    opinions = {
        (drug.name, relation.reaction): [(each.source, each.result) for each in relation.assessments]
        for drug in case.drugs
        for relation in drug.relations
    }
    assert opinions == {
        ("MK-001", 1): [("Investigator", "Suspected")],
        ("MK-001", 2): [("Sponsor", "Suspected")],
        ("Drug B", 1): [("Investigator", "Not Suspected")],
        ("Drug B", 2): [("Sponsor", "Suspected")],
    }
    assert case.study is not None
    assert (case.study.ind_number, case.study.cross_reported) == ("123456", ("222222", "333333"))
    assert (case.reactions[0].disability, case.reactions[1].disability) == (True, False)


@pytest.mark.parametrize("number", SCENARIOS)
def test_a_scenario_as_ind_report_keeps_what_it_says(folder: Path, number: int) -> None:
    _, (message,) = read_messages(scenario(folder, number))
    report = ind_report(message.case, ReportSettings("4567AB89012", FDA_IND_CDER), STAMP)
    assert report.completed == ()
    (again,) = read_messages(report.document)[1]
    assert again.case == replace(message.case, report=replace(message.case.report, created=STAMP))
    assert again.values.first("N.1.4") == "ZZFDA_PREMKT"
    assert again.values.first("N.2.r.3") == "CDER_IND"


# --- structure -------------------------------------------------------------------------------------------------------


@pytest.fixture
def known_orders(folder: Path) -> set[Any]:
    return set().union(*(orders(parse(scenario(folder, number))) for number in SCENARIOS))


def test_elements_stand_in_the_order_of_the_official_samples(known_orders: set[Any]) -> None:
    header = BatchHeader("batch", "sender", "receiver", STAMP)
    written = write_batch(header, [(MessageHeader("message", "sender", "receiver", STAMP), full_case())])
    ours = orders(parse(written))
    assert len(ours) > 200
    assert {order for order in ours if turned(order) in known_orders} == set()
    assert ours - known_orders - listed() == set()


def test_the_additional_orders_contradict_no_official_sample(known_orders: set[Any]) -> None:
    assert {order for order in listed() if turned(order) in known_orders} == set()
    assert all(reason for _, reason in ADDITIONAL.values())


@pytest.mark.parametrize("number", SCENARIOS)
def test_the_frame_of_a_message_is_that_of_the_scenario(folder: Path, number: int) -> None:
    """What a case can tell stands under the same chain of parents, with the same fixed codes, as in the scenario."""
    header, (message,) = read_messages(scenario(folder, number))
    written = write_batch(header, [(message.header, message.case)])

    def frame(document: bytes) -> set[str]:
        fixed = ("typeCode", "classCode", "moodCode", "determinerCode")
        chains = set()
        for element in parse(document).iter(etree.Element):
            chain = []
            for each in (*reversed(list(element.iterancestors())), element):
                kind = "".join(f"[{name}={each.get(name)}]" for name in fixed if each.get(name))
                chain.append(etree.QName(each).localname + kind)
            chains.add("/".join(chain))
        return chains

    missing = frame(scenario(folder, number)) - frame(written)
    # Said by the scenario without being an element of the standard: where a dosage was obtained, a form without a code.
    assert {each.rpartition("substanceAdministration")[2] for each in missing} == {
        "[classCode=SBADM][moodCode=EVN]/consumable[typeCode=CSM]/instanceOfKind[classCode=INST]"
        "/kindOfProduct[classCode=MMAT][determinerCode=KIND]",
        "[classCode=SBADM][moodCode=EVN]/consumable[typeCode=CSM]/instanceOfKind[classCode=INST]"
        "/kindOfProduct[classCode=MMAT][determinerCode=KIND]/formCode",
        "[classCode=SBADM][moodCode=EVN]/performer[typeCode=PRF]",
        "[classCode=SBADM][moodCode=EVN]/performer[typeCode=PRF]/assignedEntity[classCode=ASSIGNED]",
        "[classCode=SBADM][moodCode=EVN]/performer[typeCode=PRF]/assignedEntity[classCode=ASSIGNED]"
        "/representedOrganization[classCode=ORG][determinerCode=INSTANCE]",
        "[classCode=SBADM][moodCode=EVN]/performer[typeCode=PRF]/assignedEntity[classCode=ASSIGNED]"
        "/representedOrganization[classCode=ORG][determinerCode=INSTANCE]/addr",
        "[classCode=SBADM][moodCode=EVN]/performer[typeCode=PRF]/assignedEntity[classCode=ASSIGNED]"
        "/representedOrganization[classCode=ORG][determinerCode=INSTANCE]/addr/country",
    }
