"""How much: counts per actor and day against own level, the role's level, and what the role did that day.

A day's count is compared with a negative binomial (`statistics.upper_tail`). Its mean is the actor's level on such a
day (working or free), over the days of the policy before, mixed with the role's level for a few days' worth, times how
busy the role's other members were on that very day (a database lock week is not an insider). Its dispersion is how far
such forecasts went wrong in the days before, all members of the role together: it holds for what is uncertain in the
level, too. Sums over longer windows have forecasts and dispersions of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.security.days import Days, rolling, trailing

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from trialops.security.policy import Policy

    Floats = NDArray[np.float64]

QUIET_EVENTS = 10.0
"""Events of a role that its day's factor is drawn to 1 with."""


@dataclass(frozen=True)
class Judged:
    """What one detector says: actors x days.

    Attributes:
        name: Detector.
        tail: Tail probability; NaN where there is nothing to judge by.
        seen: What was counted where the tail is smallest.
        expected: What was expected there.
        which: Which class and window it was, an index into `labels`.
        labels: Names for `which`.
        searched: The tail is the smallest of several, so it is calibrated before it is combined with others.
    """

    name: str
    tail: Floats
    seen: Floats
    expected: Floats
    which: NDArray[np.int16]
    labels: tuple[str, ...]
    searched: bool = False

    def say(self, actor: int, day: int) -> str:
        """The finding in words and figures."""
        label = self.labels[int(self.which[actor, day])]
        seen, expected = float(self.seen[actor, day]), float(self.expected[actor, day])
        return f"{label}: {seen:,.4g} where {expected:,.3g} were to be expected"


def volume(days: Days, policy: Policy) -> list[Judged]:
    """Judge events by class, and the gauges of the policy."""
    counts = {name: days.summed(_of_class(days.kept.activity, name)) for name in policy.classes}
    found = [_strongest("volume", days, policy, counts, {name: policy.windows for name in counts})]
    gauges = {
        "one_object": _one_object(days),
        "distinct_objects": _distinct(days),
        "concurrent": _concurrent(days),
    }
    return [
        *found,
        *(_strongest(name, days, policy, {name: gauges[name]}, {name: policy.gauges[name]}) for name in policy.gauges),
    ]


def _of_class(activity: pl.DataFrame, name: str) -> pl.DataFrame:
    import polars as pl

    return activity.filter(pl.col("class") == name).group_by("actor", "day").agg(pl.col("events").sum())


def _strongest(
    name: str, days: Days, policy: Policy, counts: Mapping[str, Floats], windows: Mapping[str, tuple[int, ...]]
) -> Judged:
    """The smallest tail over classes and windows, and where it is; many looks are calibrated later."""
    import numpy as np

    shape = (len(days.actors), days.count)
    tail, seen, expected = np.full(shape, np.nan), np.zeros(shape), np.zeros(shape)
    which = np.zeros(shape, dtype=np.int16)
    labels: list[str] = []
    judged = np.zeros(shape, dtype=bool)
    for label, count in counts.items():
        if not count.any():
            continue
        mean = forecast(days, policy, count)
        for window in windows[label]:
            y, mu = rolling(count, window), rolling(mean, window)
            p = _tails(days, policy, y, mu, window)
            better = ~np.isnan(p) & (~judged | (p < tail))
            tail, judged = np.where(better, p, tail), judged | ~np.isnan(p)
            seen, expected = np.where(better, y, seen), np.where(better, mu, expected)
            which = np.where(better, np.int16(len(labels)), which)
            labels.append(f"{label.replace('_', ' ')} in {window} day{'s' if window > 1 else ''}")
    # Nothing done on the day itself: a sum over days before has been judged already.
    idle = judged & ~days.active
    tail = np.where(idle, 1.0, tail)
    return Judged(name, tail, seen, expected, which, tuple(labels) or ("nothing",), searched=True)


