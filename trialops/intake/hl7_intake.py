"""The intake of laboratory messages: files of a delivery and the inbox, on top of everything that came before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.intake.external import FileCount, Finding, Received, counts_frame, findings_frame
from trialops.intake.hl7_labs import FileResult, read_file, schema, statements_frame
from trialops.intake.hl7_orders import Reconciliation, reconcile
from trialops.intake.hl7_results import IGNORED, WORDS, Results, current
from trialops.intake.subjects import Subjects

if TYPE_CHECKING:
    import polars as pl

    Progress = Callable[[str, float], None] | None

INBOX = "hl7-inbox"
"""Label of what came over the wire."""
SUFFIXES = (".hl7", ".txt", ".msg", ".dat", ".oru")
MAX_FILE = 2 * 1024**3
"""Bytes of a file; a laboratory sends larger deliveries as several."""


@dataclass(frozen=True)
class LabIntake:
    """What came out.

    Attributes:
        results: Which statement counts.
        statements: All statements ever, for the next intake.
        quarantine: Records of this delivery set aside.
        ignored: Records of this delivery by reason why they do not count: reason, message, records.
        dispositions: One line per file of this delivery.
        notes: What was tolerated, by note: files.
        reconciliation: Against requisitions; None where none were given.
    """

    results: Results
    statements: pl.DataFrame
    quarantine: pl.DataFrame
    ignored: pl.DataFrame
    dispositions: pl.DataFrame
    notes: dict[str, int]
    reconciliation: Reconciliation | None


def ingest(
    files: Sequence[Received],
    inbox: Iterable[bytes],
    subjects: Subjects,
    *,
    study: str,
    before: pl.DataFrame | None = None,
    requisitions: pl.DataFrame | None = None,
    progress: Progress = None,
) -> LabIntake:
    """Read a delivery and say which results count now.

    Args:
        files: Of the delivery.
        inbox: Messages received over MLLP.
        subjects: Whom the trial knows.
        study: STUDYID of the rows.
        before: Statements of earlier intakes.
        requisitions: What was ordered.
        progress: Called with a message and the fraction done.
    """
    import polars as pl

    parsed: list[FileResult] = []
    for i, file in enumerate(files):
        if progress:
            progress(f"reading {file.label}", 0.8 * i / len(files))
        parsed.append(_read(file))
    wire = [read_file(body, INBOX, hashlib.sha256(body).hexdigest()) for body in inbox]
    # The same content may lie in the delivery twice: it is one file.
    first: dict[str, FileResult] = {}
    repeated = []
    for result in [*parsed, *wire]:
        if first.setdefault(result.count.sha256, result) is not result:
            repeated.append(result)
    here = list(first.values())
    new = statements_frame(here)
    earlier = pl.DataFrame(schema=schema()) if before is None else before
    known = set(new["FILE_SHA"].unique())
    statements = pl.concat([earlier.filter(~pl.col("FILE_SHA").is_in(known)), new])
    labels = {r.count.sha256: r.count.file for r in here}
    if progress:
        progress("deciding which results count", 0.85)
    results = current(statements, subjects, study=study, labels=labels, requisitions=requisitions)
    pieces = [_dispose(r, results.dispositions.filter(pl.col("FILE_SHA") == r.count.sha256)) for r in here]
    pieces += [_again(r) for r in repeated]
    findings = [(r.count.file, f) for r, (aside, _) in zip([*here, *repeated], pieces, strict=True) for f in aside]
    skipped = [f.reason for _, ignored in pieces for f in ignored]
    notes: dict[str, int] = {}
    for r in here:
        for note in r.count.notes:
            notes[note] = notes.get(note, 0) + 1
    return LabIntake(
        results,
        statements.sort("FILE_SHA", "RECORD"),
        findings_frame("HL7", findings),
        _by_reason(skipped),
        counts_frame(_merge([r.count for r in [*here, *repeated]])),
        dict(sorted(notes.items())),
        None if requisitions is None else reconcile(results.rows, requisitions),
    )


def _read(file: Received) -> FileResult:
    if file.size > MAX_FILE:
        count = FileCount(file.label, file.sha256, read=1)
        return FileResult(count, [], [Finding(1, "file", "TOO_LARGE", f"more than {MAX_FILE >> 30} GB")], set())
    return read_file(file.path.read_bytes(), file.label, file.sha256)


def _dispose(result: FileResult, disposed: pl.DataFrame) -> tuple[list[Finding], list[Finding]]:
    """Count a file's records; returns those set aside and those ignored."""
    aside = [f for f in result.findings if f.row not in result.ignored]
    ignored = [f for f in result.findings if f.row in result.ignored]
    loaded = 0
    for record, message, segment, fate in disposed.select(
        "RECORD", "MESSAGE_NO", "SEGMENT_NO", "DISPOSITION"
    ).iter_rows():
        if fate == "loaded":
            loaded += 1
            continue
        finding = Finding(record, f"message {message}, segment {segment}", fate, WORDS[fate])
        (ignored if fate in IGNORED else aside).append(finding)
    count = result.count
    count.loaded, count.quarantined, count.ignored = loaded, len(aside), len(ignored)
    return aside, ignored


def _again(result: FileResult) -> tuple[list[Finding], list[Finding]]:
    """A file whose content lies in the delivery a second time."""
    result.count.ignored = result.count.read
    result.count.reason = "the same content as another file"
    words = Finding(1, "file", "REPLAYED", WORDS["REPLAYED"])
    return [], [words] * result.count.read


def _merge(counts: list[FileCount]) -> list[FileCount]:
    """One line for the inbox instead of one per message."""
    wire = [c for c in counts if c.file == INBOX]
    if not wire:
        return counts
    digest = hashlib.sha256("\n".join(sorted(c.sha256 for c in wire)).encode()).hexdigest()
    total = FileCount(INBOX, digest)
    for c in wire:
        for name in ("read", "loaded", "quarantined", "ignored"):
            setattr(total, name, getattr(total, name) + getattr(c, name))
    return [*(c for c in counts if c.file != INBOX), total]


def _by_reason(reasons: list[str]) -> pl.DataFrame:
    import polars as pl

    words: Mapping[str, str] = {**WORDS, "PENDING": "there is no result yet"}
    counted = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    rows = [(reason, words.get(reason, ""), n) for reason, n in counted.items()]
    return pl.DataFrame(rows, schema={"reason": pl.String, "message": pl.String, "records": pl.Int64}, orient="row")
