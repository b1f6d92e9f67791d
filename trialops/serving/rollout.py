"""The controller of a rollout: shadow, growing shares, analysis after each, promotion or rollback, by itself.

Everything it must remember is in the journal (`trialops.stores.rollouts`) and in the router's record. Killed at any
point, it leaves traffic as it was; started again with the same id it goes on where it stood.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from trialops.errors import TrialOpsError
from trialops.serving.analysis import OVERALL, Check, Samples, analyse, analyse_run, harm
from trialops.serving.observation import Observer, Truth
from trialops.stores.rollouts import FINAL, RolloutEvent, RolloutTaken, append_event, rollout_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from trialops.serving.policy import CanaryPolicy
    from trialops.serving.traffic import Traffic

    Progress = Callable[[str, float], None]

PROMOTE: Literal["promote"] = "promote"
ROLLBACK: Literal["rollback"] = "rollback"
LEADING_SECONDS = 1.0
"""Longest time between two looks at whether somebody else has taken the rollout over or ended it."""


@dataclass(frozen=True)
class Plan:
    """What is rolled out.

    Attributes:
        rollout: Id; the same id goes on with the same rollout.
        model: Registered model.
        candidate: Version on trial.
        stable: Version in use; empty for a first release, which is judged on its own.
        candidate_digest: Digest the candidate's answers must name.
        stable_digest: Digest the stable model's answers must name.
        actor: Who, or which service.
        run_id: The run it belongs to.
    """

    rollout: str
    model: str
    candidate: str
    stable: str
    candidate_digest: str = ""
    stable_digest: str = ""
    actor: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class CanaryResult:
    """The decision and everything it was made from.

    Attributes:
        decision: "promote" or "rollback".
        steps: One record per step and attempt: counts, errors, latencies, verdict.
        checks: Every check made, in order; percent -1 is the whole run.
        reasons: Why it was rolled back; empty for a promotion.
        seconds: Wall time of the process that concluded it.
        candidate_digest: Bundle digest; empty when the bundle could not be read.
        stable_digest: Bundle digest; empty without a stable model.
        policy_digest: Of the policy applied.
        rollout: Id of its rows in the journal; empty when it never began.
    """

    decision: Literal["promote", "rollback"]
    steps: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    seconds: float
    candidate_digest: str
    stable_digest: str
    policy_digest: str
    rollout: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON values, for a step record, a page or the promotion log."""
        record = asdict(self)
        for key in ("steps", "checks", "reasons"):
            record[key] = list(record[key])
        record["checks"] = [check_document(check) for check in self.checks]
        return record


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
                if done is None:
                    self._progress(f"{percent} % to the candidate", number / len(self._percents))
                    samples, checks = self._step(number, attempt, percent, before)
                    failed = [check for check in checks if check.passed is False]
                else:
                    samples = self._observer.samples(number, attempt, percent, self._truth())
                    failed = [check for check in _checks(done) if check.passed is False]
                before.append(samples)
                if not failed or not all(check.name.startswith("latency") for check in failed):
                    break
            if failed:
                self._note("decided", detail={"decision": ROLLBACK, "reasons": [reason(check) for check in failed]})
                return
        every = [check for event in self._events if event.event == "judged" for check in _checks(event)]
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
        checks = analyse(samples, policy, before)
        passed = all(check.passed is not False for check in checks)
        record = _step_record(samples, attempt, passed) | asdict(observer.counts(number, attempt))
        self._note(
            "judged",
            number,
            attempt,
            percent,
            {"record": record, "checks": [check_document(check) for check in checks]},
        )
        return samples, checks

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


def result_of(events: Sequence[RolloutEvent], plan: Plan, *, seconds: float = 0.0) -> CanaryResult:
    """What a rollout's rows come to.

    Args:
        events: Its rows, with a decision among them or an abortion at the end.
        plan: What was rolled out.
        seconds: Wall time.
    """
    judged = [event for event in events if event.event == "judged"]
    checks = [check for event in judged for check in _checks(event)]
    ended = next((e for e in reversed(events) if e.event == "aborted"), None)
    decided = ended or next(event for event in events if event.event == "decided")
    return CanaryResult(
        decision=ROLLBACK if ended is not None else decided.detail["decision"],
        steps=tuple(event.detail["record"] for event in judged),
        checks=(*checks, *_checks(decided)),
        reasons=tuple(decided.detail["reasons"]),
        seconds=seconds,
        candidate_digest=plan.candidate_digest,
        stable_digest=plan.stable_digest,
        policy_digest=events[0].policy_digest,
        rollout=plan.rollout,
    )


def check_document(check: Check) -> dict[str, Any]:
    """A check as JSON values; a value that is not finite becomes None, with a note."""
    document = asdict(check)
    for key in ("stable", "candidate", "limit"):
        value = document[key]
        if value is not None and not np.isfinite(value):
            document[key], document["note"] = None, f"{document['note']} {key} not finite".strip()
    return document


def _checks(event: RolloutEvent) -> list[Check]:
    return [Check(**document) for document in event.detail.get("checks", ())]


def _step_record(samples: Samples, attempt: int, passed: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"percent": samples.percent, "attempt": attempt, "passed": passed}
    for name, arm in (("candidate", samples.candidate), ("stable", samples.stable)):
        record[f"{name}_requests"] = len(arm.ok) if arm is not None else 0
        record[f"{name}_errors"] = arm.errors if arm is not None else 0
        for q in (50, 99):
            seconds = arm.quantile(q / 100) if arm is not None else None
            record[f"{name}_p{q}_ms"] = None if seconds is None else round(seconds * 1000, 3)
    return record


def reason(check: Check) -> str:
    """A failed check in words and numbers."""
    where = "whole run" if check.percent == OVERALL else f"step {check.percent} %"
    values = [f"candidate {check.candidate:.4g}" if check.candidate is not None else "candidate unknown"]
    if check.stable is not None:
        values.append(f"stable {check.stable:.4g}")
    note = f" ({check.note})" if check.note else ""
    return f"{where}: {check.name} {', '.join(values)}, limit {check.limit:.4g}, n {check.n}{note}"
