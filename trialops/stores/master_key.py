"""The master key that wraps a vault's keys: given by the settings, or a file its owner alone can read."""

from __future__ import annotations

import base64
import fcntl
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

from trialops.errors import TrialOpsError

KEY_BYTES = 32


class MasterKey(Protocol):
    """What a keyring asks of its master key."""

    def candidates(self) -> Iterator[bytes]:
        """Keys that may open the keyring, likeliest first."""
        ...

    def first(self) -> bytes:
        """The key of a keyring that is being made."""
        ...

    def turn(self) -> AbstractContextManager[object]:
        """Held while the keyring is changed."""
        ...

    def settle(self, current: bytes) -> None:
        """Finish or undo a rotation that was cut short; `current` is the key that opens the keyring."""
        ...

    def successor(self, new: bytes | None) -> bytes:
        """The next master key, kept where a crash cannot lose it; before the keyring is stored under it."""
        ...

    def succeed(self, new: bytes) -> None:
        """Make the successor the master key; after the keyring was stored under it."""
        ...


class GivenKey:
    """A master key from a secret store; never written anywhere.

    Args:
        key: 32 bytes.

    Raises:
        TrialOpsError: It has another length.
    """

    def __init__(self, key: bytes) -> None:
        """See the class."""
        self._key = _checked(key)

    def __repr__(self) -> str:
        """Where it comes from; never the key."""
        return "GivenKey()"

    def candidates(self) -> Iterator[bytes]:
        """The key given."""
        yield self._key

    def first(self) -> bytes:
        """The key given."""
        return self._key

    def turn(self) -> AbstractContextManager[object]:
        """Nothing to hold: the object store's conditional put orders the changes."""
        return nullcontext()

    def settle(self, current: bytes) -> None:
        """Nothing was left half done."""

    def successor(self, new: bytes | None) -> bytes:
        """The new key, which must be given as well.

        Raises:
            TrialOpsError: It is not.
        """
        if new is None:
            raise TrialOpsError(
                "The master key of this vault is kept outside it, so the new one must be given too.",
                where="master_key",
                fix="Pass the new key, and set it as the vault's master key afterwards.",
            )
        return _checked(new)

    def succeed(self, new: bytes) -> None:
        """Use the new key from now on."""
        self._key = new


class KeyFile:
    """The embedded default: `master.key` (mode 600) in a folder closed to others, made on first use.

    Args:
        folder: Created where it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        """See the class."""
        self._folder = Path(folder)

    def __repr__(self) -> str:
        """The folder; never the key."""
        return f"KeyFile({str(self._folder)!r})"

    @property
    def _file(self) -> Path:
        return self._folder / "master.key"

    @property
    def _next(self) -> Path:
        """The new key while a rotation is between its two renames."""
        return self._folder / "master.key.next"

    def candidates(self) -> Iterator[bytes]:
        """The file's key and, after a rotation cut short, its successor.

        Raises:
            TrialOpsError: There is no file, it is damaged, or every user can read it.
        """
        if not self._file.exists():
            raise TrialOpsError(
                "The vault has keys but no master key.",
                where=str(self._file),
                fix="Restore master.key from a backup, or set TRIALOPS_VAULT_KEY to the key the vault was made with.",
            )
        yield _read(self._file)
        with suppress(FileNotFoundError):
            yield _read(self._next)

    def first(self) -> bytes:
        """The file's key; the file is made where there is none."""
        if not self._file.exists():
            _replace(self._file, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        return _read(self._file)

    def turn(self) -> AbstractContextManager[object]:
        """A lock: two files, key and keyring, change together."""
        return self._locked()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self._folder / "master.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def settle(self, current: bytes) -> None:
        """Keep the successor where the keyring is stored under it already, drop it otherwise."""
        if not self._next.exists():
            return
        if hmac.compare_digest(current, _read(self._next)):
            os.replace(self._next, self._file)
        else:
            self._next.unlink()

    def successor(self, new: bytes | None) -> bytes:
        """The new key, or one made here, kept beside the present one."""
        key = secrets.token_bytes(KEY_BYTES) if new is None else _checked(new)
        _replace(self._next, base64.b64encode(key) + b"\n")
        return key

    def succeed(self, new: bytes) -> None:
        """Put the successor in the present key's place."""
        os.replace(self._next, self._file)


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise TrialOpsError(
            f"A vault's master key has {KEY_BYTES} bytes, this one {len(key)}.",
            where="master_key",
            fix="Make one of 32 random bytes, for example with secrets.token_bytes(32).",
        )
    return key


def _read(path: Path) -> bytes:
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
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Return only when a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
