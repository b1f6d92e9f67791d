"""Data about a subject that are not part of the trial record, each subject's under a key of their own.

Contact details, recruitment, a diary app: what a subject may have erased at any time. Destroying the subject's key
makes every copy unreadable, in backups too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

PREFIX = "subjects"


def purpose_of(subject: str) -> str:
    """The purpose of a subject's own key."""
    return f"subject-{subject}"


def put(subject: str, name: str, data: bytes, *, vault: Vault, objects: ObjectStore) -> str:
    """Keep something about a subject; returns its key in the object store.

    Args:
        subject: Pseudonym.
        name: Lower-case name of what it is; no identifier.
        data: Any bytes.
        vault: Makes the subject's key on first use.
        objects: Where it is kept.
    """
    key = f"{PREFIX}/{subject}/{name}"
    objects.put(key, vault.encrypt(purpose_of(subject), data, key))
    return key


def get(subject: str, name: str, *, vault: Vault, objects: ObjectStore) -> bytes:
    """What was kept.

    Raises:
        KeyError: There is nothing of that name.
        TrialOpsError: The subject's key was destroyed.
    """
    key = f"{PREFIX}/{subject}/{name}"
    return vault.decrypt(objects.get(key), key)


def names(subject: str, objects: ObjectStore) -> list[str]:
    """What is kept about a subject."""
    return [key.split("/", 2)[2] for key in objects.list(f"{PREFIX}/{subject}")]


def shred(
    subject: str, *, vault: Vault, objects: ObjectStore, engine: Engine, reason: str, actor: str
) -> tuple[int, list[str]]:
    """Destroy a subject's key and remove what it sealed.

    The key is made where there was none: its tombstone tells later steps that what they remember of an earlier run may
    hold the subject.

    Returns:
        Objects removed, and keys destroyed as "purpose/version".
    """
    purpose = purpose_of(subject)
    if not any(k.purpose == purpose for k in vault.key_records()):
        vault.rotate(purpose)
    live = [k.version for k in vault.key_records() if k.purpose == purpose and k.state != "destroyed"]
    for version in live:
        vault.destroy(purpose, version, reason=reason, actor=actor, engine=engine)
    keys = list(objects.list(f"{PREFIX}/{subject}"))
    for key in keys:
        objects.delete(key)
    return len(keys), [f"{purpose}/{version}" for version in live]
