"""MLLP: HL7 messages over TCP, framed by 0x0B ... 0x1C 0x0D; a server that answers only for what it has stored.

Source: HL7 v2 Transport Specification, MLLP release 1. Outside loopback the server wants TLS, and can want a client
certificate of a given authority.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.intake.hl7_ack import acknowledge, header_of
from trialops.intake.hl7_parse import MAX_MESSAGE, Hl7Error

if TYPE_CHECKING:
    from trialops.intake.lab_inbox import LabInbox

START, END = b"\x0b", b"\x1c\x0d"
CHUNK = 64 * 1024


class FrameError(Exception):
    """The stream is not MLLP; `reason` says in what way."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens, or a client sends to."""

    host: str
    port: int
    tls: bool = False

    @property
    def loopback(self) -> bool:
        """Whether nobody else can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def endpoint(text: str) -> Endpoint:
    """Read ``host:port``, ``mllp://host:port`` or ``mllps://host:port`` (TLS); IPv6 in brackets.

    Raises:
        TrialOpsError: It is none of these.
    """
    scheme, separator, rest = text.strip().rpartition("://")
    host, colon, port = rest.rpartition(":")
    if (
        (separator and scheme not in ("mllp", "mllps"))
        or not colon
        or not host
        or not (port.isascii() and port.isdigit())
    ):
        raise TrialOpsError(
            "This is no address of a laboratory interface.",
            where="LAB_SYSTEM_ENDPOINT",
            fix="Write host:port, mllp://host:port, or mllps://host:port for TLS.",
        )
    if int(port) > 65535:
        raise TrialOpsError("The port is above 65535.", where="LAB_SYSTEM_ENDPOINT", fix="Use a port from 1 to 65535.")
    return Endpoint(host.strip("[]"), int(port), scheme == "mllps")


def server_context(certificate: Path, key: Path, client_authority: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later for the server; with an authority, only clients with its certificate get in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, certificate, key)
    if client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, client_authority)
    return context


def client_context(
    authority: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """TLS for the client: the server's certificate and name are checked, its own is shown where given."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority is not None:
        _trust(context, authority)
    if certificate is not None and key is not None:
        _load(context, certificate, key)
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError):
        raise TrialOpsError(
            "The certificate or its key cannot be used.",
            where=f"{certificate.name}, {key.name}",
            fix="Give PEM files that belong together.",
        ) from None


def _trust(context: ssl.SSLContext, authority: Path) -> None:
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError):
        raise TrialOpsError(
            "The authority's certificate cannot be used.", where=authority.name, fix="Give a PEM file."
        ) from None


async def frames(
    reader: asyncio.StreamReader, *, most: int = MAX_MESSAGE, idle: float | None = None
) -> AsyncIterator[bytes]:
    """Messages of a connection, without their framing, however the bytes were cut on the way.

    Args:
        reader: The connection.
        most: Bytes a message may have.
        idle: Seconds without a byte after which the connection counts as dead.

    Raises:
        FrameError: Bytes outside a frame, a frame inside a frame, one too large, one that is cut by the end of the
            connection, or silence.
    """
    buffer, searched = bytearray(), 0
    while True:
        if buffer and buffer[:1] != START:
            stripped = buffer.lstrip(b"\r\n")
            if stripped and stripped[:1] != START:
                raise FrameError("bytes outside a frame")
            buffer, searched = bytearray(stripped), 0
        # The end mark may be cut in two: look again at the last byte.
        end = buffer.find(END, max(searched - 1, 0)) if buffer else -1
        if end >= 0:
            body = bytes(buffer[1:end])
            del buffer[: end + 2]
            searched = 0
            if START in body:
                raise FrameError("a frame begins inside a frame")
            if len(body) > most:
                raise FrameError("the message is too large")
            yield body
            continue
        searched = len(buffer)
        if len(buffer) > most + 3:
            raise FrameError("the message is too large")
        try:
            chunk = await asyncio.wait_for(reader.read(CHUNK), idle)
        except TimeoutError:
            raise FrameError("nothing came for too long") from None
        except (ConnectionError, ssl.SSLError):
            raise FrameError("the connection broke") from None
        if not chunk:
            if buffer:
                raise FrameError("the connection ended inside a message")
            return
        buffer += chunk


@dataclass
class Tally:
    """What a server did; counts only."""

    connections: int = 0
    stored: int = 0
    known: int = 0
    refused: int = 0
    broken: dict[str, int] = field(default_factory=dict)

    def broke(self, reason: str) -> None:
        """Note a connection that was closed for a fault of its stream."""
        self.broken[reason] = self.broken.get(reason, 0) + 1


