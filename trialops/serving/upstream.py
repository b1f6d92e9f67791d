"""Connections from the router to one model server: kept open, reused, retried once when the server had closed them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Headers = list[tuple[bytes, bytes]]
HOP_BY_HOP = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
        b"transfer-encoding", b"upgrade", b"host", b"content-length", b"expect",
    )
)  # fmt: skip
"""Headers that belong to one connection (RFC 9110, 7.6.1), and those set anew for the next."""
MAX_IDLE = 64


@dataclass(frozen=True)
class Reply:
    """An upstream's answer."""

    status: int
    headers: Headers
    body: bytes


class Unreachable(Exception):
    """No complete answer: refused, reset, out of time, or not HTTP."""


class _Stale(Exception):
    """A kept connection had been closed before it brought a byte."""


class Upstream:
    """Connections to one server.

    Args:
        host: Address.
        port: Port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._name = f"{host}:{port}".encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Reply:
        """Send one request and read the whole answer.

        Inference has no effect on the server, so a request on a connection that turns out to be closed is sent
        once more on a fresh one.

        Raises:
            Unreachable: There was no complete answer.
        """
        head = b"%s %s HTTP/1.1\r\nhost: %s\r\n" % (method.encode(), target, self._name)
        head += b"".join(b"%s: %s\r\n" % item for item in headers if item[0].lower() not in HOP_BY_HOP)
        request = b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body)
        while self._idle:
            try:
                return await self._exchange(self._idle.pop(), request, method, kept=True)
            except _Stale:
                continue
        try:
            connection = await asyncio.open_connection(self._host, self._port, limit=2**20)
        except OSError as error:
            raise Unreachable(type(error).__name__) from None
        return await self._exchange(connection, request, method, kept=False)

    async def _exchange(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes, method: str, *, kept: bool
    ) -> Reply:
        reader, writer = connection
        clean = False
        try:
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
            except (OSError, asyncio.IncompleteReadError) as error:
                if kept and not getattr(error, "partial", b""):
                    raise _Stale from None
                raise Unreachable(type(error).__name__) from None
            status, headers, keep = _parse(head)
            body, keep = await _content(reader, method, status, headers, keep)
            clean = keep and len(self._idle) < MAX_IDLE
            return Reply(status, [item for item in headers if item[0] not in HOP_BY_HOP], body)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
            raise Unreachable(type(error).__name__) from None
        finally:
            if clean:  # a connection whose answer was not read to its end is never used again
                self._idle.append(connection)
            else:
                writer.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[1].close()


def _parse(head: bytes) -> tuple[int, Headers, bool]:
    first, *lines = head[:-4].split(b"\r\n")
    version, code, *_ = first.split(b" ", 2)
    if not version.startswith(b"HTTP/1."):
        raise ValueError("not HTTP")
    headers = []
    for line in lines:
        name, _, value = line.partition(b":")
        headers.append((name.strip().lower(), value.strip()))
    keep = version != b"HTTP/1.0" and dict(headers).get(b"connection", b"").lower() != b"close"
    return int(code), headers, keep


async def _content(
    reader: asyncio.StreamReader, method: str, status: int, headers: Headers, keep: bool
) -> tuple[bytes, bool]:
    by_name = dict(headers)
    if method == "HEAD" or status in (204, 304) or 100 <= status < 200:
        return b"", keep and status >= 200
    if by_name.get(b"transfer-encoding", b"").lower() == b"chunked":
        chunks: list[bytes] = []
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            chunk = await reader.readexactly(size + 2)
            if size == 0:
                return b"".join(chunks), keep
            chunks.append(chunk[:-2])
    if b"content-length" in by_name:
        return await reader.readexactly(int(by_name[b"content-length"])), keep
    return await reader.read(), False
