"""The two tables that the continuous state is made of: what each report says, and what it adds to the counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trialops.safety.signals.coding import EVERYTHING
from trialops.safety.signals.counting import count_reports
from trialops.safety.signals.counts import Counts, Margin
from trialops.safety.signals.readers import Columns, ReportRows

if TYPE_CHECKING:
    import polars as pl

PAIR, PRODUCT, EVENT, ALL = 0, 1, 2, 3
"""Kinds of counts: of a pair; of a product, an event and all reports by stratum."""
PARTS = ("kind", "product", "event", "stratum")


def report_schema(strata: Sequence[str]) -> dict[str, Any]:
    """Columns of the reports: the batch that brought the row, and no product where the batch withdrew the report."""
    import polars as pl

    return {"report": pl.String, "batch": pl.Int64, **dict.fromkeys(("product", "event", *strata), pl.String)}


def plain_rows(frame: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """Report rows as text, trimmed, named report, product, event and by the strata; incomplete ones are left in."""
    import polars as pl

    names = ["report", "product", "event", *columns.strata]
    text = [
        pl.col(old).cast(pl.String).str.strip_chars().alias(new) for old, new in zip(columns.all, names, strict=True)
    ]
    return frame.select(text).with_columns(pl.col(name).replace("", None) for name in names)


def deltas(added: pl.DataFrame, taken: pl.DataFrame, strata: Sequence[str]) -> pl.DataFrame:
    """What counts change by when some reports' rows are added and others are taken away.

    Args:
        added: Rows with report, product, event and strata.
        taken: The same.
        strata: Names of the strata.

    Returns:
        key, kind, product, event, stratum, n: one row per count that changes, by key.
    """
    import polars as pl

    parts = [long_counts(added, strata), long_counts(taken, strata).with_columns(-pl.col("n"))]
    return summed(pl.concat(parts))


def no_counts() -> pl.DataFrame:
    """A table of counts without rows."""
    import polars as pl

    names = dict.fromkeys(PARTS[1:], pl.String)
    return pl.DataFrame(schema={"key": pl.Int64, "kind": pl.Int8, **names, "n": pl.Int64})


def summed(frame: pl.DataFrame) -> pl.DataFrame:
    """Counts with the same key put together; what came to nothing is left out."""
    import polars as pl

    return (
        frame.group_by("key", *PARTS)
        .agg(pl.col("n").sum())
        .filter(pl.col("n") != 0)
        .sort("key", *PARTS, nulls_last=True)
    )


def long_counts(rows: pl.DataFrame, strata: Sequence[str]) -> pl.DataFrame:
    """All counts of some report rows in one table."""
    return lengthened(count_reports(ReportRows(rows, Columns(strata=tuple(strata))), workers=1))


def lengthened(counts: Counts) -> pl.DataFrame:
    """Counts as one table: key, kind, product, event, stratum, n."""
    import polars as pl

    products, events, strata = (
        pl.Series(names, dtype=pl.String) for names in (counts.products, counts.events, counts.strata)
    )
    total = np.flatnonzero(counts.by_stratum)
    parts = (
        _part(PAIR, counts.a, product=products.gather(counts.product), event=events.gather(counts.event)),
        _part(
            PRODUCT,
            counts.by_product.count,
            product=products.gather(counts.by_product.code),
            stratum=strata.gather(counts.by_product.stratum),
        ),
        _part(
            EVENT,
            counts.by_event.count,
            event=events.gather(counts.by_event.code),
            stratum=strata.gather(counts.by_event.stratum),
        ),
        _part(ALL, counts.by_stratum[total], stratum=strata.gather(total)),
    )
    return pl.concat(parts).sort("key", *PARTS, nulls_last=True)


def _part(kind: int, n: Any, **names: pl.Series) -> pl.DataFrame:
    import polars as pl

    columns = {part: names.get(part, pl.repeat(None, len(n), dtype=pl.String, eager=True)) for part in PARTS[1:]}
    frame = pl.DataFrame({"kind": pl.repeat(kind, len(n), dtype=pl.Int8, eager=True), **columns, "n": n})
    return frame.select(keys(frame), *PARTS, pl.col("n").cast(pl.Int64))


def keys(frame: pl.DataFrame) -> pl.Series:
    """A 64-bit key of kind, product and event, the same in every version of every library.

    Only for finding rows: what has the same key is compared by name afterwards.
    """
    import polars as pl

    mixed = frame["kind"].to_numpy().astype(np.uint64)
    for name, factor in (("product", 0x9E3779B97F4A7C15), ("event", 0xC2B2AE3D27D4EB4F)):
        names = frame[name].drop_nulls().unique()
        hashed = pl.Series([_hash(value) for value in names.to_list()], dtype=pl.UInt64)
        values = frame[name].replace_strict(names, hashed, default=0, return_dtype=pl.UInt64).to_numpy()
        mixed = (mixed ^ values) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(29)
    return pl.Series("key", mixed.view(np.int64))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def assembled(frame: pl.DataFrame, *, rows: int = 0) -> Counts:
    """Counts from their table; the way back of :func:`lengthened`.

    Args:
        frame: Counts, each key once.
        rows: Complete rows they stand for, where that is known.
    """
    import polars as pl

    pairs = frame.filter(kind=PAIR).sort("product", "event")
    by_product = frame.filter(kind=PRODUCT).sort("product", "stratum")
    by_event = frame.filter(kind=EVENT).sort("event", "stratum")
    totals = frame.filter(kind=ALL).sort("stratum")
    names = [_different((pairs["product"], by_product["product"])), _different((pairs["event"], by_event["event"]))]
    strata = _different((by_product["stratum"], by_event["stratum"], totals["stratum"]))

    def code(values: pl.Series, known: list[str]) -> np.ndarray:
        places = pl.DataFrame({"name": pl.Series(known, dtype=pl.String), "place": np.arange(len(known))})
        return values.to_frame("name").join(places, on="name", how="left", maintain_order="left")["place"].to_numpy()

    by_stratum = np.zeros(len(strata), np.int64)
    by_stratum[code(totals["stratum"], strata)] = totals["n"].to_numpy()
    return Counts(
        products=names[0],
        events=names[1],
        strata=strata,
        product=code(pairs["product"], names[0]),
        event=code(pairs["event"], names[1]),
        a=pairs["n"].to_numpy(),
        by_product=Margin(
            code(by_product["product"], names[0]), code(by_product["stratum"], strata), by_product["n"].to_numpy()
        ),
        by_event=Margin(code(by_event["event"], names[1]), code(by_event["stratum"], strata), by_event["n"].to_numpy()),
        by_stratum=by_stratum,
        rows=rows,
        distinct=rows,
        conflicting=0,
        removed=0,
        crossed=0,
        aside={},
        places=(),
    )


def margins_of(pairs: pl.DataFrame) -> pl.DataFrame:
    """Kind, product and event of the margins that some pairs need, and of all reports."""
    import polars as pl

    none = pl.lit(None, pl.String)
    return pl.concat(
        [
            pairs.select(kind=pl.lit(PRODUCT, pl.Int8), product="product", event=none),
            pairs.select(kind=pl.lit(EVENT, pl.Int8), product=none, event="event"),
            pl.select(kind=pl.lit(ALL, pl.Int8), product=none, event=none),
        ]
    ).unique()


def expected_moved(change: pl.DataFrame, now: pl.DataFrame) -> tuple[float, float] | None:
    """Bounds on the factor by which the expected count of any pair can have changed.

    E = sum of n_is n_js / N_s, so the factor lies between the products of the smallest and of the largest changes of
    n_is, n_js and 1 / N_s.

    Args:
        change: Changes of margins (product, event and all) since the time compared with.
        now: The same margins as they are.

    Returns:
        Smallest and largest factor; None where a name has come to a stratum in which it was not, since E has no bound
        then.
    """
    import polars as pl

    both = change.join(now, on=[*PARTS], how="left", nulls_equal=True, suffix="_now")
    both = both.with_columns(pl.col("n_now").fill_null(0)).with_columns(before=pl.col("n_now") - pl.col("n"))
    stratified = both.filter(pl.col("stratum") != EVERYTHING).height > 0
    if stratified and both.filter((pl.col("before") == 0) & (pl.col("kind") != ALL)).height:
        return None
    # Without strata, a name that was nowhere before has no pair that was scored before.
    # One that is nowhere now has none left.
    both = both.filter((pl.col("before") > 0) & (pl.col("n_now") > 0))
    both = both.with_columns(ratio=pl.col("n_now") / pl.col("before"))
    low = high = 1.0
    for kind in (PRODUCT, EVENT, ALL):
        ratios = both.filter(kind=kind)["ratio"].to_numpy()
        if kind == ALL:
            ratios = 1 / ratios
        if kind != ALL or stratified or not ratios.size:
            ratios = np.append(ratios, 1.0)  # what did not change; the total is one for all pairs
        low, high = low * float(ratios.min()), high * float(ratios.max())
    return low, high


def _different(columns: Iterable[pl.Series]) -> list[str]:
    import polars as pl

    return sorted(pl.concat(list(columns)).unique().drop_nulls().to_list())


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each report the rows of the last batch that named it."""
    import polars as pl

    return rows.filter(pl.col("batch") == pl.col("batch").max().over("report"))


def differing(now: pl.DataFrame, old: pl.DataFrame) -> pl.Series:
    """Reports whose rows are not those known."""
    import polars as pl

    names = now.columns
    old = old.select(names)
    one = now.join(old, on=names, how="anti", nulls_equal=True)["report"]
    other = old.join(now, on=names, how="anti", nulls_equal=True)["report"]
    return pl.concat([one, other]).unique().sort()
