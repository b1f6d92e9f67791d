"""Planted scenarios and quiet months, screened as the pipeline screens them, and scored.

Seeds: limits and rates were set on organisations 1 to 9 and scenario seeds below 100; what is stated is measured on
organisations from 1000 on and scenario seeds from 100 on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from trialops.security.days import days_of
from trialops.security.events import Collector, Kept, merged
from trialops.security.networks import networks_of
from trialops.security.policy import load_policy
from trialops.security.roster import Account
from trialops.security.rules import check
from trialops.security.screening import screen
from trialops.synthetic.access_log import NETWORKS, SERVICES, Organisation, organisation
from trialops.synthetic.insiders import Planted, plant

POLICY = load_policy()
HISTORY, MONTH = POLICY.kept_days, 28
PLACES = networks_of(NETWORKS)


@dataclass(frozen=True)
class Alert:
    """One alert: what it is called, about whom, on which day (position)."""

    kind: str
    actor: str
    day: int
    words: str


class World:
    """An organisation whose months are screened one after the other."""

    def __init__(self, seed: int, months: int) -> None:
        self.seed, self.months = seed, months
        self.made: Organisation = organisation(seed, days=HISTORY + MONTH * months)

    @cached_property
    def kept(self) -> Kept:
        """What is kept of everything."""
        return collect(self.made.events)

    def first(self, month: int) -> int:
        """Position of a month's first day."""
        return HISTORY + MONTH * month

    def accounts(self, planted: Planted | None = None) -> dict[str, Account]:
        """The list of accounts."""
        left = {planted.actor: planted.left} if planted else {}
        people = {p.name: Account(p.name, "person", (p.role,), None, left.get(p.name)) for p in self.made.people}
        return people | {name: Account(name, "service", ()) for name in SERVICES}

    def alerts(self, month: int, planted: Planted | None = None) -> list[Alert]:
        """Alerts of a month: those of the rules, and those within the budget."""
        kept, accounts = self.kept, self.accounts(planted)
        if planted is not None:
            extra = collect(planted.events)
            kept = _added(kept, extra, planted, self.made.start)
        since = self.made.start + dt.timedelta(self.first(month))
        until = since + dt.timedelta(MONTH)
        days = days_of(kept, POLICY, until, {a: account.roles[0] for a, account in accounts.items() if account.roles})
        found = [
            Alert("unlike", u.actor, (u.day - self.made.start).days, "; ".join(r[2] for r in u.reasons))
            for u in screen(days, POLICY, since).unlike
            if u.first
        ]
        broken = check(kept, POLICY, PLACES, accounts, since, until)
        return found + [Alert(v.kind, v.actor, (v.day - self.made.start).days, v.words) for v in broken.violations]


def collect(events: pl.DataFrame) -> Kept:
    """What is kept of events; pseudonyms are the names themselves."""
    named = frozenset((*POLICY.rules.makes, *POLICY.rules.follow_ups))
    collector = Collector(lambda _, values: list(values), PLACES, named)
    collector.add(events)
    return collector.kept()


def _added(kept: Kept, extra: Kept, planted: Planted, start: dt.date) -> Kept:
    def both(name: str) -> pl.DataFrame:
        usual = kept.tables()[name]
        if planted.silent is not None:
            day = pl.col("at").dt.date() if name == "notable" else pl.col("day")
            usual = usual.filter((pl.col("actor") != planted.actor) | (day < start + dt.timedelta(planted.silent)))
        return pl.concat([usual, extra.tables()[name]])

    return Kept(both("activity"), both("objects"), both("notable").sort("at", "source", "id"))


def hit(alerts: Sequence[Alert], planted: Planted) -> list[Alert]:
    """Alerts about the planted actor from the first day of it to the day after the last one."""
    low, high = planted.days
    return [a for a in alerts if a.actor == planted.actor and low <= a.day <= high + 1]


def played(world: World, month: int, scenarios: Sequence[str], seed: int) -> Iterator[tuple[Planted, list[Alert]]]:
    """Each scenario planted alone in the month, with the alerts of that month."""
    for name in scenarios:
        planted = plant(world.made, name, seed, world.first(month))
        yield planted, world.alerts(month, planted)


__all__ = ["MONTH", "POLICY", "Alert", "World", "collect", "hit", "merged", "played"]
