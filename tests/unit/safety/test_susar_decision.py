"""The SUSAR decision over every combination, against a table written in another way: rows of wildcards, first match."""

from __future__ import annotations

from itertools import product

import pytest

from trialops.safety.causality import suspected
from trialops.safety.classification import AUTHORITIES, ROLES, SAE, UNDECIDED, Facts, classify

# serious   expected  investigator sponsor grave reported role          -> rule, clock
# "*" matches anything; Y/N true/false; ? unknown; S serious, C to confirm, N not serious.
SUSPECT_IMP = "investigational|comparator|blinded"
TABLE = """
N * * * * -        *                                 non-serious            -
N * * * * *        *                                 follow-up              follow_up
* * N N * -        *                                 SAE                    -
* * N ? * -        *                                 SAE                    -
* * N N * *        *                                 follow-up              follow_up
* * N ? * *        *                                 follow-up              follow_up
* Y * * * -        *                                 SAE                    -
* Y * * * *        *                                 follow-up              follow_up
* * * * * -        placebo|auxiliary                 SAE                    -
* * * * * *        placebo|auxiliary                 follow-up              follow_up
* * * * * grave    *                                 follow-up              follow_up
* * * * N serious  *                                 follow-up              follow_up
S N Y * Y *        {imp}                             SUSAR 7-day            grave
S N Y * N *        {imp}                             SUSAR 15-day           serious
S N * Y Y *        {imp}                             SUSAR 7-day            grave
S N * Y N *        {imp}                             SUSAR 15-day           serious
* * * * Y *        {imp}                             undecided              grave
* * * * N *        {imp}                             undecided              serious
"""
CODES = {"serious": "S", "to confirm": "C", "not serious": "N", True: "Y", False: "N", None: "?"}
ROWS = [line.format(imp=SUSPECT_IMP).replace("SUSAR ", "SUSAR_").split() for line in TABLE.strip().splitlines()]


def by_table(facts: Facts, rows: list[list[str]] = ROWS) -> tuple[str, str]:
    key = [
        CODES[facts.serious],
        CODES[facts.expected],
        CODES[facts.investigator],
        CODES[facts.sponsor],
        CODES[facts.grave],
        facts.reported or "-",
        facts.role,
    ]
    for *conditions, rule, kind in rows:
        if all(c == "*" or k in c.split("|") for c, k in zip(conditions, key, strict=True)):
            return rule.replace("SUSAR_", "SUSAR "), "" if kind == "-" else kind
    return "no row", ""


ALL = [
    Facts(*values)  # type: ignore[arg-type]
    for values in product(
        ("serious", "to confirm", "not serious"),
        (True, False, None),
        (True, False, None),
        (True, False, None),
        (True, False),
        ROLES,
        ("", "serious", "grave"),
    )
]


@pytest.mark.parametrize("authority", AUTHORITIES)
def test_every_combination_is_decided_as_the_table_says(authority: str) -> None:
    assert len(ALL) == 3 * 3 * 3 * 3 * 2 * 5 * 3 == 2430
    for facts in ALL:
        ruling = classify(facts, authority)  # type: ignore[arg-type]
        rule, kind = by_table(facts)
        found = {SAE: "SAE"}.get(ruling.rule, "undecided" if ruling.rule.startswith(UNDECIDED) else ruling.rule)
        assert (found, ruling.kind) == (rule, kind), facts
        assert ruling.expedited == bool(kind) and bool(ruling.citation) == bool(kind)
        assert ruling.reason and ruling.authority == authority


def test_every_row_of_the_table_is_needed() -> None:
    needed = {
        number
        for number in range(len(ROWS))
        if any(by_table(f) != by_table(f, ROWS[:number] + ROWS[number + 1 :]) for f in ALL)
    }
    assert needed == set(range(len(ROWS)))


def test_what_is_not_known_never_lets_a_report_go() -> None:
    """Replacing an unknown by its worst answer never adds a clock."""
    for facts in ALL:
        worst = Facts(
            "serious" if facts.serious == "to confirm" else facts.serious,
            False if facts.expected is None else facts.expected,
            True if facts.investigator is None else facts.investigator,
            facts.sponsor,
            facts.grave,
            "investigational" if facts.role == "blinded" else facts.role,
            facts.reported,
        )
        assert classify(facts, "FDA").kind == classify(worst, "FDA").kind, facts


def test_the_more_conservative_assessor_decides() -> None:
    said = {(i, s): suspected(i, s) for i, s in product((True, False, None), repeat=2)}
    assert said == {
        (True, True): True,
        (True, False): True,
        (True, None): True,
        (False, True): True,
        (False, False): False,
        (False, None): False,
        (None, True): True,
        (None, False): None,
        (None, None): None,
    }


def test_the_rule_says_what_would_settle_it() -> None:
    ruling = classify(Facts("to confirm", None, None, None, True), "EU")
    assert ruling.rule == (
        "undecided: treated as expedited until seriousness is confirmed and causality is stated "
        "and expectedness is judged"
    )
    assert ruling.kind == "grave" and ruling.unblind and "42(2)(a)" in ruling.citation
    assert not classify(Facts("serious", False, True, None, True, "investigational"), "FDA").unblind
