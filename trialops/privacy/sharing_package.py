"""A package for a recipient: encrypted, opened with the recipient's key and the sponsor's release together.

    data key (random, AES-256-GCM over the archive)
      └ wrapped by a key derived from the recipient's key (HKDF-SHA-256)
          └ wrapped again by the vault's key of this one package

Opening needs both. The vault unwraps the outer layer while the agreement holds; revocation or expiry destroys the
vault's key, and with it the only way to open any copy of the package, wherever it lies. What was opened before cannot
be taken back: that is what the agreement and the marks in the data are for.

Layout: magic "TOSHARE1" | length of header (4, big-endian) | header (JSON) | nonce (12) | ciphertext and tag. The
header is authenticated with the ciphertext.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import secrets
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.stores.vault import Vault

MAGIC = b"TOSHARE1"
MOST_HEADER = 1 << 20
_NONCE = 12


@dataclass(frozen=True)
class Package:
    """A sealed package: its bytes, and the recipient's key, which is not in them."""

    data: bytes
    key: str


def purpose_of(share: str) -> str:
    """The vault's purpose of one package: its keys encrypt nothing else, so they can be destroyed alone."""
    return f"share-{share}"


def archive(files: Mapping[str, bytes]) -> bytes:
    """Files as a ZIP archive; the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            target.writestr(info, data)
    return buffer.getvalue()


def seal_package(content: bytes, share: str, facts: Mapping[str, Any], vault: Vault) -> Package:
    """Encrypt a package's content for one recipient.

    Args:
        content: What it holds.
        share: Its name; with "share-" before it a purpose of the vault.
        facts: What the header says in the clear: recipient, purpose, expiry, digest of the content. No data.
        vault: Holds the key that must live for the package to be opened.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, data_key = secrets.token_bytes(32), secrets.token_bytes(32)
    nonce = secrets.token_bytes(_NONCE)
    inner = nonce + AESGCM(_derived(key, share)).encrypt(nonce, data_key, share.encode())
    outer = vault.encrypt(purpose_of(share), inner, context=f"shares/{share}/release")
    header = json.dumps(
        {**facts, "share": share, "content": hashlib.sha256(content).hexdigest(), "lock": _text(outer)},
        sort_keys=True,
    ).encode()
    nonce = secrets.token_bytes(_NONCE)
    start = MAGIC + struct.pack(">I", len(header)) + header
    return Package(start + nonce + AESGCM(data_key).encrypt(nonce, content, start), _spelled(key))


def header_of(package: bytes) -> dict[str, Any]:
    """What a package says in the clear.

    Raises:
        TrialOpsError: It is no package.
    """
    start = len(MAGIC) + 4
    try:
        if package[: len(MAGIC)] != MAGIC:
            raise ValueError
        (length,) = struct.unpack(">I", package[len(MAGIC) : start])
        if length > MOST_HEADER:
            raise ValueError
        header = json.loads(package[start : start + length])
        if not isinstance(header, dict) or not isinstance(header["share"], str):
            raise ValueError
    except (ValueError, KeyError, struct.error):
        raise TrialOpsError(
            "The file is not a package for a partner", fix="Give the .share file as received."
        ) from None
    return header


def release_of(package: bytes, vault: Vault) -> bytes:
    """The sponsor's part of opening a package: the outer lock taken off. Useless without the recipient's key.

    Raises:
        TrialOpsError: The vault's key was destroyed: the package was revoked or has expired.
    """
    header = header_of(package)
    share = header["share"]
    try:
        return vault.decrypt(base64.b64decode(header["lock"]), context=f"shares/{share}/release")
    except TrialOpsError:
        raise TrialOpsError(
            "The package cannot be opened any more: its key was destroyed, or it is not from here",
            where=f"share {share}",
            fix="Ask the sponsor whether the agreement was revoked or has ended.",
        ) from None


def open_package(package: bytes, key: str, release: bytes) -> bytes:
    """Decrypt a package with the recipient's key and the sponsor's release.

    Raises:
        TrialOpsError: Key or release do not belong to the package, or a byte of it was changed.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header = header_of(package)
    share = header["share"]
    (length,) = struct.unpack(">I", package[len(MAGIC) : len(MAGIC) + 4])
    start = len(MAGIC) + 4 + length
    try:
        data_key = AESGCM(_derived(_unspelled(key), share)).decrypt(release[:_NONCE], release[_NONCE:], share.encode())
        nonce, body = package[start : start + _NONCE], package[start + _NONCE :]
        content = AESGCM(data_key).decrypt(nonce, body, package[:start])
    except (InvalidTag, ValueError):
        raise TrialOpsError(
            "The package does not open: the key or the release is not its own, or a byte was changed",
            where=f"share {share}",
            fix="Check the key letter by letter, and the file's checksum with the sender.",
        ) from None
    return content


def unpack(content: bytes, folder: Path) -> list[str]:
    """Write a package's files to a folder that must not exist; returns their names."""
    if folder.exists():
        raise TrialOpsError("The folder to open into exists already", where=str(folder), fix="Name a new one.")
    staged = folder.with_name(f".{folder.name}.partial")
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        names = source.namelist()
        if any(Path(n).is_absolute() or ".." in Path(n).parts for n in names):
            raise TrialOpsError("The package holds a file that points outside it", where=folder.name)
        source.extractall(staged)
    staged.rename(folder)
    return names


def _derived(key: bytes, share: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"trialops share " + share.encode()).derive(key)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _spelled(key: bytes) -> str:
    """A key as it is read over the telephone: base32 in groups of four."""
    text = base64.b32encode(key).decode().rstrip("=")
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def _unspelled(text: str) -> bytes:
    plain = "".join(text.split()).replace("-", "").upper()
    key = base64.b32decode(plain + "=" * (-len(plain) % 8))
    if len(key) != 32:
        raise ValueError
    return key
