"""uvicorn's HTTP protocol, with a short way for ordinary requests.

httptools parses every request and uvicorn answers all that are not ordinary: chunked and long bodies, bodies that come
in parts, Expect: 100-continue, HTTP/1.0, other addresses, whatever the application has something to say about. What is
left out for an ordinary request is a scope, a task and five events on the way from the socket to the model and back.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from trialops.serving import rest
from trialops.serving.application import ARM_HEADER, arm_of
from trialops.serving.ordinary import LONGEST_BODY

if TYPE_CHECKING:
    from trialops.serving.application import Application
    from trialops.serving.ordinary import OrdinaryRequests

_LENGTH, _EXPECT = b"content-length", b"expect"
_NOT_ORDINARY = frozenset((b"transfer-encoding", b"upgrade", _EXPECT, rest.SPLIT_HEADER))


def ordinary_protocol(app: Application, ordinary: OrdinaryRequests) -> type[HttpToolsProtocol]:
    """A protocol class for uvicorn that knows an application's ordinary requests."""

    class Protocol(OrdinaryProtocol):
        application = app
        requests = ordinary

    return Protocol


class OrdinaryProtocol(HttpToolsProtocol):
    """One connection.

    A request takes the short way when all of it came in one piece and nothing is before it on the connection. Until
    its body was understood nothing is lost: then uvicorn is told of the request as if it had just been parsed.
    """

    application: Application
    requests: OrdinaryRequests

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._body: list[bytes] | None = None
        self._arm, self._started, self._waits = "", 0.0, False
        self._head = b""
        self._defaults: list[tuple[bytes, bytes]] | None = None

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        super().data_received(data)
        if self._body is not None and not self._waits:
            self._hand_over(whole=False)  # the rest of its body is still on its way

    def on_message_begin(self) -> None:
        """Answer the request before this one first, while it can still be handed over."""
        self._settle()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Choose the way."""
        if self._is_short():
            self._body, self._started = [], time.perf_counter()
        else:
            super().on_headers_complete()

    def _is_short(self) -> bool:
        if self.url not in self.application.infer_urls or not self.application.ready or self.transport.is_closing():
            return False
        if self.flow.write_paused:  # a caller that does not read its answers
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return False
        arm, length = b"", b""
        for name, value in self.headers:
            if name == _LENGTH:
                length = value
            elif name == ARM_HEADER:
                arm = value
            elif name in _NOT_ORDINARY:
                return False
        self._arm = arm_of(arm)
        return length.isdigit() and int(length) <= LONGEST_BODY

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body."""
        if self._body is None:
            super().on_body(body)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer, or let uvicorn do it."""
        if self._body is None:
            super().on_message_complete()
            return
        self._waits = True
        if not self.requests.take(b"".join(self._body), self._arm, self._started, self._answered):
            self._hand_over(whole=True)

    def shutdown(self) -> None:
        """End when nothing is owed."""
        self._settle()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, behind the answer that is owed."""
        self._settle()
        super().send_400_response(msg)

    def _settle(self) -> None:
        if self._waits:
            self.requests.answer_now()

    def _answered(self, request_id: str, body: bytes | None) -> None:
        if body is None:
            self._hand_over(whole=True)
            return
        self._body, self._waits = None, False
        if self.transport.is_closing():
            return
        defaults = self.server_state.default_headers
        if defaults is not self._defaults:  # made anew each second, for the date
            lines = b"".join(b"%b: %b\r\n" % header for header in (*defaults, (b"content-type", rest.JSON)))
            self._head, self._defaults = b"HTTP/1.1 200 OK\r\n" + lines.replace(b"%", b"%%") + _REST, defaults
        self.transport.write(self._head % (len(body), request_id.encode(), body))
        self.on_response_complete()

    def _hand_over(self, *, whole: bool) -> None:
        """Tell uvicorn of the request, of which everything came or not."""
        parts, self._body, self._waits = self._body or [], None, False
        parser: Any = self.parser
        self.parser = _PARSED
        try:
            super().on_headers_complete()
            for part in parts:
                super().on_body(part)
            if whole:
                super().on_message_complete()
        finally:
            self.parser = parser
        if parser is None:
            self.cycle.disconnected = True  # its caller left; it is logged all the same


_REST = b"content-length: %d\r\nx-request-id: %b\r\n\r\n%b"


class _Parsed:
    """The parser as it was when a request on the short way was parsed; the parser may be in the next one by now."""

    def get_http_version(self) -> str:
        return "1.1"

    def get_method(self) -> bytes:
        return b"POST"

    def should_upgrade(self) -> bool:
        return False

    def should_keep_alive(self) -> bool:
        return True


_PARSED: Any = _Parsed()
