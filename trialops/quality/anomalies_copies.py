"""Panels that repeat another panel: the same person under two numbers, and results copied from visit to visit.

Tests are put into small groups and each panel gets a fingerprint per group; panels that share rare fingerprints are the
only pairs compared value by value. That keeps the work linear in the rows, and an edited value spoils one group alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

COMMON = 12
"""A fingerprint that so many panels share tells nothing (urine strips, tests with few values)."""


def alike_panels(data: pl.DataFrame, *, shared: float, least: int, group: int) -> pl.DataFrame:
    """Pairs of panels whose results agree.

    Args:
        data: From `anomalies.measurements`; a panel is what a subject has at one time.
        shared: Smallest part of the common tests that must agree exactly.
        least: Fewest tests in common.
        group: Tests per fingerprint.

    Returns:
        subject, at, other_subject, other_at, tests, agreeing; each pair once, sorted.
    """
    import polars as pl

    tests = data.group_by("test").agg(values=pl.col("value").n_unique()).sort("values", "test", descending=True)
    place = tests.with_row_index("place").select("test", bin=pl.col("place") // group)
    numbers = (
        data.select("subject", "at", "test", "value")
        .unique(["subject", "at", "test"], keep="first", maintain_order=True)
        .join(place, on="test")
    )
    panels = numbers.select("subject", "at").unique().sort("subject", "at").with_row_index("panel")
    numbers = numbers.join(panels, on=["subject", "at"], nulls_equal=True)
    prints = (
        numbers.with_columns(mark=pl.struct("test", "value").hash(seed=7))
        .group_by("panel", "bin")
        .agg(n=pl.len(), mark=pl.col("mark").sum())  # of 64-bit hashes, wrapping: the order of the tests is no matter
    )
    rare = prints.filter((pl.col("n") == group) & (pl.len().over("bin", "mark").is_between(2, COMMON)))
    pairs = rare.join(rare, on=["bin", "mark"], suffix="_other").filter(pl.col("panel") < pl.col("panel_other"))
    likely = pairs.group_by("panel", "panel_other").len().filter(pl.col("len") * group * 2 >= least)
    values = numbers.select("panel", "test", "value")
    compared = (
        likely.select("panel", "panel_other")
        .join(values, on="panel")
        .join(values, left_on=["panel_other", "test"], right_on=["panel", "test"], suffix="_other")
        .group_by("panel", "panel_other")
        .agg(tests=pl.len(), agreeing=(pl.col("value") == pl.col("value_other")).sum())
        .filter((pl.col("tests") >= least) & (pl.col("agreeing") >= shared * pl.col("tests")))
    )
    other = panels.rename({"subject": "other_subject", "at": "other_at", "panel": "panel_other"})
    return (
        compared.join(panels, on="panel")
        .join(other, on="panel_other")
        .select("subject", "at", "other_subject", "other_at", "tests", "agreeing")
        .sort("subject", "at", "other_subject", "other_at")
    )


def copied_panels(data: pl.DataFrame, *, shared: float, least: int, group: int, **_: Any) -> pl.DataFrame:
    """Visits of a subject whose panel repeats an earlier one: subject, at, earlier."""
    import polars as pl

    pairs = alike_panels(data, shared=shared, least=least, group=group)
    return (
        pairs.filter(pl.col("subject") == pl.col("other_subject"))
        .group_by("subject", pl.col("other_at").alias("at"))
        .agg(earlier=pl.col("at").min())
        .sort("subject", "at")
    )


def duplicate_subjects(
    data: pl.DataFrame, *, shared: float, least: int, group: int, visits: int, **_: Any
) -> pl.DataFrame:
    """Pairs of subjects of whom at least `visits` panels agree: subject, other_subject, panels."""
    import polars as pl

    pairs = alike_panels(data, shared=shared, least=least, group=group)
    return (
        pairs.filter(pl.col("subject") != pl.col("other_subject"))
        .with_columns(
            first=pl.min_horizontal("subject", "other_subject"), second=pl.max_horizontal("subject", "other_subject")
        )
        .group_by("first", "second")
        .agg(panels=pl.len())
        .filter(pl.col("panels") >= visits)
        .select(subject="first", other_subject="second", panels="panels")
        .sort("subject", "other_subject")
    )
