"""The check after de-identification: look for raw identifiers and dates in every text of the clean tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.policy import Policy

# A calendar date in the notations a text field is likely to hold.
DATE = (
    r"(?:^|[^0-9])(?:19|20)\d{2}-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?(?:[^0-9-]|$)"
    r"|(?:^|[^0-9])\d{1,2}[/.]\d{1,2}[/.](?:19|20)\d{2}(?:[^0-9]|$)"
    r"|(?i:(?:^|[^0-9])\d{1,2}[ -]?(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)"
    r"[A-Z]*[ -]?(?:19|20)\d{2})"
)
PATTERNS = {
    "e-mail address": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z]{2,}",
    "social security number": r"(?:^|[^0-9])\d{3}-\d{2}-\d{4}(?:[^0-9]|$)",
    "web address": r"(?i)\bhttps?://",
}
# An identifier this long is looked for inside other text; a shorter one only as the whole value.
LONG = 6


def scan(
    tables: dict[str, pl.DataFrame], identifiers: dict[str, list[str]], mode: str, policy: Policy
) -> dict[str, int]:
    """Search every distinct text of every clean table.

    Args:
        tables: Clean tables.
        identifiers: Raw values by column name, such as USUBJID and SUBJID.
        mode: "strict" looks for dates everywhere; "limited" everywhere but in the date columns.
        policy: Tells which columns hold measured values.

    Returns:
        {"columns": searched, "values": distinct texts searched}.

    Raises:
        TrialOpsError: Something was found. The message has tables, columns and counts, never the text.
    """
    import polars as pl

    raw = sorted({value for values in identifiers.values() for value in values if value})
    long = [value for value in raw if len(value) >= LONG]
    searched = values = 0
    found: list[str] = []
    for domain in sorted(tables):
        for column, kind in tables[domain].schema.items():
            dated = mode == "limited" and column.endswith("DTC")
            if kind.is_temporal() and not dated:
                found.append(f"{domain}.{column}: a date column")
            if kind != pl.String:
                continue
            texts = tables[domain].select(pl.col(column).drop_nulls().unique().alias("text"))
            searched, values = searched + 1, values + texts.height
            rule = policy.rule(domain, column)
            looks = {name: pl.col("text").str.contains(pattern) for name, pattern in PATTERNS.items()}
            if not dated:
                looks["date"] = pl.col("text").str.contains(DATE)
            if long:
                looks["raw identifier"] = pl.col("text").str.contains_any(long)
            if not (rule and rule.results) and column != "_SOURCE":
                looks["raw identifier as the whole value"] = pl.col("text").is_in(raw)
            hits = texts.select(**{name: look.sum() for name, look in looks.items()}).row(0, named=True)
            found += [f"{domain}.{column}: {name} ({count} values)" for name, count in hits.items() if count]
    if found:
        raise TrialOpsError(
            "De-identified tables still hold identifiers, so they were not released.",
            where="; ".join(found),
            fix="Set these columns to drop or generalise in the de-identification policy, then run again.",
        )
    return {"columns": searched, "values": values}
