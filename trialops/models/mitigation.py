"""What could be done about a gap between groups, and what it would cost: compared, never applied.

Each way is judged on the same held-out sites as the model itself, with intervals: the gaps, the paired change of the
widest gap, AUROC and net benefit with their paired changes. The net benefit of all of them is taken at the model's own
threshold probability, since that states what a missed event is worth, and mitigation does not change it.

A person reads the table and chooses. fairlearn's ThresholdOptimizer stands in it for comparison only: it flags some
subjects at random, so two calls can answer differently about the same patient, and how many do is told.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.comparison import compare_predictions
from trialops.models.design_matrix import inputs, labels, values
from trialops.models.discrimination import Estimate, auroc_interval, z_value
from trialops.models.fairness import FAIL, FairnessReport, Gap, audit_predictions
from trialops.models.fairness_groups import Family, families, net_benefit
from trialops.models.fairness_intervals import confusion_counts, false_positive_rate, resample, true_positive_rate
from trialops.models.mitigation_methods import (
    EQUAL_OPPORTUNITY,
    EQUALIZED_ODDS,
    Training,
    group_thresholds,
    out_of_fold,
    refit,
    reweighing,
)
from trialops.models.policy import FairnessPolicy
from trialops.models.record import plain
from trialops.models.split import site_folds

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.task import Task

AS_IS = "as it is"
WHEN = ("never", "on failure", "always")


@dataclass(frozen=True)
class Variant:
    """A model, or a way to use it, on the held-out sites.

    Attributes:
        name: What was done.
        needs_attribute: Whether the attribute is read at prediction.
        random: Whether the same subject can get different answers.
        flag_changes: Share of held-out subjects whose flag differs between two calls; 0 where nothing is random.
        digest: Digest of the model.
        thresholds: Threshold by group; one under "all" where there is one for all.
        gaps: Gaps of the attribute, with simultaneous intervals.
        verdict: The attribute's verdict.
        overall: Verdict of the whole audit: what is mended in one attribute may break another.
        gap_change: Change of the difference that is widest in the model as it is, between the same two groups; below 0
            is narrower. Paired bootstrap, percentile.
        auroc: Area under the ROC curve.
        auroc_change: Against the model as it is, DeLong, paired.
        net_benefit: At the threshold of the model as it is.
        net_benefit_change: Against the model as it is, paired.
    """

    name: str
    needs_attribute: bool
    random: bool
    flag_changes: float
    digest: str
    thresholds: Mapping[str, float]
    gaps: tuple[Gap, ...]
    verdict: str
    overall: str
    gap_change: Estimate
    auroc: Estimate
    auroc_change: Estimate
    net_benefit: Estimate
    net_benefit_change: Estimate


@dataclass(frozen=True)
class Mitigation:
    """The ways compared for one attribute or intersection.

    Attributes:
        attribute: Name of the attribute.
        variants: The model as it is, then each way.
        not_offered: Ways that the policy or the data rule out, and why.
    """

    attribute: str
    variants: tuple[Variant, ...]
    not_offered: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return plain(self)


@dataclass(frozen=True)
class _Case:
    """What every way is judged with."""

    y: np.ndarray
    raw: Mapping[str, np.ndarray]
    family: Family
    threshold: float
    p: np.ndarray
    flag: np.ndarray
    widest: Gap
    name: str


class FairnessMitigationOperator:
    """Compares ways to narrow the gaps of a model.

    Args:
        task: The task.
        policy: Fairness policy; says which attributes may be read at prediction and which features hold them.
        seed: Seed of folds and bootstrap.
    """

    def __init__(self, task: Task, policy: FairnessPolicy, *, seed: int = 0) -> None:
        self.task, self.policy, self.seed = task, policy, seed

    def run(
        self, bundle: Bundle, training: Any, held_out: Any, audit: FairnessReport, *, when: str = "on failure"
    ) -> tuple[Mitigation, ...]:
        """Try every way the policy allows and judge each on the held-out sites.

        Args:
            bundle: The model.
            training: Training part of the training set (polars or pandas), with the audit columns.
            held_out: Held-out part.
            audit: The model's audit on the held-out part.
            when: "never", "on failure": for attributes that fail; "always": for all that can be compared.

        Returns:
            One comparison per attribute or intersection; empty when there is nothing to do.

        Raises:
            TrialOpsError: A feature or audit column is absent, or `when` is another word.
        """
        if when not in WHEN:
            raise TrialOpsError(
                "When to compare mitigations is not one of the words.",
                where="parameter mitigation",
                fix=f"Use one of: {', '.join(WHEN)}.",
            )
        wanted = [
            part.attribute
            for part in audit.attributes
            if part.gaps and (when == "always" or (when == "on failure" and part.verdict == FAIL))
        ]
        if not wanted:
            return ()
        y = labels(training)
        fitted = Training(training, y, site_folds(training, self.task, seed=self.seed))
        scores = out_of_fold(bundle, fitted)
        return tuple(self._one(name, bundle, fitted, scores, held_out, audit) for name in wanted)

    def _one(
        self, name: str, bundle: Bundle, training: Training, scores: np.ndarray, held_out: Any, audit: FairnessReport
    ) -> Mitigation:
        import numpy as np

        attributes, rules = name.split(" x "), self.policy.mitigation
        own, known = self._family(name, held_out), self._family(name, training.frame)
        y, p = labels(held_out), bundle.predict(inputs(held_out, bundle.features))
        odds = next(g for part in audit.attributes if part.attribute == name for g in part.gaps[-1:])
        case = _Case(
            y=y,
            raw={a: values(held_out, c) for a, c in self.task.group_columns.items()},
            family=own,
            threshold=bundle.threshold,
            p=p,
            flag=p >= bundle.threshold,
            widest=odds,
            name=name,
        )
        single = {"all": bundle.threshold}
        variants, refused = [self._judge(AS_IS, case, p, case.flag, bundle.digest, single)], []

        def tried(title: str, model: Bundle) -> None:
            risk = model.predict(inputs(held_out, model.features))
            flag = risk >= model.threshold
            variants.append(self._judge(title, case, risk, flag, model.digest, {"all": model.threshold}))

        weight = reweighing(training.y, known.code)
        tried("reweighed", refit(bundle, training, self.task, name=f"{bundle.name}-reweighed", weight=weight))
        held = {f for a in attributes for f in rules.carried_by.get(a, ())}
        kept = [f for f in bundle.features if f not in held]
        if 0 < len(kept) < len(bundle.features):
            title = f"without {', '.join(sorted(held & set(bundle.features)))}"
            tried(title, refit(bundle, training, self.task, name=f"{bundle.name}-without", kept=kept))
        else:
            refused.append("without the attribute: no feature of the model is declared to hold it")
        if not set(attributes) <= set(rules.attribute_at_prediction):
            refused.append("thresholds by group: the policy does not let the attribute be read at prediction")
            return Mitigation(name, tuple(variants), tuple(refused))

        counts = confusion_counts(training.y, scores >= bundle.threshold, known.code, len(known.levels))
        usable = (counts[:, :2].sum(axis=1) >= self.policy.min_positives) & (
            counts[:, 2:].sum(axis=1) >= self.policy.min_negatives
        )
        place = {level: k for k, level in enumerate(known.levels)}
        for aim in (EQUAL_OPPORTUNITY, EQUALIZED_ODDS):
            cuts = group_thresholds(training.y, scores, known.code, usable, bundle.threshold, aim)
            by_level = {
                level: float(cuts[place[level]]) if level in place else bundle.threshold for level in own.levels
            }
            flag = p >= np.array([by_level[level] for level in own.levels])[own.code]
            variants.append(
                self._judge(f"thresholds by group, {aim}", case, p, flag, bundle.digest, by_level, attribute=True)
            )
        variants.append(self._fairlearn(case, training, scores, known, bundle))
        return Mitigation(name, tuple(variants), tuple(refused))

    def _family(self, name: str, frame: Any) -> Family:
        raw = {a: values(frame, c) for a, c in self.task.group_columns.items()}
        return next(f for f in families(raw, self.task.groups, self.policy) if f.name == name)

    def _judge(
        self,
        name: str,
        case: _Case,
        p: np.ndarray,
        flag: np.ndarray,
        digest: str,
        thresholds: Mapping[str, float],
        *,
        attribute: bool = False,
        changes: float = 0.0,
        random: bool = False,
    ) -> Variant:
        report = audit_predictions(
            case.y, p, case.raw, threshold=case.threshold, policy=self.policy, declared=self.task.groups, flag=flag
        )
        part = next(part for part in report.attributes if part.attribute == case.name)
        level = self.policy.confidence_level
        hits, alarms = int((flag & (case.y == 1)).sum()), int((flag & (case.y == 0)).sum())
        return Variant(
            name=name,
            needs_attribute=attribute,
            random=random,
            flag_changes=changes,
            digest=digest,
            thresholds=dict(thresholds),
            gaps=part.gaps,
            verdict=part.verdict,
            overall=report.verdict,
            gap_change=self._gap_change(case, flag),
            auroc=auroc_interval(case.y, p, level),
            auroc_change=compare_predictions(case.y, p, case.p, comparator=AS_IS, role="model", level=level).difference,
            net_benefit=net_benefit(hits, alarms, len(case.y), case.threshold, level),
            net_benefit_change=_paired_net_benefit(case, flag, level),
        )

    def _gap_change(self, case: _Case, flag: np.ndarray) -> Estimate:
        """Change of the widest difference between the same two groups; a subject's two flags are resampled together."""
        import numpy as np

        level = self.policy.confidence_level
        pair = [case.family.levels.index(g) for g in (case.widest.higher_in, case.widest.lower_in)]
        cell = 4 * (case.y == 0) + 2 * ~flag + ~case.flag  # outcome, new flag, old flag
        counts = np.stack([np.bincount(cell[case.family.code == k], minlength=8) for k in pair])
        rate = max((true_positive_rate, false_positive_rate), key=lambda r: abs(float(_difference(_old(counts), r))))

        def change(cells: np.ndarray) -> np.ndarray:
            return np.abs(_difference(_new(cells), rate)) - np.abs(_difference(_old(cells), rate))

        drawn = change(resample(counts, self.policy.replicates, [self.policy.seed, 1]))
        low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        return Estimate(float(change(counts)), float(low), float(high), "paired bootstrap, percentile", level)

    def _fairlearn(self, case: _Case, training: Training, scores: np.ndarray, known: Family, bundle: Bundle) -> Variant:
        """Fairlearn's randomised optimiser for equalized odds, on the same out-of-fold predictions."""
        import numpy as np
        from fairlearn.postprocessing import ThresholdOptimizer
        from sklearn.base import BaseEstimator, ClassifierMixin

        class Given(ClassifierMixin, BaseEstimator):
            """An estimator whose input is its prediction, as ThresholdOptimizer wants one."""

            def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
                return self

            def __sklearn_is_fitted__(self) -> bool:
                return True

            def predict(self, x: np.ndarray) -> np.ndarray:
                return x[:, 0]

        optimizer = ThresholdOptimizer(
            estimator=Given(), constraints="equalized_odds", prefit=True, predict_method="predict"
        )
        train_names = np.array(known.names(), dtype=object)
        both = [k for k in set(train_names) if 0 < training.y[train_names == k].sum() < (train_names == k).sum()]
        usable, names = np.isin(train_names, both), np.array(case.family.names(), dtype=object)
        told = np.isin(names, both)
        flags = np.stack([case.flag, case.flag])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.fit(scores[usable, None], training.y[usable], sensitive_features=train_names[usable])
            for k in range(2):
                drawn = optimizer.predict(case.p[told, None], sensitive_features=names[told], random_state=k)
                flags[k, told] = drawn.astype(bool)
        return self._judge(
            "fairlearn's randomised optimiser, for comparison",
            case,
            case.p,
            flags[0],
            bundle.digest,
            {},
            attribute=True,
            changes=float((flags[0] != flags[1]).mean()),
            random=True,
        )


