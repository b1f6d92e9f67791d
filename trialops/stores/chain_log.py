"""An append-only list of documents in an object store, each holding the digest of the one before it.

Two writers at once cannot take the same place: an object is created only if absent, and the loser tries again behind
the winner. A document that was altered, removed or put out of order breaks the chain where it stood.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.objects import ObjectStore

GENESIS = "0" * 64


class IntegrityError(TrialOpsError):
    """What was read is not what was written."""


@dataclass(frozen=True)
class Link:
    """One document of a chain.

    Attributes:
        sequence: 1, 2, 3, ... without gaps.
        body: The document, with `sequence` and `previous`.
        digest: SHA-256 of its bytes in the clear.
    """

    sequence: int
    body: Mapping[str, Any]
    digest: str


class ChainLog:
    """The documents below one prefix.

    Args:
        objects: Where they are kept.
        prefix: Key prefix; documents are ``prefix/000001.json`` and so on.
        what: What a broken chain is called in an error.
        close: Turns the bytes of a document into those kept, given its key; encryption, for instance.
        open_: The way back.
    """

    def __init__(
        self,
        objects: ObjectStore,
        prefix: str,
        what: str,
        *,
        close: Callable[[bytes, str], bytes] | None = None,
        open_: Callable[[bytes, str], bytes] | None = None,
    ) -> None:
        self._objects = objects
        self._prefix = prefix
        self._what = what
        self._close = close or (lambda data, key: data)
        self._open = open_ or (lambda data, key: data)

    def links(self) -> list[Link]:
        """All documents, oldest first.

        Raises:
            IntegrityError: Names the first that was altered, removed or put out of order.
        """
        chain: list[Link] = []
        previous = GENESIS
        for key in self._objects.list(self._prefix):
            try:
                data = self._open(self._objects.get(key), key)
                body = json.loads(data)
                sequence, before = int(body["sequence"]), body["previous"]
            except (ValueError, KeyError, TypeError, TrialOpsError):
                raise IntegrityError(f"A document of {self._what} cannot be read", where=key) from None
            if before != previous or sequence != len(chain) + 1:
                raise IntegrityError(f"The chain of {self._what} is broken", where=key)
            previous = hashlib.sha256(data).hexdigest()
            chain.append(Link(sequence, body, previous))
        return chain

    def append(self, body: Mapping[str, Any], unless: Callable[[Iterable[Link]], Link | None] = lambda _: None) -> Link:
        """Add a document behind the last one.

        Args:
            body: Plain data without `sequence` and `previous`.
            unless: Looks at the chain as it is and may name a link that makes a new one needless; asked again each
                time another writer was faster.

        Returns:
            The link added, or the one that `unless` named.
        """
        while True:
            chain = self.links()
            known = unless(chain)
            if known is not None:
                return known
            last = chain[-1] if chain else None
            full = {**body, "sequence": len(chain) + 1, "previous": last.digest if last else GENESIS}
            data = json.dumps(full, sort_keys=True, separators=(",", ":")).encode()
            key = f"{self._prefix}/{full['sequence']:06d}.json"
            if self._objects.put(key, self._close(data, key), if_absent=True):
                return Link(len(chain) + 1, full, hashlib.sha256(data).hexdigest())
