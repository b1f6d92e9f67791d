"""Safety by arm: every term's incidence, its difference to control with interval, and what stands out of hundreds.

Unblinded by nature: whoever calls this has been authorised (``unblinded_documents``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.double_fdr import DoubleFdr


@dataclass(frozen=True)
class ArmComparison:
    """One arm against control.

    Attributes:
        arm: Name of the arm.
        control: Name of the control arm.
        terms: One row per term: its columns, ``x1``, ``n1``, ``x0``, ``n0``, ``difference``, ``low``, ``high`` (risk
            difference, Miettinen-Nurminen), ``ratio``, ``ratio_low``, ``ratio_high`` (risk ratio), ``rate1``, ``rate0``
            (per 100 subject-years), ``p`` (Fisher), ``adjusted`` and ``flagged`` (double false discovery rate),
            ``more`` (posterior probability that the arm's risk is higher); by difference, largest first.
        fdr: The two steps behind ``flagged``.
    """

    arm: str
    control: str
    terms: pl.DataFrame
    fdr: DoubleFdr


def compare_arms(
    table: pl.DataFrame, control: str, by: Sequence[str] = ("AEBODSYS", "AEDECOD"), *, level: float = 0.95
) -> tuple[ArmComparison, ...]:
    """Compare every other arm with control, term by term.

    Args:
        table: As `trialops.safety.incidence.incidence` gives it.
        control: ``group`` of the control arm.
        by: Body system and term, as `incidence` was given them.
        level: Confidence level of the intervals.

    Returns:
        One comparison for each other arm, by name.

    Raises:
        TrialOpsError: There is no such arm.
    """
    import polars as pl

    groups = table["group"].unique().sort().to_list()
    if control not in groups:
        raise TrialOpsError(
            f"There is no arm {control!r}", where="compare_arms", fix=f"Use one of {', '.join(map(str, groups))}."
        )
    names = list(by)
    base = table.filter(pl.col("group") == control).select(*names, x0="subjects", n0="n", rate0="rate")
    return tuple(
        _against(
            table.filter(pl.col("group") == arm).select(*names, x1="subjects", n1="n", rate1="rate"),
            base,
            arm,
            control,
            names,
            level,
        )
        for arm in groups
        if arm != control
    )


def _against(
    arm: pl.DataFrame, base: pl.DataFrame, name: str, control: str, by: list[str], level: float
) -> ArmComparison:
    import polars as pl

    from trialops.safety.boundary import more_frequent
    from trialops.safety.double_fdr import double_fdr
    from trialops.safety.risk_difference import fisher_p, risk_difference, risk_ratio

    terms = arm.join(base, on=by, how="inner", nulls_equal=True)
    x1, n1, x0, n0 = (terms[c].to_numpy() for c in ("x1", "n1", "x0", "n0"))
    gap, ratio = risk_difference(x1, n1, x0, n0, level), risk_ratio(x1, n1, x0, n0, level)
    distinct = terms.select("x1", "n1", "x0", "n0").unique()
    more = distinct.with_columns(
        more=pl.Series([more_frequent(*row) for row in distinct.iter_rows()], dtype=pl.Float64)
    )
    terms = terms.with_columns(
        difference=pl.Series(gap.value),
        low=pl.Series(gap.low),
        high=pl.Series(gap.high),
        ratio=pl.Series(ratio.value),
        ratio_low=pl.Series(ratio.low),
        ratio_high=pl.Series(ratio.high),
        p=pl.Series(fisher_p(x1, n1, x0, n0)),
    ).join(more, on=["x1", "n1", "x0", "n0"], how="left")
    key = {"system": pl.col(by[0]).fill_null("(not coded)"), "term": pl.col(by[-1]).fill_null("(not coded)")}
    fdr = double_fdr(terms.select(**key, p="p"))
    terms = (
        terms.with_columns(**key)
        .join(fdr.terms.select("system", "term", "adjusted", "flagged"), on=["system", "term"], how="left")
        .drop("system", "term")
        .sort("difference", *by, descending=[True, *([False] * len(by))], nulls_last=True)
    )
    return ArmComparison(name, control, terms, fdr)
