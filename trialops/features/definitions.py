"""Feature definitions as data: which table, test and column a feature comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError

SHIPPED = Path(__file__).parent / "definitions.yaml"
STATISTICS = ("last", "change", "change_pct", "sd", "uln_ratio")
MEASURES = ("count", "distinct", "highest", "open", "mean_delay", "first_day", "last_day", "gap_days", "gaps")
#: From when a record counts: from its collection, or from when its end has taken effect.
KNOWN = ("at_collection", "at_end")
#: What is taken over a window of study days, and what of a test's whole past.
WINDOW_STATISTICS = ("mean", "min", "max", "count", "slope")
PAST_MEASURES = ("day", "measured", "missing_share")
#: Entity -> the columns that name one; a view has one row per entity and day on which something became known.
ENTITIES: dict[str, tuple[str, ...]] = {
    "subject": ("subject_id",),
    "subject_visit": ("subject_id", "visit"),
    "site": ("site_id",),
}
#: Measures that read a column beside the event day.
WITH_COLUMN = frozenset({"highest", "open", "mean_delay", "gap_days", "gaps"})
#: Columns that show, or let one infer, which treatment a subject gets. Number and rows of EX are kept out by
#: having no such measure.
UNBLINDING = frozenset(
    {
        "ARM",
        "ARMCD",
        "ACTARM",
        "ACTARMCD",
        "ARMNRS",
        "ACTARMUD",
        "EXTRT",
        "EXDOSE",
        "EXDOSTXT",
        "EXDOSTOT",
        "EXDOSU",
        "EXDOSFRQ",
        "EXDOSRGM",
        "EXTRTV",
        "EXLOT",
        "EXADJ",
        "ECTRT",
        "ECDOSE",
    }
)


@dataclass(frozen=True)
class Source:
    """How a table tells its records apart.

    Attributes:
        table: Domain.
        id: Column that numbers a subject's records; None where there is one.
        event: Column with the day it happened; None where a record counts from when it was known.
        end: Column with the last day of a record that lasts; "" where none does.
        contact: Table of the visits at which an end becomes known; "" where an end counts from its own day.
    """

    table: str
    id: str | None
    event: str | None
    end: str = ""
    contact: str = ""


@dataclass(frozen=True)
class Attribute:
    """One column of a one-record table as a number, or as an indicator.

    An indicator is 1 for `value`, 0 for another one of `known`, null else.
    """

    column: str
    kind: str
    unit: str
    value: str = ""
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Test:
    """One test of a findings table; the first unit is the canonical one, the others are spellings of it."""

    code: str
    units: tuple[str, ...]
    statistics: tuple[str, ...]

    __test__ = False  # the field's word, not a pytest class


@dataclass(frozen=True)
class Score:
    """A score over features; an argument may be `view.feature` of another view.

    With `same_day` it is null unless the tests of its own view were last measured on one day.
    """

    score: str
    arguments: Mapping[str, str]
    same_day: bool = False


@dataclass(frozen=True)
class Trend:
    """What the recent past of one test is turned into: window in study days -> statistics; and `PAST_MEASURES`."""

    windows: Mapping[int, tuple[str, ...]]
    measures: tuple[str, ...]

    def names(self, test: str) -> tuple[str, ...]:
        """Feature names, in order."""
        found = [window_name(test, s, days) for days, listed in self.windows.items() for s in listed]
        return tuple(found + [f"{test}_{m}" for m in self.measures])


@dataclass(frozen=True)
class Counter:
    """A measure over the records known so far; `distinct` counts combinations of its columns.

    `end` is the column of the last day for a measure over records that are over, else "".
    """

    table: str
    measure: str
    columns: tuple[str, ...]
    where: Mapping[str, tuple[str, ...]]
    contains: Mapping[str, tuple[str, ...]]
    on_or_after: Mapping[str, int]
    scores: Mapping[str, float]
    end: str = ""
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def needs(self) -> frozenset[str]:
        """Columns it reads beside id and days."""
        ends = (self.end,) if self.end else ()
        return frozenset((*self.columns, *self.where, *self.without, *self.contains, *self.on_or_after, *ends))


@dataclass(frozen=True)
class View:
    """One feature view.

    Attributes:
        kind: attributes, measurements, counts, trends, conditions, scores or follow_up; visits; sites.
        features: Attributes or counters by name; of a view of conditions, indicator -> group of conditions.
        columns: What the columns of the table are called.
        tests: Measurements by name; trends have those of the view they are of.
        at_visit: Feature -> (view, test), of a view of visits.
        rows_at: Further tables on whose days the view has a row.
        planned: Visit numbers at which the tests are planned.
        trends: Test -> what its recent past is turned into.
        ratios: Feature -> (count, count it is divided by), of a view of sites.
        entity: What a row is about, one of `ENTITIES`.
    """

    name: str
    kind: str
    table: str = ""
    features: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    keep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tests: Mapping[str, Test] = field(default_factory=dict)
    last_day: str = ""
    out_of_range: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    rows_at: tuple[str, ...] = ()
    planned: tuple[float, ...] = ()
    trends: Mapping[str, Trend] = field(default_factory=dict)
    ratios: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    at_visit: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    entity: str = "subject"

    @property
    def join_keys(self) -> tuple[str, ...]:
        """Columns that say whom a row is about."""
        return ENTITIES[self.entity]

    def sources(self, tables: Mapping[str, Source]) -> dict[str, frozenset[str]]:
        """Feature -> columns (bare SDTM names) it is computed from, in the order of the view's columns."""
        if self.kind == "attributes":
            return {name: frozenset({a.column}) for name, a in self.features.items()}
        if self.kind == "scores":
            return {name: frozenset({"KNOWNDY"}) for name in self.scores}
        if self.kind in ("conditions", "follow_up"):
            key = {tables[self.table].id or "KNOWNDY", "KNOWNDY", *self.columns.values()}
            return {name: frozenset(key) for name in (*self.features, *self.scores)}
        if self.kind in ("counts", "sites"):
            found: dict[str, frozenset[str]] = {}
            for name, c in self.features.items():
                source = tables[c.table]
                keys = {k for k in (source.id, source.event, "KNOWNDY") if k}
                found[name] = c.needs | keys
            return found | {name: found[a] | found[b] for name, (a, b) in self.ratios.items()}
        source = tables[self.table]
        base = frozenset(c for c in (source.id, source.event, *self.columns.values(), *self.keep, "KNOWNDY") if c)
        if self.kind == "visits":
            return {name: base | {"VISITNUM"} for name in (*self.features, *self.at_visit)}
        if self.kind == "trends":
            extra = {"VISITNUM"} if self.planned else set()
            return {name: base | extra for test, trend in self.trends.items() for name in trend.names(test)}
        names = [feature_name(test, s) for test, t in self.tests.items() for s in t.statistics]
        return {name: base for name in (*names, *self.out_of_range.values(), *self.scores, self.last_day)}


