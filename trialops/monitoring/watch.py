"""One look at the model in use: its matured predictions judged, their residuals followed along time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.discrimination import Estimate
from trialops.models.record import restore
from trialops.monitoring.concept import ConceptReport, concept_drift
from trialops.monitoring.performance import INSUFFICIENT, Performance, judge, matured_cohort
from trialops.monitoring.triggers import ask
from trialops.monitoring.verdict import BAD, MonitoringPolicy, Verdict, Windows
from trialops.stores.digest import document_digest

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.task import Task
    from trialops.stores.context import Step

RETRAINING = "scheduled_retraining"


@dataclass(frozen=True)
class Look:
    """What was found, and from which model and policy."""

    performance: Performance
    concept: ConceptReport
    policy: MonitoringPolicy

    @property
    def verdict(self) -> str:
        """The worse of the two verdicts, in the words of the part it comes from."""
        parts = (self.performance.verdict, self.concept.verdict)
        return next((verdict for verdict in parts if verdict in BAD), self.performance.verdict)

    @property
    def reason(self) -> str:
        """Why, in words."""
        more = (self.concept.reason,) if self.concept.verdict in BAD else ()
        return "; ".join((*self.performance.reasons, *more))

    def numbers(self) -> dict[str, Any]:
        """Figures for the step's record."""
        found = self.performance
        return {
            "matured": found.n,
            "events": found.events,
            "auroc": str(found.auroc),
            "at_promotion": str(found.at_promotion),
            "relative_drop": str(found.drop),
            "concept": self.concept.reason,
        }

    def as_dict(self) -> dict[str, Any]:
        """The look as JSON values."""
        return {
            "model": self.performance.model,
            "verdict": self.verdict,
            "reason": self.reason,
            "performance": self.performance.as_dict(),
            "concept": self.concept.as_dict(),
            "policy": {"name": self.policy.name, "digest": self.policy.digest},
        }


def nothing_in_use(task: str, policy: MonitoringPolicy) -> dict[str, Any]:
    """The document while no model is in use, in the form of :meth:`Look.as_dict`."""
    reason = f"no version of {task} is in use"
    return {
        "model": "none",
        "verdict": INSUFFICIENT,
        "reason": reason,
        "performance": {"verdict": INSUFFICIENT, "reasons": [reason], "n": 0},
        "concept": {"verdict": INSUFFICIENT, "reason": reason},
        "policy": {"name": policy.name, "digest": policy.digest},
    }


def look(
    run: Step, task: Task, tables: Mapping[str, pl.DataFrame], predictions: pl.DataFrame, policy: MonitoringPolicy
) -> Look | None:
    """Judge the champion of a task; None while there is none.

    Args:
        run: The step.
        task: The prediction task.
        tables: Clean tables, for the outcomes.
        predictions: Logged predictions of all versions of the model.
        policy: Limits.

    Raises:
        TrialOpsError: Nothing tells how good the model was when it was promoted.
    """
    from trialops.features.labels import label
    from trialops.models.bundle import Bundle
    from trialops.models.evidence_store import get_evidence

    registered = run.registry.by_alias(task.name, "champion")
    if registered is None:
        return None
    evidence = get_evidence(run, task.name, registered.version)
    if "evaluation" not in evidence:
        raise TrialOpsError(
            "Nothing tells how good the model was when it was promoted",
            where=f"model {task.name}, version {registered.version}",
            fix=f"Evaluate it: trialops run model_evaluation --set version={registered.version}",
        )
    bundle = Bundle.load(run.registry.fetch(task.name, registered.version, run.workdir / "champion"))
    cohort = matured_cohort(
        predictions,
        label(tables, task),
        task,
        digest=registered.digest,
        slack_days=policy.landmark_slack_days,
        left_days=left_days(tables, task),
    )
    judged = judge(
        cohort,
        policy,
        model=f"{registered.version}:{registered.digest}",
        at_promotion=restore(Estimate, evidence["evaluation"]["model"]["auroc"]),
        threshold=bundle.threshold,
    )
    residuals = (cohort.rows["label"] - cohort.rows["probability"]).to_numpy()
    concept = concept_drift(residuals, delta=policy.concept_delta, least=policy.concept_least)
    return Look(judged, concept, policy)


def left_days(tables: Mapping[str, pl.DataFrame], task: Task) -> pl.DataFrame:
    """Day of each subject's first disposition: subject_id, left (Int32)."""
    import polars as pl

    from trialops.intake.domains import current_rows

    rows = current_rows("DS", tables["DS"])
    category = pl.col("DSCAT").cast(pl.String).str.strip_chars().str.to_uppercase()
    events = rows.filter((category == task.label.category.upper()) & pl.col("DSSTDY").is_not_null())
    return (
        events.group_by(pl.col("USUBJID").cast(pl.String).alias("subject_id"))
        .agg(left=pl.col("DSSTDY").cast(pl.Int32).min())
        .sort("subject_id")
    )


def conclude(
    run: Step, task: str, performance: Mapping[str, Any], drift: Mapping[str, Any], policy: MonitoringPolicy
) -> Verdict:
    """Keep this look as a window, and ask for a retraining where enough windows are bad.

    Args:
        run: The step.
        task: Prediction task.
        performance: Document of :meth:`Look.as_dict`.
        drift: Document of the drift report; its "verdict" counts.
        policy: Limits.
    """
    parts = {
        "performance": str(performance["performance"]["verdict"]),
        "concept": str(performance["concept"]["verdict"]),
        "feature drift": str(drift["verdict"]),
    }
    looked_at = document_digest([performance, drift])
    verdict = Windows(run.objects, task).look(str(performance["model"]), looked_at, parts, policy, run_id=run.run_id)
    if verdict.asks:
        ask(run, RETRAINING, f"{task}-{verdict.asks:06d}", arguments={"task": task}, reason=verdict.reason)
    return verdict
