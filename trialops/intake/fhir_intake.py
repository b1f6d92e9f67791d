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
from trialops.intake.delivery import find_kind
from trialops.intake.fhir_account import FhirIntake, merge_delivery
from trialops.intake.fhir_delivery import read_documents
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


def open_zone(run: Step) -> RawZone:
    """The raw zone of FHIR sources in the stores of a step."""
    return RawZone(run.vault, run.objects, "fhir")


def made_from(folder: Path, held: Held) -> str:
    """Digest of everything the result of reading a folder depends on: the documents and what was held."""
    documents, others = find_documents(folder)
    facts = [delivery_digest(documents), *others, held.digest, validator_version()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def sources(run: Step, source: str, server: str) -> tuple[Path | None, str]:
    """Folder and server that two parameters name.

    Args:
        run: The step; its settings know FHIR_ENDPOINT.
        source: Folder of a delivery, the base URL of a server, or empty.
        server: Base URL; or a folder, which is then read instead; empty: FHIR_ENDPOINT where that is set; "none": no
            server.

    Returns:
        The folder that holds FHIR documents, or None; the server's URL, or empty.

    Raises:
        TrialOpsError: There is neither.
    """
    if server and server != "none" and "://" not in server:
        source, server = server, "none"
    if "://" in source:
        return None, source
    url = "" if server == "none" else server or run.settings.fhir_endpoint
    folder = find_kind(Path(source), "fhir") if source and (not url or Path(source).is_dir()) else None
    if folder is None and not url:
        raise TrialOpsError(
            "The delivery folder holds no FHIR document.",
            where=source,
            fix="Give the folder that holds .json or .ndjson files, or a server in FHIR_ENDPOINT.",
        )
    return folder, url


def ingest(run: Step, folder: Path | None, server: str = "", since: str = "") -> Ingested:
    """Read a folder and ask a server; seal what they give and merge it; then, and only then, move the cursor.

    Args:
        run: The step.
        folder: Folder of documents, or None.
        server: Base URL, or empty; a bulk export with "/$export", "/Patient/$export" or "/Group/<id>/$export" at its
            end.
        since: For the server: FHIR instant or date to ask from; empty: where the last complete pull began; "all":
            everything.

    Raises:
        TrialOpsError: A manifest cannot be followed, a file changed while it was read, the server refuses or stays
            unavailable, or the delivery is of another study.
    """
    zone = open_zone(run)
    documents, others = find_documents(folder) if folder else ([], [])
    pulled, cursors, notes = Pull(), {}, []
    if server:
        place = hashlib.sha256(check_endpoint(server).encode()).hexdigest()[:16]
        wanted = "" if since == "all" else check_since(since) or zone.held().cursors.get(place, "")
        pulled = _ask(run, server, wanted)
        run.audit("data.pull", "FHIR_ENDPOINT", wanted or "everything", pages=pulled.pages)
        cursors = {place: pulled.cursor} if pulled.cursor else {}
        notes.append(f"{pulled.pages} pages came from the server" + (f", changed since {wanted}." if wanted else "."))
        if pulled.waits:
            notes.append(f"The server was busy: {pulled.waits:.0f} s were spent waiting for it.")
    intake, held = _merge(run, zone, documents, others, pulled, cursors)
    if not intake.complete:
        notes.append("Something is missing or damaged; see the notes beside the documents. What is sound was loaded.")
    waiting = _about_nobody_held(zone, held, intake)
    if waiting:
        notes.append(f"{waiting:,} resources are about patients that have not been delivered; they are kept and wait.")
    names = [name for name, there in (("delivery folder", folder), ("FHIR server", server)) if there]
    return Ingested(intake, held, " and ".join(names), tuple(notes))


def _ask(run: Step, server: str, since: str) -> Pull:
    base, operation = _operation(server)
    secret = run.settings.fhir_token
    token = secret.get_secret_value() if secret else ""
    client = FhirClient(base, token=token, ca=run.settings.fhir_ca, say=run.progress)
    keep = partial(keep_bytes, vault=run.vault, objects=run.objects)
    try:
        if operation:
            return export(client, keep, path=operation, since=since, progress=run.progress)
        return pull(client, keep, since=since, progress=run.progress)
    finally:
        client.close()


def _about_nobody_held(zone: RawZone, held: Held, intake: FhirIntake) -> int:
    """Resources of the types that changed whose patient is not held: not an error, deliveries come in any order."""
    import polars as pl

    people = zone.read(held, {"Patient"}).get("Patient")
    known = people["id"] if people is not None else pl.Series([], dtype=pl.String)
    return sum(
        table.filter(pl.col("subject").is_not_null() & ~pl.col("subject").is_in(known.implode())).height
        for table in intake.merged.changed.values()
    )


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
    pulled: Pull,
    cursors: dict[str, str],
) -> tuple[FhirIntake, Held]:
    """Read, seal, commit; read again where another run has committed in between."""
    for _ in range(TRIES):
        held = zone.held()
        delivery = read_documents(
            [*documents, *pulled.documents],
            held=held,
            zone=zone,
            others=others,
            promised=pulled.promises,
            problems=pulled.problems,
            progress=run.progress,
        )
        intake = merge_delivery(delivery, held, zone)
        _same_study(run, delivery.tables)
        if documents:
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
