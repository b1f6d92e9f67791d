"""What a FHIR document holds, item by item: resources of a bundle, lines of an NDJSON file, deletions, faults.

Nothing is judged here but the form. A document is read twice: once to see that it is whole and what its full URLs
stand for, once to hand out its items; neither time more than one item is held.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from trialops.intake.fhir_documents import Document, DocumentFault
from trialops.intake.fhir_json import MAX_RESOURCE_CHARS, JsonFault, JsonStream, check_value, parse_strict

ID = re.compile(r"^[A-Za-z0-9\-.]{1,64}$")
_UUID = re.compile(r"^urn:(?:uuid|oid):([A-Za-z0-9\-.]{1,64})$")
_URL = re.compile(r"(?:^|/)([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?/?$")
_ETAG = re.compile(r'^(?:W/)?"?([A-Za-z0-9\-.]{1,64})"?$')
BUNDLE_TYPES = ("transaction", "batch", "collection", "searchset", "history", "document", "message")


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a document.

    Attributes:
        row: 1-based number of the item in its document.
        position: Where it stands, in words: "line 3", "entry 5", "line 3, entry 5".
        resource: The resource, or None.
        full_url: Bundle.entry.fullUrl.
        method: Bundle.entry.request.method, else "PUT".
        url: Bundle.entry.request.url.
        condition: Bundle.entry.request.ifNoneExist.
        version: Version a deletion names (ifMatch or the history in its URL).
        updated: When a deletion took place, where it is said.
        reason: Key of a fault, or empty.
        path: Element the fault is in.
    """

    row: int
    position: str
    resource: dict[str, Any] | None = None
    full_url: str = ""
    method: str = "PUT"
    url: str = ""
    condition: str = ""
    version: str = ""
    updated: str = ""
    reason: str = ""
    path: str = ""

    @property
    def kind(self) -> str:
        """Resource type, also of a deletion; empty where it names none."""
        if self.resource is not None:
            found = self.resource.get("resourceType")
            return found if isinstance(found, str) else ""
        found_url = _URL.search(self.url)
        return found_url[1] if found_url else ""


@dataclass
class Scope:
    """What references inside one bundle may use: full URL or URN -> Type/id, from a first reading."""

    urls: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outline:
    """A document after its first reading.

    Attributes:
        items: Items it holds.
        scopes: Scope of each bundle, by number of the bundle in the document.
        identifiers: "Type?identifier=system|value" -> Type/id, None where two resources have the identifier.
        fhir: Items that name a resourceType, or are faults that cannot tell.
        fault: Key of a fault by which the whole document is one unusable item.
        values: Top-level values that are neither bundle nor resource, for a manifest: at most one.
    """

    items: int
    scopes: tuple[Scope, ...]
    identifiers: dict[str, str | None]
    fhir: int
    fault: str = ""


def outline(document: Document) -> Outline:
    """First reading: is it whole, how much is in it, what do its full URLs stand for."""
    scopes: list[Scope] = []
    identifiers: dict[str, str | None] = {}
    count = fhir = 0
    if document.problem:
        return Outline(1, (), {}, 1, document.problem)
    try:
        for bundle, item in _read(document):
            count += 1
            fhir += bool(item.kind or item.reason != "NO_RESOURCE_TYPE")
            while len(scopes) <= bundle:
                scopes.append(Scope())
            target = target_of(item)
            if target and item.full_url:
                scopes[bundle].urls[item.full_url] = target
            if target and item.resource is not None:
                for key in identifier_keys(item.resource):
                    known = identifiers.get(key, target)
                    identifiers[key] = target if known == target else None
    except (JsonFault, DocumentFault) as fault:
        return Outline(1, (), {}, 1, fault.reason)
    return Outline(count, tuple(scopes), identifiers, fhir)


def items(document: Document) -> Iterator[tuple[int, Item]]:
    """Second reading: the items, each with the number of its bundle; the document was found whole before."""
    yield from _read(document)


def target_of(item: Item) -> str:
    """Type/id an item is, or will be known by; empty where it has no identity."""
    if not item.kind:
        return ""
    own = item.resource.get("id") if item.resource is not None else None
    if isinstance(own, str) and ID.match(own):
        return f"{item.kind}/{own}"
    if own is not None:
        return ""
    named = _URL.search(item.url) if item.method in ("PUT", "DELETE") else None
    if named and named[1] == item.kind:
        return f"{item.kind}/{named[2]}"
    uuid = _UUID.match(item.full_url)
    if uuid:
        return f"{item.kind}/{uuid[1]}"
    full = _URL.search(item.full_url)
    return f"{item.kind}/{full[2]}" if full and full[1] == item.kind else ""


def identifier_keys(resource: dict[str, Any]) -> list[str]:
    """Search keys of a resource's identifiers, as a conditional reference writes them."""
    found = resource.get("identifier")
    keys = []
    for one in found if isinstance(found, list) else [found]:
        if isinstance(one, dict) and isinstance(one.get("value"), str):
            system = one.get("system")
            keys.append(f"{resource.get('resourceType')}?identifier={system or ''}|{one['value']}")
    return keys


def _read(document: Document) -> Iterator[tuple[int, Item]]:
    with closing(document.open()) as stream:
        if document.lines:
            yield from _lines(stream)
        else:
            yield from _whole(stream, document)


