"""How long each job takes, against its own history, and which one holds the transfer up.

Durations are compared on the logarithm, by median and median absolute deviation: z = (ln s - median) / (1.4826 MAD).
A run that was interrupted is kept and shown, and is no part of what others are compared with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trialops.stores.objects import ObjectStore
from trialops.transfer.checkpoints import Checkpoint
from trialops.transfer.policy import Policy

PREFIX = "transfer/durations"


@dataclass(frozen=True)
class Judged:
    """One job of one run.

    Attributes:
        label: Step, and part where there is one.
        seconds: Wall time.
        runs: Uninterrupted earlier runs it is compared with.
        usual: Their median, seconds; None with too few.
        z: Robust z of the log duration; None with too few.
    """

    label: str
    seconds: float
    runs: int
    usual: float | None
    z: float | None

    @property
    def excess(self) -> float:
        """Seconds over the usual; 0 where that is not known."""
        return 0.0 if self.usual is None else max(self.seconds - self.usual, 0.0)


@dataclass(frozen=True)
class Bottleneck:
    """The job that holds a run up, and why it is named: `slower than usual`, or `longest`."""

    label: str
    why: str
    seconds: float
    share: float


def note(objects: ObjectStore, checkpoint: Checkpoint, policy: Policy) -> None:
    """Keep the duration of a job that succeeded; the same one again changes nothing."""
    seconds = checkpoint.seconds
    if not checkpoint.done or seconds is None:
        return
    line = {
        "run_id": checkpoint.run_id,
        "part": checkpoint.part,
        "seconds": round(seconds, 3),
        "finished": checkpoint.finished,
        "interrupted": checkpoint.resumes > 0 or checkpoint.attempt > 1,
    }
    key = f"{PREFIX}/{checkpoint.step}.json"
    most = int(policy.durations["history"])
    while True:
        try:
            data, tag = objects.get_tagged(key)
        except KeyError:
            if objects.put(key, _dump([line]), if_absent=True):
                return
            continue
        lines = json.loads(data)
        if any(one["run_id"] == line["run_id"] and one["part"] == line["part"] for one in lines):
            return
        parts = len({one["part"] for one in lines} | {checkpoint.part})
        if objects.replace(key, _dump([*lines, line][-most * parts :]), tag):
            return


def history(objects: ObjectStore, step: str) -> list[dict[str, Any]]:
    """Durations of a step, oldest first."""
    try:
        return list(json.loads(objects.get(f"{PREFIX}/{step}.json")))
    except KeyError:
        return []


def judge(label: str, seconds: float, before: Sequence[float], policy: Policy) -> Judged:
    """Compare a duration with earlier ones."""
    if len(before) < int(policy.durations["least"]):
        return Judged(label, seconds, len(before), None, None)
    logs = sorted(math.log(max(value, 1e-3)) for value in before)
    centre = _median(logs)
    spread = max(1.4826 * _median(sorted(abs(value - centre) for value in logs)), policy.durations["least_spread"])
    z = (math.log(max(seconds, 1e-3)) - centre) / spread
    return Judged(label, seconds, len(before), round(math.exp(centre), 3), round(z, 2))


def judge_run(objects: ObjectStore, checkpoints: Sequence[Checkpoint], policy: Policy) -> list[Judged]:
    """Every finished job of a run against the runs before it."""
    known: Mapping[str, list[dict[str, Any]]] = {
        step: history(objects, step) for step in sorted({c.step for c in checkpoints})
    }
    found = []
    for checkpoint in checkpoints:
        seconds = checkpoint.seconds
        if not checkpoint.done or seconds is None:
            continue
        before = [
            float(one["seconds"])
            for one in known[checkpoint.step]
            if one["part"] == checkpoint.part
            and one["run_id"] != checkpoint.run_id
            and not one["interrupted"]
            and one["finished"] < checkpoint.finished
        ]
        found.append(judge(checkpoint.label, seconds, before, policy))
    return found


def judge_newest(known: Mapping[str, Sequence[Mapping[str, Any]]], policy: Policy) -> list[Judged]:
    """The newest duration of every job against those before, in the order of `known`."""
    found = []
    for step, lines in known.items():
        for part in sorted({str(line["part"]) for line in lines}):
            own = [line for line in lines if line["part"] == part]
            before = [float(line["seconds"]) for line in own[:-1] if not line["interrupted"]]
            found.append(judge(f"{step} {part}".strip(), float(own[-1]["seconds"]), before, policy))
    return found


def bottleneck(judged: Sequence[Judged], policy: Policy) -> Bottleneck | None:
    """The job most seconds over its usual, of those unusually slow; else the longest; None where nothing ended."""
    total = sum(one.seconds for one in judged)
    if not judged or total <= 0:
        return None
    slow = [one for one in judged if one.z is not None and one.z >= policy.durations["z"]]
    if slow:
        worst = max(slow, key=lambda one: (one.excess, one.label))
        return Bottleneck(worst.label, "slower than usual", worst.seconds, worst.seconds / total)
    longest = max(judged, key=lambda one: (one.seconds, one.label))
    return Bottleneck(longest.label, "longest", longest.seconds, longest.seconds / total)


def _median(values: Sequence[float]) -> float:
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _dump(lines: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps(list(lines), indent=0, sort_keys=True).encode()