def forecast(days: Days, policy: Policy, count: Floats) -> Floats:
    """Expected count of each actor on each day on which the actor was there at all; 0 on the others.

    Levels are means over active days: that somebody is there on a Sunday is for the hours to judge. An own level leans
    on the role's, the role's level of working or free days on its level of all days, and that on everybody's, which has
    half an event more than was seen, so that nothing is impossible.
    """
    import numpy as np

    effect = _busy(days, policy, count)
    there = days.active.astype(float)
    quiet, back, lean = count / effect, policy.history_days, policy.shrink_days
    level = np.zeros_like(count)
    for crowd in (~days.services, days.services):
        everybody = (trailing(quiet[crowd].sum(axis=0, keepdims=True), back) + 0.5) / (
            trailing(there[crowd].sum(axis=0, keepdims=True), back) + 1.0
        )
        for group in _members(days):
            if not crowd[group[0]]:
                continue
            total, n = (trailing(x[group].sum(axis=0, keepdims=True), back) for x in (quiet, there))
            whole = (total + 4 * lean * everybody) / (n + 4 * lean)
            for free in (False, True):
                on = (days.free == free).astype(float)
                own, present = trailing(quiet[group] * on, back), trailing(there[group] * on, back)
                role = (own.sum(axis=0, keepdims=True) + 4 * lean * whole) / (
                    present.sum(axis=0, keepdims=True) + 4 * lean
                )
                level[group] += (own + lean * role) / (present + lean) * on
    return level * effect * there


def _busy(days: Days, policy: Policy, count: Floats) -> Floats:
    """How busy the other members of the role were on each day, against their own last weeks; 1 is as always.

    The busiest of the others is left out: it may be the attacker.
    """
    import numpy as np

    effect = np.ones_like(count)
    for role, group in days.groups:
        if role == "service" or len(group) < policy.peers:
            continue
        level = np.zeros((len(group), days.count))
        for free in (False, True):
            on = (days.free == free).astype(float)
            n = np.maximum(trailing(np.broadcast_to(on, (1, days.count)).copy(), policy.history_days), 1.0)
            level += trailing(count[group] * on, policy.history_days) / n * on
        y = count[group]
        ranked = np.argsort(y - level, axis=0)
        first, second = ranked[-1], ranked[-2]
        columns = np.arange(days.count)
        for place in range(len(group)):
            out = np.where(first == place, second, first)
            seen = y.sum(axis=0) - y[place] - y[out, columns]
            usual = level.sum(axis=0) - level[place] - level[out, columns]
            effect[group[place]] = np.clip((seen + QUIET_EVENTS) / (usual + QUIET_EVENTS), 1 / 3, 20.0)
    return effect


def _members(days: Days) -> list[NDArray[np.int64]]:
    """Actors who share a level: people by role; a service shares its with nobody."""
    import numpy as np

    groups: list[NDArray[np.int64]] = []
    for role, group in days.groups:
        groups += [np.array([place]) for place in group] if role == "service" else [group]
    return groups


def _tails(days: Days, policy: Policy, y: Floats, mu: Floats, window: int) -> Floats:
    """Upper tails; NaN for actors who have not been active on enough days."""
    import numpy as np

    from trialops.security.statistics import upper_tail

    known = trailing(days.active.astype(float), policy.history_days) >= policy.least_days
    used = known & days.active
    miss, weight = np.where(used, (y - mu) ** 2 - mu, 0.0), np.where(used, mu**2, 0.0)

    def past(values: Floats) -> Floats:
        # What a window is judged by must not overlap with it.
        return _delayed(trailing(values.sum(axis=0, keepdims=True), policy.history_days), window - 1)

    dispersion = np.zeros_like(y)
    for crowd in (~days.services, days.services):
        all_miss, all_weight = past(miss[crowd]), past(weight[crowd])
        common = np.maximum(all_miss / np.maximum(all_weight, 1e-9), policy.least_dispersion)
        for _, group in days.groups:
            if not len(group) or not crowd[group[0]]:
                continue
            own_miss, own_weight, n = past(miss[group]), past(weight[group]), past(used[group].astype(float))
            borrowed = 10 * policy.shrink_days * own_weight / np.maximum(n, 1.0)
            dispersion[group] = (own_miss + borrowed * common) / np.maximum(own_weight + borrowed, 1e-9)
    # Few events of a rare kind tell nothing about how they come in bunches.
    least = np.maximum(policy.least_dispersion, (policy.least_bunching - 1) / np.maximum(mu, 1e-6))
    return np.where(known, upper_tail(y, mu, np.clip(dispersion, least, None)), np.nan)


