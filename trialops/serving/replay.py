"""Replayed traffic: held-out subjects, as the model would be asked about them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trialops.errors import TrialOpsError
from trialops.features.assembly import HELD_OUT
from trialops.models.bundle import Bundle
from trialops.models.design_matrix import inputs
from trialops.serving.protocol import DATATYPE

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from trialops.serving.client import InferenceClient

KEYS = ("subject_id", "site_id", "event_timestamp", "label", "split")
ON_THEIR_WAY = 16
"""Requests sent and not on record yet, at most: a slow candidate is not swamped with what is mirrored to it."""
_NAMES = uuid.UUID("6a5f7d6c-9c0b-4d0e-8f25-3f6f4a1f2c11")


@dataclass(frozen=True)
class Replay:
    """The traffic a canary replays.

    Args:
        x: float64 [n, p], feature rows; NaN for a missing value.
        features: The p column names of x, in any order; each model is asked with its own among them.
        ids: n row identifiers (pseudonyms); they decide the assignment and go nowhere else.
        labels: float64 [n], outcome 0 or 1, NaN when not known yet; None without any.
    """

    x: NDArray[np.float64]
    features: Sequence[str]
    ids: Sequence[str]
    labels: NDArray[np.float64] | None = None

    def columns(self, features: Sequence[str]) -> NDArray[np.float64]:
        """The rows in another column order.

        Raises:
            TrialOpsError: A feature is not among the columns.
        """
        missing = [name for name in features if name not in self.features]
        if missing:
            raise TrialOpsError(
                f"the replay lacks {len(missing)} of the model's features: {', '.join(missing)}",
                where="canary replay",
                fix="replay rows of the feature view the model was trained on",
            )
        order = [list(self.features).index(name) for name in features]
        return self.x[:, order]


class ReplayTraffic:
    """Sends a step's requests one after the other; after a restart those that are not on record yet.

    Args:
        requests: What to send; each step begins where the one before stopped.
        features: Tensors to send: all that either model takes.
        client: Connection to the router.
        rollout: Rollout; part of the request ids.
        per_step: Requests of one step.
        patience: Seconds to wait for requests sent to be on record.
    """

    def __init__(
        self,
        requests: Replay,
        features: Sequence[str],
        client: InferenceClient,
        rollout: str,
        *,
        per_step: int,
        patience: float,
    ) -> None:
        self._requests, self._features, self._client = requests, list(features), client
        self._x = requests.columns(self._features)
        self._rollout, self._per_step, self._patience = rollout, per_step, patience
        self._sent: set[str] = set()
        self._open: set[str] = set()
        self._at, self._recorded, self._last = (-1, 0), -1, time.monotonic()

    def advance(self, step: int, attempt: int, seen: Mapping[str, Any], want: int) -> bool:
        """Send what is missing of the first `want` requests; see `trialops.serving.rollout.Source`."""
        if (step, attempt) != self._at:  # what a step before has left unread is on its record, not on this one's
            self._at, self._recorded, self._last = (step, attempt), -1, time.monotonic()
            self._open.clear()
        self._open.difference_update(seen)
        room, sent = ON_THEIR_WAY - len(self._open), 0
        for k in range(want):
            name = str(uuid.uuid5(_NAMES, f"{self._rollout}/{step}/{attempt}/{k}"))
            if sent < room and name not in seen and name not in self._sent:
                self._send(name, (step * self._per_step + k) % len(self._x))
                self._sent.add(name)
                self._open.add(name)
                sent += 1
        if sent or len(seen) != self._recorded:
            self._recorded, self._last = len(seen), time.monotonic()
        if not sent:
            time.sleep(0.002)  # what was mirrored is on record a moment after its answer
        return time.monotonic() - self._last < self._patience

    def _send(self, name: str, row: int) -> None:
        values = self._x[row].tolist()
        body = {
            "id": name,
            "parameters": {"subject_id": self._requests.ids[row]},
            "inputs": [
                {"name": feature, "datatype": DATATYPE, "shape": [1], "data": [None if v != v else v]}
                for feature, v in zip(self._features, values, strict=True)
            ],
        }
        self._client.send("POST", f"{self._client.model}/infer", json.dumps(body).encode())


def replay(training: pl.DataFrame, candidate: Path) -> Replay:
    """Feature rows and outcomes of the held-out subjects.

    Args:
        training: Training set with its split.
        candidate: Bundle folder; its features come first, then any other the stable model may want.
    """
    import polars as pl

    rows = training.filter(pl.col("split") == HELD_OUT).sort("subject_id")
    wanted = list(Bundle.load(candidate).features)
    others = [c for c in rows.columns if c not in wanted and c not in KEYS and not c.startswith("group_")]
    features = [*wanted, *others]
    return Replay(
        x=inputs(rows, features),
        features=features,
        ids=rows["subject_id"].to_list(),
        labels=rows["label"].cast(pl.Float64).to_numpy(),
    )
