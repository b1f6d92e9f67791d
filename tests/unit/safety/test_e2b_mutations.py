"""Every rule fires where it should: a valid report, one change, exactly the findings expected."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.support.e2b_messages import (
    Change,
    aggregate,
    bioequivalence,
    change,
    drawn,
    full,
    marketed,
    written,
    xml,
)
from trialops.safety.e2b.checking import check
from trialops.safety.e2b.reader import parse
from trialops.safety.e2b.rule_language import Facts
from trialops.safety.e2b.rules import rules
from trialops.safety.e2b.values import Value, Values

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KNOWN = Facts(
    initial=False,
    registered=frozenset({"123456", "222222", "234567"}),
    products=frozenset({"TRX-101"}),
    device_codes=frozenset({"2993"}),
)
FIRST = Facts(initial=True)

Base = Callable[[], Values]


def _set(number: str, value: str) -> Change:
    return ("set", number, value)


def _drop(*numbers: str) -> Change:
    return ("drop", *numbers)


def _null(number: str, flavour: str) -> Change:
    return ("null", number, flavour)


def _first() -> Values:
    """The first report of a case: it amends nothing."""
    return change(full(), _drop("C.1.11.1", "C.1.11.2"))


def _study() -> Values:
    """A report after approval from a study, on no combination product."""
    return change(
        marketed(),
        _set("C.1.3", "2"),
        _set("C.5.4", "2"),
        _set("FDA.C.1.12", "false"),
        _set("FDA.C.1.7.1", "1"),
        _set("G.k.3.1", "NDA012345"),
    )


def _plain() -> Values:
    """A spontaneous report after approval, on no combination product."""
    return change(marketed(), _set("FDA.C.1.12", "false"), _set("FDA.C.1.7.1", "1"))


def _spontaneous() -> Values:
    """A spontaneous report on an IND."""
    return change(full(), _set("C.1.3", "1"), _drop("C.5.4"))


def _text_result() -> Values:
    return change(full(), _drop("F.r.3.2", "F.r.3.3"), _set("F.r.3.4", "within limits"))


# id -> where it starts, what is changed, what else FDA's rules say to the same change.
CASES: dict[str, tuple[Base, list[Change], set[str]]] = {
    "R0004": (_plain, [_set("N.1.4", "OTHER")], set()),
    "R0005": (full, [_set("N.1.4", "OTHER")], set()),
    "R0006": (_plain, [_set("N.2.r.3", "CBER")], set()),
    "R0007": (full, [_set("N.2.r.3", "OTHER")], set()),
    "R0008": (bioequivalence, [_set("C.1.3", "3")], {"R0111"}),
    "R0009": (full, [_drop("C.1.6.1.r.1")], set()),
    "R0010": (full, [_set("C.1.6.1.r.2#compression", "GZ")], set()),
    "R0011": (_first, [_null("C.1.7", "NI")], set()),
    "R0012": (marketed, [_set("FDA.C.1.7.1", "2")], set()),
    "R0013": (marketed, [_set("C.1.7", "false")], set()),
    "R0014": (_plain, [_set("FDA.C.1.7.1", "2")], set()),
    "R0015": (_plain, [_set("C.1.7", "false")], set()),
    "R0016": (full, [_set("FDA.C.1.7.1", "2")], set()),
    "R0017": (full, [_drop("C.1.9.1.r.1")], set()),
    "R0018": (full, [_drop("C.1.9.1.r.2")], set()),
    "R0019": (full, [_drop("C.2.r.3")], set()),
    "R0020": (full, [_drop("C.2.r.4")], set()),
    "R0021": (full, [_drop("C.2.r.5")], set()),
    "R0022": (full, [_drop("C.3.2")], set()),
    "R0023": (_study, [_drop("C.5.4")], set()),
    "R0024": (full, [_drop("FDA.C.5.5a")], set()),
    "R0025": (bioequivalence, [_drop("FDA.C.5.5b")], set()),
    "R0026": (full, [_drop("FDA.C.5.6.r")], set()),
    "R0027": (marketed, [_set("E.i.2.1b", "10067482")], set()),
    "R0029": (full, [_drop("D.2.2a")], set()),
    "R0030": (full, [_drop("D.2.2b")], set()),
    "R0031": (full, [_drop("D.2.2.1a")], set()),
    "R0032": (full, [_drop("D.2.2.1b")], set()),
    "R0033": (full, [_drop("D.7.1.r.1a")], set()),
    "R0034": (full, [_drop("D.7.1.r.1b")], set()),
    "R0035": (
        lambda: change(full(), _drop(*[f"D.7.1.r.{n}" for n in ("1a", "1b", "2", "3", "4", "5", "6")])),
        [_drop("D.7.2")],
        set(),
    ),
    "R0036": (full, [_drop("D.8.r.1")], set()),
    "R0037": (full, [_drop("D.8.r.6a")], set()),
    "R0038": (full, [_drop("D.8.r.6b")], set()),
    "R0039": (full, [_drop("D.8.r.7a")], set()),
    "R0040": (full, [_drop("D.8.r.7b")], set()),
    "R0041": (full, [_drop("D.9.1")], set()),
    "R0042": (full, [_drop("D.9.2.r.1a")], set()),
    "R0043": (full, [_drop("D.9.2.r.1b")], set()),
    "R0044": (full, [_drop("D.9.2.r.2")], set()),
    "R0045": (full, [_drop("D.9.3")], set()),
    "R0046": (full, [_drop("D.9.4.r.1a")], set()),
    "R0047": (full, [_drop("D.9.4.r.1b")], set()),
    "R0048": (full, [_drop("D.9.4.r.2")], set()),
    "R0049": (full, [_drop("D.10.2.2a")], set()),
    "R0050": (full, [_drop("D.10.2.2b")], set()),
    "R0051": (full, [_drop("D.10.6")], set()),
    "R0052": (full, [_drop("D.10.7.1.r.1a")], set()),
    "R0053": (full, [_drop("D.10.7.1.r.1b")], set()),
    "R0054": (full, [_drop("D.10.8.r.6a")], set()),
    "R0055": (full, [_drop("D.10.8.r.6b")], set()),
    "R0056": (full, [_drop("D.10.8.r.7a")], set()),
    "R0057": (full, [_drop("D.10.8.r.7b")], set()),
    "R0058": (full, [_drop("E.i.1.1b")], set()),
    "R0059": (full, [_drop("E.i.6a")], set()),
    "R0060": (full, [_drop("E.i.6b")], set()),
    "R0061": (full, [_drop("F.r.1")], set()),
    # A date with neither name nor code breaks both rules about it.
    "R0062": (lambda: change(full(), _drop("F.r.2.2a", "F.r.2.2b")), [_drop("F.r.2.1")], {"R0064"}),
    "R0063": (full, [_drop("F.r.2.2a")], set()),
    "R0064": (lambda: change(full(), _drop("F.r.2.1")), [_drop("F.r.2.2b", "F.r.2.2a")], {"R0062"}),
    # One missing result breaks the three rules that each ask for one of its forms.
    "R0065": (
        lambda: change(full(), _drop("F.r.3.2", "F.r.3.3"), _set("F.r.3.1", "2")),
        [_drop("F.r.3.1")],
        {"R0066", "R0068"},
    ),
    "R0066": (full, [_drop("F.r.3.2")], {"R0065", "R0068"}),
    "R0067": (full, [_drop("F.r.3.3")], set()),
    "R0068": (_text_result, [_drop("F.r.3.4")], {"R0065", "R0066"}),
    "R0069": (_study, [_set("G.k.1", "2")], {"W0005"}),
    "R0070": (full, [_set("G.k.1", "4")], {"R0085", "R0086", "R0087"}),
    "R0071": (bioequivalence, [_set("G.k.1", "2")], set()),
    "R0072": (marketed, [_set("G.k.1", "4")], set()),
    "R0073": (full, [_drop("G.k.2.3.r.3b")], set()),
    "R0074": (full, [_drop("G.k.3.2")], set()),
    "R0075": (full, [_drop("G.k.4.r.1b")], set()),
    "R0076": (full, [_drop("G.k.4.r.3")], set()),
    "R0077": (full, [_drop("G.k.4.r.6a")], set()),
    "R0078": (full, [_drop("G.k.4.r.6b")], set()),
    "R0079": (full, [_drop("G.k.5a")], set()),
    "R0080": (full, [_drop("G.k.5b")], set()),
    "R0081": (full, [_drop("G.k.6a")], set()),
    "R0082": (full, [_drop("G.k.6b")], set()),
    "R0083": (full, [_drop("G.k.7.r.2a")], set()),
    "R0084": (full, [_drop("G.k.7.r.2b")], set()),
    "R0085": (full, [_drop("G.k.9.i.2.r.1")], set()),
    "R0086": (full, [_drop("G.k.9.i.2.r.2")], set()),
    "R0087": (full, [_drop("G.k.9.i.2.r.3")], set()),
    "R0088": (full, [_drop("G.k.9.i.3.1a")], set()),
    "R0089": (full, [_drop("G.k.9.i.3.1b")], set()),
    "R0090": (full, [_drop("G.k.9.i.3.2a")], set()),
    "R0091": (full, [_drop("G.k.9.i.3.2b")], set()),
    "R0092": (
        lambda: change(marketed(), _set("C.1.7", "false"), _set("FDA.C.1.7.1", "5")),
        [_set("FDA.G.k.12.r.1", "false")],
        set(),
    ),
    "R0093": (marketed, [_drop("FDA.G.k.12.r.3.r")], set()),
    # Brand and common name are asked for by two rules with the same condition.
    "R0094": (lambda: change(marketed(), _drop("FDA.G.k.12.r.5")), [_drop("FDA.G.k.12.r.4")], {"R0095"}),
    "R0095": (lambda: change(marketed(), _drop("FDA.G.k.12.r.4")), [_drop("FDA.G.k.12.r.5")], {"R0094"}),
    "R0096": (
        lambda: change(marketed(), _null("FDA.G.k.12.r.4", "NI"), _null("FDA.G.k.12.r.5", "NI")),
        [_drop("FDA.G.k.12.r.6")],
        set(),
    ),
    "R0097": (full, [_drop("H.3.r.1a")], set()),
    "R0098": (full, [_drop("H.3.r.1b")], set()),
    "R0099": (full, [_drop("H.5.r.1b")], set()),
    "R0100": (full, [_set("N.2.r.2", "OTHER")], set()),
    "R0101": (_first, [_set("C.1.11.1", "2"), _set("C.1.11.2", "reason")], set()),
    "R0102": (full, [_set("C.5.4", "4")], {"CODE"}),
    "R0103": (_plain, [_set("C.5.4", "1")], set()),
    "R0104": (_study, [_set("C.5.4", "4")], {"CODE"}),
    "R0105": (full, [_set("FDA.C.5.5a", "999999")], set()),
    "R0106": (bioequivalence, [_set("FDA.C.5.5b", "999999")], set()),
    # An IND number asks for cross-reported ones, which are forbidden as well.
    "R0107": (_plain, [_set("FDA.C.5.5a", "123456")], {"R0026"}),
    "R0108": (_plain, [_set("FDA.C.5.5b", "234567")], {"W0006"}),
    "R0109": (_plain, [_set("FDA.C.5.6.r", "222222")], set()),
    "R0110": (full, [_drop("C.5.4")], {"R0023"}),
    "R0111": (bioequivalence, [_set("C.1.3", "1")], {"R0008"}),
    "R0112": (_spontaneous, [_set("C.1.3", "4")], {"R0110"}),
    "R0113": (_spontaneous, [_set("C.5.4", "1")], {"R0008"}),
    "R0114": (_study, [_set("G.k.3.1", "IND123456")], set()),
    "C.1.11.2": (full, [_drop("C.1.11.2")], set()),
    "W0001": (
        lambda: change(aggregate(), _null("FDA.D.12", "NA")),
        [_drop("C.1.10.r")],
        set(),
    ),
    "W0002": (aggregate, [_set("C.5.4", "3")], set()),
    "W0003": (aggregate, [_set("FDA.D.11.r.1", "C41260")], set()),
    "W0004": (aggregate, [_set("FDA.D.12", "C41222")], set()),
    "W0005": (_plain, [_set("G.k.1", "2")], {"R0069"}),
    "W0006": (bioequivalence, [_drop("FDA.G.k.10a")], set()),
    "W0007": (marketed, [_drop("FDA.G.k.12.r.11.r")], set()),
    "W0008": (marketed, [_set("FDA.G.k.12.r.3.r", "0000")], set()),
    "W0009": (full, [_set("G.k.2.2", "another name")], set()),
    "W0010": (full, [_set("C.1.10.r", "US-SPONSOR-2")], set()),
    "W0012": (full, [_set("FDA.C.5.6.r", "999999")], set()),
    "REQUIRED": (full, [_drop("H.1")], set()),
    "REQUIRED, in a repeat": (full, [_drop("E.i.7")], set()),
    "REQUIRED, by FDA before approval": (full, [_drop("FDA.D.12")], set()),
    "REQUIRED, the sender's fax": (full, [_drop("C.3.4.7")], set()),
    "CODE": (full, [_set("E.i.7", "9")], set()),
    "CODE, race": (full, [_set("FDA.D.11.r.1", "C00000")], set()),
    "CODE, false where only true is": (full, [_set("E.i.3.2b", "false")], set()),
    "LENGTH": (full, [_set("D.1", "x" * 61)], set()),
    "LENGTH, reference to a reaction": (full, [_set("G.k.9.i.1", "0" * 33)], set()),
    "TYPE, number": (full, [_set("D.2.2a", "old")], set()),
    "TYPE, MedDRA code": (full, [_set("E.i.2.1b", "1002794x")], set()),
    "TYPE, country": (full, [_set("E.i.9", "us")], set()),
    "TYPE, language": (full, [_set("H.5.r.1b", "ENG")], set()),
    "TYPE, no such day": (full, [_set("E.i.4", "20230229")], set()),
    "TYPE, MedDRA version": (full, [_set("H.3.r.1a", "27.3")], {"MEDDRA_VERSION"}),
    "FUTURE": (full, [_set("D.9.1", "20260103")], set()),
    "FUTURE, to the second": (full, [_set("N.1.5", "20260101000001+0000")], set()),
    "PRECISION": (full, [_set("C.1.4", "202401")], set()),
    "FULL_PRECISION": (full, [_set("N.1.5", "20240115")], set()),
    "NULL_FLAVOUR": (full, [_null("E.i.7", "UNK")], set()),
    "NULL_FLAVOUR, another one": (full, [_null("C.1.9.1", "UNK")], set()),
    "MEDDRA_VERSION": (full, [_set("D.8.r.6a", "26.1")], set()),
    "SAME_TIME": (full, [_set("N.2.r.4", "20240115103001+0000")], set()),
    "DOCUMENT": (full, [_set("C.1.6.1.r.2", "not base 64")], set()),
}


def _ids(values: Values, facts: Facts) -> set[str]:
    return {finding.rule for finding in check(values, facts=facts, as_of=NOW)}


def test_the_table_has_every_rule() -> None:
    assert {rule.id for rule in rules()} <= set(CASES)
    assert len(CASES) >= 140


@pytest.mark.parametrize("name", CASES)
def test_one_change_to_a_valid_report_breaks_the_rule_expected(name: str) -> None:
    base, changes, also = CASES[name]
    rule = name.partition(",")[0]
    facts = FIRST if rule in ("R0011", "R0101") else KNOWN
    before = written(base())
    assert _ids(before, facts) == set()
    assert _ids(change(before, *changes), facts) == {rule} | also


@pytest.mark.parametrize("seed", range(100))
def test_random_valid_reports_break_no_rule_as_written(seed: int) -> None:
    values = drawn(seed)
    assert check(values, facts=KNOWN, as_of=NOW) == ()
    assert check(parse(xml(values)), facts=KNOWN, as_of=NOW) == ()


def test_random_reports_differ_in_what_they_hold() -> None:
    shapes = {tuple((n, tuple(p)) for n, p in drawn(seed).found.items()) for seed in range(100)}
    assert len(shapes) == 100


def test_a_finding_says_which_repeat_and_what_to_do() -> None:
    values = drawn_with_second_dose()
    (finding,) = check(values, facts=KNOWN, as_of=NOW)
    assert (finding.rule, finding.element, finding.repeat) == ("R0075", "G.k.4.r.1b", "G.k 1, G.k.4.r 2")
    assert finding.severity == "rejection" and finding.fix and "mg" not in finding.message


def drawn_with_second_dose() -> Values:
    found = {number: dict(places) for number, places in full().found.items()}
    found["G.k.4.r.1a"] = {(1, 1): Value("5"), (1, 2): Value("6")}
    found["G.k.4.r.1b"] = {(1, 1): Value("mg")}
    return Values(found)


def test_messages_of_a_batch_are_checked_each() -> None:
    findings = check([full(), change(full(), _drop("H.5.r.1b")), full()], facts=KNOWN, as_of=NOW)
    assert [(finding.report, finding.rule) for finding in findings] == [(2, "R0099")]


def test_what_is_not_known_is_listed_and_not_guessed() -> None:
    from trialops.safety.e2b.rules import unchecked

    assert [rule.id for rule in unchecked(Facts())] == [
        "R0011", "R0101", "R0105", "R0106", "W0008", "W0009", "W0012",
    ]  # fmt: skip
    assert all(rule.why for rule in unchecked(Facts()))
    assert unchecked(KNOWN) == ()
    nobody_knows = change(_first(), _null("C.1.7", "NI"), _set("G.k.2.2", "another name"))
    assert _ids(nobody_knows, Facts()) == set()
    # The form of a number the message does show.
    assert _ids(change(full(), _set("FDA.C.5.5a", "12345")), Facts()) == {"R0105"}
    assert [rule.id for rule in unchecked(Facts(registered=frozenset()))] == ["R0011", "R0101", "W0008", "W0009"]


def test_the_route_may_be_stated_against_the_receiver() -> None:
    assert "R0004" in _ids(full(), Facts(route="postmarket"))
