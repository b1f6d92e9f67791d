"""Sealed bytes and sealed files: AES-256-GCM under a named key, bound to a context.

Header and context are authenticated, the context is not stored.

Layout, integers big-endian:

    magic "TOV" kind(1: "B" blob, "F" file) | length of purpose (1) | purpose | key version (4) |
    blob:  nonce (12) | ciphertext and tag
    file:  salt (32) | frame size (4) | frames

A file's frames are encrypted under a key of its own, HKDF of the data key and the salt. Frame i has the nonce
i (11 bytes) | last (1 byte), so that a frame dropped, moved, repeated or appended fails authentication; this
is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015, "Online authenticated-encryption and its
nonce-reuse misuse-resistance").
"""

from __future__ import annotations

import os
import re
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trialops.errors import TrialOpsError

BLOB, FILE = b"TOVB", b"TOVF"
FRAME_BYTES = 4 * 1024 * 1024
NONCE_BYTES, TAG_BYTES, SALT_BYTES = 12, 16, 32
_LARGEST_FRAME = 64 * 1024 * 1024
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")

Key = Callable[[str, int], bytes]
"""Looks a data key up by purpose and version."""


@dataclass(frozen=True)
class Header:
    """What a sealed blob or file says about itself in the clear."""

    kind: bytes
    purpose: str
    version: int

    def pack(self) -> bytes:
        """The header's bytes."""
        name = self.purpose.encode("ascii")
        return self.kind + bytes([len(name)]) + name + struct.pack(">I", self.version)


def check_purpose(purpose: str) -> None:
    """Refuse a purpose that is not a short lower-case name.

    Raises:
        TrialOpsError: It is not.
    """
    if not _PURPOSE.match(purpose):
        raise TrialOpsError(
            "A key's purpose is a lower-case name of at most 63 letters, digits and ._- characters.",
            where="vault",
            fix='Use a name such as "raw" or "pseudonym-links".',
        )


def _unreadable(where: str = "vault") -> TrialOpsError:
    return TrialOpsError(
        "The data cannot be decrypted: it was altered, cut short, or belongs to another context.",
        where=where,
        fix="Read it from its source again, or restore it from a backup.",
    )


def read_header(data: bytes, kind: bytes) -> tuple[Header, int]:
    """Parse a header.

    Args:
        data: At least the first 72 bytes, or all of them.
        kind: BLOB or FILE.

    Returns:
        The header and its length.

    Raises:
        TrialOpsError: The data is not sealed, or in the other form.
    """
    if data[:4] != kind:
        raise TrialOpsError(
            "The data is not in the vault's format.",
            where="vault",
            fix="Use decrypt for bytes from encrypt, decrypt_file for files.",
        )
    end = 5 + (data[4] if len(data) > 4 else 0)
    name = data[5:end].decode("ascii", errors="replace")
    if len(data) < end + 4 or not _PURPOSE.match(name):
        raise _unreadable()
    return Header(kind, name, struct.unpack(">I", data[end : end + 4])[0]), end + 4


def seal(data: bytes, header: Header, key: bytes, context: str) -> bytes:
    """Encrypt bytes; `context` must be given again to open them."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(NONCE_BYTES)
    head = header.pack() + nonce
    return head + AESGCM(key).encrypt(nonce, data, head + context.encode())


def unseal(blob: bytes, key: Key, context: str) -> bytes:
    """Decrypt bytes.

    Raises:
        TrialOpsError: They were altered, the context differs, or the key is gone.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header, start = read_header(blob, BLOB)
    body = start + NONCE_BYTES
    if len(blob) < body + TAG_BYTES:
        raise _unreadable()
    try:
        return AESGCM(key(header.purpose, header.version)).decrypt(
            blob[start:body], blob[body:], blob[:body] + context.encode()
        )
    except InvalidTag as error:
        raise _unreadable() from error


def seal_file(
    source: Path,
    target: Path,
    header: Header,
    key: bytes,
    context: str,
    progress: Callable[[str, float], None] | None = None,
) -> None:
    """Encrypt a file frame by frame; the target appears whole or not at all."""
    salt = secrets.token_bytes(SALT_BYTES)
    head = header.pack() + salt + struct.pack(">I", FRAME_BYTES)
    cipher = _file_cipher(key, salt)
    size = max(os.path.getsize(source), 1)
    with open(source, "rb") as plain, _Atomic(target) as sealed:
        sealed.write(head)
        index, frame = 0, plain.read(FRAME_BYTES)
        while True:
            following = plain.read(FRAME_BYTES)
            sealed.write(cipher.encrypt(_nonce(index, last=not following), frame, head + context.encode()))
            if progress is not None:
                progress(f"encrypting {source.name}", min(1.0, (index + 1) * FRAME_BYTES / size))
            if not following:
                return
            index, frame = index + 1, following


def unseal_file(
    source: Path, target: Path, key: Key, context: str, progress: Callable[[str, float], None] | None = None
) -> None:
    """Decrypt a file frame by frame; nothing appears at the target unless all of it is authentic.

    Raises:
        TrialOpsError: A frame was altered, dropped, moved or appended, the context differs, or the key is
            gone.
    """
    from cryptography.exceptions import InvalidTag

    size = os.path.getsize(source)
    with open(source, "rb") as sealed:
        start = sealed.read(128)
        header, length = read_header(start, FILE)
        head = start[: length + SALT_BYTES + 4]
        if len(head) < length + SALT_BYTES + 4:
            raise _unreadable(str(source))
        frame_bytes = struct.unpack(">I", head[-4:])[0]
        if not 0 < frame_bytes <= _LARGEST_FRAME:
            raise _unreadable(str(source))
        cipher = _file_cipher(key(header.purpose, header.version), head[length : length + SALT_BYTES])
        sealed.seek(len(head))
        with _Atomic(target) as plain:
            index, frame = 0, sealed.read(frame_bytes + TAG_BYTES)
            while True:
                following = sealed.read(frame_bytes + TAG_BYTES)
                try:
                    plain.write(cipher.decrypt(_nonce(index, last=not following), frame, head + context.encode()))
                except InvalidTag as error:
                    raise _unreadable(f"{source}, frame {index + 1}") from error
                if progress is not None:
                    progress(f"decrypting {source.name}", min(1.0, sealed.tell() / size))
                if not following:
                    return
                index, frame = index + 1, following


def _file_cipher(key: bytes, salt: bytes):  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"trialops file").derive(key))


def _nonce(index: int, *, last: bool) -> bytes:
    return index.to_bytes(NONCE_BYTES - 1, "big") + bytes([last])


class _Atomic:
    """A file written beside its target and renamed onto it when the block ends well; else removed."""

    def __init__(self, target: Path) -> None:
        self._target = Path(target)
        self._temporary = self._target.with_name(f".{self._target.name}.{secrets.token_hex(8)}")
        self._file: BinaryIO

    def __enter__(self) -> BinaryIO:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(handle, "wb")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if kind is None:
            os.replace(self._temporary, self._target)
        else:
            self._temporary.unlink(missing_ok=True)
