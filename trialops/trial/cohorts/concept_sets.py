"""Concept sets as lists of concepts: items, their descendants, what is mapped to them, less what is excluded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.trial.cohorts.expression import ConceptItem, ConceptSet, Expression

if TYPE_CHECKING:
    import polars as pl

    from trialops.standards.vocabulary import Vocabulary

TableOf = Callable[[str], "pl.LazyFrame"]


@dataclass(frozen=True)
class Resolved:
    """The concept sets of an expression.

    Attributes:
        concepts: Concept ids by set.
        narrow: Names of sets that ask for descendants or mapped concepts where no vocabulary could tell them.
    """

    concepts: Mapping[int, frozenset[int]]
    narrow: tuple[str, ...]


def tables_of(vocabulary: Vocabulary) -> TableOf | None:
    """How the relations of a vocabulary are read; None for what ships, which has none."""
    return None if vocabulary.folder is None else vocabulary.table


def resolve(expression: Expression, vocabulary: TableOf | None) -> Resolved:
    """The concepts of each set.

    An item stands for its concept; with `descendants` also for all below it (CONCEPT_ANCESTOR), with `mapped` also for
    the source concepts that 'Maps to' leads from to any of these. Excluded items are taken out last.

    Args:
        expression: Its concept sets are looked at.
        vocabulary: Gives a vocabulary table by name; without one only the concepts themselves are known.
    """
    made = {item.id: _resolve(item, vocabulary) for item in expression.concept_sets}
    wide = [s.name or str(s.id) for s in expression.concept_sets if any(i.descendants or i.mapped for i in s.items)]
    return Resolved(made, () if vocabulary is not None else tuple(wide))


def _resolve(item: ConceptSet, vocabulary: TableOf | None) -> frozenset[int]:
    inside = _expand([one for one in item.items if not one.excluded], vocabulary)
    outside = _expand([one for one in item.items if one.excluded], vocabulary)
    return frozenset(inside - outside)


def _expand(items: Iterable[ConceptItem], vocabulary: TableOf | None) -> set[int]:
    items = list(items)
    plain = {one.concept for one in items}
    if vocabulary is None:
        return plain
    below = _descendants({one.concept for one in items if one.descendants}, vocabulary)
    targets = {one.concept for one in items if one.mapped}
    targets |= _descendants({one.concept for one in items if one.mapped and one.descendants}, vocabulary)
    return plain | below | _mapped(targets, vocabulary)


def _descendants(concepts: set[int], vocabulary: TableOf) -> set[int]:
    import polars as pl

    if not concepts:
        return set()
    found = vocabulary("concept_ancestor").filter(pl.col("ancestor_concept_id").is_in(sorted(concepts)))
    found = found.join(vocabulary("concept"), left_on="descendant_concept_id", right_on="concept_id", how="inner")
    valid = found.filter(pl.col("invalid_reason").is_null())
    return set(valid.select("descendant_concept_id").collect().to_series().to_list())


def _mapped(concepts: set[int], vocabulary: TableOf) -> set[int]:
    import polars as pl

    if not concepts:
        return set()
    found = vocabulary("concept_relationship").filter(
        pl.col("concept_id_2").is_in(sorted(concepts)),
        pl.col("relationship_id") == "Maps to",
        pl.col("invalid_reason").is_null(),
    )
    return set(found.select("concept_id_1").collect().to_series().to_list())
