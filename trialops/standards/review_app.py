"""The page on which a person works through the coding queue: a small ASGI application on the loopback address.

Nobody signs in with a password: whoever starts the server is the session's actor and gets an address with a secret
that turns into a cookie. Everything is server-side HTML with forms. A request needs the cookie and a loopback Host
(so that no foreign page can reach it by rebinding a name); a change also needs the form's token and, where the
browser sends one, an Origin of this server.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from trialops.errors import TrialOpsError
from trialops.pages.page import template
from trialops.standards.dictionaries import Dictionaries
from trialops.standards.review import DECIDED, STATES, Candidate, Item, ReviewQueue

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

COOKIE = "trialops_review"
LARGEST_BODY = 65_536
SHOWN = 200
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_ITEM_PATH = re.compile(r"/item/[0-9a-f]{8,64}")
_TONES = {"open": "warn", "second": "warn", "conflict": "bad", "accepted": "good", "rejected": "plain"}
_HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
]


@dataclass(frozen=True)
class Answer:
    """Status, body and further headers of a response."""

    status: int
    body: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Asked:
    """What the application needs of a request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    form: Mapping[str, str]


class ReviewApp:
    """The application.

    Args:
        queue: The queue.
        dictionaries: To search for other terms and to check codes typed in.
        actor: Recorded with every decision of this session.
    """

    def __init__(self, queue: ReviewQueue, dictionaries: Dictionaries, actor: str) -> None:
        self._queue, self._with, self._actor = queue, dictionaries, actor
        self.secret = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI event."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = await _body(receive)
        if body is None:
            answer = _plain(413, "The form is too large")
        else:
            query = _fields(scope["query_string"])
            asked = Asked(scope["method"], scope["path"], query, headers, _fields(body))
            answer = await asyncio.to_thread(self._guarded, asked)
        data = answer.body.encode()
        await send({"type": "http.response.start", "status": answer.status, "headers": [*_HEADERS, *answer.headers]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else data})

    # -- who may ask -------------------------------------------------------------------------------------------

    def _guarded(self, asked: Asked) -> Answer:
        host = asked.headers.get("host", "")
        if host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
            return _plain(403, "This server answers on the loopback address only")
        if asked.method not in ("GET", "HEAD", "POST"):
            return _plain(405, "Method not allowed")
        if asked.method == "GET" and hmac.compare_digest(asked.query.get("session", "").encode(), self.secret.encode()):
            cookie = f"{COOKIE}={self.secret}; HttpOnly; SameSite=Strict; Path=/".encode()
            page = asked.path if _ITEM_PATH.fullmatch(asked.path) else "/"
            return Answer(303, headers=((b"set-cookie", cookie), (b"location", page.encode())))
        if not hmac.compare_digest(_cookie(asked.headers.get("cookie", "")).encode(), self.secret.encode()):
            return _plain(403, "Open the address that the command printed")
        if asked.method == "POST":
            origin = asked.headers.get("origin", "")
            if origin and origin != f"http://{host}":
                return _plain(403, "The form was sent from another page")
            if not asked.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
                return _plain(415, "Send the form")
            key = asked.path.removeprefix("/item/")
            if not hmac.compare_digest(asked.form.get("csrf", "").encode(), self._token(key).encode()):
                return _plain(403, "The form's token does not fit: open the item again")
        try:
            return self._answer(asked)
        except TrialOpsError as error:
            return _plain(404, error.what)
        except Exception as error:  # a traceback on the terminal could quote what is being coded
            return _plain(500, f"Unexpected {type(error).__name__}")

    def _token(self, key: str) -> str:
        return hmac.new(self.secret.encode(), f"form\0{key}".encode(), hashlib.sha256).hexdigest()

    # -- pages -------------------------------------------------------------------------------------------------

    def _answer(self, asked: Asked) -> Answer:
        if asked.path == "/" and asked.method != "POST":
            return self._list(asked.query)
        if _ITEM_PATH.fullmatch(asked.path):
            key = asked.path.removeprefix("/item/")
            if asked.method == "POST":
                return self._decide(key, asked.form)
            return self._show(self._queue.item(key), query=asked.query.get("q", ""))
        return _plain(404, "There is no such page")

    def _list(self, query: Mapping[str, str]) -> Answer:
        everything = self._queue.items()
        chosen = {name: query.get(name, "") for name in ("state", "kind", "assignee", "text")}
        wanted = chosen["text"].casefold()
        items = [
            item
            for item in everything
            if (not chosen["state"] or item.state == chosen["state"])
            and (not chosen["kind"] or item.kind == chosen["kind"])
            and (not chosen["assignee"] or item.assignee == chosen["assignee"])
            and wanted in item.verbatim.casefold()
        ]
        if not any(chosen.values()):
            items.sort(key=lambda item: item.state in DECIDED)
        counted = Counter(item.state for item in everything)
        body = template(
            "review_queue.html",
            items=items[:SHOWN],
            matching=len(items),
            counts=[(state, counted[state]) for state in STATES],
            kinds=sorted({item.kind for item in everything}),
            chosen=chosen,
            tones=_TONES,
            actor=self._actor,
            study=self._queue.study,
        )
        return _page("Coding queue", body)

    def _show(self, item: Item, *, query: str = "", error: TrialOpsError | None = None, done: str = "") -> Answer:
        choices = list(item.candidates)
        if query:
            known = {choice.code for choice in choices}
            choices = [c for c in self._with.search(item.system, query) if c.code not in known] + choices
        following = next((i.item for i in self._queue.items("open") if i.item != item.item), "")
        body = template(
            "review_item.html",
            item=item,
            choices=choices,
            q=query,
            csrf=self._token(item.item),
            following=following,
            message=error.what if error else done,
            message_tone="bad" if error else "good",
            hint=error.fix if error else "",
            tones=_TONES,
            actor=self._actor,
        )
        return _page(item.verbatim, body, 409 if error else 200)

    def _decide(self, key: str, form: Mapping[str, str]) -> Answer:
        action = form.get("action", "")
        code = (form.get("other", "").strip() or form.get("code", "")) if action == "accept" else ""
        seen = form.get("seen", "")
        try:
            item = self._queue.item(key)
            code, display = chosen_code(item, code, self._with) if code else ("", "")
            item = self._queue.decide(
                key,
                action,
                actor=self._actor,
                reason=form.get("reason", ""),
                code=code,
                display=display,
                assignee=form.get("assignee", "").strip() if action == "assign" else "",
                seen=int(seen) if seen.isdigit() else -1,
            )
        except TrialOpsError as error:
            return self._show(self._queue.item(key), error=error)
        return Answer(303, headers=((b"location", f"/item/{item.item}".encode()),))


