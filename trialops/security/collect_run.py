"""The step that reads the sources: chain verified first, events typed, what is kept written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trialops.security.events import TABLES, Collector, Kept, merged, nothing
from trialops.security.log_lines import Quarantine, log_files
from trialops.security.networks import load_networks
from trialops.security.policy import load_policy
from trialops.security.roster import Roster, read_roster

if TYPE_CHECKING:
    import polars as pl

    from trialops.pages import Page
    from trialops.stores.context import Step

ZONE = "security"
KIND = "actor"
"""Kind of the pseudonyms of actors in the vault."""


@dataclass(frozen=True)
class Collected:
    """What the step wrote.

    Attributes:
        kept: Activity with the days before.
        quarantine: Lines that could not be used.
        document: Verification of the chain, counts of each source; no actor.
    """

    kept: Kept
    quarantine: pl.DataFrame
    document: dict[str, Any]

    @cached_property
    def page(self) -> Page:
        """For people."""
        from trialops.security.page import collected_page

        return collected_page(self.document)


def moment(as_of: str) -> dt.datetime:
    """A moment in UTC from ISO 8601 text; now where it is empty.

    Raises:
        TrialOpsError: It is not ISO 8601.
    """
    from trialops.errors import TrialOpsError

    if not as_of.strip():
        return dt.datetime.now(dt.UTC)
    try:
        found = dt.datetime.fromisoformat(as_of.strip().replace("Z", "+00:00"))
    except ValueError:
        raise TrialOpsError(
            "This is not a moment in ISO 8601", where="as_of", fix="Write 2026-03-31T02:00:00Z."
        ) from None
    return found.replace(tzinfo=found.tzinfo or dt.UTC).astimezone(dt.UTC)


def pseudonyms(run: Step) -> Callable[[str, Sequence[str]], Sequence[str]]:
    """Pseudonyms of the vault; that of an object says nothing about subjects: it is of a kind of its own."""
    return lambda kind, values: run.vault.pseudonyms(f"security-{kind}" if kind != KIND else KIND, list(values))


def collect(run: Step, *, kubernetes: str, fhir: str, roster: str, networks: str, as_of: str) -> Collected:
    """Read what happened up to the end of the day before `as_of`.

    The first run reads as many days as are kept; later ones begin some days before the last they know. What a log no
    longer has stays as it was kept.

    Args:
        run: The step.
        kubernetes: Folder or file of Kubernetes audit logs; empty: none.
        fhir: Folder or file of FHIR AuditEvents; empty: none.
        roster: List of accounts; empty: none.
        networks: Table of networks; empty: the one that ships.
        as_of: Moment of the run.
    """
    from trialops.governance.anchors import stored_anchors, unanchored
    from trialops.security.fhir_events import fhir_events
    from trialops.security.kubernetes_events import kubernetes_events
    from trialops.security.trail_events import trail_events

    policy = load_policy()
    until = moment(as_of).replace(hour=0, minute=0, second=0, microsecond=0)
    accounts = read_roster(roster)
    places = load_networks(networks) if networks else load_networks()
    verified = run.trail.verify(stored_anchors(run.objects), progress=run.progress)
    before = known(run)
    since = until - dt.timedelta(policy.kept_days)
    last = before.activity.filter(before.activity["source"] == "trail")["day"].max()
    if last is not None:
        again = dt.datetime.combine(last, dt.time(), dt.UTC) - dt.timedelta(policy.read_again_days)  # type: ignore[arg-type]
        since = max(since, again)
    named = frozenset((*policy.rules.makes, *policy.rules.follow_ups))
    collector = Collector(pseudonyms(run), places, named, accounts.of_kind("service"), accounts.of_kind("person"))
    quarantine, counts = Quarantine(), {}
    floor = until - dt.timedelta(policy.kept_days)
    logs = log_files(kubernetes, (".log", ".json", ".jsonl", ".ndjson"))
    resources = log_files(fhir, (".json", ".jsonl", ".ndjson"))
    sources: list[tuple[str, Iterable[pl.DataFrame], dt.datetime]] = [
        ("trail", trail_events(run.engine, since, until), since),
        ("kubernetes", kubernetes_events(logs, quarantine), floor),
        ("fhir", fhir_events(resources, quarantine), floor),
    ]
    for name, batches, first in sources:
        at = collector.events
        for batch in batches:
            collector.add(_between(batch, first, until))
            run.progress(f"{collector.events:,} events read ({name})")
        counts[name] = collector.events - at
    run.vault.remember(KIND, dict(collector.known["actor"]), engine=run.engine)
    kept = merged(before, collector.kept(), floor.date())
    document: dict[str, Any] = {
        "as_of": until.isoformat(),
        "until": until.date().isoformat(),
        "events": counts,
        "chain": {
            "ok": verified.ok,
            "records": verified.checked,
            "bad": verified.bad,
            "problem": verified.problem,
            "anchors": verified.anchors,
            "warning": unanchored(run.trail, stored_anchors(run.objects), until),
        },
        "lines": {"read": quarantine.read, "ignored": quarantine.ignored, "quarantined": len(quarantine.rows)},
        "reasons": _reasons(quarantine),
        "kept": {name: frame.height for name, frame in kept.tables().items()},
        "actors": _actors(kept),
        "days": _by_day(kept),
        "not_listed": _not_listed(collector, accounts),
    }
    return Collected(kept, quarantine.frame(), document)


def known(run: Step) -> Kept:
    """What earlier runs kept."""
    frames = [run.read_latest(f"{ZONE}/{name}") for name in TABLES]
    if any(frame is None for frame in frames):
        return nothing()
    return Kept(*frames)  # type: ignore[arg-type]


def listed(run: Step, roster: str) -> dict[str, Any]:
    """The list of accounts by pseudonym."""
    accounts = read_roster(roster).accounts
    actors = sorted(accounts)
    return {name: accounts[actor] for actor, name in zip(actors, run.vault.pseudonyms(KIND, actors), strict=True)}


def _between(batch: pl.DataFrame, since: dt.datetime, until: dt.datetime) -> pl.DataFrame:
    import polars as pl

    low, high = since.replace(tzinfo=None), until.replace(tzinfo=None)
    return batch.filter(pl.col("at").is_between(low, high, closed="left"))


def _reasons(quarantine: Quarantine) -> dict[str, int]:
    counted: dict[str, int] = {}
    for _, _, reason in quarantine.rows:
        counted[reason] = counted.get(reason, 0) + 1
    return dict(sorted(counted.items()))


def _actors(kept: Kept) -> dict[str, int]:
    import polars as pl

    actors = kept.activity.group_by("actor").agg(pl.col("service").any())
    services = int(actors["service"].sum())
    return {"persons": actors.height - services, "services": services}


def _by_day(kept: Kept) -> list[list[Any]]:
    import polars as pl

    made = kept.activity.group_by("day", "source").agg(pl.col("events").sum()).sort("day", "source")
    return [[row[0].isoformat(), row[1], row[2]] for row in made.iter_rows()]


def _not_listed(collector: Collector, accounts: Roster) -> int | None:
    if not accounts:
        return None
    return len(set(collector.known["actor"]) - set(accounts.accounts))
