"""From subject ids to the model's inputs: the online store, the study day, and what the policy says of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, isinf, isnan
from typing import TYPE_CHECKING

import numpy as np

from trialops.serving.input_policy import WARN, InputPolicy
from trialops.serving.refusals import Ahead, Incomplete, Refusal, Stale, UnknownSubject
from trialops.stores.online.reader import OnlineReader, judged
from trialops.stores.online.spec import NEVER, FeatureServiceSpec
from trialops.stores.online.vector import DAY_US, MatrixPlan, day_start_us, event_ordinals

if TYPE_CHECKING:
    from numpy.typing import NDArray

OK, STALE, INCOMPLETE = "ok", "stale", "incomplete"


@dataclass(frozen=True)
class Rows:
    """Inputs of n rows and what the policy says of each.

    Attributes:
        x: float64 [n, p] in the model's order, NaN where unknown or expired.
        days: Study day of each row, int64 [n]; without meaning where the subject is unknown.
        unknown: bool [n], the store does not hold the subject.
        ahead: bool [n], the store's values are from after the day asked for.
        stale: bool [n], a view is older than its limit.
        incomplete: bool [n], too many features have no value.
        clean: Whether nothing above is true of any row.
    """

    x: NDArray[np.float64]
    days: NDArray[np.int64]
    unknown: NDArray[np.bool_]
    ahead: NDArray[np.bool_]
    stale: NDArray[np.bool_]
    incomplete: NDArray[np.bool_]
    clean: bool

    def part(self, start: int, stop: int) -> Rows:
        """Some of the rows."""
        cut = slice(start, stop)
        unknown, ahead, stale = self.unknown[cut], self.ahead[cut], self.stale[cut]
        incomplete = self.incomplete[cut]
        clean = self.clean or not (unknown | ahead | stale | incomplete).any()
        return Rows(self.x[cut], self.days[cut], unknown, ahead, stale, incomplete, clean)


class Inputs:
    """Puts stored features into the model's order and judges them; for one subject or for all.

    Args:
        spec: The columns and views that are stored.
        features: The model's features in its order.
        policy: What is predicted on.

    Raises:
        TrialOpsError: The service lacks a feature of the model.
    """

    def __init__(self, spec: FeatureServiceSpec, features: Sequence[str], policy: InputPolicy) -> None:
        self.policy, self._spec = policy, spec
        self._plan = MatrixPlan(self._spec, features)
        views = self._spec.views
        self._stale_us = _limits([policy.limit(view.name) for view in views])
        self._expired_us = _limits([view.ttl_days for view in views])
        self._least_us = np.minimum(self._stale_us, self._expired_us)
        self._most_missing = policy.max_missing_share * len(features)

    def judge(self, values: NDArray[np.float64], event_us: NDArray[np.int64], days: NDArray[np.int64] | None) -> Rows:
        """Inputs from stored values.

        Args:
            values: float64 [n, columns of the service]; values past their time to live become NaN in place.
            event_us: int64 [n, views], microseconds since 1970; -1 where there never was a value.
            days: Study day of each row, int64 [n]; 0, or None, for its newest day.
        """
        newest = event_us.max(axis=1)
        unknown = newest == NEVER
        # Ordinals close the gap where day 0 would be; an unknown subject gets a day that nobody sees.
        asked = event_ordinals(newest)
        if days is not None:
            asked = np.where(days == 0, asked, days - (days > 0))
        start = day_start_us(asked)
        age = np.expand_dims(start, 1) - event_us
        fresh = event_us.min(initial=0) != NEVER and not (age > self._least_us).any()
        if fresh and (days is None or not (age <= -DAY_US).any()):
            # The ordinary case, in few steps: every view is there, and none is old or from after the day.
            x = self._plan.at(values, asked)
            if np.count_nonzero(np.isnan(x)) <= self._most_missing:
                no = np.zeros(len(x), bool)
                return Rows(x, asked + (asked >= 0), no, no, no, no, True)
        never = event_us == NEVER
        later = unknown & False if days is None else newest >= start + DAY_US
        if ((age > self._expired_us) & ~never).any():
            values = judged(self._spec, values, event_us, asked + (asked >= 0)).values
        x = self._plan.at(values, asked)
        stale = ((age > self._stale_us) & ~never).any(axis=1)
        incomplete = (np.isnan(x).sum(axis=1) > self._most_missing) & ~unknown
        clean = not (unknown | later | stale | incomplete).any()
        study_days = asked + (asked >= 0)
        return Rows(x, study_days, unknown, later, stale, incomplete, clean)

    def refusal(self, rows: Rows) -> Refusal | None:
        """Why these rows get no prediction, the gravest reason; None when they get one."""
        if rows.clean:
            return None
        if rows.unknown.any():
            return UnknownSubject(_which(rows.unknown, "not in the online store"))
        if rows.ahead.any():
            return Ahead(
                _which(rows.ahead, "asked about on a day before the newest values of the online store")
                + "; it holds no older ones"
            )
        if rows.stale.any() and self.policy.stale != WARN:
            return Stale(_which(rows.stale, "older in the online store than the input policy allows"))
        if rows.incomplete.any() and self.policy.missing != WARN:
            share = f"more than {self.policy.max_missing_share:.0%} of the features missing"
            return Incomplete(_which(rows.incomplete, share, "with"))
        return None

    @staticmethod
    def status(rows: Rows) -> list[str]:
        """Status of each row that is predicted: "ok", "stale" or "incomplete"."""
        if rows.clean:
            return [OK] * len(rows.x)
        return np.where(rows.stale, STALE, np.where(rows.incomplete, INCOMPLETE, OK)).tolist()


class OnlineFeatures(Inputs):
    """Reads the inputs of one model from an online store; safe to use from several threads.

    Args:
        reader: The online store.
        features: The model's features in its order.
        policy: What is predicted on.

    Raises:
        TrialOpsError: The store's service lacks a feature of the model.
    """

    def __init__(self, reader: OnlineReader, features: Sequence[str], policy: InputPolicy) -> None:
        super().__init__(reader.spec, features, policy)
        self.reader = reader

    def one_row(self) -> OneRow:
        """The same for ordinary rows, one at a time."""
        return OneRow(self.reader, self)

    def rows(self, subjects: Sequence[str], days: NDArray[np.int64] | None) -> Rows:
        """Inputs of some subjects.

        Args:
            subjects: Pseudonyms, n of them.
            days: Study day of each, int64 [n]; 0, or None, for the newest day the store knows of the subject.

        Raises:
            TrialOpsError: The store cannot be read.
        """
        found = self.reader.read(subjects)
        return self.judge(found.values, found.event_us, days)


class OneRow:
    """The input of one subject, in plain numbers; an array of one row takes longer to handle.

    Args:
        reader: The online store.
        inputs: What the rows are judged by.
    """

    def __init__(self, reader: OnlineReader, inputs: Inputs) -> None:
        self.reader = reader
        self._pick, self._aged = inputs._plan.one_row()
        self._least_us, self._most_missing = inputs._least_us.tolist(), inputs._most_missing
        # Subjects share event days, so what follows from the days alone is seldom worked out.
        self._ordinal = lru_cache(maxsize=4096)(self._ordinal_of)

    def _ordinal_of(self, event_us: tuple[int, ...], day: int | None) -> int | None:
        if min(event_us) == NEVER:
            return None
        asked = (max(event_us) - day_start_us(0)) // DAY_US if day is None else day - (day > 0)
        start = day_start_us(asked)
        ages = [(start - at, most) for at, most in zip(event_us, self._least_us, strict=True)]
        fresh = all(-DAY_US < age <= most for age, most in ages)
        return asked if fresh else None

    def judge(
        self, values: tuple[float, ...], event_us: tuple[int, ...], day: int | None
    ) -> tuple[list[float], int] | None:
        """The model's input and the study day, or None where `Inputs.judge` has to say what is wrong with the row.

        Args:
            values: Stored values, over all columns of the service.
            event_us: Of each view, microseconds since 1970; -1 where there never was a value.
            day: The study day asked for; None for the newest.
        """
        asked = self._ordinal(event_us, day)
        if asked is None:
            return None
        x = list(self._pick(values))
        for place in self._aged:
            last = x[place]
            x[place] = asked - (last - (last > 0))
        if not isfinite(sum(x)) and (any(map(isinf, x)) or sum(map(isnan, x)) > self._most_missing):
            return None
        return x, asked + (asked >= 0)


def _limits(days: Sequence[int | None]) -> NDArray[np.int64]:
    """Limits of views in microseconds; where there is none, more than any time."""
    return np.array([np.iinfo(np.int64).max if day is None else day * DAY_US for day in days], np.int64)


def _which(flags: NDArray[np.bool_], what: str, verb: str = "are") -> str:
    """How many rows, and where they stand in the request; who they are is not repeated."""
    first = ", ".join(map(str, np.flatnonzero(flags)[:5].tolist()))
    return f"{int(flags.sum())} of {len(flags)} subjects {verb} {what} (rows from 0: {first})"
