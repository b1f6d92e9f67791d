"""Blocked gzip (BGZF): writing it, and reading gzip of any kind in bounded memory.

Source: SAM/BAM format specification, section 4.1. A block is a gzip member of at most 64 KB with its own size in the
extra field, so that an index can point into the file; an empty block ends it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
BLOCK = 65280
"""Bytes of a block before packing: what does not shrink still fits 64 KB with its frame."""
CHUNK = 256 * 1024
MAX_RATIO = 400
"""Bytes one packed byte may become, above a floor; genotypes of thousands of samples stay well below."""
RATIO_FLOOR = 32 * 1024**2


class PackedError(Exception):
    """Packed data that cannot be used; `reason` is TRUNCATED, CORRUPT or BOMB."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class BgzfWriter:
    """Writes BGZF; the same bytes in, the same bytes out.

    Args:
        stream: Binary stream; stays open.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        """See the class."""
        self._stream = stream
        self._waiting = bytearray()
        self.written = 0

    def __enter__(self) -> BgzfWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def write(self, data: bytes) -> None:
        """Add bytes; whole blocks are written at once."""
        self._waiting += data
        while len(self._waiting) >= BLOCK:
            self._block(bytes(self._waiting[:BLOCK]))
            del self._waiting[:BLOCK]

    def close(self) -> None:
        """Write what waits, and the end."""
        if self._waiting:
            self._block(bytes(self._waiting))
            self._waiting.clear()
        self._stream.write(END)
        self.written += len(END)

    def _block(self, data: bytes) -> None:
        for level in (6, 0):
            machine = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
            packed = machine.compress(data) + machine.flush()
            size = len(packed) + 26
            if size <= 65536:
                break
        head = struct.pack("<4BI2BH2B2H", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, size - 1)
        self._stream.write(head + packed + struct.pack("<2I", zlib.crc32(data), len(data)))
        self.written += size


def is_gzip(head: bytes) -> bool:
    """Whether a file that begins so is gzip."""
    return head[:2] == b"\x1f\x8b"


def is_bgzf(head: bytes) -> bool:
    """Whether it is blocked gzip."""
    return is_gzip(head) and len(head) >= 18 and head[3] & 4 == 4 and head[12:16] == b"BC\x02\x00"


def unpacked(path: Path, *, ratio: int = MAX_RATIO, floor: int = RATIO_FLOOR) -> Iterator[bytes]:
    """Contents of a gzip file in chunks; members follow one another.

    Args:
        path: The file.
        ratio: Bytes that one packed byte may become.
        floor: Bytes below which the ratio does not matter.

    Raises:
        PackedError: It is cut, corrupt, or inflates beyond the ratio.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(18)
        if is_bgzf(head):
            stream.seek(max(size - len(END), 0))
            if stream.read() != END:
                raise PackedError("TRUNCATED", "the blocked gzip file has no end block: it was cut")
        stream.seek(0)
        limit, total, taken = max(floor, ratio * size), 0, 0
        machine = zlib.decompressobj(31)
        waiting = b""
        while True:
            if not waiting:
                waiting = stream.read(CHUNK)
                taken += len(waiting)
                if not waiting:
                    break
            if machine.eof:
                if not is_gzip(waiting if len(waiting) > 1 else waiting + stream.read(1)):
                    if waiting.strip(b"\0"):
                        raise PackedError("CORRUPT", "bytes that are no gzip follow the packed data")
                    waiting = b""
                    continue
                machine = zlib.decompressobj(31)
            try:
                data = machine.decompress(waiting, 4 * CHUNK)
            except zlib.error:
                raise PackedError("CORRUPT", "the packed data cannot be inflated") from None
            waiting = machine.unused_data if machine.eof else machine.unconsumed_tail
            total += len(data)
            if total > limit:
                raise PackedError("BOMB", "the packed data inflates beyond any genuine size")
            if data:
                yield data
        if not machine.eof:
            raise PackedError("TRUNCATED", "the packed data has no end: the file was cut")
