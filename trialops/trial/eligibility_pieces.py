"""Pieces of SQL: the comparison of an interval with limits, and a row of evidence packed into one number.

The packed row, from the highest bit: preference (2), day (21, the last one for "not one day"), --SEQ (20), why (4).
The smallest of a subject is its evidence.
"""

from __future__ import annotations

from collections.abc import Sequence

from trialops.trial.eligibility_subjects import NEVER

DAY_BITS, SEQ_BITS, WHY_BITS = 21, 20, 4
NO_DAY = (1 << DAY_BITS) - 1


def interval(
    bounds: Sequence[tuple[str, str]], low: str, high: str, *, open_low: str = "FALSE", open_high: str = "FALSE"
) -> str:
    """Whether a number known to lie in [low, high] keeps all bounds; null where that depends on which it is.

    Args:
        bounds: Operator and placeholder.
        low: SQL of the lower end.
        high: SQL of the upper end.
        open_low: SQL of whether the lower end itself is left out.
        open_high: Likewise for the upper one.
    """
    tests = {
        "at_least": "CASE WHEN {lo} >= {n} THEN TRUE WHEN {hi} < {n} OR ({hi} = {n} AND {oh}) THEN FALSE END",
        "above": "CASE WHEN {lo} > {n} OR ({lo} = {n} AND {ol}) THEN TRUE WHEN {hi} <= {n} THEN FALSE END",
        "at_most": "CASE WHEN {hi} <= {n} THEN TRUE WHEN {lo} > {n} OR ({lo} = {n} AND {ol}) THEN FALSE END",
        "below": "CASE WHEN {hi} < {n} OR ({hi} = {n} AND {oh}) THEN TRUE WHEN {lo} >= {n} THEN FALSE END",
    }
    made = [tests[op].format(lo=low, hi=high, n=n, ol=open_low, oh=open_high) for op, n in bounds]
    return f"({' AND '.join(made)})"


def pack(prefer: str, low: str, high: str, seq: str, why: str) -> str:
    """A row of evidence as one number, see the module."""
    day = f"CASE WHEN {low} = {high} THEN {low} - {NEVER} ELSE {NO_DAY} END"
    return (
        f"(({prefer})::BIGINT << {DAY_BITS + SEQ_BITS + WHY_BITS}) | (({day})::BIGINT << {SEQ_BITS + WHY_BITS}) | "
        f"({seq}::BIGINT << {WHY_BITS}) | ({why})"
    )
