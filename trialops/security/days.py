"""Activity as arrays over actors and days: what the detectors work on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from trialops.security.events import Kept
    from trialops.security.policy import Policy

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

SERVICE, UNKNOWN = "service", "role not known"


@dataclass(frozen=True)
class Days:
    """Actors x days, days without gaps.

    Attributes:
        actors: Pseudonyms, sorted.
        roles: Role of each actor; services are a role of their own.
        services: Which actors are services.
        start: First day.
        count: Number of days.
        kept: What the arrays are made from.
        holidays: Days on which people are not expected.
    """

    actors: tuple[str, ...]
    roles: tuple[str, ...]
    services: Flags
    start: dt.date
    count: int
    kept: Kept = field(repr=False)
    holidays: tuple[dt.date, ...] = ()

    @cached_property
    def free(self) -> Flags:
        """Which days are Saturdays, Sundays or holidays."""
        import numpy as np

        days = [self.start + dt.timedelta(n) for n in range(self.count)]
        return np.array([d.weekday() >= 5 or d in self.holidays for d in days], dtype=bool)

    @cached_property
    def groups(self) -> tuple[tuple[str, NDArray[np.int64]], ...]:
        """Roles with the positions of their actors."""
        import numpy as np

        names = np.array(self.roles)
        return tuple((role, np.flatnonzero(names == role)) for role in sorted(set(self.roles)))

    def day(self, position: int) -> dt.date:
        """The day at a position."""
        return self.start + dt.timedelta(position)

    def placed(self, frame: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], pl.DataFrame]:
        """Positions of actor and day of rows, and those rows that have one."""
        import polars as pl

        # Types are stated, because nobody may have done anything yet.
        index = pl.DataFrame(
            {"actor": list(self.actors), "_a": range(len(self.actors))}, schema={"actor": pl.String, "_a": pl.Int64}
        )
        rows = (
            frame.join(index, on="actor", how="inner")
            .with_columns((pl.col("day") - self.start).dt.total_days().alias("_d"))
            .filter(pl.col("_d").is_between(0, self.count - 1))
        )
        return rows["_a"].to_numpy(), rows["_d"].to_numpy(), rows

    def summed(self, frame: pl.DataFrame, column: str = "events") -> Floats:
        """Sums of a column per actor and day."""
        import numpy as np

        actor, day, rows = self.placed(frame)
        made = np.zeros((len(self.actors), self.count))
        np.add.at(made, (actor, day), rows[column].fill_null(0).to_numpy().astype(float))
        return made

    @cached_property
    def hours(self) -> Flags:
        """Actors x days x 24: whether anything was done in that hour; what a pipeline does by itself is not counted."""
        import numpy as np
        import polars as pl

        actor, day, rows = self.placed(self.kept.activity.filter(pl.col("class") != "system"))
        made = np.zeros((len(self.actors), self.count, 24), dtype=bool)
        made[actor, day, rows["hour"].to_numpy()] = True
        return made

    @cached_property
    def active(self) -> Flags:
        """Actors x days: whether anything was done."""
        return self.hours.max(axis=2)


def days_of(kept: Kept, policy: Policy, until: dt.date, roles: dict[str, str]) -> Days:
    """The arrays of what was kept before a day.

    Args:
        kept: Activity.
        policy: How many days are kept.
        until: Day after the last one.
        roles: Role of actors (pseudonyms) where it is known from the list of accounts.
    """
    import numpy as np
    import polars as pl

    rows = kept.activity.filter(pl.col("day") < until)
    known = (
        rows.group_by("actor")
        .agg(pl.col("service").any(), pl.col("role").drop_nulls().mode().sort().first(), pl.col("day").min())
        .sort("actor")
    )
    first = max(min(known["day"].to_list(), default=until), until - dt.timedelta(policy.kept_days))
    actors, services = known["actor"].to_list(), known["service"].to_list()
    said = known["role"].to_list()
    named = [
        SERVICE if service else roles.get(actor) or (role or UNKNOWN).lower()
        for actor, service, role in zip(actors, services, said, strict=True)
    ]
    return Days(
        tuple(actors),
        tuple(named),
        np.array(services, dtype=bool),
        first,
        (until - first).days,
        kept,
        policy.holidays,
    )


def trailing(values: Floats, days: int) -> Floats:
    """Sum over the `days` days before each day, that day not included; the days are the second axis."""
    import numpy as np

    total = np.cumsum(values, axis=1)
    before = np.zeros_like(total)
    before[:, 1:] = total[:, :-1]
    early = np.zeros_like(total)
    early[:, days + 1 :] = total[:, : -(days + 1)] if total.shape[1] > days + 1 else 0
    return before - early


def rolling(values: Floats, days: int) -> Floats:
    """Sum over the `days` days that end with each day."""
    import numpy as np

    total = np.cumsum(values, axis=1)
    early = np.zeros_like(total)
    if total.shape[1] > days:
        early[:, days:] = total[:, :-days]
    return total - early


def stacked(frames: Sequence[Floats]) -> Floats:
    """Arrays behind each other along a new first axis."""
    import numpy as np

    return np.stack(list(frames))
