"""Read a delivery of FHIR documents: every item is loaded, quarantined or ignored, and counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.intake import fhir_json, fhir_validation, quarantine
from trialops.intake.domains import RECEIVED, ROW, SOURCE
from trialops.intake.fhir_bulk import Promise, follow, read_manifest
from trialops.intake.fhir_documents import PROBLEMS, Document, document_digest
from trialops.intake.fhir_items import Item, Outline, Scope, identifier_keys, items, outline, target_of
from trialops.intake.fhir_references import Resolver
from trialops.intake.fhir_tables import TableBuilder, canonical, resources_of

if TYPE_CHECKING:
    import polars as pl

    from trialops.intake.raw_zone import Held, RawZone

    Progress = Callable[[str, float], None] | None

REASONS = {
    **PROBLEMS,
    **fhir_json.REASONS,
    **fhir_validation.REASONS,
    "NO_RESOURCE_TYPE": "it is not a resource: there is no resourceType",
    "BAD_BUNDLE": "the bundle or its entry has not the form of one",
    "BAD_DELETE": "a deletion does not name what it deletes",
    "UNSUPPORTED_METHOD": "the entry asks for something else than to put, post or delete",
    "NO_RESOURCE": "the entry has no resource",
    "NO_IDENTITY": "the resource has no id, and its bundle gives it none",
    "NOT_STORED": "a resource of this type carries others and is not stored itself",
    "UNRESOLVED_REFERENCE": "a reference into its own bundle, or by identifier, leads nowhere or to several resources",
    "WRONG_KIND": "its type is not the one the manifest gives for this file",
    "VERSION_CONFLICT": "the same version was delivered before with other content",
}
IGNORED = {
    "NOT_FHIR": "nothing in the file names a resource type",
    "NOT_IN_MANIFEST": "the manifest beside it does not name it",
    "EXPORT_ERROR": "what the exporting server says about its export",
    "OUTCOME": "an OperationOutcome is about the exchange, not about a patient",
    "NOT_A_CHANGE": "the entry asks to read, not to change",
    "DUPLICATE": "the same content is in this delivery before",
    "ALREADY_HELD": "the same content was delivered before",
    "OLDER_VERSION": "a newer version is held or delivered, or the resource was deleted since",
}
CARRIERS = ("Bundle", "Parameters")


@dataclass(frozen=True)
class Delivery:
    """What came out of one reading, before it is merged with what is held.

    Attributes:
        tables: New content by resource type, see `fhir_tables.RESOURCE_SCHEMA`.
        deletions: type, id, version, updated, digest, _SOURCE, _ROW, _RECEIVED.
        quarantine: One line per item set aside, see `quarantine.SCHEMA`.
        ignored: file, reason, rows.
        files: file, kind, read, sha256, note, problem: one line per document.
        source_digest: SHA-256 over names and contents.
        checked, skipped: Resources given to the validator, and those known by their content.
    """

    tables: dict[str, pl.DataFrame]
    deletions: pl.DataFrame
    quarantine: pl.DataFrame
    ignored: pl.DataFrame
    files: pl.DataFrame
    source_digest: str
    checked: int
    skipped: int

    @property
    def complete(self) -> bool:
        """Whether no file is missing, cut off or short of what a manifest promises."""
        return not any(self.files["problem"])


@dataclass
class _Reading:
    """The state of one reading."""

    known: set[str]
    resolver: Resolver
    validator: fhir_validation.Validator
    builder: TableBuilder = field(default_factory=TableBuilder)
    seen: set[str] = field(default_factory=set)
    aside: list[tuple[Any, ...]] = field(default_factory=list)
    ignored: Counter[tuple[str, str]] = field(default_factory=Counter)
    deletions: list[tuple[Any, ...]] = field(default_factory=list)

    def set_aside(self, document: Document, item: Item, reason: str, path: str = "", rule: str = "") -> None:
        words = REASONS[reason] + (f" ({rule})" if rule else "")
        self.aside.append((document.name, item.row, item.kind, path, reason, f"{item.position}: {words}", reason))

    def ignore(self, document: Document, reason: str, rows: int = 1) -> None:
        self.ignored[document.name, reason] += rows


def read_documents(
    documents: list[Document],
    *,
    held: Held,
    zone: RawZone,
    others: list[str] | None = None,
    promised: Mapping[str, Promise] | None = None,
    problems: Mapping[str, str] | None = None,
    progress: Progress = None,
) -> Delivery:
    """Read the documents of one delivery against what is held; nothing is written.

    Args:
        documents: In reading order.
        held: What the raw zone holds.
        zone: To look up identifiers of held resources.
        others: Names of files beside them that are no FHIR documents.
        promised: What a manifest says of documents, where they were downloaded by one.
        problems: What is known to be missing of a document.
        progress: Called with a message and the fraction done.

    Returns:
        New content, deletions, quarantine and counts.

    Raises:
        TrialOpsError: A manifest that cannot be followed.
    """
    manifests, promises, notes = _manifests(documents)
    promises |= dict(promised or {})
    digests = {d.name: document_digest(d) for d in documents}
    outlines: dict[str, Outline] = {}
    for number, document in enumerate(documents):
        if progress:
            progress(f"looking at document {number + 1} of {len(documents)}", 0.3 * number / len(documents))
        if document.name not in manifests and notes.get(document.name) != "NOT_IN_MANIFEST":
            outlines[document.name] = outline(document)
    reading = _reading(outlines, held, zone)
    lines = [(name, "", 0, "", "not a FHIR document", False) for name in others or []]
    for number, document in enumerate(documents):
        if progress:
            progress(f"reading document {number + 1} of {len(documents)}", 0.3 + 0.7 * number / len(documents))
        name = document.name
        found = outlines.get(name)
        promise = promises.get(name)
        if found is None:
            note = "manifest" if name in manifests else IGNORED["NOT_IN_MANIFEST"]
            lines.append((name, "", 0, digests[name], note, False))
            continue
        problem = _short_of(promise, found) or (problems or {}).get(name, "")
        _read(document, found, promise, reading)
        kind = promise.role if promise else ("NDJSON" if document.lines else "JSON")
        lines.append((name, kind, found.items, digests[name], problem, bool(problem or found.fault)))
    for name in sorted(n for note, n in notes.items() if note.startswith("missing ")):
        lines.append((name, "", 0, "", "the manifest names it and it is not there", True))
    total = hashlib.sha256("".join(f"{n}\0{d}\n" for n, d in digests.items()).encode()).hexdigest()
    return _delivery(reading, lines, total)


def _manifests(documents: list[Document]) -> tuple[set[str], dict[str, Promise], dict[str, str]]:
    manifests: set[str] = set()
    promises: dict[str, Promise] = {}
    notes: dict[str, str] = {}
    for document in documents:
        manifest = read_manifest(document)
        if manifest is None:
            continue
        manifests.add(document.name)
        followed = follow(manifest, documents)
        promises |= followed.promises
        notes |= dict.fromkeys(followed.unlisted, "NOT_IN_MANIFEST")
        notes |= {f"missing {document.name} {name}": name for name in followed.missing}
    return manifests, promises, {k: v for k, v in notes.items() if k not in promises}


def _reading(outlines: Mapping[str, Outline], held: Held, zone: RawZone) -> _Reading:
    urls: dict[str, str] = {}
    identifiers: dict[str, str | None] = {}
    for found in outlines.values():
        for scope in found.scopes:
            urls |= scope.urls
        for key, target in found.identifiers.items():
            identifiers[key] = target if identifiers.get(key, target) == target else None
    loaded: set[str] = set()

    def lookup(condition: str) -> str | None:
        """A conditional reference, in the delivery first, then among held resources of its type."""
        kind = condition.partition("?")[0]
        if condition not in identifiers and kind not in loaded:
            loaded.add(kind)
            stored: dict[str, str | None] = {}
            for resource in (r for frame in zone.read(held, {kind}).values() for r in resources_of(frame)):
                own = f"{kind}/{resource['id']}"
                for key in identifier_keys(resource):
                    stored[key] = own if stored.get(key, own) == own else None
            for key, target in stored.items():
                identifiers.setdefault(key, target)
        return identifiers.get(condition)

    sound = held.rules == fhir_validation.validator_version()
    known = set(held.history["digest"])
    return _Reading(known, Resolver(urls, lookup), fhir_validation.Validator(set(known) if sound else set()))


def _short_of(promise: Promise | None, found: Outline) -> str:
    """What a file lacks of what the manifest promises; empty when nothing."""
    if found.fault:
        return REASONS[found.fault]
    if promise is None or promise.count is None or promise.count == found.items:
        return ""
    return f"the manifest promises {promise.count} lines and it has {found.items}"


def _read(document: Document, found: Outline, promise: Promise | None, reading: _Reading) -> None:
    if found.fault:
        reading.set_aside(document, Item(1, "file"), found.fault)
        return
    if found.items and not found.fhir:
        reading.ignore(document, "NOT_FHIR", found.items)
        return
    for bundle, item in items(document):
        _dispose(document, item, found.scopes[bundle], promise, reading)


def _dispose(document: Document, item: Item, scope: Scope, promise: Promise | None, reading: _Reading) -> None:
    """Where one item goes."""
    resource = item.resource
    if item.reason:
        reading.set_aside(document, item, item.reason, item.path)
    elif promise is not None and promise.role == "error":
        reading.ignore(document, "EXPORT_ERROR")
    elif item.method == "DELETE":
        _delete(document, item, promise, reading)
    elif resource is None:
        reading.ignore(document, "NOT_A_CHANGE")
    elif item.kind == "OperationOutcome":
        reading.ignore(document, "OUTCOME")
    elif item.kind in CARRIERS:
        reading.set_aside(document, item, "NOT_STORED", "resourceType")
    elif promise is not None and promise.kind and promise.role == "output" and item.kind != promise.kind:
        reading.set_aside(document, item, "WRONG_KIND", "resourceType")
    elif fhir_validation.model_of(item.kind) is None:
        reading.set_aside(document, item, "UNKNOWN_TYPE", "resourceType")
    else:
        _keep(document, item, resource, scope, reading)


def _keep(document: Document, item: Item, resource: dict[str, Any], scope: Scope, reading: _Reading) -> None:
    if "id" not in resource:
        target = target_of(item) or (reading.resolver.lookup(item.url) if "?" in item.url else "") or ""
        if not target:
            reading.set_aside(document, item, "NO_IDENTITY", f"{item.kind}.id")
            return
        resource["id"] = target.partition("/")[2]
    missing = reading.resolver.resolve(resource, scope)
    data = canonical(resource)
    digest = hashlib.sha256(data).hexdigest()
    if digest in reading.known or digest in reading.seen:
        reading.ignore(document, "ALREADY_HELD" if digest in reading.known else "DUPLICATE")
        return
    fault = reading.validator.check(resource, digest)
    if fault is not None:
        reading.set_aside(document, item, fault.reason, fault.path, fault.rule)
    elif missing:
        reading.set_aside(document, item, "UNRESOLVED_REFERENCE", missing)
    else:
        reading.seen.add(digest)
        reading.builder.add(resource, source=document.name, row=item.row, received=document.received, encoded=data)


def _delete(document: Document, item: Item, promise: Promise | None, reading: _Reading) -> None:
    target = target_of(item)
    if not target or fhir_validation.model_of(item.kind) is None:
        reading.set_aside(document, item, "BAD_DELETE", "url")
        return
    updated = item.updated or (promise.at if promise else "")
    facts = f"delete\0{target}\0{item.version}\0{updated}"
    if not item.version and not updated:
        # Two deletions that say nothing of when are told apart by the day they came.
        facts += f"\0{document.received or ''}"
    digest = hashlib.sha256(facts.encode()).hexdigest()
    if digest in reading.known or digest in reading.seen:
        reading.ignore(document, "ALREADY_HELD" if digest in reading.known else "DUPLICATE")
        return
    reading.seen.add(digest)
    kind, _, own = target.partition("/")
    reading.deletions.append((kind, own, item.version, updated, digest, document.name, item.row, document.received))


def _delivery(reading: _Reading, lines: list[tuple[Any, ...]], digest: str) -> Delivery:
    import polars as pl

    deletions = pl.DataFrame(
        reading.deletions,
        schema={
            "type": pl.String,
            "id": pl.String,
            "version": pl.String,
            "updated": pl.String,
            "digest": pl.String,
            SOURCE: pl.String,
            ROW: pl.Int64,
            RECEIVED: pl.Date,
        },
        orient="row",
    )
    ignored = pl.DataFrame(
        [(file, reason, rows) for (file, reason), rows in sorted(reading.ignored.items())],
        schema={"file": pl.String, "reason": pl.String, "rows": pl.Int64},
        orient="row",
    )
    files = pl.DataFrame(
        lines,
        schema={
            "file": pl.String,
            "kind": pl.String,
            "read": pl.Int64,
            "sha256": pl.String,
            "note": pl.String,
            "problem": pl.Boolean,
        },
        orient="row",
    )
    aside = pl.DataFrame(reading.aside, schema=quarantine.empty().schema, orient="row")
    return Delivery(
        reading.builder.tables(),
        deletions,
        aside,
        ignored,
        files,
        digest,
        reading.validator.checked,
        reading.validator.skipped,
    )
