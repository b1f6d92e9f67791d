"""Nothing below 11 can be worked out of a table: looked for in another way than the one that prevents it."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product
from random import Random

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.trial.cohorts.attrition import ALL, ENTRY, MEMBERS, attrition
from trialops.trial.cohorts.evaluate import Evaluated
from trialops.trial.cohorts.overlap import overlap
from trialops.trial.cohorts.suppression import Figure, Shown, protect, small
from trialops.trial.cohorts.table_one import PATTERNS, merge_levels

SETTINGS = settings(max_examples=120, deadline=None, derandomize=True)


def worked_out(cells: dict, figures: list[Figure], shown: Shown) -> list[tuple[int, ...]]:
    """Groups of cells with 1 to 10 persons that the figures shown determine.

    By least squares over every group, not over merged cells; and by adding and subtracting up to four figures.
    """
    names = [cell for cell, count in cells.items() if count]
    rows = np.array(
        [[cell in f.cells for cell in names] for f in figures if isinstance(shown[f.name], int) and f.cells], float
    ).reshape(-1, len(names) or 1)
    counts = [cells[name] for name in names]
    found = []
    for size in range(1, len(names) + 1):
        for group in combinations(range(len(names)), size):
            if not small(sum(counts[i] for i in group)):
                continue
            target = np.zeros(len(names))
            target[list(group)] = 1
            if len(rows):
                solution = np.linalg.lstsq(rows.T, target, rcond=None)[0]
                if np.allclose(rows.T @ solution, target, atol=1e-7):
                    found.append(group)
    told = [figure for figure in figures if isinstance(shown[figure.name], int)]
    for chosen in combinations(range(len(told)), min(3, len(told))):
        for signs in product((-1, 1), repeat=len(chosen)):
            vector = [sum(s * (n in told[i].cells) for s, i in zip(signs, chosen, strict=True)) for n in names]
            value = sum(v * c for v, c in zip(vector, counts, strict=True))
            if set(vector) <= {0, 1} and small(value):
                found.append(tuple(chosen))
    return found


@SETTINGS
@given(st.integers(0, 10**9))
def test_no_small_group_can_be_worked_out(seed: int) -> None:
    random = Random(seed)
    cells = {n: random.choice((0, 1, 3, 8, 10, 11, 12, 30, 200)) for n in range(random.randint(1, 8))}
    figures = [
        Figure(str(n), frozenset(c for c in cells if random.random() < 0.5), random.choice((1, 5, 100)))
        for n in range(random.randint(1, 8))
    ]
    shown = protect(cells, figures)
    assert worked_out(cells, figures, shown) == []
    for figure in figures:
        exact = sum(cells[c] for c in figure.cells)
        assert shown[figure.name] in (exact, "–") if not small(exact) else shown[figure.name] == "<11"


def test_totals_do_not_give_a_hidden_part_away() -> None:
    """100 persons, 95 in a group: the 5 others are the difference, so one of the two is hidden."""
    cells = {"in": 95, "out": 5}
    figures = [Figure("all", frozenset(cells), 10), Figure("in", frozenset({"in"})), Figure("out", frozenset({"out"}))]
    shown = protect(cells, figures)
    assert (shown["all"], shown["in"], shown["out"]) == (100, "–", "<11")


def test_inclusion_and_exclusion_are_thought_of() -> None:
    """|A or B| = |A| + |B| - |A and B|: all three, with everybody, tell the 4 in neither."""
    cells = {"a": 30, "b": 40, "ab": 26, "": 4}
    sets = {"all": set(cells), "A": {"a", "ab"}, "B": {"b", "ab"}, "A and B": {"ab"}}
    figures = [Figure(n, frozenset(c), w) for (n, c), w in zip(sets.items(), (9, 8, 8, 1), strict=True)]
    shown = protect(cells, figures)
    assert (shown["all"], shown["A"], shown["B"], shown["A and B"]) == (100, 56, 66, "–")


def test_what_is_withheld_cannot_be_worked_out() -> None:
    cells = {"a": 20, "b": 30}
    figures = [
        Figure("all", frozenset(cells), 9),
        Figure("a", frozenset({"a"}), 5, withheld=True),
        Figure("b", frozenset({"b"}), 5),
    ]
    assert [protect(cells, figures)[n] for n in ("all", "a", "b")] == [50, "–", "–"]


def evaluated(random: Random, persons: int, rules: int) -> Evaluated:
    """Random index events and members."""
    rows = [(p, n, random.randrange(1 << rules)) for p in range(persons) for n in range(random.choice((1, 1, 2)))]
    frame = pl.DataFrame(rows, schema={"person_id": pl.Int64, "n": pl.Int64, "mask": pl.Int64}, orient="row")
    marked = frame.with_row_index("event_key").with_columns(
        pl.col("event_key").cast(pl.Int64), start_date=pl.date(2000, 1, 1) + pl.duration(days=pl.col("n"))
    )
    whole = marked.filter(pl.col("mask") == (1 << rules) - 1)
    members = whole.filter(pl.col("person_id") % 9 > 0).select("person_id", "start_date", end_date="start_date")
    return Evaluated(members, marked.select("person_id", "event_key", "start_date", "mask"), rules)


@SETTINGS
@given(st.integers(0, 10**9), st.integers(0, 3), st.sampled_from((5, 40, 160)))
def test_attrition_adds_up_and_tells_nothing_small(seed: int, rules: int, persons: int) -> None:
    found = evaluated(Random(seed), persons, rules)
    outside = Random(seed).choice((0, 4, 50))
    made = attrition(found, [f"rule {n}" for n in range(rules)], persons + outside)
    exact = made.shown.exact
    steps = [exact[ALL], exact[ENTRY], *(exact[f"left {n}"] for n in range(rules)), exact[MEMBERS]]
    assert steps == sorted(steps, reverse=True) and exact[ALL] == persons + outside and exact[ENTRY] == persons
    masks = dict(found.marked.group_by("person_id").agg(pl.col("mask")).iter_rows())
    best = {p: max(m, key=lambda x: (x.bit_count(), x & -x != 0, -(x & -x))) for p, m in masks.items()}
    whole = (1 << rules) - 1
    if rules:
        assert exact[f"left {rules - 1}"] == sum(m == whole for m in best.values())
        assert exact["gain 0"] == sum(m.bit_count() == rules - 1 and not m & 1 for m in best.values())
    if len([c for c in made.cells.values() if c]) <= 10:
        from trialops.trial.cohorts.attrition import _figures

        figures = _figures(made.cells, rules, False)
        assert worked_out(dict(made.cells), figures, made.shown) == []
    for row in made.table():
        assert all(not small(value) for value in row[1:5] if isinstance(value, int))


def test_attrition_by_hand() -> None:
    """30 meet both rules, 20 the first alone, 15 the second alone, 12 neither; 40 have no entry event."""
    masks = [3] * 30 + [1] * 20 + [2] * 15 + [0] * 12
    marked = pl.DataFrame(
        {"person_id": range(77), "event_key": range(77), "start_date": ["2000-01-01"] * 77, "mask": masks}
    )
    members = marked.filter(pl.col("mask") == 3).select("person_id", "start_date", end_date="start_date")
    made = attrition(Evaluated(members, marked, 2), ["one", "two"], 117)
    assert made.flow() == [(ALL, 117), (ENTRY, 77), ("one", 50), ("two", 30), (MEMBERS, 30)]
    assert made.table() == [["one", 50, 15, 50, 27, "64.9 %"], ["two", 45, 20, 30, 20, "39.0 %"]]


def test_the_best_event_counts() -> None:
    """Of a person's events the one with most rules; then the one with the earliest rule; then the earliest."""
    from trialops.trial.cohorts.attrition import best_events

    rows = [(1, 0, "2000-01-01", 1), (1, 1, "2000-01-02", 3), (2, 2, "2000-01-01", 2), (2, 3, "2000-01-02", 1),
            (3, 4, "2000-01-02", 1), (3, 5, "2000-01-01", 1)]  # fmt: skip
    marked = pl.DataFrame(rows, schema=["person_id", "event_key", "start_date", "mask"], orient="row")
    assert best_events(Evaluated(marked.clear(), marked, 2))["event_key"].to_list() == [1, 3, 5]


