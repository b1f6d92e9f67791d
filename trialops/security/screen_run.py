"""The step that judges: the days since the last screening, by rules and by statistics."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.security.collect_run import listed, moment
from trialops.security.days import days_of
from trialops.security.events import Kept
from trialops.security.findings import Finding, findings, keep, screenings, tell
from trialops.security.networks import load_networks
from trialops.security.policy import load_policy
from trialops.security.rules import check
from trialops.security.screening import screen

if TYPE_CHECKING:
    import polars as pl

    from trialops.pages import Page
    from trialops.stores.context import Step

LONGEST = 31
"""Days that one screening goes back to at most."""


@dataclass(frozen=True)
class Screening:
    """What the step found.

    Attributes:
        findings: All of them.
        document: Counts, limits and the policy; no actor.
        page: For people.
    """

    findings: tuple[Finding, ...]
    document: dict[str, Any]
    page: Page


def run_screening(
    run: Step,
    frames: Mapping[str, pl.DataFrame],
    collected: Mapping[str, Any],
    *,
    roster: str = "",
    networks: str = "",
    days: int = 0,
    as_of: str = "",
) -> Screening:
    """Screen what was collected, keep the findings, raise alerts.

    Args:
        run: The step.
        frames: Tables of the step before.
        collected: Its document.
        roster: List of accounts.
        networks: Table of networks.
        days: Days to screen; 0: those since the last screening, the last one where there was none.
        as_of: Moment of the run.
    """
    from trialops.security.page import screened_page

    policy = load_policy()
    kept = Kept(frames["activity"], frames["objects"], frames["notable"])
    until = dt.date.fromisoformat(collected["until"])
    earlier = screenings(run)
    since = _since(until, days, [dt.date.fromisoformat(body["until"]) for body in earlier])
    accounts = listed(run, roster)
    places = load_networks(networks) if networks else load_networks()
    roles = {actor: account.roles[0] for actor, account in accounts.items() if account.roles}
    screened = screen(days_of(kept, policy, until, roles), policy, since, run.progress)
    checked = check(kept, policy, places, accounts, since, until)
    found = findings(screened.unlike, checked.violations, collected["chain"], until, policy)
    numbers = {
        "since": since.isoformat(),
        "until": until.isoformat(),
        "actor_days": sum(screened.tested),
        "findings": len(found),
        "told": len({f.id for f in found if f.told}),
        "over_budget": sum(not f.told for f in found),
    }
    stated = {"version": policy.version, "digest": policy.digest, "networks": places.digest}
    document: dict[str, Any] = {
        **numbers,
        "policy": stated,
        "kinds": dict(sorted(Counter(f.kind for f in found if f.told).items())),
        "severities": dict(sorted(Counter(f.severity for f in found if f.told).items())),
        "unchecked": dict(checked.unchecked),
        "chain": dict(collected["chain"]),
    }
    keep(run, found, document)
    raised = tell(run, found, moment(as_of))
    verdict = "findings" if raised else "nothing found"
    run.decide(verdict, numbers=numbers, policy=stated)
    run.metrics |= {"findings": raised, "actor_days": numbers["actor_days"]}
    page = screened_page(document, found, screened.tails, earlier)
    return Screening(tuple(found), document, page)


def _since(until: dt.date, days: int, screened: list[dt.date]) -> dt.date:
    if days:
        return until - dt.timedelta(min(days, LONGEST))
    before = [day for day in screened if day < until]
    last = max(before, default=until - dt.timedelta(1))
    return max(last, until - dt.timedelta(LONGEST))
