"""The submission folder: m5/datasets/<study>/... with transport files, define.xml, Dataset-JSON, guide, checksums.

The same cut gives the same bytes, apart from the stamp in `Study.created`, which is a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.intake.xport import RECORD, XportWriter
from trialops.intake.xport_read import Transport, read_transport
from trialops.pages import render
from trialops.regulatory.cut import Cut
from trialops.regulatory.dataset_json import write_json
from trialops.regulatory.define_page import define_page
from trialops.regulatory.define_rules import Finding, check_define
from trialops.regulatory.define_xml import file_of, write_define
from trialops.regulatory.guide import reviewers_guide
from trialops.regulatory.metadata import DataSet, Metadata, Study, describe
from trialops.regulatory.package import CHECKSUMS, Problem, read_manifest, seal_folder, verify_folder, whole_folder
from trialops.regulatory.standard import rules
from trialops.version import code_version

if TYPE_CHECKING:
    import polars as pl

GUIDE, DEFINE_PAGE = "csdrg.html", "define.html"
DOCUMENTS = {
    "LF.csdrg": (GUIDE, "Study data reviewer's guide"),
    "LF.define-page": (DEFINE_PAGE, "Definitions as a page"),
}
KIND = "submission"


@dataclass(frozen=True)
class Submission:
    """What was written.

    Attributes:
        folder: The package.
        digest: SHA-256 of its manifest, which names every file.
        metadata: What define.xml says.
        findings: Rules that do not hold.
        split: Data set, file and records of each part of a large data set.
        sizes: Bytes of each transport file.
    """

    folder: Path
    digest: str
    metadata: Metadata
    findings: tuple[Finding, ...]
    split: tuple[tuple[str, str, int], ...]
    sizes: dict[str, int]


def write_submission(
    target: Path,
    cut: Cut,
    study: Study,
    *,
    source: str = "",
    most_bytes: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Submission:
    """Write a submission package; the folder appears whole or not at all.

    Args:
        target: Folder to write; one that is there is replaced.
        cut: Tables.
        study: Names, standards and stamp.
        source: Digest of the delivery the tables came from, for the manifest.
        most_bytes: Largest transport file that is not also split; from submission.yaml by default.
        progress: Called with a message and the fraction done.

    Raises:
        TrialOpsError: A value does not fit its format; the message names file, column, number of rows and remedy.
    """
    limit = rules()["limits"]["file_bytes"] if most_bytes is None else most_bytes
    metadata = describe(cut.tables, study, cut.comments)
    study = metadata.study
    place = f"m5/datasets/{folder_name(study.name)}"
    split: list[tuple[str, str, int]] = []
    sizes: dict[str, int] = {}
    read: dict[str, Transport] = {}
    with whole_folder(target) as folder:
        sdtm, json_folder = folder / place / "tabulations" / "sdtm", folder / place / "misc" / "dataset-json"
        sdtm.mkdir(parents=True)
        json_folder.mkdir(parents=True)
        for number, data_set in enumerate(metadata.data_sets):
            if progress:
                progress(f"writing {file_of(data_set.name)}", 0.9 * number / len(metadata.data_sets))
            path = sdtm / file_of(data_set.name)
            _write(path, data_set, data_set.name, data_set.frame, study)
            sizes[data_set.name] = path.stat().st_size
            read[data_set.name] = _read_back(path, data_set)
            write_json(json_folder / f"{data_set.name.lower()}.json", data_set, metadata, version=code_version())
            split += _split(sdtm / rules()["limits"]["split_folder"], data_set, study, sizes[data_set.name], limit)
        document = write_define(metadata, DOCUMENTS)
        (sdtm / "define.xml").write_bytes(document)
        findings = tuple(check_define(document, read))
        (sdtm / DEFINE_PAGE).write_text(render(define_page(metadata)), "utf-8")
        guide = reviewers_guide(metadata, findings, cut.notes, split)
        (sdtm / GUIDE).write_text(render(guide), "utf-8")
        (folder / "README.txt").write_text(_readme(study, place), "utf-8")
        facts = {
            "kind": KIND,
            "study": study.name,
            "created": study.created,
            "source": source,
            "code_version": code_version(),
            "rules_version": rules()["version"],
            "records": {d.name: d.frame.height for d in metadata.data_sets},
            "findings": len(findings),
        }
        digest = seal_folder(folder, facts)
    if progress:
        progress("package written", 1.0)
    return Submission(target, digest, metadata, findings, tuple(split), sizes)


def folder_name(study: str) -> str:
    """A study's folder as eCTD allows it: lower-case letters, digits and hyphens, at most 64 characters."""
    name = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")[:64]
    if not name:
        raise TrialOpsError("The study has no name a folder can have", where="STUDYID", fix="Name the study.")
    return name


