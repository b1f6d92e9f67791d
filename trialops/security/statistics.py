"""Tail probabilities, their combination, and what of many of them is told.

Sources: negative binomial tail by the regularised incomplete beta function (Johnson, Kemp, Kotz 2005, 5.6); Cauchy
combination (Liu and Xie 2020, JASA 115:393); false discovery rate (Benjamini and Hochberg 1995, JRSS B 57:289);
exponential excesses over a high quantile (Pickands 1975, Ann. Stat. 3:119, shape 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SMALLEST = 1e-30
"""Tail probabilities are not told apart below this one."""
INDIFFERENT = 0.5
"""A tail probability above this one says nothing against an actor and takes nothing from what others say."""


def upper_tail(count: Floats, mean: Floats, dispersion: Floats) -> Floats:
    """P(Y >= count) of a negative binomial with variance mean + dispersion mean^2; 1 where the count is 0.

    Args:
        count: Counts, any shape.
        mean: Expected counts; a zero is taken as 1e-9.
        dispersion: Positive.
    """
    import numpy as np
    from scipy.special import betainc

    y, mu = np.maximum(count, 0.0), np.maximum(mean, 1e-9)
    size = 1.0 / np.maximum(dispersion, 1e-9)
    tail = betainc(np.maximum(y, 1.0), size, mu / (mu + size))
    return np.where(y < 1, 1.0, np.clip(tail, SMALLEST, 1.0))


def combine(tails: Floats) -> Floats:
    """One tail probability from several about the same actor and day, dependent or not: Cauchy combination.

    Args:
        tails: First axis: detectors. NaN: the detector had nothing to judge by.

    Returns:
        Without the first axis; 1 where nothing could be judged.
    """
    import numpy as np

    known = ~np.isnan(tails)
    p = np.clip(np.where(known, tails, INDIFFERENT), SMALLEST, INDIFFERENT)
    # tan((1/2 - p) pi) is 1 / tan(p pi); for tiny p that is 1 / (p pi), free of cancellation.
    total = np.where(known, 1.0 / np.tan(p * np.pi), 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.clip(np.where(total > 0, np.arctan2(1.0, np.maximum(total, 1e-300)) / np.pi, 1.0), SMALLEST, 1.0)


def calibrated(score: Floats, past: Floats, *, tail: float, least: int, trim: float) -> Floats:
    """Tail probabilities of scores -ln(p) among the scores of the days before.

    Below the quantile the share of the past that is as high; beyond it an exponential tail whose scale is the mean
    excess. The highest scores of the past are left out of it (they may be attacks), and the scale is corrected.

    Args:
        score: Scores to judge.
        past: Scores of actor-days before, one dimension.
        tail: Share of the past beyond the quantile.
        least: Fewest excesses to learn from; the quantile is lowered until there are so many, to the median at most.
        trim: Share of the past left out at the top.
    """
    import numpy as np

    past = np.sort(past)
    if len(past) < 2 * least:
        return np.exp(-score)  # nothing to learn from yet: the scores as they are
    cut = float(np.quantile(past, 1 - min(max(tail, least / len(past)), 0.5)))
    excess = past[past > cut] - cut
    share = (len(past) - np.searchsorted(past, score, side="left") + 1.0) / (len(past) + 1.0)
    if len(excess) < least / 2:
        return np.minimum(np.exp(-score), 1.0)  # hardly ever anything but 0: the scores as they are
    drop = int(np.ceil(trim * len(past)))
    kept = excess[: max(len(excess) - drop, 1)]
    # Mean of a type II censored exponential sample: of those left out it is known that they are at least the last kept.
    scale = float((kept.sum() + (len(excess) - len(kept)) * kept[-1]) / len(kept))
    beyond, scale = len(excess) / len(past), min(max(scale, 0.7), 3.0)
    return np.where(score <= cut, np.minimum(share, 1.0), beyond * np.exp(-(score - cut) / scale))


def discoveries(tails: Floats, rate: float) -> NDArray[np.bool_]:
    """Which of the tests of one family are told, by Benjamini and Hochberg's step-up procedure.

    Args:
        tails: One dimension.
        rate: False discovery rate.
    """
    import numpy as np

    order = np.argsort(tails, kind="stable")
    limits = rate * (np.arange(len(tails)) + 1) / max(len(tails), 1)
    under = np.flatnonzero(tails[order] <= limits)
    told = np.zeros(len(tails), dtype=bool)
    if len(under):
        told[order[: under[-1] + 1]] = True
    return told


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a Poisson mean from one count (Garwood 1936)."""
    from scipy.stats import chi2

    low = 0.0 if count == 0 else float(chi2.ppf((1 - level) / 2, 2 * count) / 2)
    return low, float(chi2.ppf(1 - (1 - level) / 2, 2 * count + 2) / 2)
