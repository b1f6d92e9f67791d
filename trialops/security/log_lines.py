"""Lines of log files in bounded memory, each with its place, whatever bytes are in them."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

CHUNK = 16 << 20
LONGEST = 32 << 20
"""A line that is longer goes to quarantine unread."""


@dataclass
class Quarantine:
    """Lines that could not be used: file, line, reason; never what they say."""

    rows: list[tuple[str, int, str]] = field(default_factory=list)
    ignored: int = 0
    read: int = 0

    def add(self, file: str, lines: Sequence[int], reason: str) -> None:
        """Note lines of one file."""
        self.rows += [(file, line, reason) for line in lines]

    def frame(self) -> pl.DataFrame:
        """As a table, sorted."""
        import polars as pl

        return pl.DataFrame(
            self.rows, schema={"file": pl.String, "line": pl.Int64, "reason": pl.String}, orient="row"
        ).sort("file", "line", "reason")


def log_files(source: str | Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder (or the one file), by name; none for an empty path.

    Raises:
        TrialOpsError: The path does not exist: logs that are missing are an error, not a quiet day.
    """
    if not str(source):
        return []
    path = Path(source)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise TrialOpsError(
            "There are no logs here", where=str(path), fix="Mount the folder of the logs, or leave it out."
        )
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.removesuffix(".gz").endswith(tuple(suffixes)))
    return _once(found)


def _once(files: Sequence[Path]) -> list[Path]:
    """Without copies: a log that lies there twice counts once."""
    import hashlib

    sizes = Counter(path.stat().st_size for path in files)
    seen: set[tuple[int, str]] = set()
    kept = []
    for path in files:
        size, digest = path.stat().st_size, str(path)
        if sizes[size] > 1:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        if (size, digest) not in seen:
            kept.append(path)
        seen.add((size, digest))
    return kept


def lines(path: Path, quarantine: Quarantine) -> Iterator[tuple[int, pa.Array]]:
    """Batches of lines: number of the first (from 1), and the lines as text; blank ones are empty."""
    import pyarrow as pa

    number, rest = 1, b""
    try:
        with _open(path) as file:
            while chunk := file.read(CHUNK):
                whole, newline, tail = (rest + chunk).rpartition(b"\n")
                rest = tail
                if newline:
                    parts = whole.split(b"\n")
                    yield number, pa.array([_text(p) for p in parts], pa.large_string())
                    number += len(parts)
                if len(rest) > LONGEST:
                    quarantine.add(path.name, [number], "the line is too long")
                    rest = _skipped(file)
                    number += 1
    except (OSError, EOFError):
        quarantine.add(path.name, [number], "the file ends in the middle or is damaged")
        return
    if rest.strip():
        yield number, pa.array([_text(rest)], pa.large_string())


def _skipped(file: IO[bytes]) -> bytes:
    """Read on behind the end of a line that is too long."""
    while chunk := file.read(CHUNK):
        _, newline, tail = chunk.partition(b"\n")
        if newline:
            return tail
    return b""


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").strip()


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
