"""The vault's keyring: data keys and the pseudonym key, each wrapped by the master key, as objects.

The object store holds one revision per object, `vault/keyring/<seq>.json`; the newest counts. A change is
written as the next sequence number by a conditional put, so of two processes that change the keyring at once one
succeeds and the other reads again and repeats: processes, pods and folders share one set of keys.

A revision holds only wrapped keys and dates. Its `mac`, keyed by the master key, covers the whole document, so that
an altered revision and a wrong master key are both noticed before a key is used; `previous` is the digest of the
revision before. When a key is destroyed, or the master key replaced, earlier revisions are overwritten by a stub that
keeps their digest: otherwise the destroyed key would still lie in them.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.database import canonical, utc_now
from trialops.stores.master_key import KEY_BYTES, MasterKey, to_disk
from trialops.stores.objects import ObjectStore

PREFIX = "vault/keyring"
NONCE_BYTES = 12
FORMAT = 2
_NAME = re.compile(rf"{PREFIX}/(\d{{6,}})\.json\Z")
_ATTEMPTS = 100
_RESTORE = f"Restore the objects below {PREFIX}/ from a backup."


@dataclass(frozen=True)
class KeyRecord:
    """What is known of one data key, without the key.

    Attributes:
        purpose: What it encrypts.
        version: From 1 for each purpose; never used twice.
        state: active (encrypts), retired (only decrypts) or destroyed.
        created: UTC.
        destroyed: UTC, or empty.
        reason: Of the destruction.
        actor: Who destroyed it.
    """

    purpose: str
    version: int
    state: str
    created: str
    destroyed: str
    reason: str
    actor: str


def key_of(seq: int) -> str:
    """Object key of a revision."""
    return f"{PREFIX}/{seq:06d}.json"


def newest(objects: ObjectStore) -> int:
    """Sequence number of the newest revision; 0 where there is no keyring."""
    found = (_NAME.match(key) for key in objects.list(PREFIX))
    return max((int(match[1]) for match in found if match), default=0)


def stored_id(objects: ObjectStore) -> str:
    """The keyring's id, read without a master key and so not authenticated; empty where there is no keyring."""
    seq = newest(objects)
    if not seq:
        return ""
    try:
        return str(json.loads(objects.get(key_of(seq)))["id"])
    except (KeyError, ValueError, TypeError):
        return ""


