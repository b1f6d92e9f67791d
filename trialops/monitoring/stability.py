"""Stability of how features hang together, and of what the model makes of them.

Correlations are ranks' (Spearman), so that skewed laboratory values and counts do not break the tests. Two questions:
has any single correlation changed (Fisher's z for independent samples), and have they changed as a whole (Frobenius
norm of the difference, against permutations)? And: does the model still lean on the same features?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.models.record import plain
from trialops.monitoring.association import correlations, from_sums, rank_columns, sums
from trialops.monitoring.drift import DRIFT, INSUFFICIENT, NO_DRIFT
from trialops.monitoring.drift_policy import DriftPolicy, load_drift_policy
from trialops.monitoring.drift_statistics import adjusted
from trialops.monitoring.sampling import matrix

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.bundle import Bundle


@dataclass(frozen=True)
class PairChange:
    """One pair of features: rank correlations, Fisher's z, and the p-value adjusted over all pairs."""

    first: str
    second: str
    reference: float
    current: float
    z: float
    q: float


@dataclass(frozen=True)
class CorrelationChange:
    """Whether features hang together as they did.

    Attributes:
        state: "drift", "no drift" or "insufficient evidence".
        frobenius: Norm of the difference over all pairs (each counted twice, as in the matrix).
        p: Share of permutations with a norm at least as great.
        rms: Root mean square difference of a pair, less what permutations give on average; at least 0.
        pairs: Pairs that were tested.
        changed: Pairs that changed, significantly and enough to matter, the greatest change first.
        n_reference: Rows used of the reference.
        n_current: Rows used of the current data.
    """

    state: str
    frobenius: float
    p: float
    rms: float
    pairs: int
    changed: tuple[PairChange, ...]
    n_reference: int
    n_current: int

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return plain(self)


@dataclass(frozen=True)
class ImportanceStability:
    """Whether the model leans on the same features.

    Attributes:
        state: "stable", "unstable" or "insufficient evidence".
        tau: Kendall's tau-b between the features' importance in the reference and now.
        tau_within: The same between two halves of the reference: how far ranks can be told at all.
        features: Name, importance in the reference and now (mean absolute change of the log-odds), in the order of the
            model.
        n_reference: Rows used of the reference.
        n_current: Rows used of the current data.
    """

    state: str
    tau: float
    tau_within: float
    features: tuple[tuple[str, float, float], ...]
    n_reference: int
    n_current: int

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return plain(self)


STABLE, UNSTABLE = "stable", "unstable"


def correlation_change(
    reference: Any, current: Any, features: Sequence[str], policy: DriftPolicy | None = None
) -> CorrelationChange:
    """Compare the rank correlations of two sets of rows.

    Either side is ranked by itself, so a shift of a single feature is no change here.

    Args:
        reference: Rows the model learnt from.
        current: Rows that came after; one per subject.
        features: Numeric features.
        policy: The policy; the shipped one by default.

    Raises:
        TrialOpsError: A feature is absent.
    """
    policy = policy or load_drift_policy()
    limits = policy.dependence
    before = rank_columns(matrix(reference, features, most=limits.rows, seed=policy.seed))
    now = rank_columns(matrix(current, features, most=limits.rows, seed=policy.seed + 1))
    n, m = len(before), len(now)
    if n < policy.min_reference_rows or m < policy.min_rows or len(features) < 2:
        return CorrelationChange(INSUFFICIENT, math.nan, math.nan, math.nan, 0, (), n, m)
    tested, changed = fisher_pairs(before, now, features, policy)
    norm, null = _permuted(before, now, limits.permutations, policy.seed)
    p = (1 + int((null >= norm).sum())) / (1 + len(null))
    pairs = max(len(features) * (len(features) - 1), 1)
    rms = math.sqrt(max(norm**2 - float((null**2).mean()), 0.0) / pairs)
    as_a_whole = p <= limits.alpha / 2 and rms >= limits.relevant_rms
    return CorrelationChange(
        state=DRIFT if changed or as_a_whole else NO_DRIFT,
        frobenius=norm,
        p=p,
        rms=rms,
        pairs=tested,
        changed=changed,
        n_reference=n,
        n_current=m,
    )


def fisher_pairs(
    before: np.ndarray, now: np.ndarray, features: Sequence[str], policy: DriftPolicy
) -> tuple[int, tuple[PairChange, ...]]:
    """Test every pair for a change of its rank correlation, the false discovery rate controlled over the pairs.

    z = (atanh r - atanh s) / sqrt(v + w) with Bonett and Wright's variance for Spearman's correlation,
    (1 + r^2 / 2) / (n - 3) (Psychometrika 65 (2000)); n counts the rows in which both are known. Steiger's test
    (Psychological Bulletin 87 (1980)) is for correlations in one sample; these are two.

    Args:
        before: Ranks of the reference, shape (n, p).
        now: Ranks of the current rows, shape (m, p).
        features: Names of the columns.
        policy: The policy; half of its level for correlations is spent here.

    Returns:
        Pairs tested, and those changed by at least the policy's relevant correlation.
    """
    import numpy as np
    from scipy.special import erfc

    (r, n), (s, m) = correlations(before), correlations(now)
    first, second = np.triu_indices(len(features), 1)
    r, s, n, m = r[first, second], s[first, second], n[first, second], m[first, second]
    # A pair that is one and the same thing stays so: atanh has no value at 1.
    usable = np.isfinite(r) & np.isfinite(s) & (n >= policy.min_rows) & (m >= policy.min_rows)
    first, second, r, s, n, m = (part[usable] for part in (first, second, r, s, n, m))
    if r.size == 0:
        return 0, ()
    edge = 1 - 1e-9
    error = np.sqrt((1 + r * r / 2) / (n - 3) + (1 + s * s / 2) / (m - 3))
    z = (np.arctanh(np.clip(s, -edge, edge)) - np.arctanh(np.clip(r, -edge, edge))) / error
    q = adjusted(erfc(np.abs(z) / math.sqrt(2)))
    found = np.flatnonzero(
        (q <= policy.dependence.alpha / 2) & (np.abs(s - r) >= policy.dependence.relevant_correlation)
    )
    found = found[np.argsort(-np.abs((s - r)[found]), kind="stable")]
    return r.size, tuple(
        PairChange(features[first[i]], features[second[i]], float(r[i]), float(s[i]), float(z[i]), float(q[i]))
        for i in found
    )


