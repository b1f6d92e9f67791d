"""The quality gate: mark the version validated, or fall back to the last one that was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.quality.engine import QualityReport
    from trialops.stores.context import Step
    from trialops.stores.refs import Snapshot


@dataclass(frozen=True)
class Gate:
    """What passed: ``outcome`` and the tables to use. "fail" is for reporting alone: nothing was stopped."""

    outcome: Literal["pass", "fallback", "fail"]
    snapshot: Snapshot


MODES = ("fallback", "block", "report")


def apply_gate(run: Step, snapshot: Snapshot, report: QualityReport, dataset: str, mode: str = "fallback") -> Gate:
    """Decide by the score, record the decision, and name the tables later steps may use.

    Args:
        run: The step.
        snapshot: The tables judged.
        report: What the rules found.
        dataset: Name of the chain of validated versions.
        mode: What a failed gate does. "fallback": later steps use the last validated version, and an alert is raised;
            the failing version stays where it is. "block": the step fails. "report": the decision and the alert are
            recorded, and nothing is marked validated, whatever the score.

    Raises:
        TrialOpsError: The mode is unknown; the gate failed and the mode is "block", or there is no validated version
            to fall back to.
    """
    if mode not in MODES:
        raise TrialOpsError(f"There is no gate mode {mode!r}", where="quality gate", fix=f"Use {', '.join(MODES)}.")
    numbers = {"score": round(report.score, 4), "threshold": report.threshold, **report.findings}
    policy = {"rules": report.rules_version, "gate": f"score >= {report.threshold:g}"}
    why = f"The data quality score is {report.score:.2f}, below the gate of {report.threshold:g}"
    fix = "Read the findings on the step's page; have the site correct the data, or review the rules."
    if mode == "report" or (mode == "block" and not report.passed):
        decision: Literal["pass", "fail"] = "pass" if report.passed else "fail"
        if not report.passed:
            run.audit("alert.quality", dataset, snapshot.digest, reason=why, **numbers)
        run.decide(decision, numbers=numbers, policy={**policy, "mode": mode})
        if mode == "block":
            raise TrialOpsError(why, where=f"data set {dataset}", fix=fix)
        return Gate(decision, snapshot)
    if report.passed:
        manifest = run.lake.mark_validated(dataset, snapshot, report.decision(), run_id=run.run_id)
        run.decide("pass", numbers={**numbers, "validated": manifest.sequence}, policy=policy)
        return Gate("pass", snapshot)
    return fall_back(
        run,
        dataset,
        why,
        fix=fix,
        numbers=numbers,
        policy=policy,
    )


def fall_back(
    run: Step, dataset: str, why: str, *, fix: str, numbers: Mapping[str, Any], policy: Mapping[str, Any]
) -> Gate:
    """Use the newest validated version that still verifies, and raise an alert.

    Raises:
        TrialOpsError: There is none.
    """
    damaged: list[str] = []
    last = run.lake.last_validated(dataset, skipped=damaged)
    for place in damaged:
        run.audit("alert.integrity", dataset, place, reason="a validated version does not verify any more")
    if last is None:
        run.decide("fail", numbers=numbers, policy=policy)
        raise TrialOpsError(f"{why}, and no earlier version can be used", where=f"data set {dataset}", fix=fix)
    run.audit(
        "alert.quality", dataset, str(last.sequence), reason=f"{why}: using the last validated version", **numbers
    )
    run.decide("fallback", numbers={**numbers, "validated": last.sequence}, policy=policy)
    return Gate("fallback", last.snapshot)
