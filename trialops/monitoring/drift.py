"""Feature drift: current rows against a model's reference profile.

A feature has drifted when the difference is neither chance nor trifling: its test is significant with the false
discovery rate controlled over all features, *and* the difference is large enough to matter, after what chance alone
gives is taken off. More rows make the first easier and the second no easier, so nothing fires for their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.models.record import plain
from trialops.monitoring.cells import QUANTILES, FeatureProfile, Tally, column, tally
from trialops.monitoring.drift_policy import DriftPolicy, load_drift_policy
from trialops.monitoring.drift_statistics import (
    adjusted,
    chance_psi,
    cut_cells,
    detectable_psi,
    homogeneity,
    ks,
    psi,
    rate_test,
    wasserstein,
)
from trialops.monitoring.reference import THREADS, Reference, slice_counts

if TYPE_CHECKING:
    import numpy as np

DRIFT, NO_DRIFT, INSUFFICIENT = "drift", "no drift", "insufficient evidence"


@dataclass(frozen=True)
class FeatureDrift:
    """One feature compared.

    Attributes:
        name: Feature.
        kind: Kind of its cells.
        state: "drift", "no drift" or "insufficient evidence".
        alert: Whether it has drifted beyond the alert limit.
        psi: Population stability index over all cells, missing included.
        excess_psi: The index less what chance gives on average, at least 0.
        p: p-value of the feature, see :func:`difference`.
        q: The same, adjusted over the features.
        freedom: Degrees of freedom of the test over its cells.
        detectable_psi: Index the test would have seen, with the policy's power, at these numbers of rows.
        ks: Kolmogorov-Smirnov statistic of the known values; NaN for words.
        ks_p: Its p-value.
        wasserstein_sd: Wasserstein distance of the known values in standard deviations of the reference.
        mean_shift_sd: Change of the mean in the same unit.
        missing_reference: Share of missing values in the reference.
        missing_current: Share of missing values now.
        cells: Names of the cells.
        reference_share: Share of reference rows in each.
        current_share: Share of current rows in each.
    """

    name: str
    kind: str
    state: str
    alert: bool
    psi: float
    excess_psi: float
    p: float
    q: float
    freedom: int
    detectable_psi: float
    ks: float
    ks_p: float
    wasserstein_sd: float
    mean_shift_sd: float
    missing_reference: float
    missing_current: float
    cells: tuple[str, ...]
    reference_share: tuple[float, ...]
    current_share: tuple[float, ...]


@dataclass(frozen=True)
class SiteDrift:
    """One site's current rows.

    Attributes:
        site: Site.
        n: Its current rows.
        compared_with: "its own reference" or "the whole reference", where it had too few rows in it.
        psi: Feature -> index.
        drifted: Features that have drifted, by the same two conditions, adjusted over all sites and features.
    """

    site: str
    n: int
    compared_with: str
    psi: Mapping[str, float]
    drifted: tuple[str, ...]


@dataclass(frozen=True)
class DriftReport:
    """Current rows against the reference.

    Attributes:
        verdict: "drift", "no drift" or "insufficient evidence".
        alert: Whether a feature has drifted beyond the alert limit.
        reason: The verdict in words.
        n_reference: Rows of the reference.
        n_current: Current rows.
        features: One entry per feature, in the reference's order; the model's answers last where they are compared.
        sites: Sites with enough rows.
        small_sites: Number of sites with too few.
        multivariate: What the domain classifier and the correlations said, by name, where they were asked.
        reference: Digest of the profile.
        policy: Name, version and digest of the policy.
    """

    verdict: str
    alert: bool
    reason: str
    n_reference: int
    n_current: int
    features: tuple[FeatureDrift, ...]
    sites: tuple[SiteDrift, ...]
    small_sites: int
    reference: str
    policy: Mapping[str, Any]
    multivariate: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Features that have drifted, the largest index first."""
        found = [item for item in self.features if item.state == DRIFT]
        return tuple(item.name for item in sorted(found, key=lambda item: -item.psi))

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return plain(self)


