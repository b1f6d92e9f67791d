"""Sealed tables: identifiable data at rest, encrypted by the vault, immutable, addressed by content.

The raw zone holds two kinds of object: the files as they were received (evidence) and the tables read from them.
Neither is ever in the clear outside a running step. Their keys begin with the vault's id: what one vault sealed is
nothing to another.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import table_digest
from trialops.stores.objects import ObjectStore

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.vault import Vault

PURPOSE = "raw"


@dataclass(frozen=True)
class Sealed:
    """One sealed table: object key, rows, and the digest of its content in the clear."""

    key: str
    rows: int
    digest: str


def seal_file(data: bytes, *, vault: Vault, objects: ObjectStore) -> str:
    """Keep a received file for good; returns its SHA-256. The same file twice is kept once."""
    digest = hashlib.sha256(data).hexdigest()
    _keep(f"raw/{vault.id}/files/{digest}", lambda: data, vault, objects)
    return digest


def unseal_file(digest: str, *, vault: Vault, objects: ObjectStore) -> bytes:
    """A file that was kept, by its SHA-256.

    Raises:
        TrialOpsError: When it is missing, was altered, or its key was destroyed.
    """
    key = f"raw/{vault.id}/files/{digest}"
    try:
        return vault.decrypt(objects.get(key), context=key)
    except KeyError:
        raise TrialOpsError("A sealed file is missing", where=key, fix="Run the intake again.") from None


def seal(frames: Mapping[str, pl.DataFrame], *, vault: Vault, objects: ObjectStore) -> dict[str, Any]:
    """Encrypt tables and return the document that names them."""
    sealed = {}
    for name, frame in sorted(frames.items()):
        digest = table_digest(frame.to_arrow())
        key = f"raw/{vault.id}/tables/{digest}"
        _keep(key, partial(_ipc, frame), vault, objects)
        sealed[name] = {"key": key, "rows": frame.height, "digest": digest}
    total = hashlib.sha256("\n".join(f"{n}={s['digest']}" for n, s in sealed.items()).encode()).hexdigest()
    return {"kind": "sealed", "digest": total, "tables": sealed}


def _keep(key: str, content: Callable[[], bytes], vault: Vault, objects: ObjectStore) -> None:
    """Keep content under its key; what is there is trusted only if it still opens: its key may have been destroyed."""
    try:
        if vault.opens(objects.get(key), context=key):
            return
    except KeyError:
        pass
    objects.put(key, vault.encrypt(PURPOSE, content(), context=key))


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


def unseal(document: Mapping[str, Any], *, vault: Vault, objects: ObjectStore) -> dict[str, pl.DataFrame]:
    """Decrypt the tables a document names, each checked against its digest.

    Raises:
        TrialOpsError: When the document is of another kind, or an object is missing or altered.
    """
    import polars as pl

    if document.get("kind") != "sealed":
        raise TrialOpsError("The input holds no sealed tables", fix="Connect the output of an intake step.")
    frames = {}
    for name, item in document["tables"].items():
        try:
            data = vault.decrypt(objects.get(item["key"]), context=item["key"])
        except KeyError:
            raise TrialOpsError("A sealed table is missing", where=item["key"], fix="Run the intake again.") from None
        frame = pl.read_ipc(io.BytesIO(data))
        if table_digest(frame.to_arrow()) != item["digest"]:
            raise TrialOpsError("A sealed table is not what was sealed", where=item["key"])
        frames[name] = frame
    return frames
