"""Ask a FHIR server for what is new: search or history page by page, or a bulk export.

Every page is sealed in the raw zone as it comes and read from there; nothing lies on disk in the clear, and one page
at a time is held. Where the next pull begins is settled by the caller, once all of it is sealed and merged.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from trialops.errors import TrialOpsError
from trialops.intake.fhir_bulk import Promise, parse_manifest
from trialops.intake.fhir_http import FhirClient, Gone

if TYPE_CHECKING:
    import httpx

    from trialops.intake.fhir_documents import Document

    Keep = Callable[[str, bytes], Document]

TYPES = (
    "ResearchStudy",
    "Organization",
    "Location",
    "Practitioner",
    "PractitionerRole",
    "Patient",
    "ResearchSubject",
    "Consent",
    "Encounter",
    "Condition",
    "AllergyIntolerance",
    "AdverseEvent",
    "Observation",
    "DiagnosticReport",
    "Specimen",
    "Procedure",
    "ImagingStudy",
    "Immunization",
    "Device",
    "Medication",
    "MedicationRequest",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationStatement",
    "CarePlan",
    "CareTeam",
    "Coverage",
    "Claim",
    "ExplanationOfBenefit",
    "DocumentReference",
)
"""Types that are asked for where the server has them, patients and consents before what depends on them."""
OVERLAP = dt.timedelta(minutes=5)
"""A pull begins this long before the one before it did: a server's indexes and clocks lag."""
PAGE_SIZE = 200
PART_BYTES = 16 * 1024 * 1024
_INSTANT = re.compile(r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2}))?$")


@dataclass
class Pull:
    """What a server gave.

    Attributes:
        documents: Pages and parts, sealed, in order.
        promises: What the export's manifest says of them, by name.
        problems: What is missing, by name of a document.
        cursor: Server time from which the next pull must ask; empty where the server did not tell it.
        pages: Number of pages or parts.
        waits: Seconds waited because the server was busy.
    """

    documents: list[Document] = field(default_factory=list)
    promises: dict[str, Promise] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    cursor: str = ""
    waits: float = 0.0

    @property
    def pages(self) -> int:
        """Pages and parts received."""
        return len(self.documents)


def check_since(since: str) -> str:
    """A FHIR date or instant, or empty.

    Raises:
        TrialOpsError: It is neither.
    """
    if since and not _INSTANT.match(since):
        raise TrialOpsError(
            "The time to pull from is no FHIR date or instant",
            where="since",
            fix="Write it as 2026-01-31 or 2026-01-31T12:00:00Z.",
        )
    return since


def pull(
    client: FhirClient,
    keep: Keep,
    *,
    since: str = "",
    types: Sequence[str] = TYPES,
    page_size: int = PAGE_SIZE,
    progress: Callable[[str, float], None] | None = None,
) -> Pull:
    """Search every type, page by page.

    With `since`, a server that keeps histories is asked for them, because a search does not tell of deletions.

    Args:
        client: Client of the server.
        keep: Seals the bytes of a page under a name and gives the document to read.
        since: FHIR instant or date; empty asks for everything.
        types: Types to ask for, as far as the server has them.
        page_size: Resources a page should hold; the server may choose fewer.
        progress: Called with a message and the fraction done.

    Raises:
        TrialOpsError: The server refuses, stays unavailable, or its pages never end.
    """
    check_since(since)
    result = Pull()
    abilities = _abilities(client, result)
    wanted = [kind for kind in types if kind in abilities]
    if not wanted:
        raise TrialOpsError(
            "The FHIR server can search none of the types that are read",
            where="CapabilityStatement.rest.resource",
            fix="Check that FHIR_ENDPOINT is the base URL of an R4 server.",
        )
    for number, kind in enumerate(wanted):
        if progress:
            progress(f"asking for {kind}", number / len(wanted))
        history = bool(since) and "history-type" in abilities[kind]
        first = _first_url(client.base, kind, since, page_size, history)
        mark = len(result.documents)
        try:
            _pages(client, keep, kind, first, result)
        except Gone:
            # The server dropped its cursor half-way; what came before is asked for again and recognised.
            del result.documents[mark:]
            _pages(client, keep, kind, first, result)
    result.waits = sum(client.waited)
    return result


