"""Where messages from laboratories arrive: each is stored encrypted and on disk before it is acknowledged.

A message is known by its sender and control id (MSH-3, MSH-4, MSH-10). The same one again is the same object; another
content under a known control id is kept beside it and refused. Keys hold pseudonyms, so that a listing says nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trialops.intake.hl7_labs import check_header, content_digest
from trialops.intake.hl7_parse import Hl7Error, parse, split_file
from trialops.stores.objects import ObjectStore

if TYPE_CHECKING:
    from trialops.stores.vault import Vault

PURPOSE = "raw"
KIND = "hl7_message"
Fate = Literal["stored", "known", "refused"]


@dataclass(frozen=True)
class Receipt:
    """What became of a message.

    Attributes:
        fate: "stored", "known" (the same message was there), or "refused" (kept as evidence, not as a result).
        errors: Why it was refused; the acknowledgement repeats them.
        key: Where it lies.
    """

    fate: Fate
    errors: tuple[Hl7Error, ...]
    key: str


class LabInbox:
    """Messages as received.

    Args:
        vault: Seals them.
        objects: Hold them.
    """

    def __init__(self, vault: Vault, objects: ObjectStore) -> None:
        """See the class."""
        self._vault, self._objects = vault, objects
        self._root = f"raw/{vault.id}/hl7"

    def receive(self, data: bytes) -> Receipt:
        """Store one message; when this returns, it is on disk.

        Args:
            data: The message without framing.
        """
        digest = hashlib.sha256(data).hexdigest()
        try:
            batch = split_file(data)
            if len(batch.messages) != 1 or batch.stray:
                raise Hl7Error("NOT_ONE_MESSAGE", "the frame does not hold exactly one message", code="100")
            framed = batch.messages[0]
            message = parse(framed.lines)
            check_header(message)
        except Hl7Error as error:
            return self._refuse(data, digest, error)
        msh = message.header
        sender = "\0".join(message.part(msh.get(n)) for n in (3, 4, 10))
        key = f"{self._root}/messages/{self._vault.pseudonym(KIND, sender)}"
        if self._put(key, data):
            return Receipt("stored", (), key)
        before = split_file(self._body(key)).messages
        if before and content_digest(before[0]) == content_digest(framed):
            return Receipt("known", (), key)
        reused = Hl7Error(
            "MESSAGE_ID_REUSED",
            "another message came under this control id",
            segment=1,
            location="MSH^1^10",
            code="205",
        )
        return self._refuse(data, digest, reused)

    def _refuse(self, data: bytes, digest: str, error: Hl7Error) -> Receipt:
        key = f"{self._root}/refused/{digest}"
        self._put(key, data, reason=error.reason)
        return Receipt("refused", (error,), key)

    def _put(self, key: str, data: bytes, **facts: str) -> bool:
        """Create a sealed object and wait until the disk has it; False when the key is taken."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        body = json.dumps({"received": at, **facts}, sort_keys=True).encode() + b"\n" + data
        created = self._objects.put(key, self._vault.encrypt(PURPOSE, body, key), if_absent=True)
        if "://" not in self._objects.url:
            # Also for a known one: whoever wrote it may not have come to this line.
            _flush(Path(self._objects.url) / key)
        return created

    def _body(self, key: str) -> bytes:
        return self._vault.decrypt(self._objects.get(key), key).split(b"\n", 1)[1]

    def messages(self) -> Iterator[bytes]:
        """All messages that were accepted, in an order of their own."""
        for key in self._objects.list(f"{self._root}/messages"):
            yield self._body(key)

    def refused(self) -> list[dict[str, str]]:
        """Messages that were refused: when, why, their digest; no content."""
        found = []
        for key in self._objects.list(f"{self._root}/refused"):
            facts = json.loads(self._vault.decrypt(self._objects.get(key), key).split(b"\n", 1)[0])
            found.append({**facts, "sha256": key.rsplit("/", 1)[-1]})
        return sorted(found, key=lambda item: (item["received"], item["sha256"]))

    def keys(self) -> list[str]:
        """Where accepted messages lie; a key says nothing and its content never changes."""
        return list(self._objects.list(f"{self._root}/messages"))

    def answer_header(self, data: bytes) -> bytes:
        """The line of a message that an acknowledgement answers to."""
        lines = split_file(data).messages
        return lines[0].lines[0] if lines else data[:512]


def _flush(path: Path) -> None:
    for target in (path, path.parent):
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
