"""One look at a model's inputs: feature drift, covariate shift and correlations, in one verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trialops.models.design_matrix import inputs
from trialops.monitoring.drift import DRIFT, INSUFFICIENT, DriftReport, drift
from trialops.monitoring.drift_policy import DriftPolicy
from trialops.monitoring.drift_rows import SITE, Watched, came_since, served_rows, watched
from trialops.monitoring.reference import PREDICTION
from trialops.monitoring.shift import Shift, domain_classifier
from trialops.monitoring.stability import (
    CorrelationChange,
    ImportanceStability,
    correlation_change,
    importance_stability,
)

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.task import Task
    from trialops.stores.context import Step


@dataclass(frozen=True)
class DriftLook:
    """What was found.

    Attributes:
        verdict: "drift", "no drift" or "insufficient evidence".
        reason: In words.
        model: "version:digest".
        report: Features of the subjects that came since.
        served: Features and answers as the servers logged them; None without logged predictions.
        shift: The domain classifier.
        correlations: Change of correlations.
        importance: Stability of what the model leans on; for information, it is no part of the verdict.
    """

    verdict: str
    reason: str
    model: str
    report: DriftReport
    served: DriftReport | None
    shift: Shift
    correlations: CorrelationChange
    importance: ImportanceStability

    def as_dict(self) -> dict[str, Any]:
        """JSON values: the report's, with the verdict of all parts together."""
        return {
            **self.report.as_dict(),
            "verdict": self.verdict,
            "reason": self.reason,
            "alert": self.alert,
            "model": self.model,
            "multivariate": {
                "classifier": self.shift.as_dict(),
                "correlations": self.correlations.as_dict(),
                "importance": self.importance.as_dict(),
            },
            "served": None if self.served is None else self.served.as_dict(),
        }

    def numbers(self) -> dict[str, Any]:
        """Figures for the step's record."""
        return {
            "reference_rows": self.report.n_reference,
            "current_rows": self.report.n_current,
            "served_rows": 0 if self.served is None else self.served.n_current,
            "features_drifted": len(self.report.drifted),
            "highest_psi": max((item.psi for item in self.report.features if item.psi == item.psi), default=0.0),
            "classifier": self.shift.state,
            "correlations": self.correlations.state,
            "importance": self.importance.state,
        }

    @property
    def alert(self) -> bool:
        """Whether a feature is beyond the alert limit, in the data or as served."""
        return self.report.alert or (self.served is not None and self.served.alert)


@dataclass(frozen=True)
class Examined:
    """A look, the version that was looked at, and the rows it was compared with."""

    look: DriftLook
    watched: Watched
    current: pl.DataFrame


def examine(
    run: Step,
    task: Task,
    tables: Mapping[str, pl.DataFrame],
    views: Mapping[str, pl.DataFrame],
    predictions: pl.DataFrame,
    policy: DriftPolicy,
) -> Examined | None:
    """Find the version to watch and look at what has come since; None while no version is registered.

    Args:
        run: The step.
        task: The prediction task.
        tables: Clean tables.
        views: Feature views.
        predictions: Logged predictions.
        policy: The policy.
    """
    found = watched(run, task.name)
    if found is None:
        return None
    run.progress("features of the subjects that came since", 0.2)
    current = came_since(tables, views, task, found.rows["subject_id"], run.workdir)
    logged = served_rows(predictions, found.bundle, landmark=task.landmark_day, slack=policy.landmark_slack_days)
    run.progress("comparing", 0.6)
    return Examined(look(found, current, logged, policy), found, current)


def nothing_registered(task: str, policy: DriftPolicy) -> dict[str, Any]:
    """The document while there is no version to compare with, in the form of :meth:`DriftLook.as_dict`."""
    return {
        "verdict": INSUFFICIENT,
        "reason": f"no version of {task} is registered",
        "alert": False,
        "model": "none",
        "features": [],
        "multivariate": {},
        "policy": {"name": policy.name, "version": policy.version, "digest": policy.digest},
    }


def look(version: Watched, current: pl.DataFrame, served: pl.DataFrame, policy: DriftPolicy) -> DriftLook:
    """Compare what came since, and what was served, with a model's reference.

    Args:
        version: The version and its reference.
        current: Subjects that came since, one row each.
        served: Logged inputs and answers, the latest of each subject; may be empty.
        policy: The policy. Where both are compared, each gets half of the level.
    """
    bundle = version.bundle
    shared = replace(policy, alpha=policy.alpha / 2) if served.height else policy
    report = drift(
        version.reference,
        current,
        shared,
        predictions=bundle.predict(inputs(current, bundle.features)) if current.height else [],
        by=SITE,
    )
    logged = None
    if served.height:
        logged = drift(version.reference, served, shared, predictions=served[PREDICTION].to_numpy())
    shift = domain_classifier(version.rows, current, bundle.features, policy)
    correlations = correlation_change(version.rows, current, bundle.features, policy)
    importance = importance_stability(bundle, version.rows, current, policy)
    verdict, reason = together(report, logged, shift, correlations)
    return DriftLook(
        verdict=verdict,
        reason=reason,
        model=f"{version.version}:{bundle.digest}",
        report=report,
        served=logged,
        shift=shift,
        correlations=correlations,
        importance=importance,
    )


def together(
    report: DriftReport, served: DriftReport | None, shift: Shift, correlations: CorrelationChange
) -> tuple[str, str]:
    """One verdict: drift where any part finds it; no drift where the features could be judged and none does."""
    found = []
    if report.verdict == DRIFT:
        found.append(report.reason)
    if served is not None and served.verdict == DRIFT:
        found.append(f"as served: {served.reason}")
    if shift.state == DRIFT:
        found.append(f"a classifier tells the rows apart (AUROC {shift.auroc:.2f})")
    if correlations.state == DRIFT:
        found.append(f"correlations have changed ({len(correlations.changed)} pairs by themselves)")
    if found:
        return DRIFT, "; ".join(found)
    if served is not None and report.verdict == INSUFFICIENT:
        return served.verdict, f"as served: {served.reason}; of the subjects that came since: {report.reason}"
    return report.verdict, report.reason
