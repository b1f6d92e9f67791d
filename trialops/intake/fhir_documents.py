"""The files of a FHIR delivery: which there are, which may be opened, and their bytes, inflated within bounds."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trialops.errors import TrialOpsError

SUFFIXES = (".json", ".ndjson", ".jsonl")
MAX_INFLATED = 8 * 1024**3
"""Bytes a compressed file may become."""
MAX_RATIO = 200
"""Bytes out per byte in beyond which a compressed file is a bomb: FHIR NDJSON shrinks 10 to 40 times."""
FREE_BYTES = 16 * 1024**2
"""Up to here any ratio is fine: small files of repeated text shrink well."""
_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}$")

PROBLEMS = {
    "LINK_OUT_OF_FOLDER": "it is a link to a place outside the delivery",
    "NOT_A_FILE": "it is a folder or device under the name of a file",
    "UNREADABLE": "the system does not let it be read",
    "EMPTY": "it is empty",
    "BAD_COMPRESSION": "its compression is damaged or cut off",
    "BOMB": "it inflates far beyond what FHIR text does",
}


class DocumentFault(ValueError):
    """A file that cannot be read as a whole: `reason` is a key of PROBLEMS."""

    def __init__(self, reason: str) -> None:
        super().__init__(PROBLEMS[reason])
        self.reason = reason


@dataclass(frozen=True)
class Document:
    """One file of a delivery, wherever its bytes are.

    Attributes:
        name: Path inside the delivery, with slashes.
        open: Gives the bytes as a stream, as often as asked.
        path: The file, where it is one.
        received: Day the delivery folder it lies in is named by, or None.
        problem: Key of PROBLEMS when it must not be opened.
    """

    name: str
    open: Callable[[], BinaryIO]
    path: Path | None = None
    received: dt.date | None = None
    problem: str = ""

    @property
    def lines(self) -> bool:
        """Whether it holds one value a line."""
        return Path(self.name.removesuffix(".gz")).suffix.lower() in (".ndjson", ".jsonl")


def find_documents(folder: Path) -> tuple[list[Document], list[str]]:
    """The documents of a folder and below, in reading order, and the names of files that are none.

    Folders named YYYY-MM-DD are deliveries of that day; what lies in them was received then.

    Raises:
        TrialOpsError: The folder does not exist.
    """
    if not folder.is_dir():
        raise TrialOpsError(
            "The delivery folder does not exist.",
            where=str(folder),
            fix="Give the folder that holds the bundles or NDJSON files.",
        )
    root = folder.resolve()
    documents, others = [], []
    for path in sorted(_walk(folder), key=lambda p: p.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if not name.removesuffix(".gz").lower().endswith(SUFFIXES):
            others.append(name)
            continue
        documents.append(
            Document(name, _opener(path, name), path, _day_of(path.relative_to(folder)), _problem(path, root))
        )
    return documents, others


def _walk(folder: Path) -> Iterator[Path]:
    """Files, links, and folders under the name of a file; links to folders are not followed."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink() and not entry.name.lower().endswith(SUFFIXES):
            yield from _walk(entry)
        else:
            yield entry


def _day_of(path: Path) -> dt.date | None:
    for part in reversed(path.parts[:-1]):
        if _DAY.match(part):
            try:
                return dt.date.fromisoformat(part)
            except ValueError:
                continue
    return None


def _problem(path: Path, root: Path) -> str:
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            return "LINK_OUT_OF_FOLDER"
        if not path.is_file():
            return "NOT_A_FILE"
        return "" if path.stat().st_size else "EMPTY"
    except (OSError, RuntimeError):
        return "UNREADABLE"


def _opener(path: Path, name: str) -> Callable[[], BinaryIO]:
    def opened() -> BinaryIO:
        try:
            raw = path.open("rb")
        except OSError:
            raise DocumentFault("UNREADABLE") from None
        return io.BufferedReader(Inflated(raw)) if name.endswith(".gz") else raw

    return opened


def in_memory(name: str, data: bytes, received: dt.date | None = None) -> Document:
    """A document whose bytes are at hand."""
    return Document(name, lambda: io.BytesIO(data), None, received, "" if data.strip() else "EMPTY")


class Inflated(io.RawIOBase):
    """A gzip stream, inflated piece by piece and only as far as FHIR text can reach.

    Reading raises DocumentFault: BAD_COMPRESSION where the stream is damaged or ends early, BOMB beyond the bounds.
    """

    def __init__(self, raw: BinaryIO, *, limit: int = MAX_INFLATED, ratio: int = MAX_RATIO) -> None:
        super().__init__()
        self._raw, self._limit, self._ratio = raw, limit, ratio
        self._inflater = zlib.decompressobj(wbits=31)
        self._read_bytes = self._made = 0
        self._waiting = b""

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; 0 at the end."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        made = self._more(len(view))
        view[: len(made)] = made
        return len(made)

    def _more(self, wanted: int) -> bytes:
        while True:
            if self._inflater.eof:
                rest = self._inflater.unused_data or self._waiting or self._take()
                if not rest:
                    return b""
                self._inflater, self._waiting = zlib.decompressobj(wbits=31), rest  # the next member
            data = self._waiting or self._take()
            try:
                made = self._inflater.decompress(data, wanted)
                self._waiting = self._inflater.unconsumed_tail
            except zlib.error:
                raise DocumentFault("BAD_COMPRESSION") from None
            self._made += len(made)
            if self._made > self._limit or self._made > max(FREE_BYTES, self._ratio * self._read_bytes):
                raise DocumentFault("BOMB")
            if made:
                return made
            if not data and not self._inflater.eof:
                raise DocumentFault("BAD_COMPRESSION")

    def _take(self) -> bytes:
        data = self._raw.read(64 * 1024)
        self._read_bytes += len(data)
        return data

    def close(self) -> None:
        """Close the file beneath as well."""
        if not self.closed:
            self._raw.close()
        super().close()


def document_digest(document: Document) -> str:
    """SHA-256 of a document's bytes as they lie there; of its problem where it must not be opened."""
    if document.problem:
        return hashlib.sha256(document.problem.encode()).hexdigest()
    if document.path is not None:
        with document.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    with document.open() as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def delivery_digest(documents: list[Document]) -> str:
    """SHA-256 over the names and contents of a delivery, without reading them as data."""
    total = hashlib.sha256()
    for document in documents:
        total.update(f"{document.name}\0{document_digest(document)}\n".encode())
    return total.hexdigest()
