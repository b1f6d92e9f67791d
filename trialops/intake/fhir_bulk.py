"""Folders of a Bulk Data export: what its manifest promises, and whether the files keep it.

Source: HL7 FHIR Bulk Data Access 2.0, response of the complete status request.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from trialops.errors import TrialOpsError
from trialops.intake.fhir_documents import Document, DocumentFault
from trialops.intake.fhir_json import JsonFault, parse_strict

LISTS = ("output", "deleted", "error")
MAX_MANIFEST = 16 * 1024 * 1024


@dataclass(frozen=True)
class Promise:
    """What a manifest says of one file.

    Attributes:
        role: "output", "deleted" or "error".
        kind: Resource type of its lines.
        count: Lines, or None where it does not say.
        url: Address of the file.
        at: transactionTime of the export.
    """

    role: str
    kind: str
    count: int | None
    url: str
    at: str

    @property
    def file(self) -> str:
        """Last part of the address, which the file is looked for under."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name


@dataclass(frozen=True)
class Manifest:
    """A manifest as read."""

    name: str
    at: str
    promises: tuple[Promise, ...]


def read_manifest(document: Document) -> Manifest | None:
    """The manifest a document is, or None where it is something else.

    Raises:
        TrialOpsError: It is a manifest, and one that cannot be followed.
    """
    if document.problem or document.lines:
        return None
    try:
        with closing(document.open()) as stream:
            data = stream.read(MAX_MANIFEST + 1)
        if len(data) > MAX_MANIFEST or b'"transactionTime"' not in data or b'"output"' not in data:
            return None
        body = parse_strict(data)
    except (JsonFault, DocumentFault):
        return None
    if not isinstance(body, dict) or "resourceType" in body or "transactionTime" not in body:
        return None
    return parse_manifest(body, document.name)


def parse_manifest(body: object, name: str) -> Manifest:
    """A manifest from its parsed JSON.

    Raises:
        TrialOpsError: A part that is needed is missing or of another form.
    """
    if not isinstance(body, dict) or not isinstance(body.get("transactionTime"), str):
        raise _unusable("transactionTime is missing")
    promises = []
    for role in LISTS:
        listed = body.get(role, [])
        if not isinstance(listed, list) or (role == "output" and role not in body):
            raise _unusable(f"{role} is not a list")
        for one in listed:
            count = one.get("count") if isinstance(one, dict) else None
            sound = isinstance(one, dict) and isinstance(one.get("url"), str)
            whole = count is None or (isinstance(count, int) and not isinstance(count, bool) and count >= 0)
            if not sound or not whole:
                raise _unusable(f"an entry of {role} has no url or no usable count")
            promises.append(Promise(role, str(one.get("type") or ""), count, one["url"], body["transactionTime"]))
    return Manifest(name, body["transactionTime"], tuple(promises))


def _unusable(why: str) -> TrialOpsError:
    return TrialOpsError(
        f"The manifest of a bulk export cannot be followed: {why}",
        where="the file with transactionTime and output",
        fix="Export again, or remove the manifest to read the NDJSON files without one.",
    )


@dataclass(frozen=True)
class Followed:
    """A manifest held against the files beside it.

    Attributes:
        promises: By name of the document.
        unlisted: Documents beside the manifest that it does not name.
        missing: File names it promises and that are not there.
    """

    promises: dict[str, Promise]
    unlisted: tuple[str, ...]
    missing: tuple[str, ...]


def follow(manifest: Manifest, documents: list[Document]) -> Followed:
    """Which documents of the manifest's folder it names; files may have been compressed after the export."""
    folder = PurePosixPath(manifest.name).parent
    beside = {
        PurePosixPath(d.name).name: d.name
        for d in documents
        if PurePosixPath(d.name).parent == folder and d.name != manifest.name and d.lines
    }
    promises, missing = {}, []
    for promise in manifest.promises:
        found = beside.get(promise.file) or beside.get(f"{promise.file}.gz")
        if found:
            promises[found] = promise
        else:
            missing.append(promise.file)
    unlisted = tuple(sorted(set(beside.values()) - set(promises)))
    return Followed(promises, unlisted, tuple(sorted(missing)))
