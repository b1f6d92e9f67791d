"""Causality: what the investigator says and what the sponsor says, side by side; the more conservative decides.

A suspected adverse reaction is one with a reasonable possibility that the drug caused it (21 CFR 312.32(a); ICH E2A
II.A.2). Either assessor's suspicion is enough to report; neither replaces the other's word. An assessment nobody made
counts as a suspicion until somebody does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.safety_policy import SafetyPolicy


def related_by_investigator(policy: SafetyPolicy, column: str = "AEREL") -> pl.Expr:
    """The investigator's word as Boolean; null where it is missing or not in the policy's mapping."""
    import polars as pl

    word = pl.col(column).str.strip_chars().str.to_uppercase()
    return (
        pl.when(word.is_in(sorted(policy.related)))
        .then(True)
        .when(word.is_in(sorted(policy.not_related)))
        .then(False)
        .otherwise(None)
    )


def suspected(investigator: bool | None, sponsor: bool | None) -> bool | None:
    """Whether a reaction is suspected.

    Args:
        investigator: Related, not related, or not stated.
        sponsor: The same of the sponsor.

    Returns:
        True where either says related; False where the investigator says not related and the sponsor does not
        contradict; None (treated as suspected) where the investigator has not said, whatever the sponsor's no.
    """
    if investigator is True or sponsor is True:
        return True
    return False if investigator is False else None
