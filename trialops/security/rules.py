"""What is against the rules, however usual it may be: judged event by event, with the figures it was judged by."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trialops.security.networks import Networks
from trialops.security.roster import Account

if TYPE_CHECKING:
    import polars as pl

    from trialops.security.events import Kept
    from trialops.security.policy import Policy

UNBLINDED_KINDS = ("unblinded documents", "treatment of a subject", "emergency access")


@dataclass(frozen=True)
class Violation:
    """One breach by one actor; further ones of its kind within the screened days are counted.

    Attributes:
        kind: One of the policy's severities.
        actor: Pseudonym.
        role: Role, or empty.
        day: Day of the first.
        count: How many.
        words: What was seen, with figures; nobody is named.
    """

    kind: str
    actor: str
    role: str
    day: dt.date
    count: int
    words: str


@dataclass(frozen=True)
class Checked:
    """Violations, and rules that could not be checked, with the reason."""

    violations: tuple[Violation, ...]
    unchecked: Mapping[str, str] = field(default_factory=dict)


def check(
    kept: Kept,
    policy: Policy,
    networks: Networks,
    accounts: Mapping[str, Account],
    since: dt.date,
    until: dt.date,
) -> Checked:
    """Apply every rule to the days from `since` to the one before `until`.

    Args:
        kept: Activity, with the days before.
        policy: Limits and lists.
        networks: Where networks are.
        accounts: The list of accounts by pseudonym; empty where there is none.
        since: First day judged.
        until: Day after the last.
    """
    import polars as pl

    rows = kept.activity.filter(pl.col("day").is_between(since, until, closed="left") & (pl.col("class") != "system"))
    events = kept.notable.filter(pl.col("at").dt.date().is_between(since, until, closed="left"))
    found: list[Violation] = [
        *_dormant(kept, policy, since, until),
        *_no_follow_up(kept, policy, since, until),
        *_services(events, policy, accounts),
        *_self_approved(kept, events, policy),
        *_locked(events),
        *_bursts(events, policy),
        *_powerful(events, policy),
        *_travelled(rows, networks, policy),
    ]
    unchecked = {}
    if accounts:
        found += [*_gone(rows, accounts), *_roles(rows, accounts), *_blinded(rows, accounts, policy)]
    else:
        lacking = "there is no list of accounts"
        unchecked = {kind: lacking for kind in ("terminated", "role_not_given", "blinded_access")}
    if not networks.places:
        unchecked["travel"] = "no network has a place"
    found.sort(key=lambda v: (v.kind, v.actor, v.day))
    return Checked(tuple(found), unchecked)


def _made(kind: str, rows: pl.DataFrame, words: str, **more: str) -> list[Violation]:
    """One violation per actor of rows with actor, role, day and n."""
    import polars as pl

    if rows.height == 0:
        return []
    told = (
        rows.group_by("actor")
        .agg(pl.col("role").drop_nulls().sort().first(), pl.col("day").min(), pl.col("n").sum())
        .sort("actor")
    )
    return [
        Violation(kind, r["actor"], r["role"] or "", r["day"], int(r["n"]), words.format(n=int(r["n"]), **more))
        for r in told.iter_rows(named=True)
    ]


def _counted(events: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return events.select("actor", "role", pl.col("at").dt.date().alias("day"), pl.lit(1).alias("n"))


def _dormant(kept: Kept, policy: Policy, since: dt.date, until: dt.date) -> Iterable[Violation]:
    import polars as pl

    limit = policy.rules.dormant_days
    days = kept.activity.filter((pl.col("class") != "system") & (pl.col("day") < until))
    gaps = (
        days.group_by("actor", "day")
        .agg(pl.col("role").drop_nulls().sort().first(), pl.col("events").sum().alias("n"))
        .sort("actor", "day")
        .with_columns((pl.col("day") - pl.col("day").shift().over("actor")).dt.total_days().alias("gap"))
        .filter((pl.col("gap") >= limit) & (pl.col("day") >= since))
    )
    for row in gaps.iter_rows(named=True):
        words = f"used again after {row['gap']} days, with {row['n']} events; dormant from {limit} days on"
        yield Violation("dormant", row["actor"], row["role"] or "", row["day"], int(row["n"]), words)


def _no_follow_up(kept: Kept, policy: Policy, since: dt.date, until: dt.date) -> list[Violation]:
    """Unblindings and emergency accesses whose time to be accounted for ended within the screened days."""
    import polars as pl

    span = dt.timedelta(policy.rules.follow_up_days)
    names = list(policy.rules.follow_ups)
    opened = kept.notable.filter(
        (pl.col("class") == "unblind")
        & (pl.col("outcome") == "allowed")
        & pl.col("at").dt.date().is_between(since - span, until - span, closed="left")
    )
    accounted = kept.notable.filter(pl.col("action").is_in(names) | pl.col("class").is_in(names)).select(
        "object", pl.col("at").alias("then")
    )
    answered = (
        opened.join(accounted, on="object", how="inner")
        .filter((pl.col("then") >= pl.col("at")) & (pl.col("then") <= pl.col("at") + span))
        .select("source", "id")
        .unique()
    )
    left = opened.join(answered, on=["source", "id"], how="anti")
    left = _counted(left.unique(["actor", "object"], keep="first", maintain_order=True))
    words = "{n} unblindings or emergency accesses that nothing accounts for within {days} days"
    return _made("no_follow_up", left, words, days=str(span.days))


def _services(events: pl.DataFrame, policy: Policy, accounts: Mapping[str, Account]) -> list[Violation]:
    """A service that signs, unblinds or re-identifies; one may unblind whose role on the list may."""
    import polars as pl

    from trialops.governance.access import may

    excused = [a for a, account in accounts.items() if any(may(role, "unblinding") for role in account.roles)]
    wrong = events.filter(
        pl.col("service")
        & pl.col("class").is_in(list(policy.rules.persons_only))
        & (pl.col("outcome") == "allowed")
        & ~((pl.col("class") == "unblind") & pl.col("actor").is_in(excused))
    )
    return _made("service_as_person", _counted(wrong), "a service did {n} times what only persons do")


def _self_approved(kept: Kept, events: pl.DataFrame, policy: Policy) -> list[Violation]:
    """Signatures that approve what the same person made: the same digest, or where there is none the same object."""
    import polars as pl

    words = [f"sign {meaning}" for meaning in policy.rules.approves]
    signed = events.filter(pl.col("action").is_in(words))
    made = kept.notable.filter(pl.col("action").is_in(list(policy.rules.makes))).select(
        "actor", "object", "record", pl.col("at").alias("made")
    )
    same_record = signed.join(made.drop("object"), on=["actor", "record"], how="inner")
    same_object = signed.join(
        made.filter(pl.col("record").is_null()).drop("record"), on=["actor", "object"], how="inner"
    )
    both = pl.concat(
        [f.filter(pl.col("made") <= pl.col("at")).select(signed.columns) for f in (same_record, same_object)]
    )
    return _made("self_approval", _counted(both.unique(["source", "id"])), "{n} approvals of what the same person made")


def _locked(events: pl.DataFrame) -> list[Violation]:
    import polars as pl

    hit = events.filter(pl.col("action").str.ends_with(" locked"))
    return _made("locked_out", _counted(hit), "locked out {n} times by wrong passphrases in a row")


def _bursts(events: pl.DataFrame, policy: Policy) -> Iterable[Violation]:
    import polars as pl

    refused = events.filter(pl.col("class") == "refused").sort("actor", "at")
    if refused.height == 0:
        return
    peaks = (
        refused.with_columns(pl.lit(1).alias("one"))
        .with_columns(pl.col("one").rolling_sum_by("at", "1h").over("actor").alias("n"))
        .filter(pl.col("n") >= policy.rules.burst_refusals)
        .group_by("actor")
        .agg(pl.col("role").drop_nulls().sort().first(), pl.col("at").min().dt.date().alias("day"), pl.col("n").max())
        .sort("actor")
    )
    for row in peaks.iter_rows(named=True):
        words = f"{row['n']} refused accesses within an hour; {policy.rules.burst_refusals} are a burst"
        yield Violation("refused_burst", row["actor"], row["role"] or "", row["day"], int(row["n"]), words)


def _powerful(events: pl.DataFrame, policy: Policy) -> list[Violation]:
    import polars as pl

    hit = events.filter(
        (pl.col("class") == "privilege")
        & pl.col("kind").str.contains("rolebindings")
        & pl.col("record").is_in(list(policy.rules.powerful_roles))
        & (pl.col("outcome") == "allowed")
    )
    return _made("powerful_binding", _counted(hit), "{n} bindings to a role that may do everything")


def _travelled(rows: pl.DataFrame, networks: Networks, policy: Policy) -> Iterable[Violation]:
    import polars as pl

    if not networks.places or rows.height == 0:
        return
    placed = (
        rows.filter(pl.col("network").is_in(list(networks.places)) & ~pl.col("service"))
        .sort("actor", "first", "last", "network")
        .with_columns(
            pl.col("network").shift().over("actor").alias("before"),
            pl.col("last").shift().over("actor").alias("left"),
        )
        .filter(pl.col("before").is_not_null() & (pl.col("before") != pl.col("network")))
    )
    pairs = placed.select("before", "network").unique()
    far = pairs.with_columns(
        pl.Series("km", [networks.distance(*row) for row in pairs.iter_rows()], dtype=pl.Float64)
    ).filter(pl.col("km") >= policy.rules.travel_km)
    trips = (
        placed.join(far, on=["before", "network"], how="inner")
        .with_columns(
            pl.max_horizontal((pl.col("first") - pl.col("left")).dt.total_seconds() / 3600, pl.lit(1 / 60)).alias(
                "hours"
            )
        )
        .with_columns((pl.col("km") / pl.col("hours")).alias("kmh"))
        .filter(pl.col("kmh") > policy.rules.travel_kmh)
        .group_by("actor")
        .agg(pl.col("role").drop_nulls().sort().first(), pl.col("day").min(), pl.col("km").max(), pl.len().alias("n"))
        .sort("actor")
    )
    for row in trips.iter_rows(named=True):
        speed = f"{policy.rules.travel_kmh:,.0f} km/h"
        words = f"{row['n']} changes of place faster than {speed}, over up to {row['km']:,.0f} km"
        yield Violation("travel", row["actor"], row["role"] or "", row["day"], int(row["n"]), words)


def _gone(rows: pl.DataFrame, accounts: Mapping[str, Account]) -> list[Violation]:
    import polars as pl

    left = pl.DataFrame(
        [(actor, account.left) for actor, account in accounts.items() if account.left],
        schema={"actor": pl.String, "left": pl.Date},
        orient="row",
    )
    late = rows.join(left, on="actor", how="inner").filter(pl.col("day") > pl.col("left"))
    late = late.select("actor", "role", "day", pl.col("events").alias("n"))
    return _made("terminated", late, "{n} events after the account had ended")


def _roles(rows: pl.DataFrame, accounts: Mapping[str, Account]) -> list[Violation]:
    import polars as pl

    given = pl.DataFrame(
        [(actor, role) for actor, account in accounts.items() for role in account.roles],
        schema={"actor": pl.String, "role": pl.String},
        orient="row",
    )
    acted = rows.filter(
        (pl.col("source") == "trail") & (pl.col("outcome") == "allowed") & (pl.col("role").fill_null("") != "")
    ).with_columns(pl.col("role").str.to_lowercase())
    wrong = acted.join(given, on=["actor", "role"], how="anti").filter(pl.col("actor").is_in(given["actor"].implode()))
    wrong = wrong.select("actor", "role", "day", pl.col("events").alias("n"))
    return _made("role_not_given", wrong, "{n} uses in a role that the list of accounts does not give")


def _blinded(rows: pl.DataFrame, accounts: Mapping[str, Account], policy: Policy) -> list[Violation]:
    import polars as pl

    names = [a for a, account in accounts.items() if set(account.roles) & set(policy.rules.blinded_roles)]
    seen = rows.filter(
        pl.col("actor").is_in(names) & pl.col("kind").is_in(UNBLINDED_KINDS) & (pl.col("outcome") == "allowed")
    ).select("actor", "role", "day", pl.col("events").alias("n"))
    return _made("blinded_access", seen, "{n} accesses to unblinded data by somebody who must stay blinded")
