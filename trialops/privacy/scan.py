"""The check after de-identification: look for raw identifiers and what looks like one in every clean table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.privacy.needles import Needles
from trialops.privacy.patterns import DATE, PATTERNS

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.policy import Policy


def scan(tables: dict[str, pl.DataFrame], needles: Needles, mode: str, policy: Policy) -> dict[str, int]:
    """Search every distinct text of every clean table.

    Args:
        tables: Clean tables.
        needles: Identifiers of the raw tables.
        mode: "strict" looks for dates everywhere; "limited" everywhere but in the date columns.
        policy: Tells which columns hold measured values, codes, pseudonyms, or the study's own name.

    Returns:
        {"columns": searched, "values": distinct texts searched, "identifiers": looked for}.

    Raises:
        TrialOpsError: Something was found. The message has tables, columns and counts, never the text.
    """
    import polars as pl

    searched = values = 0
    found: list[str] = []
    for domain in sorted(tables):
        for column, kind in tables[domain].schema.items():
            rule = policy.rule(domain, column)
            dated = mode == "limited" and column.endswith("DTC")
            if kind.is_temporal() and not dated:
                found.append(f"{domain}.{column}: a date column")
            if kind != pl.String or column in policy.unsearched:
                continue
            texts = _texts(tables[domain], column)
            searched, values = searched + 1, values + texts.height
            pseudonyms = bool(rule and rule.action(mode) == "pseudonymise")
            # A shifted date is equal to somebody's real one by chance, and so is a measured value to a number.
            numbers = not dated and not (rule and rule.results)
            looks = needles.looks(numbers=numbers, pseudonyms=pseudonyms)
            if not pseudonyms:
                patterns = PATTERNS if dated else {**PATTERNS, "date": DATE}
                looks |= {name: pl.col("text").str.contains(pattern) for name, pattern in patterns.items()}
            hits = texts.select(**{name: look.sum() for name, look in looks.items()}).row(0, named=True)
            found += [f"{domain}.{column}: {name} ({count} values)" for name, count in hits.items() if count]
    if found:
        raise TrialOpsError(
            "De-identified tables still hold identifiers, so they were not released.",
            where="; ".join(found),
            fix="Set these columns to drop, coded or generalise in the de-identification policy, or add a word that "
            "names nobody to its common_words; then run again.",
        )
    return {"columns": searched, "values": values, "identifiers": len(needles)}


def _texts(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """The distinct texts of a column, and how many subjects bear each."""
    import polars as pl

    texts = frame.lazy().filter(pl.col(column).is_not_null()).group_by(pl.col(column).alias("text"))
    # Each USUBJID is its own text.
    counted = pl.col("USUBJID").n_unique() if "USUBJID" in frame.columns and column != "USUBJID" else pl.lit(1)
    return texts.agg(counted.alias("subjects")).collect()