@SETTINGS
@given(st.integers(0, 10**9), st.integers(1, 3), st.sampled_from((30, 120, 400)))
def test_overlaps_tell_nothing_small(seed: int, cohorts: int, persons: int) -> None:
    random = Random(seed)
    rates = [random.choice((0.05, 0.3, 0.9)) for _ in range(cohorts)]
    members = {f"c{n}": {p for p in range(persons) if random.random() < rate} for n, rate in enumerate(rates)}
    made = overlap(members, persons)
    cells = Counter(tuple(p in members[n] for n in sorted(members)) for p in range(persons))
    figures = [Figure("all", frozenset(cells))]
    for i, one in enumerate(sorted(members)):
        for j, two in enumerate(sorted(members)):
            if i <= j:
                figures.append(Figure(f"{one} & {two}", frozenset(c for c in cells if c[i] and c[j])))
                value = made.value(one, two)
                assert value == len(members[one] & members[two]) or value in ("–", "<11")
    assert worked_out(dict(cells), figures, made.shown) == []


@SETTINGS
@given(st.dictionaries(st.tuples(st.sampled_from(PATTERNS), st.sampled_from("abcdef")), st.integers(0, 40)))
def test_levels_are_merged_until_none_is_small(counts: dict) -> None:
    levels = merge_levels(Counter(counts))
    present = {level for (_, level), n in counts.items() if n}
    assert sorted(level for group in levels for level in group) == sorted(present)
    if len(levels) > 1:
        assert not any(small(sum(counts.get((p, x), 0) for x in group)) for group in levels for p in PATTERNS)