def _write(path: Path, data_set: DataSet, name: str, frame: pl.DataFrame, study: Study) -> None:
    created = datetime.fromisoformat(study.created).replace(tzinfo=None)
    with XportWriter(path, name, data_set.label, data_set.columns, created=created) as writer:
        for part in frame.iter_slices(200_000):
            writer.write(part)


def _read_back(path: Path, data_set: DataSet) -> Transport:
    """What a reader of the file sees; it must be what was to be written."""
    import polars as pl

    read = read_transport(path.read_bytes())
    text = pl.col(pl.String)
    if not read.frame.with_columns(pl.when(text != "").then(text)).equals(data_set.frame):
        raise TrialOpsError("The transport file read back is not what was written", where=path.name)
    return read


def _split(folder: Path, data_set: DataSet, study: Study, size: int, limit: int) -> list[tuple[str, str, int]]:
    """Parts of a data set that is larger than the limit, each of whole subjects where they fit."""
    import polars as pl

    if size <= limit:
        return []
    row_bytes = sum(c.length for c in data_set.columns)
    most = (limit - (size - data_set.frame.height * row_bytes)) // row_bytes
    if most < 1:
        raise TrialOpsError(
            f"A split of {data_set.name} cannot hold a single row in {limit} bytes", where=file_of(data_set.name)
        )
    folder.mkdir(exist_ok=True)
    parts: list[tuple[str, str, int]] = []
    frame, start = data_set.frame, 0
    while start < frame.height:
        stop = min(start + most, frame.height)
        if stop < frame.height and "USUBJID" in frame.columns:
            # Back to where the last subject begins, unless that subject fills the part alone.
            last = frame["USUBJID"][stop]
            begins = start + int((frame["USUBJID"][start:stop] == last).arg_max() or 0)
            if frame["USUBJID"][begins] == last and begins > start:
                stop = begins
        name = f"{data_set.name[:6]}{len(parts) + 1:02d}"
        path = folder / file_of(name)
        _write(path, data_set, name, frame[start:stop], study)
        if path.stat().st_size > limit + RECORD:
            raise TrialOpsError("A part is larger than its limit", where=path.name)
        parts.append((data_set.name, path.name, stop - start))
        start = stop
    if sum(rows for _, _, rows in parts) != frame.select(pl.len()).item():
        raise TrialOpsError("The parts of a split data set do not add up", where=file_of(data_set.name))
    return parts


def _readme(study: Study, place: str) -> str:
    return "\n".join(
        [
            f"Study {study.name}: data sets for submission.",
            "",
            f"{place}/tabulations/sdtm   transport files (XPORT v5), define.xml, the same as a page, reviewer's guide",
            f"{place}/tabulations/sdtm/split   parts of data sets that are too large for one file, if any",
            f"{place}/misc/dataset-json   the same data sets as Dataset-JSON 1.1",
            f"{CHECKSUMS}   MD5 of every file, as the eCTD backbone's leaves state it (check with: md5sum -c)",
            "manifest.json   size and SHA-256 of every file (check with: trialops export verify FOLDER)",
            "",
            "Analysis data sets are not part of this package: the platform derives none.",
            "",
        ]
    )


def verify_submission(folder: Path, *, expected: str = "") -> tuple[list[Problem], list[Finding]]:
    """Check a package: every byte against the manifest, then definitions against the data sets.

    Args:
        folder: The package.
        expected: SHA-256 of the manifest, where it is known from elsewhere.

    Returns:
        Files that are not what was written, and rules that do not hold; the rules are looked at only where all files
        are intact.
    """
    problems = verify_folder(folder, expected=expected)
    if problems:
        return problems, []
    manifest, _ = read_manifest(folder)
    if manifest.get("kind") != KIND:
        return [], []
    sdtm = folder / "m5" / "datasets" / folder_name(manifest["study"]) / "tabulations" / "sdtm"
    files = [read_transport(path.read_bytes()) for path in sorted(sdtm.glob("*.xpt"))]
    return [], check_define((sdtm / "define.xml").read_bytes(), {f.name: f for f in files})
