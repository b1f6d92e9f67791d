"""How well a model predicts by now, on the matured cohort alone.

Labels come late, and those of subjects who leave come first. So only subjects are judged whose outcome window has
passed, whatever happened to them (`trialops.features.labels`), each by the first prediction that was made for them
around the landmark, before the outcome. What can be said without labels stands apart, by its own name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.calibration import Calibration, brier, calibration
from trialops.models.discrimination import Estimate, auroc_interval, wilson, z_value
from trialops.models.record import plain
from trialops.monitoring.drift_statistics import adjusted
from trialops.monitoring.verdict import MonitoringPolicy

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from trialops.models.task import Task

DEGRADED, MISCALIBRATED, FINE = "degraded", "miscalibrated", "not degraded"
INSUFFICIENT = "insufficient evidence"
#: Drop, calibration intercept, calibration slope.
QUESTIONS = 3
#: Why a logged prediction is not in the cohort, in the order it is asked.
NO_SUBJECT = "no subject known"
SHADOW = "an answer nobody was shown"
OTHER_MODEL = "another version of the model"
OTHER_DAY = "not made around the landmark"
REPEATED = "a later prediction for the same subject"
NOT_IN_TRIAL = "subject not in the current data"
NOT_MATURED = "outcome not settled, or subject not at risk"
AFTER_OUTCOME = "made after the outcome"


@dataclass(frozen=True)
class Cohort:
    """Predictions with their outcome.

    Attributes:
        rows: One row per subject, in the order of the predictions: subject_id, site_id (str), at (datetime), label
            (Int8), probability (Float64).
        left_out: Reason -> logged predictions left out for it; with `rows` they add up to what was logged.
        waiting: Probabilities of predictions whose outcome is not settled yet, shape (m,).
    """

    rows: pl.DataFrame
    left_out: Mapping[str, int]
    waiting: np.ndarray


@dataclass(frozen=True)
class SiteResult:
    """One site of the cohort: subjects, events observed and expected, and the p-value of their difference."""

    site: str
    n: int
    observed: int
    expected: float
    p_value: float
    flagged: bool


@dataclass(frozen=True)
class LabelFree:
    """What the probabilities alone imply, if they are right; never a measurement.

    Attributes:
        n: Predictions.
        auroc: Expected area under the ROC curve.
        brier: Expected Brier score.
        accuracy: Expected share of right answers at the decision threshold.
        prevalence: Expected share of events.
    """

    n: int
    auroc: float
    brier: float
    accuracy: float
    prevalence: float


@dataclass(frozen=True)
class Performance:
    """A model judged on what has matured.

    Attributes:
        model: "version:digest".
        n: Subjects of the matured cohort.
        events: Events among them.
        auroc: Area under the ROC curve, DeLong.
        at_promotion: The same on the held-out sites when it was promoted.
        drop: Relative loss, 1 - now / then, with its interval.
        accuracy: Share of right answers at the decision threshold, Wilson.
        brier: Mean squared error.
        calibration: Agreement of predicted and observed risk; None without enough evidence.
        sites: Observed against expected events per site.
        without_labels: Of the matured cohort, from its probabilities alone.
        waiting: The same for predictions whose outcome is not settled.
        verdict: "degraded", "miscalibrated", "not degraded" or "insufficient evidence".
        reasons: In words.
        left_out: Reason -> predictions left out.
    """

    model: str
    n: int
    events: int
    auroc: Estimate
    at_promotion: Estimate
    drop: Estimate
    accuracy: Estimate
    brier: float
    calibration: Calibration | None
    sites: tuple[SiteResult, ...]
    without_labels: LabelFree | None
    waiting: LabelFree | None
    verdict: str
    reasons: tuple[str, ...]
    left_out: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return plain(self)


def matured_cohort(
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    task: Task,
    *,
    digest: str,
    slack_days: int,
    left_days: pl.DataFrame | None = None,
) -> Cohort:
    """Join logged predictions with the outcomes that are settled.

    Args:
        predictions: Prediction log: at, request_id, subject_id, study_day, bundle_digest, arm, probability.
        labels: As `trialops.features.labels.label` gives them.
        task: The prediction task.
        digest: Bundle digest of the model to judge.
        slack_days: Most days after the landmark at which a prediction still counts.
        left_days: subject_id and left (Int32), the day of the disposition; a prediction on or after it is none.

    Returns:
        The cohort; every logged prediction is in it, waits, or is left out for one reason.
    """
    import polars as pl

    first, last = task.landmark_day, task.landmark_day + slack_days
    known = labels.select("subject_id", "site_id", "label")
    if left_days is not None:
        known = known.join(left_days.select("subject_id", pl.col("left").cast(pl.Int64)), on="subject_id", how="left")
    else:
        known = known.with_columns(left=pl.lit(None, pl.Int64))
    rows = (
        predictions.select("at", "request_id", "subject_id", "study_day", "bundle_digest", "arm", "probability")
        .sort("at", "request_id", maintain_order=True)
        .join(known, on="subject_id", how="left", maintain_order="left")
    )
    reason = (
        pl.when(pl.col("subject_id").fill_null("") == "")
        .then(pl.lit(NO_SUBJECT))
        .when(pl.col("arm").fill_null("") == "shadow")
        .then(pl.lit(SHADOW))
        .when(pl.col("bundle_digest") != digest)
        .then(pl.lit(OTHER_MODEL))
        .when(~pl.col("study_day").is_between(first, last).fill_null(False))
        .then(pl.lit(OTHER_DAY))
    )
    rows = rows.with_columns(reason=reason)
    usable = pl.col("reason").is_null()
    repeated = usable & (usable.cum_sum().over("subject_id") > 1)
    rows = rows.with_columns(reason=pl.when(repeated).then(pl.lit(REPEATED)).otherwise("reason"))
    rows = rows.with_columns(
        reason=pl.coalesce(
            "reason",
            pl.when(pl.col("site_id").is_null()).then(pl.lit(NOT_IN_TRIAL)),
            pl.when((pl.col("left") <= pl.col("study_day")).fill_null(False)).then(pl.lit(AFTER_OUTCOME)),
            pl.when(pl.col("label").is_null()).then(pl.lit(NOT_MATURED)),
        )
    )
    left_out = {str(k): int(n) for k, n in sorted(rows.filter(~usable).group_by("reason").len().iter_rows())}
    waiting = rows.filter(pl.col("reason") == NOT_MATURED)["probability"].to_numpy()
    kept = rows.filter(usable).select("subject_id", "site_id", "at", pl.col("label").cast(pl.Int8), "probability")
    return Cohort(kept, left_out, waiting)


def relative_drop(now: Estimate, then: Estimate) -> Estimate:
    """Loss against the reference, 1 - now / then, of two independent samples by the delta method.

    The standard errors are read back from the intervals, whose half-widths they are times the normal quantile.
    """
    z = z_value(now.level)
    spread = (now.high - now.low) / 2 / z / then.value
    base = (then.high - then.low) / 2 / z_value(then.level) * now.value / then.value**2
    value, error = 1 - now.value / then.value, math.hypot(spread, base)
    return Estimate(value, value - z * error, value + z * error, "delta method", now.level)


def label_free(p: np.ndarray, threshold: float) -> LabelFree:
    """Expected performance of predictions whose labels are unknown, taking every probability as right.

    With probabilities p, pair (i, j) holds an event at i and none at j with probability p_i (1 - p_j); the expected
    AUROC is the share of those pairs that are ordered rightly, ties one half. It cannot show concept drift: where the
    probabilities are wrong, so is the estimate.

    Args:
        p: Probabilities, shape (n,), n > 0.
        threshold: Probability from which a subject is flagged.
    """
    import numpy as np

    _, inverse = np.unique(p, return_inverse=True)
    events = np.bincount(inverse, weights=p)
    others = np.bincount(inverse, weights=1 - p)
    # Nobody forms a pair with themselves.
    alone = float((p * (1 - p)).sum())
    pairs = float(events.sum() * others.sum()) - alone
    below = np.cumsum(others) - others
    ordered = float((events * (below + others / 2)).sum()) - alone / 2
    flagged = p >= threshold
    return LabelFree(
        n=len(p),
        auroc=ordered / pairs if pairs > 0 else math.nan,
        brier=float(np.mean(p * (1 - p))),
        accuracy=float(np.where(flagged, p, 1 - p).mean()),
        prevalence=float(p.mean()),
    )


def by_site(rows: pl.DataFrame, *, least: int, rate: float) -> tuple[SiteResult, ...]:
    """Observed against expected events per site; a two-sided normal test, sites corrected by Benjamini and Hochberg.

    Args:
        rows: site_id, label, probability.
        least: Fewest subjects of a site to judge it.
        rate: False discovery rate over the sites.
    """
    import numpy as np
    import polars as pl

    p = pl.col("probability")
    table = (
        rows.group_by("site_id")
        .agg(
            n=pl.len(),
            observed=pl.col("label").cast(pl.Int64).sum(),
            expected=p.sum(),
            variance=(p * (1 - p)).sum(),
        )
        .filter(pl.col("n") >= least)
        .sort("site_id")
    )
    z = ((table["observed"] - table["expected"]) / table["variance"].sqrt()).to_numpy()
    values = np.array([math.erfc(abs(one) / math.sqrt(2)) for one in z])
    flagged = adjusted(values) <= rate
    return tuple(
        SiteResult(site, n, observed, expected, float(value), bool(flag))
        for (site, n, observed, expected, _), value, flag in zip(table.iter_rows(), values, flagged, strict=True)
    )


def judge(
    cohort: Cohort, policy: MonitoringPolicy, *, model: str, at_promotion: Estimate, threshold: float
) -> Performance:
    """Judge a model on its matured cohort.

    Degraded is a model whose AUROC lies more than the policy's share below that at promotion, where the interval of the
    drop excludes 0 too; a point estimate alone decides nothing. Drop, intercept and slope share the policy's error
    (Bonferroni), so that a model that is right is called wrong no more often than its confidence level says.

    Args:
        cohort: Predictions with outcomes.
        policy: Limits.
        model: "version:digest".
        at_promotion: AUROC on the held-out sites when it was promoted.
        threshold: Probability from which a subject is flagged.
    """
    import numpy as np

    y = cohort.rows["label"].to_numpy().astype(np.float64)
    p = cohort.rows["probability"].to_numpy()
    n, events = len(y), int(y.sum())
    level = 1 - (1 - policy.confidence_level) / QUESTIONS
    unknown = Estimate(math.nan, math.nan, math.nan, "not enough evidence", level)
    waiting = label_free(cohort.waiting, threshold) if len(cohort.waiting) else None
    few = [
        f"{count} {what}; {needed} are needed"
        for count, needed, what in (
            (n, policy.min_subjects, "matured predictions"),
            (events, policy.min_events, "events among them"),
            (n - events, policy.min_events, "non-events among them"),
        )
        if count < needed
    ]
    if few:
        return Performance(
            model, n, events, unknown, at_promotion, unknown, unknown, math.nan, None, (), None, waiting,
            INSUFFICIENT, tuple(few), cohort.left_out,
        )  # fmt: skip
    area = auroc_interval(y, p, level)
    drop = relative_drop(area, at_promotion)
    agreement = calibration(y, p, level=level)
    sites = by_site(cohort.rows, least=policy.site_min_subjects, rate=policy.site_false_discovery_rate)
    reasons = []
    verdict = FINE
    low, high = policy.slope
    intercept, slope = agreement.intercept, agreement.slope
    if abs(intercept.value) > policy.max_intercept and not intercept.low <= 0 <= intercept.high:
        verdict = MISCALIBRATED
        reasons.append(f"calibration intercept {intercept}, limit {policy.max_intercept:g}")
    if not low <= slope.value <= high and not slope.low <= 1 <= slope.high and not math.isnan(slope.value):
        verdict = MISCALIBRATED
        reasons.append(f"calibration slope {slope}, limits {low:g} to {high:g}")
    if drop.value > policy.max_relative_drop and drop.low > 0:
        verdict = DEGRADED
        reasons.insert(0, f"AUROC {area} against {at_promotion}: a relative drop of {drop}")
    return Performance(
        model=model,
        n=n,
        events=events,
        auroc=area,
        at_promotion=at_promotion,
        drop=drop,
        accuracy=wilson(int(((p >= threshold) == (y == 1)).sum()), n, level),
        brier=brier(y, p),
        calibration=agreement,
        sites=sites,
        without_labels=label_free(p, threshold),
        waiting=waiting,
        verdict=verdict,
        reasons=tuple(reasons) or (f"AUROC {area} against {at_promotion} at promotion",),
        left_out=cohort.left_out,
    )
