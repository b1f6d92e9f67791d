"""How long each subject had been followed when the data were cut, coarse enough to give no date away.

Whether a subject's outcome can be known by now is a matter of calendar dates, which do not survive. What survives is
`CUTDY` in DM: the study day of the data cut. Exact, it would order all subjects by their date of enrolment, to the day;
so it comes in steps, rounded down, and ends at a cap (policy.yaml, `data_cut`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.privacy.study_days import LAST, REFERENCE, study_day

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.policy import DataCut

CUT = "CUTDY"


def cut_days(reference: pl.DataFrame, rule: DataCut) -> pl.DataFrame:
    """Study day of the data cut of every subject.

    The cut is the latest day that the dates of `rule.subjects` subjects reach, in large trials of one in a thousand:
    a mistyped year in the record of one does not move it. It can only err towards too early, and then subjects are
    held back for a while.

    Args:
        reference: One row per subject with USUBJID, `_reference` (day 1) and `_last` (last exact date).
        rule: Step, cap and number of subjects.

    Returns:
        USUBJID and CUTDY (Int32): a multiple of the step, at most the cap; null in the first step, and without day 1.
    """
    import polars as pl

    last = reference[LAST].drop_nulls().sort(descending=True)
    if last.is_empty():
        return reference.select("USUBJID", pl.lit(None, pl.Int32).alias(CUT))
    reach = min(max(rule.subjects, -(-len(last) // 1000)), len(last))
    day = study_day(pl.lit(last[reach - 1]), pl.col(REFERENCE))
    step = (day // rule.step * rule.step).clip(upper_bound=rule.most)
    return reference.select("USUBJID", pl.when(step >= rule.step).then(step).cast(pl.Int32).alias(CUT))


def with_cut(dm: pl.DataFrame, reference: pl.DataFrame, pseudonyms: pl.DataFrame | None, rule: DataCut) -> pl.DataFrame:
    """The clean DM with CUTDY.

    Args:
        dm: Clean DM.
        reference: See `cut_days`; USUBJID as delivered.
        pseudonyms: `raw` subject and `pseudonym`; None where subjects keep their identifiers.
        rule: Step, cap and number of subjects.
    """
    import polars as pl

    cut = cut_days(reference, rule)
    if pseudonyms is not None:
        name = pl.col("USUBJID").replace_strict(
            pseudonyms["raw"], pseudonyms["pseudonym"], default=None, return_dtype=pl.String
        )
        cut = cut.with_columns(name)
    return dm.drop(CUT, strict=False).join(cut, on="USUBJID", how="left", maintain_order="left")
