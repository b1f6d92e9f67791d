"""Reading feature definitions from YAML; every refusal names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trialops.features import scores
from trialops.features.definition_views import DERIVED, derived, entity_view, read_scores
from trialops.features.definitions import (
    KNOWN,
    MEASURES,
    SHIPPED,
    STATISTICS,
    WITH_COLUMN,
    Attribute,
    Counter,
    Definitions,
    Source,
    Test,
    View,
)
from trialops.models.task import Reader, read_yaml


def load(path: Path = SHIPPED) -> Definitions:
    """Read and check feature definitions.

    Args:
        path: YAML file; the shipped one by default.

    Returns:
        The definitions.

    Raises:
        TrialOpsError: A key is missing, unknown or of the wrong type; a feature is defined twice; a score
            gets other units than it takes; an age or a score refers to a feature that does not exist. The
            message names file and key.
    """
    top = Reader(read_yaml(path), path)
    version, listed, viewed, aged = (
        top.whole("version", 1),
        top.section("tables"),
        top.section("views"),
        top.section("ages"),
    )
    tables = {}
    for name in listed.content:
        row = listed.section(name)
        tables[name] = _source(name, row)
        row.done()
    for name, source in tables.items():
        if source.contact and (source.contact not in tables or not source.end):
            raise listed.refuse(
                f"{name}.contact",
                "Visits make an end known: that needs an end and a table of visits.",
                "Name one of the tables, and give `end`.",
            )
    views: dict[str, View] = {}
    for name in viewed.content:
        views[name] = _view(name, viewed.section(name), tables, views)
    entities: dict[str, View] = {}
    if "entity_views" in top.content:
        others = top.section("entity_views")
        for name in others.content:
            row = others.section(name)
            entities[name] = entity_view(name, row, views, tables, _counter)
            row.done()
    ages = {name: aged.get(name, str) for name in aged.content}
    definitions = Definitions(path, version, tables, views, ages, entities)
    top.done()
    _check(definitions, top)
    return definitions


def _source(name: str, row: Reader) -> Source:
    return Source(
        name,
        row.get("id", str, optional=True),
        row.get("event", str, optional=True),
        row.get("end", str) if "end" in row.content else "",
        row.get("contact", str) if "contact" in row.content else "",
    )


def _view(name: str, reader: Reader, tables: Mapping[str, Source], views: Mapping[str, View]) -> View:
    kind = reader.choice("kind", ("attributes", "measurements", "counts", *DERIVED))
    if kind in DERIVED:
        view = derived(name, kind, reader, views, tables)
        reader.done()
        return view
    table = "" if kind == "counts" else reader.choice("table", tuple(tables))
    if kind == "measurements":
        view = _measurements(name, table, reader)
    else:
        listed = reader.section("features")
        features: dict[str, Attribute | Counter] = {}
        for feature in listed.content:
            row = listed.section(feature)
            features[feature] = _attribute(row) if kind == "attributes" else _counter(row, tables)
            row.done()
        view = View(name, kind, table, features)
    reader.done()
    return view


def _measurements(name: str, table: str, reader: Reader) -> View:
    columns, listed = reader.section("columns"), reader.section("tests")
    named = {key: columns.get(key, str) for key in ("test", "value", "unit")}
    named |= {key: columns.get(key, str) for key in ("indicator", "low", "high") if key in columns.content}
    columns.done()
    tests = {}
    for test in listed.content:
        row = listed.section(test)
        statistics = row.names("statistics")
        if wrong := [s for s in statistics if s not in STATISTICS or (s == "uln_ratio" and "high" not in named)]:
            raise row.refuse(
                "statistics",
                f"{wrong[0]} cannot be computed here.",
                "Use some of " + ", ".join(STATISTICS) + ".",
            )
        tests[test] = Test(row.get("code", str), row.names("units"), statistics)
        row.done()
    outside: dict[str, str] = {}
    if "out_of_range" in reader.content:
        section = reader.section("out_of_range")
        outside = {key: section.get(key, str) for key in ("count", "share")}
        section.done()
    return View(
        name,
        "measurements",
        table,
        columns=named,
        keep=_words(reader, "keep"),
        tests=tests,
        last_day=reader.get("last_day", str),
        out_of_range=outside,
        scores=read_scores(reader),
    )


def _attribute(row: Reader) -> Attribute:
    kind = row.choice("as", ("number", "indicator"))
    column, unit = row.get("column", str), row.get("unit", str)
    return (
        Attribute(column, kind, unit)
        if kind == "number"
        else Attribute(column, kind, unit, row.get("value", str), row.names("known"))
    )


def _counter(row: Reader, tables: Mapping[str, Source]) -> Counter:
    measure = row.choice("measure", MEASURES)
    table = row.choice("table", tuple(tables))
    end = ""
    if "known" in row.content and row.choice("known", KNOWN) == "at_end":
        end = tables[table].end
        if not end:
            raise row.refuse("known", f"The table {table} has no end.", "Give `end` under tables, or drop this key.")
    days = row.section("on_or_after") if "on_or_after" in row.content else None
    marks = row.section("scores") if measure == "highest" else None
    columns: tuple[str, ...] = (row.get("column", str),) if measure in WITH_COLUMN else ()
    if measure == "open" and columns[0] != tables[table].end:
        raise row.refuse("column", f"{columns[0]} is not the end of {table}.", "Give it as `end` under tables.")
    if measure == "distinct":
        columns = row.names("columns")
    return Counter(
        table,
        measure,
        columns,
        _words(row, "where"),
        _words(row, "contains"),
        {column: days.whole(column, -100_000) for column in days.content} if days else {},
        {mark: marks.number(mark, 0, 1e6) for mark in marks.content} if marks else {},
        end,
        _words(row, "without"),
    )


def _words(reader: Reader, key: str) -> dict[str, tuple[str, ...]]:
    if key not in reader.content:
        return {}
    section = reader.section(key)
    return {column: tuple(word.upper() for word in section.names(column)) for column in section.content}


def _check(definitions: Definitions, top: Reader) -> None:
    """Rules that join several keys."""
    seen: set[str] = set()
    for name in definitions.all_views:
        for feature in definitions.columns(name):
            if feature in seen:
                raise top.refuse(
                    f"views.{name}",
                    f"{feature} is defined twice.",
                    "Feature names are unique over all views.",
                )
            seen.add(feature)
    own = {feature for name in definitions.views for feature in definitions.columns(name)}
    for age, day in definitions.ages.items():
        if day not in own or age in seen:
            raise top.refuse(
                f"ages.{age}", "An age needs a name of its own and a feature that is a day.", "Correct it."
            )
    _check_scores(definitions, top)


def _check_scores(definitions: Definitions, top: Reader) -> None:
    """Every argument of a score exists and comes in the unit the score takes."""
    for view in definitions.views.values():
        for name, score in view.scores.items():
            given = {}
            for argument, reference in score.arguments.items():
                home, _, feature = reference.rpartition(".")
                unit = _unit(definitions.views.get(home) if home else view, feature, lent=bool(home), to=view.kind)
                if unit is None:
                    raise top.refuse(
                        f"views.{view.name}.scores.{name}",
                        f"{reference} is not a feature a score can use.",
                        "Name a test of this view with `last`, or view.feature of an attributes view.",
                    )
                given[argument] = unit
            scores.check_units(score.score, given)


def _unit(view: View | None, feature: str, *, lent: bool, to: str) -> str | None:
    """Unit of a feature that a score may use; None where it may not, or where there is no such feature."""
    if view is None:
        return None
    if view.kind == "attributes" and lent and feature in view.features:
        return str(view.features[feature].unit)
    # Views of measurements and conditions are finished before views of scores alone.
    ready = not lent or to == "scores"
    if view.kind == "measurements" and ready and feature in view.tests and "last" in view.tests[feature].statistics:
        return str(view.tests[feature].units[0])
    return "1" if view.kind == "conditions" and ready and feature in view.features else None
