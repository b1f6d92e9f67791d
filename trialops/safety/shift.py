"""Shift tables: from the grade at baseline to the worst grade under treatment, term by term."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.safety.results import ON, PERIODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

NOT_GRADED = "not graded"
ALL = "all"
"""The group of a blinded table: nobody is told apart."""

COLUMNS = ("TERM", "PERIOD", "GROUP", "BASE", "WORST", "SUBJECTS")


def shifts(graded: pl.DataFrame, *, periods: Sequence[str] = (ON,), groups: pl.DataFrame | None = None) -> pl.DataFrame:
    """Subjects by baseline grade and worst grade after it.

    A subject counts for a term with any result of it after the baseline in the period; the worst is that of all graded
    ones. Several positions or tests of one term are one: the highest grade at baseline, the worst after. Under CTCAE
    v5 a baseline is graded against the range, and what follows against the range or the baseline as the text says.

    Args:
        graded: From :func:`trialops.safety.graded.graded_results`.
        periods: Which of :data:`trialops.safety.results.PERIODS` to tabulate, one table each.
        groups: USUBJID and GROUP for an unblinded table; without it everybody is "all", the blinded table.

    Returns:
        Sorted, one row per cell that is not empty: TERM, PERIOD, GROUP, BASE and WORST ("0" to "4", or "not graded"),
        SUBJECTS.
    """
    import polars as pl

    unknown = [period for period in periods if period not in PERIODS]
    if unknown:
        raise ValueError(f"no such period: {unknown[0]}")
    after = graded.filter(pl.col("PERIOD").is_in(list(periods)) & ~pl.col("AT_BASELINE"))
    worst = after.group_by("USUBJID", "TERM", "PERIOD").agg(
        WORST=pl.col("GRADE").max(), BASE=pl.col("BASE_GRADE").max()
    )
    worst = (
        worst.with_columns(GROUP=pl.lit(ALL))
        if groups is None
        else worst.join(groups.select("USUBJID", "GROUP"), on="USUBJID", how="inner")
    )
    shown = [pl.col(c).cast(pl.String).fill_null(NOT_GRADED) for c in ("BASE", "WORST")]
    cells = worst.with_columns(shown).group_by("TERM", "PERIOD", "GROUP", "BASE", "WORST").agg(SUBJECTS=pl.len())
    return cells.select(COLUMNS).sort("TERM", "PERIOD", "GROUP", "BASE", "WORST")


def worsened(cells: pl.DataFrame) -> pl.DataFrame:
    """Of each term, period and group: subjects, those whose grade rose, and those who reached grade 3 or 4 from below.

    Args:
        cells: From :func:`shifts`.

    Returns:
        TERM, PERIOD, GROUP, SUBJECTS, WORSE, SEVERE, NOT_GRADED, sorted by term. A baseline that was not graded counts
        as grade 0, so that a severe result is never left out for want of one.
    """
    import polars as pl

    base = pl.col("BASE").cast(pl.Int8, strict=False).fill_null(0)
    worst = pl.col("WORST").cast(pl.Int8, strict=False)
    n = pl.col("SUBJECTS")
    return (
        cells.group_by("TERM", "PERIOD", "GROUP")
        .agg(
            SUBJECTS=n.sum(),
            WORSE=n.filter(worst > base).sum(),
            SEVERE=n.filter((worst >= 3) & (base < 3)).sum(),
            NOT_GRADED=n.filter(worst.is_null()).sum(),
        )
        .sort("TERM", "PERIOD", "GROUP")
    )
