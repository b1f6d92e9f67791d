"""Feature views from clean tables: one row per subject and day on which something became known.

A row's features come from the records whose event day and KNOWNDY are both at or before its day, so that an
as-of join on the row's timestamp can return neither a late value nor a later correction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features import derived, measures, states, study_time, timeline
from trialops.features.definitions import feature_name
from trialops.features.timeline import Note

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Definitions, Source, View

KEYS = ("subject_id", "event_timestamp", "created")
Progress = Callable[[str, float], None]


class FeatureViews(dict[str, "pl.DataFrame"]):
    """View name -> frame, with notes on rows left out, and the features that count records only once they are over."""

    def __init__(
        self, frames: Mapping[str, pl.DataFrame], notes: tuple[Note, ...], settled_late: tuple[str, ...] = ()
    ) -> None:
        super().__init__(frames)
        self.notes = notes
        self.settled_late = settled_late


def feature_views(
    tables: Mapping[str, pl.DataFrame],
    definitions: Definitions | None = None,
    *,
    entities: Collection[str] = ("subject",),
    progress: Progress | None = None,
) -> FeatureViews:
    """Compute every feature view of subjects, and those of visits and sites on request.

    Args:
        tables: Clean tables by domain. DM is required; features of another table that is absent are null
            (nothing was collected), those of a present table without rows for a subject are counts of zero.
        definitions: What to compute; the shipped definitions by default.
        entities: Which entities' views: any of subject, subject_visit, site. The views of subjects and visits depend on
            the rows of their subject alone; those of sites on everybody's.
        progress: Called with the view's name and the fraction done.

    Returns:
        View -> frame with its join keys (str; subject_id, and what `Definitions.join_keys` says of the others),
        event_timestamp and created (datetime us UTC, equal: the day it became known) and Float64 features, sorted by
        keys and event_timestamp; `.notes` counts rows left out, with the reason.

    Raises:
        TrialOpsError: DM is absent, a table lacks a needed column, or has a day 0.
    """
    from trialops.features.definition_file import load

    definitions = definitions or load()
    found = FeatureViews({}, ())
    if "subject" in entities:
        found = Builder(tables, definitions).build(progress)
    from trialops.features import sites, visits

    for entity, maker in (("subject_visit", visits.frames), ("site", sites.frames)):
        if entity in entities:
            frames, notes = maker(tables, definitions)
            found.update(frames)
            found.notes = tuple(dict.fromkeys(found.notes + notes))
    return found


def ages(frame: pl.DataFrame, definitions: Definitions, day: int) -> pl.DataFrame:
    """Add days from each day-valued feature to a study day; null stays null.

    Args:
        frame: Rows of features, as an as-of join or an online store gives them.
        definitions: Their definitions.
        day: The study day asked for.
    """
    import polars as pl

    today = study_time.ordinal_of(day)
    present = {age: source for age, source in definitions.ages.items() if source in frame.columns}
    return frame.with_columns(
        (today - study_time.ordinal(pl.col(source))).cast(pl.Float64).alias(age) for age, source in present.items()
    )


class Builder:
    """One run over one set of tables; caches the versions of a table that several features read."""

    def __init__(self, tables: Mapping[str, pl.DataFrame], definitions: Definitions) -> None:
        import polars as pl

        if "DM" not in tables:
            raise TrialOpsError(
                "Features need the demographics table.", where="table DM", fix="Pass the clean DM table too."
            )
        self.tables, self.definitions = tables, definitions
        used = [tables[t]["USUBJID"] for t in definitions.tables if t in tables]
        self.subjects = pl.concat([u.cast(pl.String).unique() for u in used]).drop_nulls().unique().sort()
        self.notes: list[Note] = []
        self.states: dict[str, pl.DataFrame] = {}
        self.read: dict[str, pl.DataFrame] = {}

    def build(self, progress: Progress | None) -> FeatureViews:
        """All views of subjects, in the order of the definitions."""
        makers = {"attributes": self._attributes, "measurements": self._measurements, "counts": self._counts}
        frames = {}
        # Scores read attributes; those in a view of their own also measurements and conditions.
        order = {"attributes": 0, "scores": 2}
        views = sorted(self.definitions.views.values(), key=lambda v: order.get(v.kind, 1))
        for done, view in enumerate(views):
            if progress:
                progress(view.name, done / len(views))
            state = makers[view.kind](view) if view.kind in makers else derived.MAKERS[view.kind](self, view)
            self.states[view.name] = state
            frames[view.name] = self.frame(state, self.definitions.columns(view.name))
        if progress:
            progress("features", 1.0)
        in_order = {name: frames[name] for name in self.definitions.views}
        return FeatureViews(in_order, tuple(dict.fromkeys(self.notes)), self.definitions.settled_late)

    def borrowed(self, view: View) -> dict[str, pl.DataFrame]:
        """States of the other views that the scores of a view take arguments from."""
        homes = sorted({a.split(".")[0] for s in view.scores.values() for a in s.arguments.values() if "." in a})
        return {home: self.states[home] for home in homes}

    def versions(self, table: str, columns: list[str]) -> pl.DataFrame:
        """Record versions of a table; notes on rows left out are kept."""
        source = self.definitions.tables[table]
        rows, notes = timeline.versions(self.tables[table], source, self.subjects, columns)
        self.notes += notes
        return rows

    def contacts(self) -> pl.DataFrame:
        """Stamps at which a subject's demographics became known: the first contact."""
        rows, _ = timeline.versions(self.tables["DM"], self.definitions.tables["DM"], self.subjects, [])
        return timeline.changes(rows)

    def _visits(self, source: Source) -> pl.DataFrame | None:
        """Versions of the visits at which ends in this table become known; None where it names none."""
        if not source.contact:
            return None
        if source.contact in self.tables:
            visits = self.definitions.tables[source.contact]
            return timeline.versions(self.tables[source.contact], visits, self.subjects, [])[0]
        frame = self.tables[source.table]
        note = f"have no visits in {source.contact}: an end after collection is never known"
        self.notes.append(Note(source.table, note, frame.height))
        return timeline.versions(frame.clear(), source, self.subjects, [])[0]

    def frame(self, state: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
        """A state frame with names and moments in place of stamps; values that are not finite become null."""
        import polars as pl

        moment = study_time.timestamp(timeline.ordinal_of(pl.col("stamp")))
        return state.select(
            self.subjects.gather(state.select(timeline.code_of(pl.col("stamp"))).to_series()).alias("subject_id"),
            moment.alias("event_timestamp"),
            moment.alias("created"),
            *(
                pl.when(pl.col(c).cast(pl.Float64).is_finite()).then(pl.col(c).cast(pl.Float64)).alias(c)
                for c in columns
            ),
        )

    def _attributes(self, view: View) -> pl.DataFrame:
        import polars as pl

        features = view.features
        rows = self.versions(view.table, [a.column for a in features.values()])
        values = []
        for name, a in features.items():
            if a.kind == "number":
                value = pl.col(a.column).cast(pl.Float64, strict=False).fill_nan(None)
            else:
                text = measures.text(a.column)
                value = pl.when(text.is_in([k.upper() for k in a.known])).then(
                    (text == a.value.upper()).cast(pl.Float64)
                )
            values.append(value.alias(name))
        state = states.latest(rows.select("code", "arrival", "until", "rank", *values), list(features))
        return state

    def _measurements(self, view: View) -> pl.DataFrame:
        import polars as pl

        readings = self.readings(view) if view.table in self.tables else None
        known: dict[str, dict[str, pl.DataFrame]] = {}
        # A row on every day something arrived, whether or not it changed an answer: else the rows of a past
        # day would depend on whether a later correction makes its subject be replayed.
        every: list[pl.DataFrame] = []
        for name, test in view.tests.items():
            if readings is None:
                break
            own = self.of_test(readings, view, name)
            every.append(timeline.changes(own))
            known[name] = measures.series(own.drop("code_text", "unit", "visit"), test)
        borrowed = self.borrowed(view)
        every += borrowed.values()
        spine = timeline.spine(*every)
        columns: dict[str, pl.Series] = {}
        days: list[pl.Series] = []
        outside: list[pl.Series] = []
        for name, test in view.tests.items():
            found = measures.statistics(spine, known.get(name), test)
            for statistic in test.statistics:
                columns[feature_name(name, statistic)] = found[statistic]
            days.append(found["day"].alias(name))
            outside.append(found["outside"].alias(name))
        frame = spine.with_columns(s.alias(n) for n, s in columns.items())
        latest_day = pl.DataFrame(days).select(pl.max_horizontal(pl.all())).to_series()
        frame = frame.with_columns(study_time.day(pl.lit(latest_day)).alias(view.last_day))
        if view.out_of_range:
            marks = pl.DataFrame(outside)
            count, n = (
                marks.select(pl.sum_horizontal(pl.all())).to_series(),
                marks.select(pl.sum_horizontal(pl.all().is_not_null())).to_series(),
            )
            frame = frame.with_columns(
                count.alias(view.out_of_range["count"]), (count / n).alias(view.out_of_range["share"])
            )
        frame = derived.with_scores(frame, view, borrowed)
        for name, score in view.scores.items():
            own_days = [d for d in days if d.name in score.arguments.values()] if score.same_day else []
            if len(own_days) > 1:
                one = pl.DataFrame(own_days).select(pl.max_horizontal(pl.all()) == pl.min_horizontal(pl.all()))
                frame = frame.with_columns(pl.when(one.to_series()).then(name).alias(name))
        return frame.filter(pl.col(view.last_day).is_not_null())

    def of_test(self, readings: pl.DataFrame, view: View, name: str) -> pl.DataFrame:
        """Readings of one test in its unit; those in another are noted."""
        import polars as pl

        test = view.tests[name]
        own = readings.filter(pl.col("code_text") == test.code)
        wrong = (~pl.col("unit").is_in(test.units)).fill_null(True)
        if refused := int(own.select(wrong.sum()).item()):
            what = f"{view.columns['test']} {test.code} in another unit than {test.units[0]}"
            self.notes.append(Note(view.table, what, refused))
            own = own.filter(~wrong)
        return own

    def readings(self, view: View) -> pl.DataFrame:
        """Versions with a value of one of the view's tests, in a kept position; still in any unit."""
        import polars as pl

        key = "/".join((view.table, *view.tests))
        if key in self.read:
            return self.read[key]
        names = view.columns
        for column in (names["test"], names["value"], names["unit"]):
            if column not in self.tables[view.table].columns:
                raise TrialOpsError(
                    f"The clean table lacks {column}.",
                    where=f"table {view.table}",
                    fix="Keep it on de-identification: the features are made from it.",
                )
        visit = ["VISITNUM"] if "VISITNUM" in self.tables[view.table].columns else []
        rows = self.versions(view.table, [*names.values(), *view.keep, *visit])
        codes = [t.code for t in view.tests.values()]
        wanted = pl.col(names["test"]).is_in(codes) & pl.col(names["value"]).cast(pl.Float64).is_not_nan()
        for column, words in view.keep.items():
            wanted &= measures.text(column).is_in(words) | (measures.text(column) == "")
        self.read[key] = (
            rows.lazy()
            .filter(wanted)
            .select(
                "code",
                "arrival",
                "until",
                "event",
                "rank",
                pl.col(names["test"]).cast(pl.Categorical).alias("code_text"),
                pl.col(names["unit"]).cast(pl.Categorical).alias("unit"),
                pl.col(names["value"]).cast(pl.Float64).alias("value"),
                pl.col(names["high"]).cast(pl.Float64).fill_nan(None).alias("high")
                if "high" in names
                else pl.lit(None, pl.Float64).alias("high"),
                measures.outside(names).alias("outside"),
                (pl.col("VISITNUM").cast(pl.Float64) if visit else pl.lit(None, pl.Float64)).alias("visit"),
            )
            .collect()
        )
        return self.read[key]

    def _counts(self, view: View) -> pl.DataFrame:
        import polars as pl

        known: dict[str, pl.DataFrame] = {}
        every = [self.contacts()]
        for table in dict.fromkeys(c.table for c in view.features.values()):
            if table not in self.tables:
                continue
            group = {name: c for name, c in view.features.items() if c.table == table}
            rows = self.versions(table, sorted({column for c in group.values() for column in c.needs}))
            every.append(timeline.changes(rows))
            source = self.definitions.tables[table]
            if source.end in rows.columns:
                rows = timeline.ended(rows, source.end, self._visits(source))
            for name, counter in group.items():
                # A column that is not there is unknown, not zero.
                if counter.needs <= set(self.tables[table].columns):
                    known[name] = measures.counted(rows, name, counter)
        spine = timeline.spine(*every, *known.values())
        found = []
        for name, counter in view.features.items():
            if name not in known:
                found.append(pl.Series(name, [None] * spine.height, dtype=pl.Float64))
                continue
            value = timeline.look_up(spine, known[name])[name].cast(pl.Float64)
            # From the first contact on, nothing recorded counts as zero; days and means stay unknown.
            empty = counter.measure in ("first_day", "last_day", "mean_delay")
            found.append(value if empty else value.fill_null(0.0))
        return spine.with_columns(found)
