"""Masking of the columns that discovery found, and the proof that nothing of the kind is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.privacy.discovery import TEXT, Finding, MaskingPolicy, default_masking_policy, discover
from trialops.privacy.fhir_policy import default_fhir_policy

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.fhir_text import Scrubber
    from trialops.stores.vault import Vault

HASHED = 32
"""Hexadecimal digits of a hash that stay: 128 bits."""


def mask(
    frame: pl.DataFrame,
    findings: Iterable[Finding],
    vault: Vault,
    *,
    scrubber: Scrubber | None = None,
    policy: MaskingPolicy | None = None,
) -> pl.DataFrame:
    """The table with every column of the findings masked.

    Args:
        frame: The table.
        findings: Of this table, from `discover`.
        vault: For hashes and tokens.
        scrubber: Replaces identifiers in free text; without, free text is emptied.
        policy: The platform's own by default.

    Returns:
        The table; masked columns are text, and equal values stay equal except where they are generalised or redacted.
    """
    import polars as pl

    policy = policy or default_masking_policy()
    out = frame
    for finding in findings:
        texts = frame[finding.column].cast(pl.String)
        distinct = texts.drop_nulls().unique().sort()
        new = _masked(distinct.to_list(), finding, vault, scrubber)
        column = texts.replace_strict(distinct, pl.Series(new, dtype=pl.String), default=None, return_dtype=pl.String)
        out = out.with_columns(column.alias(finding.column))
    return out


def recheck(
    table: str,
    masked: pl.DataFrame,
    findings: Sequence[Finding],
    *,
    policy: MaskingPolicy | None = None,
    scrubber: Scrubber | None = None,
) -> None:
    """Look again at a masked table.

    Raises:
        TrialOpsError: Personal data are still found in a column that was masked. The message has columns and counts.
    """
    columns = {f.column for f in findings}
    left = [f for f in discover(table, masked.select(sorted(columns)), policy, scrubber) if f.column in columns]
    if left:
        raise TrialOpsError(
            "A masked table still holds personal data, so it was not released.",
            where="; ".join(f"{f.table}.{f.column}: {f.kind} ({f.matched} of {f.values} values)" for f in left),
            fix="Use a stronger mask for this kind in masking.yaml: null, redact or tokenise.",
        )


def _masked(values: list[str], finding: Finding, vault: Vault, scrubber: Scrubber | None) -> list[str | None]:
    if finding.kind == TEXT:
        return list(scrubber.scrub(values)) if scrubber is not None else [None] * len(values)
    if finding.mask == "null":
        return [None] * len(values)
    if finding.mask == "redact":
        return [f"[{finding.kind.upper()}]"] * len(values)
    if finding.mask == "tokenise":
        return list(vault.pseudonyms(f"token-{finding.kind}", values))
    if finding.mask == "hash":
        return [vault.keyed_hash(f"mask-{finding.kind}", v)[:HASHED] for v in values]
    return [_general(value, finding.kind) for value in values]


def _general(value: str, kind: str) -> str | None:
    """A coarser value: the year of a date, the area of a postal code, the band of an age."""
    import re

    policy = default_fhir_policy()
    if kind == "postal_code":
        return policy.three_digits(value, "") or None
    if kind == "age_over_89":
        years = re.match(r"\d{1,3}", value)
        if not years:
            return None
        return f"{policy.age_capped}+" if int(years[0]) > policy.age_over else value
    year = re.search(r"(?<!\d)(19|20)\d{2}(?!\d)", value)
    return year[0] if year else None
