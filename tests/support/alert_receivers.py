"""Receivers of alerts for tests: a webhook server and an SMTP server that keep what they are sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class Webhook:
    """What came over HTTP: (headers, body), and how it is answered."""

    received: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    answer: int = 200
    port: int = 0

    @property
    def address(self) -> str:
        """As Apprise writes it."""
        return f"json://127.0.0.1:{self.port}/hook"

    def keys(self) -> list[str]:
        """Idempotency keys in the order they came."""
        return [headers["idempotency-key"] for headers, _ in self.received]

    def titles(self) -> list[str]:
        """Titles in the order they came."""
        return [str(body["title"]) for _, body in self.received]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A webhook server on a free port of loopback."""
    kept = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if kept.answer < 400:
                kept.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(kept.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Mailbox:
    """Mail that came: each with its envelope's recipients."""

    received: list[tuple[list[str], Any]] = field(default_factory=list)
    port: int = 0
    refuse: bool = False

    @property
    def address(self) -> str:
        """As Apprise writes it."""
        return f"mailto://127.0.0.1:{self.port}/?from=alerts@trial.example.org&to=team@trial.example.org"

    def ids(self) -> list[str]:
        """Message-IDs in the order they came."""
        return [str(mail["Message-ID"]) for _, mail in self.received]

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep one mail, or refuse it for now."""
        if self.refuse:
            return "451 try again later"
        self.received.append((list(envelope.rcpt_tos), message_from_bytes(envelope.content)))
        return "250 taken"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """An SMTP server on a free port of loopback."""
    import socket

    kept = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        kept.port = free.getsockname()[1]
    controller = Controller(kept, hostname="127.0.0.1", port=kept.port)
    controller.start()
    try:
        yield kept
    finally:
        controller.stop()
