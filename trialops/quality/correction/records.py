"""The record a correction is about, and the row it becomes: shared by the proposal and by its application."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from trialops.intake.domains import ROW, SOURCE, catalog, current_rows

if TYPE_CHECKING:
    import polars as pl

Key = tuple[str, ...]


def parse_record(domain: str, text: str | None) -> Key | None:
    """The rest of a row's key from "LBSEQ=12"; None where it does not name exactly the domain's key.

    Args:
        domain: Domain code of the catalogue.
        text: As in the file; None in a domain whose only key is the subject.
    """
    wanted = key_columns(domain)
    parts: dict[str, str] = {}
    for part in (text or "").split(";"):
        if not part.strip():
            continue
        name, found, value = part.partition("=")
        if not found or name.strip().upper() in parts:
            return None
        parts[name.strip().upper()] = value.strip()
    if set(parts) != set(wanted):
        return None
    return tuple(plain(parts[column]) for column in wanted)


def key_columns(domain: str) -> tuple[str, ...]:
    """The columns that tell a subject's rows of a domain apart."""
    return tuple(c for c in catalog().domains[domain].key if c != "USUBJID")


def plain(value: Any) -> str:
    """A value as text in which equal numbers are equal: 3, 3.0 and "3.00" alike; nothing is the empty text."""
    if value is None:
        return ""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value).strip()
    if not math.isfinite(number):
        return str(value).strip()
    return f"{number:.12g}"


def rows_by_key(domain: str, frame: pl.DataFrame, subjects: Iterable[str]) -> dict[tuple[str, Key], dict[str, Any]]:
    """The newest version of every row of some subjects, by subject and key."""
    import polars as pl

    rows = current_rows(domain, frame.filter(pl.col("USUBJID").is_in(list(subjects))))
    columns = key_columns(domain)
    return {(row["USUBJID"], tuple(plain(row[c]) for c in columns)): row for row in rows.iter_rows(named=True)}


def typed(domain: str, variable: str, text: str | None) -> tuple[Any, bool]:
    """A new value as the table holds it, and whether it can be one."""
    if text is None:
        return None, True
    if not catalog().is_numeric(domain, variable):
        return text, True
    try:
        number = float(text)
    except ValueError:
        return None, False
    return number, math.isfinite(number)


def corrected_row(row: Mapping[str, Any], values: Mapping[str, Any], source: str, line: int) -> dict[str, Any]:
    """The row with new values, as a further version that comes from the correction file."""
    return {**row, **values, SOURCE: source, ROW: line}
