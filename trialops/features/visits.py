"""Views of visits: one row per subject, visit and day on which something about the visit became known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialops.features import states, study_time, timeline
from trialops.features.timeline import Note

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Definitions, View
    from trialops.features.views import Builder

#: Between subject and visit in the name of a pair; no identifier contains it.
SEPARATOR = "\x1f"


def frames(
    tables: Mapping[str, pl.DataFrame], definitions: Definitions
) -> tuple[dict[str, pl.DataFrame], tuple[Note, ...]]:
    """Every view of visits.

    A pair of subject and visit is treated as a subject of its own: so late values and corrections come in on the day
    they became known, by the same code.

    Args:
        tables: Clean tables. A view whose table of visits is absent has no rows.
        definitions: What to compute.

    Returns:
        View -> frame with subject_id, visit (the visit number as text), event_timestamp, created, features; sorted.
    """
    from trialops.features.views import Builder

    found: dict[str, pl.DataFrame] = {}
    notes: list[Note] = []
    views = [v for v in definitions.entity_views.values() if v.entity == "subject_visit"]
    paired: dict[str, pl.DataFrame] | None = None
    for view in views:
        if paired is None:
            paired = {name: _paired(frame) for name, frame in tables.items() if "VISITNUM" in frame.columns}
            paired["DM"] = tables["DM"].clear()
        build = Builder(paired, definitions)
        found[view.name] = _frame(build, view, definitions)
        notes += build.notes
    return found, tuple(dict.fromkeys(notes))


def _paired(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that belong to a visit, with subject and visit in place of the subject."""
    import polars as pl

    number = pl.col("VISITNUM").cast(pl.Float64)
    text = (
        pl.when(number == number.round()).then(number.cast(pl.Int64).cast(pl.String)).otherwise(number.cast(pl.String))
    )
    name = pl.concat_str(pl.col("USUBJID").cast(pl.String), text, separator=SEPARATOR)
    return frame.filter(pl.col("VISITNUM").is_not_null()).with_columns(USUBJID=name)


def _frame(build: Builder, view: View, definitions: Definitions) -> pl.DataFrame:
    import polars as pl

    every, columns = [], dict[str, pl.DataFrame]()
    facts = None
    if view.table in build.tables:
        rows = build.versions(view.table, [view.columns["planned"]])
        every.append(timeline.changes(rows))
        facts = _facts(rows, view)
    for name, (home, test) in view.at_visit.items():
        base = definitions.views[home]
        if base.table in build.tables:
            own = build.of_test(build.readings(base), base, test)
            every.append(timeline.changes(own))
            columns[name] = states.latest(own, ["value"])
    spine = timeline.spine(*every)
    empty = pl.lit(None, pl.Float64)
    if facts is None:
        state = spine.with_columns(empty.alias(f) for f in view.features)
    else:
        found = timeline.look_up(spine, facts)
        state = pl.concat(
            [spine, found.select(pl.col(kind).alias(f) for f, kind in view.features.items())], how="horizontal"
        )
    state = state.with_columns(
        timeline.look_up(spine, columns[n])["value"].alias(n) if n in columns else empty.alias(n) for n in view.at_visit
    )
    made = build.frame(state, definitions.columns(view.name))
    parts = pl.col("subject_id").str.split_exact(SEPARATOR, 1)
    made = made.with_columns(
        subject_id=parts.struct.field("field_0"), visit=parts.struct.field("field_1").cast(pl.String)
    )
    order = [*view.join_keys, "event_timestamp", "created", *definitions.columns(view.name)]
    return made.select(order).sort("subject_id", "visit", "event_timestamp")


def _facts(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    """State of the visit itself: its day, days after the planned one, whether it was planned."""
    import polars as pl

    planned = study_time.ordinal(pl.col(view.columns["planned"]))
    return states.latest(
        rows.with_columns(
            day=study_time.day(pl.col("event")).cast(pl.Float64),
            delay=(pl.col("event") - planned).cast(pl.Float64),
            unplanned=planned.is_null().cast(pl.Float64),
        ),
        ["day", "delay", "unplanned"],
    )
