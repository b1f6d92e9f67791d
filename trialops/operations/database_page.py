"""Pages of the database's upkeep."""

from __future__ import annotations

from typing import Any

from trialops.operations.database_facts import DatabaseFacts
from trialops.operations.database_operator import DatabaseResult
from trialops.operations.health import table, verdict
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots

SHOWN = 40
MEGABYTE = 1e6
TONES = {"verified": "good", "failed": "bad", "unverified": "warn", "done": "good", "plan": "plain", "made": "plain"}


def database_page(result: DatabaseResult) -> Page:
    """The page of one task."""
    sections = {
        "inspect": _inspected,
        "back up": _backed_up,
        "verify": _verified,
        "tend": _tended,
    }[result.task](result)
    title = {
        "inspect": "Database",
        "back up": "Backup of the database",
        "verify": "Verification of the backup",
        "tend": "Upkeep of the database",
    }[result.task]
    if result.task == "inspect":
        return Page(title, sections, verdict(result.findings))
    said = {
        "verified": "Restored and compared: it is as it was backed up",
        "failed": "Failed",
        "unverified": "Not verified: there was nowhere to restore it",
        "made": "Made; not verified yet",
        "done": "Done",
        "plan": "Plan: nothing was changed",
    }[result.decision]
    return Page(title, sections, Verdict(said, TONES[result.decision], result.database))  # type: ignore[arg-type]


def _inspected(result: DatabaseResult) -> list[Section]:
    facts = result.facts
    assert facts is not None
    shown = {"kind": facts.kind, "version": facts.server, "MB": facts.size / MEGABYTE, "tables": len(facts.tables)}
    if facts.connections:
        shown["connections"] = f"{facts.connections[0]} of {facts.connections[1]}"
    if facts.age is not None:
        shown["transaction id age"] = facts.age
    return [
        Section("Findings", [Facts(shown), table(result.findings)]),
        Section("Space", _space(facts)),
        Section(
            "Indexes",
            [
                Table(
                    ("index", "table", "columns", "MB", "times used", "empty"),
                    [
                        (i.name, i.table, ", ".join(i.columns), i.size / MEGABYTE, i.scans, _share(i.empty))
                        for i in sorted(facts.indexes, key=lambda i: -i.size)[:SHOWN]
                    ],
                    "Largest first.",
                )
            ],
        ),
        Section("Between two backups", [Table(("setting", "value"), sorted(facts.archiving.items()))])
        if facts.archiving
        else Section("Between two backups", [Text("SQLite keeps no log that could be archived.")]),
    ]


def _space(facts: DatabaseFacts) -> list[Any]:
    largest = sorted(facts.tables, key=lambda t: (-t.size, t.name))[:SHOWN]
    items: list[Any] = []
    top = [t for t in largest[:12] if t.size]
    if top:
        sizes = [round(t.size / MEGABYTE, 3) for t in top]
        items.append(Figure(plots.bars([t.name for t in top], sizes, xlabel="MB"), "Largest tables, without indexes."))
    rows = [
        (
            t.name,
            t.rows,
            t.dead,
            t.size / MEGABYTE,
            _share(t.empty),
            "measured" if t.measured else "estimated",
            *t.scans,
        )
        for t in largest
    ]
    columns = ("table", "rows", "dead", "MB", "empty", "how", "reads end to end", "by index")
    return [*items, Table(columns, rows)]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _backed_up(result: DatabaseResult) -> list[Section]:
    backup = result.backup
    assert backup is not None
    tables = backup.body["contents"]["tables"]
    largest = sorted(tables.items(), key=lambda item: (-int(item[1][0]), item[0]))
    shown = {
        "backup": backup.id,
        "made with": backup.body["tool"],
        "tables": len(tables),
        "rows": sum(int(rows) for rows, _ in tables.values()),
        "MB at rest": backup.size / MEGABYTE,
        "seconds": backup.body["seconds"],
    }
    return [
        Section(
            "Backup",
            [
                Facts(shown),
                Figure(
                    plots.bars([n for n, _ in largest[:12]], [float(v[0]) for _, v in largest[:12]], xlabel="rows"),
                    "Tables with most rows.",
                ),
                Text(
                    "It is encrypted by the vault: it can be restored only with the vault's keys (vault/ in the object "
                    "store) and its master key. Keep a copy of both elsewhere."
                ),
            ],
        ),
        Section(
            "Kept",
            [
                Table(("backup", "why it is kept"), sorted(result.kept.items(), reverse=True)[:SHOWN]),
                Text(f"{len(result.removed)} backups were removed by the policy.", quiet=True),
            ],
        ),
    ]


def _verified(result: DatabaseResult) -> list[Section]:
    made, backup = result.verification, result.backup
    assert made is not None and backup is not None
    shown = {
        "backup": backup.id,
        "tables compared": made.tables[0],
        "rows": made.tables[1],
        "restore, seconds": made.restore_seconds,
        "all, seconds": made.seconds,
    }
    limits = [f for f in result.findings if f.value is not None and f.threshold]
    items: list[Any] = [
        Facts(shown),
        Table(("check", "holds", "what was found"), [(c.name, c.ok, c.detail) for c in made.checks]),
    ]
    if limits:
        items.append(
            Figure(
                plots.limits(
                    [f"{f.check} ({'hours' if f.check == 'recovery point' else 'minutes'})" for f in limits],
                    [float(f.value or 0.0) / float(f.threshold or 1.0) for f in limits],
                    limit=1.0,
                    xlabel="share of what the policy allows",
                ),
                "Recovery point and recovery time against the policy.",
            )
        )
    return [Section("Verification", items), Section("Recovery", [table(result.findings)])]


def _tended(result: DatabaseResult) -> list[Section]:
    facts = result.facts
    assert facts is not None
    items: list[Any] = [Table(("statement", "why", "outcome"), list(result.statements))]
    if not result.statements:
        items = [Text("Nothing would help.")]
    return [Section("Statements", items), Section("Space", _space(facts))]