def _lines(stream: BinaryIO) -> Iterator[tuple[int, Item]]:
    row, bundle, number = 0, 0, 0
    while True:
        line = stream.readline(MAX_RESOURCE_CHARS + 1)
        if not line:
            return
        number += 1
        reason = ""
        if len(line) > MAX_RESOURCE_CHARS:
            reason = "TOO_LARGE"
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_RESOURCE_CHARS)
        elif not line.strip():
            continue
        position = f"line {number}"
        if not reason:
            try:
                value = parse_strict(line if number == 1 else _no_mark(line))
            except JsonFault as fault:
                reason = fault.reason
        if reason:
            row += 1
            yield bundle, Item(row, position, reason=reason)
            continue
        if isinstance(value, dict) and value.get("resourceType") == "Bundle":
            bundle += 1
            for item in _bundle(value, row, f"{position}, "):
                row = item.row
                yield bundle, item
        else:
            row += 1
            yield 0, _resource(value, row, position)


def _no_mark(line: bytes) -> bytes:
    """A byte order mark belongs in front of a file, not of a line: there it is no JSON."""
    if line.startswith(b"\xef\xbb\xbf"):
        raise JsonFault("NOT_JSON")
    return line


def _bundle(bundle: dict[str, Any], row: int, place: str) -> Iterator[Item]:
    entries = bundle.get("entry", [])
    if bundle.get("type") not in BUNDLE_TYPES:
        yield Item(row + 1, place.rstrip(", "), reason="BAD_BUNDLE", path="Bundle.type")
    elif not isinstance(entries, list):
        yield Item(row + 1, place.rstrip(", "), reason="BAD_BUNDLE", path="Bundle.entry")
    else:
        when = str(bundle.get("timestamp") or "")
        for number, entry in enumerate(entries, 1):
            row += 1
            yield _entry(entry, row, f"{place}entry {number}", when)


def _whole(stream: BinaryIO, document: Document) -> Iterator[tuple[int, Item]]:
    """A file that is one JSON value: its entries are handed out as they are read when it is a bundle."""
    reader = JsonStream(stream)
    if reader.peek() != "{":
        reader.value()
        reader.end()
        yield 0, Item(1, "file", reason="NO_RESOURCE_TYPE")
        return
    members: dict[str, Any] = {}
    row, streamed = 0, False
    for key in reader.members():
        if key == "entry" and reader.peek() == "[":
            # Sorted keys put entry in front of what says whose it is: a List has entries too.
            head = members if "resourceType" in members else _head(document)
            if head.get("resourceType") == "Bundle":
                streamed = True
                for entry in reader.elements():
                    row += 1
                    yield 1, _entry(entry, row, f"entry {row}", str(head.get("timestamp") or ""))
                continue
        members[key] = reader.value()
    reader.end()
    if members.get("resourceType") != "Bundle":
        check_value(members)
        yield 0, _resource(members, 1, "file")
        return
    typed = members.get("type") in BUNDLE_TYPES
    if not typed or ("entry" in members and not streamed):
        # One more item, so that a bundle of no known type is not taken for a sound one.
        yield 1, Item(row + 1, "file", reason="BAD_BUNDLE", path="Bundle.entry" if typed else "Bundle.type")


def _head(document: Document) -> dict[str, Any]:
    """The members of a document's object but for its entries, which are passed over one by one."""
    with closing(document.open()) as stream:
        reader = JsonStream(stream)
        members: dict[str, Any] = {}
        for key in reader.members():
            if key == "entry" and reader.peek() == "[":
                for _ in reader.elements():
                    pass
            else:
                members[key] = reader.value()
        return members


def _entry(entry: Any, row: int, position: str, when: str) -> Item:
    if not isinstance(entry, dict):
        return Item(row, position, reason="BAD_BUNDLE", path="Bundle.entry")
    request, response = entry.get("request", {}), entry.get("response", {})
    if not isinstance(request, dict) or not isinstance(response, dict):
        return Item(row, position, reason="BAD_BUNDLE", path="Bundle.entry.request")
    texts = [entry.get("fullUrl", ""), *(request.get(k, "") for k in ("method", "url", "ifNoneExist", "ifMatch"))]
    if not all(isinstance(text, str) for text in texts):
        return Item(row, position, reason="BAD_BUNDLE", path="Bundle.entry.request")
    full, method, url, condition, match = texts
    method = method or "PUT"
    resource = entry.get("resource")
    if method == "DELETE":
        found = _URL.search(url)
        tag = _ETAG.match(match or str(response.get("etag", "")))
        version = tag[1] if tag else (found[3] or "" if found else "")
        updated = response.get("lastModified") or when
        reason = "" if found else "BAD_DELETE"
        return Item(
            row, position, None, full, method, url, version=version, updated=str(updated), reason=reason, path="url"
        )
    if method in ("GET", "HEAD"):
        return Item(row, position, None, full, method, url)
    if method not in ("PUT", "POST"):
        return Item(row, position, None, full, method, url, reason="UNSUPPORTED_METHOD", path="Bundle.entry.request")
    if resource is None:
        return Item(row, position, None, full, method, url, reason="NO_RESOURCE", path="Bundle.entry.resource")
    made = _resource(resource, row, position)
    if made.reason:
        return made
    return Item(row, position, resource, full, method, url, condition)


def _resource(value: Any, row: int, position: str) -> Item:
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        return Item(row, position, reason="NO_RESOURCE_TYPE", path="resourceType")
    return Item(row, position, value)
