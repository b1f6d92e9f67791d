"""A backup at rest: encrypted parts in the object store, and a sealed manifest that is written last.

A part's key and number are bound to its content by the encryption, the parts to one another by their digests in the
manifest, and the manifest to the vault by a seal. Whatever is altered, cut off, left out or moved is found.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.chain_log import ChainLog, IntegrityError
from trialops.stores.database import canonical

if TYPE_CHECKING:
    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

ROOT, PURPOSE, MANIFEST = "backups", "backup", "manifest.json"
_NAME = re.compile(r"^[A-Za-z0-9_.-]+$")


@dataclass(frozen=True)
class Backup:
    """One finished backup.

    Attributes:
        database: Name of the database.
        id: Time of its start, and a mark that tells two of the same second apart.
        body: Manifest: kind, method, versions, moment, parts, digest, contents, audit head.
        manifest: SHA-256 of the manifest's body.
    """

    database: str
    id: str
    body: Mapping[str, Any]
    manifest: str

    @property
    def prefix(self) -> str:
        """Prefix of its keys."""
        return f"{ROOT}/{self.database}/{self.id}"

    @property
    def started(self) -> str:
        """The moment whose state it holds, UTC."""
        return str(self.body["started"])

    @property
    def size(self) -> int:
        """Bytes at rest."""
        return sum(int(part["size"]) for part in self.body["parts"])


def write_parts(
    stream: Iterable[bytes], prefix: str, part_bytes: int, *, vault: Vault, objects: ObjectStore
) -> tuple[list[dict[str, Any]], str, int]:
    """Encrypt a stream part by part; nothing of it is ever in the clear on a disk.

    Returns:
        The parts (key, bytes, SHA-256 at rest), SHA-256 and bytes of the stream in the clear.
    """
    whole, length = hashlib.sha256(), 0
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(_pieces(stream, part_bytes), start=1):
        whole.update(piece)
        length += len(piece)
        key = f"{prefix}/part-{number:05d}"
        sealed = vault.encrypt(PURPOSE, piece, context=key)
        objects.put(key, sealed)
        parts.append({"key": key, "size": len(sealed), "sha256": hashlib.sha256(sealed).hexdigest()})
    return parts, whole.hexdigest(), length


def _pieces(stream: Iterable[bytes], size: int) -> Iterator[bytes]:
    held = bytearray()
    for data in stream:
        held += data
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def finish(database: str, id_: str, body: Mapping[str, Any], *, vault: Vault, objects: ObjectStore) -> Backup:
    """Write the manifest; before it is there, there is no backup."""
    backup = Backup(database, id_, body, hashlib.sha256(canonical(dict(body)).encode()).hexdigest())
    key = f"{backup.prefix}/{MANIFEST}"
    seal = base64.b64encode(vault.encrypt(PURPOSE, backup.manifest.encode(), context=key)).decode()
    text = json.dumps({"body": dict(body), "seal": seal}, indent=1, sort_keys=True).encode()
    if not objects.put(key, text, if_absent=True):
        raise TrialOpsError("A backup of this name is there already", where=key, fix="Run the step again.")
    return backup


def backups(objects: ObjectStore, database: str) -> list[Backup]:
    """Finished backups of a database, oldest first; one whose manifest is no manifest has an empty body."""
    found = []
    for key in objects.list(f"{ROOT}/{database}"):
        if not key.endswith(f"/{MANIFEST}"):
            continue
        id_ = key.split("/")[-2]
        try:
            body = json.loads(objects.get(key))["body"]
            started, parts, kind = body["started"], body["parts"], body["kind"]
            whole = isinstance(started, str) and isinstance(parts, list) and isinstance(kind, str)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            body = {"started": "", "parts": [], "kind": "unreadable"}
        found.append(Backup(database, id_, body, hashlib.sha256(canonical(body).encode()).hexdigest()))
    return sorted(found, key=lambda backup: backup.id)


def databases(objects: ObjectStore) -> list[str]:
    """Databases that have backups."""
    return sorted({key.split("/")[1] for key in objects.list(ROOT) if key.count("/") >= 2})


def find(objects: ObjectStore, database: str, id_: str = "") -> Backup:
    """A backup by its id; the newest where none is given.

    Raises:
        TrialOpsError: There is none.
    """
    known = backups(objects, database)
    if id_ and not _NAME.match(id_):
        raise TrialOpsError("This is no name of a backup", where="backup", fix="List them: trialops database list")
    chosen = [one for one in known if not id_ or one.id == id_]
    if not chosen:
        raise TrialOpsError(
            f"There is no backup {id_}".rstrip(),
            where=f"{ROOT}/{database}",
            fix="List them: trialops database list; make one: trialops database backup",
        )
    return chosen[-1]


def check_manifest(backup: Backup, *, vault: Vault, objects: ObjectStore) -> None:
    """Whether a backup's manifest is the one that this vault sealed.

    Raises:
        IntegrityError: It is not.
    """
    key = f"{backup.prefix}/{MANIFEST}"
    try:
        seal = base64.b64decode(json.loads(objects.get(key))["seal"], validate=True)
        sealed = vault.decrypt(seal, context=key).decode()
    except (KeyError, ValueError, TypeError, TrialOpsError):
        raise IntegrityError(
            "The manifest's seal cannot be opened: it was altered, or another key sealed it", where=key
        ) from None
    if sealed != backup.manifest:
        raise IntegrityError("The manifest is not the one that was sealed", where=key)


def check_parts(backup: Backup, objects: ObjectStore) -> int:
    """Whether every part is there as it was written; returns the bytes looked at.

    Raises:
        IntegrityError: Names the first that is not.
    """
    total = 0
    for part in backup.body["parts"]:
        try:
            data = objects.get(str(part["key"]))
        except KeyError:
            raise IntegrityError("A part is missing", where=str(part["key"])) from None
        if len(data) != int(part["size"]):
            raise IntegrityError(f"A part has {len(data)} bytes instead of {int(part['size'])}", where=str(part["key"]))
        if hashlib.sha256(data).hexdigest() != part["sha256"]:
            raise IntegrityError("A part was altered", where=str(part["key"]))
        total += len(data)
    return total


def stream(backup: Backup, *, vault: Vault, objects: ObjectStore) -> Iterator[bytes]:
    """What was backed up, in the clear, part by part.

    Raises:
        IntegrityError: A part is missing, was altered, or another key sealed it; or the whole is not what it was.
    """
    whole, length = hashlib.sha256(), 0
    for part in backup.body["parts"]:
        key = str(part["key"])
        try:
            piece = vault.decrypt(objects.get(key), context=key)
        except KeyError:
            raise IntegrityError("A part is missing", where=key) from None
        except TrialOpsError:
            raise IntegrityError(
                "A part cannot be opened: it was altered, or another key sealed it", where=key
            ) from None
        whole.update(piece)
        length += len(piece)
        yield piece
    if whole.hexdigest() != backup.body["sha256"] or length != int(backup.body["bytes"]):
        raise IntegrityError("The parts together are not what was backed up", where=backup.prefix)


def checks(objects: ObjectStore, backup: Backup) -> ChainLog:
    """Every verification of a backup, in a chain."""
    return ChainLog(objects, f"{backup.prefix}/checks", "verifications of a backup")


def last_check(objects: ObjectStore, backup: Backup) -> Mapping[str, Any] | None:
    """The newest verification; None before the first, or where the chain of them is broken."""
    try:
        links = checks(objects, backup).links()
    except IntegrityError:
        return None
    return links[-1].body if links else None
