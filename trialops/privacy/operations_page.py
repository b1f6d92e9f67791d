"""Pages of the privacy operations: retention and erasure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots

if TYPE_CHECKING:
    from trialops.privacy.erasure import Erasure
    from trialops.privacy.holds import Hold
    from trialops.privacy.retention import Record, RetentionPolicy

SHOWN = 50


def retention_page(
    records: Sequence[Record],
    policy: RetentionPolicy,
    holds: Sequence[Hold],
    reached: Mapping[str, Any],
    *,
    gone: int | None,
    certificate: str = "",
) -> Page:
    """What is kept, held, in use and due, by class; `gone` is None in a dry run."""
    states = ("kept", "held", "in use", "due")
    by_class: Counter[tuple[str, str]] = Counter((r.record_class, r.state) for r in records)
    rows = [
        (c.name, c.basis, *(by_class[c.name, state] for state in states), _next(records, c.name))
        for c in policy.classes
    ]
    due = [r for r in records if r.state == "due"]
    totals: Counter[str] = Counter(r.state for r in records)
    done = "dry run: nothing was disposed of" if gone is None else f"{gone} records were disposed of"
    items: list[Any] = [
        Facts({state: totals[state] for state in states}),
        Figure(plots.bars(states, [float(totals[s]) for s in states], xlabel="records"), "Records by state."),
        Table(("class", "basis", *states, "next due"), rows),
    ]
    return Page(
        "Retention",
        [
            Section("By class", items),
            Section(
                "Due now",
                [
                    Table(
                        ("class", "record", "version", "written", "due"),
                        [(r.record_class, r.name, r.version, str(r.created), str(r.due)) for r in due[:SHOWN]],
                        f"the first {SHOWN} of {len(due)}" if len(due) > SHOWN else "",
                    )
                ],
            ),
            Section(
                "Holds and milestones",
                [
                    Table(
                        ("hold", "since", "class", "records", "by", "reason"),
                        [(h.hold, h.at[:10], h.record_class, h.object, h.actor, h.reason) for h in holds],
                    ),
                    Table(("milestone", "day"), [(name, str(day)) for name, day in sorted(reached.items())]),
                ],
            ),
        ],
        Verdict(
            done, "plain" if gone is None else "good", f"policy version {policy.version} {certificate[:16]}".strip()
        ),
    )


def _next(records: Sequence[Record], name: str) -> str:
    days = [r.due for r in records if r.record_class == name and r.due is not None and r.state == "kept"]
    return str(min(days)) if days else "–"


def erasure_page(done: Sequence[Erasure], open_: int) -> Page:
    """What became of the requests; subjects are named by the request alone."""
    sections = [
        Section(
            f"Request {one.request}",
            [
                Facts(
                    {
                        "part of the trial record": one.in_trial,
                        "table versions deleted": len(one.rows),
                        "objects shredded": one.objects,
                        "keys destroyed": len(one.keys),
                        "identity links destroyed": one.links,
                    }
                ),
                Table(("place", "decision", "reason"), one.places),
                Table(
                    ("model", "version", "run", "recommendation"),
                    [(m["model"], m["version"] or "not registered", m["run"], m["recommend"]) for m in one.models],
                    "Models whose training set held the subject.",
                ),
                Text(
                    f"Certificate {one.certificate}" if one.certificate else "Kept by a legal hold; nothing was done."
                ),
            ],
        )
        for one in done
    ]
    held = sum(one.outcome == "held" for one in done)
    return Page(
        "Erasure requests",
        sections or [Section("Requests", [Text("No request was open.")])],
        Verdict(
            f"{len(done) - held} carried out, {held} held, {open_} open",
            "warn" if held or open_ else "good",
        ),
    )
