"""Whether a search has found a model worth judging: the winner against the prespecified one, on the same subjects.

Both are judged on subjects of sites left out of their fit. What is compared is the log loss per subject, and sites
are taken as the independent units: subjects of one site share its ways. Selection is no release: a selected model
becomes a candidate, and its evaluation on held-out sites decides further.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.models.calibration import log_losses
from trialops.models.discrimination import Estimate
from trialops.models.policy import open_policy
from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np

REGISTER, KEEP = "register", "keep"


@dataclass(frozen=True)
class SelectionPolicy:
    """When a search's winner is registered.

    Attributes:
        name: Name of the policy.
        against_baseline: "not_worse": unless shown worse than the prespecified model; "better": only when shown
            better.
        digest: SHA-256 of the policy's content.
    """

    name: str
    against_baseline: str
    digest: str


@dataclass(frozen=True)
class Selection:
    """What was selected, and from what.

    Attributes:
        action: "register" or "keep" (the models in the registry stay as they are).
        reason: In words, with the numbers.
        kind: Family of the winner.
        number: Its configuration.
        families: Best log loss of each family.
        gain: Log loss saved against the prespecified model.
        policy: Name of the policy.
        policy_digest: Its digest.
    """

    action: str
    reason: str
    kind: str
    number: int
    families: Mapping[str, float]
    gain: Estimate
    policy: str
    policy_digest: str

    def as_dict(self) -> dict[str, Any]:
        """The selection as JSON values."""
        return plain(self)


def loss_difference(
    y: np.ndarray, base: np.ndarray, new: np.ndarray, site: np.ndarray, level: float = 0.95
) -> Estimate:
    """Log loss that the new model saves per subject, paired, with a site-robust interval.

    The variance is that of the sites' sums around the mean (the sandwich for a mean of clusters, with the factor
    G / (G - 1)), and the quantile Student's with G - 1 degrees of freedom.

    Args:
        y: Labels 0 and 1 of shape (n,).
        base: Predictions of the prespecified model, shape (n,).
        new: Predictions of the new model, shape (n,).
        site: Site of each subject, shape (n,).
        level: Confidence level.

    Returns:
        The mean difference; positive when the new model is better. Unbounded interval with one site.
    """
    import numpy as np
    from scipy import stats

    saved = log_losses(y, base) - log_losses(y, new)
    mean = float(saved.mean())
    _, index = np.unique(site.astype(str), return_inverse=True)
    groups = int(index.max()) + 1
    if groups < 2:
        return Estimate(mean, -math.inf, math.inf, "not estimable: one site", level)
    sums = np.bincount(index, weights=saved - mean)
    error = math.sqrt(groups / (groups - 1) * float(sums @ sums)) / len(saved)
    reach = float(stats.t.ppf((1 + level) / 2, groups - 1)) * error
    return Estimate(mean, mean - reach, mean + reach, f"paired, robust over {groups} sites", level)


def load_selection_policy(source: str | Path = "selection") -> SelectionPolicy:
    """Load and check a selection policy.

    Raises:
        TrialOpsError: The file is missing, or a key is missing, unknown or out of range.
    """
    top, digest = open_policy(source)
    policy = SelectionPolicy(
        name=top.get("name", str),
        against_baseline=top.choice("against_baseline", ("not_worse", "better")),
        digest=digest,
    )
    top.done()
    return policy


def select(search: Mapping[str, Any], policy: SelectionPolicy) -> Selection:
    """Decide whether a search's winner is registered.

    Args:
        search: Document of the search.
        policy: The policy.

    Returns:
        The selection.
    """
    stated = search["gain"]
    low, high = (
        bound if stated[end] is None else stated[end] for end, bound in (("low", -math.inf), ("high", math.inf))
    )
    gain = Estimate(stated["value"], low, high, stated["method"], stated["level"])
    tried = [row for row in search["trials"] if not row["stopped"]]
    best = min(tried, key=lambda row: (row["log_loss"], row["number"]))
    families = {
        kind: min(row["log_loss"] for row in tried if row["kind"] == kind)
        for kind in sorted({r["kind"] for r in tried})
    }
    met = gain.low > 0 if policy.against_baseline == "better" else gain.high >= 0
    shown = "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "neither better nor worse than"
    reason = f"shown {shown} the prespecified model: log loss saved per subject {_signed(gain)}"
    return Selection(
        REGISTER if met else KEEP,
        reason,
        str(best["kind"]),
        int(best["number"]),
        families,
        gain,
        policy.name,
        policy.digest,
    )


def _signed(gain: Estimate) -> str:
    return f"{gain.value:+.4f} ({gain.level:.0%} CI {gain.low:+.4f} to {gain.high:+.4f}; {gain.method})"
