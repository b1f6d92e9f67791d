"""The intake of images: read, matched to a subject, de-identified, encrypted, and counted, one object at a time."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.intake.dicom_files import MAX_OBJECT, DicomError, DicomObject, read_object
from trialops.intake.external import FileCount, Finding, Received, counts_frame, findings_frame
from trialops.intake.subjects import REASONS, Subjects
from trialops.privacy.dicom_deidentify import METHOD, DicomDeidentifier, Treatment, refuse_pixels

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

    Progress = Callable[[str, float], None] | None

PURPOSE = "imaging"
WORDS = {
    "REPLAYED": "the same object came before in this delivery",
    "SOP_UID_REUSED": "another object has the same SOP instance UID",
    "DIRECTORY": "a DICOMDIR, which lists files and holds no image",
    **REASONS,
}
IGNORED = ("REPLAYED", "DIRECTORY")
SCHEMA = {
    "SUBJECT": "String", "STUDY_UID": "String", "SERIES_UID": "String", "SOP_UID": "String", "MODALITY": "String",
    "SOP_CLASS": "String", "TRANSFER_SYNTAX": "String", "ROWS": "Int64", "COLUMNS": "Int64", "FRAMES": "Int64",
    "BYTES": "Int64", "DIGEST": "String", "KEY": "String", "TREATMENT": "String", "SOURCE_SHA": "String",
}  # fmt: skip
"""One row per object that landed; nothing in it identifies a subject."""


@dataclass
class DicomIntake:
    """What came out.

    Attributes:
        instances: All objects that landed up to now; see SCHEMA.
        landed: Objects of this delivery among them.
        quarantine: Objects set aside.
        dispositions: One line per file; each is one record.
        actions: What was done to attributes, by action.
        unmatched: Per identifier that matched nobody: QUEUE, REASON, objects.
        ignored: Files ignored, by reason.
    """

    instances: pl.DataFrame
    landed: pl.DataFrame
    quarantine: pl.DataFrame
    dispositions: pl.DataFrame
    actions: dict[str, int]
    unmatched: pl.DataFrame
    ignored: dict[str, int]


@dataclass
class _Found:
    """What is gathered while files are read."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    counts: list[FileCount] = field(default_factory=list)
    actions: Counter[str] = field(default_factory=Counter)
    queue: Counter[tuple[str, str]] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    sources: dict[str, str] = field(default_factory=dict)  # original SOP UID -> SHA-256 of the file


def schema() -> dict[str, pl.DataType]:
    """Polars schema of instances."""
    import polars as pl

    return {name: getattr(pl, kind)() for name, kind in SCHEMA.items()}


def fingerprint(treatment: Treatment) -> str:
    """Name of a way of de-identifying: another one gives other objects."""
    facts = [METHOD, treatment.mode, sorted(treatment.options), sorted(map(list, treatment.safe_private))]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def digest_of(instances: pl.DataFrame | None) -> str:
    """Digest of what is held."""
    held = [] if instances is None else instances.select("SOP_UID", "DIGEST", "TREATMENT").sort("SOP_UID").rows()
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def ingest(
    files: Sequence[Received],
    subjects: Subjects,
    vault: Vault,
    objects: ObjectStore,
    treatment: Treatment,
    *,
    before: pl.DataFrame | None = None,
    progress: Progress = None,
) -> DicomIntake:
    """Take in the objects of a delivery.

    Args:
        files: Of the delivery.
        subjects: Whom the trial knows.
        vault: Pseudonyms, offsets, encryption.
        objects: Where de-identified objects land, encrypted, by digest.
        treatment: How they are de-identified.
        before: Instances that landed earlier.
        progress: Called with a message and the fraction done.
    """
    import polars as pl

    found, worker, how = _Found(), DicomDeidentifier(vault, treatment), fingerprint(treatment)
    earlier = pl.DataFrame(schema=schema()) if before is None else before
    known = dict(earlier.filter(pl.col("TREATMENT") == how).select("SOP_UID", "DIGEST").iter_rows())
    for i, file in enumerate(files):
        if progress and i % 20 == 0:
            progress(f"object {i + 1} of {len(files)}", i / len(files))
        count = FileCount(file.label, file.sha256, read=1)
        found.counts.append(count)
        try:
            row = _one(file, subjects, vault, objects, worker, how, known, found)
        except DicomError as error:
            if error.reason in IGNORED:
                count.ignored = 1
                found.ignored[error.reason] += 1
            else:
                count.quarantined = 1
                place = f"({error.tag[:4]},{error.tag[4:]})" if error.tag else "object"
                found.findings.append((file.label, Finding(1, place, error.reason, error.message)))
            count.reason = error.message
        else:
            count.loaded = 1
            found.rows.append(row)
    landed = pl.DataFrame(found.rows, schema=schema()).sort("SOP_UID")
    kept = earlier.filter(~pl.col("SOP_UID").is_in(landed["SOP_UID"].implode()))
    queue = [(name, reason, n) for (name, reason), n in sorted(found.queue.items())]
    columns = {"QUEUE": pl.String, "REASON": pl.String, "OBJECTS": pl.Int64}
    return DicomIntake(
        pl.concat([kept, landed]).sort("SUBJECT", "STUDY_UID", "SERIES_UID", "SOP_UID"),
        landed,
        findings_frame("DICOM", found.findings),
        counts_frame(found.counts),
        dict(sorted(found.actions.items())),
        pl.DataFrame(queue, schema=columns, orient="row"),
        dict(sorted(found.ignored.items())),
    )


