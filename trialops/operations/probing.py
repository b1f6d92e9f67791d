"""Asking services: several at once, each with a time limit that holds even where a library waits for ever.

A probe is a generator of findings. The first says whether the service can be reached at all, so that a quick look takes
one of them. What was found before the limit counts; what was not found is unknown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

from trialops.operations.health import Finding, State
from trialops.operations.reach import trouble

if TYPE_CHECKING:
    from trialops.settings import Settings

PROBES: Mapping[str, str] = {
    "database": "trialops.operations.probe_database",
    "objects": "trialops.operations.probe_objects",
    "mlflow": "trialops.operations.probe_mlflow",
    "features": "trialops.operations.probe_features",
    "redis": "trialops.operations.probe_redis",
    "kafka": "trialops.operations.probe_kafka",
    "spark": "trialops.operations.probe_spark",
    "model": "trialops.operations.probe_model",
    "kserve": "trialops.operations.probe_kserve",
}
"""Kind of service -> the module whose `probe` asks it."""


@dataclass(frozen=True)
class Ask:
    """One service to ask.

    Attributes:
        name: The component of its findings.
        kind: Key of PROBES.
        address: Where it is; may hold a password and is never shown.
        variable: Setting to correct where the address is wrong.
        settings: Everything else.
        seconds: Limit of one question.
        limits: Thresholds by name.
        feature_pipelines: Pipelines that make features.
        now: The time.
    """

    name: str
    kind: str
    address: str
    variable: str
    settings: Settings
    seconds: float = 5.0
    limits: Mapping[str, float] = field(default_factory=dict)
    feature_pipelines: tuple[str, ...] = ()
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def say(
        self,
        check: str,
        state: State,
        detail: str,
        *,
        asked: str = "",
        fix: str = "",
        value: float | None = None,
        threshold: float | None = None,
    ) -> Finding:
        """A finding about this service."""
        return Finding(self.name, check, state, detail, value, threshold, fix if state != "healthy" else "", asked)

    def judge(
        self, check: str, value: float, limit: str, detail: str, *, asked: str, fix: str, broken: str = ""
    ) -> Finding:
        """A figure against its thresholds by name: degraded above `limit`, broken above `broken` where given."""
        worse = self.limits[broken] if broken else None
        state: State = "healthy"
        threshold = self.limits[limit]
        if worse is not None and value > worse:
            state, threshold = "broken", worse
        elif value > threshold:
            state = "degraded"
        return self.say(check, state, detail, asked=asked, fix=fix, value=round(value, 6), threshold=threshold)

    def failed(self, check: str, error: BaseException, *, asked: str = "") -> Finding:
        """What an error says of this service."""
        met = trouble(error, self.seconds)
        return self.say(check, met.state, met.detail, asked=asked, fix=f"{met.fix} ({self.variable})")


Probe = Callable[[Ask], Iterator[Finding]]


def probe_of(kind: str) -> Probe:
    """The probe for a kind of service."""
    found: Probe = import_module(PROBES[kind]).probe
    return found


def ask_all(asks: Sequence[Ask], *, seconds: float, quick: bool = False) -> list[Finding]:
    """Ask services side by side.

    Args:
        asks: The services.
        seconds: Limit for each.
        quick: Only whether each can be reached.

    Returns:
        At least one finding of each service, in the order of `asks`.
    """
    looks = [_Look(one, quick) for one in asks]
    for look in looks:
        look.start()
    until = time.monotonic() + seconds
    found: list[Finding] = []
    for look in looks:
        look.join(max(0.0, until - time.monotonic()))
        found += look.result(seconds)
    return found


class _Look(threading.Thread):
    """One service asked in a thread; one that never comes back is left behind and does not hold up the process."""

    def __init__(self, ask: Ask, quick: bool) -> None:
        super().__init__(name=f"probe {ask.name}", daemon=True)
        self._ask, self._quick = ask, quick
        self._found: list[Finding] = []

    def run(self) -> None:
        last = "reach"
        try:
            findings = probe_of(self._ask.kind)(self._ask)
            with closing(findings):  # type: ignore[type-var]
                for found in findings:
                    last = found.check
                    self._found.append(found)
                    if self._quick:
                        return
        except Exception as error:
            self._found.append(self._ask.failed("complete" if last == "reach" else f"after {last}", error))

    def result(self, seconds: float) -> list[Finding]:
        """What was found so far."""
        found = list(self._found)
        if self.is_alive() and not (self._quick and found):
            after = f" after {found[-1].check}" if found else ""
            detail = f"the time limit of {seconds:g} s ran out{after}"
            fix = f"Find out whether it hangs; restart it if it does. ({self._ask.variable})"
            found.append(self._ask.say("answers in time", "unknown", detail, fix=fix, threshold=seconds))
        if not found:
            found.append(self._ask.say("reach", "unknown", "nothing was found out"))
        return [replace(one, component=self._ask.name) for one in found]