def drift(
    reference: Reference,
    current: Any,
    policy: DriftPolicy | None = None,
    *,
    predictions: Any = None,
    by: str | None = None,
) -> DriftReport:
    """Compare rows with a reference.

    Rows have to be independent: one row per subject.

    Args:
        reference: The model's profile.
        current: polars or pandas frame, or mapping of arrays, with every feature of the profile.
        policy: The policy; the shipped one by default.
        predictions: The model's answers to the current rows, compared like one more feature.
        by: Column of sites to compare one by one too. Sites do not change the verdict.

    Raises:
        TrialOpsError: A feature is absent, or numbers have become words.
    """
    import numpy as np

    policy = policy or load_drift_policy()
    profiles = list(reference.features)
    columns = {profile.name: column(current, profile.name) for profile in profiles}
    if predictions is not None and reference.prediction is not None:
        profiles.append(reference.prediction)
        columns[reference.prediction.name] = np.asarray(predictions, dtype=np.float64)
    with ThreadPoolExecutor(THREADS) as pool:
        tallies = list(pool.map(lambda profile: tally(profile, columns[profile.name]), profiles))
    tests = [
        difference(profile, profile.counts, counted.counts, ks(profile, counted)[1], policy)
        for profile, counted in zip(profiles, tallies, strict=True)
    ]
    q = adjusted(np.array([p for _, p in tests]))
    features = tuple(
        _judge(profile, counted, test, float(level), policy)
        for profile, counted, test, level in zip(profiles, tallies, tests, q, strict=True)
    )
    n_current = tallies[0].n if tallies else 0
    sites, small = _sites(reference, columns, column(current, by), policy) if by else ((), 0)
    verdict, reason = _verdict(features, reference.n, n_current, policy)
    return DriftReport(
        verdict=verdict,
        alert=any(item.alert for item in features),
        reason=reason,
        n_reference=reference.n,
        n_current=n_current,
        features=features,
        sites=sites,
        small_sites=small,
        reference=reference.digest,
        policy={"name": policy.name, "version": policy.version, "digest": policy.digest},
    )


def _judge(
    profile: FeatureProfile, current: Tally, test: tuple[int, float], q: float, policy: DriftPolicy
) -> FeatureDrift:
    import numpy as np

    before, now = np.array(profile.counts), np.array(current.counts)
    freedom, p = test
    index = psi(before, now)
    excess = max(index - chance_psi(before, now), 0.0) if current.n else math.nan
    seen = detectable_psi(profile.n, current.n, freedom, alpha=policy.alpha, power=policy.power)
    statistic, ks_p = ks(profile, current)
    distance = wasserstein(profile, current)
    matters = excess >= policy.relevant_psi or distance >= policy.relevant_shift_sd
    if profile.n < policy.min_reference_rows or current.n < policy.min_rows:
        state = INSUFFICIENT
    elif q <= policy.alpha and matters:
        state = DRIFT
    elif freedom and seen > policy.alert_psi:
        state = INSUFFICIENT
    else:
        state = NO_DRIFT
    return FeatureDrift(
        name=profile.name,
        kind=profile.kind,
        state=state,
        alert=state == DRIFT and index > policy.alert_psi,
        psi=index,
        excess_psi=excess,
        p=p,
        q=q,
        freedom=freedom,
        detectable_psi=seen,
        ks=statistic,
        ks_p=ks_p,
        wasserstein_sd=distance,
        mean_shift_sd=(current.mean - profile.mean) / profile.sd if profile.sd > 0 else math.nan,
        missing_reference=profile.missing / profile.n,
        missing_current=current.counts[-1] / current.n if current.n else math.nan,
        cells=profile.labels(),
        reference_share=tuple((before / profile.n).tolist()),
        current_share=tuple((now / max(current.n, 1)).tolist()),
    )


