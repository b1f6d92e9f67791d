"""Residual risk: against hand examples, the published ones, and brute force; the gate; the generaliser."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.privacy.risk import assess, generalise, judge
from trialops.privacy.risk_policy import Gate, default_risk_policy


def brute(rows: list[dict[str, Any]], quasi: list[str], sensitive: str, k: int, ordered: bool) -> dict[str, float]:
    """Every measure by plain loops over records."""
    classes = defaultdict(list)
    for row in rows:
        classes[tuple(row[q] for q in quasi)].append(row[sensitive])
    size = {key: len(v) for key, v in classes.items()}
    own = [size[tuple(row[q] for q in quasi)] for row in rows]
    values = sorted({row[sensitive] for row in rows})
    whole = Counter(row[sensitive] for row in rows)
    far = 0.0
    for members in classes.values():
        here = Counter(members)
        gaps = [here[v] / len(members) - whole[v] / len(rows) for v in values]
        if ordered:
            moved = sum(abs(sum(gaps[: i + 1])) for i in range(len(gaps)))
            far = max(far, moved / (len(values) - 1) if len(values) > 1 else 0.0)
        else:
            far = max(far, sum(abs(g) for g in gaps) / 2)
    entropies = [
        math.exp(-sum(n / len(m) * math.log(n / len(m)) for n in Counter(m).values())) for m in classes.values()
    ]
    return {
        "k": min(own),
        "prosecutor": max(1 / f for f in own),
        "mean": sum(1 / f for f in own) / len(own),
        "at_risk": sum(f < k for f in own) / len(own),
        "l": min(len(set(m)) for m in classes.values()),
        "entropy": min(entropies),
        "t": far,
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.integers(0, 4)), min_size=1, max_size=40),
    st.booleans(),
)
def test_against_brute_force(data: list[tuple[int, str, int]], ordered: bool) -> None:
    rows = [{"a": a, "b": b, "s": s} for a, b, s in data]
    wanted = brute(rows, ["a", "b"], "s", 3, ordered)
    risk = assess(pl.DataFrame(rows), ["a", "b"], ["s"], k=3, ordered=["s"] if ordered else [])
    one = risk.diversity[0]
    found = {
        "k": risk.k,
        "prosecutor": risk.prosecutor,
        "mean": risk.prosecutor_mean,
        "at_risk": risk.at_risk,
        "l": one.distinct,
        "entropy": one.entropy,
        "t": one.closeness,
    }
    assert found == pytest.approx(wanted, abs=1e-9)
    assert sum(size * n for size, n in risk.sizes.items()) == risk.records == len(rows)


def test_distance_of_the_paper() -> None:
    """Li, Li and Venkatasubramanian 2007, example 3: salaries 3k to 11k."""
    groups = {"x": [3, 4, 5], "y": [6, 8, 11], "z": [7, 9, 10]}
    frame = pl.DataFrame([{"q": q, "salary": s} for q, salaries in groups.items() for s in salaries])
    assert assess(frame, ["q"], ["salary"], ordered=["salary"]).diversity[0].closeness == pytest.approx(0.375)
    second = frame.filter(pl.col("q") != "x")
    whole = pl.concat([second, pl.DataFrame({"q": ["z"] * 3, "salary": [3, 4, 5]})])
    measured = assess(whole, ["q"], ["salary"], ordered=["salary"]).diversity[0].closeness
    assert measured == pytest.approx(0.1666667, abs=1e-6)  # D[{6k, 8k, 11k}, Q] = 0.167


def test_attackers_by_hand() -> None:
    sample = pl.DataFrame({"q": ["a"] * 2 + ["b"] * 4})
    people = pl.DataFrame({"q": ["a"] * 10 + ["b"] * 8 + ["c"] * 5})
    risk = assess(sample, ["q"], k=3, population=people)
    assert (risk.k, risk.prosecutor, risk.journalist) == (2, 0.5, 0.125)
    assert risk.prosecutor_mean == pytest.approx(2 / 6)
    assert risk.marketer == pytest.approx((2 / 10 + 4 / 8) / 6)
    assert risk.at_risk == pytest.approx(2 / 6)
    with pytest.raises(TrialOpsError, match="larger in the table"):
        assess(sample, ["q"], population=people.filter(pl.col("q") == "b"))


def test_a_missing_value_is_a_value() -> None:
    risk = assess(pl.DataFrame({"q": ["a", "a", None, None, None], "s": ["x", None, None, None, "x"]}), ["q"], ["s"])
    assert (risk.classes, risk.k, risk.diversity[0].distinct) == (2, 2, 2)


def test_eleven_meets_the_threshold_of_policy_0070() -> None:
    gate = default_risk_policy().gate("external")
    for size, verdict in ((11, "pass"), (10, "fail")):
        frame = pl.DataFrame(
            {"q": ["a"] * size + ["b"] * 30, "s": ["x", "y"] * ((size + 30) // 2) + ["x"] * (size % 2)}
        )
        judged = judge(assess(frame, ["q"], ["s"]), gate)
        assert judged.verdict == verdict
        assert judged.numbers()["k"] == size
    few = judge(assess(pl.DataFrame({"q": ["a"] * 12}), ["q"]), gate)
    assert few.verdict == "insufficient"
    assert judge(assess(pl.DataFrame({"q": []}), ["q"]), gate).verdict == "insufficient"


def trial(subjects: int, seed: int = 5) -> pl.DataFrame:
    draw = random.Random(seed)
    return pl.DataFrame(
        {
            "USUBJID": [f"s{i}" for i in range(subjects)],
            "AGE": [float(draw.randint(50, 89)) for _ in range(subjects)],
            "SEX": [draw.choice("MF") for _ in range(subjects)],
            "RACE": draw.choices(["WHITE", "BLACK", "ASIAN", "OTHER RACE"], [80, 14, 4, 2], k=subjects),
            "SITEID": [draw.choice("abcdefgh") for _ in range(subjects)],
        }
    )


def test_generaliser_reaches_the_gate_and_says_how() -> None:
    frame = trial(400)
    declared, gate = default_risk_policy().declared("DM"), default_risk_policy().gate("partner")
    quasi = ["AGE", "SEX", "RACE", "SITEID"]
    assert judge(assess(frame, quasi, k=11), gate).verdict == "fail"
    made = generalise(frame, quasi, declared.ladders, gate)
    assert made.judgement.verdict == "pass" and made.risk.k >= 11
    assert made.suppressed <= 0.05 * 400 and made.frame.height == 400 - made.suppressed
    assert made.steps and all(after <= before for _, _, before, after in made.steps)
    # Checked apart from the module: every class that is left has at least eleven subjects.
    left = [q for q in quasi if q in made.frame.columns]
    assert min(Counter(made.frame.select(left).iter_rows()).values()) >= 11
    assert made.frame.equals(generalise(frame, quasi, declared.ladders, gate).frame)


def test_generaliser_says_when_nothing_helps() -> None:
    frame = pl.DataFrame({"q": [str(i) for i in range(40)]})
    made = generalise(frame, ["q"], {}, Gate(k=11, least=1))
    assert made.judgement.verdict != "pass" and made.suppressed == 40


def test_bands_hold_what_they_say() -> None:
    frame = pl.DataFrame({"AGE": [49.0, 50.0, 54.9, 55.0, None]})
    made = generalise(frame, ["AGE"], {"AGE": [{"bands": 5}]}, Gate(k=2, least=1, suppress=0.6))
    bands = dict(itertools.zip_longest(frame["AGE"], ["45-49", "50-54", "50-54", "55-59", None]))
    assert set(made.frame["AGE"].drop_nulls()) <= set(bands.values()) and made.suppressed == 3


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(TrialOpsError, match="is not in the table"):
        assess(pl.DataFrame({"a": [1]}), ["b"])
    with pytest.raises(TrialOpsError, match="no release"):
        default_risk_policy().gate("everybody")
