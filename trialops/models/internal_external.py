"""Internal-external validation: each site judged by a model that did not learn from it, and the sites summarised.

Steyerberg and Harrell, Journal of Clinical Epidemiology 2016;69:245 (leave-a-site-out instead of a random split);
Riley et al., BMJ 2016;353:i3140 and Debray et al., BMJ 2017;356:i6460 (random effects over sites, on the logit of the
AUROC and the log of observed over expected). The between-site variance is Paule and Mandel's (1982), the interval
Hartung and Knapp's, not narrower than the usual one, and the prediction interval is for the next site.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.calibration import log_losses, logit, newton_logistic
from trialops.models.discrimination import Estimate, auroc, delong, z_value
from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np

LEAST = 2  # events and non-events of a site that DeLong can judge


@dataclass(frozen=True)
class RandomEffects:
    """A mean over sites.

    Attributes:
        mean: Mean over sites with its interval, on the measure's own scale.
        prediction_low: Lower bound of what the next site may show.
        prediction_high: Upper bound.
        tau: Standard deviation between sites, on the scale the mean was formed on.
        i2: Share of the variance that lies between sites.
        sites: Sites summarised.
        scale: "logit", "log" or "identity".
    """

    mean: Estimate
    prediction_low: float
    prediction_high: float
    tau: float
    i2: float
    sites: int
    scale: str

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return plain(self)


@dataclass(frozen=True)
class SiteScore:
    """One site, or the pool of those too small to be judged alone: its size, AUROC, calibration slope, log O/E."""

    site: str
    n: int
    events: int
    log_loss: float
    auroc: float
    auroc_error: float
    observed_to_expected: float
    observed_to_expected_error: float


@dataclass(frozen=True)
class InternalExternal:
    """Performance over sites left out in turn.

    Attributes:
        sites: One row per site, those too small pooled, sorted.
        auroc: Summary of the AUROC, formed on the logit scale; None with fewer than two sites.
        observed_to_expected: Summary of observed over expected events, formed on the log scale; None likewise.
        slope: Calibration slope over all subjects.
        notes: What a reader should know.
    """

    sites: tuple[SiteScore, ...]
    auroc: RandomEffects | None
    observed_to_expected: RandomEffects | None
    slope: Estimate
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The validation as JSON values."""
        return plain(self)


def paule_mandel(values: np.ndarray, variances: np.ndarray) -> float:
    """Between-site variance at which the weighted squares equal their expectation, k - 1; 0 where they never do.

    Args:
        values: Estimates of shape (k,).
        variances: Their variances, shape (k,).
    """
    import numpy as np

    def excess(tau2: float) -> float:
        weight = 1 / (variances + tau2)
        mean = float(weight @ values / weight.sum())
        return float(weight @ (values - mean) ** 2) - (len(values) - 1)

    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, max(float(np.var(values)), 1e-12)
    while excess(high) > 0:
        high *= 2
    for _ in range(200):  # the excess falls with the variance: bisection to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return (low + high) / 2


def random_effects(
    values: np.ndarray, variances: np.ndarray, *, scale: str = "identity", level: float = 0.95
) -> RandomEffects:
    """Mean over sites with an interval and a prediction interval.

    Args:
        values: Estimates of shape (k,), k at least 2, on the scale named.
        variances: Their variances on that scale.
        scale: "logit", "log" or "identity": how mean and bounds are brought back.
        level: Confidence level.

    Returns:
        The summary on the measure's own scale.
    """
    import numpy as np
    from scipy import stats

    k = len(values)
    tau2 = paule_mandel(values, variances)
    weight = 1 / (variances + tau2)
    mean = float(weight @ values / weight.sum())
    spread = float(weight @ (values - mean) ** 2) / (k - 1)
    # Hartung and Knapp's factor below 1 would claim more than the sites' own errors allow.
    error = math.sqrt(max(spread, 1.0) / float(weight.sum()))
    reach = float(stats.t.ppf((1 + level) / 2, k - 1)) * error
    wide = float(stats.t.ppf((1 + level) / 2, max(k - 2, 1))) * math.sqrt(tau2 + error * error)
    fixed = 1 / variances
    q = float(fixed @ (values - fixed @ values / fixed.sum()) ** 2)
    back = {
        "logit": lambda v: float(1 / (1 + np.exp(-v))),
        "log": lambda v: float(np.exp(v)),
        "identity": float,
    }[scale]
    return RandomEffects(
        mean=Estimate(
            back(mean), back(mean - reach), back(mean + reach), f"random effects over {k} sites, Hartung-Knapp", level
        ),
        prediction_low=back(mean - wide),
        prediction_high=back(mean + wide),
        tau=math.sqrt(tau2),
        i2=max(0.0, 1 - (k - 1) / q) if q > 0 else 0.0,
        sites=k,
        scale=scale,
    )


