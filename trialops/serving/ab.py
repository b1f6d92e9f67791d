"""A/B experiments with models: what may be compared, who sees which, how many are needed, and when one may look.

An experiment is a YAML file. Assignment is a salted hash of the subject, the same as the router's, so it needs no
memory; the exposure log says who was really shown which arm, and a subject counts for the first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from trialops.errors import TrialOpsError
from trialops.serving.boundaries import Spending, drift_for_power, spending_boundary
from trialops.serving.call_log import EXPOSURES, LogReader
from trialops.serving.power import units_for_means, units_for_proportions
from trialops.serving.routing import point, unit_of

USES = Path(__file__).parent / "policies" / "experiments.yaml"
Metric = Literal["proportion", "mean"]
FIELDS = {
    "name", "title", "task", "protocol", "surface", "unit", "arms", "metric", "alpha", "power", "looks", "spending",
}  # fmt: skip


@dataclass(frozen=True)
class ExperimentArm:
    """An arm: its name, its share of units (0 to 1) and the model version it shows."""

    name: str
    share: float
    version: str


@dataclass(frozen=True)
class PrimaryMetric:
    """What is compared.

    Attributes:
        name: In words.
        kind: "proportion" (outcomes 0 or 1) or "mean".
        control: Value expected in the first arm.
        sd: Standard deviation of a unit's value; of a proportion it follows.
        minimum_effect: Smallest difference worth finding, other arm less first arm.
    """

    name: str
    kind: Metric
    control: float
    sd: float
    minimum_effect: float


@dataclass(frozen=True)
class Experiment:
    """An experiment; the first arm is the control.

    Attributes:
        name: Id; also the salt of the assignment.
        title: What a person calls it.
        task: Prediction task.
        protocol: Section of the protocol, or of its amendment, that allows it.
        surface: What it changes, one of the surfaces the policy allows for the task.
        unit: What is assigned; subjects.
        arms: Two arms; shares add up to 1.
        metric: Primary metric.
        alpha: Two-sided error of all looks together.
        power: Probability of finding the minimum effect.
        looks: Information fractions at which one means to look, the last one 1.
        spending: How the error is spent over the looks.
        digest: SHA-256 of the document.
        sample_ratio_alpha: From the policy.
        policy_digest: SHA-256 of the policy it was allowed by.
    """

    name: str
    title: str
    task: str
    protocol: str
    surface: str
    unit: str
    arms: tuple[ExperimentArm, ...]
    metric: PrimaryMetric
    alpha: float
    power: float
    looks: tuple[float, ...]
    spending: Spending
    digest: str
    sample_ratio_alpha: float
    policy_digest: str

    def arm_of(self, subject: str) -> str:
        """The arm a subject is in, the same whenever one asks.

        Args:
            subject: Subject's pseudonym.
        """
        return self.arm_of_unit(unit_of(subject))

    def arm_of_unit(self, unit: str) -> str:
        """As `arm_of`, of a unit's name in the router's record.

        The second arm has the lower part of the line, as the router gives the candidate its share.
        """
        control, other = self.arms
        return other.name if point(unit, self.name) < other.share else control.name

    @property
    def planned(self) -> tuple[int, ...]:
        """Units needed in each arm, for all the looks meant to be taken."""
        control, other = self.arms
        ratio = other.share / control.share
        how = {"alpha": self.alpha, "power": self.power, "ratio": ratio}
        if self.metric.kind == "proportion":
            single = units_for_proportions(self.metric.control, self.metric.minimum_effect, **how)
        else:
            single = units_for_means(self.metric.minimum_effect / self.metric.sd, **how)
        first = math.ceil(single * self.inflation)
        return first, math.ceil(first * ratio)

    @property
    def inflation(self) -> float:
        """How much larger looking more than once makes the experiment."""
        if len(self.looks) == 1:
            return 1.0
        boundary = spending_boundary(self.looks, self.alpha, self.spending)
        once = drift_for_power((1.0,), spending_boundary((1.0,), self.alpha, self.spending), self.power)
        return (drift_for_power(self.looks, boundary, self.power) / once) ** 2


def load_experiment(path: Path, uses: Path = USES) -> Experiment:
    """Read an experiment and check that it may be run.

    Args:
        path: YAML file.
        uses: Policy of allowed uses.

    Raises:
        TrialOpsError: The file is not an experiment, or what it changes is not allowed for its task.
    """
    content, policy = _yaml(path), _yaml(uses)
    where = str(path)
    _fields(content, FIELDS, where)
    allowed: Mapping[str, str] = policy["surfaces"].get(content["task"], {})
    surface = str(content["surface"])
    if surface in policy["decisions"]:
        raise TrialOpsError(
            f"an experiment may not change {surface}: {policy['decisions'][surface]}. That is a trial of its own",
            where=where,
            fix="Write a protocol for it; here only non-decision surfaces may differ between arms.",
        )
    if surface not in allowed:
        raise TrialOpsError(
            f"the protocol policy does not allow experiments on {surface!r} for task {content['task']!r}",
            where=where,
            fix=f"Use one of {', '.join(sorted(allowed)) or 'none: the task allows no experiments'}.",
        )
    if not str(content["protocol"]).strip():
        raise TrialOpsError(
            "the experiment names no section of the protocol that allows it", where=where, fix="Fill in protocol."
        )
    try:
        metric = content["metric"]
        _fields(metric, {"name", "kind", "control", "sd", "minimum_effect"}, f"{where}, metric")
        experiment = Experiment(
            name=str(content["name"]),
            title=str(content["title"]),
            task=str(content["task"]),
            protocol=str(content["protocol"]),
            surface=surface,
            unit=str(content["unit"]),
            arms=tuple(ExperimentArm(str(a["name"]), float(a["share"]), str(a["version"])) for a in content["arms"]),
            metric=PrimaryMetric(
                str(metric["name"]),
                metric["kind"],
                float(metric["control"]),
                float(metric["sd"]),
                float(metric["minimum_effect"]),
            ),
            alpha=float(content["alpha"]),
            power=float(content["power"]),
            looks=tuple(map(float, content["looks"])),
            spending=content["spending"],
            digest=_digest(content),
            sample_ratio_alpha=float(policy["sample_ratio_alpha"]),
            policy_digest=_digest(policy),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TrialOpsError(
            f"the experiment cannot be read: {type(error).__name__} {error}", where=where, fix="Correct the field."
        ) from None
    problem = _problem(experiment)
    if problem:
        raise TrialOpsError(f"the experiment is not usable: {problem}", where=where, fix="Correct the field.")
    return experiment


def _problem(experiment: Experiment) -> str:
    metric, looks = experiment.metric, experiment.looks
    if len(experiment.arms) != 2 or len({arm.name for arm in experiment.arms}) != 2:
        return "two arms with different names are needed"
    if not math.isclose(sum(arm.share for arm in experiment.arms), 1.0, abs_tol=1e-12):
        return "the arms' shares do not add up to 1"
    if not all(0 < arm.share < 1 for arm in experiment.arms):
        return "an arm's share is not between 0 and 1"
    if experiment.unit != "subject":
        return "the unit is the subject: what is shown for one subject must not change between views"
    if metric.kind not in get_args(Metric) or experiment.spending not in get_args(Spending):
        return "metric.kind is proportion or mean, spending is obrien_fleming or pocock"
    if metric.minimum_effect == 0 or (metric.kind == "mean" and metric.sd <= 0):
        return "minimum_effect must not be 0, and the sd of a mean is positive"
    if metric.kind == "proportion" and not (0 < metric.control < 1 and 0 < metric.control + metric.minimum_effect < 1):
        return "proportions must lie between 0 and 1 in both arms"
    if not 0 < experiment.alpha < 0.5 or not 0.5 <= experiment.power < 1:
        return "alpha must be between 0 and 0.5, power between 0.5 and 1"
    if list(looks) != sorted(set(looks)) or not looks or looks[0] <= 0 or looks[-1] != 1:
        return "looks must rise and end at 1"
    return ""


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


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TrialOpsError(
            f"the file cannot be read: {type(error).__name__}", where=str(path), fix="Give a YAML file."
        ) from None
    if not isinstance(content, dict):
        raise TrialOpsError("the file holds no fields", where=str(path), fix="Give a YAML file with fields.")
    return content


def _fields(content: Mapping[str, Any], expected: set[str], where: str) -> None:
    missing, unknown = sorted(expected - set(content)), sorted(set(content) - expected)
    if missing or unknown:
        raise TrialOpsError(
            f"fields missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}",
            where=where,
            fix="Give exactly the fields of an experiment.",
        )


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
