"""The page of the case register: clocks that run, questions that wait, counts. Case ids, and nothing of a subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots
from trialops.pages.page import Item, suppressed
from trialops.quality.queries import WAITING
from trialops.safety.clock_times import zone
from trialops.safety.clocks import OPEN, Clock
from trialops.safety.seriousness import SERIOUS, TO_CONFIRM

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.case_run import Assessed
    from trialops.safety.safety_policy import SafetyPolicy

KINDS = {"grave": "7 days", "serious": "15 days", "follow_up": "follow-up", "complete": "completion"}
MOST_ROWS = 60

OVERDUE, SOON, RUNNING, NOTHING = "reports overdue", "reports due", "clocks run", "no clock runs"


def open_clocks(assessed: Assessed) -> list[tuple[str, Clock]]:
    """Case and clock of all that are open, the most urgent first."""
    found = [(case, clock) for case, clocks in assessed.clocks.items() for clock in clocks if clock.state == OPEN]
    return sorted(found, key=lambda item: (item[1].due, item[0], item[1].authority, item[1].kind))


def standing(assessed: Assessed, levels: Sequence[float]) -> str:
    """The decision of the step: reports overdue, reports due (an alert level is reached), clocks run, or none does."""
    running = [clock for _, clock in open_clocks(assessed)]
    if any(clock.overdue(assessed.now) for clock in running):
        return OVERDUE
    if any(clock.alert(assessed.now, levels) for clock in running):
        return SOON
    return RUNNING if running else NOTHING


def counts(assessed: Assessed, levels: Sequence[float]) -> dict[str, int]:
    """Cases, versions, clocks by alert and critical queries, for metrics and the decision."""
    running = [clock for _, clock in open_clocks(assessed)]
    alerts = Counter(clock.alert(assessed.now, levels) for clock in running)
    waiting = _waiting(assessed.queries)
    return {
        "cases": len(assessed.clocks),
        "new_cases": assessed.added["initial"],
        "follow_up_versions": assessed.added["follow-up"],
        "nullified": assessed.added["nullification"],
        "open_clocks": len(running),
        "overdue": alerts["overdue"],
        **{f"past_{100 * level:.0f}_percent": alerts[f"{100 * level:.0f} %"] for level in levels},
        "critical_queries": sum(1 for row in waiting if row["priority"] == "critical"),
        "waiting_queries": len(waiting),
    }


def cases_page(assessed: Assessed, policy: SafetyPolicy, levels: Sequence[float]) -> Page:
    """What needs somebody now, and how many there are of what.

    Args:
        assessed: The register after the run.
        policy: Of the study.
        levels: Alert levels.
    """
    decided = standing(assessed, levels)
    tone: Any = {OVERDUE: "bad", SOON: "warn", RUNNING: "plain", NOTHING: "good"}[decided]
    found = counts(assessed, levels)
    text = f"{found['open_clocks']} open, {found['overdue']} overdue, as of {_local(assessed.now, policy.time_zone)}"
    sections = [
        Section("Reporting clocks", _clock_items(assessed, policy, levels)),
        Section("Queries on safety", _query_items(assessed.queries)),
        Section("Cases", _count_items(assessed)),
    ]
    return Page("Safety cases", sections, Verdict(decided, tone, text))


def _clock_items(assessed: Assessed, policy: SafetyPolicy, levels: Sequence[float]) -> list[Item]:
    running = open_clocks(assessed)
    if not running:
        return [Text("No clock is open.")]
    rows = [
        [
            case,
            clock.authority,
            KINDS[clock.kind],
            clock.day_0.isoformat(),
            _local(clock.due, policy.time_zone),
            f"{100 * clock.used(assessed.now):,.0f} %",
            clock.alert(assessed.now, levels) or "–",
            assessed.rulings[case].get(clock.authority, {}).get("rule", ""),
        ]
        for case, clock in running[:MOST_ROWS]
    ]
    columns = ["case", "authority", "clock", "day 0", "due", "used", "alert", "rule"]
    share = [min(100 * clock.used(assessed.now), 200) for _, clock in running[:30]]
    labels = [f"{case} {clock.authority} {KINDS[clock.kind]}" for case, clock in running[:30]]
    items: list[Item] = [
        Table(columns, rows, _left_out(len(running))),
        Figure(
            plots.limits(labels, share, limit=100, xlabel="per cent of the time used (shown up to 200)"),
            "Open clocks, the most urgent first.",
        ),
        Text(
            f"Calendar days in {policy.time_zone}; a report is due at the end of the last day. Who a case is about is "
            "shown by: trialops safety case CASE, to the roles that may see it.",
            quiet=True,
        ),
    ]
    return items


def _left_out(total: int) -> str:
    return f"The {MOST_ROWS} most urgent of {total}; all of them: trialops safety clocks." if total > MOST_ROWS else ""


def _waiting(queries: pl.DataFrame) -> list[dict[str, Any]]:
    import polars as pl

    return queries.filter(pl.col("state").is_in(WAITING)).to_dicts()


def _query_items(queries: pl.DataFrame) -> list[Item]:
    """Waiting queries by rule; a query's subject is not told."""
    waiting = _waiting(queries)
    if not waiting:
        return [Text("No safety query waits.")]
    by_rule: dict[tuple[str, str, str], list[int]] = {}
    for row in waiting:
        by_rule.setdefault((row["priority"], row["rule"], row["message"]), []).append(row["age"])
    rows = [
        [priority, rule, len(ages), max(ages), message] for (priority, rule, message), ages in sorted(by_rule.items())
    ]
    critical = [[row["query"], row["rule"], row["state"], row["age"], row["message"]] for row in waiting
                if row["priority"] == "critical"]  # fmt: skip
    items: list[Item] = [Table(["priority", "rule", "waiting", "oldest (days)", "question"], rows)]
    if critical:
        items.append(
            Table(
                ["query", "rule", "state", "age (days)", "question"], sorted(critical)[:MOST_ROWS], "Critical queries."
            )
        )
    return items


def _count_items(assessed: Assessed) -> list[Item]:
    """Counts of subjects with a case; few are not told."""
    import polars as pl

    events = assessed.events.events
    facts: dict[str, Any] = {
        "events": events.height,
        "cases": len(assessed.clocks),
        "new in this run": assessed.added["initial"],
        "follow-up versions in this run": assessed.added["follow-up"],
        "nullified in this run": assessed.added["nullification"],
    }
    rows = []
    for label, state in (("serious", SERIOUS), ("to confirm: a criterion is met, the flag says no", TO_CONFIRM)):
        subjects = events.filter(pl.col("SERIOUS") == state)["USUBJID"].n_unique()
        rows.append([label, suppressed(subjects)])
    kinds = Counter(
        (authority, str(ruling.get("rule", "")))
        for rulings in assessed.rulings.values()
        for authority, ruling in rulings.items()
    )
    by_rule = [[authority, rule, suppressed(number)] for (authority, rule), number in sorted(kinds.items())]
    return [
        Facts(facts),
        Table(["events", "subjects"], rows),
        Table(["authority", "decision on the newest version", "cases"], by_rule),
    ]


def _local(at: datetime, name: str) -> str:
    return at.astimezone(zone(name)).strftime("%Y-%m-%d %H:%M %Z")