class Keyring:
    """Keys of one object store; made on first use.

    Args:
        objects: Holds the revisions.
        master_key: Wraps the keys.
        fresh_seconds: For how long a look at the newest revision counts: a key that another process destroyed is
            refused after that. 0 looks each time.
        pseudonym_key: The first pseudonym key, 32 bytes; drawn at random where it is not given.

    Raises:
        TrialOpsError: The master key is missing, wrong, damaged or open to others, or a revision was altered.
    """

    def __init__(
        self,
        objects: ObjectStore,
        master_key: MasterKey,
        *,
        fresh_seconds: float = 0.0,
        pseudonym_key: bytes | None = None,
    ) -> None:
        """See the class."""
        self._objects = objects
        self._master_key = master_key
        self._fresh_seconds = fresh_seconds
        self._looked = 0.0
        self._reading = threading.RLock()
        self._master = b""
        self._seq, self._digest = 0, ""
        self._document: dict[str, Any] = {}
        self._keys: dict[tuple[str, int], bytes] = {}
        if not newest(objects):
            self._create(pseudonym_key or secrets.token_bytes(KEY_BYTES))
        self._refresh(now=True)

    def __repr__(self) -> str:
        """The store; never a key."""
        return f"Keyring({self._objects.url!r})"

    # -- reading --------------------

    @property
    def id(self) -> str:
        """Random name of this set of keys; no change of the keys changes it."""
        return str(self._document["id"])

    @property
    def revision(self) -> int:
        """Sequence number of the revision in use."""
        return self._seq

    def active(self, purpose: str) -> tuple[int, bytes]:
        """Version and bytes of the key that encrypts for a purpose; the first call makes it."""
        version = self._active_version(purpose)
        if version is None:
            version = self._change(lambda document: self._ensure(document, purpose))
        return version, self.key(purpose, version)

    def key(self, purpose: str, version: int) -> bytes:
        """One data key.

        Raises:
            TrialOpsError: It was destroyed, or this vault never had it.
        """
        with self._reading:
            self._refresh()
            if self._entry(purpose, version) is None:
                self._refresh(now=True)  # another process may have made it a moment ago
            entry = self._entry(purpose, version)
            where = f"key {purpose} version {version}"
            if entry is None:
                raise TrialOpsError(
                    "This vault does not hold the key.",
                    where=where,
                    fix="Use the vault the data was encrypted with.",
                )
            if entry["state"] == "destroyed":
                raise TrialOpsError(
                    "The key was destroyed; what it encrypted can no longer be read by anyone.",
                    where=where,
                    fix="See the audit trail for who destroyed it, when and why.",
                )
            cached = self._keys.get((purpose, version))
            if cached is None:
                cached = self._keys[purpose, version] = _unwrap(self._master, entry["wrapped"], f"{purpose}/{version}")
            return cached

    def pseudonym_key(self) -> bytes:
        """The key of all pseudonyms and date offsets; made with the vault and never rotated."""
        with self._reading:
            self._refresh()
            cached = self._keys.get(("", 0))
            if cached is None:
                cached = self._keys["", 0] = _unwrap(self._master, self._document["pseudonyms"], "pseudonyms")
            return cached

    def records(self) -> list[KeyRecord]:
        """All data keys ever made, by purpose and version."""
        self._refresh()
        return [
            KeyRecord(
                purpose,
                int(version),
                *(str(entry.get(name, "")) for name in ("state", "created", "destroyed", "reason", "actor")),
            )
            for purpose, versions in sorted(self._document["keys"].items())
            for version, entry in sorted(versions.items(), key=lambda item: int(item[0]))
        ]

    def _entry(self, purpose: str, version: int) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._document["keys"].get(purpose, {}).get(str(version))
        return found

    # -- changing --------------------

    def rotate(self, purpose: str) -> int:
        """Retire the active key of a purpose and make the next; returns its version."""

        def change(document: dict[str, Any]) -> int:
            for entry in document["keys"].get(purpose, {}).values():
                if entry["state"] == "active":
                    entry["state"] = "retired"
            return self._ensure(document, purpose)

        return self._change(change)

    def destroy(self, purpose: str, version: int, *, reason: str, actor: str) -> None:
        """Remove a key for good, from earlier revisions too; a tombstone stays. Again changes nothing."""

        def change(document: dict[str, Any]) -> int:
            entry = document["keys"].get(purpose, {}).get(str(version))
            if entry is None:
                raise TrialOpsError(
                    "There is no such key to destroy.",
                    where=f"key {purpose} version {version}",
                    fix="List the vault's keys first.",
                )
            if entry["state"] != "destroyed":
                entry.pop("wrapped")
                entry.update(state="destroyed", destroyed=utc_now(), reason=reason, actor=actor)
            return version

        self._change(change, shred=True)
        self._keys.pop((purpose, version), None)

    def rotate_master(self, new_key: bytes | None = None) -> None:
        """Wrap every key by a new master key; the data keys and what they encrypted stay as they are.

        Args:
            new_key: 32 bytes. Required where the vault was opened with a given key; else made here where None.
        """
        with self._master_key.turn():
            self._refresh(now=True)
            self._master_key.settle(self._master)
            new = self._master_key.successor(new_key)

            def wrapped_anew(document: dict[str, Any]) -> int:
                old = _unwrap(self._master, document["pseudonyms"], "pseudonyms")
                document["pseudonyms"] = _wrap(new, old, "pseudonyms")
                for purpose, versions in document["keys"].items():
                    for version, entry in versions.items():
                        if entry["state"] != "destroyed":
                            name = f"{purpose}/{version}"
                            entry["wrapped"] = _wrap(new, _unwrap(self._master, entry["wrapped"], name), name)
                return 0

            self._store_changed(wrapped_anew, new, shred=True)
            self._master_key.succeed(new)
        self._refresh(now=True)

    def _change(self, change: Callable[[dict[str, Any]], int], *, shred: bool = False) -> int:
        """Apply a change to the newest revision and store it as the next."""
        with self._master_key.turn():
            self._refresh(now=True)
            self._master_key.settle(self._master)
            result = self._store_changed(change, None, shred=shred)
        self._refresh(now=True)
        return result

    def _store_changed(self, change: Callable[[dict[str, Any]], int], master: bytes | None, *, shred: bool) -> int:
        """Compare and swap by sequence number; whoever comes second reads again and repeats."""
        for _ in range(_ATTEMPTS):
            document = json.loads(json.dumps(self._document))
            result = change(document)
            if document == self._document:
                return result
            document |= {"seq": self._seq + 1, "previous": self._digest, "shred": shred, "at": utc_now()}
            if self._store(document, self._master if master is None else master):
                return result
            self._refresh(now=True)
        raise TrialOpsError(
            "The keyring is being changed by too many processes at once.",
            where=self._where(self._seq + 1),
            fix="Run the step again.",
        )

    def _active_version(self, purpose: str) -> int | None:
        self._refresh()
        versions = self._document["keys"].get(purpose, {})
        return next((int(version) for version, entry in versions.items() if entry["state"] == "active"), None)

    def _ensure(self, document: dict[str, Any], purpose: str) -> int:
        """The active version of a purpose in a document about to be stored, added where there is none."""
        versions = document["keys"].setdefault(purpose, {})
        for version, entry in versions.items():
            if entry["state"] == "active":
                return int(version)
        version = max((int(known) for known in versions), default=0) + 1
        wrapped = _wrap(self._master, secrets.token_bytes(KEY_BYTES), f"{purpose}/{version}")
        versions[str(version)] = {"state": "active", "created": utc_now(), "wrapped": wrapped}
        return version

    # -- the objects --------------------

    def _create(self, pseudonym_key: bytes) -> None:
        """Make the keys; of several processes that try at once the first makes them, others find them."""
        with self._master_key.turn():
            if newest(self._objects):
                return
            master = self._master_key.first()
            made = utc_now()
            document = {
                "format": FORMAT,
                "seq": 1,
                "previous": "",
                "shred": False,
                "at": made,
                "id": secrets.token_hex(8),
                "created": made,
                "keys": {},
                "pseudonyms": _wrap(master, pseudonym_key, "pseudonyms"),
            }
            self._store(document, master)

    def _store(self, document: dict[str, Any], master: bytes) -> bool:
        signed = {**document, "mac": _mac(master, document)}
        data = json.dumps(signed, indent=1, sort_keys=True).encode("ascii") + b"\n"
        return self._put(document["seq"], data, if_absent=True)

    def _put(self, seq: int, data: bytes, *, if_absent: bool) -> bool:
        """Write a revision; in a folder it is its owner's alone, and on the disk before a key of it is used."""
        if "://" in self._objects.url:
            return self._objects.put(key_of(seq), data, if_absent=if_absent)
        path = Path(self._objects.url) / key_of(seq)
        path.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        written = self._objects.put(key_of(seq), data, if_absent=if_absent)
        if written:
            os.chmod(path, 0o600)
            to_disk(path)
            to_disk(path.parent)
        return written

    def _refresh(self, *, now: bool = False) -> None:
        """Take over a newer revision where another process has written one."""
        with self._reading:
            if not now and self._seq and time.monotonic() - self._looked < self._fresh_seconds:
                return
            if not now and self._seq and not self._objects.exists(key_of(self._seq + 1)):
                self._looked = time.monotonic()
                return
            # A second and third look: another process may be rotating the master key or shredding just now.
            for _ in range(3):
                seq = newest(self._objects)
                if seq < max(self._seq, 1):
                    raise TrialOpsError("The vault's keyring is gone.", where=self._where(self._seq or 1), fix=_RESTORE)
                if seq == self._seq or self._load(seq):
                    self._looked = time.monotonic()
                    return
        raise TrialOpsError(
            "The master key does not open this vault, or its keyring was altered.",
            where=self._where(seq),
            fix=f"Use the master key the vault was made with (TRIALOPS_VAULT_KEY or master.key). {_RESTORE}",
        )

    def _load(self, seq: int) -> bool:
        """Take over a revision if a master key at hand authenticates it."""
        data, document = self._read(seq)
        mac = str(document.pop("mac", ""))
        for master in self._master_key.candidates():
            if hmac.compare_digest(_mac(master, document).encode(), mac.encode()) and document["seq"] == seq:
                break
        else:
            return False
        self._check_predecessor(document)
        self._master, self._document = master, document
        self._seq, self._digest = seq, sha256(data).hexdigest()
        return True

    def _check_predecessor(self, document: dict[str, Any]) -> None:
        """The revision before must be the one this was made from; what had to be shredded must be."""
        seq = int(document["seq"])
        if seq == 1:
            return
        data, before = self._read(seq - 1)
        stub = "replaced" in before
        if (before["replaced"] if stub else sha256(data).hexdigest()) != document["previous"]:
            raise TrialOpsError("A revision of the keyring was altered.", where=self._where(seq - 1), fix=_RESTORE)
        # Oldest first: once the last one is a stub all are, also after a process was killed in between.
        if document["shred"] and not stub:
            for earlier in range(1, seq):
                data, before = self._read(earlier)
                if "replaced" not in before:
                    stub_of = {"format": FORMAT, "seq": earlier, "replaced": sha256(data).hexdigest()}
                    self._put(earlier, canonical(stub_of).encode("ascii") + b"\n", if_absent=False)

    def _read(self, seq: int) -> tuple[bytes, dict[str, Any]]:
        try:
            data = self._objects.get(key_of(seq))
        except KeyError:
            raise TrialOpsError("A revision of the keyring is missing.", where=self._where(seq), fix=_RESTORE) from None
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise TrialOpsError("The vault's keyring cannot be read.", where=self._where(seq), fix=_RESTORE)
        return data, document

    def _where(self, seq: int) -> str:
        return f"{self._objects.url}/{key_of(seq)}"


def _mac(master: bytes, document: dict[str, Any]) -> str:
    key = hmac.digest(master, b"trialops keyring mac", sha256)
    return hmac.digest(key, canonical(document).encode("ascii"), sha256).hex()


def _wrap(master: bytes, key: bytes, name: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(master).encrypt(nonce, key, f"trialops key {name}".encode())).decode("ascii")


def _unwrap(master: bytes, wrapped: str, name: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data = base64.b64decode(wrapped)
    try:
        return AESGCM(master).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], f"trialops key {name}".encode())
    except InvalidTag as error:
        raise TrialOpsError("A wrapped key was altered.", where=f"key {name}", fix=_RESTORE) from error
