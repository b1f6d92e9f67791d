"""What a database's figures mean, and what is to be done about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trialops.operations.database_facts import DatabaseFacts, IndexFacts
from trialops.operations.database_policy import MEGABYTE, DatabasePolicy
from trialops.operations.health import Finding, State


@dataclass(frozen=True)
class Upkeep:
    """One statement that would help, and why."""

    statement: str
    reason: str


def judge(facts: DatabaseFacts, policy: DatabasePolicy) -> list[Finding]:
    """Findings of one look at a database, by the policy's figures."""
    rules = policy.inspect
    found = (
        [
            Finding(
                facts.kind,
                "integrity",
                "broken" if facts.problems else "healthy",
                f"{len(facts.problems)} problems: {facts.problems[0]}" if facts.problems else "nothing is damaged",
                float(len(facts.problems)),
                0.0,
                "Restore the last verified backup: trialops database restore" if facts.problems else "",
            )
        ]
        if facts.kind == "sqlite"
        else []
    )
    found += _space(facts, rules) + _indexes(facts, rules)
    for check, value, rule, detail, fix in (
        (
            "transaction id age",
            facts.age,
            "wraparound",
            "transactions since the oldest frozen one",
            "VACUUM (FREEZE) the oldest tables; look for what holds vacuum back.",
        ),
        (
            "longest transaction",
            facts.longest,
            "long_transaction",
            "seconds the longest transaction has been open",
            "Find its session in pg_stat_activity; it keeps dead rows from being removed.",
        ),
    ):
        if value is not None:
            limits = rules[rule]
            state = _state(float(value), limits)
            found.append(
                Finding(
                    facts.kind,
                    check,
                    state,
                    f"{value:,.0f} {detail}",
                    float(value),
                    limits["degraded"],
                    fix if state != "healthy" else "",
                )
            )
    if facts.connections is not None:
        used, most = facts.connections
        share, limits = used / max(most, 1), rules["connections"]
        state = _state(share, limits)
        found.append(
            Finding(
                facts.kind,
                "connections",
                state,
                f"{used} of {most} connections are in use",
                share,
                limits["degraded"],
                "Close idle ones, or pool them." if state != "healthy" else "",
            )
        )
    found.append(_point_in_time(facts, policy))
    return found


def _state(value: float, limits: Mapping[str, float]) -> State:
    return "broken" if value >= limits["broken"] else "degraded" if value >= limits["degraded"] else "healthy"


def _space(facts: DatabaseFacts, rules: Mapping[str, Mapping[str, float]]) -> list[Finding]:
    if facts.freelist is not None:
        (free, pages), rule = facts.freelist, rules["freelist"]
        share = free / max(pages, 1)
        much = share > rule["share"] and free >= rule["min_pages"]
        detail = f"{free} of {pages} pages are free"
        return [
            Finding(
                facts.kind,
                "free pages",
                "degraded" if much else "healthy",
                detail,
                share,
                rule["share"],
                "VACUUM gives them back." if much else "",
            )
        ]
    rule = rules["bloat"]
    parts = [(t.name, t.empty, t.size, t.measured) for t in facts.tables]
    parts += [(i.name, i.empty, i.size, i.measured) for i in facts.indexes]
    known = [(name, empty, size, measured) for name, empty, size, measured in parts if empty is not None]
    bad = [p for p in known if p[1] > rule["share"] and p[2] >= rule["min_mb"] * MEGABYTE]
    how = "measured" if any(p[3] for p in known) else "estimated from the planner's statistics"
    worst = max((p[1] for p in bad), default=0.0)
    detail = (
        f"{len(bad)} tables and indexes are mostly empty ({how}): {', '.join(p[0] for p in bad[:3])}"
        if bad
        else f"no large table or index is mostly empty ({how})"
    )
    state: State = "degraded" if bad else "healthy" if known or not parts else "unknown"
    fix = "VACUUM; REINDEX CONCURRENTLY; VACUUM FULL in a quiet hour where much must be given back." if bad else ""
    return [Finding(facts.kind, "bloat", state, detail, worst, rule["share"], fix)]


def duplicates(facts: DatabaseFacts) -> list[tuple[IndexFacts, IndexFacts]]:
    """Indexes that another one makes needless: the same columns, or the first of another's, under the same condition.

    The first of a pair is the needless one; never one that upholds a constraint unless the other does too.
    """
    found = []
    for one in facts.indexes:
        for other in facts.indexes:
            if one.name == other.name or one.table != other.table or one.where != other.where:
                continue
            same = one.columns == other.columns
            first = other.columns[: len(one.columns)] == one.columns and len(one.columns) < len(other.columns)
            needless = (same and (one.unique, one.name) < (other.unique, other.name)) or (first and not one.unique)
            if needless and (not one.unique or (same and other.unique)):
                found.append((one, other))
                break
    return found


def without_index(facts: DatabaseFacts) -> list[str]:
    """Foreign keys no index begins with: deleting or changing what they refer to reads their whole table."""
    return [
        f"{key.table} ({', '.join(key.columns)})"
        for key in facts.foreign_keys
        if not any(
            i.table == key.table and not i.where and set(i.columns[: len(key.columns)]) == set(key.columns)
            for i in facts.indexes
        )
    ]


