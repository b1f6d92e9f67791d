"""Certificates of disposal and erasure: what was destroyed, when, why and by whom, signed by the installation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.database import canonical, utc_now

if TYPE_CHECKING:
    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

PREFIX = "privacy/certificates"
KEY = "privacy/certificate-key"
PURPOSE = "certificates"


def issue(kind: str, body: Mapping[str, Any], *, vault: Vault, objects: ObjectStore) -> dict[str, Any]:
    """Sign a certificate and keep it; it is never overwritten.

    Args:
        kind: "retention" or "erasure".
        body: What it certifies: plain data, no identifiers.
        vault: Holds the signing key, sealed.
        objects: Where it is kept: privacy/certificates/<digest>.json.

    Returns:
        The body with kind, at, digest (SHA-256 of the canonical body), key (public, hex) and signature (Ed25519, hex).
    """
    whole = {**body, "kind": kind, "at": utc_now()}
    text = canonical(whole)
    digest = hashlib.sha256(text.encode()).hexdigest()
    private = _key(vault, objects)
    signed = {
        "body": whole,
        "digest": digest,
        "key": private.public_key().public_bytes_raw().hex(),
        "signature": private.sign(bytes.fromhex(digest)).hex(),
    }
    objects.put(f"{PREFIX}/{digest}.json", json.dumps(signed, indent=1, sort_keys=True).encode(), if_absent=True)
    return signed


def verify(certificate: Mapping[str, Any]) -> bool:
    """Whether body, digest and signature belong together. Whose key it is, the audit trail tells: it has the digest."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        digest = hashlib.sha256(canonical(certificate["body"]).encode()).hexdigest()
        if digest != certificate["digest"]:
            return False
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(certificate["key"]))
        public.verify(bytes.fromhex(certificate["signature"]), bytes.fromhex(digest))
    except (InvalidSignature, KeyError, TypeError, ValueError):
        return False
    return True


def stored(objects: ObjectStore) -> list[dict[str, Any]]:
    """All certificates, oldest first.

    Raises:
        TrialOpsError: One of them does not verify.
    """
    found = []
    for key in objects.list(PREFIX):
        certificate = json.loads(objects.get(key))
        if not verify(certificate):
            raise TrialOpsError(
                "A certificate was altered.", where=key, fix="Call the auditor; keep the file as it is."
            )
        found.append(certificate)
    return sorted(found, key=lambda c: str(c["body"]["at"]))


def _key(vault: Vault, objects: ObjectStore) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        sealed = objects.get(KEY)
    except KeyError:
        made = Ed25519PrivateKey.generate().private_bytes_raw()
        objects.put(KEY, vault.encrypt(PURPOSE, made, KEY), if_absent=True)
        sealed = objects.get(KEY)
    return Ed25519PrivateKey.from_private_bytes(vault.decrypt(sealed, KEY))
