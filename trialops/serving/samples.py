"""What was recorded of a rollout's step, and what a comparison of it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Arm:
    """What one model answered in one step, one entry per request.

    Args:
        row: int [m], index of the row asked about.
        ok: bool [m], whether a valid answer with status 200 came.
        seconds: float64 [m], latency.
        probability: float64 [m], the answer; NaN where not ok.
        offline: float64 [m], the same bundle's prediction made offline; NaN where it is not known.
        same_bundle: bool [m], whether the answer named the expected bundle digest.
    """

    row: NDArray[np.int64]
    ok: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    probability: NDArray[np.float64]
    offline: NDArray[np.float64]
    same_bundle: NDArray[np.bool_]

    @property
    def errors(self) -> int:
        """Requests without a valid answer."""
        return int((~self.ok).sum())

    def quantile(self, q: float) -> float | None:
        """Latency quantile of the answered requests, in seconds; None without any."""
        return float(np.quantile(self.seconds[self.ok], q)) if self.ok.any() else None


@dataclass(frozen=True)
class Samples:
    """What was recorded in one step.

    Args:
        percent: Share of traffic the candidate answered.
        candidate: The candidate's answers.
        stable: The stable model's answers; None where there is no stable model yet.
        reference: float64 [N], the stable model's prediction for every row; NaN where it is not known; None
            without a stable model.
        labels: float64 [N], outcome of every row (0, 1, NaN when unknown), or None.
    """

    percent: int
    candidate: Arm
    stable: Arm | None
    reference: NDArray[np.float64] | None = None
    labels: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Check:
    """One comparison with its limit.

    Args:
        percent: Step; -1 for the whole run.
        name: Which check.
        stable: The stable model's value, None where there is none.
        candidate: The candidate's value.
        limit: What the candidate's value (or its bound, see note) may not exceed.
        passed: None when there was not enough evidence to judge.
        n: Requests or rows behind the candidate's value.
        note: Bound or reason, in words.
    """

    percent: int
    name: str
    stable: float | None
    candidate: float | None
    limit: float
    passed: bool | None
    n: int
    note: str = ""


def distinct(arms: Sequence[Arm]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows with a usable answer, in the order they came; a row asked twice is not two rows of evidence."""
    row = np.concatenate([arm.row for arm in arms])
    probability = np.concatenate([arm.probability for arm in arms])
    ok = np.concatenate([arm.ok for arm in arms])
    usable = ok & (probability >= 0) & (probability <= 1)
    row, probability = row[usable], probability[usable]
    first = np.sort(np.unique(row, return_index=True)[1])
    return row[first], probability[first]
