"""A prediction task as data: who, from when, what, with which columns, audited over which groups."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError

TASKS = Path(__file__).parent / "tasks"
#: Words that give the treatment away. A blinded task may not have a feature whose name holds one of them.
UNBLINDING = frozenset({"arm", "armcd", "actarm", "actarmcd", "dose", "dosage", "exdose", "treatment", "extrt", "drug"})
THRESHOLD_RULES = ("youden", "prevalence", "fixed")


@dataclass(frozen=True)
class Population:
    """Who is predicted: treated subjects who are in the trial at the landmark, and more where it says so.

    Attributes:
        description: In words, for pages and the model card.
        randomised: Whether only randomised subjects count; false for a trial without randomisation.
        on_treatment_at_landmark: Whether exposure must not have ended before the landmark.
    """

    description: str
    randomised: bool
    on_treatment_at_landmark: bool


@dataclass(frozen=True)
class Label:
    """What is predicted: 1 when the disposition event in DS says anything but a completed term.

    Attributes:
        description: In words.
        category: DSCAT of disposition events.
        completed_terms: DSDECOD of those who completed.
    """

    description: str
    category: str
    completed_terms: tuple[str, ...]


@dataclass(frozen=True)
class SplitPlan:
    """How subjects are divided: whole sites, near a share, so many cross-validation folds.

    `latest_share` is the share of training subjects, those enrolled last, that a fit on the earlier ones is judged on;
    None leaves that out.
    """

    hold_out_share: float
    tolerance: float
    folds: int
    latest_share: float | None = None


@dataclass(frozen=True)
class ThresholdPlan:
    """How the probability that turns a risk into a flag is chosen."""

    rule: str
    value: float | None


@dataclass(frozen=True)
class Task:
    """One prediction task.

    Attributes:
        name: Short name, also the file's.
        title: Name for people.
        entity: Feast entity, "subject".
        landmark_day: Last study day whose data may be used.
        horizon_day: Last study day on which the label may happen; None is the end of treatment, whenever it comes.
        planned_end_day: Last study day of planned treatment; needed where horizon_day is None.
        reporting_days: Days after the outcome window in which an outcome of its last day gets into the data.
        blinded: Whether arm, dose and treatment are banned from the features.
        population: Who is predicted.
        label: What is predicted.
        features: Model inputs, in order.
        baseline_features: Inputs of the prespecified model.
        groups: Audit attribute -> declared levels. The frame's column is `group_<attribute>`.
        split: Hold-out and folds.
        threshold: Choice of the decision threshold.
        decision_thresholds: Lowest and highest threshold probability of the decision curve.
    """

    name: str
    title: str
    entity: str
    landmark_day: int
    horizon_day: int | None
    planned_end_day: int | None
    reporting_days: int
    blinded: bool
    population: Population
    label: Label
    features: tuple[str, ...]
    baseline_features: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    split: SplitPlan
    threshold: ThresholdPlan
    decision_thresholds: tuple[float, float]

    @property
    def window_end_day(self) -> int:
        """Last study day of the outcome window: the horizon, else the end of planned treatment."""
        end = self.horizon_day if self.horizon_day is not None else self.planned_end_day
        if end is None:
            raise TrialOpsError(
                "The task says neither a horizon nor when planned treatment ends.",
                where=f"task {self.name}, key planned_end_day",
                fix="Give one of them: it decides from when on a subject's outcome counts as known.",
            )
        return end

    @property
    def settled_day(self) -> int:
        """Study day by which the outcome of a subject is in the data, whatever it is."""
        return self.window_end_day + self.reporting_days

    @property
    def group_columns(self) -> dict[str, str]:
        """Audit attribute -> column of the training frame."""
        return {attribute: f"group_{attribute}" for attribute in self.groups}

    def as_dict(self) -> dict[str, Any]:
        """The task as JSON values."""
        from trialops.models.record import plain

        return plain(self)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping safely.

    Args:
        path: File to read.

    Returns:
        The mapping.

    Raises:
        TrialOpsError: The file is missing, is not YAML or is not a mapping.
    """
    import yaml

    if not path.is_file():
        raise TrialOpsError(
            "The file does not exist.", where=str(path), fix="Give the name of a shipped file or a path."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise TrialOpsError(
            "The file is not valid YAML.", where=f"{path}{line}", fix="Correct the syntax there."
        ) from error
    if not isinstance(content, dict):
        raise TrialOpsError(
            "The file must hold keys and values.", where=str(path), fix="Write it as `key: value` lines."
        )
    return content


class Reader:
    """Typed access to one mapping of a YAML file; every refusal names the file and the key."""

    def __init__(self, content: Mapping[str, Any], path: Path, prefix: str = "") -> None:
        self.content, self.path, self.prefix = content, path, prefix
        self.seen: set[str] = set()

    def refuse(self, key: str, what: str, fix: str) -> TrialOpsError:
        """The error for one key."""
        return TrialOpsError(what, where=f"{self.path}, key {self.prefix}{key}", fix=fix)

    def get(self, key: str, kind: type | tuple[type, ...], *, optional: bool = False) -> Any:
        """The value under a key, checked for its type; bool is never taken for a number."""
        self.seen.add(key)
        if key not in self.content:
            raise self.refuse(key, "A required key is missing.", "Add it; the shipped file shows the form.")
        value = self.content[key]
        if value is None and optional:
            return None
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(k.__name__ for k in kinds)
            raise self.refuse(key, f"The value must be {names}, not {type(value).__name__}.", "Correct the value.")
        return value

    def number(self, key: str, low: float, high: float, *, optional: bool = False) -> Any:
        """A number within [low, high], as float."""
        value = self.get(key, (int, float), optional=optional)
        if value is None:
            return None
        if not low <= value <= high:
            raise self.refuse(key, f"The value must lie between {low} and {high}.", "Correct the value.")
        return float(value)

    def whole(self, key: str, low: int, high: int = 10**9, *, optional: bool = False) -> Any:
        """A whole number within [low, high]."""
        value = self.get(key, int, optional=optional)
        if value is not None and not low <= value <= high:
            raise self.refuse(key, f"The value must be a whole number from {low} to {high}.", "Correct the value.")
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of the allowed words."""
        value = self.get(key, str)
        if value not in allowed:
            raise self.refuse(
                key, "The value is not one of the allowed words.", "Use one of " + ", ".join(allowed) + "."
            )
        return str(value)

    def names(self, key: str, *, empty: bool = False) -> tuple[str, ...]:
        """A list of distinct words."""
        value = self.get(key, list)
        if (not value and not empty) or not all(isinstance(item, str) and item for item in value):
            raise self.refuse(key, "The value must be a list of words.", "Quote words that YAML reads otherwise.")
        if len(set(value)) != len(value):
            raise self.refuse(key, "A word is listed twice.", "Remove the repetition.")
        return tuple(value)

    def section(self, key: str) -> Reader:
        """The mapping under a key."""
        return Reader(self.get(key, dict), self.path, f"{self.prefix}{key}.")

    def done(self) -> None:
        """Refuse keys nobody asked for: a misspelt limit must not pass unread."""
        unknown = sorted(set(map(str, self.content)) - self.seen)
        if unknown:
            raise self.refuse(unknown[0], "The key is not known.", "Remove it or correct its spelling.")


def load_task(source: str | Path = "withdrawal") -> Task:
    """Load and check a task.

    Args:
        source: Name of a shipped task, or path of a YAML file.

    Returns:
        The task.

    Raises:
        TrialOpsError: The file is missing or a key is missing, unknown or out of range; the message names
        file and key.
    """
    path = (
        TASKS / f"{source}.yaml" if isinstance(source, str) and re.fullmatch(r"[a-z0-9_-]+", source) else Path(source)
    )
    top = Reader(read_yaml(path), path)
    population, label = top.section("population"), top.section("label")
    split, threshold, levels = top.section("split"), top.section("threshold"), top.section("groups")
    span = top.get("decision_thresholds", list)
    if len(span) != 2 or not all(isinstance(v, (int, float)) for v in span) or not 0 < span[0] < span[1] < 1:
        raise top.refuse("decision_thresholds", "The value must be two rising probabilities.", "Write [0.1, 0.8].")
    task = Task(
        name=top.get("name", str),
        title=top.get("title", str),
        entity=top.get("entity", str),
        landmark_day=top.whole("landmark_day", 1),
        horizon_day=top.whole("horizon_day", 1, optional=True),
        planned_end_day=top.whole("planned_end_day", 1, optional=True),
        reporting_days=top.whole("reporting_days", 0, 365),
        blinded=top.get("blinded", bool),
        population=Population(
            population.get("description", str),
            population.get("randomised", bool),
            population.get("on_treatment_at_landmark", bool),
        ),
        label=Label(
            label.get("description", str),
            label.get("category", str),
            label.names("completed_terms"),
        ),
        features=top.names("features"),
        baseline_features=top.names("baseline_features"),
        groups={attribute: levels.names(attribute, empty=True) for attribute in levels.content},
        split=SplitPlan(
            split.number("hold_out_share", 0.05, 0.6),
            split.number("tolerance", 0.0, 0.5),
            split.whole("folds", 2, 20),
            split.number("latest_share", 0.05, 0.6, optional=True),
        ),
        threshold=ThresholdPlan(
            threshold.choice("rule", THRESHOLD_RULES), threshold.number("value", 0, 1, optional=True)
        ),
        decision_thresholds=(float(span[0]), float(span[1])),
    )
    for reader in (top, population, label, split, threshold, levels):
        reader.done()
    _check(task, top)
    return task


def _check(task: Task, top: Reader) -> None:
    """Rules that join several keys."""
    if task.horizon_day is not None and task.horizon_day <= task.landmark_day:
        raise top.refuse("horizon_day", "The horizon must come after the landmark.", "Raise it, or use null.")
    if task.horizon_day is None and (task.planned_end_day or 0) <= task.landmark_day:
        raise top.refuse(
            "planned_end_day",
            "Without a horizon the outcome window ends with planned treatment, after the landmark.",
            "Give the last study day of planned treatment.",
        )
    audit = set(task.group_columns.values())
    for feature in task.features:
        if task.blinded and set(re.split(r"[_\W]+", feature.lower())) & UNBLINDING:
            raise top.refuse(
                "features",
                f"The feature {feature} would unblind the model.",
                "Remove it, or set blinded: false.",
            )
        if feature in audit or feature in {"label", "subject_id", "site_id", "event_timestamp"}:
            raise top.refuse("features", f"{feature} is not a model input.", "Remove it from features.")
    missing = [name for name in task.baseline_features if name not in task.features]
    if missing:
        raise top.refuse("baseline_features", f"{missing[0]} is not among the features.", "Add it there too.")
    if task.threshold.rule == "fixed" and task.threshold.value is None:
        raise top.refuse("threshold.value", "The rule `fixed` needs a probability.", "Give a value between 0 and 1.")
