"""What a transfer tells people: names of steps and codes, nothing of a delivery's content."""

from __future__ import annotations

from trialops.alerts.raise_alert import Alert
from trialops.transfer.checkpoints import Checkpoint
from trialops.transfer.durations import Bottleneck

RUNBOOK = "transfer"


def alert_of(checkpoint: Checkpoint, trial: str) -> Alert:
    """The alert a checkpoint stands for: a fallback, or a step that failed for good."""
    labels = {"area": "transfer", "trial": trial, "step": checkpoint.step, "run_id": checkpoint.run_id}
    if checkpoint.part:
        labels["part"] = checkpoint.part
    if checkpoint.done:
        version, why = checkpoint.evidence.get("version"), checkpoint.evidence.get("why") or "integrity error"
        return Alert(
            "TransferFallback",
            "warning",
            labels,
            f"The transfer of {trial} goes on with validated version {version}: {why} in what was delivered.",
            RUNBOOK,
        )
    code = checkpoint.failure.get("code") or checkpoint.failure.get("kind", "")
    what = f"Step {checkpoint.label} of the transfer of {trial} failed: {code}."
    return Alert("TransferStepFailed", "critical", labels, what, RUNBOOK)


def stopped(trial: str, run_id: str, step: str) -> Alert:
    """A run that ended without its last step."""
    labels = {"area": "transfer", "trial": trial, "step": step, "run_id": run_id}
    return Alert(
        "TransferStopped", "critical", labels, f"The transfer of {trial} ended before {step} was done.", RUNBOOK
    )


def slow(trial: str, run_id: str, found: Bottleneck) -> Alert:
    """A job that took unusually long."""
    labels = {"area": "transfer", "trial": trial, "step": found.label, "run_id": run_id}
    what = f"{found.label} of the transfer of {trial} took far longer than it usually does."
    return Alert("TransferSlow", "info", labels, what, RUNBOOK)
