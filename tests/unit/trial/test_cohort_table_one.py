"""Table 1: standardised differences against other ways to compute them and published ones; small counts kept out."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_cdm import small_cdm
from trialops.trial.cohorts import differences
from trialops.trial.cohorts.characteristics import Variable, characteristics
from trialops.trial.cohorts.evaluate import CdmTables
from trialops.trial.cohorts.suppression import small
from trialops.trial.cohorts.table_one import table_one

SETTINGS = settings(max_examples=80, deadline=None, derandomize=True)


def shares(counts: list[int]) -> list[float]:
    return [count / sum(counts) for count in counts]


def test_published_differences() -> None:
    """Output of R's tableone that was asked about in public (stackoverflow.com/questions/72203772): 656 and 656."""
    ages = ([28, 63, 110, 195, 259, 1], [25, 69, 110, 202, 249, 1])
    found = differences.multinomial(shares(ages[0]), shares(ages[1]))
    assert found is not None and round(found, 3) == 0.048
    sex = differences.binary(324 / 656, 322 / 656)
    assert sex is not None and round(sex, 3) == 0.006


@SETTINGS
@given(st.integers(0, 10**6))
def test_continuous_equals_the_mean_of_standardised_values(seed: int) -> None:
    """Scaled so that the mean of the two variances is 1, the difference of the means is the standardised one."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(rng.uniform(-5, 5), 2, 40), rng.normal(0, rng.uniform(0.5, 4), 30)
    scale = math.sqrt(np.mean([np.var(a, ddof=1), np.var(b, ddof=1)]))
    expected = np.mean(a / scale) - np.mean(b / scale)
    found = differences.continuous(a.mean(), a.std(ddof=1), b.mean(), b.std(ddof=1))
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


@SETTINGS
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=2, max_size=6))
def test_multinomial_is_the_mahalanobis_distance_of_indicators(counts: list[tuple[int, int]]) -> None:
    """From the persons themselves: indicators of all levels, covariances by numpy, and a pseudo-inverse."""
    first, second = [a for a, _ in counts], [b for _, b in counts]
    people = [np.repeat(np.eye(len(counts)), side, axis=0) for side in (first, second)]
    covariance = sum(np.cov(x.T, bias=True) for x in people) / 2
    gap = people[0].mean(axis=0) - people[1].mean(axis=0)
    expected = math.sqrt(max(gap @ np.linalg.pinv(covariance, rcond=1e-10, hermitian=True) @ gap, 0.0))
    found = differences.multinomial(shares(first), shares(second))
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-8)
    if len(counts) == 2:
        single = differences.binary(shares(first)[0], shares(second)[0])
        assert single is not None and found == pytest.approx(abs(single), rel=1e-9, abs=1e-12)


def test_differences_at_the_edges() -> None:
    assert differences.binary(1.0, 1.0) == 0.0 and differences.binary(1.0, 0.0) is None
    assert differences.continuous(3, 0, 3, 0) == 0.0 and differences.continuous(3, 0, 4, 0) is None
    assert differences.multinomial([1.0, 0.0], [1.0, 0.0]) == 0.0
    assert differences.multinomial([1.0, 0.0], [0.0, 1.0]) is None
    assert differences.multinomial([0.5, 0.5, 0.0], [0.5, 0.5, 0.0]) == 0.0


def test_what_a_table_shows() -> None:
    """20 and 30 persons: means, quartiles, shares and differences as worked out by hand."""
    first = pl.Series([True] * 20 + [False] * 30)
    age = pl.Series([float(n) for n in range(20)] + [float(n) for n in range(29)] + [None])
    sex = pl.Series((["F"] * 12 + ["M"] * 8) + (["F"] * 15 + ["M"] * 15))
    ill = pl.Series([True] * 20 + [True] * 15 + [False] * 15)
    rare = pl.Series([True] * 3 + [False] * 17 + [True] * 15 + [False] * 15)
    kinds = [("Age", "continuous", age), ("Sex", "categorical", sex), ("Ill", "binary", ill), ("Rare", "binary", rare)]
    variables = [Variable(n, k, v, "All") for n, k, v in kinds]  # type: ignore[arg-type]
    lines = {line.name.strip(): line for line in table_one(variables, first, ~first)}
    assert (lines["Age, mean (SD)"].first, lines["Age, mean (SD)"].second) == ("9.5 (5.9)", "14.0 (8.5)")
    assert lines["median (quartiles)"].first == "9.5 (4.8 to 14.2)"
    # One person without an age: neither the one nor the 29 others are told.
    assert (lines["missing"].first, lines["missing"].second) == ("0 (0.0 %)", "<11")
    # Eight men: both sexes become one level, which says nothing.
    assert lines["Sex: levels too small to be shown"].first == "–"
    assert (lines["Ill"].first, lines["Ill"].second) == ("20 (100.0 %)", "15 (50.0 %)")
    assert lines["Ill"].difference == pytest.approx(0.5 / math.sqrt(0.125))
    assert (lines["Rare"].first, lines["Rare"].second, lines["Rare"].difference) == ("<11", "15 (50.0 %)", None)
    spread = math.sqrt((np.var(range(20), ddof=1) + np.var(range(29), ddof=1)) / 2)
    assert lines["Age, mean (SD)"].difference == pytest.approx((14 - 9.5) / spread)


@SETTINGS
@given(st.integers(0, 10**9), st.booleans())
def test_no_line_leads_to_a_small_count(seed: int, overlapping: bool) -> None:
    """Of any value: its persons in a group, outside it within the group, and in one group and not the other."""
    random = Random(seed)
    n = random.choice((40, 90, 300))
    first = pl.Series([random.random() < 0.5 for _ in range(n)])
    second = pl.Series([random.random() < 0.6 for _ in range(n)]) if overlapping else ~first
    levels = "abcde"[: random.randint(1, 5)]
    texts = pl.Series([random.choice((*levels, "a", "a", None)) for _ in range(n)], dtype=pl.String)
    flags = pl.Series([random.random() < random.choice((0.02, 0.2, 0.5)) for _ in range(n)])
    numbers = pl.Series([None if random.random() < 0.05 else random.gauss(0, 1) for _ in range(n)])
    kinds = [("t", "categorical", texts), ("f", "binary", flags), ("n", "continuous", numbers)]
    for name, kind, values in kinds:
        variable = Variable(name, kind, values, "s")  # type: ignore[arg-type]
        shown: dict[str, dict[str, set[int]]] = {}
        for line in table_one([variable], first, second):
            for group, value, count in line.counts:
                persons = _persons(kind, values, value, first if group == "0" else second)
                assert len(persons) == count and not small(count)
                shown.setdefault(group, {})[value] = persons
        sizes = {"0": set(first.arg_true()), "1": set(second.arg_true())}
        for group, told in shown.items():
            for persons in told.values():
                assert not small(len(sizes[group] - persons))
        for value in set(shown.get("0", {})) & set(shown.get("1", {})):
            one, two = shown["0"][value], shown["1"][value]
            assert not small(len(one - two)) and not small(len(two - one))


def _persons(kind: str, values: pl.Series, value: str, group: pl.Series) -> set[int]:
    if kind == "categorical":
        mine = values.fill_null("missing").is_in(value.split(" or "))
    else:
        mine = values if kind == "binary" else values.is_null()
    return set((mine & group).arg_true())


def test_characteristics_of_an_index_day() -> None:
    """The last value up to the day in its commonest unit, history up to the day, no study treatment."""
    tables = small_cdm(
        periods=[(p, "01-01", "12-31") for p in (1, 2)],
        measurements=[(1, 7, "01-05", 1.0), (1, 7, "02-01", 2.0), (1, 7, "02-02", 9.0), (2, 7, "02-01", 4.0)],
        conditions=[(1, 5, "02-01", None), (2, 5, "02-02", None)],
        drugs=[(1, 6, "01-01", None), (2, 8, "01-01", None)],
        births={1: 1940, 2: 1950},
    )
    tables["drug_exposure"] = tables["drug_exposure"].with_columns(study_treatment=pl.Series([False, True]))
    opened = CdmTables(tables)
    groups = pl.DataFrame({"person_id": [2, 1]}).with_columns(index_date=pl.date(2000, 2, 1))
    found = {v.name: v.values.to_list() for v in characteristics(opened, groups, {5: "Rash", 7: "ALT", 8532: "FEMALE"})}
    opened.close()
    assert found["Age (years)"] == [50.0, 60.0] and found["Sex"] == ["concept 8507", "FEMALE"]
    assert found["ALT"] == [4.0, 2.0] and found["Rash"] == [False, True]
    assert found["concept 6"] == [False, True] and "concept 8" not in found
    assert found["Days observed before"] == [31.0, 31.0]
