"""A signer's credential: what a passphrase turns into (21 CFR 11.200, 11.300).

The passphrase is stretched by scrypt (RFC 7914) into 64 bytes. The first half, hashed, is what the database
keeps to check it; the second half encrypts the signer's Ed25519 key. So the key can be used by the signer
alone: an administrator who holds database and vault, but not the passphrase, cannot sign in the signer's
name.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass

from trialops.errors import TrialOpsError
from trialops.stores.database import canonical

SCRYPT_N = 2**15
"""With r = 8 and p = 3: 32 MB and about 0.2 s for each guess, the OWASP minimum."""

PASSPHRASE_LENGTH = 12


@dataclass(frozen=True, repr=False)
class Stretched:
    """What a passphrase stretches to."""

    verifier: str
    wrapping_key: bytes


def new_parameters(cost: int = SCRYPT_N) -> str:
    """Fresh scrypt parameters as JSON text, with a random salt."""
    return canonical({"n": cost, "r": 8, "p": 3, "salt": secrets.token_hex(16)})


def stretch(passphrase: str, parameters: str) -> Stretched:
    """Stretch a passphrase by stored parameters."""
    given = json.loads(parameters)
    out = hashlib.scrypt(
        passphrase.encode(),
        salt=bytes.fromhex(given["salt"]),
        n=given["n"],
        r=given["r"],
        p=given["p"],
        maxmem=256 * 1024 * 1024,
        dklen=64,
    )
    return Stretched(hashlib.sha256(out[:32]).hexdigest(), out[32:])


def matches(stretched: Stretched, verifier: str) -> bool:
    """Whether the passphrase is the enrolled one; takes the same time either way."""
    return hmac.compare_digest(stretched.verifier, verifier)


def check_passphrase(user: str, passphrase: str) -> None:
    """Refuse a passphrase that is too short or contains the user id.

    Raises:
        TrialOpsError: It is refused.
    """
    if len(passphrase) < PASSPHRASE_LENGTH or user.lower() in passphrase.lower() or len(set(passphrase)) < 5:
        raise TrialOpsError(
            "The passphrase is too easy to guess.",
            where=f"signer {user}",
            fix=f"Use at least {PASSPHRASE_LENGTH} characters, five different ones, without the user id.",
        )


def wrap_private_key(private: bytes, stretched: Stretched, key_id: str) -> bytes:
    """Encrypt a private key under a passphrase."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(stretched.wrapping_key).encrypt(nonce, private, key_id.encode())


def unwrap_private_key(wrapped: bytes, stretched: Stretched, key_id: str) -> bytes:
    """Decrypt a private key.

    Raises:
        cryptography.exceptions.InvalidTag: It was altered, or the passphrase is another.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(stretched.wrapping_key).decrypt(wrapped[:12], wrapped[12:], key_id.encode())
