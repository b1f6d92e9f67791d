"""Reading the views that build on others: trends, conditions, scores, follow-up, and those of visits and sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialops.features import scores
from trialops.features.conditions import groups
from trialops.features.definitions import (
    PAST_MEASURES,
    WINDOW_STATISTICS,
    Counter,
    Score,
    Source,
    Trend,
    View,
)
from trialops.models.task import Reader

DERIVED = ("trends", "conditions", "scores", "follow_up")
ENTITY_KINDS = {"visits": "subject_visit", "sites": "site"}
#: Facts of the visit itself: its day, days after the planned one, days since the visit before it.
VISIT_FACTS = ("day", "delay", "unplanned")


def read_scores(reader: Reader) -> dict[str, Score]:
    """The scores of a view; none where the key is absent."""
    found: dict[str, Score] = {}
    if "scores" not in reader.content:
        return found
    section = reader.section("scores")
    for score in section.content:
        row = section.section(score)
        arguments = row.section("arguments")
        found[score] = Score(
            row.choice("score", tuple(scores.SCORES)),
            {a: arguments.get(a, str) for a in arguments.content},
            row.get("same_day", bool) if "same_day" in row.content else False,
        )
        row.done()
    return found


def derived(name: str, kind: str, reader: Reader, views: Mapping[str, View], tables: Mapping[str, Source]) -> View:
    """A view of one of the kinds in `DERIVED`.

    Args:
        name: Of the view.
        kind: Its kind.
        reader: Its section.
        views: Views read so far; trends take table, columns and tests from one of them.
        tables: Known tables.
    """
    if kind == "trends":
        return _trends(name, reader, views, tables)
    if kind == "scores":
        return View(name, kind, scores=read_scores(reader))
    table = reader.choice("table", tuple(tables))
    column = {"column": reader.get("column", str)}
    if kind == "follow_up":
        feature = reader.get("feature", str)
        return View(name, kind, table, {feature: column["column"]}, column, rows_at=_tables(reader, tables))
    listed = reader.section("features")
    known = tuple(groups())
    features = {feature: listed.choice(feature, known) for feature in listed.content}
    return View(name, kind, table, features, column, scores=read_scores(reader))


def _tables(reader: Reader, tables: Mapping[str, Source]) -> tuple[str, ...]:
    found = reader.names("rows_at") if "rows_at" in reader.content else ()
    if wrong := [t for t in found if t not in tables]:
        raise reader.refuse("rows_at", f"The table {wrong[0]} is not known.", "List it under tables.")
    return found


def _trends(name: str, reader: Reader, views: Mapping[str, View], tables: Mapping[str, Source]) -> View:
    base = views[reader.choice("of", tuple(v for v, view in views.items() if view.kind == "measurements"))]
    planned = _visits(reader)
    listed = reader.section("tests")
    trends = {}
    for test in listed.content:
        if test not in base.tests:
            raise listed.refuse(test, f"{test} is not a test of {base.name}.", "Name one of its tests.")
        row = listed.section(test)
        windows = {}
        for days, statistics in (row.get("windows", dict) if "windows" in row.content else {}).items():
            if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 3650:
                raise row.refuse("windows", "A window is a number of days from 1 to 3650.", "Write 28: [mean].")
            if not isinstance(statistics, list) or (wrong := [s for s in statistics if s not in WINDOW_STATISTICS]):
                what = f"{wrong[0]} cannot be computed here." if isinstance(statistics, list) else "A list is needed."
                raise row.refuse("windows", what, "Use some of " + ", ".join(WINDOW_STATISTICS) + ".")
            windows[days] = tuple(statistics)
        measures = row.names("measures") if "measures" in row.content else ()
        if wrong := [m for m in measures if m not in PAST_MEASURES]:
            raise row.refuse("measures", f"{wrong[0]} cannot be computed here.", f"Use {', '.join(PAST_MEASURES)}.")
        if "missing_share" in measures and (not planned or "SV" not in tables):
            raise row.refuse("measures", "What is missing needs a plan.", "List the visits under `planned`, and SV.")
        trends[test] = Trend(windows, measures)
        row.done()
    return View(
        name,
        "trends",
        base.table,
        columns=base.columns,
        keep=base.keep,
        tests=base.tests,
        rows_at=_tables(reader, tables),
        planned=planned,
        trends=trends,
    )


def _visits(reader: Reader) -> tuple[float, ...]:
    if "planned" not in reader.content:
        return ()
    value = reader.get("planned", list)
    if not value or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise reader.refuse("planned", "The plan is a list of visit numbers.", "Write [1, 3, 4].")
    return tuple(float(v) for v in value)


def entity_view(
    name: str, reader: Reader, views: Mapping[str, View], tables: Mapping[str, Source], counter: Any
) -> View:
    """A view of visits or of sites.

    Args:
        name: Of the view.
        reader: Its section.
        views: Views of subjects, for the tests of visits.
        tables: Known tables.
        counter: Reads a counter from its section.
    """
    kind = reader.choice("kind", tuple(ENTITY_KINDS))
    table = reader.choice("table", tuple(tables))
    listed = reader.section("features")
    if kind == "visits":
        facts = {feature: listed.choice(feature, VISIT_FACTS) for feature in listed.content}
        section = reader.section("tests")
        tests: dict[str, tuple[str, str]] = {}
        for home in section.content:
            if home not in views or views[home].kind != "measurements":
                raise section.refuse(home, f"{home} is not a view of measurements.", "Name one.")
            for test in section.names(home):
                if test not in views[home].tests:
                    raise section.refuse(home, f"{test} is not a test of {home}.", "Name one of its tests.")
                tests[f"visit_{test}"] = (home, test)
        columns = {"planned": reader.get("planned", str)}
        return View(name, kind, table, facts, columns, at_visit=tests, entity=ENTITY_KINDS[kind])
    counters: dict[str, Counter] = {}
    for feature in listed.content:
        row = listed.section(feature)
        counters[feature] = counter(row, tables)
        if counters[feature].end or counters[feature].measure not in ("count", "distinct"):
            raise row.refuse("measure", "A site counts records or distinct terms.", "Use count or distinct.")
        row.done()
    ratios = {}
    if "ratios" in reader.content:
        section = reader.section("ratios")
        for ratio in section.content:
            parts = section.names(ratio)
            if len(parts) != 2 or any(p not in counters for p in parts):
                raise section.refuse(ratio, "A ratio is of two features of the view.", "Write [one, other].")
            ratios[ratio] = (parts[0], parts[1])
    columns = {"site": reader.get("site", str), "cut": reader.get("cut", str)}
    return View(name, kind, table, counters, columns, ratios=ratios, entity=ENTITY_KINDS[kind])
