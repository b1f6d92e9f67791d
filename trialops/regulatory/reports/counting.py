"""Counts of subjects by group as report tables print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.regulatory.documents.content import Cell, share

if TYPE_CHECKING:
    import polars as pl

TOTAL = "Total"


def heads(groups: Sequence[str], sizes: dict[str, int], *, total: bool) -> list[str]:
    """Column heads of groups with their sizes, a total behind them where it is wanted."""
    named = [f"{group} (N = {sizes[group]:,})" for group in groups]
    return [*named, f"{TOTAL} (N = {sum(sizes[g] for g in groups):,})"] if total else named


def sizes_of(subjects: pl.DataFrame, groups: Sequence[str]) -> dict[str, int]:
    """Subjects by group; 0 for a group nobody is in."""
    import polars as pl

    found = dict(subjects.group_by("group").agg(pl.len()).iter_rows())
    return {group: int(found.get(group, 0)) for group in groups}


def having(subjects: pl.DataFrame, who: pl.Series, groups: Sequence[str], *, total: bool) -> list[Cell]:
    """One row: ``n (%)`` of the subjects of each group that are among `who`.

    Args:
        subjects: USUBJID, group.
        who: USUBJID, repeated or not.
        groups: Columns.
        total: Whether a total follows.
    """
    import polars as pl

    sizes = sizes_of(subjects, groups)
    counted = sizes_of(subjects.filter(pl.col("USUBJID").is_in(who.unique().implode())), groups)
    cells: list[Cell] = [share(counted[g], sizes[g]) for g in groups]
    if total:
        cells.append(share(sum(counted[g] for g in groups), sum(sizes[g] for g in groups)))
    return cells


def levels(
    subjects: pl.DataFrame, column: str, groups: Sequence[str], *, total: bool, order: Sequence[str] = ()
) -> list[list[Cell]]:
    """Rows of ``n (%)`` by level of a column, those of `order` first and the rest by name; missing last.

    Args:
        subjects: USUBJID, group and the column.
        column: A column of text.
        groups: Columns of the table.
        total: Whether a total follows.
        order: Levels that come first, in this order, shown also where nobody has them.
    """
    import polars as pl

    there = sorted(set(subjects[column].drop_nulls().to_list()) - set(order))
    rows: list[list[Cell]] = []
    for level in (*order, *there):
        who = subjects.filter(pl.col(column) == level)["USUBJID"]
        rows.append([f"  {level}", *having(subjects, who, groups, total=total)])
    missing = subjects.filter(pl.col(column).is_null())["USUBJID"]
    if len(missing):
        rows.append(["  Missing", *having(subjects, missing, groups, total=total)])
    return rows


def moments(subjects: pl.DataFrame, column: str, groups: Sequence[str], *, total: bool) -> list[list[Cell]]:
    """Rows of n, mean (SD), median, and range of a number by group."""
    import polars as pl

    parts = [subjects.filter(pl.col("group") == g)[column].drop_nulls() for g in groups]
    if total:
        parts.append(subjects.filter(pl.col("group").is_in(list(groups)))[column].drop_nulls())

    def told(values: pl.Series, what: str) -> Cell:
        if not len(values):
            return None
        if what == "n":
            return len(values)
        x = values.to_numpy().astype(float)
        if what == "mean":
            spread = f" ({x.std(ddof=1):.2f})" if len(x) > 1 else ""
            return f"{x.mean():.1f}{spread}"
        ordered = sorted(x.tolist())
        middle = (ordered[(len(x) - 1) // 2] + ordered[len(x) // 2]) / 2
        return f"{middle:.1f}" if what == "median" else f"{ordered[0]:g} to {ordered[-1]:g}"

    labels = (("n", "  n"), ("mean", "  Mean (SD)"), ("median", "  Median"), ("range", "  Range"))
    return [[label, *(told(part, what) for part in parts)] for what, label in labels]
