"""The register of documents: kept encrypted, numbered, signed, and checked byte by byte.

A version's manifest lists its files with their digests and what it was made of; its SHA-256 is what is signed. The
same content from the same cut is the version that is there already, whenever it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.regulatory.documents.content import Document
from trialops.regulatory.documents.html import to_html
from trialops.regulatory.documents.pdf import to_pdf
from trialops.stores.database import reading, utc_now, writing

if TYPE_CHECKING:
    from trialops.governance.signatures import Signature
    from trialops.stores.context import Step

RECORD_KIND = "regulatory document"
PURPOSE = "documents"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Version:
    """One version of a document.

    Attributes:
        document: Name: study, kind, audience and data cut.
        version: 1, 2, ...
        kind: Kind of document.
        audience: "blinded" or "unblinded".
        cut: Data cut, ISO 8601.
        stamp: Its declared stamp.
        content: SHA-256 of what it says, without the stamp.
        manifest: SHA-256 of its manifest: what is signed.
        source: SHA-256 of the delivery.
        program: Version of the code.
        files: File name to SHA-256.
        at: When it was registered, UTC.
        actor: By whom.
    """

    document: str
    version: int
    kind: str
    audience: str
    cut: str
    stamp: str
    content: str
    manifest: str
    source: str
    program: str
    files: Mapping[str, str]
    at: str
    actor: str

    @property
    def record(self) -> str:
        """Its name in signatures and the audit trail."""
        return f"{self.document}/{self.version}"


def document_name(document: Document) -> str:
    """Study, kind, audience and data cut: the name that versions are numbered under."""
    return f"{document.study}-{document.kind}-{document.audience}-{document.cut.isoformat()}".lower()


def register_document(
    run: Step, document: Document, *, extra: Mapping[str, bytes] | None = None
) -> tuple[Version, bool]:
    """Make a document's files, keep them encrypted, and number them.

    Args:
        run: The step.
        document: What it says.
        extra: Further files of the version by name (tables as data, for instance).

    Returns:
        The version, and whether it is new.
    """
    from sqlalchemy import insert
    from sqlalchemy.exc import IntegrityError

    from trialops.stores.tables import documents

    name = document_name(document)
    known = versions(run, name)
    if known and known[-1].content == document.digest:
        return known[-1], False
    files = {f"{name}.html": to_html(document), f"{name}.pdf": to_pdf(document), **(extra or {})}
    number = len(known) + 1
    digests = {file: hashlib.sha256(data).hexdigest() for file, data in sorted(files.items())}
    facts = {
        "document": name,
        "version": number,
        "kind": document.kind,
        "audience": document.audience,
        "cut": document.cut.isoformat(),
        "stamp": document.stamp.isoformat(timespec="seconds"),
        "content": document.digest,
        "source": document.source,
        "program": document.program,
    }
    manifest = json.dumps({**facts, "files": digests}, indent=1, sort_keys=True).encode()
    for file, data in {**files, MANIFEST: manifest}.items():
        key = _key(name, number, file)
        run.objects.put(key, run.vault.encrypt(PURPOSE, data, context=key))
    row = {**facts, "manifest": hashlib.sha256(manifest).hexdigest(), "files": json.dumps(digests, sort_keys=True)}
    try:
        with writing(run.engine) as connection:
            connection.execute(insert(documents).values(**row, at=utc_now(), actor=run.settings.who, run_id=run.run_id))
    except IntegrityError:
        raise TrialOpsError(
            f"Version {number} of {name} was registered by another run at the same time",
            where=name,
            fix="Run it again; if both say the same, the version that is there is taken.",
        ) from None
    made = versions(run, name)[-1]
    run.audit("document.register", made.record, made.manifest, cut=made.cut, audience=made.audience)
    return made, True


def versions(run: Step, document: str = "") -> list[Version]:
    """Versions of a document, oldest first; of all documents by name where none is named."""
    from sqlalchemy import select

    from trialops.stores.tables import documents as table

    query = select(table).order_by(table.c.document, table.c.version)
    if document:
        query = query.where(table.c.document == document)
    with reading(run.engine) as connection:
        rows = connection.execute(query).mappings().all()
    return [
        Version(**{k: row[k] for k in Version.__dataclass_fields__ if k != "files"}, files=json.loads(row["files"]))
        for row in rows
    ]


def version_of(run: Step, document: str, version: int = 0) -> Version:
    """A version by number; the newest for 0.

    Raises:
        TrialOpsError: There is none.
    """
    known = versions(run, document)
    found = known[-1] if known and not version else next((v for v in known if v.version == version), None)
    if found is None:
        names = sorted({v.document for v in versions(run)})
        raise TrialOpsError(
            f"There is no such document: {document}" + (f", version {version}" if version else ""),
            where="register of documents",
            fix=f"There are: {', '.join(names) or 'none yet; run regulatory_reporting'}.",
        )
    return found


def read_file(run: Step, version: Version, name: str) -> bytes:
    """A file of a version, in the clear.

    Raises:
        TrialOpsError: It is missing, or not what was registered.
    """
    key = _key(version.document, version.version, name)
    expected = version.manifest if name == MANIFEST else version.files.get(name, "")
    try:
        data = run.vault.decrypt(run.objects.get(key), context=key)
    except (KeyError, TrialOpsError):
        raise TrialOpsError(
            f"{name} of {version.record} is missing or was changed", where=key, fix="Restore it from a backup."
        ) from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise TrialOpsError(
            f"{name} of {version.record} is not what was registered", where=key, fix="Restore it from a backup."
        )
    return data


def signatures_on(run: Step, version: Version) -> list[tuple[Signature, str]]:
    """Signatures on a version, oldest first, each with what is wrong with it ("" where it holds)."""
    from trialops.governance.signatures import Signatures

    signing = Signatures(run.engine, run.vault)
    return [(s, signing.verify(s, version.manifest).problem) for s in signing.of(RECORD_KIND, version.record)]


def check_version(run: Step, version: Version) -> list[str]:
    """What is not as it was registered and signed: files, manifest, signatures; empty where all is.

    Args:
        run: The step.
        version: The version.
    """
    problems = []
    for name in (MANIFEST, *sorted(version.files)):
        try:
            data = read_file(run, version, name)
        except TrialOpsError as error:
            problems.append(str(error.what))
            continue
        if name == MANIFEST:
            problems += _differences(json.loads(data), version)
    problems += [f"signature of {s.printed_name}: {problem}" for s, problem in signatures_on(run, version) if problem]
    return problems


def _differences(manifest: Mapping[str, Any], version: Version) -> list[str]:
    stated = {k: getattr(version, k) for k in manifest}
    return [f"the register says otherwise than the manifest: {k}" for k, v in manifest.items() if stated[k] != v]


def _key(document: str, version: int, name: str) -> str:
    return f"documents/{document}/{version:04d}/{name}"
