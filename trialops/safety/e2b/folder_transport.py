"""Handing messages to a gateway that picks up files, such as an AS2 client for FDA's Electronic Submissions Gateway.

    outbox/             files appear whole; the gateway takes them away
    acknowledgements/   the gateway puts acknowledgements here (*.xml, *.ack)
    read/               acknowledgements dealt with
    state/              ours: what is being handed over, and a mark for all that ever was

A file in outbox/ may be gone a moment later, so its absence says nothing. The order of three steps makes what happened
readable after a crash: the file is written whole to state/, a mark is made, the file is moved to outbox/. A mark
without a file in state/ means handed over; a mark with one, not yet; no mark, not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from trialops.errors import TrialOpsError
from trialops.safety.e2b.transport import Conflict, Receipt, Unsure

_SUFFIXES = (".xml", ".ack")


class FolderTransport:
    """A folder a gateway picks files up from.

    Args:
        root: The folder; made where it is not there.

    Raises:
        TrialOpsError: It cannot be used.
    """

    def __init__(self, root: Path) -> None:
        """See the class."""
        self.root = root
        try:
            for name in ("outbox", "acknowledgements", "read", "state"):
                (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise TrialOpsError(
                f"The gateway's folder cannot be used: {error.strerror}",
                where="REGULATORY_REPORTING_API",
                fix="Give a folder this account may write.",
            ) from None

    def close(self) -> None:
        """Nothing to close."""

    def deliver(self, message_id: str, digest: str, data: bytes) -> Receipt:
        """Put a message into outbox/; a second time it changes nothing."""
        with self._alone():
            return self._deliver(message_id, digest, data)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One hand-over at a time: a sender that slept past its lease must see what another did meanwhile."""
        import fcntl

        handle = os.open(self.root / "state" / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _deliver(self, message_id: str, digest: str, data: bytes) -> Receipt:
        known = self.find(message_id, digest)
        if known:
            return known
        name = file_name(message_id)
        staged = self.root / "state" / f"{name}.xml"
        try:
            _write(staged, data)
            mark = self.root / "state" / f"{name}.json"
            if not mark.exists():
                at = datetime.now(UTC).isoformat(timespec="seconds")
                _write(mark, json.dumps({"message_id": message_id, "digest": digest, "at": at}).encode())
            self._move(staged, self.root / "outbox" / f"{name}.xml")
        except OSError as error:
            raise Unsure(error.strerror or type(error).__name__) from None
        receipt = self.find(message_id, digest)
        if receipt is None:
            raise Unsure("the file is not where it was put")
        return receipt

    def find(self, message_id: str, digest: str) -> Receipt | None:
        """Whether a message was handed over; one that was interrupted before that is not."""
        name = file_name(message_id)
        try:
            mark = json.loads((self.root / "state" / f"{name}.json").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise Unsure("the mark of a message cannot be read") from None
        if mark["digest"] != digest:
            raise Conflict
        if (self.root / "state" / f"{name}.xml").exists():
            return None
        return Receipt(message_id, digest, name, mark["at"])

    def acknowledgements(self, message_ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """All files in acknowledgements/, by name; what message they are about they say themselves."""
        folder = self.root / "acknowledgements"
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file():
                try:
                    yield path.name, path.read_bytes()
                except OSError as error:
                    raise Unsure(error.strerror or type(error).__name__) from None

    def read(self, place: str) -> None:
        """Move an acknowledgement to read/."""
        source = self.root / "acknowledgements" / place
        digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
        self._move(source, self.root / "read" / f"{source.stem}-{digest}{source.suffix}")

    def _move(self, source: Path, target: Path) -> None:
        os.replace(source, target)
        for folder in {source.parent, target.parent}:
            _sync(folder)


def file_name(message_id: str) -> str:
    """A file name for a message number: readable, and different for different numbers."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", message_id)[:80]
    return f"{readable}-{hashlib.sha256(message_id.encode()).hexdigest()[:12]}"


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there whole, on disk, or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
