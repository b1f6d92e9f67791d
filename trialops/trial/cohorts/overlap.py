"""Which persons are in several cohorts: the counts of each pair, protected together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from trialops.trial.cohorts.suppression import Figure, Shown, protect


@dataclass(frozen=True)
class Overlap:
    """Persons in each pair of cohorts; the diagonal is a cohort's size.

    Attributes:
        names: Cohorts, in order.
        shown: Figures by "first & second", first before or equal to second in the order of the names.
    """

    names: tuple[str, ...]
    shown: Shown

    def value(self, first: str, second: str) -> int | str:
        """What is shown for a pair."""
        return self.shown[_pair(self.names, first, second)]

    def share(self, first: str, second: str) -> float | None:
        """Part of the first cohort that is in the second too; None where it may not be told."""
        both, own = self.value(first, second), self.value(first, first)
        return both / own if isinstance(both, int) and isinstance(own, int) and own else None

    def size_withheld(self, name: str) -> bool:
        """Whether the cohort's size may not be shown beside the others'."""
        return not isinstance(self.value(name, name), int)


def overlap(members: Mapping[str, set[int]], persons: int) -> Overlap:
    """Count the overlaps.

    Args:
        members: Persons by cohort.
        persons: Persons in the data.
    """
    names = tuple(sorted(members))
    patterns: Counter[Hashable] = Counter()
    everybody = set().union(*members.values()) if members else set()
    for person in everybody:
        patterns[tuple(person in members[name] for name in names)] += 1
    patterns[tuple(False for _ in names)] = persons - len(everybody)
    figures = [Figure("all", frozenset(patterns), 1000)]
    for i, first in enumerate(names):
        for j in range(i, len(names)):
            cells = frozenset(p for p in patterns if isinstance(p, tuple) and p[i] and p[j])
            figures.append(Figure(_pair(names, first, names[j]), cells, 200 if i == j else 2))
    return Overlap(names, protect(patterns, figures))


def _pair(names: tuple[str, ...], first: str, second: str) -> str:
    low, high = sorted((first, second), key=names.index)
    return f"{low} & {high}"
