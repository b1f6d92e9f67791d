"""Pages of the lake's upkeep."""

from __future__ import annotations

from collections import Counter
from typing import Any

from trialops.operations.lake_cost import Storage
from trialops.operations.lake_run import Compacted, Removed
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots

SHOWN = 100
MEGABYTE = 1e6
PROVED = {
    "identical": ("Identical before and after", "good"),
    "plan": ("Plan: nothing was changed", "plain"),
    "nothing": ("Nothing to do", "good"),
}


def compaction_page(result: Compacted) -> Page:
    """Files before and after, and why tables were left alone."""
    label, tone = PROVED[result.decision]
    todo = [one for one in result.layouts if one.action != "none"]
    facts = {
        "tables": len(result.layouts),
        "files of the newest versions": sum(len(one.files) for one in result.layouts),
        "small files": sum(one.small for one in result.layouts),
        "tables to compact": len(todo),
        "versions compared": result.proof,
    }
    items: list[Any] = [Facts(facts)]
    done = [one for one in result.done if one.outcome == "done"]
    if done:
        items.append(
            Figure(
                plots.pairs(
                    [one.table for one in done],
                    [float(one.files[0]) for one in done],
                    [float(one.files[1]) for one in done],
                    names=("before", "after"),
                    ylabel="files",
                ),
                "Data files that a full read opens.",
            )
        )
    elif todo:
        items.append(
            Figure(
                plots.bars([one.table for one in todo], [float(one.small) for one in todo], xlabel="small files"),
                "Small files of the tables that would be compacted.",
            )
        )
    columns = ("table", "action", "outcome", "version", "files", "MB", "a look-up opens", "why")
    rows = [
        (
            one.table,
            one.action,
            one.outcome,
            one.version,
            f"{one.files[0]} → {one.files[1]}",
            f"{one.size[0] / MEGABYTE:.2f} → {one.size[1] / MEGABYTE:.2f}",
            "–" if one.overlap[0] is None or one.overlap[1] is None else f"{one.overlap[0]:.0%} → {one.overlap[1]:.0%}",
            one.reason,
        )
        for one in result.done
    ]
    left = [
        (one.table, len(one.files), one.small, one.size / MEGABYTE, one.action, one.reason) for one in result.layouts
    ]
    sections = [Section("Layout", items)]
    if rows:
        sections.append(Section("Compacted", [Table(columns, rows)]))
    sections.append(
        Section("Every table", [Table(("table", "files", "small", "MB", "action", "why"), left[:SHOWN], _first(left))])
    )
    if result.damaged:
        sections.append(_damage(result.damaged))
    return Page("Compaction of the lake", sections, Verdict(label, tone, _compared(result.proof)))  # type: ignore[arg-type]


def removal_page(result: Removed) -> Page:
    """What is kept and why, what may go, and what went."""
    label, tone = PROVED[result.decision]
    states: Counter[str] = Counter(fate.state for fate in result.fates)
    names = ("newest", "kept", "held", "in use", "referenced", "removable")
    items: list[Any] = [
        Facts({name: states[name] for name in names}),
        Figure(plots.bars(names, [float(states[n]) for n in names], xlabel="versions"), "Versions by what keeps them."),
    ]
    sections = [Section("Versions", items)]
    if result.references.unclear:
        sections.append(
            Section(
                "Unclear, so everything is kept",
                [Table(("what could not be looked at",), [(w,) for w in result.references.unclear[:SHOWN]])],
            )
        )
    listed = [fate for fate in result.fates if fate.state in ("removable", "referenced", "held")]
    sections.append(
        Section(
            "Past their period",
            [
                Table(
                    ("table", "version", "class", "state", "due", "kept by"),
                    [
                        (f.table, f.version, f.record_class, f.state, str(f.due or "–"), "; ".join(f.why[:3]))
                        for f in listed[:SHOWN]
                    ],
                    _first(listed),
                )
            ],
        )
    )
    files = [(o.table, o.name, o.size / MEGABYTE, o.written.date().isoformat()) for o in result.orphans]
    other: list[Any] = [
        Facts({"run records due": result.records, "private folders of ended runs": len(result.work), **{
            f"removed: {name.replace('_', ' ')}": number for name, number in result.gone.items()}}),
        Table(("table", "file", "MB", "written"), files[:SHOWN], _first(files) or "Files that no version needs."),
    ]  # fmt: skip
    sections.append(Section("Files and folders", other))
    if result.left:
        sections.append(Section("Left alone", [Table(("table", "why"), sorted(result.left.items()))]))
    if result.damaged:
        sections.append(_damage(result.damaged))
    return Page("Retention of the lake", sections, Verdict(label, tone, _compared(result.proof)))  # type: ignore[arg-type]


