"""A function host that speaks the asynchronous request-reply protocol of Durable Functions, on loopback.

POST starts an instance (202, Location with a `code`, Retry-After), or answers 409 where there is one; GET tells its
status: 202 while it runs, 200 when it has ended, 404 where there is none. Requests need the key in a header.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "key-of-the-test"
CODE = "code-of-the-extension"


@dataclass
class Host:
    """What the host holds.

    Attributes:
        instances: By id, the states still to come and what it was started with.
        starts: Ids in the order they were started.
        faults: What happens to the next requests by method: drop_before, drop_after, status:N, or "".
        requests: Method and path with query, as they arrived.
        path: States of the next instances.
        location: Where the next status is said to be; {instance} stands for the id.
        output: Replaces parts of the output.
        held: Whether instances stay in the state they are in.
    """

    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    path: tuple[str, ...] = ("Pending", "Running", "Completed")
    location: str = "/api/status/{instance}?code=" + CODE
    output: dict[str, Any] = field(default_factory=dict)
    held: bool = False
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers and body."""
        instance = path.split("?")[0].rsplit("/", 1)[-1]
        if method == "POST" and instance == "terminate":
            self.instances[path.rsplit("/", 2)[1]]["path"] = ["Terminated"]
            return 202, {}, {}
        if method == "POST":
            if instance in self.instances:
                return 409, {}, {"id": instance}
            self.instances[instance] = {"path": list(self.path), "input": json.loads(body)}
            self.starts.append(instance)
            return (
                202,
                {"Location": self.location.replace("{instance}", instance), "Retry-After": "1"},
                {"id": instance},
            )
        if instance not in self.instances:
            return 404, {}, {}
        known = self.instances[instance]
        state = known["path"].pop(0) if len(known["path"]) > 1 and not self.held else known["path"][0]
        told: dict[str, Any] = {"instanceId": instance, "runtimeStatus": state, "output": None}
        if state == "Completed":
            made = hashlib.sha256(json.dumps(known["input"], sort_keys=True).encode()).hexdigest()
            report = {"name": "interim.pdf", "sha256": made, "bytes": 1234}
            told["output"] = {"run_id": known["input"]["run_id"], "reports": [report], **self.output}
        ended = state in ("Completed", "Failed", "Canceled", "Terminated")
        return (200 if ended else 202), {}, told


@contextmanager
def serve_functions(host: Host) -> Iterator[str]:
    """The host on a free port of loopback; gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with host.lock:
                host.requests.append(f"{self.command} {self.path}")
                queue = host.faults.get(self.command, [])
                fault = queue.pop(0) if queue else ""
                if fault == "drop_before":
                    self.close_connection = True
                    return
                headers: dict[str, str] = {}
                if self.headers.get("x-functions-key") not in (KEY, CODE) and "Authorization" not in self.headers:
                    status, told = 401, {}
                elif fault.startswith("status:"):
                    status, told = int(fault.removeprefix("status:")), {}
                else:
                    status, headers, told = host.answer(self.command, self.path, body)
            if fault == "drop_after":
                self.close_connection = True
                return
            data = json.dumps(told).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _any  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield host.url
    finally:
        server.shutdown()
        server.server_close()
