"""What the intake of laboratory messages, images and variants share: findings, file counts, names that say nothing.

A file's own name may identify a subject (a scan is often called after the person), so everything outside the
sealed zone calls files by a label: kind, running number, and the first digits of the content's SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.intake import quarantine

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step

TABLES = (".csv",)
"""Crosswalks and requisitions, which lie beside the files of a delivery."""
COUNTS = ("read", "loaded", "quarantined", "ignored")


@dataclass(frozen=True)
class Finding:
    """One record set aside, or one remark about a file.

    Attributes:
        row: 1-based record in the file: result of a laboratory file, line of a VCF, 1 for an image.
        place: Where in the record, as the standard names it ("message 3, segment 7, OBX-5").
        reason: Code of the reason.
        message: The reason in words, without a value of the record.
    """

    row: int
    place: str
    reason: str
    message: str


@dataclass(frozen=True)
class Received:
    """One file of a delivery.

    Attributes:
        path: Where it lies.
        label: What it is called outside the sealed zone.
        sha256: Of its content.
        size: Bytes.
    """

    path: Path
    label: str
    sha256: str
    size: int


@dataclass
class FileCount:
    """How the records of one file were disposed of; read = loaded + quarantined + ignored."""

    file: str
    sha256: str
    read: int = 0
    loaded: int = 0
    quarantined: int = 0
    ignored: int = 0
    reason: str = ""
    notes: list[str] = field(default_factory=list)


def find_files(folder: Path, kind: str, suffixes: Sequence[str] = (), *, skip: Sequence[str] = ()) -> list[Received]:
    """The files below a folder, hidden ones left out, in an order that depends on their content alone.

    Args:
        folder: May be missing: then there are none.
        kind: First part of the labels.
        suffixes: Name endings in lower case; none means every file.
        skip: Name endings to leave out.
    """
    if not folder.is_dir():
        return []
    found = []
    for path in folder.rglob("*"):
        name = path.name.lower()
        if not path.is_file() or name.startswith(".") or name.endswith(tuple(skip)):
            continue
        if not suffixes or name.endswith(tuple(suffixes)):
            with path.open("rb") as stream:
                found.append((hashlib.file_digest(stream, "sha256").hexdigest(), path))
    found.sort(key=lambda item: (item[0], item[1].as_posix()))
    return [
        Received(path, f"{kind}-{number:04d}-{sha[:8]}", sha, path.stat().st_size)
        for number, (sha, path) in enumerate(found, start=1)
    ]


def keep_files(run: Step, files: Iterable[Received]) -> None:
    """Keep files as received, encrypted, for good."""
    from trialops.stores.sealed import seal_file

    for file in files:
        seal_file(file.path.read_bytes(), vault=run.vault, objects=run.objects)


def delivery_digest(files: Iterable[Received], *facts: str) -> str:
    """SHA-256 over the contents of files and whatever else their reading depends on."""
    lines = [*sorted(f.sha256 for f in files), *facts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def findings_frame(domain: str, findings: Iterable[tuple[str, Finding]]) -> pl.DataFrame:
    """The quarantine table of (file label, finding) pairs, sorted; columns as in :mod:`quarantine`."""
    import polars as pl

    rows = [(label, f.row, domain, f.place, f.reason, f.message, f.reason) for label, f in findings]
    if not rows:
        return quarantine.empty()
    return pl.DataFrame(rows, schema=quarantine.empty().schema, orient="row").sort("file", "row", "column")


def counts_frame(counts: Sequence[FileCount]) -> pl.DataFrame:
    """One line per file, checked to sum.

    Raises:
        TrialOpsError: A record was lost while reading.
    """
    import polars as pl

    lost = [c.file for c in counts if c.read != c.loaded + c.quarantined + c.ignored]
    if lost:
        raise TrialOpsError(
            "Records were lost while reading: read is not loaded + quarantined + ignored.",
            where=", ".join(lost),
            fix="This is a fault of the intake itself; keep the files and report it.",
        )
    schema = {"file": pl.String, **dict.fromkeys(COUNTS, pl.Int64), "sha256": pl.String, "reason": pl.String}
    rows = [(c.file, c.read, c.loaded, c.quarantined, c.ignored, c.sha256, c.reason) for c in counts]
    return pl.DataFrame(rows, schema=schema, orient="row").sort("file")


KINDS = ("hl7", "dicom", "vcf")


def kind_folder(source: Path, kind: str) -> Path:
    """Where files of one kind lie in a delivery: its folder of that name, or the delivery itself if it has none.

    Raises:
        TrialOpsError: The delivery does not exist.
    """
    if not source.is_dir():
        raise TrialOpsError(
            "The delivery folder does not exist.",
            where=str(source),
            fix="Give the folder that holds hl7/, dicom/ or vcf/.",
        )
    if any((source / k).is_dir() for k in KINDS):
        return source / kind
    return source