@dataclass(frozen=True)
class Definitions:
    """All views, with the tables they read and the ages made from their days.

    Attributes:
        path: The file.
        version: Stated in it; part of the name of a feature set version.
        tables: How the tables tell their records apart.
        views: Views of subjects, by name.
        ages: Age -> day-valued feature of a view of subjects.
        entity_views: Views of visits and sites, by name.
    """

    path: Path
    version: int
    tables: Mapping[str, Source]
    views: Mapping[str, View]
    ages: Mapping[str, str]
    entity_views: Mapping[str, View] = field(default_factory=dict)

    @property
    def all_views(self) -> dict[str, View]:
        """Views of every entity."""
        return {**self.views, **self.entity_views}

    def columns(self, view: str) -> tuple[str, ...]:
        """Feature columns of one view, of any entity, in order."""
        return tuple(self.all_views[view].sources(self.tables))

    def join_keys(self, view: str) -> tuple[str, ...]:
        """Columns that say whom a row of a view is about: subject_id; subject_id and visit; site_id."""
        return self.all_views[view].join_keys

    @property
    def settled_late(self) -> tuple[str, ...]:
        """Features over records that are over, in order."""
        counters = [(n, c) for v in self.views.values() if v.kind == "counts" for n, c in v.features.items()]
        return tuple(name for name, counter in counters if counter.end)

    @property
    def features(self) -> tuple[str, ...]:
        """Every feature a training set can hold: the views' columns but for raw days, then the ages."""
        days = set(self.ages.values())
        days |= {c for name, view in self.views.items() if view.kind == "follow_up" for c in self.columns(name)}
        return tuple(c for view in self.views for c in self.columns(view) if c not in days) + tuple(self.ages)

    def sources(self) -> dict[str, frozenset[str]]:
        """Feature -> SDTM columns it is computed from, through scores and ages."""
        found: dict[str, frozenset[str]] = {}
        for view in self.all_views.values():
            found |= view.sources(self.tables)
        for view in self.views.values():
            for name, score in view.scores.items():
                found[name] = found[name].union(*(found[a.split(".")[-1]] for a in score.arguments.values()))
        return found | {age: found[day] for age, day in self.ages.items()}


def feature_name(test: str, statistic: str) -> str:
    """Name of a statistic of a test; the last value bears the test's own name."""
    return test if statistic == "last" else f"{test}_{statistic}"


def window_name(test: str, statistic: str, days: int) -> str:
    """Name of a statistic over the last so many study days."""
    return f"{test}_{statistic}_{days}d"


def check_blinded(definitions: Definitions, task: Any) -> None:
    """Refuse features made from columns that show the treatment, when the task is blinded.

    Args:
        definitions: The feature definitions.
        task: Anything with `blinded`.

    Raises:
        TrialOpsError: A feature reads such a column; the message names feature and column.
    """
    if not task.blinded:
        return
    for feature, columns in definitions.sources().items():
        if shown := sorted(columns & UNBLINDING):
            raise TrialOpsError(
                f"The feature {feature} is made from {', '.join(shown)}, which would unblind the model.",
                where=f"{definitions.path}, feature {feature}",
                fix="Remove the feature, or set blinded: false in the task of an open-label trial.",
            )