def _indexes(facts: DatabaseFacts, rules: Mapping[str, Mapping[str, float]]) -> list[Finding]:
    pairs, missing = duplicates(facts), without_index(facts)
    invalid = [index.name for index in facts.indexes if not index.valid]
    # SQLite locks the file for either, and knows no other way.
    aside = " CONCURRENTLY" if facts.kind == "postgresql" else ""
    found = [
        _named(facts, "duplicate indexes", [f"{a.name} beside {b.name}" for a, b in pairs], f"DROP INDEX{aside}."),
        _named(facts, "foreign keys without index", missing, f"CREATE INDEX{aside} on these columns."),
    ]
    if facts.kind != "postgresql":
        return found
    found.append(_named(facts, "invalid indexes", invalid, "DROP INDEX, or REINDEX INDEX CONCURRENTLY."))
    rule, days = rules["unused"], facts.counters_days or 0.0
    unused = [i.name for i in facts.indexes if not i.unique and i.scans == 0 and i.size >= rule["min_mb"] * MEGABYTE]
    if unused and days < rule["counters_days"]:
        found.append(
            Finding(
                facts.kind,
                "unused indexes",
                "unknown",
                f"counters are {days:.1f} days old: too young to tell of {len(unused)} indexes",
                days,
                rule["counters_days"],
                "Look again later.",
            )
        )
    else:
        found.append(_named(facts, "unused indexes", unused, "Drop them if no replica uses them."))
    limit = rules["sequential"]
    scanned = [
        t.name
        for t in facts.tables
        if t.rows >= limit["min_rows"]
        and t.scans[0] >= limit["min_scans"]
        and t.scans[0] / max(sum(t.scans), 1) > limit["share"]
    ]
    found.append(_named(facts, "sequential scans", scanned, "Look at their queries for a missing index."))
    return found


def _named(facts: DatabaseFacts, check: str, names: list[str], fix: str) -> Finding:
    detail = f"{len(names)}: {', '.join(names[:5])}" if names else "none"
    return Finding(
        facts.kind, check, "degraded" if names else "healthy", detail, float(len(names)), 0.0, fix if names else ""
    )


def _point_in_time(facts: DatabaseFacts, policy: DatabasePolicy) -> Finding:
    """What stands between two backups. Archiving is looked at here; setting it up is the server's matter."""
    check, required = "point-in-time recovery", policy.backup.point_in_time
    if facts.kind == "sqlite":
        return Finding(
            facts.kind,
            check,
            "degraded" if required else "healthy",
            "not possible with SQLite: what was written since the last backup is lost with the file",
        )
    know = facts.archiving
    on = know.get("archive_mode") in ("on", "always") and know.get("wal_level") != "minimal"
    if not on:
        return Finding(
            facts.kind,
            check,
            "degraded" if required else "healthy",
            f"not configured (archive_mode {know.get('archive_mode')}): what was written since the last "
            "backup is lost with the server",
            fix="Archive WAL (archive_mode, a base backup) or use a managed service that does." if required else "",
        )
    if know.get("has_command") != "True" or know.get("last_failed", "") > know.get("last_archived", ""):
        return Finding(
            facts.kind,
            check,
            "broken",
            f"WAL archiving is on and fails ({know.get('failed')} failures)",
            fix="Look at archive_command and the server's log; WAL fills the disk meanwhile.",
        )
    last = know.get("last_archived", "")
    return Finding(
        facts.kind,
        check,
        "healthy" if last else "unknown",
        f"WAL is archived, last at {last}" if last else "WAL archiving is on; nothing has been archived yet",
    )


def upkeep(facts: DatabaseFacts, policy: DatabasePolicy) -> list[Upkeep]:
    """Statements that would help, in the order in which they are to be run."""
    rule, again = policy.upkeep["vacuum"], policy.upkeep["reindex"]
    if facts.freelist is not None:
        (free, pages), limit = facts.freelist, policy.inspect["freelist"]
        full = free / max(pages, 1) > limit["share"] and free >= limit["min_pages"]
        first = [Upkeep("VACUUM", f"{free} of {pages} pages are free")] if full else []
        stale = [t.name for t in facts.tables if not t.analyzed and t.rows]
        known = [Upkeep("ANALYZE", f"the planner knows nothing of {len(stale)} tables")] if stale else []
        return [*first, *known, Upkeep("PRAGMA wal_checkpoint(TRUNCATE)", "the write-ahead log is folded in")]
    found = []
    for table in facts.tables:
        share = table.dead / max(table.rows + table.dead, 1)
        if table.dead >= rule["dead_rows"] and share >= rule["dead_share"]:
            found.append(Upkeep(f"VACUUM (ANALYZE) {_quoted(table.name)}", f"{table.dead} dead rows ({share:.0%})"))
        elif not table.analyzed:
            found.append(Upkeep(f"ANALYZE {_quoted(table.name)}", "the planner knows nothing of it"))
    for index in facts.indexes:
        large = index.size >= again["min_mb"] * MEGABYTE
        if not index.valid:
            found.append(Upkeep(f"REINDEX INDEX CONCURRENTLY {_quoted(index.name)}", "it cannot be used"))
        elif index.empty is not None and index.empty > again["share"] and large:
            found.append(
                Upkeep(f"REINDEX INDEX CONCURRENTLY {_quoted(index.name)}", f"{index.empty:.0%} of it is empty")
            )
    return found


def _quoted(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split(".", 1))
