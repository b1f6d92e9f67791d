"""The router as a program: one address in front of two model servers.

It is told by a file (`trialops.serving.routing`) that it looks at before every request, so a change takes effect
at once and outlives both the program that made it and the router itself.

    python -m trialops.serving.router --routing FILE --calls DIR --port 0 --port-file F

Requests of the Open Inference Protocol v2 pass through unchanged. What the router adds: the header
``x-trialops-arm`` to the server (stable, candidate or shadow) and to the caller (who answered).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.serving.call_log import CallLog, Exposures
from trialops.serving.route_call import STABLE_TIMEOUT, Call, json_reply, no_answer, no_model
from trialops.serving.route_metrics import RouteMetrics
from trialops.serving.route_request import Asked, asked
from trialops.serving.routing import CANDIDATE, STABLE, Backend, Routing, assign, read_routing
from trialops.serving.upstream import HOP_BY_HOP, Reply, Unreachable, Upstream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

ARM = b"x-trialops-arm"
MAX_BODY = 16 * 2**20
MAX_MIRRORS = 64
"""Mirrored requests in flight; further ones are not mirrored, and counted."""


class Router:
    """The ASGI application of the router.

    Args:
        routing_file: What it is told by.
        calls: Where every inference request is recorded with what both models answered.
        exposures: Where first exposures of an experiment are recorded.

    Raises:
        TrialOpsError: There is no usable routing file to begin with.
    """

    def __init__(self, routing_file: Path, calls: CallLog, exposures: Exposures) -> None:
        self.ready = True
        self._file = routing_file
        self._seen: tuple[int, int] = (0, 0)
        self._routing = read_routing(routing_file)
        self._upstreams: dict[tuple[str, int], Upstream] = {}
        self.calls, self._exposures = calls, exposures
        self._metrics = RouteMetrics()
        self._failures = 0
        self._mirrors: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        path, routing = scope["path"].rstrip("/"), self._current()
        if path == "/metrics":
            text = self._metrics.exposition(routing, ready=self.ready, open_breaker=self._broken(routing))
            await _answer(send, Reply(200, [(b"content-type", b"text/plain; version=0.0.4")], text.encode()))
        elif path == "/v2/health/live":
            await _answer(send, json_reply(200, {"live": True}))
        elif path == "/v2/health/ready" and not self.ready:
            await _answer(send, json_reply(503, {"ready": False}))
        else:
            body = await _body(receive)
            if body is None:
                await _answer(send, json_reply(413, {"error": f"the body is longer than {MAX_BODY} bytes"}))
            elif scope["method"] == "POST" and path.endswith("/infer"):
                await self._infer(scope, body, send, routing)
            else:
                await self._pass(scope, body, send, self._pinned(path, routing) or routing.stable or routing.candidate)

    async def settle(self, seconds: float = 2.0) -> None:
        """Wait for mirrored requests, then close files and connections."""
        if self._mirrors:
            await asyncio.wait(self._mirrors, timeout=seconds)
        for upstream in self._upstreams.values():
            upstream.close()
        self.calls.close()
        self._exposures.close()

    # -- what it is told ---------------------------------------------------------------

    def _current(self) -> Routing:
        try:
            found = os.stat(self._file)
            seen = (found.st_mtime_ns, found.st_ino)
            if seen != self._seen:
                self._routing, self._failures = read_routing(self._file), 0
                self._seen = seen
        except (OSError, TrialOpsError):  # go on as told last: a lost file must not stop traffic
            self._metrics.unreadable += 1
        return self._routing

    def _broken(self, routing: Routing) -> bool:
        return self._failures >= routing.breaker

    def _pinned(self, path: str, routing: Routing) -> Backend | None:
        """The server of the version a path names; None where it names none, or one that is not here."""
        parts = path.split("/")
        if len(parts) < 6 or parts[1:3] != ["v2", "models"] or parts[4] != "versions":
            return None
        wanted = (routing.stable, routing.candidate)
        return next((b for b in wanted if b is not None and b.version == parts[5]), None)

    # -- requests ----------------------------------------------------------------------

    async def _pass(self, scope: Scope, body: bytes, send: Send, backend: Backend | None) -> None:
        try:
            reply = await self.ask(backend, scope, body, "", STABLE_TIMEOUT) if backend else no_model()
        except Unreachable:
            reply = no_answer()
        await _answer(send, reply)

    async def _infer(self, scope: Scope, body: bytes, send: Send, routing: Routing) -> None:
        pinned = self._pinned(scope["path"].rstrip("/"), routing)
        nobody = routing.stable is None and routing.candidate is None
        if nobody or (pinned is not None and pinned == routing.candidate):  # asked for by name: no other may answer
            await self._pass(scope, body, send, pinned)
            return
        request = asked(body)
        call = Call(self, scope, body, routing, request)
        takes_part = routing.candidate is not None and pinned is None and request is not None
        chosen = routing.stable is None or (takes_part and request is not None and self._chosen(routing, request))
        reply = await call.by_candidate() if chosen else None
        served = CANDIDATE if reply is not None else STABLE
        if reply is None:
            reply = await call.by_stable()
        started = call.started
        await _answer(send, reply, (ARM, served.encode()))
        self._metrics.served(served, reply.status, time.perf_counter() - started, fallback=chosen and served == STABLE)
        if routing.percent > 0 and takes_part and request is not None:
            self._exposures.note(routing, request.unit, CANDIDATE if chosen else STABLE)
        if takes_part and routing.mirror and routing.stable is not None and not self._broken(routing):
            self._mirror(call, served, chosen)
        else:
            call.record(served, chosen)

    def _chosen(self, routing: Routing, request: Asked) -> bool:
        return not self._broken(routing) and assign(request.unit, routing.percent, routing.salt)

    def _mirror(self, call: Call, served: str, chosen: bool) -> None:
        other_asked = len(call.outcomes) == 2
        if other_asked or len(self._mirrors) >= MAX_MIRRORS:
            self._metrics.unmirrored += not other_asked
            call.record(served, chosen)
            return

        async def run() -> None:
            await (call.by_stable(mirror=True) if served == CANDIDATE else call.by_candidate(mirror=True))
            call.record(served, chosen)

        task = asyncio.ensure_future(run())
        self._mirrors.add(task)
        task.add_done_callback(self._mirrors.discard)

    async def ask(self, backend: Backend, scope: Scope, body: bytes, arm: str, seconds: float) -> Reply:
        """Send a request on to a server.

        Raises:
            Unreachable: It did not answer in time.
        """
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        headers = [item for item in scope["headers"] if item[0] != ARM]
        key = (backend.host, backend.port)
        if key not in self._upstreams:
            self._upstreams[key] = Upstream(*key)
        try:
            async with asyncio.timeout(seconds):
                return await self._upstreams[key].ask(
                    scope["method"], target, [*headers, (ARM, arm.encode())] if arm else headers, body
                )
        except TimeoutError:
            raise Unreachable("TimeoutError") from None

    def count(self, arm: str, *, ok: bool, refused: bool, seconds: float) -> None:
        """Count what a model made of a request; failures of the candidate in a row open the breaker."""
        self._metrics.called(arm, ok=ok, refused=refused, seconds=seconds)
        if arm.startswith(CANDIDATE) and not refused:
            self._failures = 0 if ok else self._failures + 1


async def _body(receive: Receive) -> bytes | None:
    chunks, size = [], 0
    while True:
        event = await receive()
        chunks.append(event.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY:
            return None
        if not event.get("more_body"):
            return b"".join(chunks)


async def _answer(send: Send, reply: Reply, *more: tuple[bytes, bytes]) -> None:
    headers = [item for item in reply.headers if item[0] not in HOP_BY_HOP]
    length = (b"content-length", str(len(reply.body)).encode())
    await send({"type": "http.response.start", "status": reply.status, "headers": [*headers, length, *more]})
    await send({"type": "http.response.body", "body": reply.body})


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trialops.serving.router", description=__doc__.splitlines()[0])
    parser.add_argument("--routing", type=Path, required=True, help="file that says where requests go")
    parser.add_argument("--calls", type=Path, required=True, help="folder for the record of requests and exposures")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port; 0 for a free one")
    parser.add_argument("--port-file", type=Path, help="file that receives the port once requests are accepted")
    parser.add_argument("--drain", type=float, default=0.0, help="seconds to keep answering, not ready, after SIGTERM")
    parser.add_argument("--grace", type=float, default=15.0, help="most seconds to wait for requests in flight")
    parser.add_argument("--watch-stdin", action="store_true", help="leave when standard input ends")
    parser.add_argument("--parent", type=int, help="process id to end with (Linux)")
    return parser.parse_args(argv)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by accepted connections
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise TrialOpsError(
            f"the router cannot listen: {error.strerror or error}",
            where=f"{host}:{port}",
            fix="choose another --port, or 0 for a free one",
        ) from error
    return listener


async def _run(args: argparse.Namespace) -> None:
    from trialops.serving.server import serve

    router = Router(args.routing, CallLog(args.calls), Exposures(args.calls))
    with contextlib.closing(_listen(args.host, args.port)) as listener:
        await serve(
            router,  # type: ignore[arg-type]  # it takes any application that has `ready`
            listener,
            port_file=args.port_file,
            drain=args.drain,
            grace=args.grace,
            watch_stdin=args.watch_stdin,
        )
    await router.settle()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    args = _arguments(argv)
    try:
        if args.parent is not None:
            from trialops.serving.server import end_with_parent

            end_with_parent(args.parent)
        import uvicorn

        loop = uvicorn.Config("", loop="auto").get_loop_factory()  # uvloop's where it is installed
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(_run(args))
    except TrialOpsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
