"""The course of a search: which configuration is next, when a fit is given up, and what has been found so far.

Configurations come in generations. Those of a generation, and the losses at which its fits are given up, depend only
on the seed and on the *complete* generations before it; so the course is the same whatever finishes first, and a
search that was killed takes it up again. Each finished trial is a file of its own: after a kill none is lost, and
none is fitted twice.

Giving up follows ASHA's rule (Li et al., MLSys 2020: at each rung only the best share goes on), with the rung's
losses taken from earlier generations instead of whoever has reached the rung by now.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trialops.models.candidates import Candidate
from trialops.models.record import plain
from trialops.models.search_space import Space

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Trial:
    """A configuration to score.

    Attributes:
        candidate: The configuration.
        cuts: (boosting round, loss): the fit is given up when its cross-validated loss there is higher.
    """

    candidate: Candidate
    cuts: tuple[tuple[int, float], ...] = ()

    def dumps(self) -> str:
        """JSON text."""
        return json.dumps(plain(self), sort_keys=True)

    @classmethod
    def loads(cls, text: str) -> Trial:
        """The trial that :meth:`dumps` wrote."""
        content = json.loads(text)
        return cls(Candidate(**content["candidate"]), tuple((int(at), float(loss)) for at, loss in content["cuts"]))


@dataclass(frozen=True)
class Outcome:
    """Score of one trial.

    Attributes:
        number: Number of the configuration.
        log_loss: Cross-validated log loss per subject; of a fit given up, at its last round.
        auroc: Mean AUROC over folds.
        rounds: Boosting rounds chosen; 0 for logistic.
        stopped: Round at which the fit was given up; 0 where it was not.
        curve: Learning curve: (boosting round, mean cross-validated log loss), thinned; every rung is in it.
    """

    number: int
    log_loss: float
    auroc: float
    rounds: int
    stopped: int = 0
    curve: tuple[tuple[int, float], ...] = ()

    def dumps(self) -> str:
        """JSON text; an AUROC that no fold could give is NaN there, and comes back as that."""
        return json.dumps({**self.__dict__, "curve": list(self.curve)}, sort_keys=True)

    @classmethod
    def loads(cls, text: str) -> Outcome:
        """The outcome that :meth:`dumps` wrote.

        Raises:
            ValueError: The text is not whole.
        """
        content = json.loads(text)
        curve = tuple((int(at), float(loss)) for at, loss in content.pop("curve"))
        return cls(**content, curve=curve)


class Ledger:
    """Finished trials of one search, a file each in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[int, Outcome]:
        """Every finished trial by number; a file that a kill cut short is not one."""
        found = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                outcome = Outcome.loads(path.read_text())
            except ValueError:
                continue
            found[outcome.number] = outcome
        return found

    def write(self, outcome: Outcome) -> None:
        """Keep a finished trial, whole or not at all."""
        path = self._folder / f"{outcome.number:06d}.json"
        staged = path.with_suffix(".partial")
        with staged.open("w") as file:
            file.write(outcome.dumps())
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)


class Records(Protocol):
    """Where finished trials are kept: a :class:`Ledger`, or one in an object store."""

    def read(self) -> dict[int, Outcome]:
        """Every finished trial by number."""
        ...

    def write(self, outcome: Outcome) -> None:
        """Keep a finished trial, whole or not at all."""
        ...


class Course:
    """Hands out trials and takes their outcomes; not thread-safe.

    Args:
        trials: Number of configurations.
        seed: Seed of the draws.
        space: The search space.
        records: Where finished trials are kept, or a folder for them; those found there are not handed out again.
        progress: Told after every trial.
    """

    def __init__(
        self, trials: int, seed: int, space: Space, records: Records | Path, *, progress: Progress | None = None
    ) -> None:
        self.total, self.kept = trials, 0
        self._seed, self._space, self._progress = seed, space, progress
        self._ledger = Ledger(records) if isinstance(records, Path) else records
        self._found = self._ledger.read()
        self.kept = len([number for number in self._found if number < trials])
        self.candidates: list[Candidate] = []
        self._ready: deque[Trial] = deque()
        self._extend()

    @property
    def finished(self) -> bool:
        """Whether every configuration has its outcome."""
        return all(number in self._found for number in range(self.total))

    def take(self) -> Trial | None:
        """The next trial; None while the generation is incomplete, and when there are no more."""
        return self._ready.popleft() if self._ready else None

    def tell(self, outcome: Outcome) -> None:
        """Note a finished trial."""
        self._ledger.write(outcome)
        self._found[outcome.number] = outcome
        if self._progress:
            done = sum(number in self._found for number in range(self.total))
            self._progress(f"trial {done} of {self.total}", done / self.total)
        self._extend()

    def outcomes(self) -> list[Outcome]:
        """The outcome of every configuration, by number; only when finished."""
        return [self._found[number] for number in range(self.total)]

    def _extend(self) -> None:
        """Draw generations until one has something to run, or all are complete."""
        while not self._ready and len(self.candidates) < self.total:
            if any(candidate.number not in self._found for candidate in self.candidates):
                return
            drawn = self._generation()
            cuts = tuple(self._cuts())
            self.candidates += drawn
            # the long fits first, so that nobody waits for one that began last
            missing = sorted((c for c in drawn if c.number not in self._found), key=lambda c: c.kind != "lightgbm")
            self._ready += [Trial(c, cuts if c.kind == "lightgbm" else ()) for c in missing]

    def _generation(self) -> list[Candidate]:
        start = len(self.candidates)
        size = min(self._space.plan.generation, self.total - start)
        if start == 0 or self._space.plan.sampler == "sobol":
            # drawn whole, so that the declared first configurations and the sequence do not start again
            return self._space.draw(self.total, self._seed)[start : start + size]
        leader = min(self.candidates, key=lambda c: (self._found[c.number].log_loss, c.number)).kind
        kinds = self._space.queue(size, leader)
        learnt = {}
        for kind in sorted(set(kinds)):
            past = [(c, self._found[c.number].log_loss) for c in self.candidates if c.kind == kind]
            learnt[kind] = iter(self._space.learn(kind, past, kinds.count(kind), self._seed + start))
        return [Candidate(start + k, kind, next(learnt[kind])) for k, kind in enumerate(kinds)]

    def _cuts(self) -> Iterator[tuple[int, float]]:
        """Loss at each rung that a fit must not exceed, from the complete generations."""
        import numpy as np

        curves = [dict(self._found[c.number].curve) for c in self.candidates if c.kind == "lightgbm"]
        for rung in self._space.plan.rungs:
            reached = sorted(curve[rung] for curve in curves if rung in curve)
            if len(reached) > 1:
                yield rung, float(np.quantile(reached, self._space.plan.keep))


def as_document(course: Course) -> list[dict[str, Any]]:
    """Learning curves of the boosted trials, JSON values."""
    return [{"number": o.number, "stopped": o.stopped, "curve": plain(o.curve)} for o in course.outcomes() if o.curve]
