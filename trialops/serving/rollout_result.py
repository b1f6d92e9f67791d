"""What a rollout is about, and what it comes to: plan, result, and their JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trialops.serving.analysis import OVERALL
from trialops.serving.samples import Check, Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trialops.stores.rollouts import RolloutEvent

PROMOTE: Literal["promote"] = "promote"
ROLLBACK: Literal["rollback"] = "rollback"


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


def result_of(events: Sequence[RolloutEvent], plan: Plan, *, seconds: float = 0.0) -> CanaryResult:
    """What a rollout's rows come to.

    Args:
        events: Its rows, with a decision among them or an abortion at the end.
        plan: What was rolled out.
        seconds: Wall time.
    """
    judged = [event for event in events if event.event == "judged"]
    checks = [check for event in judged for check in checks_of(event)]
    ended = next((e for e in reversed(events) if e.event == "aborted"), None)
    decided = ended or next(event for event in events if event.event == "decided")
    return CanaryResult(
        decision=ROLLBACK if ended is not None else decided.detail["decision"],
        steps=tuple(event.detail["record"] for event in judged),
        checks=(*checks, *checks_of(decided)),
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


def checks_of(event: RolloutEvent) -> list[Check]:
    """The checks a row holds."""
    return [Check(**document) for document in event.detail.get("checks", ())]


def step_record(samples: Samples, attempt: int, passed: bool) -> dict[str, Any]:
    """Counts, errors and latencies of one attempt at a step."""
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
