"""Lines of a VCF file, plain or gzip, one at a time in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trialops.intake.bgzf import CHUNK, PackedError, is_gzip, unpacked

MAX_LINE = 64 * 1024**2
"""Bytes of one line: about 10,000,000 genotypes."""


class VcfError(Exception):
    """A file that cannot be used; code of the reason, words without content, line."""

    def __init__(self, reason: str, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.line = line


def lines(path: Path, *, most: int = MAX_LINE) -> Iterator[str]:
    """Lines without their ends; CR LF is accepted.

    Raises:
        VcfError: The file is cut, corrupt, a bomb, not text, or has a line that is too long.
    """
    number, size = 0, 0
    rest: list[bytes] = []  # pieces of a line that is not complete yet
    try:
        for chunk in _chunks(path):
            if b"\0" in chunk:
                raise VcfError("BINARY", "the file holds NUL bytes: it is no VCF text", number + 1)
            first, *whole = chunk.split(b"\n")
            rest.append(first)
            size += len(first)
            if size > most:
                raise VcfError("LINE_TOO_LONG", f"a line is longer than {most >> 20} MB", number + 1)
            if not whole:
                continue
            whole, rest, line = whole[:-1], [whole[-1]], b"".join(rest)
            size = len(rest[0])
            number += 1
            yield _text(line, number)
            if not any(whole):
                number += len(whole)  # nothing but empty lines
                continue
            for line in whole:
                number += 1
                yield _text(line, number)
        if size:
            yield _text(b"".join(rest), number + 1)
    except PackedError as error:
        raise VcfError(error.reason, error.message, number + 1) from None


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        if is_gzip(stream.read(2)):
            yield from unpacked(path)
            return
        stream.seek(0)
        while chunk := stream.read(CHUNK):
            yield chunk


def _text(line: bytes, number: int) -> str:
    try:
        return line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise VcfError("ENCODING", "a line is not UTF-8", number) from None