def internal_external(y: np.ndarray, p: np.ndarray, site: np.ndarray, *, level: float = 0.95) -> InternalExternal:
    """Judge predictions site by site and summarise over sites.

    Args:
        y: Labels 0 and 1 of shape (n,).
        p: Predictions of shape (n,), each by a model that did not learn from the subject's site.
        site: Site of each subject, shape (n,).
        level: Confidence level.

    Returns:
        Sites and summaries. Sites with fewer than two events or non-events are pooled into one row that counts as a
        site where the pool can be judged.
    """
    import numpy as np

    names = site.astype(str)
    large: list[str] = []
    small: list[str] = []
    for name in sorted(set(names.tolist())):
        part = names == name
        events = int(y[part].sum())
        (large if min(events, int(part.sum()) - events) >= LEAST else small).append(name)
    notes = []
    groups = [(name, names == name) for name in large]
    if small:
        pool = np.isin(names, small)
        events = int(y[pool].sum())
        notes.append(f"{len(small)} sites with fewer than {LEAST} events or non-events are pooled.")
        if min(events, int(pool.sum()) - events) >= LEAST:
            groups.append((f"pool of {len(small)} smaller sites", pool))
        else:
            notes.append(f"The pool of {int(pool.sum())} subjects cannot be judged either.")
    rows = tuple(_site(name, y[part], p[part]) for name, part in groups)
    fit = newton_logistic(np.column_stack([np.ones(len(y)), logit(p)]), y) if np.ptp(p) > 1e-9 else None
    if fit is None:
        slope = Estimate(math.nan, math.nan, math.nan, "not estimable", level)
    else:
        value, reach = float(fit[0][1]), z_value(level) * math.sqrt(float(fit[1][1, 1]))
        slope = Estimate(value, value - reach, value + reach, "Wald", level)
    return InternalExternal(rows, _areas(rows, level), _ratios(rows, level), slope, tuple(notes))


def _site(name: str, y: np.ndarray, p: np.ndarray) -> SiteScore:
    import numpy as np

    _, covariance = delong(y, np.asarray(p, dtype=np.float64)[None, :])
    events, expected = int(y.sum()), float(p.sum())
    # variance of log(observed / expected) with the predictions taken as known, Debray et al., equation in appendix
    share = events / len(y)
    return SiteScore(
        site=name,
        n=len(y),
        events=events,
        log_loss=float(log_losses(y, p).mean()),
        auroc=auroc(y, p),
        auroc_error=math.sqrt(max(float(covariance[0, 0]), 0.0)),
        observed_to_expected=events / expected if expected > 0 else math.nan,
        observed_to_expected_error=math.sqrt((1 - share) / events) if events else math.nan,
    )


def _areas(rows: tuple[SiteScore, ...], level: float) -> RandomEffects | None:
    """Summary of the AUROC; a site at exactly 0 or 1 has no error to weigh it with and is moved half a pair inwards."""
    import numpy as np

    values, variances = [], []
    for row in rows:
        pairs = row.events * (row.n - row.events)
        area = min(max(row.auroc, 0.5 / pairs), 1 - 0.5 / pairs)
        # Where DeLong has no variance: that of a proportion of the smaller class, its members being ordered alike.
        error2 = row.auroc_error**2 or area * (1 - area) / min(row.events, row.n - row.events)
        values.append(math.log(area / (1 - area)))
        variances.append(error2 / (area * (1 - area)) ** 2)
    if len(values) < 2:
        return None
    return random_effects(np.array(values), np.array(variances), scale="logit", level=level)


def _ratios(rows: tuple[SiteScore, ...], level: float) -> RandomEffects | None:
    import numpy as np

    known = [row for row in rows if row.observed_to_expected > 0]
    if len(known) < 2:
        return None
    return random_effects(
        np.array([math.log(row.observed_to_expected) for row in known]),
        np.array([row.observed_to_expected_error**2 for row in known]),
        scale="log",
        level=level,
    )
