"""One verdict over windows: a single bad one is watched, two of five start a retraining.

A window is one look at evidence that is new. Looking again at the same evidence adds no window: a pipeline that runs
every two hours would else count one finding until it acts on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trialops.models.record import plain
from trialops.models.task import Reader, read_yaml
from trialops.stores.chain_log import ChainLog
from trialops.stores.objects import ObjectStore

SHIPPED = Path(__file__).parent / "policies" / "monitoring.yaml"
#: What a part of the monitoring may say that counts against the model.
BAD = frozenset({"degraded", "miscalibrated", "concept drift", "drift"})
UNKNOWN = "insufficient evidence"
State = Literal["healthy", "watch", "retrain", "waiting", "unknown"]


@dataclass(frozen=True)
class MonitoringPolicy:
    """Limits of the monitoring; the fields are explained in policies/monitoring.yaml."""

    name: str
    confidence_level: float
    landmark_slack_days: int
    min_subjects: int
    min_events: int
    max_relative_drop: float
    max_intercept: float
    slope: tuple[float, float]
    concept_delta: float
    concept_least: int
    site_false_discovery_rate: float
    site_min_subjects: int
    windows: int
    bad: int
    rest: int
    digest: str

    def as_dict(self) -> dict[str, Any]:
        """The policy as JSON values."""
        return plain(self)


def load_policy(source: Path = SHIPPED) -> MonitoringPolicy:
    """Load and check a monitoring policy.

    Raises:
        TrialOpsError: The file is missing or a key is missing, unknown or out of range.
    """
    content = read_yaml(source)
    top = Reader(content, source)
    calibration, concept = top.section("calibration"), top.section("concept")
    sites, retraining = top.section("sites"), top.section("retraining")
    slope = calibration.get("slope", list)
    if len(slope) != 2 or not all(isinstance(v, int | float) for v in slope) or not 0 < slope[0] < 1 < slope[1]:
        raise calibration.refuse("slope", "The value must be two numbers around 1.", "Write [0.7, 1.4].")
    windows = retraining.whole("windows", 1, 100)
    policy = MonitoringPolicy(
        name=top.get("name", str),
        confidence_level=top.number("confidence_level", 0.5, 0.999),
        landmark_slack_days=top.whole("landmark_slack_days", 0, 365),
        min_subjects=top.whole("min_subjects", 2),
        min_events=top.whole("min_events", 2),
        max_relative_drop=top.number("max_relative_drop", 0.0, 0.5),
        max_intercept=calibration.number("max_intercept", 0.0, 5.0),
        slope=(float(slope[0]), float(slope[1])),
        concept_delta=concept.number("delta", 1e-6, 0.5),
        concept_least=concept.whole("least", 10),
        site_false_discovery_rate=sites.number("false_discovery_rate", 0.0, 0.5),
        site_min_subjects=sites.whole("min_subjects", 2),
        windows=windows,
        bad=retraining.whole("bad", 1, windows),
        rest=retraining.whole("rest", 0, 100),
        digest=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
    )
    for reader in (top, calibration, concept, sites, retraining):
        reader.done()
    return policy


@dataclass(frozen=True)
class Window:
    """One look at new evidence.

    Attributes:
        sequence: 1, 2, 3, ... over the life of the task.
        model: "version:digest" of the model in use.
        evidence: SHA-256 of what was looked at.
        parts: Part of the monitoring -> what it said.
        state: What was concluded then.
        run_id: The run that looked.
    """

    sequence: int
    model: str
    evidence: str
    parts: Mapping[str, str]
    state: str
    run_id: str

    @property
    def bad(self) -> bool:
        """Whether any part counts against the model."""
        return any(verdict in BAD for verdict in self.parts.values())


@dataclass(frozen=True)
class Verdict:
    """What the windows of a model come to.

    Attributes:
        state: "healthy"; "watch", some window is bad but too few; "retrain", enough are, and it is asked for now;
            "waiting", it was asked for in one of the last windows; "unknown", nothing could be judged.
        bad: Bad windows among those that count.
        windows: Windows that count, oldest first.
        new: Whether this look added a window.
        asks: Number of the window of this evidence where it asks for a retraining, else 0. Said again at every look,
            so that a run that died before it passed the request on is made good by the next.
        reason: In words.
    """

    state: State
    bad: int
    windows: tuple[Window, ...]
    new: bool
    asks: int
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {**plain(self), "windows": [{**plain(window), "bad": window.bad} for window in self.windows]}


def conclude(history: Sequence[Window], parts: Mapping[str, str], policy: MonitoringPolicy) -> tuple[State, int, str]:
    """State, bad windows and reason, from the windows of one model before and what the parts say now."""
    recent = history[-(policy.windows - 1) :] if policy.windows > 1 else []
    now = sorted(f"{part}: {verdict}" for part, verdict in parts.items() if verdict in BAD)
    bad = sum(window.bad for window in recent) + bool(now)
    counted = f"{bad} of the last {len(recent) + 1} windows"
    if bad >= policy.bad:
        asked = [w for w in history[-policy.rest :] if w.state == "retrain"] if policy.rest else []
        if asked:
            return "waiting", bad, f"{counted} are bad; a retraining was asked for in window {asked[-1].sequence}"
        if now:
            return "retrain", bad, f"{counted} are bad: {'; '.join(now)}"
        return "watch", bad, f"{counted} are bad, but not this one"
    if bad:
        return "watch", bad, f"{counted} {'is' if bad == 1 else 'are'} bad: {'; '.join(now) or 'an earlier one'}"
    if all(verdict == UNKNOWN for verdict in parts.values()):
        return "unknown", 0, "no part of the monitoring has enough data to judge"
    return "healthy", 0, f"none of the last {len(recent) + 1} windows is bad"


class Windows:
    """The windows of a task, kept as a chain that shows when one was altered.

    Args:
        objects: Where they are kept.
        task: Prediction task.
    """

    def __init__(self, objects: ObjectStore, task: str) -> None:
        self._chain = ChainLog(objects, f"monitoring/{task}", "monitoring windows")

    def all(self) -> list[Window]:
        """Every window, oldest first."""
        return [
            Window(link.sequence, *(link.body[key] for key in ("model", "evidence", "parts", "state", "run_id")))
            for link in self._chain.links()
        ]

    def look(
        self, model: str, evidence: str, parts: Mapping[str, str], policy: MonitoringPolicy, *, run_id: str
    ) -> Verdict:
        """Conclude from what the parts say now, and keep it as a window where the evidence is new.

        Args:
            model: "version:digest" of the model in use; windows of other models do not count.
            evidence: SHA-256 of what was looked at.
            parts: Part of the monitoring -> what it says.
            policy: Limits.
            run_id: The run that looks.

        Returns:
            The verdict; for evidence that was seen before, the one given then.
        """
        before = [window for window in self.all() if window.model == model]
        seen = [number for number, window in enumerate(before) if window.evidence == evidence]
        if seen:
            last = before[seen[-1]]
            _, bad, reason = conclude(before[: seen[-1]], last.parts, policy)
            counted = tuple(before[: seen[-1] + 1][-policy.windows :])
            state: State = last.state if last.state != "retrain" else "waiting"  # type: ignore[assignment]
            asks = last.sequence if last.state == "retrain" else 0
            return Verdict(state, bad, counted, False, asks, f"nothing new since window {last.sequence}; {reason}")
        state, bad, reason = conclude(before, parts, policy)
        body = {"model": model, "evidence": evidence, "parts": dict(parts), "state": state, "run_id": run_id}

        def another_was_faster(chain: Any) -> Any:
            same = [link for link in chain if (link.body["model"], link.body["evidence"]) == (model, evidence)]
            return same[0] if same else None

        link = self._chain.append(body, unless=another_was_faster)
        window = Window(link.sequence, model, evidence, dict(parts), state, run_id)
        asks = window.sequence if state == "retrain" else 0
        return Verdict(state, bad, (*before, window)[-policy.windows :], True, asks, reason)
