"""When, what and from where: hours an actor never keeps, kinds of objects never used, networks never seen."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from trialops.security.days import Days, trailing
from trialops.security.volumes import Judged

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from trialops.security.policy import Policy

    Floats = NDArray[np.float64]


def unusual_hours(days: Days, policy: Policy) -> Judged:
    """The rarest hour in which an actor was active on each day.

    Each hour of the circle has a chance to be an active one: the share of the actor's days (working, free ones apart)
    with activity in it, smoothed over its neighbours, mixed with the profile of all people (or services) for some days'
    worth. That profile is taken around everybody's own middle of the day: people live in different time zones. The tail
    is the chance that at least one hour as rare as the rarest one seen would be active on a day.
    """
    import numpy as np

    back = policy.history_days
    active = days.hours.astype(float)
    smooth = np.zeros_like(active)
    for w, shift in zip(policy.smooth, (-1, 0, 1), strict=True):
        smooth += w * np.roll(active, shift, axis=2)
    turn = _turn(active, back)
    chance = np.zeros_like(active)
    for free in (False, True):
        on = (days.free == free).astype(float)
        n = trailing(np.broadcast_to(on, (1, days.count)).copy(), back)[..., None]
        own = np.stack([trailing(smooth[:, :, hour] * on, back) for hour in range(24)], axis=2)
        for crowd in (~days.services, days.services):
            if not crowd.any():
                continue
            turned = np.take_along_axis(own[crowd], turn[crowd], axis=2)
            common = (turned.sum(axis=0, keepdims=True) + 0.5) / (n * crowd.sum() + 1.0)
            level = (turned + policy.prior_days * common) / (n + policy.prior_days)
            level = np.take_along_axis(level, np.argsort(turn[crowd], axis=2), axis=2)
            chance[crowd] += level * on[None, :, None]
    chance = np.clip(chance, 1e-9, 1 - 1e-9)
    order = np.argsort(chance, axis=2, kind="stable")
    rising = np.take_along_axis(chance, order, axis=2)
    seen = np.take_along_axis(days.hours, order, axis=2)
    any_as_rare = 1 - np.exp(np.cumsum(np.log1p(-rising), axis=2))
    place = np.argmax(seen, axis=2)[..., None]
    tail = np.take_along_axis(any_as_rare, place, axis=2)[..., 0]
    rarest = np.take_along_axis(order, place, axis=2)[..., 0]
    tail = np.where(days.active, tail, 1.0)
    known = trailing(days.active.astype(float), policy.history_days) >= policy.least_days
    usual = np.take_along_axis(rising, place, axis=2)[..., 0]
    labels = tuple(f"active between {h:02d} and {(h + 1) % 24:02d} UTC (1: yes; share of days)" for h in range(24))
    ones = days.active.astype(float)
    return Judged("hours", np.where(known, tail, np.nan), ones, usual, rarest.astype(np.int16), labels)


def _turn(active: Floats, back: int) -> NDArray[np.int64]:
    """For each actor and day the hours from the actor's own middle of the day on (circular mean)."""
    import numpy as np

    angle = np.arange(24) * (2 * np.pi / 24)
    east, north = trailing(active @ np.cos(angle), back), trailing(active @ np.sin(angle), back)
    middle = np.round(np.arctan2(north, east) * 24 / (2 * np.pi)).astype(np.int64)
    return (np.arange(24) + middle[..., None]) % 24


def first_use(days: Days, policy: Policy) -> list[Judged]:
    """First use of a kind of object, and of a network."""
    import polars as pl

    activity = days.kept.activity.filter(pl.col("class") != "system")
    kinds = activity.select("actor", "day", pl.format("{} of {}", "class", "kind").alias("item"))
    known = activity.filter(pl.col("network").is_not_null() & (pl.col("network") != ""))
    networks = known.select("actor", "day", pl.format("from {}", "network").alias("item"))
    return [_first("new kind", days, policy, kinds), _first("new network", days, policy, networks)]


def _first(name: str, days: Days, policy: Policy, used: pl.DataFrame) -> Judged:
    """How rare it is that something as unusual among the role is used for the first time.

    Among all actor-days of people (or of services) of the days before, the share with a first use of something that no
    larger part of the role had used by then, plus one on both sides.
    """
    import numpy as np
    import polars as pl

    shape = (len(days.actors), days.count)
    tail, which = np.ones(shape), np.zeros(shape, dtype=np.int16)
    seen, expected = np.zeros(shape), np.zeros(shape)
    labels: list[str] = []
    rows = used.group_by("actor", "item").agg(pl.col("day").min()).sort("actor", "item")
    actor, day, rows = days.placed(rows)
    share = _share_of_peers(days, actor, day, rows["item"].to_list())
    busy = days.active
    known = trailing(busy.astype(float), policy.history_days) >= policy.least_days
    for service in (False, True):
        mine = days.services[actor] == service
        group = days.services == service
        exposed = np.concatenate([[0.0], np.cumsum((busy & known)[group].sum(axis=0))])
        counts = mine & known[actor, day] & (day >= policy.burn_in_days)
        new = np.flatnonzero(counts)
        when, rare, cell = day[new], share[new], actor[new] * days.count + day[new]
        for one in new:
            since = max(int(day[one]) - policy.history_days, policy.burn_in_days)
            past = (when >= since) & (when < day[one]) & (rare <= share[one] + 1e-9)
            n = exposed[day[one]] - exposed[since]
            p = (1.0 + len(np.unique(cell[past]))) / (1.0 + max(n, 1.0))
            at = (int(actor[one]), int(day[one]))
            if p < tail[at]:
                tail[at], seen[at], expected[at] = p, 1.0, share[one]
                labels.append(f"{name}: {rows['item'][int(one)]} for the first time (1: yes; share of the role)")
                which[at] = min(len(labels) - 1, 32_000)
    return Judged(name, np.where(known, tail, np.nan), seen, expected, which, tuple(labels) or (name,))


def _share_of_peers(days: Days, actor: NDArray[np.int64], day: NDArray[np.int64], items: list[str]) -> Floats:
    """Share of the role's other members who had used the item before that day."""
    import numpy as np

    first: dict[tuple[str, str], list[int]] = {}
    for a, d, item in zip(actor.tolist(), day.tolist(), items, strict=True):
        first.setdefault((days.roles[a], item), []).append(d)
    for known in first.values():
        known.sort()
    size = {role: len(group) for role, group in days.groups}
    return np.array(
        [
            bisect_left(first[days.roles[a], item], d) / max(size[days.roles[a]] - 1, 1)
            for a, d, item in zip(actor.tolist(), day.tolist(), items, strict=True)
        ]
    )
