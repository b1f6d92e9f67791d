"""How the persons in the data become the members of a cohort: entry event, inclusion rules in order, exit.

As in ATLAS each person counts with one index event, the one that meets most rules; ties go to the one that meets the
earliest rule, then to the earliest. Per rule there is who meets it, whom the cohort would gain without it (who meet
all others), and who remains when the rules are applied in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.trial.cohorts.suppression import HIDDEN, Figure, Shown, protect

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.cohorts.evaluate import Evaluated

ALL, ENTRY, MEMBERS = "in the data", "entry event", "in the cohort"
_WEIGHTS = {"left": 10, "met": 3, "gain": 2}


@dataclass(frozen=True)
class Attrition:
    """Counts of persons, exact; for pages there is `shown`.

    Attributes:
        rules: Names of the rules, in order.
        cells: Persons by (mask of rules met, member); (-1, False) are those without an entry event.
        shown: What a page may show.
    """

    rules: tuple[str, ...]
    cells: Counter[tuple[int, bool]]
    shown: Shown

    def flow(self) -> list[tuple[str, int | str]]:
        """What is shown from everybody in the data down to the members, step by step."""
        names = [ALL, ENTRY, *(f"left {n}" for n in range(len(self.rules))), MEMBERS]
        labels = [ALL, ENTRY, *self.rules, MEMBERS]
        return [(label, self.shown[name]) for label, name in zip(labels, names, strict=True)]

    def table(self) -> list[list[int | str]]:
        """Rows for a page: rule, meeting it, gained without it, remaining, lost by it, remaining in percent."""
        made = []
        before = self.shown[ENTRY]
        base = self.shown.count(ENTRY)
        for number, name in enumerate(self.rules):
            left = self.shown[f"left {number}"]
            lost: int | str = before - left if isinstance(before, int) and isinstance(left, int) else HIDDEN
            share = f"{100 * left / base:.1f} %" if base and isinstance(left, int) else HIDDEN
            made.append([name, self.shown[f"met {number}"], self.shown[f"gain {number}"], left, lost, share])
            before = left
        return made


def best_events(evaluated: Evaluated) -> pl.DataFrame:
    """person_id, event_key, start_date, mask of the index event that a person counts with."""
    import polars as pl

    bits = [(pl.col("mask") // (1 << n) % 2) for n in range(evaluated.rules)]
    met = pl.sum_horizontal(bits) if bits else pl.lit(0)
    first = pl.coalesce([pl.when(bit == 1).then(n) for n, bit in enumerate(bits)]) if bits else pl.lit(0)
    order = evaluated.marked.with_columns(_met=-met.cast(pl.Int64), _first=first.fill_null(0))
    best = order.sort("person_id", "_met", "_first", "start_date", "event_key").unique(
        "person_id", keep="first", maintain_order=True
    )
    return best.select("person_id", "event_key", "start_date", "mask")


def attrition(evaluated: Evaluated, rules: Sequence[str], persons: int, *, withheld: bool = False) -> Attrition:
    """Count the persons at each step.

    Args:
        evaluated: What the expression gave.
        rules: Names of its rules.
        persons: Persons in the data.
        withheld: Whether the size of the cohort may not be shown, because of another table.
    """
    import polars as pl

    members = evaluated.members.select("person_id").unique().with_columns(member=pl.lit(True))
    best = best_events(evaluated).join(members, on="person_id", how="left")
    counted = best.group_by("mask", pl.col("member").fill_null(False)).len()
    cells: Counter[tuple[int, bool]] = Counter({(m, k): n for m, k, n in counted.iter_rows()})
    cells[(-1, False)] = persons - best.height
    return Attrition(tuple(rules), cells, protect(dict(cells), _figures(cells, len(rules), withheld)))


def _figures(cells: Counter[tuple[int, bool]], rules: int, withheld: bool) -> list[Figure]:
    whole = (1 << rules) - 1
    entered = {cell for cell in cells if cell[0] >= 0}

    def figure(name: str, chosen: set[tuple[int, bool]], weight: int, hidden: bool = False) -> Figure:
        return Figure(name, frozenset[Hashable](chosen), weight, hidden)

    made = [
        figure(ALL, set(cells), 1000),
        figure(ENTRY, entered, 20),
        figure(MEMBERS, {cell for cell in cells if cell[1]}, 200, withheld),
    ]
    for number in range(rules):
        first, bit = (1 << (number + 1)) - 1, 1 << number
        made += [
            figure(f"left {number}", {c for c in entered if c[0] & first == first}, _WEIGHTS["left"]),
            figure(f"met {number}", {c for c in entered if c[0] & bit}, _WEIGHTS["met"]),
            figure(f"gain {number}", {c for c in entered if c[0] == whole & ~bit}, _WEIGHTS["gain"]),
        ]
    return made
