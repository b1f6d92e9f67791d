"""The controller of a rollout: shadow, growing shares, analysis after each, promotion or rollback, by itself.

Everything it must remember is in the journal (`trialops.stores.rollouts`) and in the router's record. Killed at any
point, it leaves traffic as it was; started again with the same id it goes on where it stood.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from trialops.errors import TrialOpsError
from trialops.serving.analysis import analyse, analyse_run
from trialops.serving.guards import harm
from trialops.serving.observation import Observer, Truth
from trialops.serving.rollout_result import (
    PROMOTE,
    ROLLBACK,
    CanaryResult,
    Plan,
    check_document,
    checks_of,
    reason,
    result_of,
    step_record,
)
from trialops.serving.samples import Check, Samples
from trialops.stores.rollouts import FINAL, RolloutEvent, RolloutTaken, append_event, rollout_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from trialops.serving.policy import CanaryPolicy
    from trialops.serving.traffic import Traffic

    Progress = Callable[[str, float], None]

LEAST_REACHED = 0.25
"""Least part of the requests due to a candidate in a step that have to have come to it; shares of few subjects vary."""
LEADING_SECONDS = 1.0
"""Longest time between two looks at whether somebody else has taken the rollout over or ended it."""


class Source(Protocol):
    """Where a step's requests come from."""

    def advance(self, step: int, attempt: int, seen: Mapping[str, Any], want: int) -> bool:
        """Bring the step some requests further.

        Args:
            step: Number of the step.
            attempt: Attempt at it.
            seen: Requests recorded by now, by id.
            want: How many there should be.

        Returns:
            False when there will be no more.
        """
        ...


class LiveTraffic:
    """Waits for what callers send by themselves.

    Args:
        poll_seconds: Time between two looks at the record.
        most_seconds: Longest wait for the requests of one attempt at a step.
    """

    def __init__(self, *, poll_seconds: float = 1.0, most_seconds: float = 86_400.0) -> None:
        self._poll, self._most = poll_seconds, most_seconds
        self._begun: dict[tuple[int, int], float] = {}

    def advance(self, step: int, attempt: int, seen: Mapping[str, Any], want: int) -> bool:
        """Wait a moment; False when the step has waited too long."""
        begun = self._begun.setdefault((step, attempt), time.monotonic())
        if time.monotonic() - begun > self._most:
            return False
        time.sleep(self._poll)
        return True


