"""The audit trail's daily care: verified whole, anchored, and summed up. Records are never removed from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trialops.pages import Facts, Figure, Page, Section, Table, Verdict, plots
from trialops.stores.chain_log import ChainLog

if TYPE_CHECKING:
    from trialops.stores.context import Step

PREFIX = "audit/summaries"


@dataclass(frozen=True)
class Maintenance:
    """Verdict, summary and page."""

    verdict: Literal["pass", "fail"]
    document: dict[str, Any]
    page: Page


def maintain(run: Step) -> Maintenance:
    """Verify every record and anchor; where all is well, anchor the head and add a summary to its chain.

    A trail that does not verify is not anchored: an anchor over it would vouch for it.
    """
    from trialops.governance.anchors import anchor_head, stored_anchors, unanchored

    found = run.trail.verify(stored_anchors(run.objects), progress=run.progress)
    log = ChainLog(run.objects, PREFIX, "audit summaries")
    before = log.links()
    since = int(before[-1].body["head"]) if before else 0
    actions: Counter[str] = Counter()
    actors: Counter[str] = Counter()
    for event in run.trail.events(after=since):
        actions[event.action] += 1
        actors[event.actor] += 1
    document: dict[str, Any] = {
        "verdict": "pass" if found.ok else "fail",
        "records": found.checked,
        "head": found.head[0],
        "digest": found.head[1],
        "anchors": found.anchors,
        "bad": found.bad,
        "problem": found.problem,
        "since": since,
        "actions": dict(sorted(actions.items())),
        "actors": dict(sorted(actors.items())),
        "warning": unanchored(run.trail, stored_anchors(run.objects)),
    }
    if found.ok:
        anchor_head(run.trail, run.objects)
        if found.head[0] > since:
            log.append(document)
    else:
        run.audit("alert.audit", "audit_events", str(found.bad), reason="the audit trail does not verify")
    return Maintenance("pass" if found.ok else "fail", document, _page(document, len(before)))


def _page(document: dict[str, Any], earlier: int) -> Page:
    actions = document["actions"]
    return Page(
        "Audit trail",
        [
            Section(
                "Verification",
                [
                    Facts(
                        {
                            "records verified": document["records"],
                            "anchors compared": document["anchors"],
                            "new since the last summary": sum(actions.values()),
                            "earlier summaries": earlier,
                        }
                    ),
                    *(
                        [
                            Figure(
                                plots.bars(list(actions), [float(n) for n in actions.values()], xlabel="records"),
                                "New records by action.",
                            )
                        ]
                        if actions
                        else []
                    ),
                    Table(("actor", "records"), list(document["actors"].items())),
                ],
            )
        ],
        Verdict(
            "the trail holds" if document["verdict"] == "pass" else f"broken at record {document['bad']}",
            "good" if document["verdict"] == "pass" else "bad",
            document["problem"] or document["warning"],
        ),
    )
