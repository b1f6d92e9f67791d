"""States over knowledge time: what the current records amount to, on each day that changed it.

A state frame has a `stamp` (subject and knowledge day, sorted and unique) and the values in force from then
on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.features import timeline

if TYPE_CHECKING:
    import polars as pl


def latest(rows: pl.DataFrame, payload: list[str]) -> pl.DataFrame:
    """State: the payload of the current record with the highest rank.

    In one pass where it can be: in order of arrival, a record below the highest rank seen can never be the
    answer again. That fails for a subject in whom a record left (its date moved, its value was withdrawn);
    those are replayed day by day.

    Args:
        rows: Versions of one kind of record, with code, arrival, until, rank.
        payload: Columns to return.

    Returns:
        stamp (sorted, unique) and payload; null payload from a day on which the last record left.
    """
    import polars as pl

    ended = rows.filter(pl.col("until").is_not_null()).select("code", "until", "rank")
    left = (
        ended.join(rows.select("code", "rank", until="arrival"), on=["code", "until", "rank"], how="anti")
        .select("code")
        .unique()
    )
    steady = rows.join(left, on="code", how="anti") if left.height else rows
    state = (
        steady.lazy()
        .select("code", "rank", *payload, stamp=timeline.stamp(pl.col("code"), pl.col("arrival")))
        .sort("stamp", "rank")
        .filter(pl.col("rank") >= pl.col("rank").cum_max().over("code"))
        .select("stamp", *payload)
        .unique("stamp", keep="last", maintain_order=True)
        .collect()
    )
    if not left.height:
        return state
    moved = rows.join(left, on="code", how="semi")
    answer = (
        timeline.as_of(moved)
        .select(*payload, stamp=timeline.stamp(pl.col("code"), pl.col("on")))
        .unique("stamp", keep="last", maintain_order=True)
    )
    replayed = timeline.changes(moved).join(answer, on="stamp", how="left")
    return pl.concat([state, replayed.select(state.columns)]).sort("stamp")


def totals(rows: pl.DataFrame, values: list[str]) -> pl.DataFrame:
    """State: sums of columns over the current records; a superseded version is taken off at once."""
    import polars as pl

    ended = rows.filter(pl.col("until").is_not_null())
    plus = rows.select(
        "code",
        "rank",
        *values,
        stamp=timeline.stamp(pl.col("code"), pl.col("arrival")),
        _off=pl.lit(1, pl.Int8),
    )
    minus = ended.select(
        "code",
        "rank",
        *(-pl.col(v) for v in values),
        stamp=timeline.stamp(pl.col("code"), pl.col("until")),
        _off=pl.lit(0, pl.Int8),
    )
    # The order is total, so sums of floats come out the same whatever the input order and whatever follows
    # later.
    return (
        pl.concat([plus, minus])
        .sort("stamp", "_off", "rank")
        .select("stamp", *(pl.col(v).cum_sum().over("code") for v in values))
        .unique("stamp", keep="last", maintain_order=True)
    )


def distinct(rows: pl.DataFrame, term: str, name: str) -> pl.DataFrame:
    """State: number of distinct terms among the current records; a null term counts for nothing."""
    import polars as pl

    rows = rows.filter(pl.col(term).is_not_null())
    key = [pl.col("code"), pl.col(term)]
    signs = pl.concat(
        [
            rows.select(*key, stamp=timeline.stamp(pl.col("code"), pl.col("arrival")), n=pl.lit(1, pl.Int32)),
            rows.filter(pl.col("until").is_not_null()).select(
                *key, stamp=timeline.stamp(pl.col("code"), pl.col("until")), n=pl.lit(-1, pl.Int32)
            ),
        ]
    )
    present = (pl.col("n").cum_sum().over("code", term) > 0).cast(pl.Int32)
    change = present - present.shift(1, fill_value=0).over("code", term)
    return (
        signs.group_by("code", term, "stamp")
        .agg(pl.col("n").sum())
        .sort("stamp", term)
        .with_columns(change=change)
        .group_by("stamp", maintain_order=True)
        .agg(pl.col("change").sum())
        .select("stamp", pl.col("change").cum_sum().over(timeline.code_of(pl.col("stamp"))).alias(name))
    )


def gaps(rows: pl.DataFrame, end: str, days: str, count: str) -> pl.DataFrame:
    """State: days not covered between the intervals known so far, and how many such gaps.

    A gap is known when the interval after it is. An interval without an end goes on; one that ends on or after the
    start of a later interval went on at that time too, whatever end was entered since.

    Args:
        rows: Versions whose event day is the interval's start; `end` is the ordinal of its last day.
        end: Column with the end.
        days: Name of the column of uncovered days.
        count: Name of the column with the number of gaps.
    """
    import polars as pl

    def width(over: list[str]) -> pl.Expr:
        before = pl.col(end).fill_null(timeline.HALF).cum_max().over(over).shift(1).over(over)
        return (pl.col("event") - before - 1).clip(lower_bound=0).fill_null(0)

    # One pass where intervals arrived in their own order and none was corrected; else day by day.
    flag = (pl.col("until").is_not_null() | (pl.col("rank") < pl.col("rank").cum_max())).any().over("code")
    marked = rows.sort("code", "arrival", "rank").with_columns(_replay=flag)
    steady = marked.filter(~pl.col("_replay")).with_columns(_gap=width(["code"]))
    running = steady.select(
        timeline.stamp(pl.col("code"), pl.col("arrival")).alias("stamp"),
        pl.col("_gap").cum_sum().over("code").alias(days),
        (pl.col("_gap") > 0).cast(pl.Int32).cum_sum().over("code").alias(count),
    ).unique("stamp", keep="last", maintain_order=True)
    moved = marked.filter(pl.col("_replay"))
    if not moved.height:
        return running
    replayed = (
        timeline.as_of(moved)
        .with_columns(_gap=width(["code", "on"]))
        .group_by("code", "on", maintain_order=True)
        .agg(pl.col("_gap").sum().alias(days), (pl.col("_gap") > 0).cast(pl.Int32).sum().alias(count))
        .select(
            timeline.stamp(pl.col("code"), pl.col("on")).alias("stamp"),
            pl.col(days).cast(running[days].dtype),
            pl.col(count).cast(running[count].dtype),
        )
    )
    blank = (
        timeline.changes(moved).join(replayed, on="stamp", how="left").with_columns(pl.col(days, count).fill_null(0))
    )
    return pl.concat([running, blank.select(running.columns)]).sort("stamp")
