"""Ways to make a model treat groups more alike. Each is deterministic: the same subject always gets the same answer.

* **Reweighing** (Kamiran and Calders, Knowledge and Information Systems 2012;33:1): training rows are weighted so that
  group and outcome are independent, and the model is fitted again. It needs the attribute in training only.
* **Without the attribute**: the model is fitted again without the features that hold it. What else tells of the
  attribute stays in.
* **Thresholds by group** (Hardt, Price and Srebro, NeurIPS 2016): one threshold per group, so that groups have about
  the same true-positive rate, or about the same point of the ROC plane. Hardt et al. reach equality exactly by flagging
  some subjects at random. A patient's follow-up must not depend on a coin, so the nearest attainable point is taken
  instead. It needs the attribute at prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trialops.models.bundle import Bundle
from trialops.models.candidates import fit_lightgbm, fit_logistic
from trialops.models.design_matrix import inputs
from trialops.models.search import choose_threshold

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.split import Folds
    from trialops.models.task import Task

CUTS = 400  # most thresholds looked at
EQUAL_OPPORTUNITY, EQUALIZED_ODDS = "true-positive rate", "both error rates"


def reweighing(y: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Weights that make outcome and group independent: expected over observed share of each (group, outcome) cell.

    Args:
        y: Labels 0 and 1 of shape (n,).
        code: Group of each row as a number, shape (n,).

    Returns:
        Weights of shape (n,); they sum to n when every group has both outcomes.
    """
    import numpy as np

    groups, cell = np.bincount(code), 2 * code + y
    observed = np.bincount(cell, minlength=2 * len(groups))
    outcome = np.bincount(y, minlength=2)
    expected = (groups[:, None] * outcome / len(y)).ravel()
    weights = np.divide(expected, observed, out=np.zeros(len(observed)), where=observed > 0)
    return weights[cell]


@dataclass(frozen=True)
class Training:
    """Training part as arrays.

    Attributes:
        frame: Training rows.
        y: Labels of shape (n,).
        folds: Folds by site.
    """

    frame: Any
    y: np.ndarray
    folds: Folds


def fitted_again(
    bundle: Bundle, x: np.ndarray, y: np.ndarray, kept: Sequence[str], weight: np.ndarray | None, name: str
) -> Bundle:
    """Fit a model's configuration on other rows, other features or with weights; the threshold stays.

    Args:
        bundle: The model; its family, hyperparameters and number of rounds are kept.
        x: Matrix of shape (n, p), columns as in `kept`.
        y: Labels of shape (n,).
        kept: Features.
        weight: Weight of each row, or None.
        name: Name of the new model.

    Returns:
        The new model, without an interval table: that belongs to the old one.
    """
    seed, rounds = int(bundle.params.get("seed", 0)), int(bundle.params.get("rounds", 0))
    params = {k: v for k, v in bundle.params.items() if k not in ("seed", "rounds")}
    blank = replace(bundle, name=name, features=tuple(kept), fill={}, interval=None)
    if bundle.kind == "lightgbm":
        return replace(blank, booster=fit_lightgbm(x, y, params, rounds, seed, list(kept), weight))
    fitted = fit_logistic(x, y, params, seed, weight)
    return replace(
        blank,
        fill=dict(zip(kept, fitted["fill"], strict=True)),
        centre=tuple(fitted["centre"]),
        scale=tuple(fitted["scale"]),
        coefficients=tuple(fitted["coefficients"]),
        intercept=fitted["intercept"],
    )


def out_of_fold(
    bundle: Bundle, training: Training, kept: Sequence[str] | None = None, weight: np.ndarray | None = None
) -> np.ndarray:
    """Prediction of each training row by a model that did not see its site, shape (n,)."""
    import numpy as np

    kept = bundle.features if kept is None else kept
    x, out = inputs(training.frame, kept), np.empty(len(training.y))
    for k in range(training.folds.count):
        part = training.folds.fold == k
        w = None if weight is None else weight[~part]
        out[part] = fitted_again(bundle, x[~part], training.y[~part], kept, w, bundle.name).predict(x[part])
    return out


def refit(
    bundle: Bundle,
    training: Training,
    task: Task,
    *,
    name: str,
    kept: Sequence[str] | None = None,
    weight: np.ndarray | None = None,
) -> Bundle:
    """Fit again on all training rows; the threshold is chosen by the task's rule on out-of-fold predictions."""
    kept = bundle.features if kept is None else kept
    threshold = choose_threshold(training.y, out_of_fold(bundle, training, kept, weight), task)
    model = fitted_again(bundle, inputs(training.frame, kept), training.y, kept, weight, name)
    return replace(model, threshold=threshold)


def group_thresholds(
    y: np.ndarray, p: np.ndarray, code: np.ndarray, usable: np.ndarray, single: float, aim: str
) -> np.ndarray:
    """One threshold per group.

    The aim is a true-positive rate, or a point of the ROC plane, that every group comes near to. Of all aims on the
    pooled ROC curve, the one is taken with the largest pooled Youden index minus the largest gap left between
    groups: what is gained in treating groups alike counts as much as what is lost in telling events apart.

    Args:
        y: Labels of the training rows, shape (n,).
        p: Out-of-fold predictions, shape (n,).
        code: Group of each row, shape (n,).
        usable: Whether a group is large enough for a threshold of its own, shape (groups,).
        single: Threshold of the other groups.
        aim: `EQUAL_OPPORTUNITY` or `EQUALIZED_ODDS`.

    Returns:
        Thresholds of shape (groups,).
    """
    import numpy as np

    cuts = np.unique(np.quantile(p, np.linspace(0, 1, CUTS), method="inverted_cdf"))
    which = np.flatnonzero(usable)

    def curve(part: np.ndarray) -> np.ndarray:
        """True- and false-positive rate at each cut, shape (cuts, 2)."""
        sides = [np.sort(p[part & (y == outcome)]) for outcome in (1, 0)]
        return np.stack([1 - np.searchsorted(s, cuts, side="left") / max(len(s), 1) for s in sides], axis=1)

    curves = np.stack([curve(code == k) for k in which])  # (groups, cuts, 2)
    aims = curve(np.ones(len(y), dtype=bool))
    axes = [0] if aim == EQUAL_OPPORTUNITY else [0, 1]
    distance = np.abs(curves[:, None, :, axes] - aims[None, :, None, axes]).max(axis=-1)  # (groups, aims, cuts)
    chosen = distance.argmin(axis=-1)  # (groups, aims)
    reached = np.take_along_axis(curves[:, :, None, :], chosen[:, :, None, None], axis=1)[:, :, 0, :]
    left = np.ptp(reached[..., axes], axis=0).max(axis=-1)
    events = np.array([(y[code == k] == 1).sum() for k in which], dtype=float)
    others = np.array([(y[code == k] == 0).sum() for k in which], dtype=float)
    pooled = events @ reached[..., 0] / events.sum() - others @ reached[..., 1] / others.sum()
    best = int((pooled - left).argmax())
    found = np.full(len(usable), single)
    found[which] = cuts[chosen[:, best]]
    return found
