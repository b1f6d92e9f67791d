"""The intake of genomes: each file whole, matched to subjects, checked, and landed encrypted in the controlled tier.

Nobody can make a genome anonymous: it identifies by itself. Pseudonyms keep names out, and access stays controlled;
under no privacy mode is a genome called de-identified.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.intake.external import FileCount, Finding, Received, counts_frame, findings_frame
from trialops.intake.subjects import REASONS, Subjects
from trialops.intake.vcf import Stopped, VcfResult, convert
from trialops.intake.vcf_lines import VcfError

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

    Progress = Callable[[str, float | None], None] | None

PURPOSE = "genomes"
PART = 64 * 1024**2
"""Bytes of one encrypted part; a file of any size is stored without holding it in memory."""
SUFFIXES = (".vcf", ".vcf.gz", ".vcf.bgz")
FILES = {
    "FILE": "String", "SOURCE_SHA": "String", "BUILD": "String", "EVIDENCE": "String", "VERSION": "String",
    "SAMPLES": "Int64", "READ": "Int64", "LOADED": "Int64", "WRITTEN": "Int64", "SHORTENED": "Int64", "MOVED": "Int64",
    "EMPTIED": "Int64", "HEADER_LINES_DROPPED": "Int64", "ONE_ALLELE": "Boolean", "BYTES": "Int64", "DIGEST": "String",
    "KEY": "String", "PARTS": "Int64", "TIER": "String",
}  # fmt: skip
"""One row per file that landed."""
SAMPLES = {
    "SUBJECT": "String", "DIGEST": "String", "X_CALLS": "Int64", "X_HET": "Int64", "X_HAPLOID": "Int64",
    "CALLS": "Int64", "HET": "Int64", "SEX_GENOTYPE": "String", "SEX_AGREES": "Boolean",
}  # fmt: skip
"""One row per sample that landed."""


@dataclass
class VcfIntake:
    """What came out.

    Attributes:
        files, samples: All that landed up to now; see FILES and SAMPLES.
        landed: Files of this delivery among them.
        quarantine: Lines and files set aside.
        reasons: Lines set aside by reason; also those not named one by one.
        dispositions: One line per file; records are data lines, or 1 for a file without any.
        unmatched: Per identifier that matched nobody: QUEUE, REASON, FILES.
        dropped: Header lines dropped, by class.
        sexes: Samples by what their genotypes say: agrees, not told, disagrees.
        same_person: Pairs of samples that are one person.
    """

    files: pl.DataFrame
    samples: pl.DataFrame
    landed: pl.DataFrame
    quarantine: pl.DataFrame
    reasons: Counter[str]
    dispositions: pl.DataFrame
    unmatched: pl.DataFrame
    dropped: Counter[str]
    sexes: Counter[str]
    same_person: int


@dataclass
class _Found:
    files: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    counts: list[FileCount] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    queue: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    sexes: Counter[str] = field(default_factory=Counter)
    same_person: int = 0


def schema(columns: Mapping[str, str]) -> dict[str, pl.DataType]:
    """Polars schema of FILES or SAMPLES."""
    import polars as pl

    return {name: getattr(pl, kind)() for name, kind in columns.items()}


def digest_of(files: pl.DataFrame | None) -> str:
    """Digest of what is held."""
    held = [] if files is None else files.select("SOURCE_SHA", "DIGEST", "ONE_ALLELE").sort("SOURCE_SHA").rows()
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def ingest(
    files: Sequence[Received],
    subjects: Subjects,
    vault: Vault,
    objects: ObjectStore,
    workdir: Path,
    *,
    build: str,
    one_allele: bool = False,
    before: tuple[pl.DataFrame | None, pl.DataFrame | None] = (None, None),
    progress: Progress = None,
) -> VcfIntake:
    """Take in the files of a delivery.

    Args:
        files: Of the delivery.
        subjects: Whom the trial knows.
        vault: Pseudonyms and encryption.
        objects: Where files land.
        workdir: For a file while it is written.
        build: Genome build the trial uses.
        one_allele: Whether rows with several alternate alleles are split.
        before: FILES and SAMPLES that landed earlier.
        progress: Called with a message and the fraction done.
    """
    import polars as pl

    found = _Found()
    seen: set[str] = set()
    for i, file in enumerate(files):
        if progress:
            progress(f"reading {file.label}", i / len(files))
        count = FileCount(file.label, file.sha256)
        found.counts.append(count)
        if file.sha256 in seen:
            count.read = count.ignored = 1
            count.reason = "the same content as another file"
            continue
        seen.add(file.sha256)
        try:
            _one(file, count, subjects, vault, objects, workdir, build, one_allele, found, progress)
        except Stopped as stopped:
            # The file as a whole: its lines are set aside together.
            count.read = count.quarantined = max(stopped.read, 1)
            count.loaded, count.reason = 0, stopped.cause.message
            found.reasons[stopped.cause.reason] += count.read
            place = f"line {stopped.cause.line}" if stopped.cause.line else "file"
            found.findings.append(
                (file.label, Finding(stopped.cause.line, place, stopped.cause.reason, stopped.cause.message))
            )
    landed = pl.DataFrame(found.files, schema=schema(FILES))
    samples = pl.DataFrame(found.samples, schema=schema(SAMPLES))
    old_files = pl.DataFrame(schema=schema(FILES)) if before[0] is None else before[0]
    old_samples = pl.DataFrame(schema=schema(SAMPLES)) if before[1] is None else before[1]
    kept = old_files.filter(~pl.col("SOURCE_SHA").is_in(landed["SOURCE_SHA"].implode()))
    still = old_samples.filter(pl.col("DIGEST").is_in(kept["DIGEST"].implode()))
    queue = [(name, reason, n) for (name, reason), n in sorted(found.queue.items())]
    columns = {"QUEUE": pl.String, "REASON": pl.String, "FILES": pl.Int64}
    return VcfIntake(
        pl.concat([kept, landed]).sort("SOURCE_SHA"),
        pl.concat([still, samples]).sort("SUBJECT", "DIGEST"),
        landed,
        findings_frame("VCF", found.findings),
        found.reasons,
        counts_frame(found.counts),
        pl.DataFrame(queue, schema=columns, orient="row"),
        found.dropped,
        found.sexes,
        found.same_person,
    )


def _one(
    file: Received, count: FileCount, subjects: Subjects, vault: Vault, objects: ObjectStore, workdir: Path, build: str,
    one_allele: bool, found: _Found, progress: Progress,
) -> None:  # fmt: skip
    who: dict[str, str] = {}

    def names(samples: tuple[str, ...]) -> dict[str, str]:
        who.update(_match(samples, subjects, found))
        return {sample: vault.pseudonym("subject", subject) for sample, subject in who.items()}

    target = workdir / f"{file.sha256}.vcf.gz"

    def tell(read: int) -> None:
        if progress:
            progress(f"{file.label}: {read:,} rows", None)

    result = convert(
        file.path,
        target,
        build=build,
        names=names,
        other=lambda person: vault.pseudonym("relative", person),
        one_allele=one_allele,
        progress=tell,
    )
    try:
        _concordant(result, who, subjects, found)
        key, digest, parts = store(target, vault, objects, f"controlled/{vault.id}/vcf", PURPOSE)
        size = target.stat().st_size
    finally:
        target.unlink(missing_ok=True)
    count.read, count.loaded, count.quarantined = result.read, result.loaded, result.quarantined
    found.reasons.update(result.reasons)
    found.findings += [(file.label, f) for f in result.findings]
    found.dropped.update(result.header.dropped)
    found.same_person += len(result.same_person)
    found.files.append(
        {
            "FILE": file.label.rsplit("-", 1)[-1], "SOURCE_SHA": file.sha256, "BUILD": build,
            "EVIDENCE": result.evidence, "VERSION": result.header.version, "SAMPLES": len(result.header.samples),
            "READ": result.read, "LOADED": result.loaded, "WRITTEN": result.written, "SHORTENED": result.shortened,
            "MOVED": result.moved, "EMPTIED": result.emptied,
            "HEADER_LINES_DROPPED": sum(result.header.dropped.values()), "ONE_ALLELE": one_allele, "BYTES": size,
            "DIGEST": digest, "KEY": key, "PARTS": parts, "TIER": "controlled",
        }
    )  # fmt: skip
    for sample, check in zip(result.header.samples, result.checks, strict=True):
        stated = subjects.sex(who[sample])
        agrees = check.sex == stated if check.sex and stated in ("M", "F") else None
        found.samples.append(
            {
                "SUBJECT": vault.pseudonym("subject", who[sample]), "DIGEST": digest, "X_CALLS": check.x_calls,
                "X_HET": check.x_het, "X_HAPLOID": check.x_haploid, "CALLS": check.calls, "HET": check.het,
                "SEX_GENOTYPE": check.sex or None, "SEX_AGREES": agrees,
            }
        )  # fmt: skip


def _match(samples: tuple[str, ...], subjects: Subjects, found: _Found) -> dict[str, str]:
    """USUBJID of every sample.

    Raises:
        VcfError: One matches nobody, or two are one subject: a file is taken whole or not at all.
    """
    if not samples:
        raise VcfError("NO_SAMPLES", "the file has no sample columns: it says nothing about a subject")
    who, reasons = {}, Counter[str]()
    for sample in samples:
        match = subjects.match([(sample, "")])
        if match.reason:
            found.queue[subjects.enqueue(sample, ""), match.reason] += 1
            reasons[match.reason] += 1
        who[sample] = match.subject
    if reasons:
        reason = sorted(reasons)[0]
        raise VcfError(reason, f"{REASONS[reason]} ({sum(reasons.values())} of {len(samples)} samples)")
    if len(set(who.values())) != len(who):
        raise VcfError("SAMPLES_OF_ONE_SUBJECT", "two sample columns are one subject's")
    return who


def _concordant(result: VcfResult, who: Mapping[str, str], subjects: Subjects, found: _Found) -> None:
    """Hold a file back in which a genome is not of the sex that DM has for the subject.

    Raises:
        Stopped: At least one sample disagrees: samples may have been swapped.
    """
    fates = Counter[str]()
    for sample, check in zip(result.header.samples, result.checks, strict=True):
        stated = subjects.sex(who[sample])
        told = bool(check.sex) and stated in ("M", "F")
        fates["agrees" if told and check.sex == stated else "disagrees" if told else "not told"] += 1
    found.sexes.update(fates)
    if fates["disagrees"]:
        words = f"the sex that genotypes on X speak for is not that of DM in {fates['disagrees']} samples: a swap?"
        raise Stopped(VcfError("SEX_DISAGREES", words), result.read)


def store(path: Path, vault: Vault, objects: ObjectStore, prefix: str, purpose: str) -> tuple[str, str, int]:
    """Store a file of any size encrypted, in parts, under the digest of its content.

    Returns:
        Key below which the parts lie, SHA-256, number of parts.
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    key, parts = f"{prefix}/{digest}", 0
    with path.open("rb") as stream:
        while chunk := stream.read(PART):
            name = f"{key}/{parts:06d}"
            if not objects.exists(name):
                objects.put(name, vault.encrypt(purpose, chunk, name))
            parts += 1
    return key, digest, parts


def fetch(key: str, vault: Vault, objects: ObjectStore, target: Path) -> None:
    """Decrypt a stored file.

    Raises:
        TrialOpsError: A part was altered, or its key was destroyed.
    """
    with target.open("wb") as stream:
        for name in objects.list(key):
            stream.write(vault.decrypt(objects.get(name), name))
