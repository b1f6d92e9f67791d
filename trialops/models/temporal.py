"""Temporal validation: fitted on those enrolled first, judged on those enrolled last.

De-identification leaves no calendar dates, but the study day of the data cut (`cut_day`) is later for whoever enrolled
earlier, so it orders subjects by enrolment. Between the two parts lies a gap: whoever's outcome was not settled when
the first of the late subjects reached the landmark is left out of both, since a model made at that moment could not
have learnt from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.calibration import log_loss
from trialops.models.candidates import Candidate, fit_lightgbm, fit_logistic, predict_logistic
from trialops.models.design_matrix import labels, values
from trialops.models.discrimination import Estimate, auroc_interval
from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.task import Task

CUT_DAY = "cut_day"


@dataclass(frozen=True)
class TemporalSplit:
    """Who is early and who is late.

    Attributes:
        early: Rows to learn from, shape (n,), True or False.
        late: Rows to judge on, shape (n,).
        gap: Rows in neither part.
        notes: What a reader should know.
    """

    early: np.ndarray
    late: np.ndarray
    gap: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TemporalScore:
    """The winner's configuration, fitted on early subjects, on late ones.

    Attributes:
        early: Subjects learnt from.
        early_events: Events among them.
        late: Subjects judged on.
        late_events: Events among them.
        gap: Subjects left out in between.
        auroc: AUROC on the late subjects.
        log_loss: Log loss on them.
        observed_to_expected: Observed over expected events among them.
        notes: What a reader should know.
    """

    early: int
    early_events: int
    late: int
    late_events: int
    gap: int
    auroc: Estimate
    log_loss: float
    observed_to_expected: float
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The score as JSON values."""
        return plain(self)


def temporal_split(frame: Any, task: Task, share: float) -> TemporalSplit | None:
    """Divide subjects by when they enrolled.

    Args:
        frame: Training part (polars or pandas) with `cut_day`.
        task: Gives the landmark and the day by which an outcome is settled.
        share: Share of subjects that count as late; subjects of one day stay together.

    Returns:
        The division; None where the frame does not tell when subjects enrolled, or all enrolled on one day.
    """
    import numpy as np

    if CUT_DAY not in frame.columns:
        return None
    cut = values(frame, CUT_DAY).astype(np.float64)
    known = np.isfinite(cut)
    if known.sum() < 2 or np.ptp(cut[known]) == 0:
        return None
    enrolled = -cut  # days before the cut: larger is later
    boundary = float(np.quantile(enrolled[known], 1 - share, method="higher"))
    late = known & (enrolled >= boundary)
    # A model for the first late subject is made when they reach the landmark; who is settled by then is early.
    early = known & ~late & (enrolled + task.settled_day <= boundary + task.landmark_day)
    notes = []
    if not known.all():
        notes.append(f"{int((~known).sum())} subjects without a data cut are in neither part.")
    gap = int((known & ~late & ~early).sum())
    if gap:
        notes.append(f"{gap} subjects were still followed when the first late subject reached the landmark.")
    return TemporalSplit(early, late, gap, tuple(notes))


def temporal_score(
    frame: Any,
    x: np.ndarray,
    features: list[str],
    candidate: Candidate,
    rounds: int,
    task: Task,
    seed: int,
) -> TemporalScore | None:
    """Fit a configuration on early subjects and judge it on late ones.

    Args:
        frame: Training part, rows in the order of `x`.
        x: Matrix of shape (n, p).
        features: Names of its columns.
        candidate: The configuration.
        rounds: Boosting rounds of the winner.
        task: The task; its `latest_share` says how many count as late.
        seed: Seed of the fit.

    Returns:
        The score; None where subjects cannot be divided, or a part lacks one of the outcomes.
    """
    import numpy as np

    share = task.split.latest_share
    split = temporal_split(frame, task, share) if share is not None else None
    if split is None:
        return None
    y = labels(frame)
    for part in (split.early, split.late):
        if not 0 < int(y[part].sum()) < int(part.sum()):
            return None
    if candidate.kind == "logistic":
        p = predict_logistic(fit_logistic(x[split.early], y[split.early], candidate.params, seed), x[split.late])
    else:
        import lightgbm

        text = fit_lightgbm(x[split.early], y[split.early], candidate.params, rounds, seed, features)
        p = np.asarray(lightgbm.Booster(model_str=text).predict(x[split.late], num_threads=1))
    late = y[split.late]
    return TemporalScore(
        early=int(split.early.sum()),
        early_events=int(y[split.early].sum()),
        late=len(late),
        late_events=int(late.sum()),
        gap=split.gap,
        auroc=auroc_interval(late, p),
        log_loss=log_loss(late, p),
        observed_to_expected=float(late.sum() / p.sum()),
        notes=split.notes,
    )