def _permuted(before: np.ndarray, now: np.ndarray, permutations: int, seed: int) -> tuple[float, np.ndarray]:
    """Frobenius norm of the difference, and the norms when the rows change sides at random.

    A pair that cannot be computed on a side counts as no difference. The sums of one side are the total less those of
    the other, so a permutation costs the products of the smaller side alone.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    rows = np.vstack([before, now])
    known = (~np.isnan(rows)).astype(np.float64)
    filled = np.nan_to_num(rows)
    total = sums(filled, known)

    def norm(side: np.ndarray) -> float:
        part = sums(filled[side], known[side])
        difference = from_sums(part)[0] - from_sums(total - part)[0]
        return float(np.sqrt((np.nan_to_num(difference) ** 2).sum()))

    n, m = len(before), len(now)
    rng = np.random.default_rng(seed)
    size = min(n, m)
    with threadpool_limits(1, "blas"):  # see correlations()
        observed = norm(np.arange(n, n + m) if m <= n else np.arange(n))
        return observed, np.array([norm(rng.permutation(n + m)[:size]) for _ in range(permutations)])


def importance_stability(
    bundle: Bundle, reference: Any, current: Any, policy: DriftPolicy | None = None
) -> ImportanceStability:
    """Compare what the model leans on in two sets of rows, by permutation and without labels.

    A feature's importance is by how much the log-odds change, on average, when its values change places between rows
    (the model's reliance on it; Fisher, Rudin and Dominici, JMLR 20 (2019), with the change of the answer for the loss:
    labels of current rows are not known yet).

    Args:
        bundle: The model.
        reference: Rows it learnt from.
        current: Rows that came after.
        policy: The policy; the shipped one by default.

    Raises:
        TrialOpsError: A feature of the model is absent.
    """
    policy = policy or load_drift_policy()
    limits = policy.importance
    before = matrix(reference, bundle.features, most=limits.rows, seed=policy.seed)
    now = matrix(current, bundle.features, most=limits.rows, seed=policy.seed + 1)
    n, m = len(before), len(now)
    if n < policy.min_reference_rows or m < policy.min_rows or len(bundle.features) < 3:
        return ImportanceStability(INSUFFICIENT, math.nan, math.nan, (), n, m)
    then = permutation_importance(bundle, before, repeats=limits.repeats, seed=policy.seed)
    after = permutation_importance(bundle, now, repeats=limits.repeats, seed=policy.seed)
    halves = [permutation_importance(bundle, before[k::2], repeats=limits.repeats, seed=policy.seed) for k in (0, 1)]
    tau, within = kendall(then, after), kendall(*halves)
    state = STABLE if tau >= limits.min_tau else UNSTABLE
    if not within >= limits.min_tau:  # ranks that do not hold within the reference cannot be lost
        state = INSUFFICIENT
    table = tuple((name, float(a), float(b)) for name, a, b in zip(bundle.features, then, after, strict=True))
    return ImportanceStability(state, tau, within, table, n, m)


def permutation_importance(bundle: Bundle, x: np.ndarray, *, repeats: int, seed: int) -> np.ndarray:
    """Mean absolute change of the log-odds when a feature's values are permuted, shape (p,).

    Args:
        bundle: The model.
        x: Rows of shape (n, p), NaN where missing.
        repeats: Permutations per feature.
        seed: Seed of the permutations, the same for every feature.
    """
    import numpy as np

    def log_odds(rows: np.ndarray) -> np.ndarray:
        p = np.clip(bundle.predict(rows), 1e-9, 1 - 1e-9)
        return np.log(p / (1 - p))

    base = log_odds(x)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(x)) for _ in range(repeats)]
    found = np.zeros(x.shape[1])
    for j in range(x.shape[1]):
        changed = np.tile(x, (repeats, 1))
        changed[:, j] = np.concatenate([x[order, j] for order in orders])
        found[j] = np.abs(log_odds(changed) - np.tile(base, repeats)).mean()
    return found


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau-b of two short lists; NaN where one of them does not vary.

    Args:
        a: Shape (k,).
        b: Shape (k,).
    """
    import numpy as np

    i, j = np.triu_indices(len(a), 1)
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    spread = math.sqrt(float((x != 0).sum()) * float((y != 0).sum()))
    return float((x * y).sum()) / spread if spread else math.nan
