"""Groups of conditions by ICD-10 code, and the comorbidity indices over them; the codes and weights are data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

FILE = Path(__file__).parent / "conditions.yaml"


@cache
def _content() -> dict[str, Any]:
    from trialops.models.task import read_yaml

    return dict(read_yaml(FILE))


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """Group -> prefixes of its ICD-10 codes, in upper case without dots.

    Raises:
        TrialOpsError: A range of codes cannot be read.
    """
    content = _content()
    return {
        name: tuple(p for part in parts for p in _prefixes(part))
        for section in ("charlson", "risk")
        for name, parts in content[section].items()
    }


def weights(index: str) -> dict[str, int]:
    """Group -> weight of one comorbidity index."""
    return dict(_content()["weights"][index])


def hierarchy() -> dict[str, str]:
    """Milder group -> the severer one that takes its place."""
    return dict(_content()["hierarchy"])


def _prefixes(text: str) -> list[str]:
    """A prefix, or all of a range whose ends differ in their last digits alone."""
    first, _, last = text.replace(".", "").partition("-")
    if not last:
        return [first]
    stem = first.rstrip("0123456789") if len(first) == 3 else first[:-1]
    if len(first) != len(last) or not last.startswith(stem) or last <= first:
        raise TrialOpsError(f"The range {text} cannot be read.", where=str(FILE), fix="Write C00-C26 or I42.5-I42.9.")
    width = len(first) - len(stem)
    return [f"{stem}{n:0{width}d}" for n in range(int(first[len(stem) :]), int(last[len(stem) :]) + 1)]


def belongs(code: pl.Expr, group: str) -> pl.Expr:
    """Whether an ICD-10 code belongs to a group; null where there is no code.

    Args:
        code: Code in any case, with or without its dot.
        group: Name of the group.
    """
    prefixes = groups()[group]
    plain = code.str.to_uppercase().str.replace_all(r"[\s.]", "")
    pattern = "^(?:" + "|".join(sorted(prefixes)) + ")"
    return plain.str.contains(pattern)


def index(name: str, flags: Mapping[str, pl.Expr]) -> pl.Expr:
    """A comorbidity index: sum of the weights of the groups a person has; null where any group is unknown.

    Args:
        name: One of the indices in conditions.yaml.
        flags: Group -> 1, 0 or null.
    """
    import polars as pl

    severer, total = hierarchy(), []
    for group, weight in weights(name).items():
        present = flags[group] == 1
        if group in severer:
            present &= flags[severer[group]] != 1
        total.append(present.cast(pl.Float64) * weight)
    known = pl.all_horizontal(flags[g].is_not_null() for g in weights(name))
    return pl.when(known).then(pl.sum_horizontal(total))
