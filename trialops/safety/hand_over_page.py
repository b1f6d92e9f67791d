"""The page of the hand-over: what is on its way, who has to look at what. Case ids, and nothing of a subject."""

from __future__ import annotations

from collections import Counter
from typing import Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots
from trialops.pages.page import Item
from trialops.safety.clock_times import zone
from trialops.safety.e2b.outbox import Message, utc_time
from trialops.safety.e2b.receiving import count
from trialops.safety.e2b.rule_language import Facts as MessageFacts
from trialops.safety.e2b.rules import rules, unchecked
from trialops.safety.e2b.submission import describe
from trialops.safety.hand_over import HandedOver

REJECTED, OVERDUE, WAITING, DONE, NOTHING, HELD = (
    "reports rejected",
    "reports overdue",
    "reports wait",
    "all handed over",
    "nothing to hand over",
    "reports held",
)
_TONES: dict[str, Any] = {
    REJECTED: "bad",
    OVERDUE: "bad",
    WAITING: "warn",
    DONE: "good",
    NOTHING: "plain",
    HELD: "warn",
}
MOST_ROWS = 60


def standing(done: HandedOver) -> str:
    """The decision of the step, the gravest first; held: the role may not send, or there is no gateway."""
    counts = done.balance.counts
    if any(alert.why.startswith("rejected") for alert in done.alerts):
        return REJECTED
    if any(alert.why == "overdue" for alert in done.alerts):
        return OVERDUE
    if counts.get("waiting") or done.elsewhere:
        return WAITING if done.allowed and done.gateway else HELD
    return DONE if sum(counts.values()) else NOTHING


def numbers(done: HandedOver) -> dict[str, int]:
    """Counts for metrics and the decision."""
    return {
        "released": sum(done.balance.counts.values()),
        **done.balance.counts,
        "queued_now": len(done.queued),
        "stopped_now": len(done.stopped),
        **{f"{name}_now": value for name, value in describe(done.sent).items() if name != "left"},
        "acknowledgements_quarantined": count(done.received).get("quarantined", 0),
        "alerts": len(done.alerts),
        "problems": len(done.balance.problems),
    }


def hand_over_page(done: HandedOver, time_zone: str) -> Page:
    """What is on its way and what needs somebody.

    Args:
        done: The pass.
        time_zone: Of the safety desk.
    """
    decided = standing(done)
    counts = done.balance.counts
    text = f"{sum(counts.values())} released versions, as of {_local(done.now.isoformat(), time_zone)}"
    sections = [
        Section("Who has to look", _alert_items(done)),
        Section("Released versions", _balance_items(done)),
        Section("Messages", _message_items(done, time_zone)),
        Section("Checks", _check_items()),
    ]
    return Page("Reports to authorities", sections, Verdict(decided, _TONES[decided], text))


def _alert_items(done: HandedOver) -> list[Item]:
    rows = [[alert.message_id, alert.why] for alert in done.alerts]
    rows += [[key, f"stopped by the check: {'; '.join(faults)}"] for key, faults in sorted(done.stopped.items())]
    by_hand = "a person sends it: no verified receiver for this authority (trialops safety reports write)"
    rows += [[str(version), by_hand] for version in done.elsewhere]
    rows += [["acknowledgement", f"{each.what} ({each.where})"] for each in done.received if each.what]
    rows += [["reconciliation", problem] for problem in done.balance.problems]
    items: list[Item] = []
    if not done.allowed:
        items.append(Text("The role in TRIALOPS_ROLE may not send reports: nothing was written or sent."))
    if not done.gateway:
        items.append(Text("REGULATORY_REPORTING_API is not set: nothing was sent."))
    items.append(Table(["what", "why"], rows[:MOST_ROWS]) if rows else Text("Nobody."))
    return items


def _balance_items(done: HandedOver) -> list[Item]:
    counts = done.balance.counts
    if not sum(counts.values()):
        return [Text("None.")]
    return [
        Facts({**counts, "together": sum(counts.values())}),
        Figure(
            plots.bars(list(counts), [float(n) for n in counts.values()], xlabel="released versions of cases"),
            "Every released version is one of these.",
        ),
    ]


def _message_items(done: HandedOver, time_zone: str) -> list[Item]:
    if not done.messages:
        return [Text("None.")]
    shown = sorted(done.messages, key=lambda each: (not each.waiting, each.due or "9", each.message_id))
    columns = ["message", "state", "due", "next", "tries", "why"]
    rows = [
        [
            each.message_id,
            each.state,
            _local(each.due, time_zone),
            _local(each.until, time_zone) if each.waiting else "–",
            each.attempt,
            _why(each),
        ]
        for each in shown[:MOST_ROWS]
    ]
    left = len(shown) - MOST_ROWS
    caption = f"{left} more: trialops safety reports list." if left > 0 else ""
    now = Counter(describe(done.sent)) + Counter(count(done.received))
    return [Table(columns, rows, caption), Facts(dict(now)) if now else Text("Nothing moved.")]


def _why(message: Message) -> str:
    detail = message.detail
    named = detail.get("rules") or [*detail.get("errors", ()), *detail.get("elements", ())]
    return "; ".join(str(each) for each in named) or str(detail.get("reason") or detail.get("cause") or "–")


def _check_items() -> list[Item]:
    every = rules()
    facts = MessageFacts(route="premarket", initial=True, registered=frozenset(), products=frozenset())
    open_ = unchecked(facts)
    text = (
        f"{len(every)} rules of FDA, {sum(1 for rule in every if rule.severity == 'rejection')} of them rejections, "
        "and the general checks of every element are applied before a report is queued."
    )
    rows = [[rule.id, rule.element, rule.why] for rule in open_]
    return [Text(text), Table(["rule", "element", "why it cannot be checked in full here"], rows)]


def _local(text: str, name: str) -> str:
    return utc_time(text).astimezone(zone(name)).strftime("%Y-%m-%d %H:%M") if text else "–"
