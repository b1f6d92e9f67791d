"""What a new evaluation changed: whose verdict, because of which criterion, and which row decides now and before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

NEW, GONE = "new subject", "no longer in the data"
CHANGES = (
    "USUBJID",
    "change",
    "before",
    "after",
    "criterion",
    "outcome_before",
    "outcome_after",
    "row_before",
    "row_after",
)


def changes(
    before: pl.DataFrame, after: pl.DataFrame, evidence_before: pl.DataFrame, evidence_after: pl.DataFrame
) -> pl.DataFrame:
    """The difference of two evaluations.

    A subject whose verdict changed has one row for each criterion whose outcome changed. A subject whose verdict stayed
    while an outcome changed has such rows too: their verdicts are equal. Where the criteria themselves were
    changed, an outcome on one side alone is "not judged" on the other.

    Args:
        before: Verdicts of the earlier evaluation.
        after: Those of the later one.
        evidence_before: Evidence of the earlier one.
        evidence_after: Evidence of the later one.

    Returns:
        Columns of CHANGES: ``change`` is "verdict", "outcome", NEW or GONE; rows are "LB 12" (domain, --SEQ), empty
        where no row decides. Sorted; identifiable.
    """
    import polars as pl

    old, new = _long(before, evidence_before), _long(after, evidence_after)
    keys = ["USUBJID", "criterion"]
    both = old.join(new, on=keys, how="full", suffix="_after", coalesce=True)
    verdicts = before.select("USUBJID", before="verdict").join(
        after.select("USUBJID", after="verdict"), on="USUBJID", how="full", coalesce=True
    )
    joined = both.drop("verdict", "verdict_after").join(verdicts, on="USUBJID", how="left")
    appeared = pl.col("before").is_null()
    left = pl.col("after").is_null()
    # A subject who came or went is one row: nothing of it changed.
    moved = verdicts.filter(appeared | left).select(
        "USUBJID",
        change=pl.when(appeared).then(pl.lit(NEW)).otherwise(pl.lit(GONE)),
        before="before",
        after="after",
        **{name: pl.lit(None, pl.String) for name in CHANGES[4:]},
    )
    changed = joined.filter(~appeared & ~left & pl.col("outcome").ne_missing(pl.col("outcome_after"))).select(
        "USUBJID",
        change=pl.when(pl.col("before") != pl.col("after")).then(pl.lit("verdict")).otherwise(pl.lit("outcome")),
        before="before",
        after="after",
        criterion="criterion",
        outcome_before=pl.col("outcome").fill_null("not judged"),
        outcome_after=pl.col("outcome_after").fill_null("not judged"),
        row_before="row",
        row_after="row_after",
    )
    return pl.concat([moved.select(CHANGES), changed.select(CHANGES)]).sort("USUBJID", "criterion", nulls_last=True)


def _long(verdicts: pl.DataFrame, evidence: pl.DataFrame) -> pl.DataFrame:
    """One row per subject and criterion: verdict, outcome, the row that decides."""
    import polars as pl

    plain = evidence.with_columns(pl.col("USUBJID", "criterion", "domain", "outcome").cast(pl.String))
    point = pl.concat_str([pl.col("domain"), pl.col("sequence").cast(pl.String)], separator=" ")
    deciding = (
        plain.with_columns(row=point)
        .sort("USUBJID", "criterion", pl.col("sequence").is_null(), "fact", maintain_order=True)
        .unique(["USUBJID", "criterion"], keep="first", maintain_order=True)
        .select("USUBJID", "criterion", "outcome", "row")
    )
    return deciding.join(verdicts.select("USUBJID", "verdict"), on="USUBJID", how="left")


def moves(changed: pl.DataFrame) -> list[tuple[str, str, int]]:
    """Verdict before, after, and how many subjects went that way; new and gone subjects too."""
    import polars as pl

    subjects = changed.filter(pl.col("change") != "outcome").unique("USUBJID")
    counts = subjects.group_by(pl.col("before").fill_null(NEW), pl.col("after").fill_null(GONE)).len()
    return [(str(b), str(a), int(n)) for b, a, n in counts.sort("before", "after").iter_rows()]
