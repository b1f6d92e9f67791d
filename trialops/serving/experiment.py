"""An experiment as data: what is compared, for whom, how many are needed, and whether the protocol allows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from trialops.errors import TrialOpsError
from trialops.serving.boundaries import Spending, drift_for_power, spending_boundary
from trialops.serving.power import units_for_means, units_for_proportions
from trialops.serving.routing import point, unit_of
from trialops.stores.digest import document_digest

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
            digest=document_digest(content),
            sample_ratio_alpha=float(policy["sample_ratio_alpha"]),
            policy_digest=document_digest(policy),
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
