"""The pages of alerting and notification: what fires, who has it, what is measured, what was told and to whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from trialops.alerts.delivery import Delivered
from trialops.alerts.digest import GRAVEST_FIRST, Digest, seconds_to_take, span_words
from trialops.alerts.lifecycle import Settled
from trialops.alerts.measures import Measured
from trialops.alerts.outbox import WAITING, Message
from trialops.alerts.register import Entry, Known, utc_text, utc_time
from trialops.alerts.routes import Routes
from trialops.alerts.silences import Silence
from trialops.alerts.thresholds import Thresholds
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots
from trialops.pages.page import Item
from trialops.pages.trial_plots import steps

WINDOW = timedelta(days=7)
"""How far back the plots look."""
QUIET = "quiet"
_TONES: dict[str, Any] = {"critical": "bad", "warning": "warn", "info": "plain", QUIET: "good"}
MOST_ROWS = 50


def standing(settled: Settled) -> str:
    """The decision of the step: the gravest alert that somebody is told of, or quiet."""
    held = settled.silenced | settled.inhibited
    severities = {a.severity for a in settled.alerts if a.firing and a.fingerprint not in held}
    return next((name for name in GRAVEST_FIRST if name in severities), QUIET)


def alerting_page(
    settled: Settled,
    measured: Measured | None,
    thresholds: Thresholds,
    routes: Routes,
    history: Sequence[Entry],
    silences: Sequence[Silence],
    now: datetime,
) -> Page:
    """What fires and why.

    Args:
        settled: The pass.
        measured: What was measured; None where Prometheus evaluates the rules.
        thresholds: The rules.
        routes: Who is told.
        history: All rows of the register.
        silences: All silences.
        now: The time.
    """
    decided, numbers = standing(settled), settled.numbers()
    quiet = sum(a.firing and a.fingerprint in settled.quiet for a in settled.alerts)
    held = f"{quiet} of them held back, " if quiet else ""
    counted = f"{numbers['firing']} alerts fire, {held}{numbers['acknowledged']} taken"
    return Page(
        "Alerts",
        [
            Section("What fires", [*_firing(settled), *_silences(silences, now)]),
            Section("Over time", over_time(history, now)),
            Section("Rules", _rules(measured, thresholds)),
            Section("How it is told", _paths(settled, routes)),
        ],
        Verdict(decided, _TONES[decided], f"{counted}, as of {now:%Y-%m-%d %H:%M} UTC"),
    )


def _firing(settled: Settled) -> list[Item]:
    rank = {name: number for number, name in enumerate(GRAVEST_FIRST)}
    firing = sorted(
        (a for a in settled.alerts if a.firing),
        key=lambda a: (a.fingerprint in settled.quiet, rank[a.severity], a.since, a.fingerprint),
    )
    if not firing:
        return [Text("Nothing fires.")]
    rows = [
        (a.severity, a.name, a.summary, a.since[:16].replace("T", " "), a.count, _held(a, settled), _told(a))
        for a in firing[:MOST_ROWS]
    ]
    columns = ("severity", "alert", "what", "since (UTC)", "times", "state", "told")
    more = f"{len(firing) - MOST_ROWS} more: trialops alerts list" if len(firing) > MOST_ROWS else ""
    return [Table(columns, rows, more)]


def _held(alert: Known, settled: Settled) -> str:
    if alert.fingerprint in settled.silenced:
        return "silenced"
    if alert.fingerprint in settled.inhibited:
        return "a graver one is told"
    if alert.acknowledged:
        return f"taken by {alert.acknowledged}"
    return f"level {alert.level}" if alert.level else "open"


def _told(alert: Known) -> str:
    return ", ".join(sorted(name for name, note in alert.told.items() if note["status"] == "firing")) or "nobody yet"


def _silences(silences: Sequence[Silence], now: datetime) -> list[Item]:
    lasting = [silence for silence in silences if silence.starts <= utc_text(now) < silence.ends]
    if not lasting:
        return []
    rows = [
        (
            silence.silence[:8],
            ", ".join(f"{m['name']}{'=~' if m.get('regex') else '='}{m['value']}" for m in silence.matchers),
            silence.ends[:16].replace("T", " "),
            silence.author,
            silence.reason,
        )
        for silence in lasting
    ]
    return [Table(("silence", "matches", "until (UTC)", "who", "why"), rows)]


def over_time(history: Sequence[Entry], now: datetime) -> list[Item]:
    """Alerts that fired over the last week by severity, and how long it took until somebody took them."""
    begin = now - WINDOW
    series, top = [], 0.0
    for severity in GRAVEST_FIRST:
        x, y = firing_over_time([entry for entry in history if entry.alert.severity == severity], begin, now)
        series.append((severity, x, y))
        top = max(top, *y)
    items: list[Item] = [
        Figure(
            steps(series, xlabel="days before now", ylabel="alerts that fire", top=max(top, 1.0)),
            "Alerts that fired at a time, by severity, over the last seven days.",
        )
    ]
    recent = [entry for entry in history if entry.at >= utc_text(begin)]
    taken = seconds_to_take(recent)
    if taken:
        cells = [("under 5 min", 300.0), ("5 to 15 min", 900.0), ("15 to 60 min", 3600.0), ("1 to 4 h", 14400.0)]
        edges = [0.0, *(edge for _, edge in cells), float("inf")]
        names = [*(name for name, _ in cells), "over 4 h"]
        values = [float(sum(low <= t < high for t in taken)) for low, high in zip(edges[:-1], edges[1:], strict=True)]
        items.append(Figure(plots.bars(names, values, xlabel="episodes"), "Time until somebody took an alert."))
    begun = Counter(entry.alert.name for entry in recent if entry.event == "firing")
    items.append(
        Facts(
            {
                "began in 7 days": sum(begun.values()),
                "ended": sum(1 for entry in recent if entry.event == "resolved"),
                "taken": len(taken),
                "longest until taken": span_words(max(taken)) if taken else "–",
            }
        )
    )
    if begun:
        rows = [(name, n) for name, n in sorted(begun.items(), key=lambda item: (-item[1], item[0]))[:10]]
        items.append(Table(("alert", "episodes"), rows, "What came most often."))
    return items


def firing_over_time(entries: Sequence[Entry], begin: datetime, now: datetime) -> tuple[list[float], list[float]]:
    """Days before now (negative) and how many alerts fired from then on; it begins at `begin` and ends now."""
    firing: set[str] = set()
    x, y = [-(now - begin).total_seconds() / 86400], [0.0]
    for entry in entries:
        if entry.at > utc_text(now):
            break
        firing = firing | {entry.alert.fingerprint} if entry.alert.firing else firing - {entry.alert.fingerprint}
        if entry.at < utc_text(begin):
            y[0] = float(len(firing))
        elif float(len(firing)) != y[-1]:
            x.append((utc_time(entry.at) - now).total_seconds() / 86400)
            y.append(float(len(firing)))
    return [*x, 0.0], [*y, y[-1]]


def _rules(measured: Measured | None, thresholds: Thresholds) -> list[Item]:
    if measured is None:
        return [Text("Prometheus evaluates the rules; the platform handles what it fires.")]
    rows = []
    for rule in thresholds.rules:
        values = [s.value for s in measured.samples if s.metric == rule.when.metric]
        worst = (min if rule.when.comparison.startswith("<") else max)(values) if values else None
        limit = f"{rule.when.comparison} {rule.when.threshold:g}"
        shown = "cannot be read" if rule.when.metric in measured.unread else "not measured" if worst is None else worst
        rows.append((rule.name, rule.severity, rule.when.metric, limit, shown, len(values)))
    items: list[Item] = [Table(("rule", "severity", "metric", "fires", "worst value", "series"), rows)]
    if measured.unread:
        names = sorted(measured.unread.items())
        items.append(
            Table(("metric", "why"), names, "Cannot be read: what is not known is not taken for well; no alert ends.")
        )
    return [*items, Text(f"Thresholds version {thresholds.version}, {thresholds.digest[:12]}.", quiet=True)]


def _paths(settled: Settled, routes: Routes) -> list[Item]:
    if settled.posted is None:
        way = "No Alertmanager is set: the platform groups and tells by itself."
    elif settled.posted.reached:
        way = f"Alertmanager has taken {settled.posted.taken} alerts and holds back {len(settled.posted.suppressed)}."
    else:
        way = f"Alertmanager cannot be reached ({settled.posted.problem}): the platform tells by itself."
    items: list[Item] = [Text(way)]
    if unset := routes.unset():
        items.append(Text(f"Without an address, told on this page and in the log alone: {', '.join(unset)}."))
    return items


def notification_page(
    delivered: Delivered, messages: Sequence[Message], routes: Routes, history: Sequence[Entry], now: datetime
) -> Page:
    """What was told and what still waits.

    Args:
        delivered: The pass over the outbox.
        messages: Messages of the last week and those that wait.
        routes: Who is told, and who is on duty.
        history: All rows of the register.
        now: The time.
    """
    decided = delivery_standing(messages)
    waiting = [m for m in messages if m.state in WAITING]
    tones: dict[str, Any] = {UNDELIVERED: "bad", WAIT: "warn", TOLD: "good"}
    duty = [(name, rotation.on_duty(now, routes.time_zone)) for name, rotation in sorted(routes.rotations.items())]
    return Page(
        "Notifications",
        [
            Section("Messages", _messages(delivered, messages)),
            Section("On duty", [Table(("rotation", "person"), duty), *_escalations(history, now)]),
            Section("Over time", over_time(history, now)),
        ],
        Verdict(decided, tones[decided], f"{len(waiting)} wait, as of {now:%Y-%m-%d %H:%M} UTC"),
    )


UNDELIVERED, WAIT, TOLD = "undelivered", "messages wait", "all told"


def delivery_standing(messages: Sequence[Message]) -> str:
    """The decision of the step: a message could not be delivered, some wait, or all were."""
    states = {message.state for message in messages}
    return UNDELIVERED if "dead" in states else WAIT if states & set(WAITING) else TOLD


def _messages(delivered: Delivered, messages: Sequence[Message]) -> list[Item]:
    states = Counter(message.state for message in messages)
    items: list[Item] = [Facts({f"{name} now": value for name, value in delivered.numbers().items()})]
    by_receiver: Counter[str] = Counter(message.receiver for message in messages)
    if by_receiver:
        names = sorted(by_receiver)
        values = [float(by_receiver[name]) for name in names]
        items.append(Figure(plots.bars(names, values, xlabel="messages"), "Messages of seven days by receiver."))
    items.append(Table(("state", "messages"), sorted(states.items()), "Last seven days, and all that wait."))
    stuck = [m for m in messages if m.state in ("failed", "dead", "sending")]
    if stuck:
        held = [
            (m.key[:12], m.kind, m.receiver, m.state, m.attempt, m.queued[:16].replace("T", " "), _reason(m.detail))
            for m in stuck[:MOST_ROWS]
        ]
        items.append(Table(("message", "kind", "receiver", "state", "tries", "queued (UTC)", "why"), held))
    rows = [
        (m.queued[:16].replace("T", " "), m.kind, m.receiver, m.state, str(m.content["title"]))
        for m in reversed(messages[-MOST_ROWS:])
    ]
    return [*items, Table(("queued (UTC)", "kind", "receiver", "state", "what"), rows)]


def _reason(detail: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in sorted(detail.items()))


def _escalations(history: Sequence[Entry], now: datetime) -> list[Item]:
    recent = [e for e in history if e.event == "escalated" and e.at >= utc_text(now - WINDOW)]
    if not recent:
        return [Text("Nobody was paged in seven days.")]
    rows = [(e.at[:16].replace("T", " "), e.alert.name, e.alert.level, e.alert.summary) for e in recent[-MOST_ROWS:]]
    return [Table(("paged (UTC)", "alert", "level", "what"), list(reversed(rows)))]


def digest_page(queued: Sequence[Digest], pages: int, now: datetime) -> Page:
    """Pages and digests queued by a step.

    Args:
        queued: Digests queued by it.
        pages: Pages queued by it.
        now: The time.
    """
    sections = [
        Section(
            f"{digest.name.capitalize()} summary",
            [
                Facts(
                    {
                        **{n: digest.begun.get(n, 0) for n in GRAVEST_FIRST},
                        "ended": digest.ended,
                        "open": len(digest.open),
                    }
                ),
                *(Text(line) for line in digest.lines()),
            ],
        )
        for digest in queued
    ] or [Section("Summaries", [Text("None is due.")])]
    words = f"{pages} pages and {len(queued)} summaries queued, as of {now:%Y-%m-%d %H:%M} UTC"
    return Page(
        "Escalation and summaries", sections, Verdict("queued" if pages or queued else "nothing due", "plain", words)
    )
