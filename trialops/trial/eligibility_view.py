"""What a person who may look at subjects sees of an evaluation of eligibility."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

KEYS = ("USUBJID", "SITEID", "randomised", "verdict")


def view(
    tables: Mapping[str, pl.DataFrame],
    *,
    subject: str = "",
    verdict: str = "",
    criterion: str = "",
    changed: bool = False,
    queries: bool = False,
) -> pl.DataFrame:
    """Rows of an evaluation.

    Args:
        tables: Of :func:`trialops.trial.eligibility_record.newest`.
        subject: One subject, every criterion with the rows that decide.
        verdict: Only subjects with this verdict.
        criterion: Only subjects whose entry this criterion bars or leaves open.
        changed: Changes since the evaluation before instead.
        queries: Disagreement with the sites instead.

    Returns:
        Without a subject one row per subject: site, verdict, and the criteria that bar entry and that are open.

    Raises:
        TrialOpsError: There is no such subject or criterion.
    """
    import polars as pl

    if changed or queries:
        chosen = tables["changes" if changed else "queries"]
        return chosen.filter(pl.col("USUBJID") == subject) if subject else chosen
    verdicts = tables["verdicts"]
    if subject and verdicts.filter(pl.col("USUBJID") == subject).is_empty():
        raise TrialOpsError("There is no such subject in the newest evaluation", where="--subject")
    plain = tables["evidence"].with_columns(pl.col(pl.Categorical).cast(pl.String))
    if subject:
        return plain.filter(pl.col("USUBJID") == subject).drop("USUBJID")
    names = [c for c in verdicts.columns if c not in KEYS]
    if criterion and criterion not in names:
        raise TrialOpsError(
            f"There is no criterion {criterion}", where="--criterion", fix=f"The evaluation has {', '.join(names)}."
        )
    bars = plain.filter(pl.col("bars")).group_by("USUBJID").agg(pl.col("criterion").unique().sort().alias("barred by"))
    opens = plain.filter(pl.col("outcome") == "unknown").group_by("USUBJID")
    joined = verdicts.select(KEYS).join(bars, on="USUBJID", how="left")
    joined = joined.join(opens.agg(pl.col("criterion").unique().sort().alias("open")), on="USUBJID", how="left")
    if verdict:
        joined = joined.filter(pl.col("verdict") == verdict)
    if criterion:
        joined = joined.filter(pl.any_horizontal(pl.col(c).list.contains(criterion) for c in ("barred by", "open")))
    return joined.with_columns(pl.col("barred by", "open").list.join(", ")).sort("USUBJID")
