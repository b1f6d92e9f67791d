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
    """What passed: ``outcome`` and the tables to use."""

    outcome: Literal["pass", "fallback"]
    snapshot: Snapshot


def apply_gate(run: Step, snapshot: Snapshot, report: QualityReport, dataset: str) -> Gate:
    """Decide by the score, record the decision, and name the tables later steps may use.

    A fallback reads at the last validated version and raises an alert; the failing version stays where it is.

    Raises:
        TrialOpsError: The gate failed and there is no validated version to fall back to.
    """
    numbers = {"score": round(report.score, 4), "threshold": report.threshold, **report.findings}
    policy = {"rules": report.rules_version, "gate": f"score >= {report.threshold:g}"}
    if report.passed:
        manifest = run.lake.mark_validated(dataset, snapshot, report.decision(), run_id=run.run_id)
        run.decide("pass", numbers={**numbers, "validated": manifest.sequence}, policy=policy)
        return Gate("pass", snapshot)
    return fall_back(
        run,
        dataset,
        f"The data quality score is {report.score:.2f}, below the gate of {report.threshold:g}",
        fix="Read the findings on the step's page; have the site correct the data, or review the rules.",
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