def _one(
    file: Received, subjects: Subjects, vault: Vault, objects: ObjectStore, worker: DicomDeidentifier, how: str,
    known: dict[str, str], found: _Found,
) -> dict[str, Any]:  # fmt: skip
    """One object to its row.

    Raises:
        DicomError: It is set aside or ignored.
    """
    if file.size > MAX_OBJECT:
        raise DicomError("TOO_LARGE", f"the object is larger than {MAX_OBJECT >> 20} MB")
    read = read_object(file.path.read_bytes())
    data = read.dataset
    uid = str(data.SOPInstanceUID)
    if uid in found.sources:
        reason = "REPLAYED" if found.sources[uid] == file.sha256 else "SOP_UID_REUSED"
        raise DicomError(reason, WORDS[reason], "00080018")
    refuse_pixels(data)
    who = identifiers(read)
    match = subjects.match(who, _text(read, "PatientSex").upper())
    if match.reason:
        found.queue[subjects.enqueue(*who[0]) if who else "", match.reason] += 1
        raise DicomError(match.reason, WORDS[match.reason], "00100020")
    pseudonym = vault.pseudonym("subject", match.subject)
    try:
        report = worker.apply(data, subject=pseudonym, offset=vault.offset_days(match.subject))
        body = worker.write(read)
    except DicomError:
        raise
    except Exception as error:  # a value that is not what its representation says; the text may quote it
        raise DicomError("CORRUPT", f"a value cannot be read ({type(error).__name__})") from None
    digest = hashlib.sha256(body).hexdigest()
    new = str(data.SOPInstanceUID)
    if known.get(new, digest) != digest:
        raise DicomError("SOP_UID_REUSED", WORDS["SOP_UID_REUSED"], "00080018")
    key = f"{PURPOSE}/{vault.id}/{digest}"
    if not objects.exists(key):
        objects.put(key, vault.encrypt(PURPOSE, body, key))
    found.sources[uid] = file.sha256
    found.actions.update(report.actions)
    return {
        "SUBJECT": pseudonym,
        "STUDY_UID": _text(read, "StudyInstanceUID"),
        "SERIES_UID": _text(read, "SeriesInstanceUID"),
        "SOP_UID": new,
        "MODALITY": _text(read, "Modality"),
        "SOP_CLASS": str(data.SOPClassUID),
        "TRANSFER_SYNTAX": str(read.meta.get("TransferSyntaxUID", "") or ""),
        "ROWS": _count(read, "Rows"),
        "COLUMNS": _count(read, "Columns"),
        "FRAMES": _count(read, "NumberOfFrames"),
        "BYTES": len(body),
        "DIGEST": digest,
        "KEY": key,
        "TREATMENT": how,
        "SOURCE_SHA": file.sha256,
    }


def identifiers(read: DicomObject) -> list[tuple[str, str]]:
    """(identifier, authority) pairs: trial subject, patient id with its issuer, other patient ids."""
    pairs = [
        (_text(read, "ClinicalTrialSubjectID"), _text(read, "ClinicalTrialProtocolID")),
        (_text(read, "PatientID"), _text(read, "IssuerOfPatientID")),
    ]
    try:
        others = read.dataset.get("OtherPatientIDsSequence") or []
        pairs += [(str(o.get("PatientID", "") or ""), str(o.get("IssuerOfPatientID", "") or "")) for o in others]
    except Exception:  # a broken sequence names nobody
        pass
    return [(value.strip(), authority.strip()) for value, authority in pairs if value.strip()]


def _text(read: DicomObject, name: str) -> str:
    try:
        value = read.dataset.get(name)
    except Exception:  # a broken value is no value
        return ""
    return "" if value is None else str(value).strip()


def _count(read: DicomObject, name: str) -> int | None:
    text = _text(read, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
