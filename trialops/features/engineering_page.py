"""Pages of feature engineering and of the backfill: coverage, distributions, ages, units, parity, differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trialops.features.difference import SAME
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.pages.page import Item

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.backfill import Backfill
    from trialops.features.definitions import Definitions
    from trialops.features.difference import Difference
    from trialops.features.engineering import Coverage, Parity
    from trialops.features.materialize import Materialized
    from trialops.features.timeline import Note
    from trialops.features.versions import FeatureSet

#: Range and median are shown from this many values on: the extremes of a few are values of persons.
FEWEST = 11


def engineering_page(
    views: Mapping[str, pl.DataFrame],
    found: Sequence[Coverage],
    definitions: Definitions,
    version: FeatureSet,
    notes: Sequence[Note],
    published: bool,
) -> Page:
    """What the current features hold.

    Args:
        views: The views.
        found: Coverage of every feature.
        definitions: Their definitions.
        version: The feature set.
        notes: Rows features could not use.
        published: Whether rows pushed since are in the files for Feast.
    """
    units = _units(definitions)
    shares = {c.feature: c.present / c.keys for c in found if c.keys}
    lowest = sorted(shares.items(), key=lambda item: (item[1], item[0]))[:30]
    overview = [
        (name, definitions.all_views[name].entity.replace("_", " and "), frame.height, len(definitions.columns(name)))
        for name, frame in views.items()
    ]
    rows = [
        (
            c.view,
            c.feature,
            units.get(c.feature, ""),
            f"{c.present / c.keys:.1%}" if c.keys else "",
            *(("", "", "") if c.present < FEWEST else (c.low, c.middle, c.high)),
        )
        for c in found
    ]
    return Page(
        "Feature engineering",
        [
            Section(
                "Views",
                [
                    Table(("view", "one row per", "rows", "features"), overview),
                    Text(
                        "A row stands at the day on which something became known. Views of sites stand at days of the "
                        "trial, counted from its first subject's day 1 as far as the day of the data cut tells it."
                    ),
                    Text("Rows pushed to the online store are in the files for Feast too." if published else ""),
                ],
            ),
            Section(
                "What is missing most",
                [Figure(plots.bars([n for n, _ in lowest], [1 - s for _, s in lowest], xlabel="share without a value"))]
                if lowest
                else [],
            ),
            Section(
                "Features at the latest row",
                [Table(("view", "feature", "unit", "with a value", "lowest", "median", "highest"), rows)],
            ),
            Section("Age of what is known", [_ages(views, definitions)]),
            Section("Left out", [Table(("table", "what", "rows"), [(n.table, n.what, n.rows) for n in notes])]),
        ],
        Verdict(version.name, "plain", f"{len(found)} features in {len(views)} views"),
    )


def _ages(views: Mapping[str, pl.DataFrame], definitions: Definitions) -> Item:
    """Days from the day of each age to the latest known study day, over subjects."""
    import polars as pl

    follow = next((n for n, v in definitions.views.items() if v.kind == "follow_up" and n in views), None)
    if follow is None:
        return Text("No view says how long subjects have been followed.")
    (day,) = definitions.columns(follow)

    def last(name: str, column: str) -> pl.DataFrame:
        frame = views[name].select("subject_id", column).drop_nulls()
        return frame.group_by("subject_id").agg(pl.col(column).last())

    end, home = last(follow, day), {c: n for n in definitions.views for c in definitions.columns(n)}
    rows = []
    for age, source in definitions.ages.items():
        if home[source] in views:
            both = last(home[source], source).join(end, on="subject_id")
            days = (both[day] - both[source]).drop_nulls()
            figures = (days.median(), days.quantile(0.9)) if len(days) >= FEWEST else ("", "")
            rows.append((age, suppressed(len(days)), *figures))
    return Table(("age, in days", "subjects", "median", "90th percentile"), rows)


def _units(definitions: Definitions) -> dict[str, str]:
    """Feature -> unit, where the definitions state one."""
    found: dict[str, str] = {}
    for view in definitions.views.values():
        if view.kind == "attributes":
            found |= {name: a.unit for name, a in view.features.items()}
        for test, stated in view.tests.items():
            unit = stated.units[0]
            if view.kind == "measurements":
                plain = {"last": unit, "change": unit, "sd": unit, "change_pct": "%", "uln_ratio": "x ULN"}
                found |= {test if s == "last" else f"{test}_{s}": plain[s] for s in stated.statistics}
            elif test in view.trends:
                for name in view.trends[test].names(test):
                    kind = name.removeprefix(f"{test}_").split("_")[0]
                    found[name] = {"slope": f"{unit}/day", "count": "1", "day": "study day", "missing": "share"}.get(
                        kind, "1" if kind == "measured" else unit
                    )
    return {name: "" if unit == "1" else unit for name, unit in found.items()}


def online_page(written: Sequence[Materialized], compared: Sequence[Parity]) -> Page:
    """What went to the online store, and how it compares."""
    bad = sum(p.different for p in compared)
    return Page(
        "Online features",
        [
            Section(
                "Written",
                [
                    Table(
                        ("view", "keys", "written", "newer in the store"),
                        [(w.view, suppressed(w.rows), suppressed(w.written), suppressed(w.kept)) for w in written],
                    )
                ],
            ),
            Section(
                "Online against offline",
                [
                    Table(
                        ("view", "keys compared", "values", "different", "largest difference"),
                        [(p.view, suppressed(p.keys), p.values, p.different, p.largest) for p in compared],
                    )
                ],
            ),
        ],
        Verdict("differs" if bad else "agrees", "bad" if bad else "good", f"{bad} values differ"),
    )


def backfill_page(done: Backfill, differences: Sequence[Difference], before: str) -> Page:
    """What the backfill made and what changed against the build before it."""
    changed = [d for d in differences if d.what != SAME]
    rows = [(d.view, d.feature, d.what, suppressed(d.subjects), suppressed(d.of)) for d in changed]
    return Page(
        "Feature backfill",
        [
            Section(
                "What was done",
                [
                    Facts(
                        {
                            "feature set": done.version.name,
                            "windows computed": done.done,
                            "windows found done": done.found,
                            "rows": done.snapshot.rows,
                            "compared with": before or "no build before",
                        }
                    )
                ],
            ),
            Section(
                "What changed",
                [
                    Table(("view", "feature", "what", "subjects", "of"), rows),
                    Text(f"{len(differences) - len(changed)} features are the same to the last bit.", quiet=True),
                ],
            ),
            Section("Left out", [Table(("table", "what", "rows"), list(done.notes))]),
        ],
        Verdict(f"{len(changed)} features changed", "plain", f"of {len(differences)}"),
    )


def rebuilt_page(rows: Sequence[tuple[str, int, int, str]]) -> Page:
    """Training sets made anew."""
    return Page(
        "Training sets",
        [
            Section(
                "Made anew",
                [
                    Table(
                        ("task", "subjects", "features", "what"),
                        [(task, suppressed(n), features, what) for task, n, features, what in rows],
                    )
                ],
            )
        ],
        Verdict(f"{len(rows)} tasks", "plain"),
    )
