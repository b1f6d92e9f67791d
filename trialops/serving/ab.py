"""A/B experiments with models: who was shown what, whether the arms are as planned, and what a look says.

An experiment is a YAML file (`experiment`). Assignment is a salted hash of the subject, the same as the router's, so it
needs no memory; the exposure log says who was really shown which arm, and a subject counts for the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trialops.errors import TrialOpsError
from trialops.serving.boundaries import spending_boundary
from trialops.serving.call_log import EXPOSURES, LogReader
from trialops.serving.experiment import Experiment


@dataclass(frozen=True)
class Exposed:
    """Who has been shown what.

    Attributes:
        arms: Unit to the arm it was shown first.
        crossed: Units that were shown another arm later; they count for the first.
        misplaced: Units whose first arm is not the one assigned.
    """

    arms: Mapping[str, str]
    crossed: int
    misplaced: int


ROUTER_ARMS = ("stable", "candidate")
"""Names under which the router records the first and the second arm."""


def exposures(folder: Path, experiment: Experiment) -> Exposed:
    """Read the exposure log.

    Args:
        folder: Where the router, or whatever shows the arms, writes with `call_log.Exposures`.
        experiment: The experiment.
    """
    known = {arm.name: arm.name for arm in experiment.arms}
    known |= {name: arm.name for name, arm in zip(ROUTER_ARMS, experiment.arms, strict=True) if name not in known}
    rows = [row for row in LogReader(folder, EXPOSURES).new() if row["experiment"] == experiment.name]
    first: dict[str, str] = {}
    crossed = set()
    for row in sorted(rows, key=lambda row: str(row["at"])):
        arm = known[row["arm"]]
        if first.setdefault(row["unit"], arm) != arm:
            crossed.add(row["unit"])
    misplaced = sum(experiment.arm_of_unit(unit) != arm for unit, arm in first.items())
    return Exposed(first, len(crossed), misplaced)


@dataclass(frozen=True)
class SampleRatio:
    """Whether the arms are as large as planned: chi-square test of the counts against the shares."""

    counts: tuple[int, ...]
    expected: tuple[float, ...]
    statistic: float
    p: float
    mismatch: bool


def sample_ratio(counts: Sequence[int], shares: Sequence[float], alpha: float) -> SampleRatio:
    """Test for a sample ratio mismatch.

    Args:
        counts: Units by arm.
        shares: Planned shares by arm.
        alpha: Below this probability it is a mismatch.
    """
    from scipy.stats import chi2

    observed, n = np.asarray(counts, dtype=np.float64), sum(counts)
    expected = n * np.asarray(shares, dtype=np.float64)
    statistic = float(((observed - expected) ** 2 / expected).sum()) if n else 0.0
    p = float(chi2.sf(statistic, len(counts) - 1))
    return SampleRatio(tuple(counts), tuple(expected.tolist()), statistic, p, p < alpha)


@dataclass(frozen=True)
class Look:
    """One look at an experiment.

    Attributes:
        n: Units with an outcome, by arm.
        values: Mean outcome by arm.
        difference: Second arm less first arm.
        low: Lower end of the interval that holds over all looks so far (repeated confidence interval).
        high: Upper end.
        z: Test statistic.
        information: Share of the planned units.
        boundary: Critical value of |z| at this look.
        sample_ratio: Arms' sizes against the plan.
        crossed: Units shown another arm later.
        misplaced: Units whose first arm is not the one assigned.
        decision: "stop: difference", "stop: planned end", "continue" or "stop: sample ratio mismatch".
    """

    n: tuple[int, int]
    values: tuple[float, float]
    difference: float
    low: float
    high: float
    z: float
    information: float
    boundary: float
    sample_ratio: SampleRatio
    crossed: int
    misplaced: int
    decision: str


def look(experiment: Experiment, exposed: Exposed, outcomes: Mapping[str, float], before: Iterable[float] = ()) -> Look:
    """Look at an experiment.

    Args:
        experiment: The experiment.
        exposed: Who has been shown what.
        outcomes: Outcome by unit, of units whose outcome is known.
        before: Information fractions of the looks already taken.

    Raises:
        TrialOpsError: Fewer than two outcomes in an arm, or no more information than at the last look.
    """
    control, other = experiment.arms
    groups = [
        np.array([outcomes[u] for u, arm in exposed.arms.items() if arm == name and u in outcomes], dtype=np.float64)
        for name in (control.name, other.name)
    ]
    n = len(groups[0]), len(groups[1])
    if min(n) < 2:
        raise TrialOpsError(
            f"an arm has {min(n)} outcomes",
            where=f"experiment {experiment.name}",
            fix="wait for at least 2 in each arm",
        )
    counts = [sum(arm == name for arm in exposed.arms.values()) for name in (control.name, other.name)]
    ratio = sample_ratio(counts, (control.share, other.share), experiment.sample_ratio_alpha)
    information = min(1.0, sum(n) / sum(experiment.planned))
    boundary = float(spending_boundary([*before, information], experiment.alpha, experiment.spending)[-1])
    difference = float(groups[1].mean() - groups[0].mean())
    if experiment.metric.kind == "proportion":
        pooled = float(np.concatenate(groups).mean())
        error = math.sqrt(pooled * (1 - pooled) * (1 / n[0] + 1 / n[1]))
    else:
        error = math.sqrt(sum(float(g.var(ddof=1)) / len(g) for g in groups))
    z = difference / error if error else 0.0
    if ratio.mismatch:
        decision = "stop: sample ratio mismatch"
    elif abs(z) >= boundary:
        decision = "stop: difference"
    else:
        decision = "stop: planned end" if information >= 1.0 else "continue"
    return Look(
        n=n,
        values=(float(groups[0].mean()), float(groups[1].mean())),
        difference=difference,
        low=difference - boundary * error,
        high=difference + boundary * error,
        z=z,
        information=information,
        boundary=boundary,
        sample_ratio=ratio,
        crossed=exposed.crossed,
        misplaced=exposed.misplaced,
        decision=decision,
    )
