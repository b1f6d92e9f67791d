"""Table 1: what the members of a cohort are like, beside another group, with small counts kept out.

Levels of a variable are merged, the smallest first, until every count of persons that the table could lead to (a level
in one group, in both, or in one alone) is 0 or at least 11. A yes-or-no row that would tell a smaller count is left out
for the group concerned, and with it its standardised difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.pages.page import SMALLEST_CELL, suppressed
from trialops.trial.cohorts import differences
from trialops.trial.cohorts.suppression import HIDDEN, small

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.cohorts.characteristics import Variable

MISSING = "missing"
Pattern = tuple[bool, bool]
PATTERNS: tuple[Pattern, ...] = ((True, False), (False, True), (True, True))
"""Persons in the first group alone, in the second alone, in both."""


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        section: Heading.
        name: Variable, or level of the variable above.
        first: What is shown for the first group.
        second: For the second; empty where there is none.
        difference: Standardised difference, absolute; None where there is none or it may not be told.
        counts: Counts of persons that the line shows, by group and value: what a test of suppression looks at.
    """

    section: str
    name: str
    first: str
    second: str
    difference: float | None = None
    counts: tuple[tuple[str, str, int], ...] = ()


def table_one(variables: Sequence[Variable], first: pl.Series, second: pl.Series | None = None) -> list[Line]:
    """Describe one group, or two.

    Args:
        variables: Characteristics of all persons.
        first: Whether each person is in the first group; at least 11 are.
        second: In the second group; at least 11 are. Groups may overlap.
    """
    made: list[Line] = []
    for variable in variables:
        describe = {"continuous": _continuous, "categorical": _categorical, "binary": _binary}[variable.kind]
        made += describe(variable, first, second)
    return made


def merge_levels(counts: Counter[tuple[Pattern, str]]) -> list[tuple[str, ...]]:
    """Levels, merged until each is 0 or at least 11 in every pattern; a single one where nothing else will do."""
    sizes: Counter[str] = Counter()
    for (_, level), count in counts.items():
        sizes[level] += count
    levels: list[tuple[str, ...]] = [(level,) for level in sorted(sizes) if sizes[level]]

    def size(group: tuple[str, ...]) -> int:
        return sum(sizes[level] for level in group)

    def unsafe(group: tuple[str, ...]) -> bool:
        return any(small(sum(counts[(p, level)] for level in group)) for p in PATTERNS)

    while len(levels) > 1 and any(unsafe(level) for level in levels):
        worst = min((level for level in levels if unsafe(level)), key=lambda level: (size(level), level))
        rest = [level for level in levels if level != worst]
        partner = min(rest, key=lambda level: (not unsafe(level), size(level), level))
        levels = [level for level in rest if level != partner] + [tuple(sorted((*worst, *partner)))]
    return sorted(levels, key=lambda level: (-size(level), level))


def _groups(first: pl.Series, second: pl.Series | None) -> list[pl.Series]:
    return [first] if second is None else [first, second]


def _patterns(values: pl.Series, first: pl.Series, second: pl.Series | None) -> Counter[tuple[Pattern, str]]:
    """Persons by pattern and value."""
    import polars as pl

    other = second if second is not None else pl.Series([False] * len(first), dtype=pl.Boolean)
    frame = pl.DataFrame({"a": first, "b": other, "v": values}).filter(pl.col("a") | pl.col("b"))
    counted = frame.group_by("a", "b", "v").len()
    return Counter({((a, b), str(v)): n for a, b, v, n in counted.iter_rows()})


