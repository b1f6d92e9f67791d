"""Whether a new model may replace the one in use: paired comparison, then a decision by rule.

The comparison is DeLong's test of two AUROCs on the same subjects (Biometrics 1988;44:837). Non-inferiority
is shown when the lower bound of the difference lies above minus the margin; a point estimate decides nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.design_matrix import both_classes, inputs, labels, values
from trialops.models.discrimination import Estimate, delong, p_text, z_value
from trialops.models.evaluation import BETTER, WORSE, Evaluation, refuse_seen_sites
from trialops.models.net_benefit import net_benefit_difference
from trialops.models.policy import PromotionPolicy
from trialops.models.record import plain
from trialops.models.selection import loss_difference

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.fairness import FairnessReport

ACTIONS = ("promote", "hold", "reject", "unchanged")


@dataclass(frozen=True)
class Comparison:
    """Two models on the same subjects.

    Attributes:
        comparator: Name of the other model.
        role: "champion" (the model in use) or "baseline" (prespecified, when none is in use).
        comparator_digest: Digest of its bundle.
        auroc: Area of the new model.
        comparator_auroc: Area of the other.
        difference: New minus other.
        p_value: Two-sided, for no difference.
        n: Subjects.
        events: Events.
        net_benefit: New minus other, net benefit averaged over the task's thresholds; None where no range was given.
        log_loss: Other minus new, log loss saved per subject, sites as the independent units; None likewise.
    """

    comparator: str
    role: str
    comparator_digest: str
    auroc: float
    comparator_auroc: float
    difference: Estimate
    p_value: float
    n: int
    events: int
    net_benefit: Estimate | None = None
    log_loss: Estimate | None = None

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return plain(self)


@dataclass(frozen=True)
class Reason:
    """One rule of the policy, whether it was met, and the numbers."""

    rule: str
    met: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """What is to happen to a trained model.

    Attributes:
        action: "promote"; "hold" for more data or a signature; "reject"; "unchanged": the model in use stays.
        reasons: Every rule that was read, with its numbers.
        policy: Name of the policy.
        policy_digest: Digest of the policy.
        model_digest: Digest of the model decided on.
    """

    action: str
    reasons: tuple[Reason, ...]
    policy: str
    policy_digest: str
    model_digest: str

    def as_dict(self) -> dict[str, Any]:
        """The decision as JSON values."""
        return plain(self)


def compare_predictions(
    y: np.ndarray,
    new: np.ndarray,
    other: np.ndarray,
    *,
    comparator: str,
    role: str,
    comparator_digest: str = "",
    level: float = 0.95,
    thresholds: tuple[float, float] | None = None,
    site: np.ndarray | None = None,
) -> Comparison:
    """Compare two scores on the same subjects.

    Args:
        y: Labels 0 and 1 of shape (n,).
        new: Scores of the new model, shape (n,).
        other: Scores of the comparator, shape (n,).
        comparator: Name of the comparator.
        role: "champion" or "baseline".
        comparator_digest: Digest of its bundle.
        level: Confidence level.
        thresholds: Lowest and highest threshold to compare the net benefit over; None leaves it out.
        site: Site of each subject, to compare the log loss over; None leaves it out.

    Returns:
        The comparison. With fewer than two subjects in a class the interval is [-1, 1]. Two models that order
        every pair alike differ by exactly 0.

    Raises:
        TrialOpsError: Only one class is present.
    """
    import numpy as np

    both_classes(y, "held-out part, column label")
    areas, covariance = delong(y, np.vstack([new, other]).astype(np.float64))
    gap = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if math.isnan(variance):
        difference, p_value = Estimate(gap, -1.0, 1.0, "not estimable: one subject in a class", level), 1.0
    elif variance < 1e-15 and abs(gap) < 1e-12:
        difference, p_value = Estimate(gap, gap, gap, "same order of every pair", level), 1.0
    elif variance < 1e-15:  # one perfect, one perfectly wrong: DeLong has no variance to offer
        difference, p_value = Estimate(gap, -1.0, 1.0, "not estimable: no variance", level), 1.0
    else:
        error = math.sqrt(variance)
        reach = z_value(level) * error
        p_value = math.erfc(abs(gap) / error / math.sqrt(2))
        difference = Estimate(gap, max(gap - reach, -1.0), min(gap + reach, 1.0), "DeLong, paired", level)
    return Comparison(
        comparator,
        role,
        comparator_digest,
        float(areas[0]),
        float(areas[1]),
        difference,
        p_value,
        len(y),
        int(y.sum()),
        net_benefit_difference(y, new, other, *thresholds, level=level) if thresholds else None,
        loss_difference(y, other, new, site, level) if site is not None else None,
    )


def compare(
    new: Bundle,
    other: Bundle,
    held_out: Any,
    *,
    role: str = "champion",
    level: float = 0.95,
    thresholds: tuple[float, float] | None = None,
) -> Comparison:
    """Compare two bundles on the same held-out subjects.

    Args:
        new: The trained model.
        other: The model in use, or the baseline.
        held_out: Held-out part (polars or pandas).
        role: "champion" or "baseline".
        level: Confidence level.
        thresholds: Lowest and highest threshold to compare the net benefit over.

    Returns:
        The comparison.

    Raises:
        TrialOpsError: Either model has seen one of the sites, or only one class is present.
    """
    for bundle in (new, other):
        refuse_seen_sites(bundle, held_out)
    return compare_predictions(
        labels(held_out),
        new.predict(inputs(held_out, new.features)),
        other.predict(inputs(held_out, other.features)),
        comparator=other.name,
        role=role,
        comparator_digest=other.digest,
        level=level,
        thresholds=thresholds,
        site=values(held_out, "site_id"),
    )


def decide(
    evaluation: Evaluation, comparison: Comparison | None, fairness: FairnessReport, policy: PromotionPolicy
) -> Decision:
    """Decide by the policy.

    The gravest finding decides: reject (shown unfit, or not shown better than chance where the policy asks
    for it), unchanged (not shown non-inferior to the model in use, or the same model), hold (too little
    evidence, or a signature is needed), promote. Against a baseline, "not shown" holds and "shown worse by
    more than the margin" rejects.

    Args:
        evaluation: The trained model on held-out sites.
        comparison: It against the champion, or the baseline when there is none; None holds the model.
        fairness: Its fairness audit.
        policy: The policy.

    Returns:
        The decision, with every rule read and its numbers.

    Raises:
        TrialOpsError: The intervals were made at another confidence level than the policy's.
    """
    for name, estimate in (
        ("evaluation", evaluation.auroc),
        ("comparison", comparison and comparison.difference),
    ):
        if estimate and not math.isclose(estimate.level, policy.confidence_level):
            raise TrialOpsError(
                f"The {name} has {estimate.level:.0%} intervals; the policy asks for {policy.confidence_level:.0%}.",
                where=f"policy {policy.name}, key confidence_level",
                fix="Evaluate and compare at the policy's level.",
            )
    found: list[tuple[str, Reason]] = [_size(evaluation, policy), _chance(evaluation, policy)]
    found += _against(evaluation, comparison, policy)
    found.append(_fair(fairness, policy))
    actions = {action for action, _ in found}
    action = next((a for a in ("reject", "unchanged", "hold") if a in actions), "promote")
    return Decision(action, tuple(reason for _, reason in found), policy.name, policy.digest, evaluation.digest)


def _size(evaluation: Evaluation, policy: PromotionPolicy) -> tuple[str, Reason]:
    others = evaluation.n - evaluation.events
    met = evaluation.n >= policy.min_subjects and min(evaluation.events, others) >= policy.min_events
    text = (
        f"{evaluation.n} held-out subjects (at least {policy.min_subjects}), {evaluation.events} events "
        f"and {others} "
        f"non-events (at least {policy.min_events} each)"
    )
    return ("promote" if met else "hold"), Reason("enough subjects", met, text)


def _chance(evaluation: Evaluation, policy: PromotionPolicy) -> tuple[str, Reason]:
    met = evaluation.verdict == BETTER
    text = f"AUROC {evaluation.auroc}: {evaluation.verdict}"
    if evaluation.verdict == WORSE or (policy.must_beat_chance and not met):
        return "reject", Reason("better than chance", False, text)
    return "promote", Reason("better than chance", met, text)


def _against(
    evaluation: Evaluation, comparison: Comparison | None, policy: PromotionPolicy
) -> list[tuple[str, Reason]]:
    if comparison is None:
        return [
            (
                "hold",
                Reason("non-inferior", False, "no comparison with a model in use or the baseline was made"),
            )
        ]
    if comparison.role == "champion" and evaluation.digest and comparison.comparator_digest == evaluation.digest:
        text = f"the trained model is the model in use (digest {evaluation.digest[:12]})"
        return [("unchanged", Reason("differs from the model in use", False, text))]
    margin, gap = policy.non_inferiority_margin, comparison.difference
    text = (
        f"AUROC difference against {comparison.role} {comparison.comparator} {gap}, "
        f"{p_text(comparison.p_value)}; "
        f"margin {margin:.3f}, lower bound must exceed {-margin:.3f}"
    )
    if gap.low > -margin:
        return [("promote", Reason("non-inferior", True, text))]
    if comparison.role == "champion":
        return [("unchanged", Reason("non-inferior", False, text))]
    return [("reject" if gap.high < -margin else "hold", Reason("non-inferior", False, text))]


def _fair(fairness: FairnessReport, policy: PromotionPolicy) -> tuple[str, Reason]:
    text = fairness.sentence()
    if fairness.verdict == "pass":
        return "promote", Reason("fair", True, text)
    if fairness.verdict == "fail":
        return "reject", Reason("fair", False, text)
    action = "promote" if policy.fairness_insufficient == "allow" else "hold"
    return action, Reason("fair", False, f"{text} Policy: {policy.fairness_insufficient}.")
