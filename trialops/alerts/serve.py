"""A small HTTP server: the page by which an alert is taken, Alertmanager's call back, metrics.

A link shows a page with a button; only the button takes the alert. Mail programs that open links to look at them would
take it otherwise.
"""

from __future__ import annotations

import hmac
import html
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from trialops.alerts.alertmanager import CALLBACK, hook_token, take_call
from trialops.alerts.links import read_link
from trialops.alerts.outbox import AlertOutbox
from trialops.alerts.register import AlertRegister
from trialops.alerts.routes import Routes
from trialops.alerts.telling import Telling, acknowledge
from trialops.errors import TrialOpsError

MOST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Service:
    """What the server works on.

    Attributes:
        register: The alerts.
        routes: Who is told.
        key: Signs links; from it comes the token that Alertmanager presents.
        clock: The time now.
        metrics: The page of metrics as text.
    """

    register: AlertRegister
    routes: Routes
    key: bytes
    clock: Callable[[], datetime]
    metrics: Callable[[], str]

    @property
    def outbox(self) -> AlertOutbox:
        """The messages."""
        return AlertOutbox(self.register.engine, self.register.study, actor=self.register.actor)

    def asked(self, token: str) -> str:
        """The page of a link: what it is about, and a button."""
        message = self._message(token)
        lines = "".join(f"<li>{html.escape(line['summary'] or line['name'])}</li>" for line in message["lines"])
        return _page(
            str(message["title"]),
            f"<ul>{lines}</ul><form method=post action=ack><input type=hidden name=t value='{html.escape(token)}'>"
            "<button>I take it</button></form>",
        )

    def taken(self, token: str) -> str:
        """Take the alerts of a link; the page that says what came of it."""
        who = read_link(self.key, token, self.clock()).who
        message = self._message(token)
        chosen = [(str(print_), int(episode)) for print_, episode in message["alerts"]]
        done = acknowledge(self.register, chosen, who, self.clock())
        if done:
            self._audit(who, [alert.fingerprint for alert in done])
            return _page("Taken", f"<p>{len(done)} of {len(chosen)} alerts are yours now; nobody else is paged.</p>")
        return _page("Nothing to take", "<p>They have ended, or somebody has taken them already.</p>")

    def called(self, payload: dict[str, Any]) -> int:
        """Alertmanager's call back; returns messages queued."""
        from trialops.stores.database import writing

        with writing(self.register.engine) as connection:
            telling = Telling(self.register, self.outbox, self.routes, connection, self.clock())
            return take_call(telling, payload)

    def _message(self, token: str) -> dict[str, Any]:
        link = read_link(self.key, token, self.clock())
        message = self.outbox.message(link.message)
        if message is None:
            raise TrialOpsError("The message of this link is not here", where="link", fix="Use a later message.")
        return dict(message.content)

    def _audit(self, who: str, fingerprints: list[str]) -> None:
        from trialops.governance.audit import AuditTrail
        from trialops.settings import settings

        if settings().audit_log_enabled:
            AuditTrail(self.register.engine).append(
                actor=who, action="alert.acknowledge", object=", ".join(f[:12] for f in fingerprints), reason="by link"
            )


def _page(title: str, body: str) -> str:
    from trialops.pages.page import template

    return template("frame.html", title=title, body=body)


def make_server(service: Service, host: str, port: int) -> ThreadingHTTPServer:
    """The server, not yet serving; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "trialops", ""

        def do_GET(self) -> None:
            """Health, metrics, or the page of a link."""
            url = urlsplit(self.path)
            if url.path == "/healthz":
                self._answer(HTTPStatus.OK, "ok\n", "text/plain")
            elif url.path == "/metrics":
                self._answer(HTTPStatus.OK, service.metrics(), "text/plain; version=0.0.4")
            elif url.path == "/ack":
                self._page(lambda: service.asked(parse_qs(url.query).get("t", [""])[0]))
            else:
                self._answer(HTTPStatus.NOT_FOUND, "not found\n", "text/plain")

        def do_POST(self) -> None:
            """Take alerts, or Alertmanager's call back."""
            path, body = urlsplit(self.path).path, self._body()
            if body is None:
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large\n", "text/plain")
            elif path == "/ack":
                self._page(lambda: service.taken(parse_qs(body.decode("utf-8", "replace")).get("t", [""])[0]))
            elif path == CALLBACK:
                self._called(body)
            else:
                self._answer(HTTPStatus.NOT_FOUND, "not found\n", "text/plain")

        def _called(self, body: bytes) -> None:
            presented = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(presented.encode(), hook_token(service.key).encode()):
                self._answer(HTTPStatus.UNAUTHORIZED, "no\n", "text/plain")
                return
            try:
                queued = service.called(json.loads(body))
            except (TrialOpsError, ValueError):
                self._answer(HTTPStatus.BAD_REQUEST, "this is not what Alertmanager sends\n", "text/plain")
            except Exception:  # anything else is ours: Alertmanager tries again
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "try again\n", "text/plain")
            else:
                self._answer(HTTPStatus.OK, f"{queued}\n", "text/plain")

        def _page(self, make: Callable[[], str]) -> None:
            try:
                self._answer(HTTPStatus.OK, make(), "text/html; charset=utf-8")
            except TrialOpsError as error:
                page = _page(error.what, f"<p>{html.escape(error.fix or '')}</p>")
                self._answer(HTTPStatus.FORBIDDEN, page, "text/html; charset=utf-8")

        def _body(self) -> bytes | None:
            length = self.headers.get("Content-Length", "0")
            size = int(length) if length.isdigit() else MOST_BYTES + 1
            return self.rfile.read(size) if size <= MOST_BYTES else None

        def _answer(self, status: HTTPStatus, text: str, kind: str) -> None:
            data = text.encode()
            self.send_response(status)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(data))),
                ("Cache-Control", "no-store"),
                ("Referrer-Policy", "no-referrer"),  # the address holds the token
                ("X-Content-Type-Options", "nosniff"),
                ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged: their addresses hold tokens."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server


def serve_in_background(server: ThreadingHTTPServer) -> threading.Thread:
    """Serve until `server.shutdown()`."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return thread
