"""What of a day's activity is unlike its actors: every detector's word, combined, calibrated, ranked, within a budget.

Of each actor and day the detectors' tail probabilities are combined (Cauchy), the combined score is calibrated against
the scores of the days before, people and services apart, and among the actors of one day those are told that keep the
rate of false discoveries; of them the first ones that the budget has room for. One actor is one alert until it has been
quiet for some days.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trialops.security.habits import first_use, unusual_hours
from trialops.security.statistics import SMALLEST
from trialops.security.volumes import Judged, size, volume

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trialops.security.days import Days
    from trialops.security.policy import Policy

    Floats = NDArray[np.float64]

Progress = Callable[[str, float | None], None]


@dataclass(frozen=True)
class Unlike:
    """One actor on one day who was unlike themselves.

    Attributes:
        actor: Pseudonym.
        role: Role.
        day: Day.
        tail: Calibrated tail probability.
        reasons: What the detectors say, the strongest first: name, tail, words with figures.
        told: Within the budget.
        first: Not a further day of what was told already.
    """

    actor: str
    role: str
    day: dt.date
    tail: float
    reasons: tuple[tuple[str, float, str], ...]
    told: bool
    first: bool


@dataclass(frozen=True)
class Screened:
    """The screening of some days.

    Attributes:
        unlike: What passed the rate of false discoveries, by day and rank.
        tested: Actors of each screened day that had enough history.
        tails: Calibrated tail probabilities of the screened days: actors x days.
    """

    unlike: tuple[Unlike, ...]
    tested: tuple[int, ...]
    tails: Floats


def judged(days: Days, policy: Policy, progress: Progress = lambda *_: None) -> list[Judged]:
    """What every detector says about every actor and day."""
    progress("volumes", 0.1)
    found = [*volume(days, policy), size(days, policy)]
    progress("hours", 0.6)
    found.append(unusual_hours(days, policy))
    progress("first uses", 0.8)
    return [*found, *first_use(days, policy)]


def screen(days: Days, policy: Policy, since: dt.date, progress: Progress = lambda *_: None) -> Screened:
    """Screen the days from `since` to the last one; those before are the history.

    What was told on the `quiet_days` before is not told again, so those days are screened too, silently.
    """
    import numpy as np

    from trialops.security.statistics import calibrated, combine, discoveries

    found = [_fair(one, days, policy) if one.searched else one for one in judged(days, policy, progress)]
    stacked = np.stack([one.tail for one in found])
    score = -np.log(combine(stacked))
    known = np.asarray(~np.isnan(stacked).all(axis=0))
    wanted = max(0, (since - days.start).days)
    begin = max(0, wanted - policy.quiet_days)
    tails = np.ones((len(days.actors), days.count))
    for crowd in (~days.services, days.services):
        for day in range(begin, days.count):
            early = max(0, day - policy.history_days)
            past = score[crowd, early:day][(known & days.active)[crowd, early:day]]
            tails[crowd, day] = calibrated(score[crowd, day], past, **_tail(policy))
    tails = np.where(known & days.active, tails, 1.0)
    told: list[Unlike] = []
    last: dict[int, int] = {}
    for day in range(begin, days.count):
        tested = np.flatnonzero(known[:, day])
        hits = tested[discoveries(tails[tested, day], policy.false_discovery)]
        ranked = hits[np.argsort(tails[hits, day], kind="stable")]
        room = policy.alerts_per_day
        for actor in ranked.tolist():
            first = day - last.get(actor, -(10**6)) > policy.quiet_days
            told_now = not first or room > 0
            room -= first
            if told_now:
                last[actor] = day
            if day >= wanted:
                told.append(
                    Unlike(
                        days.actors[actor],
                        days.roles[actor],
                        days.day(day),
                        float(tails[actor, day]),
                        _reasons(found, actor, day),
                        told_now,
                        first and told_now,
                    )
                )
    counted = tuple(int(known[:, day].sum()) for day in range(wanted, days.count))
    return Screened(tuple(told), counted, tails[:, wanted:])


def _fair(one: Judged, days: Days, policy: Policy) -> Judged:
    """A detector's word, calibrated week by week against what it said on the days before.

    A detector that takes the worst of many looks would otherwise drown out the others.
    """
    import numpy as np

    from trialops.security.statistics import calibrated

    tail = one.tail.copy()
    usable = ~np.isnan(tail) & days.active
    score = -np.log(np.where(usable, tail, 1.0))
    for crowd in (~days.services, days.services):
        for end in range(days.count, 0, -7):
            begin = max(end - 7, 0)
            early = max(begin - policy.history_days, 0)
            past = score[crowd, early:begin][usable[crowd, early:begin]]
            fair = calibrated(score[crowd, begin:end], past, **_tail(policy))
            tail[crowd, begin:end] = np.where(usable[crowd, begin:end], fair, one.tail[crowd, begin:end])
    return replace(one, tail=np.maximum(tail, SMALLEST))


def _tail(policy: Policy) -> dict[str, Any]:
    return {"tail": policy.tail, "least": policy.least_exceedances, "trim": policy.trim}


def _reasons(found: list[Judged], actor: int, day: int) -> tuple[tuple[str, float, str], ...]:
    import numpy as np

    spoken = [(one.name, float(one.tail[actor, day]), one) for one in found if not np.isnan(one.tail[actor, day])]
    spoken.sort(key=lambda item: (item[1], item[0]))
    return tuple((name, tail, one.say(actor, day)) for name, tail, one in spoken[:3] if tail < 0.05)
