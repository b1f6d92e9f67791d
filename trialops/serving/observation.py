"""From the router's record to samples: what both models answered, paired by request, with what is known besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trialops.serving.call_log import LogReader
from trialops.serving.routing import CANDIDATE, STABLE
from trialops.serving.samples import Arm, Samples

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NOBODY: Mapping[str, float] = {}


@dataclass(frozen=True)
class Truth:
    """What is known of units besides what the models answered; units from `routing.unit_of`.

    Attributes:
        labels: Outcome of units whose outcome is known by now, 0 or 1.
        candidate: The candidate's prediction made offline.
        stable: The stable model's prediction made offline.
    """

    labels: Mapping[str, float] = field(default_factory=dict)
    candidate: Mapping[str, float] = field(default_factory=dict)
    stable: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Requests of one step: all, answered by the candidate, assigned to it but answered by the stable model."""

    requests: int
    candidate_served: int
    fallbacks: int


class Observer:
    """Keeps the record of one rollout.

    A request about several rows is judged on its first row.

    Args:
        calls: Folder where the router writes.
        rollout: Rollout.
        digests: Expected bundle digest of "candidate" and "stable"; empty: any.
        has_stable: Whether there is a stable model to compare with.
    """

    def __init__(self, calls: Path, rollout: str, digests: Mapping[str, str], *, has_stable: bool = True) -> None:
        self._reader, self._rollout, self._digests = LogReader(calls), rollout, dict(digests)
        self._has_stable = has_stable
        self._records: dict[tuple[int, int], dict[str, dict[str, Any]]] = {}
        self._rows: dict[str, int] = {}
        self._stable: dict[int, float] = {}

    def update(self) -> None:
        """Read what the router has written since."""
        for record in self._reader.new():
            if record["rollout"] != self._rollout:
                continue
            step = self._records.setdefault((record["step"], record["attempt"]), {})
            step.setdefault(record["request"], record)
            row = self._rows.setdefault(record["unit"], len(self._rows))
            answer = record["calls"].get(STABLE, {}).get("probability")
            if answer is not None:
                self._stable.setdefault(row, answer)

    def seen(self, step: int, attempt: int) -> Mapping[str, Any]:
        """The recorded requests of a step by id."""
        return self._records.get((step, attempt), {})

    def answered(self, step: int, attempt: int) -> int:
        """Requests of a step that the candidate has answered, or failed to; one not mirrored for want of room is none.

        Args:
            step: Number of the step.
            attempt: Attempt at it.
        """
        return sum(CANDIDATE in record["calls"] for record in self.seen(step, attempt).values())

    def counts(self, step: int, attempt: int) -> Counts:
        """How many requests of a step went which way."""
        records = self.seen(step, attempt).values()
        return Counts(
            len(records),
            sum(r["served"] == CANDIDATE for r in records),
            sum(r["assigned"] == CANDIDATE and r["served"] == STABLE for r in records),
        )

    def failing(self, step: int, attempt: int, most: int) -> bool:
        """Whether the candidate's last answers, that many in a row, were errors."""
        calls = [r["calls"][CANDIDATE] for r in self.seen(step, attempt).values() if CANDIDATE in r["calls"]]
        last = [call["ok"] for call in calls if not call["refused"]][-most:]
        return len(last) == most and not any(last)

    def samples(self, step: int, attempt: int, percent: int, truth: Truth) -> Samples:
        """The samples of one step.

        Args:
            step: Number of the step.
            attempt: Attempt at it.
            percent: Share of the candidate.
            truth: Outcomes and offline predictions.
        """
        records = list(self.seen(step, attempt).values())
        reference = labels = None
        if self._has_stable:
            reference = self._by_row(truth.stable)
            for row, value in self._stable.items():
                if np.isnan(reference[row]):
                    reference[row] = value
        if truth.labels:
            labels = self._by_row(truth.labels)
        return Samples(
            percent,
            self._arm(records, CANDIDATE, truth.candidate),
            self._arm(records, STABLE, truth.stable) if self._has_stable else None,
            reference,
            labels,
        )

    def _by_row(self, known: Mapping[str, float]) -> NDArray[np.float64]:
        return np.array([known.get(unit, np.nan) for unit in self._rows], dtype=np.float64)

    def _arm(self, records: list[dict[str, Any]], name: str, offline: Mapping[str, float]) -> Arm:
        asked = [(r["unit"], r["calls"][name]) for r in records if name in r["calls"]]
        asked = [(unit, call) for unit, call in asked if not call["refused"]]
        expected = self._digests.get(name, "")
        return Arm(
            row=np.array([self._rows[unit] for unit, _ in asked], dtype=np.int64),
            ok=np.array([call["ok"] for _, call in asked], dtype=bool),
            seconds=np.array([call["seconds"] for _, call in asked], dtype=np.float64),
            probability=np.array(
                [np.nan if call["probability"] is None else call["probability"] for _, call in asked], dtype=np.float64
            ),
            offline=np.array([offline.get(unit, np.nan) for unit, _ in asked], dtype=np.float64),
            same_bundle=np.array([not expected or call["digest"] == expected for _, call in asked], dtype=bool),
        )