def _new(cells: np.ndarray) -> np.ndarray:
    """Confusion counts of the new flag from counts over (outcome, new flag, old flag), shape (..., 8) -> (..., 4)."""
    return cells.reshape(*cells.shape[:-1], 2, 2, 2).sum(axis=-1).reshape(*cells.shape[:-1], 4)


def _old(cells: np.ndarray) -> np.ndarray:
    """Confusion counts of the old flag, likewise."""
    return cells.reshape(*cells.shape[:-1], 2, 2, 2).sum(axis=-2).reshape(*cells.shape[:-1], 4)


def _difference(counts: np.ndarray, rate: Any) -> np.ndarray:
    """First group minus second, shape (..., 2, 4) -> (...)."""
    found = rate(counts)
    return found[..., 0] - found[..., 1]


def _paired_net_benefit(case: _Case, flag: np.ndarray, level: float) -> Estimate:
    """Mean over subjects of what the new flag is worth more than the old, with its normal interval."""
    import numpy as np

    worth = np.where(case.y == 1, 1.0, -case.threshold / (1 - case.threshold))
    gained = worth * (flag.astype(float) - case.flag)
    value, reach = float(gained.mean()), z_value(level) * float(gained.std(ddof=1)) / math.sqrt(len(gained))
    return Estimate(value, value - reach, value + reach, "normal, paired", level)
