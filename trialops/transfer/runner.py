"""The transfer without Argo: the same steps in the same order, and what ends a run wherever it ran."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trialops.transfer import durations
from trialops.transfer.checkpoints import Checkpoint
from trialops.transfer.failures import TransferFailure
from trialops.transfer.graph import NODES, Outcome, holds
from trialops.transfer.steps import Transfer


@dataclass(frozen=True)
class Ended:
    """How a run ended: succeeded, degraded (a fallback was used) or failed; outcome by step, and its page."""

    state: str
    outcomes: dict[str, Outcome]
    page: str


def run_all(transfer: Transfer, *, sleep: Callable[[float], None] = time.sleep) -> Ended:
    """Run every step whose condition holds, in order; retry what may be retried; end the run.

    A run that died is gone on with by calling again with the same run id.
    """
    outcomes: dict[str, Outcome] = {}
    for node in NODES:
        outcomes[node.name] = _walk(transfer, node.name, sleep) if holds(node.depends, outcomes) else "Omitted"
    return finish(transfer, outcomes)


def _walk(transfer: Transfer, step: str, sleep: Callable[[float], None]) -> Outcome:
    tried = 0
    while True:
        try:
            transfer.run_step(step)
            return "Succeeded"
        except TransferFailure as failure:
            tried += 1
            if failure.kind != "retryable" or tried > int(transfer.policy.retry["limit"]):
                transfer.told(f"{step}: {failure.what}")
                return "Failed"
            sleep(transfer.policy.retry_delay(tried))


def finish(transfer: Transfer, outcomes: dict[str, Outcome] | None = None) -> Ended:
    """End a run: raise what is still due, keep durations, name the bottleneck, write the page.

    May die anywhere and be called again. What the orchestrator says of the run is not asked: the checkpoints know.
    """
    from trialops.alerts.raise_alert import raise_alert
    from trialops.pages import render
    from trialops.stores.context import step as step_context
    from trialops.transfer import alerts
    from trialops.transfer.page import run_page

    trial, run_id = transfer.config.trial, transfer.run_id
    with step_context("transfer-finish", run=run_id, trial=trial) as run:
        untold = [c.label for c in transfer.checkpoints.of_run(run_id) if not transfer.tell(run, c)]
        known = transfer.checkpoints.of_run(run_id)
        state = state_of(known, transfer)
        if state == "failed":
            raise_alert(run, alerts.stopped(trial, run_id, unfinished(known, transfer)))
        for checkpoint in known:
            durations.note(transfer.objects, checkpoint, transfer.policy)
        judged = durations.judge_run(transfer.objects, known, transfer.policy)
        found = durations.bottleneck(judged, transfer.policy)
        if found is not None and found.why == "slower than usual":
            raise_alert(run, alerts.slow(trial, run_id, found))
        page = run_page(trial, run_id, state, known, judged, found, transfer.policy)
        key = f"transfer/runs/{run_id}/page.html"
        transfer.objects.put(key, render(page).encode())
        run.metrics |= {"state": state, "resumes": sum(c.resumes for c in known)}
        run.audit("transfer.finish", trial, state, result=result_of(known), bottleneck=found.label if found else "")
        if untold:
            raise TransferFailure("retryable", f"{len(untold)} alerts could not be raised", where=", ".join(untold))
    return Ended(state, outcomes or {}, key)


def state_of(known: list[Checkpoint], transfer: Transfer) -> str:
    """What a run's checkpoints say: succeeded, degraded or failed."""
    done = {(c.step, c.part) for c in known if c.done}
    if ("report", "") not in done:
        return "failed"
    return "degraded" if ("fallback", "") in done else "succeeded"


def unfinished(known: list[Checkpoint], transfer: Transfer) -> str:
    """The first step of the order that is not done, apart from a fallback that was not needed."""
    done = {(c.step, c.part) for c in known if c.done}
    for node in NODES:
        if node.name == "fallback" or (node.name in ("extract", "validate") and ("fallback", "") in done):
            continue
        if any((node.name, part) not in done for part in transfer.config.parts(node.name)):
            return node.name
    return NODES[-1].name


def result_of(known: list[Checkpoint]) -> dict[str, Any]:
    """What a run came to: evidence and token by job, without times and processes; the same however often it died."""
    return {
        c.label: {"state": c.state, "attempt": c.attempt, "token": c.token, "evidence": dict(c.evidence)} for c in known
    }