def _abilities(client: FhirClient, result: Pull) -> dict[str, set[str]]:
    """Type -> interactions, from the server's CapabilityStatement; its clock begins the pull."""
    statement, response = client.get_json(f"{client.base}/metadata")
    _clock(response, result)
    if statement.get("resourceType") != "CapabilityStatement":
        raise TrialOpsError(
            "The server's metadata is no CapabilityStatement",
            where="FHIR_ENDPOINT",
            fix="Give the base URL of a FHIR R4 server.",
        )
    version = statement.get("fhirVersion")
    if not isinstance(version, str) or not version.startswith(("4.0", "4.3")):
        raise TrialOpsError(
            "The server does not speak FHIR R4", where="CapabilityStatement.fhirVersion", fix="Use its R4 endpoint."
        )
    found: dict[str, set[str]] = {}
    for rest in _dicts(statement.get("rest")):
        for resource in _dicts(rest.get("resource")):
            codes = {str(i.get("code")) for i in _dicts(resource.get("interaction"))}
            if "search-type" in codes:
                found[str(resource.get("type"))] = codes
    return found


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _clock(response: httpx.Response, result: Pull) -> None:
    """The server's own time, less the overlap, as the cursor of this pull."""
    if result.cursor:
        return
    try:
        now = email.utils.parsedate_to_datetime(response.headers.get("Date", ""))
    except (TypeError, ValueError):
        return
    result.cursor = (now.astimezone(dt.UTC) - OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ")


def _first_url(base: str, kind: str, since: str, page_size: int, history: bool) -> str:
    if history:
        return f"{base}/{kind}/_history?{urlencode({'_since': since, '_count': page_size})}"
    query = {"_count": str(page_size)} | ({"_lastUpdated": f"ge{since}"} if since else {})
    return f"{base}/{kind}?{urlencode(query)}"


def _pages(client: FhirClient, keep: Keep, kind: str, url: str, result: Pull) -> None:
    seen: set[str] = set()
    while url:
        if url in seen or len(seen) >= client.limits.pages:
            raise TrialOpsError(
                "The pages of a search never end",
                where=f"{kind}, page {len(seen)}",
                fix="The server's next links lead in a circle; nothing of this pull was loaded.",
            )
        seen.add(url)
        response = client.request("GET", url)
        bundle = client.body_of(response)
        if bundle.get("resourceType") != "Bundle":
            raise TrialOpsError(
                "The FHIR server answers a search with something else than a bundle",
                where=kind,
                fix="Look at the server's own log.",
            )
        if bundle.get("entry"):
            result.documents.append(keep(f"{kind}-page-{len(seen):04d}.json", response.content))
        url = next_link(bundle)
        if url:
            url = client.absolute(url)


def next_link(bundle: Mapping[str, Any]) -> str:
    """URL of the page after a bundle; empty at the last."""
    for link in _dicts(bundle.get("link")):
        if link.get("relation") == "next" and isinstance(link.get("url"), str):
            return str(link["url"])
    return ""


def export(
    client: FhirClient,
    keep: Keep,
    *,
    path: str = "$export",
    since: str = "",
    types: Sequence[str] = (),
    progress: Callable[[str, float], None] | None = None,
) -> Pull:
    """Bulk export: kick-off, wait, download.

    Args:
        client: Client of the server.
        keep: See :func:`pull`.
        path: Operation below the base URL: "$export", "Patient/$export" or "Group/<id>/$export".
        since: See :func:`pull`.
        types: Types to export; empty exports all.
        progress: Called with a message and the fraction done.

    Raises:
        TrialOpsError: The server refuses, the export fails or takes too long, or its manifest cannot be followed.
    """
    query = ({"_since": check_since(since)} if since else {}) | ({"_type": ",".join(types)} if types else {})
    url = f"{client.base}/{path}" + (f"?{urlencode(query)}" if query else "")
    started = client.request("GET", url, headers={"Prefer": "respond-async"})
    place = started.headers.get("Content-Location", "")
    if started.status_code != 202 or not place:
        raise TrialOpsError(
            "The FHIR server did not begin an export", where=path, fix="Check that it supports Bulk Data Access."
        )
    status = client.absolute(place)
    result = Pull()
    body = _await(client, status, progress)
    manifest = parse_manifest(body, "manifest")
    secured = body.get("requiresAccessToken") is not False
    for number, promise in enumerate(manifest.promises):
        if progress:
            progress(f"downloading file {number + 1} of {len(manifest.promises)}", number / len(manifest.promises))
        _download(client, keep, promise, number + 1, secured, result)
    result.cursor = manifest.at
    # Frees the server's copy. Ours is sealed by now, so a server that cannot do it is not worth a failure.
    try:
        client.request("DELETE", status)
    except TrialOpsError:
        if progress:
            progress("the server keeps its copy of the export", 1.0)
    result.waits = sum(client.waited)
    return result


def _await(client: FhirClient, status: str, progress: Callable[[str, float], None] | None) -> dict[str, Any]:
    for attempt in range(client.limits.polls):
        response = client.request("GET", status)
        if response.status_code != 202:
            return client.body_of(response)
        if progress:
            progress("the server is preparing the export", min(0.9, attempt / 20))
        client.pause(response, attempt)
    raise TrialOpsError(
        "The FHIR server does not finish its export",
        where=f"asked {client.limits.polls} times",
        fix="Ask its operator; the next run begins a new export.",
    )


def _download(client: FhirClient, keep: Keep, promise: Promise, number: int, secured: bool, result: Pull) -> None:
    """One file in sealed parts, cut at the ends of lines; the lines are counted against the promise."""
    url = client.absolute(promise.url, foreign=not secured)
    stem = f"{promise.kind}-{promise.role}" if promise.role != "output" else promise.kind
    waiting, lines, part = b"", 0, 0
    names: list[str] = []

    def cut(data: bytes) -> None:
        nonlocal part, lines
        part += 1
        count = sum(1 for line in data.split(b"\n") if line.strip())
        lines += count
        document = keep(f"{stem}-{number:04d}-part-{part:04d}.ndjson", data)
        names.append(document.name)
        result.documents.append(document)
        result.promises[document.name] = Promise(promise.role, promise.kind, None, promise.url, promise.at)

    with client.stream(url, authorised=secured) as response:
        for piece in response.iter_bytes():
            waiting += piece
            if len(waiting) >= PART_BYTES and b"\n" in waiting:
                whole, _, waiting = waiting.rpartition(b"\n")
                cut(whole + b"\n")
            if len(waiting) > 4 * PART_BYTES:
                raise TrialOpsError("A line of an export is longer than any resource", where=stem)
    if waiting.strip() or (promise.count and not names):
        cut(waiting)
    if promise.count is not None and promise.count != lines:
        result.problems[names[-1]] = f"the manifest promises {promise.count} lines and the file has {lines}"