def _categorical(variable: Variable, first: pl.Series, second: pl.Series | None) -> list[Line]:
    values = variable.values.fill_null(MISSING)
    counts = _patterns(values, first, second)
    levels = merge_levels(counts)
    groups = _groups(first, second)
    if len(levels) == 1 and len(levels[0]) > 1:
        blank = HIDDEN if second is not None else ""
        return [Line(variable.section, f"{variable.name}: levels too small to be shown", HIDDEN, blank)]
    numbers = [[int((group & values.is_in(list(level))).sum()) for level in levels] for group in groups]
    known = [n for n, level in enumerate(levels) if level != (MISSING,)]
    smd = None
    if second is not None:
        shares = [[row[n] / max(sum(row[k] for k in known), 1) for n in known] for row in numbers]
        smd = differences.multinomial(shares[0], shares[1]) if all(sum(s) > 0 for s in shares) else None
    lines = [Line(variable.section, variable.name, "", "", smd)]
    for place, level in enumerate(levels):
        shown = [_share(row[place], int(group.sum())) for row, group in zip(numbers, groups, strict=True)]
        told = tuple((str(g), " or ".join(level), row[place]) for g, row in enumerate(numbers))
        lines.append(
            Line(variable.section, f"  {' or '.join(level)}", shown[0], shown[1] if len(shown) > 1 else "", None, told)
        )
    return lines


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({100 * count / whole:.1f} %)"


def _safe(counts: Counter[tuple[Pattern, str]], group: int, values: Sequence[str]) -> bool:
    """Whether a group's counts of some values can be shown: every pattern in it has 0 or at least 11 of each."""
    return not any(small(counts[(p, value)]) for p in PATTERNS if p[group] for value in values)


def _binary(variable: Variable, first: pl.Series, second: pl.Series | None) -> list[Line]:
    import polars as pl

    counts = _patterns(variable.values.cast(pl.String), first, second)
    groups = _groups(first, second)
    shown, told, shares = [], [], []
    for number, group in enumerate(groups):
        whole, count = int(group.sum()), int((group & variable.values).sum())
        if _safe(counts, number, ("true", "false")):
            shown.append(_share(count, whole))
            told.append((str(number), "yes", count))
            shares.append(count / whole)
        else:
            shown.append(str(suppressed(count)) if small(count) else HIDDEN)
    smd = differences.binary(shares[0], shares[1]) if len(shares) == 2 else None
    smd = None if smd is None else abs(smd)
    return [Line(variable.section, variable.name, shown[0], shown[1] if len(shown) > 1 else "", smd, tuple(told))]


def _continuous(variable: Variable, first: pl.Series, second: pl.Series | None) -> list[Line]:
    import polars as pl

    present = variable.values.is_not_null()
    counts = _patterns(present.cast(pl.String), first, second)
    means: list[tuple[float, float]] = []
    spread, middle, missing, told = [], [], [], []
    for number, group in enumerate(_groups(first, second)):
        values = variable.values.filter(group & present).cast(pl.Float64)
        gone = int((group & ~present).sum())
        if len(values) >= SMALLEST_CELL:
            mean, sd = float(values.mean()), float(values.std() or 0.0)  # type: ignore[arg-type]
            low, median, high = (values.quantile(q, interpolation="linear") for q in (0.25, 0.5, 0.75))
            means.append((mean, sd))
            spread.append(f"{mean:.1f} ({sd:.1f})")
            middle.append(f"{median:.1f} ({low:.1f} to {high:.1f})")
        else:
            spread.append(HIDDEN)
            middle.append(HIDDEN)
        if _safe(counts, number, ("true", "false")):
            missing.append(_share(gone, int(group.sum())))
            told.append((str(number), MISSING, gone))
        else:
            missing.append(str(suppressed(gone)) if small(gone) else HIDDEN)
    smd = differences.continuous(*means[0], *means[1]) if len(means) == 2 else None
    smd = None if smd is None else abs(smd)

    def line(
        name: str, shown: list[str], *, value: float | None = None, counted: Sequence[tuple[str, str, int]] = ()
    ) -> Line:
        return Line(variable.section, name, shown[0], shown[1] if len(shown) > 1 else "", value, tuple(counted))

    lines = [
        line(f"{variable.name}, mean (SD)", spread, value=smd),
        line("  median (quartiles)", middle),
    ]
    if any(int((group & ~present).sum()) for group in _groups(first, second)):
        lines.append(line(f"  {MISSING}", missing, counted=told))
    return lines
