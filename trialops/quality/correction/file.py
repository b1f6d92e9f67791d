"""Correction files: CSV as a site sends it, one line for one value of one record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("DOMAIN", "USUBJID", "RECORD", "VARIABLE", "OLD", "NEW", "REASON", "BY", "AT")
"""RECORD names the row by the rest of its key, as in "LBSEQ=12" or "VISITNUM=3"; it is empty in DM. OLD is the value
the site sees now, NEW what it should be; both may be empty. BY is who decided, AT when (ISO 8601)."""

LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class Received:
    """Correction files as read.

    Attributes:
        lines: COLUMNS as text, trimmed, empty text null, with `file` and `row` (1-based, the header not counted).
        files: File name -> SHA-256.
    """

    lines: pl.DataFrame
    files: dict[str, str]


def read_corrections(path: Path) -> Received:
    """Read a correction file, or all of a folder, in the order of their names.

    Args:
        path: A .csv file or a folder that holds some; UTF-8, with or without a byte-order mark.

    Returns:
        Every line, whatever is in it: what is wrong with a line is for `propose` to say.

    Raises:
        TrialOpsError: There is no file, or one cannot be read as a whole; the message names it.
    """
    import polars as pl

    if not path.exists():
        raise TrialOpsError(
            "The correction file does not exist.", where=str(path), fix="Give a .csv file, or a folder of them."
        )
    inside = path.iterdir() if path.is_dir() else iter((path,))
    paths = sorted(p for p in inside if p == path or (p.suffix.lower() == ".csv" and p.is_file()))
    if not paths:
        raise TrialOpsError("The folder holds no .csv file.", where=str(path), fix="Put the correction files there.")
    files, frames = {}, []
    for one in paths:
        if one.stat().st_size > LARGEST:
            raise _unreadable(one, f"it is larger than {LARGEST:,} bytes", "Split it.")
        data = one.read_bytes()
        files[one.name] = hashlib.sha256(data).hexdigest()
        frames.append(_lines(one, data))
    lines = pl.concat(frames) if frames else pl.DataFrame()
    return Received(lines, files)


def _lines(path: Path, data: bytes) -> pl.DataFrame:
    import polars as pl

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _unreadable(path, "it is not UTF-8", "Save it as CSV in UTF-8.") from None
    if "\0" in text:
        raise _unreadable(path, "it holds bytes that are no text", "Save it as CSV in UTF-8.")
    try:
        frame = pl.read_csv(text.encode(), infer_schema=False)
    except pl.exceptions.PolarsError as error:  # its message may quote a value
        raise _unreadable(
            path, f"it is not a table of equal lines ({type(error).__name__})", "Quote values with commas in them."
        ) from None
    frame = frame.rename({c: c.strip().upper() for c in frame.columns})
    missing = [c for c in COLUMNS if c not in frame.columns]
    if missing:
        raise _unreadable(path, f"it has no column {', '.join(missing)}", f"The columns are {', '.join(COLUMNS)}.")
    trimmed = [pl.col(c).str.strip_chars() for c in COLUMNS]
    return (
        frame.select(trimmed)
        .with_columns(pl.when(pl.col(c) != "").then(pl.col(c)).alias(c) for c in COLUMNS)
        .with_columns(
            pl.col("DOMAIN", "VARIABLE").str.to_uppercase(),
            file=pl.lit(path.name),
            row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
        )
    )


def _unreadable(path: Path, why: str, fix: str) -> TrialOpsError:
    return TrialOpsError(f"A correction file cannot be read: {why}. Nothing was changed.", where=path.name, fix=fix)