def chosen_code(item: Item, code: str, dictionaries: Dictionaries) -> tuple[str, str]:
    """A code and its text, from the candidates or from the dictionary of the item's system.

    Raises:
        TrialOpsError: The dictionary does not know the code.
    """
    for candidate in item.candidates:
        if candidate.code == code:
            return code, candidate.display
    found: Candidate | None = dictionaries.describe(item.system, code)
    if found is None:
        raise TrialOpsError(
            f"{item.system} as loaded here does not have the code.",
            where="coding queue",
            fix="Check the code, or load the release that has it.",
        )
    return found.code, found.display


async def _body(receive: Receive) -> bytes | None:
    data = b""
    while True:
        event = await receive()
        data += event.get("body", b"")
        if len(data) > LARGEST_BODY:
            return None
        if not event.get("more_body"):
            return data


def _fields(data: bytes) -> dict[str, str]:
    try:
        parsed = parse_qs(data.decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError:  # not UTF-8, or too many fields
        return {}
    return {name: values[0] for name, values in parsed.items()}


def _cookie(header: str) -> str:
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return next((value for name, _, value in pairs if name == COOKIE), "")


def _page(title: str, body: str, status: int = 200) -> Answer:
    return Answer(status, template("frame.html", title=title, body=body))


def _plain(status: int, text: str) -> Answer:
    from markupsafe import escape

    return Answer(status, template("frame.html", title=text, body=f"<p>{escape(text)}.</p>"))


def serve(app: ReviewApp, port: int, announce: Callable[[str], None]) -> None:
    """Serve on the loopback address until interrupted.

    Args:
        app: The application.
        port: 0 for a free one.
        announce: Told the address to open, with the session's secret.
    """
    import socket

    import uvicorn

    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError:
        raise TrialOpsError(
            f"Port {port} is in use.", where="coding serve", fix="Choose another with --port."
        ) from None
    announce(f"http://127.0.0.1:{listening.getsockname()[1]}/?session={app.secret}")
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", server_header=False)
    uvicorn.Server(config).run(sockets=[listening])
