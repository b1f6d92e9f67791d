"""What a search may try, as data: families, ranges, rounds and the plan of its generations.

A configuration is drawn either from a scrambled Sobol sequence, which fills a space of a few dimensions more evenly
than random draws, or by Optuna's TPE sampler from the outcomes of earlier generations (Bergstra et al., NIPS 2011).
Both depend on seed and outcomes alone.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.models.candidates import KINDS, Candidate, Rounds
from trialops.models.task import Reader, read_yaml

if TYPE_CHECKING:
    import optuna

SPACE = Path(__file__).parent / "search_space.yaml"
SAMPLERS = ("tpe", "sobol")

Params = dict[str, float | int]


@dataclass(frozen=True)
class Plan:
    """How a search goes on.

    Attributes:
        generation: Configurations drawn together; a generation starts when the one before is complete.
        sampler: "tpe": later generations learn from earlier ones; "sobol": they do not.
        trailing: What is left of a family's share in a generation while the other one holds the lowest loss.
        rungs: Boosting rounds at which a fit may be given up.
        keep: Share of the earlier generations' fits that a fit must be among at a rung to go on.
        ray_from_seconds: In-process seconds still to go from which starting Ray is worth its cost.
    """

    generation: int
    sampler: str
    trailing: float
    rungs: tuple[int, ...]
    keep: float
    ray_from_seconds: float


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        shares: Weight of each family among the configurations.
        rounds: Limits on boosting rounds.
        plan: How the search goes on.
        digest: SHA-256 of the content.
        sections: The YAML sections of the families.
    """

    shares: dict[str, float]
    rounds: Rounds
    plan: Plan
    digest: str
    sections: dict[str, Reader]

    def queue(self, trials: int, leader: str | None = None) -> list[str]:
        """Family of each numbered configuration: alternating, so that a search cut short has tried both.

        Args:
            trials: Number of configurations.
            leader: Family with the lowest loss so far: the other one's share shrinks, but not to nothing.
        """
        shares = {k: v * (1.0 if leader in (None, k) else self.plan.trailing) for k, v in self.shares.items()}
        counts = {"logistic": round(trials * shares["logistic"] / (sum(shares.values()) or 1.0))}
        if trials > 1 and all(self.shares[kind] > 0 for kind in KINDS):
            counts["logistic"] = min(max(counts["logistic"], 1), trials - 1)
        counts["lightgbm"] = trials - counts["logistic"]
        return [kind for _, kind in sorted((position, kind) for kind in KINDS for position in range(counts[kind]))]

    def draw(self, trials: int, seed: int) -> list[Candidate]:
        """Configurations of a first generation: the declared one of each family, then the Sobol sequence.

        Args:
            trials: Number of configurations, at least 1.
            seed: Seed of the sequence.
        """
        queue = self.queue(trials)
        drawn = {kind: iter(self._sobol(kind, queue.count(kind), seed)) for kind in KINDS}
        return [Candidate(number, kind, next(drawn[kind])) for number, kind in enumerate(queue)]

    def _sobol(self, kind: str, count: int, seed: int) -> list[Params]:
        import optuna

        ranges = self._ranges(kind)
        with _quiet():
            sampler = optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
            study = optuna.create_study(sampler=sampler)
            points = [{**self.sections[kind].get("first", dict), **self._fixed(kind)}]
            # the sampler learns the space from its first finished trial, which it draws at random: not counted
            for _ in range(count):
                trial = study.ask(ranges)
                study.tell(trial, 0.0)
                if trial.number > 0:
                    points.append(self._decoded(kind, trial.params))
        return points[:count]

    def learn(self, kind: str, past: Sequence[tuple[Candidate, float]], count: int, seed: int) -> list[Params]:
        """Configurations of a later generation.

        Args:
            kind: Family.
            past: Configurations of this family with their loss, in number order.
            count: How many to draw.
            seed: Seed of the sampler.
        """
        import optuna

        if not count:
            return []
        ranges = self._ranges(kind)
        with _quiet():
            # The liar gives a configuration already drawn for this generation a bad score, so that it is not repeated.
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=True)
            study = optuna.create_study(sampler=sampler)
            for candidate, loss in past:
                inside = {name: self._encoded(kind, name, candidate.params[name]) for name in ranges}
                study.add_trial(optuna.trial.create_trial(params=inside, distributions=ranges, value=loss))
            return [self._decoded(kind, study.ask(ranges).params) for _ in range(count)]

    def _ranges(self, kind: str) -> dict[str, optuna.distributions.BaseDistribution]:
        import optuna

        section = self.sections[kind]
        ranges: dict[str, optuna.distributions.BaseDistribution] = {}
        for name in section.get("first", dict):
            entry = section.section(name)
            if "choices" in entry.content:
                ranges[name] = optuna.distributions.IntDistribution(0, len(entry.get("choices", list)) - 1)
                continue
            low, high = entry.get("low", (int, float)), entry.get("high", (int, float))
            if not low < high:
                raise entry.refuse("low", "The low end must lie below the high end.", "Correct the range.")
            whole = isinstance(low, int) and isinstance(high, int)
            distribution = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
            ranges[name] = distribution(low, high, log=bool(entry.content.get("log", False)))
        return ranges

    def _fixed(self, kind: str) -> Params:
        """What every configuration of a family has."""
        return dict(self.sections[kind].content.get("fixed", {}))

    def _choices(self, kind: str, name: str) -> list[Any] | None:
        found = self.sections[kind].content[name].get("choices")
        return None if found is None else list(found)

    def _decoded(self, kind: str, params: dict[str, Any]) -> Params:
        found: Params = {}
        for name, value in params.items():
            choices = self._choices(kind, name)
            found[name] = value if choices is None else choices[int(value)]
        return {**found, **self._fixed(kind)}

    def _encoded(self, kind: str, name: str, value: float | int) -> float | int:
        choices = self._choices(kind, name)
        return value if choices is None else choices.index(value)


def load_space(path: Path = SPACE) -> Space:
    """Load and check a search space.

    Raises:
        TrialOpsError: The file is missing or malformed.
    """
    content = read_yaml(path)
    top = Reader(content, path)
    sections = {kind: top.section(kind) for kind in KINDS}
    limits, plan = top.section("rounds"), top.section("plan")
    rungs = tuple(int(rung) for rung in plan.get("rungs", list))
    if any(not rung > 0 for rung in rungs) or list(rungs) != sorted(set(rungs)):
        raise plan.refuse("rungs", "Rungs are rising numbers of boosting rounds.", "Write [30, 90], or [] for none.")
    space = Space(
        shares={kind: sections[kind].number("share", 0.0, 1.0) for kind in KINDS},
        rounds=Rounds(limits.whole("most", 1, 100_000), limits.whole("patience", 1, 100_000)),
        plan=Plan(
            generation=plan.whole("generation", 1, 100_000),
            sampler=plan.choice("sampler", SAMPLERS),
            trailing=plan.number("trailing", 0.0, 1.0),
            rungs=rungs,
            keep=plan.number("keep", 0.01, 1.0),
            ray_from_seconds=plan.number("ray_from_seconds", 0.0, 1e9),
        ),
        digest=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        sections=sections,
    )
    for kind in KINDS:
        space._ranges(kind)  # a malformed range is refused before anything runs
    return space


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its warnings of experimental samplers and its log lines."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
