"""The SQL of random expressions over random data gives the memberships that plain Python finds."""

from __future__ import annotations

from random import Random

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cohort_oracle import Oracle
from tests.support.random_cohorts import ANCESTORS, CONCEPTS, as_frames, random_cdm, random_expression
from trialops.trial.cohorts.circe import read_expression
from trialops.trial.cohorts.circe_json import write_expression
from trialops.trial.cohorts.evaluate import CdmTables

EXPRESSIONS = 8


def vocabulary(name: str) -> pl.LazyFrame:
    if name == "concept":
        return pl.LazyFrame({"concept_id": list(CONCEPTS), "invalid_reason": [None] * len(CONCEPTS)}).cast(
            {"concept_id": pl.Int64, "invalid_reason": pl.String}
        )
    assert name == "concept_ancestor"
    high, low = zip(*ANCESTORS, strict=True)
    return pl.LazyFrame({"ancestor_concept_id": high, "descendant_concept_id": low})


def differences(seed: Random, *, study_days: bool) -> tuple[int, int]:
    """Evaluate some expressions both ways; returns how many gave members, and how many were compared."""
    rows = random_cdm(seed)
    tables = CdmTables(as_frames(rows), study_days=study_days, vocabulary=vocabulary)
    filled = 0
    for _ in range(EXPRESSIONS):
        document = random_expression(seed)
        expression = read_expression(document)
        assert read_expression(write_expression(expression)) == expression
        expected = Oracle(document, rows, study_days=study_days, ancestors=ANCESTORS).run()
        assert tables.evaluate(expression).members.rows() == expected, document
        filled += bool(expected)
    tables.close()
    return filled, EXPRESSIONS


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9), st.booleans())
def test_the_sql_equals_plain_python(seed: int, study_days: bool) -> None:
    differences(Random(seed), study_days=study_days)


def test_the_comparison_is_about_something() -> None:
    """A fair part of the random expressions has members, so that an empty answer cannot pass for all of them."""
    counts = [differences(Random(seed), study_days=False) for seed in range(8)]
    assert sum(filled for filled, _ in counts) > 0.3 * sum(total for _, total in counts)
