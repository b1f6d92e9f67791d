"""Views of sites: what had happened at a site by a day of the trial.

Study days of different subjects have no common beginning, and no calendar date survives de-identification. What does is
CUTDY, the study day of the data cut, rounded down to a step (trialops/privacy/data_cut.py). From it follows a common
clock, the *trial day*: a subject's study day plus the difference between the largest CUTDY of the trial and the
subject's own. It lies at most one step after the true day, never before it, so a row of a site appears late rather than
early; and `moments` asks one step early. Together they never show a site's future to a subject.

Subjects without CUTDY (who came in during the last step, or without day 1) cannot be placed and are not counted; the
notes say how many. At its cap CUTDY tells nothing more: those subjects' records count from the day a subject at the cap
would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features import measures, study_time, timeline
from trialops.features.timeline import Note

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Definitions, Source, View
    from trialops.features.views import Builder

#: Column of record numbers that are unique within a site.
NUMBER = "_RECORD"


def frames(
    tables: Mapping[str, pl.DataFrame], definitions: Definitions
) -> tuple[dict[str, pl.DataFrame], tuple[Note, ...]]:
    """Every view of sites.

    Args:
        tables: Clean tables. Where DM has no site or no day of the data cut, the views have no rows.
        definitions: What to compute.

    Returns:
        View -> frame with site_id, event_timestamp and created (trial days), features; sorted. And notes.
    """
    from trialops.features.views import Builder

    found: dict[str, pl.DataFrame] = {}
    notes: list[Note] = []
    for view in (v for v in definitions.entity_views.values() if v.entity == "site"):
        site, cut = view.columns["site"], view.columns["cut"]
        dm = tables[view.table]
        if site not in dm.columns or cut not in dm.columns:
            notes.append(Note(view.table, f"lack {site} or {cut}: views of sites stay empty", dm.height))
            moved: dict[str, pl.DataFrame] = {view.table: dm.clear()}
        else:
            places = _places(dm, site, cut)
            used = {c.table for c in view.features.values()} | {view.table}
            moved = {
                name: _moved(tables[name], definitions.tables[name], places) for name in sorted(used) if name in tables
            }
            if lost := dm["USUBJID"].n_unique() - places.height:
                notes.append(Note(view.table, f"without {cut} or {site} are not counted at their site", lost))
        numbered = {name: replace(definitions.tables[name], id=NUMBER) for name in moved}
        build = Builder(moved, replace(definitions, tables={**definitions.tables, **numbered}))
        state = _state(build, view, filled=bool(moved[view.table].height))
        made = build.frame(state, definitions.columns(view.name)).rename({"subject_id": "site_id"})
        found[view.name] = made.sort("site_id", "event_timestamp")
        notes += build.notes
    return found, tuple(dict.fromkeys(notes))


def _places(dm: pl.DataFrame, site: str, cut: str) -> pl.DataFrame:
    """Site of each subject, and days from study days to trial days."""
    import polars as pl

    last = dm.sort("USUBJID", "KNOWNDY", maintain_order=True).unique("USUBJID", keep="last", maintain_order=True)
    chosen = last.filter(pl.col(site).is_not_null() & pl.col(cut).is_not_null())
    return chosen.select(
        "USUBJID",
        pl.col(site).cast(pl.String).alias("_site"),
        (pl.col(cut).cast(pl.Int32).max() - pl.col(cut).cast(pl.Int32)).alias("_after"),
    )


def _moved(frame: pl.DataFrame, source: Source, places: pl.DataFrame) -> pl.DataFrame:
    """Rows under their site, in trial days, with record numbers of the site."""
    import polars as pl

    rows = frame.with_columns(pl.col("USUBJID").cast(pl.String)).join(
        places, on="USUBJID", how="inner", maintain_order="left"
    )
    key = ["USUBJID", *([source.id] if source.id else [])]
    numbers = rows.select(key).unique().sort(key).with_row_index(NUMBER).with_columns(pl.col(NUMBER).cast(pl.Int64))
    days = dict.fromkeys(c for c in ("KNOWNDY", source.event) if c)
    shifted = [study_time.day(study_time.ordinal(pl.col(c)) + pl.col("_after")).alias(c) for c in days]
    joined = rows.join(numbers, on=key, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(*shifted, USUBJID=pl.col("_site")).drop("_site", "_after")


def _state(build: Builder, view: View, *, filled: bool) -> pl.DataFrame:
    import polars as pl

    known: dict[str, pl.DataFrame] = {}
    every: list[pl.DataFrame] = []
    for table in dict.fromkeys(c.table for c in view.features.values()):
        if table not in build.tables or not filled:
            continue
        group = {name: c for name, c in view.features.items() if c.table == table}
        rows = build.versions(table, sorted({column for c in group.values() for column in c.needs}))
        every.append(timeline.changes(rows))
        for name, counter in group.items():
            if counter.needs <= set(build.tables[table].columns):
                known[name] = measures.counted(rows, name, counter)
    spine = timeline.spine(*every)
    empty = pl.lit(None, pl.Float64)
    state = spine.with_columns(
        timeline.look_up(spine, known[n])[n].cast(pl.Float64).fill_null(0.0).alias(n) if n in known else empty.alias(n)
        for n in view.features
    )
    return state.with_columns(
        pl.when(pl.col(b) > 0).then(pl.col(a) / pl.col(b)).alias(name) for name, (a, b) in view.ratios.items()
    )


def moments(
    dm: pl.DataFrame, day: int, *, site: str = "SITEID", cut: str = "CUTDY", step: int | None = None
) -> pl.DataFrame:
    """When to ask the views of sites about each subject, so that nothing of the future is in the answer.

    Args:
        dm: Clean DM, as the views were made from.
        day: Study day of the subjects asked about (the landmark).
        site: Column of the site.
        cut: Column of the study day of the data cut.
        step: Days CUTDY is rounded down to; that of the privacy policy by default.

    Returns:
        subject_id, site_id and event_timestamp (the trial day, one step early; null for a subject at the cap or
        without CUTDY, whose place is not known well enough).

    Raises:
        TrialOpsError: DM lacks a column.
    """
    import polars as pl

    from trialops.privacy.policy import default_policy

    if missing := [c for c in (site, cut) if c not in dm.columns]:
        raise TrialOpsError(
            f"The clean table lacks {', '.join(missing)}.",
            where="table DM",
            fix="Run de-identification again: it adds the column.",
        )
    rule = default_policy().data_cut
    back = (rule.step if step is None else step) - 1
    places = _places(dm, site, cut).join(dm.select("USUBJID", cut).unique("USUBJID", keep="last"), on="USUBJID")
    asked = study_time.ordinal_of(day) + pl.col("_after") - back
    capped = pl.col(cut) >= rule.most
    return places.select(
        pl.col("USUBJID").alias("subject_id"),
        pl.col("_site").alias("site_id"),
        pl.when(~capped).then(study_time.timestamp(asked)).alias("event_timestamp"),
    ).sort("subject_id")
