"""What one feature makes of its records: a series of readings, or a measure over events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialops.features import scores, states, study_time, timeline

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Counter, Score, Test


def text(column: str) -> pl.Expr:
    """A coded term, trimmed and in upper case; a missing one is empty."""
    import polars as pl

    return pl.col(column).cast(pl.String).str.strip_chars().str.to_uppercase().fill_null("")


def outside(names: Mapping[str, str]) -> pl.Expr:
    """1 outside the reference range, 0 inside, null unknown: by the indicator, else by the limits."""
    import polars as pl

    if "indicator" not in names:
        return pl.lit(None, pl.Int8)
    value, mark = pl.col(names["value"]).cast(pl.Float64), text(names["indicator"])
    low, high = (pl.col(names[k]).cast(pl.Float64).fill_nan(None) for k in ("low", "high"))
    beyond = (value < low).fill_null(False) | (value > high).fill_null(False)
    by_limit = pl.when(low.is_not_null() | high.is_not_null()).then(beyond.cast(pl.Int8))
    return pl.when(mark == "").then(by_limit).otherwise((mark != "NORMAL").cast(pl.Int8))


def series(rows: pl.DataFrame, test: Test) -> dict[str, pl.DataFrame]:
    """States of one test: the latest reading, the baseline, and running sums for the spread."""
    import polars as pl

    found = {"latest": states.latest(rows, ["value", "event", "high", "outside"])}
    if {"change", "change_pct"} & set(test.statistics):
        found["baseline"] = states.latest(rows.filter(pl.col("event") <= 0), ["value"])
    if "sd" in test.statistics:
        # Squares around the first value known, which no later row can change; around 0 they would cancel.
        centre = pl.col("value").first().over("code")
        moments = (
            rows.sort("code", "arrival", "rank")
            .with_columns(d=pl.col("value") - centre)
            .with_columns(n=pl.lit(1.0), d2=pl.col("d") ** 2)
        )
        found["moments"] = states.totals(moments, ["n", "d", "d2"])
    return found


def statistics(spine: pl.DataFrame, known: Mapping[str, pl.DataFrame] | None, test: Test) -> dict[str, pl.Series]:
    """The statistics of one test at each stamp, with day (ordinal) and range mark of its latest reading.

    `known` None, for a table that is absent, gives nulls.
    """
    import polars as pl

    if known is None:
        empty = pl.Series("", [None] * spine.height, dtype=pl.Float64)
        return {
            **dict.fromkeys(test.statistics, empty),
            "day": empty.cast(pl.Int32),
            "outside": empty.cast(pl.Int8),
        }
    now = timeline.look_up(spine, known["latest"])
    found = {
        "last": now["value"],
        "day": now["event"],
        "outside": now["outside"],
        "uln_ratio": now["value"] / now["high"],
    }
    if "baseline" in known:
        base = timeline.look_up(spine, known["baseline"])["value"]
        later = now.select(pl.when(pl.col("event") > 0).then(pl.col("value"))).to_series()
        found |= {"change": later - base, "change_pct": (later - base) / base * 100}
    if "moments" in known:
        m = timeline.look_up(spine, known["moments"])
        variance = (pl.col("d2") - pl.col("d") ** 2 / pl.col("n")) / (pl.col("n") - 1)
        found["sd"] = m.select(pl.when(pl.col("n") > 1).then(variance.clip(lower_bound=0).sqrt())).to_series()
    return found


def scored(name: str, score: Score) -> pl.Expr:
    """A score over columns that are already there."""
    import polars as pl

    return scores.SCORES[score.score](**{a: pl.col(reference) for a, reference in score.arguments.items()}).alias(name)


def counted(rows: pl.DataFrame, name: str, counter: Counter) -> pl.DataFrame:
    """State of one measure: stamp and a column of its name.

    Args:
        rows: Versions of the counter's table, with the columns it needs, and `over` where the table has an end.
        name: Name of the feature.
        counter: What to count.
    """
    import polars as pl

    keep: pl.Expr = pl.lit(True)
    for column, words in counter.where.items():
        keep &= text(column).is_in(words)
    for column, words in counter.without.items():
        keep &= ~text(column).is_in(words)
    for column, parts in counter.contains.items():
        keep &= text(column).str.contains_any(list(parts))
    for column, first in counter.on_or_after.items():
        keep &= (pl.col(column).cast(pl.Int32) >= first).fill_null(False)
    rows = rows.filter(keep)
    if counter.end:
        rows = rows.filter(pl.col("over").is_not_null()).with_columns(arrival="over")
        rows = rows.filter(pl.col("until").is_null() | (pl.col("until") > pl.col("arrival")))
    measure, column = counter.measure, next(iter(counter.columns), "")
    if measure == "count":
        return states.totals(rows.with_columns(pl.lit(1, pl.Int32).alias(name)), [name])
    if measure == "distinct":
        parts_of = [text(c) for c in counter.columns]
        term = pl.when(pl.any_horizontal(w != "" for w in parts_of)).then(pl.concat_str(parts_of, separator="\x1f"))
        return states.distinct(rows.with_columns(term.cast(pl.Categorical).alias("_term")), "_term", name)
    if measure in ("first_day", "last_day"):
        order = pl.col("rank") if measure == "last_day" else -pl.col("rank")
        dated = rows.with_columns(study_time.day(pl.col("event")).alias(name), rank=order)
        return states.latest(dated, [name])
    if measure == "highest":
        value = text(column).replace_strict(dict(counter.scores), default=None, return_dtype=pl.Float64)
        graded = rows.with_columns(value.alias(name)).filter(pl.col(name).is_not_null())
        order = (pl.col(name).rank("dense").cast(pl.Int64)) * (1 << timeline.ID_BITS) + pl.col("rank") % (
            1 << timeline.ID_BITS
        )
        return states.latest(graded.with_columns(rank=order), [name])
    day = study_time.ordinal(pl.col(column))
    if measure == "open":
        # A row that carries an end later than "now" is still open now.
        end = pl.min_horizontal("until", "over")
        lasting = rows.with_columns(pl.lit(1, pl.Int32).alias(name), until=end)
        return states.totals(lasting.filter(pl.col("until").is_null() | (pl.col("until") > pl.col("arrival"))), [name])
    if measure == "mean_delay":
        late = rows.with_columns(n=pl.lit(1, pl.Int32), late=pl.col("event") - day).filter(pl.col("late").is_not_null())
        return states.totals(late, ["n", "late"]).select(
            "stamp", pl.when(pl.col("n") > 0).then(pl.col("late") / pl.col("n")).alias(name)
        )
    ended = rows.with_columns(_end=day)
    return states.gaps(ended, "_end", "gap_days", "gaps").select("stamp", pl.col(measure).alias(name))
