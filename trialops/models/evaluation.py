"""What a model is worth on sites it has never seen.

Discrimination, calibration and clinical utility are reported together, each with an interval, as TRIPOD+AI
asks; the verdict rests on the interval of the primary metric, never on its point estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.calibration import Calibration, brier, calibration, scaled_brier
from trialops.models.design_matrix import inputs, labels, values
from trialops.models.discrimination import Estimate, auroc_interval, average_precision_interval, wilson
from trialops.models.internal_external import InternalExternal, internal_external
from trialops.models.net_benefit import DecisionCurve, decision_curve
from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.task import Task

BETTER, NOT_SHOWN, WORSE = "better than chance", "not shown to be better than chance", "worse than chance"


@dataclass(frozen=True)
class Operating:
    """What happens at the decision threshold, with Wilson intervals.

    Attributes:
        threshold: Probability from which a subject is flagged.
        flagged: Subjects flagged.
        sensitivity: Flagged among events.
        specificity: Not flagged among non-events.
        ppv: Events among flagged.
        npv: Non-events among not flagged.
    """

    threshold: float
    flagged: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate


@dataclass(frozen=True)
class SiteRow:
    """One held-out site: subjects, events, mean prediction, observed over expected, AUROC."""

    site: str
    n: int
    events: int
    expected: float
    observed_to_expected: float
    auroc: Estimate


@dataclass(frozen=True)
class Evaluation:
    """A model judged on held-out sites.

    Attributes:
        model: Name of the model.
        digest: Digest of its bundle; empty when predictions were judged without one.
        n: Subjects.
        events: Events.
        sites: Held-out sites.
        auroc: Area under the ROC curve.
        auprc: Average precision; its floor is the prevalence.
        prevalence: Share of events, Wilson interval.
        brier: Mean squared error of the probabilities.
        scaled_brier: Share of the Brier score of predicting the prevalence that the model removes.
        calibration: Agreement of predicted and observed risk.
        decision_curve: Net benefit over the task's range of thresholds.
        operating: What happens at the decision threshold.
        by_site: One row per site, sorted.
        over_sites: The sites summarised, with what the next site may show.
        verdict: "better than chance", "not shown to be better than chance" or "worse than chance".
        notes: What a reader should know.
    """

    model: str
    digest: str
    n: int
    events: int
    sites: int
    auroc: Estimate
    auprc: Estimate
    prevalence: Estimate
    brier: float
    scaled_brier: float
    calibration: Calibration
    decision_curve: DecisionCurve
    operating: Operating
    by_site: tuple[SiteRow, ...]
    verdict: str
    notes: tuple[str, ...]
    over_sites: InternalExternal | None = None

    def as_dict(self) -> dict[str, Any]:
        """The evaluation as JSON values."""
        return plain(self)

    def sentence(self) -> str:
        """The verdict in words, with its numbers."""
        return (
            f"{self.model} is {self.verdict} on {self.n} held-out subjects "
            f"({self.events} events, {self.sites} sites): "
            f"AUROC {self.auroc}."
        )


def verdict(auroc: Estimate) -> str:
    """Plain-language verdict from the interval of an AUROC."""
    if auroc.low > 0.5:
        return BETTER
    return WORSE if auroc.high < 0.5 else NOT_SHOWN


def evaluate_predictions(
    y: np.ndarray,
    p: np.ndarray,
    site: np.ndarray,
    *,
    threshold: float,
    decision_thresholds: tuple[float, float],
    model: str = "model",
    digest: str = "",
    level: float = 0.95,
    seed: int = 0,
    replicates: int = 2000,
    notes: tuple[str, ...] = (),
) -> Evaluation:
    """Judge predictions.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Predicted probabilities of shape (n,).
        site: Site of each subject, shape (n,).
        threshold: Decision threshold.
        decision_thresholds: Lowest and highest threshold of the decision curve.
        model: Name for the report.
        digest: Digest of the bundle.
        level: Confidence level.
        seed: Seed of the bootstrap.
        replicates: Bootstrap replicates for average precision.
        notes: Notes to carry.

    Returns:
        The evaluation. With one class, AUROC is NaN and the verdict "not shown".

    Raises:
        TrialOpsError: There are no subjects, or a prediction is not a probability.
    """
    import numpy as np

    if len(y) == 0:
        raise TrialOpsError("There are no subjects to judge on.", where="held-out part", fix="Check the split.")
    if not (np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all()):
        raise TrialOpsError(
            f"{int((~((p >= 0) & (p <= 1))).sum())} predictions are not probabilities.",
            where=f"model {model}",
            fix="Train again.",
        )
    flag, events = p >= threshold, int(y.sum())
    hits, alarms = int((flag & (y == 1)).sum()), int((flag & (y == 0)).sum())
    others, flagged = len(y) - events, hits + alarms
    area = auroc_interval(y, p, level)
    operating = Operating(
        threshold,
        flagged,
        sensitivity=wilson(hits, events, level),
        specificity=wilson(others - alarms, others, level),
        ppv=wilson(hits, flagged, level),
        npv=wilson(others - alarms, len(y) - flagged, level),
    )
    extra = list(notes)
    if len(p) and float(p.max() - p.min()) < 1e-12:
        extra.append(
            "The model gives everybody the same risk: no configuration that told subjects apart did better on sites "
            "left out of its fit."
        )
    if area.method not in ("DeLong", "DeLong, logit"):
        extra.append(f"AUROC interval: {area.method}.")
    rows = []
    for name in sorted(set(site.astype(str).tolist())):
        part = site.astype(str) == name
        expected = float(p[part].sum())
        observed = int(y[part].sum())
        rows.append(
            SiteRow(
                name,
                int(part.sum()),
                observed,
                float(p[part].mean()),
                observed / expected if expected > 0 else float("nan"),
                auroc_interval(y[part], p[part], level),
            )
        )
    return Evaluation(
        model=model,
        digest=digest,
        n=len(y),
        events=events,
        sites=len(rows),
        auroc=area,
        auprc=average_precision_interval(y, p, replicates=replicates, seed=seed, level=level),
        prevalence=wilson(events, len(y), level),
        brier=brier(y, p),
        scaled_brier=scaled_brier(y, p),
        calibration=calibration(y, p, level=level),
        decision_curve=decision_curve(y, p, *decision_thresholds),
        operating=operating,
        by_site=tuple(rows),
        verdict=verdict(area),
        notes=tuple(extra),
        over_sites=internal_external(y, p, site, level=level),
    )


def refuse_seen_sites(bundle: Bundle, frame: Any) -> None:
    """Refuse to judge a model on a site it was trained on.

    Args:
        bundle: The model; its `training.sites` lists the sites it has seen.
        frame: Held-out part with `site_id`.

    Raises:
        TrialOpsError: A site is on both sides.
    """
    both = sorted(set(bundle.training.get("sites", ())) & {str(site) for site in values(frame, "site_id")})
    if both:
        raise TrialOpsError(
            f"{len(both)} of the sites to judge on were used to train {bundle.name}.",
            where=f"bundle {bundle.digest[:12]}, site_id",
            fix="Split with keep= the sites held out before, so that they stay held out.",
        )


class ClinicalModelEvaluatorOperator:
    """Judges a model bundle on held-out sites.

    Args:
        task: The task.
        level: Confidence level of every interval.
        seed: Seed of the bootstrap.
        replicates: Bootstrap replicates.
    """

    def __init__(self, task: Task, *, level: float = 0.95, seed: int = 0, replicates: int = 2000) -> None:
        self.task, self.level, self.seed, self.replicates = task, level, seed, replicates

    def run(self, bundle: Bundle, held_out: Any) -> Evaluation:
        """Predict and judge.

        Args:
            bundle: The model.
            held_out: Held-out part of the training set (polars or pandas), row order does not matter.

        Returns:
            The evaluation.

        Raises:
            TrialOpsError: The model has seen one of the sites, a column is absent, or there are no subjects.
        """
        refuse_seen_sites(bundle, held_out)
        order = values(held_out, "subject_id").astype(str).argsort(kind="stable")
        return evaluate_predictions(
            labels(held_out)[order],
            bundle.predict(inputs(held_out, bundle.features))[order],
            values(held_out, "site_id")[order],
            threshold=bundle.threshold,
            decision_thresholds=self.task.decision_thresholds,
            model=bundle.name,
            digest=bundle.digest,
            level=self.level,
            seed=self.seed,
            replicates=self.replicates,
            notes=bundle.notes,
        )
