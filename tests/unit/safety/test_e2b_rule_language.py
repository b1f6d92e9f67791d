"""The language of rules: what binds closer, where an element is looked up, what is no condition."""

from __future__ import annotations

import pytest

from trialops.errors import TrialOpsError
from trialops.safety.e2b.rule_language import Facts, Found, Report, Scope, compile_condition, elements_in, groups_of

SETS = {"suspect": [1, 3]}
REPORT = Report(
    (
        Found("N.2.r.3", (), "CDER_IND"),
        Found("C.1.3", (), "2"),
        Found("C.1.7", (), "", "NI"),
        Found("C.1.6.1.r.2#representation", (1,), "B64"),
        Found("G.k.1", (1,), "1"),
        Found("G.k.1", (2,), "2"),
        Found("G.k.4.r.1a", (1, 1), "5"),
        Found("G.k.4.r.1b", (1, 1), "mg"),
        Found("G.k.4.r.1a", (1, 2), "6"),
        Found("G.k.4.r.1a", (2, 1), "7"),
        Found("G.k.4.r.1b", (2, 1), "mg"),
        Found("FDA.G.k.12.r.1", (2, 1), "true"),
        Found("D.10.6", (), "", "UNK"),
        Found("H.2", (), ""),
    ),
    Facts(initial=False, products=frozenset({"A"})),
)


def holds(text: str, scope: Scope | None = None) -> bool:
    return compile_condition(text, SETS)(scope or Scope(REPORT))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C.1.3 = 2", True),
        ("not C.1.3 = 2", False),
        ("C.1.3 in (1, 2) and not C.1.3 in (1, 3)", True),
        ("C.1.3 = 1 and C.1.3 = 1 or C.1.3 = 2", True),
        ("C.1.3 = 1 and (C.1.3 = 1 or C.1.3 = 2)", False),
        ("not C.1.3 = 1 and C.1.7 stated", True),
        ("C.1.7 given", False),
        ("C.1.7 null", True),
        ("C.1.7 null NI", True),
        ("C.1.7 null UNK", False),
        ("H.2 stated", False),
        ("G.k.1 in $suspect", True),
        ('N.2.r.3 matches "CDER.*"', True),
        ('N.2.r.3 matches "CDER"', False),
        ("G.k.4.r.1a = 7", True),
        ("C.1.6.1.r.2#representation = B64", True),
        ("C.1.3 = G.k.1", True),
        ("some G.k (G.k.1 = 2 and FDA.G.k.12.r.1 = true)", True),
        ("some G.k (G.k.1 = 1 and FDA.G.k.12.r.1 = true)", False),
        ("every G.k.4.r (G.k.4.r.1b given)", False),
        ("every G.k (some G.k.4.r (G.k.4.r.1b given))", True),
        ("every F.r (F.r.1 given)", True),
        ("some F.r (F.r.1 given)", False),
        ("first G.k (G.k.1 = 1)", True),
        ("first G.k (G.k.1 = 2)", False),
        ("section D.10 stated", True),
        ("section D.1 stated", False),
        ("@route = premarket", True),
        ("@initial = false", True),
        ("@initial = true", False),
        ("@products known and not @registered known", True),
        ("C.1.3 in @products", False),
        ("C.1.3 in @registered", False),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    assert holds(text) is expected


def test_an_element_is_looked_up_in_the_repeat_a_rule_stands_in() -> None:
    (first, second) = Scope(REPORT).inner("G.k")
    assert holds("G.k.1 = 1", first) and not holds("G.k.1 = 1", second)
    assert not holds("FDA.G.k.12.r.1 given", first) and holds("FDA.G.k.12.r.1 given", second)
    assert holds("C.1.3 = 2", second)
    doses = first.inner("G.k.4.r")
    assert [holds("G.k.4.r.1b given", dose) for dose in doses] == [True, False]
    assert [dose.path for dose in second.inner("G.k.4.r")] == [(2, 1)]
    assert holds("G.k.1 = 1", doses[1])


def test_what_failed_in_every_is_remembered() -> None:
    scope = Scope(REPORT)
    assert not compile_condition("every G.k.4.r (G.k.4.r.1b given)", SETS)(scope)
    assert scope.blame == [(1, 2)]


@pytest.mark.parametrize(
    "text",
    ["", "C.1.3", "C.1.3 = ", "C.1.3 is 2", "C.1.3 = 2 C.1.4 given", "(C.1.3 = 2", "some G.k G.k.1 = 1", "@rain = yes",
     "G.k.1 in $unknown", "G.k.1 in (1, 2", "C.1.3 = 2 and", "not", "C.1.3 ~ 2", "section D.10", "C.1.3 matches 2"],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(TrialOpsError, match="cannot be read") as caught:
        compile_condition(text, SETS)
    assert caught.value.where == text


def test_groups_and_elements() -> None:
    assert groups_of("FDA.G.k.12.r.3.r") == ("G.k", "G.k.12.r", "G.k.12.r.3.r")
    assert groups_of("G.k.9.i.2.r.1") == ("G.k", "G.k.9.i", "G.k.9.i.2.r")
    assert groups_of("N.2.r.3") == () == groups_of("D.2.2.1a")
    assert elements_in("C.1.3 = 2 and FDA.G.k.1.a given or C.1.6.1.r.2#compression given") == {
        "C.1.3",
        "FDA.G.k.1.a",
        "C.1.6.1.r.2",
    }
