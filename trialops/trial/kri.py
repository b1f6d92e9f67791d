"""Scores of sites on key risk indicators: how far a site is from the others, in standard errors with overdispersion.

The score is the z of a proportion or a rate against the trial's, divided by the square root of the dispersion of all
sites (Spiegelhalter 2005, Stat Med 24:1185; Zink et al. 2018, Ther Innov Regul Sci 52:560): sites differ by more than
chance in every trial, and only those that stick out of that are worth a visit. With n sites no score exceeds sqrt(n),
because the site is part of the dispersion; among nine sites or fewer nothing can be red by the score alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from trialops.trial.kri_policy import Indicator, Kind, SitePolicy

    Floats = npt.NDArray[np.float64]

Flag = Literal["red", "amber", "green", "not judged"]
SCORES = ("indicator", "site", "numerator", "denominator", "metric", "z", "score", "p", "p_adjusted", "flag")


@dataclass(frozen=True)
class Scored:
    """One indicator over all sites, arrays of shape (sites,).

    Attributes:
        mu: The trial's proportion or rate.
        phi: Dispersion: mean of the squared z of the sites.
        metric: Numerator over denominator.
        z: Without overdispersion.
        score: With it; 0 where nobody differs.
        p: Two-sided exact p-value of the site against all the others.
    """

    mu: float
    phi: float
    metric: Floats
    z: Floats
    score: Floats
    p: Floats


def score_sites(numerator: Floats, denominator: Floats, kind: Kind, *, winsorise: float = 0.0) -> Scored:
    """Score sites on one indicator.

    Args:
        numerator: Events by site, shape (sites,).
        denominator: Chances or time by site, all above 0.
        kind: binary (numerator of denominator) or rate (numerator per denominator).
        winsorise: Share of the sites at each end whose z is pulled in to the next one before phi is taken.

    Raises:
        TrialOpsError: A denominator is not positive, or a binary numerator is above its denominator.
    """
    import numpy as np

    n, d = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if np.any(d <= 0) or np.any(n < 0) or (kind == "binary" and np.any(n > d)):
        raise TrialOpsError("Numerators and denominators do not fit together", where=f"kri, {kind}")
    total = d.sum()
    mu = float(n.sum() / total) if len(d) else 0.0
    metric = n / d
    unit = mu * (1 - mu) if kind == "binary" else mu
    if unit <= 0:
        nothing = np.zeros(len(d))
        return Scored(mu, 0.0, metric, nothing, nothing, np.ones(len(d)))
    z = (metric - mu) / np.sqrt(unit / d)
    phi = float(np.mean(_pulled(z, winsorise) ** 2))
    score = (metric - mu) / np.sqrt(phi * unit / d) if phi > 0 else np.zeros(len(d))
    return Scored(mu, phi, metric, z, score, _exact(n, d, kind))


def control_limits(scored: Scored, denominator: Floats, kind: Kind, limit: float) -> tuple[Floats, Floats]:
    """Lower and upper control limit of the metric at given denominators, for the funnel plot."""
    import numpy as np

    unit = scored.mu * (1 - scored.mu) if kind == "binary" else scored.mu
    half = limit * np.sqrt(scored.phi * unit / np.asarray(denominator, dtype=np.float64))
    upper = scored.mu + half
    return np.maximum(scored.mu - half, 0.0), np.minimum(upper, 1.0) if kind == "binary" else upper


def holm(p: Sequence[float] | Floats) -> Floats:
    """P-values adjusted for their number so that the family-wise error holds (Holm 1979)."""
    import numpy as np

    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * (len(values) - np.arange(len(values)))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(values) else steps
    return adjusted


def score_table(measures: pl.DataFrame, policy: SitePolicy) -> tuple[pl.DataFrame, dict[str, Scored]]:
    """Score every site on every indicator that the data can tell.

    Args:
        measures: One row per site: SITEID and the numerators and denominators that the policy names; null where the
            delivery has nothing to count them from.
        policy: The policy.

    Returns:
        One row per indicator and site, in the policy's order and sorted by site, with the columns of ``SCORES``; and
        what was scored by indicator. ``p_adjusted`` is Holm's over the whole table. A site without a denominator has
        no row; below the minimum it has a score and is not judged.
    """
    import polars as pl

    frames, scored = [], {}
    ordered = measures.sort("SITEID")
    for one in policy.indicators:
        if not {one.numerator, one.denominator} <= set(ordered.columns):
            continue
        usable = ordered.select(
            site="SITEID", numerator=pl.col(one.numerator).cast(pl.Float64), denominator=pl.col(one.denominator)
        ).with_columns(pl.col("denominator").cast(pl.Float64))
        usable = usable.filter((pl.col("denominator") > 0) & pl.col("numerator").is_not_null())
        if usable.is_empty():
            continue
        numerator, denominator = usable["numerator"].to_numpy(), usable["denominator"].to_numpy()
        result = score_sites(numerator, denominator, one.kind, winsorise=policy.winsorise)
        flags = [
            _flag(one, policy, float(s), float(p), float(m - result.mu), float(d))
            for s, p, m, d in zip(result.score, result.p, result.metric, denominator, strict=True)
        ]
        scored[one.name] = result
        frames.append(
            usable.with_columns(
                pl.lit(one.name).alias("indicator"),
                pl.Series("metric", result.metric),
                pl.Series("z", result.z),
                pl.Series("score", result.score),
                pl.Series("p", result.p),
                pl.Series("flag", flags, dtype=pl.String),
            )
        )
    if not frames:
        schema = {name: pl.String if name in ("indicator", "site", "flag") else pl.Float64 for name in SCORES}
        return pl.DataFrame(schema=schema), {}
    table = pl.concat(frames)
    return table.with_columns(pl.Series("p_adjusted", holm(table["p"].to_numpy()))).select(SCORES), scored


def _flag(one: Indicator, policy: SitePolicy, score: float, p: float, above: float, denominator: float) -> Flag:
    """What a site's figures ask for."""
    if denominator < one.minimum:
        return "not judged"
    if (one.direction == "high" and above < 0) or (one.direction == "low" and above > 0):
        return "green"
    levels: tuple[tuple[Flag, float], ...] = (("red", policy.red), ("amber", policy.amber))
    for level, limit in levels:
        if (p <= math.erfc(limit / math.sqrt(2))) if one.method == "exact" else (abs(score) >= limit):
            return level
    return "green"


def _pulled(z: Floats, share: float) -> Floats:
    """The values with a share at each end set to the next one inside."""
    import numpy as np

    cut = int(share * len(z))
    if not cut:
        return z
    ordered = np.sort(z)
    return np.clip(z, ordered[cut], ordered[len(z) - 1 - cut])


def _exact(n: Floats, d: Floats, kind: Kind) -> Floats:
    """Two-sided p of each site against the others: twice the smaller tail, at most 1.

    Given the total, a site's events are hypergeometric (binary: Fisher's test) or binomial with its share of the time
    (rate).
    """
    import numpy as np
    from scipy.stats import binom, hypergeom

    total, size = n.sum(), d.sum()
    if len(n) < 2:
        return np.ones(len(n))
    law = hypergeom(int(size), int(total), d.astype(int)) if kind == "binary" else binom(int(total), d / size)
    low, high = law.cdf(n), law.sf(n - 1)
    return np.minimum(2 * np.minimum(low, high), 1.0)
