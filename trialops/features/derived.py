"""Views that build on others: what the recent past says, conditions by code, scores over several views, follow-up.

Each function gives the state frame of a view (`stamp`, then its features), as the makers in `trialops.features.views`
do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialops.features import conditions, measures, states, study_time, timeline
from trialops.features.definitions import window_name

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Trend, View
    from trialops.features.views import Builder


def trends(build: Builder, view: View) -> pl.DataFrame:
    """Windows, slopes, last days and missing measurements of the tests of a view."""
    import polars as pl

    readings = build.readings(view) if view.table in build.tables else None
    at = [build.versions(t, ["VISITNUM"] if t == "SV" else []) for t in view.rows_at if t in build.tables]
    every = [timeline.changes(rows) for rows in at]
    if readings is not None:
        every.append(timeline.changes(readings))
    spine = timeline.spine(*every)
    happened = None
    if readings is not None and view.planned and "SV" in build.tables:
        visits = build.versions("SV", ["VISITNUM"]).with_columns(visit=pl.col("VISITNUM").cast(pl.Float64))
        took_place = pl.concat([_planned(visits, view), _planned(readings, view)])
        happened = timeline.look_up(spine, states.distinct(took_place, "_visit", "n"))["n"]
    found: list[pl.Series] = []
    for test, trend in view.trends.items():
        own = None if readings is None else build.of_test(readings, view, test)
        found += _of_test(spine, own, test, trend, view, happened)
    return spine.with_columns(found)


def _of_test(
    spine: pl.DataFrame, rows: pl.DataFrame | None, test: str, trend: Trend, view: View, happened: pl.Series | None
) -> list[pl.Series]:
    import polars as pl

    if rows is None:
        return [pl.Series(name, [None] * spine.height, dtype=pl.Float64) for name in trend.names(test)]
    found = []
    for days, statistics in trend.windows.items():
        values = window(spine, rows, days, statistics)
        found += [values[s].alias(window_name(test, s, days)) for s in statistics]
    last = timeline.look_up(spine, states.latest(rows, ["event"]))["event"]
    for measure in trend.measures:
        name = f"{test}_{measure}"
        if measure == "day":
            found.append(pl.select(study_time.day(pl.lit(last)).cast(pl.Float64).alias(name)).to_series())
        elif measure == "measured":
            found.append(last.is_not_null().cast(pl.Float64).alias(name))
        elif happened is None or rows["visit"].null_count() == rows.height > 0:
            found.append(pl.Series(name, [None] * spine.height, dtype=pl.Float64))
        else:
            done = timeline.look_up(spine, states.distinct(_planned(rows, view), "_visit", "n"))["n"].fill_null(0)
            share = pl.when(happened > 0).then(1.0 - done / happened).alias(name)
            found.append(pl.select(share).to_series())
    return found


def _planned(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    """Rows at planned visits, with the visit as a term to count."""
    import polars as pl

    chosen = rows.filter(pl.col("visit").is_in(list(view.planned)))
    return chosen.select("code", "arrival", "until", _visit=(pl.col("visit") * 1000).round().cast(pl.Int64))


def window(spine: pl.DataFrame, rows: pl.DataFrame, days: int, statistics: tuple[str, ...]) -> pl.DataFrame:
    """Statistics over the readings current at each stamp whose event day is among the last `days` days.

    A reading is in the window of the stamps between its arrival and the day on which it is superseded or too old. So
    each is paired with those stamps alone: the work grows with what windows hold, not with a subject's whole history.

    Args:
        spine: Column stamp, sorted and unique.
        rows: Versions of one test with code, arrival, until, event, rank and value.
        days: Length of the window; the day of the stamp is its last.
        statistics: Some of `WINDOW_STATISTICS`.

    Returns:
        One column per statistic, one row per stamp: counts without a reading are 0, the others null; slopes are per
        day and need readings on two days.
    """
    import polars as pl

    ends = pl.min_horizontal(pl.col("until").fill_null(timeline.HALF - 1), pl.col("event") + days, timeline.HALF - 1)
    # Values around the first one known, which no later row can change; around 0 their products would cancel.
    centre = pl.col("value").first().over("code")
    inside = (
        rows.sort("code", "arrival", "rank")
        .with_columns(d=pl.col("value") - centre, _ends=ends.cast(pl.Int32))
        .filter(pl.col("arrival") < pl.col("_ends"))
        .sort("code", "rank", "arrival")
    )
    bounds = inside.select(
        timeline.stamp(pl.col("code"), pl.col("arrival")).alias("from"),
        timeline.stamp(pl.col("code"), pl.col("_ends")).alias("to"),
    )
    low, high = (spine["stamp"].search_sorted(bounds[c], side="left") for c in ("from", "to"))
    pairs = inside.select("event", "value", "d").with_columns(_low=low, _high=high)
    pairs = pairs.with_columns(at=pl.int_ranges("_low", "_high", dtype=pl.Int64))
    pairs = pairs.filter(pl.col("at").list.len() > 0).explode("at")
    today = spine.select(timeline.ordinal_of(pl.col("stamp"))).to_series()
    pairs = pairs.with_columns(t=(pl.col("event") - today.gather(pairs["at"])).cast(pl.Float64))
    t, d = pl.col("t"), pl.col("d")
    sums = {
        "count": pl.len().cast(pl.Float64),
        "min": pl.col("value").min(),
        "max": pl.col("value").max(),
        "mean": pl.col("value").sum(),
        "_t": t.sum(),
        "_tt": (t * t).sum(),
        "_d": d.sum(),
        "_td": (t * d).sum(),
    }
    grouped = pairs.group_by("at", maintain_order=True).agg(**sums)
    spread = pl.col("count") * pl.col("_tt") - pl.col("_t") ** 2
    product = pl.col("count") * pl.col("_td") - pl.col("_t") * pl.col("_d")
    grouped = grouped.with_columns(
        mean=pl.col("mean") / pl.col("count"), slope=pl.when(spread > 0).then(product / spread)
    )
    every = pl.DataFrame({"at": pl.int_range(spine.height, dtype=pl.Int64, eager=True)})
    joined = every.join(grouped, on="at", how="left", maintain_order="left")
    return joined.with_columns(pl.col("count").fill_null(0.0)).select(statistics)


def conditions_by_code(build: Builder, view: View) -> pl.DataFrame:
    """Groups of conditions a subject has, and scores over them; no row where the table has no such column."""
    import polars as pl

    column = view.columns["column"]
    names = [*view.features, *view.scores]
    if view.table not in build.tables or column not in build.tables[view.table].columns:
        return pl.DataFrame(schema={"stamp": pl.Int64, **dict.fromkeys(names, pl.Float64)})
    rows = build.versions(view.table, [column])
    code = measures.text(column)
    flags = {g: conditions.belongs(code, g).cast(pl.Int32) for g in dict.fromkeys(view.features.values())}
    # A record without a code may be any condition: then a group is present or unknown, never absent.
    known = states.totals(rows.with_columns(_uncoded=(code == "").cast(pl.Int32), **flags), ["_uncoded", *flags])
    borrowed = build.borrowed(view)
    spine = timeline.spine(build.contacts(), timeline.changes(rows), *borrowed.values())
    found = timeline.look_up(spine, known).with_columns(pl.all().fill_null(0))
    values = [
        pl.when(pl.col(g) > 0).then(1.0).when(pl.col("_uncoded") == 0).then(0.0).alias(feature)
        for feature, g in view.features.items()
    ]
    state = pl.concat([spine, found.select(values)], how="horizontal")
    return with_scores(state, view, borrowed)


def scores_alone(build: Builder, view: View) -> pl.DataFrame:
    """Scores over the latest values of other views, at every day on which one of them changed."""
    borrowed = build.borrowed(view)
    return with_scores(timeline.spine(*borrowed.values()), view, borrowed)


def with_scores(state: pl.DataFrame, view: View, borrowed: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Add a view's scores to its state, with what it borrows looked up at the same stamps."""
    import polars as pl

    lent = [
        timeline.look_up(state.select("stamp"), known).select(pl.all().name.prefix(f"{home}."))
        for home, known in borrowed.items()
    ]
    return pl.concat([state, *lent], how="horizontal").with_columns(
        measures.scored(n, s) for n, s in view.scores.items()
    )


def follow_up(build: Builder, view: View) -> pl.DataFrame:
    """The latest study day known of each subject: each day of knowledge, and the day of the data cut."""
    import polars as pl

    (feature,) = view.features
    cut = view.columns["column"]
    rows = [build.versions(t, []) for t in view.rows_at if t in build.tables]
    spine = timeline.spine(build.contacts(), *(timeline.changes(r) for r in rows))
    if cut in build.tables[view.table].columns:
        about = build.versions(view.table, [cut]).filter(pl.col("until").is_null() & pl.col(cut).is_not_null())
        day = pl.max_horizontal(study_time.ordinal(pl.col(cut)), "arrival")
        spine = timeline.spine(spine, about.select(stamp=timeline.stamp(pl.col("code"), day)))
    return spine.with_columns(study_time.day(timeline.ordinal_of(pl.col("stamp"))).cast(pl.Float64).alias(feature))


MAKERS: dict[str, Any] = {
    "trends": trends,
    "conditions": conditions_by_code,
    "scores": scores_alone,
    "follow_up": follow_up,
}
