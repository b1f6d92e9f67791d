"""Which terms differ between arms when hundreds are looked at: double false discovery rates.

Events come in body systems and related terms move together. A first step asks which systems show anything, a second
one which terms in them (Mehrotra and Heyse, Stat Methods Med Res 2004; 13: 227-238; Mehrotra and Adewale, Stat Med
2012; 31: 1918-1930, which keeps the rate at its level).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

Method = Literal["mehrotra_adewale", "mehrotra_heyse"]


@dataclass(frozen=True)
class DoubleFdr:
    """What the two steps say.

    Attributes:
        systems: ``system``, ``terms``, ``representative``, ``adjusted``, ``looked_into`` (bool), by system.
        terms: ``system``, ``term``, ``p``, ``adjusted`` (null where the system is not looked into), ``flagged``.
        method: Which of the two.
        system_level: Level of the first step.
        term_level: Level of the second.
    """

    systems: pl.DataFrame
    terms: pl.DataFrame
    method: Method
    system_level: float
    term_level: float


def double_fdr(
    terms: pl.DataFrame,
    *,
    system_level: float = 0.10,
    term_level: float = 0.05,
    method: Method = "mehrotra_adewale",
) -> DoubleFdr:
    """Flag terms.

    Mehrotra and Adewale: a system is represented by the smallest of its terms' adjusted p-values; systems whose
    adjusted representative is at most `system_level` are looked into; the terms of all of these together are adjusted
    once more and flagged at `term_level`. Mehrotra and Heyse: a system is represented by its smallest p-value, and
    terms are adjusted within their own system.

    Args:
        terms: ``system``, ``term``, ``p`` (two-sided, 0 to 1), one row per term.
        system_level: Level of the first step.
        term_level: Level of the second.
        method: Which.

    Raises:
        TrialOpsError: A p-value is none.
    """
    import polars as pl

    from trialops.monitoring.drift_statistics import adjusted as benjamini_hochberg

    p = terms["p"]
    if p.is_null().any() or not p.is_between(0, 1).all():
        raise TrialOpsError("A p-value is not between 0 and 1", where="double_fdr", fix="Leave terms without one out.")

    def adjust(values: pl.Series) -> pl.Series:
        return pl.Series(benjamini_hochberg(values.to_numpy()))

    frame = terms.select("system", "term", "p").sort("system", "p", "term")
    frame = frame.with_columns(
        within=pl.col("p").map_batches(adjust, return_dtype=pl.Float64, is_elementwise=False).over("system")
    )
    representative = "within" if method == "mehrotra_adewale" else "p"
    systems = (
        frame.group_by("system")
        .agg(terms=pl.len(), representative=pl.col(representative).min())
        .sort("representative", "system")
    )
    systems = systems.with_columns(adjusted=adjust(systems["representative"]))
    systems = systems.with_columns(looked_into=pl.col("adjusted") <= system_level)
    frame = frame.join(systems.select("system", "looked_into"), on="system", how="left")
    chosen = frame.filter("looked_into")
    if method == "mehrotra_adewale":
        chosen = chosen.with_columns(adjusted=adjust(chosen["p"]))
    else:
        chosen = chosen.with_columns(adjusted="within")
    result = (
        frame.join(chosen.select("system", "term", "adjusted"), on=["system", "term"], how="left")
        .with_columns(flagged=(pl.col("adjusted") <= term_level).fill_null(False))
        .select("system", "term", "p", "adjusted", "flagged")
        .sort("adjusted", "p", "system", "term", nulls_last=True)
    )
    return DoubleFdr(systems, result, method, system_level, term_level)
