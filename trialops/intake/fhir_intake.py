"""One FHIR intake from source to sealed tables: a folder of documents or a server, merged with what is held."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.intake.fhir_delivery import FhirIntake, merge_delivery, read_documents
from trialops.intake.fhir_documents import Document, delivery_digest, document_digest, find_documents
from trialops.intake.fhir_http import FhirClient, check_endpoint
from trialops.intake.fhir_server import Pull, check_since, export, pull
from trialops.intake.fhir_tables import resources_of
from trialops.intake.fhir_validation import validator_version
from trialops.intake.raw_zone import Held, RawZone, StateMoved
from trialops.stores.sealed import seal_file

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

STUDY_SYSTEM = "urn:trialops:study:"
PART = 64 * 1024 * 1024
TRIES = 5


@dataclass(frozen=True)
class Ingested:
    """The result of an intake.

    Attributes:
        intake: Counts, quarantine and what changed.
        held: The raw zone after it.
        source: What it was read from, in words.
        notes: Sentences for the page.
    """

    intake: FhirIntake
    held: Held
    source: str
    notes: tuple[str, ...]


def is_server(source: str) -> bool:
    """Whether a source is the address of a server rather than a folder."""
    return "://" in source


def open_zone(run: Step) -> RawZone:
    """The raw zone of FHIR sources in the stores of a step."""
    return RawZone(run.vault, run.objects, "fhir")


def made_from(source: str, held: Held) -> str:
    """Digest of everything the result of reading a folder depends on: the documents and what was held."""
    documents, others = find_documents(Path(source))
    facts = [delivery_digest(documents), *others, held.digest, validator_version()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def ingest_folder(run: Step, folder: Path) -> Ingested:
    """Read a folder, seal its documents and what they change.

    Raises:
        TrialOpsError: The folder does not exist, a manifest in it cannot be followed, or a file changed meanwhile.
    """
    documents, others = find_documents(folder)
    if not documents:
        raise TrialOpsError(
            "The delivery folder holds no FHIR document.",
            where=str(folder),
            fix="Give the folder that holds .json or .ndjson files.",
        )
    zone = open_zone(run)
    intake, held = _merge(run, zone, documents, others, None, {})
    return Ingested(intake, held, "delivery folder", _notes(intake))


def ingest_server(run: Step, endpoint: str, since: str = "") -> Ingested:
    """Ask a server for what is new since the last pull and seal it; then, and only then, move the cursor.

    Args:
        run: The step.
        endpoint: Base URL, or base URL and "/$export", "/Patient/$export", "/Group/<id>/$export" for a bulk export.
        since: FHIR instant or date to pull from; empty: where the last complete pull began; "all": everything.

    Raises:
        TrialOpsError: As in :func:`trialops.intake.fhir_server.pull`.
    """
    base, operation = _operation(endpoint)
    zone = open_zone(run)
    place = hashlib.sha256(f"{base} {operation}".encode()).hexdigest()[:16]
    wanted = "" if since == "all" else check_since(since) or zone.held().cursors.get(place, "")
    secret = run.settings.fhir_token
    client = FhirClient(
        base,
        token=secret.get_secret_value() if secret else "",
        ca=run.settings.fhir_ca,
        say=run.progress,
    )
    keep = partial(keep_bytes, vault=run.vault, objects=run.objects)
    try:
        if operation:
            pulled = export(client, keep, path=operation, since=wanted, progress=run.progress)
        else:
            pulled = pull(client, keep, since=wanted, progress=run.progress)
    finally:
        client.close()
    run.audit("data.pull", "FHIR_ENDPOINT", wanted or "everything", pages=pulled.pages)
    intake, held = _merge(run, zone, pulled.documents, [], pulled, {place: pulled.cursor} if pulled.cursor else {})
    notes = [f"{pulled.pages} pages were received" + (f", changed since {wanted}." if wanted else ".")]
    if pulled.waits:
        notes.append(f"The server was busy: {pulled.waits:.0f} s were spent waiting for it.")
    return Ingested(intake, held, "FHIR server", (*notes, *_notes(intake)))


def _operation(endpoint: str) -> tuple[str, str]:
    """Base URL and export operation, empty for a search."""
    url = check_endpoint(endpoint)
    if not url.endswith("/$export"):
        return url, ""
    stem = url.removesuffix("/$export")
    parts = stem.split("/")
    if parts[-1] == "Patient":
        return "/".join(parts[:-1]), "Patient/$export"
    if len(parts) > 1 and parts[-2] == "Group":
        return "/".join(parts[:-2]), f"Group/{parts[-1]}/$export"
    return stem, "$export"


def _merge(
    run: Step,
    zone: RawZone,
    documents: list[Document],
    others: list[str],
    pulled: Pull | None,
    cursors: dict[str, str],
) -> tuple[FhirIntake, Held]:
    """Read, seal, commit; read again where another run has committed in between."""
    for _ in range(TRIES):
        held = zone.held()
        delivery = read_documents(
            documents,
            held=held,
            zone=zone,
            others=others,
            promised=pulled.promises if pulled else None,
            problems=pulled.problems if pulled else None,
            progress=run.progress,
        )
        intake = merge_delivery(delivery, held, zone)
        _same_study(run, delivery.tables)
        if pulled is None:
            _keep_evidence(run, documents, dict(delivery.files.select("file", "sha256").iter_rows()))
        try:
            moved = cursors if delivery.complete else {}
            return intake, zone.commit(held, intake.merged, rules=validator_version(), cursors=moved)
        except StateMoved:
            run.progress("another run changed the raw zone; reading again")
    raise StateMoved()


def _same_study(run: Step, tables: dict[str, pl.DataFrame]) -> None:
    """Resources that say which study they are of must be of the study these stores hold."""
    from trialops.stores.study import bind_study

    studies: set[str] = set()
    for resource in resources_of(tables["ResearchSubject"]) if "ResearchSubject" in tables else ():
        for one in resource.get("identifier", []):
            system = one.get("system", "")
            if system.startswith(STUDY_SYSTEM):
                studies.add(system.removeprefix(STUDY_SYSTEM))
    if len(studies) > 1:
        raise TrialOpsError(
            f"The delivery enrols its patients in {len(studies)} studies",
            where="ResearchSubject.identifier.system",
            fix="Deliver each study on its own, to stores of its own.",
        )
    for study in studies:
        bind_study(run.objects, study)


def _notes(intake: FhirIntake) -> tuple[str, ...]:
    if intake.complete:
        return ()
    return ("Something is missing or damaged; see the notes beside the documents. What is sound was loaded.",)


def keep_bytes(name: str, data: bytes, *, vault: Vault, objects: ObjectStore) -> Document:
    """Seal bytes that were received and give them as a document that is decrypted when it is read."""
    key = f"raw/{vault.id}/files/{seal_file(data, vault=vault, objects=objects)}"

    def opened() -> io.BytesIO:
        return io.BytesIO(vault.decrypt(objects.get(key), context=key))

    return Document(name, opened, problem="" if data.strip() else "EMPTY")


def _keep_evidence(run: Step, documents: list[Document], digests: dict[str, str]) -> None:
    """Seal the documents as received, large ones in parts.

    Raises:
        TrialOpsError: A document is not what was read a moment ago.
    """
    for document in documents:
        if document.path is None or document.problem:
            continue
        if document_digest(document) != digests[document.name]:
            raise TrialOpsError(
                "A document changed while it was read",
                where=str(document.path.parent),
                fix="Let the transfer finish, then run again; nothing of this delivery was loaded.",
            )
        with document.path.open("rb") as stream:
            parts = [
                seal_file(data, vault=run.vault, objects=run.objects) for data in iter(partial(stream.read, PART), b"")
            ]
        if len(parts) > 1:
            body = json.dumps({"sha256": digests[document.name], "parts": parts}).encode()
            run.objects.put(f"raw/{run.vault.id}/files/{digests[document.name]}.parts.json", body)