class Rollout:
    """Leads one rollout.

    Args:
        plan: What is rolled out.
        policy: Steps and limits.
        traffic: What carries the traffic.
        observer: The record of it.
        source: Where requests come from.
        engine: The journal's database, migrated.
        live: Whether callers send what they like, so that the policy's list of required checks for that holds.
        truth: Called at each look for outcomes and offline predictions known by then.
        conclude: Called with the result once traffic follows the decision (to move the alias); may be called
            again after a crash, so it must be repeatable.
        progress: Called with a message and the fraction done.
    """

    def __init__(
        self,
        plan: Plan,
        policy: CanaryPolicy,
        traffic: Traffic,
        observer: Observer,
        source: Source,
        engine: Engine,
        *,
        live: bool = False,
        truth: Callable[[], Truth] = Truth,
        conclude: Callable[[CanaryResult], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._plan, self._policy, self._traffic, self._observer = plan, policy, traffic, observer
        self._source, self._engine, self._truth, self._live = source, engine, truth, live
        self._conclude = conclude or (lambda result: None)
        self._progress = progress or (lambda message, fraction: None)
        self._events: list[RolloutEvent] = []
        self._percents = policy.steps_percent if plan.stable else (100,)
        self._started = time.perf_counter()
        self._checked = time.monotonic()

    def run(self) -> CanaryResult:
        """Begin the rollout, or go on with it, to its end.

        Returns:
            The decision; of a rollout that has ended before, what it ended with.

        Raises:
            RolloutTaken: Another controller leads it.
            TrialOpsError: It was begun with other models or another policy.
        """
        try:
            return self._run()
        except RolloutTaken:
            self._events = rollout_events(self._engine, self._plan.rollout)
            if self._events and self._events[-1].event == "aborted":
                return self._result()
            raise

    def _run(self) -> CanaryResult:
        self._events = rollout_events(self._engine, self._plan.rollout)
        if self._events and self._events[-1].event in FINAL:
            return self._result()
        self._begin()
        if not self._decided():
            self._steps()
        result = self._result()
        self._still_leading()
        if result.decision == PROMOTE:
            self._traffic.promote()
        else:
            self._traffic.abort()
        self._conclude(result)
        self._note("concluded", detail={"decision": result.decision})
        self._progress("decided", 1.0)
        return result

    def _begin(self) -> None:
        plan = {key: value for key, value in asdict(self._plan).items() if key not in ("actor", "run_id")}
        if not self._events:
            self._note("started", detail={"plan": plan, "steps": list(self._percents)})
            return
        first = self._events[0]
        if first.detail["plan"] != plan or first.policy_digest != self._policy.digest:
            raise TrialOpsError(
                "the rollout was begun with other models or under another policy",
                where=f"rollout {self._plan.rollout}",
                fix="end it (trialops rollback) and begin another",
            )
        self._note("resumed")

    def _steps(self) -> None:
        policy, before = self._policy, list[Samples]()
        judged = {(e.step, e.attempt): e for e in self._events if e.event == "judged"}
        self._observer.update()
        for number, percent in enumerate(self._percents):
            for attempt in range(1, policy.latency_attempts + 1):
                done = judged.get((number, attempt))
                # A step whose record is lost (a pod's disk) is taken again: its requests count in what follows.
                if done is None or not self._observer.seen(number, attempt):
                    self._progress(f"{percent} % to the candidate", number / len(self._percents))
                    samples, checks = self._step(number, attempt, percent, before)
                    failed = [check for check in checks if check.passed is False]
                else:
                    samples = self._observer.samples(number, attempt, percent, self._truth())
                    failed = [check for check in checks_of(done) if check.passed is False]
                before.append(samples)
                if not failed or not all(check.name.startswith("latency") for check in failed):
                    break
            if failed:
                self._note("decided", detail={"decision": ROLLBACK, "reasons": [reason(check) for check in failed]})
                return
        every = [check for event in self._events if event.event == "judged" for check in checks_of(event)]
        overall = analyse_run(before, every, policy, live=self._live)
        reasons = [reason(check) for check in overall if check.passed is False]
        self._note(
            "decided",
            detail={
                "decision": ROLLBACK if reasons else PROMOTE,
                "reasons": reasons,
                "checks": [check_document(check) for check in overall],
            },
        )

    def _step(
        self, number: int, attempt: int, percent: int, before: Sequence[Samples]
    ) -> tuple[Samples, tuple[Check, ...]]:
        policy, observer = self._policy, self._observer
        if not any(e.event == "step" and (e.step, e.attempt) == (number, attempt) for e in self._events):
            self._note("step", number, attempt, percent)
        self._traffic.set_share(percent, step=number, attempt=attempt)
        self._lead_or_let_go()
        looked = 0
        # Mirrored, every request tells about the candidate; else those of its share alone, and the others count too.
        mirrored = policy.mirror or not self._plan.stable

        def progress() -> int:
            return observer.answered(number, attempt) if mirrored else len(observer.seen(number, attempt))

        while (have := progress()) < policy.requests_per_step:
            if time.monotonic() - self._checked > LEADING_SECONDS:
                self._still_leading()
            if have - looked >= policy.look_every:
                looked = have
                self._still_leading()
                samples = observer.samples(number, attempt, percent, self._truth())
                if any(check.passed is False for check in harm(samples, policy, before)):
                    break
            if observer.failing(number, attempt, policy.max_consecutive_failures):
                break
            want = min(have + policy.look_every, policy.requests_per_step)
            if not self._source.advance(number, attempt, observer.seen(number, attempt), want):
                break
            observer.update()
        samples = observer.samples(number, attempt, percent, self._truth())
        checks = (*analyse(samples, policy, before), self._reached(number, attempt, percent, mirrored))
        passed = all(check.passed is not False for check in checks)
        record = step_record(samples, attempt, passed) | asdict(observer.counts(number, attempt))
        self._note(
            "judged",
            number,
            attempt,
            percent,
            {"record": record, "checks": [check_document(check) for check in checks]},
        )
        return samples, checks

    def _reached(self, number: int, attempt: int, percent: int, mirrored: bool) -> Check:
        """Whether the step's requests came to the candidate at all.

        No other check fails for want of answers. Without this one a candidate that nobody could ask, because it was
        gone or the router had stopped asking it, would pass the step.
        """
        counts, asked = self._observer.counts(number, attempt), self._observer.answered(number, attempt)
        chosen = (counts.candidate_served + counts.fallbacks) / max(counts.requests, 1)
        parts = {f"asked about {asked} of {self._policy.requests_per_step}": asked / self._policy.requests_per_step}
        if not mirrored:
            parts = {f"{counts.requests} of {self._policy.requests_per_step} requests": float(counts.requests > 0)}
        if percent and self._plan.stable:
            parts[f"chosen for {chosen:.0%} of requests"] = chosen / (percent / 100)
        note, least = min(parts.items(), key=lambda item: item[1])
        return Check(percent, "reached", None, least, LEAST_REACHED, least >= LEAST_REACHED, asked, note)

    def _lead_or_let_go(self) -> None:
        """A person may have ended the rollout just before the share was set: then it is taken back."""
        try:
            self._still_leading()
        except RolloutTaken:
            if rollout_events(self._engine, self._plan.rollout)[-1].event == "aborted":
                self._traffic.abort()
            raise

    def _still_leading(self) -> None:
        self._checked = time.monotonic()
        rows = rollout_events(self._engine, self._plan.rollout)
        if len(rows) != len(self._events):
            raise RolloutTaken(
                "another controller leads this rollout, or a person has ended it",
                where=f"rollout {self._plan.rollout}",
                fix="look at its rows",
            )

    def _decided(self) -> bool:
        return any(event.event == "decided" for event in self._events)

    def _note(
        self, event: str, step: int = -1, attempt: int = 1, percent: float = 0.0, detail: Mapping[str, Any] = {}
    ) -> None:
        self._events.append(
            append_event(
                self._engine,
                self._plan.rollout,
                len(self._events) + 1,
                event,
                model=self._plan.model,
                step=step,
                attempt=attempt,
                percent=percent,
                detail=detail,
                policy_digest=self._policy.digest,
                actor=self._plan.actor,
                run_id=self._plan.run_id,
            )
        )

    def _result(self) -> CanaryResult:
        plan = self._plan
        return result_of(self._events, plan, seconds=time.perf_counter() - self._started)