def storage_page(found: Storage) -> Page:
    """What is stored, how it grew and what it costs."""
    zones = sorted(found.zones().items(), key=lambda item: -item[1][0])
    tables = sorted(found.tables, key=lambda table: (-table.size, table.table))
    objects = sorted(found.objects.items(), key=lambda item: -item[1][0])
    lake = sum(table.size for table in tables)
    items: list[Any] = [
        Facts(
            {
                "lake, MB": lake / MEGABYTE,
                "of it history, MB": sum(t.history for t in tables) / MEGABYTE,
                "needed by no version, MB": sum(t.unneeded for t in tables) / MEGABYTE,
                "written in 30 days, MB": sum(t.recent for t in tables) / MEGABYTE,
                "objects, MB": sum(size for _, (size, _, _) in objects) / MEGABYTE,
                f"{found.currency} a month": found.price,
            }
        )
    ]
    if zones:
        items.append(
            Figure(
                plots.bars([n for n, _ in zones], [round(s / MEGABYTE, 3) for _, (s, _) in zones], xlabel="MB"),
                "Zones of the lake.",
            )
        )
    months = sorted({month for points in found.growth.values() for month, _ in points})
    if len(months) > 1:
        largest = sorted(found.growth, key=lambda zone: -found.growth[zone][-1][1])[:5]
        series = [
            (zone, list(range(len(months))), [size / MEGABYTE for _, size in found.growth[zone]]) for zone in largest
        ]
        first, last = months[0], months[-1]
        items.append(
            Figure(
                plots.lines(series, xlabel=f"months from {first} to {last}", ylabel="MB", markers=True),
                "Bytes that are still there, by the month they were written in.",
            )
        )
    columns = ("table", "versions", "newest MB", "history MB", "unneeded MB", "log MB", "30 days MB", "a month")
    rows = [
        (t.table, t.versions, *(v / MEGABYTE for v in (t.newest, t.history, t.unneeded, t.log, t.recent)), t.price)
        for t in tables
    ]
    return Page(
        "Storage",
        [
            Section("Overview", items),
            Section("Tables", [Table(columns, rows[:SHOWN], _first(rows))]),
            Section(
                "Objects",
                [
                    Table(
                        ("objects below", "number", "MB", "a month"),
                        [(name, number, size / MEGABYTE, price) for name, (size, number, price) in objects],
                    ),
                    Text("Prices are those of the policy (lake.yaml), per 1e9 bytes and month.", quiet=True),
                ],
            ),
        ],
        Verdict(f"{found.price:.2f} {found.currency} a month", "plain", f"{len(tables)} tables"),
    )


def _compared(number: int) -> str:
    return f"{number} versions read and compared by rows and SHA-256" if number else ""


def _first(rows: Any) -> str:
    return f"the first {SHOWN} of {len(rows)}" if len(rows) > SHOWN else ""


def _damage(damaged: dict[str, str]) -> Section:
    rows = sorted(damaged.items())
    return Section(
        "Cannot be read",
        [Text("These tables were left alone."), Table(("version", "what is wrong"), rows[:SHOWN], _first(rows))],
    )