class LabServer:
    """Receives messages and acknowledges what is stored.

    Args:
        inbox: Where messages go.
        at: Address; port 0 takes a free one.
        tls: From `server_context`; required unless the address is loopback.
        most: Bytes a message may have.
        idle: Seconds of silence after which a connection is closed.
        connections: Connections at a time; further ones are closed at once.
        clock: Time for MSH-7 of answers.

    Raises:
        TrialOpsError: The address can be reached by others and there is no TLS.
    """

    def __init__(
        self,
        inbox: LabInbox,
        at: Endpoint,
        *,
        tls: ssl.SSLContext | None = None,
        most: int = MAX_MESSAGE,
        idle: float = 300.0,
        connections: int = 64,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """See the class."""
        if tls is None and not at.loopback:
            raise TrialOpsError(
                "Laboratory results would travel unencrypted: this address can be reached from outside.",
                where=f"{at.host}:{at.port}",
                fix="Give a certificate and key, or listen on 127.0.0.1 behind a TLS proxy.",
            )
        self._inbox, self._at, self._tls = inbox, at, tls
        self._most, self._idle, self._limit, self._clock = most, idle, connections, clock
        self._open: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._draining = False
        self._server: asyncio.Server | None = None
        # One writer: the store decides between messages of the same id in the order they came.
        self._storing = asyncio.Lock()
        self.tally = Tally()

    @property
    def port(self) -> int:
        """Port in use."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen.

        Raises:
            TrialOpsError: The address is taken or is not ours.
        """
        try:
            self._server = await asyncio.start_server(self._serve, self._at.host, self._at.port, ssl=self._tls)
        except OSError as error:
            raise TrialOpsError(
                f"Cannot listen ({error.strerror or type(error).__name__}).",
                where=f"{self._at.host}:{self._at.port}",
                fix="Choose an address of this machine and a free port.",
            ) from None

    async def drain(self, seconds: float = 30.0) -> None:
        """Take no new connections, finish the messages that are being stored, and close."""
        self._draining = True
        if self._server is not None:
            self._server.close()
        for task in self._open - self._busy:
            task.cancel()
        if self._open:
            _, late = await asyncio.wait(self._open, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._draining or len(self._open) >= self._limit:
            self.tally.broke("too many connections")
            writer.close()
            return
        self._open.add(task)
        self.tally.connections += 1
        try:
            async for body in frames(reader, most=self._most, idle=self._idle):
                self._busy.add(task)
                await self._answer(body, writer)
                self._busy.discard(task)
                if self._draining:
                    break
        except FrameError as error:
            self.tally.broke(error.reason)
            self._complain(error, writer)
        except (ConnectionError, ssl.SSLError):
            self.tally.broke("the connection broke")
        except asyncio.CancelledError:
            # Only `drain` cancels, and only a connection that is not storing anything.
            pass
        finally:
            self._open.discard(task)
            self._busy.discard(task)
            writer.close()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(writer.wait_closed(), 5)

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        head = header_of(self._inbox.answer_header(body))
        try:
            async with self._storing:
                receipt = await asyncio.to_thread(self._inbox.receive, body)
        except Exception:
            # It is not stored, so it must not be accepted: the sender keeps it and tries again.
            self.tally.broke("could not be stored")
            errors: tuple[Hl7Error, ...] = (Hl7Error("NOT_STORED", "the message could not be stored; send it again"),)
        else:
            errors = receipt.errors
            setattr(self.tally, receipt.fate, getattr(self.tally, receipt.fate) + 1)
        answer = acknowledge(head, errors, at=f"{self._clock():%Y%m%d%H%M%S}")
        if answer is not None:
            writer.write(START + answer + END)
            await writer.drain()

    def _complain(self, error: FrameError, writer: asyncio.StreamWriter) -> None:
        """Say why the connection is closed; there is no header to answer to."""
        answer = acknowledge(header_of(b""), [Hl7Error("FRAMING", error.reason, code="100")], at="")
        if answer is not None and not writer.is_closing():
            with contextlib.suppress(Exception):
                writer.write(START + answer + END)


@dataclass(frozen=True)
class Answer:
    """An acknowledgement as the client sees it: code (AA, AE, AR), control id, text of the first error."""

    code: str
    control: str
    text: str = ""


def read_answer(data: bytes) -> Answer:
    """Read MSA and ERR of an acknowledgement."""
    segments = [s.split("|") for s in data.decode("latin-1").split("\r") if s]
    msa = next((s for s in segments if s[0] == "MSA"), ["MSA"])
    err = next((s for s in segments if s[0] == "ERR"), [])
    text = err[8] if len(err) > 8 else err[1] if len(err) > 1 else ""
    return Answer(msa[1] if len(msa) > 1 else "", msa[2] if len(msa) > 2 else "", text)


async def send(
    messages: Iterable[bytes], to: Endpoint, *, tls: ssl.SSLContext | None = None, timeout: float = 60.0
) -> list[Answer]:
    """Send messages over one connection, each after the answer to the one before.

    Args:
        messages: Without framing.
        to: Where; outside loopback TLS is required.
        tls: From `client_context`.
        timeout: Seconds to wait for an answer.

    Returns:
        One answer per message.

    Raises:
        TrialOpsError: No connection, no answer, or no TLS where it is required.
    """
    if tls is None and not to.loopback:
        raise TrialOpsError(
            "Laboratory results would travel unencrypted.", where=f"{to.host}:{to.port}", fix="Use mllps://host:port."
        )
    answers: list[Answer] = []
    try:
        name = to.host if tls is not None else None
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(to.host, to.port, ssl=tls, server_hostname=name), timeout
        )
        try:
            incoming = frames(reader, idle=timeout)
            for message in messages:
                writer.write(START + message + END)
                await writer.drain()
                answers.append(read_answer(await anext(incoming)))
        finally:
            writer.close()
    except (OSError, FrameError, StopAsyncIteration, TimeoutError) as error:
        raise TrialOpsError(
            f"The laboratory interface did not answer ({type(error).__name__}) after {len(answers)} messages.",
            where=f"{to.host}:{to.port}",
            fix="Check address, certificate and network; sending the same messages again does no harm.",
        ) from None
    return answers