def _delayed(values: Floats, by: int) -> Floats:
    import numpy as np

    if not by:
        return values
    moved = np.zeros_like(values)
    moved[:, by:] = values[:, :-by]
    return moved


def _one_object(days: Days) -> Floats:
    """Most accesses of an actor to one single object within the seven days that end with each day."""
    import numpy as np
    import polars as pl

    rows = days.kept.objects.group_by("actor", "object", "day").agg(pl.col("events").sum())
    made = np.zeros((len(days.actors), days.count))
    if rows.height == 0:
        return made
    rows = rows.sort("actor", "object", "day").with_columns(
        pl.col("events").rolling_sum_by("day", "7d").over("actor", "object").alias("week")
    )
    actor, day, rows = days.placed(rows)
    np.maximum.at(made, (actor, day), rows["week"].to_numpy().astype(float))
    return made


def _distinct(days: Days) -> Floats:
    """Different single objects an actor touched on each day."""
    import polars as pl

    return days.summed(days.kept.objects.group_by("actor", "day").agg(pl.col("object").n_unique().alias("events")))


def _concurrent(days: Days) -> Floats:
    """Hours of a day in which an actor came from two networks whose use overlapped."""
    import polars as pl

    rows = days.kept.activity.filter(pl.col("network").is_not_null() & (pl.col("network") != ""))
    spans = rows.group_by("actor", "day", "hour", "network").agg(pl.col("first").min(), pl.col("last").max())
    hours = (
        spans.sort("actor", "day", "hour", "first")
        .with_columns(pl.col("last").shift().over("actor", "day", "hour").alias("before"))
        .filter(pl.col("first") < pl.col("before"))
        .select("actor", "day", "hour")
        .unique()
    )
    return days.summed(hours.group_by("actor", "day").agg(pl.len().alias("events")))


def size(days: Days, policy: Policy) -> Judged:
    """Rows or bytes taken out on a day: robust z of the logarithm against the actor's and the role's days with any.

    Median and MAD over own days, the role's where there are fewer than `least_days` own ones; the tail is Student's
    with as many degrees of freedom as there are days, less one.
    """
    import numpy as np
    import polars as pl
    from scipy.stats import t as student

    rows = days.kept.activity.filter(pl.col("class").is_in(list(policy.size_classes)))
    amount = np.log1p(days.summed(rows.group_by("actor", "day").agg(pl.col("volume").sum()), "volume"))
    tail = np.where(trailing(days.active.astype(float), policy.history_days) >= policy.least_days, 1.0, np.nan)
    seen, expected = np.zeros_like(amount), np.zeros_like(amount)
    for _, group in days.groups:
        for place in group:
            for day in np.flatnonzero((amount[place] > 0) & ~np.isnan(tail[place])):
                early = max(0, day - policy.history_days)
                past = amount[place, early:day]
                past = past[past > 0]
                if len(past) < policy.least_days:
                    past = amount[group, early:day]
                    past = past[past > 0]
                if len(past) < policy.least_days:
                    continue
                middle = float(np.median(past))
                spread = max(1.4826 * float(np.median(np.abs(past - middle))), policy.least_spread)
                tail[place, day] = float(student.sf((amount[place, day] - middle) / spread, len(past) - 1))
                seen[place, day], expected[place, day] = np.expm1(amount[place, day]), np.expm1(middle)
    which = np.zeros(amount.shape, dtype=np.int16)
    return Judged("size", np.maximum(tail, 1e-30), seen, expected, which, ("rows or bytes taken out in a day",))
