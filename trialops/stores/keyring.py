"""The vault's key file: data keys and the pseudonym key, each wrapped by the master key.

It is changed under a lock and replaced atomically.
`keyring.json` holds only wrapped keys and dates. Its `mac`, keyed by the master key, covers the whole
document, so that an altered key file and a wrong master key are both noticed before a key is used.
"""

from __future__ import annotations

import base64
import fcntl
import hmac
import json
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.database import canonical, utc_now

KEY_BYTES = 32
NONCE_BYTES = 12


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


class Keyring:
    """Keys of one vault folder.

    Args:
        folder: Created, closed to others, where it does not exist.
        master_key: 32 bytes; None for a key file in the folder, made on first use.

    Raises:
        TrialOpsError: The master key is missing, wrong or not 32 bytes, a key file is open to others, or the
            key file was altered.
    """

    def __init__(self, folder: Path, master_key: bytes | None = None) -> None:
        """See the class."""
        if master_key is not None and len(master_key) != KEY_BYTES:
            raise TrialOpsError(
                f"A vault's master key has {KEY_BYTES} bytes, this one {len(master_key)}.",
                where="master_key",
                fix="Make one of 32 random bytes, for example with secrets.token_bytes(32).",
            )
        self._folder = Path(folder)
        self._given = master_key
        self._seen: tuple[int, int, int] | None = None
        self._reading = threading.RLock()
        self._master = b""
        self._document: dict[str, Any] = {}
        self._keys: dict[tuple[str, int], bytes] = {}
        if not self._file.exists():
            self._create()
        self._refresh()

    def __repr__(self) -> str:
        """The folder; never a key."""
        return f"Keyring({str(self._folder)!r})"

    @property
    def _file(self) -> Path:
        return self._folder / "keyring.json"

    @property
    def _master_file(self) -> Path:
        return self._folder / "master.key"

    @property
    def _next_master_file(self) -> Path:
        """The new master key while `rotate_master` is between its two renames."""
        return self._folder / "master.key.next"

    # -- reading --------------------

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
            entry = self._document["keys"].get(purpose, {}).get(str(version))
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
        """Remove a key for good; a tombstone stays. Destroying it again changes nothing."""

        def change(document: dict[str, Any]) -> None:
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

        self._change(change)
        self._keys.pop((purpose, version), None)

    def rotate_master(self, new_key: bytes | None = None) -> None:
        """Wrap every key by a new master key; the data keys and what they encrypted stay as they are.

        Args:
            new_key: 32 bytes. Required where the vault was opened with a given key; else made here where
                None.
        """
        if new_key is None and self._given is not None:
            raise TrialOpsError(
                "The master key of this vault is kept outside it, so the new one must be given too.",
                where="master_key",
                fix="Pass the new key, and set it as the vault's master key afterwards.",
            )
        new = secrets.token_bytes(KEY_BYTES) if new_key is None else new_key
        if len(new) != KEY_BYTES:
            raise TrialOpsError(
                f"A vault's master key has {KEY_BYTES} bytes.",
                where="master_key",
                fix="Pass 32 random bytes.",
            )
        with self._locked():
            self._refresh()
            self._settle_master_file()
            document = json.loads(json.dumps(self._document))
            document["pseudonyms"] = _wrap(
                new, _unwrap(self._master, document["pseudonyms"], "pseudonyms"), "pseudonyms"
            )
            for purpose, versions in document["keys"].items():
                for version, entry in versions.items():
                    if entry["state"] != "destroyed":
                        name = f"{purpose}/{version}"
                        entry["wrapped"] = _wrap(new, _unwrap(self._master, entry["wrapped"], name), name)
            if self._given is None:
                _replace(self._next_master_file, base64.b64encode(new) + b"\n")
            self._store(document, new)
            if self._given is None:
                os.replace(self._next_master_file, self._master_file)
            else:
                self._given = new
        self._refresh()

    # -- the file --------------------

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

    def _create(self) -> None:
        """Make the keys; of several processes that try at once the first makes them, others find them."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            if self._file.exists():
                return
            if self._given is None and not self._master_file.exists():
                _replace(self._master_file, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            master = self._given if self._given is not None else _read_master(self._master_file)
            document = {
                "format": 1,
                "id": secrets.token_hex(8),
                "created": utc_now(),
                "keys": {},
                "pseudonyms": _wrap(master, secrets.token_bytes(KEY_BYTES), "pseudonyms"),
            }
            self._store(document, master)

    def _change(self, change: Callable[[dict[str, Any]], Any]) -> Any:
        """Apply a change to the newest document and store it, one process at a time."""
        with self._locked():
            self._refresh()
            self._settle_master_file()
            document = json.loads(json.dumps(self._document))
            result = change(document)
            if document != self._document:
                self._store(document, self._master)
        self._refresh()
        return result

    def _refresh(self) -> None:
        """Read the key file again where another process replaced it."""
        with self._reading:
            # A second and third look: another process that rotates the master key renames two files.
            for _ in range(3):
                try:
                    info = os.stat(self._file)
                    seen = (info.st_mtime_ns, info.st_ino, info.st_size)
                    if seen == self._seen:
                        return
                    data = self._file.read_bytes()
                except FileNotFoundError as error:
                    raise TrialOpsError(
                        "The vault's key file is gone.",
                        where=str(self._file),
                        fix="Restore it from a backup.",
                    ) from error
                if self._open(data):
                    self._seen = seen
                    return
        raise TrialOpsError(
            "The master key does not open this vault, or its key file was altered.",
            where=str(self._file),
            fix="Use the master key the vault was made with, or restore the key file from a backup.",
        )

    def _open(self, data: bytes) -> bool:
        """Take over a key file's content if a master key at hand authenticates it."""
        try:
            document = json.loads(data)
            mac = str(document.pop("mac"))
        except (ValueError, KeyError, AttributeError) as error:
            raise TrialOpsError(
                "The vault's key file cannot be read.", where=str(self._file), fix="Restore it from a backup."
            ) from error
        for master in self._masters():
            if hmac.compare_digest(_mac(master, document).encode(), mac.encode()):
                self._master, self._document = master, document
                return True
        return False

    def _masters(self) -> Iterator[bytes]:
        """Master keys to try: the given one, or the file's and, after a rotation cut short, its successor."""
        if self._given is not None:
            yield self._given
            return
        if not self._master_file.exists():
            raise TrialOpsError(
                "The vault has keys but no master key.",
                where=str(self._master_file),
                fix="Restore master.key from a backup, or give the key in the settings.",
            )
        yield _read_master(self._master_file)
        with suppress(FileNotFoundError):
            yield _read_master(self._next_master_file)

    def _settle_master_file(self) -> None:
        """Finish or undo a master key rotation cut short between its renames. Call under the lock."""
        if self._given is not None or not self._next_master_file.exists():
            return
        if hmac.compare_digest(self._master, _read_master(self._next_master_file)):
            os.replace(self._next_master_file, self._master_file)
        else:
            self._next_master_file.unlink()

    def _store(self, document: dict[str, Any], master: bytes) -> None:
        signed = {**document, "mac": _mac(master, document)}
        _replace(self._file, json.dumps(signed, indent=1, sort_keys=True).encode("ascii") + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self._folder / "keyring.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _read_master(path: Path) -> bytes:
    # Others only: a Kubernetes volume with an fsGroup makes its files readable to the pod's group.
    if stat.S_IMODE(os.stat(path).st_mode) & 0o007:
        raise TrialOpsError(
            "The vault's master key can be read by every user.", where=str(path), fix=f"chmod 600 {path}"
        )
    try:
        key = base64.b64decode(path.read_bytes().strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise TrialOpsError("The vault's master key file is damaged.", where=str(path), fix="Restore it from a backup.")
    return key


def _replace(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all, and on the disk before this returns."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
        raise TrialOpsError(
            "A wrapped key was altered.", where=f"key {name}", fix="Restore keyring.json from a backup."
        ) from error
