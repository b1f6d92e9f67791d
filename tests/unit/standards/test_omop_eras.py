"""Eras: spans merged within thirty days, ingredients by ancestry, doses by strength; observation periods."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.athena import Athena
from trialops.standards import cdm, omop_eras, vocabulary

START = dt.date(2020, 1, 1)


def day(number: int) -> dt.date:
    return START + dt.timedelta(days=number)


def conditions(*spans: tuple[int, int | None], concept: int = 5) -> pl.DataFrame:
    rows = [
        {
            "condition_occurrence_id": i,
            "person_id": 1,
            "condition_concept_id": concept,
            "condition_start_date": day(first),
            "condition_end_date": None if last is None else day(last),
        }
        for i, (first, last) in enumerate(spans)
    ]
    return cdm.conform("condition_occurrence", pl.DataFrame(rows, schema_overrides={"condition_end_date": pl.Date}))


@pytest.mark.parametrize(
    ("spans", "eras"),
    [
        ([(0, 5)], [(0, 5, 1)]),
        ([(0, None)], [(0, 1, 1)]),
        ([(0, 5), (35, 40)], [(0, 40, 2)]),
        ([(0, 5), (36, 40)], [(0, 5, 1), (36, 40, 1)]),
        ([(0, 100), (10, 20), (125, 126)], [(0, 126, 3)]),
        ([(10, 20), (0, 5)], [(0, 20, 2)]),
    ],
)
def test_condition_eras(spans: list[tuple[int, int | None]], eras: list[tuple[int, int, int]]) -> None:
    made = omop_eras.condition_eras(conditions(*spans)).sort("condition_era_start_date")
    found = made.select("condition_era_start_date", "condition_era_end_date", "condition_occurrence_count").rows()
    assert found == [(day(a), day(b), n) for a, b, n in eras]


def test_no_era_without_a_concept() -> None:
    assert omop_eras.condition_eras(conditions((0, 5), concept=0)).height == 0


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), min_size=1, max_size=25), st.integers(0, 40))
def test_merging_equals_the_definition(spans: list[tuple[int, int]], gap: int) -> None:
    """Days covered or within the gap are one era: the plain definition, day by day."""
    frame = pl.DataFrame(
        {"p": [1] * len(spans), "first": [day(a) for a, _ in spans], "last": [day(a + b) for a, b in spans]}
    )
    made = omop_eras.merge_spans(frame.sample(fraction=1, shuffle=True, seed=1), ["p"], gap)
    expected: list[list[int]] = []
    for first, length in sorted(spans):
        if expected and first <= expected[-1][1] + gap:
            expected[-1][1] = max(expected[-1][1], first + length)
        else:
            expected.append([first, first + length])
    assert made.sort("first").select("first", "last").rows() == [(day(a), day(b)) for a, b in expected]
    assert made["count"].sum() == len(spans)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[vocabulary.Vocabulary, list[int], int]:
    made = Athena()
    drugs = [made.concept("RxNorm", str(i), f"drug {i}", "Drug") for i in range(2)]
    ingredient = made.ingredient("something", drugs, amount=20.0)
    folder: Path = tmp_path_factory.mktemp("eras")
    return vocabulary.load(made.write(folder / "in"), folder / "store"), drugs, ingredient


def exposures(*rows: tuple[int, int, int, float | None, int | None]) -> pl.DataFrame:
    made = [
        {
            "drug_exposure_id": i,
            "person_id": 1,
            "drug_concept_id": drug,
            "drug_exposure_start_date": day(first),
            "drug_exposure_end_date": day(last),
            "quantity": quantity,
            "days_supply": supply,
        }
        for i, (drug, first, last, quantity, supply) in enumerate(rows)
    ]
    return cdm.conform("drug_exposure", pl.DataFrame(made, infer_schema_length=None))


def test_drug_eras_are_by_ingredient(words: tuple[vocabulary.Vocabulary, list[int], int]) -> None:
    vocab, (one, two), ingredient = words
    drugs = exposures(
        (one, 0, 10, None, None), (two, 5, 12, None, None), (one, 30, 40, None, None), (one, 90, 91, None, None)
    )
    made = omop_eras.drug_eras(drugs, omop_eras.ingredients(drugs, vocab)).sort("drug_era_start_date")
    assert set(made["drug_concept_id"]) == {ingredient}
    columns = ("drug_era_start_date", "drug_era_end_date", "drug_exposure_count", "gap_days")
    # Exposed for 12 and 10 of 40 days: 18 days lie between.
    assert made.select(columns).rows() == [(day(0), day(40), 3, 18), (day(90), day(91), 1, 0)]


def test_dose_eras(words: tuple[vocabulary.Vocabulary, list[int], int]) -> None:
    vocab, (one, two), ingredient = words
    drugs = exposures(
        (one, 0, 29, 60.0, 30), (two, 40, 69, 60.0, 30), (one, 80, 109, 30.0, 30), (one, 110, 115, None, None)
    )
    made = omop_eras.dose_eras(drugs, omop_eras.ingredients(drugs, vocab), vocab).sort("dose_era_start_date")
    columns = ("drug_concept_id", "unit_concept_id", "dose_value", "dose_era_start_date", "dose_era_end_date")
    # Two tablets of 20 mg a day, then one.
    assert made.select(columns).rows() == [
        (ingredient, 8576, 40.0, day(0), day(69)),
        (ingredient, 8576, 20.0, day(80), day(109)),
    ]


def test_history_does_not_stretch_the_observation_period() -> None:
    tables = {name: cdm.empty(name) for name in (*omop_eras.CONTACTS, *omop_eras.HISTORY)}
    tables["condition_occurrence"] = pl.concat(
        [conditions((-3650, None)), conditions((7, 9)).with_columns(person_id=pl.lit(2, pl.Int64))]
    )
    visit = {"visit_occurrence_id": 1, "person_id": 1, "visit_start_date": day(0), "visit_end_date": day(3)}
    tables["visit_occurrence"] = cdm.conform("visit_occurrence", pl.DataFrame([visit]))
    made = omop_eras.observation_periods(tables).sort("person_id")
    columns = ("person_id", "observation_period_start_date", "observation_period_end_date")
    assert made.select(columns).rows() == [(1, day(0), day(3)), (2, day(7), day(9))]


def test_keys_do_not_depend_on_the_order_of_rows() -> None:
    spans = [(i * 50, i * 50 + 3) for i in range(20)]
    mixed = random.Random(3).sample(spans, len(spans))
    assert omop_eras.condition_eras(conditions(*mixed)).equals(omop_eras.condition_eras(conditions(*spans)))