def difference(
    profile: FeatureProfile,
    before: Sequence[int] | np.ndarray,
    now: Sequence[int] | np.ndarray,
    ks_p: float,
    policy: DriftPolicy,
) -> tuple[int, float]:
    """One p-value for a feature: Bonferroni's over the three ways in which it can differ.

    Numbers cut into cells: the cells, the distribution function (Kolmogorov-Smirnov) and the share missing. Single
    values and words: their frequencies, the share of any other, the share missing.

    Args:
        profile: The feature.
        before: Reference rows per cell.
        now: Current rows per cell.
        ks_p: p-value of Kolmogorov-Smirnov; NaN is not used.
        policy: The policy.

    Returns:
        Degrees of freedom of the test over the cells, and the p-value.
    """
    import numpy as np

    n, m = int(sum(before)), int(sum(now))
    missing = rate_test(int(before[-1]), n, int(now[-1]), m)
    if profile.kind == QUANTILES:
        freedom, cells = cut_cells(np.array(before[:-1]), np.array(now[:-1]))
        other = 1.0 if np.isnan(ks_p) else ks_p
    else:
        freedom, cells = homogeneity(np.array(before[:-1]), np.array(now[:-1]), min_expected=policy.min_expected)
        other = rate_test(int(before[-2]), n - int(before[-1]), int(now[-2]), m - int(now[-1]))
    return int(freedom), float(min(1.0, 3 * min(cells, other, missing)))


def _sites(
    reference: Reference, columns: Mapping[str, np.ndarray], groups: np.ndarray, policy: DriftPolicy
) -> tuple[tuple[SiteDrift, ...], int]:
    import numpy as np

    counted = slice_counts(reference.features, columns, groups)
    whole = [np.array(profile.counts) for profile in reference.features]
    rows: list[tuple[str, int, str, list[np.ndarray], Sequence[np.ndarray]]] = []
    for site, now in counted.items():
        n = int(now[0].sum())
        own = reference.slices.get(site)
        if n < policy.min_site_rows:
            continue
        if own is not None and own.n >= policy.min_site_rows:
            rows.append((site, n, "its own reference", now, [np.array(part) for part in own.counts]))
        else:
            rows.append((site, n, "the whole reference", now, whole))
    tests = [
        difference(profile, before, after, math.nan, policy)[1]
        for _, _, _, now, then in rows
        for profile, before, after in zip(reference.features, then, now, strict=True)
    ]
    q = adjusted(np.array(tests)).reshape(len(rows), -1) if rows else np.empty((0, 0))
    found = []
    for (site, n, against, now, then), levels in zip(rows, q, strict=True):
        index = {name: psi(b, c) for name, b, c in zip(reference.names, then, now, strict=True)}
        drifted = tuple(
            name
            for name, b, c, level in zip(reference.names, then, now, levels, strict=True)
            if level <= policy.alpha and index[name] - chance_psi(b, c) >= policy.relevant_psi
        )
        found.append(SiteDrift(site, n, against, index, drifted))
    return tuple(found), len(counted) - len(rows)


def _verdict(features: Sequence[FeatureDrift], n: int, m: int, policy: DriftPolicy) -> tuple[str, str]:
    drifted = [item.name for item in features if item.state == DRIFT]
    if drifted:
        return DRIFT, f"{len(drifted)} of {len(features)} features have drifted"
    if n < policy.min_reference_rows or m < policy.min_rows:
        return INSUFFICIENT, f"{policy.min_reference_rows} reference and {policy.min_rows} current rows are needed"
    judged = sum(item.state == NO_DRIFT for item in features)
    if not features or judged < policy.judged_share * len(features):
        return INSUFFICIENT, f"too few rows to rule out a PSI of {policy.alert_psi} for most features"
    return NO_DRIFT, f"none of {len(features)} features has drifted"
