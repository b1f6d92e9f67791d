"""A FHIR R4 server for tests: search with paging, history, bulk export, faults on order, TLS."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


@dataclass
class FhirData:
    """What a server holds and how it misbehaves.

    Attributes:
        versions: Every version of every resource, oldest first; a deletion is a dict with "deleted".
        faults: Answers given before the real one, by path: (status, headers, body) in order.
        page: Resources per page at most, whatever the client asks for.
        token: Token that is asked for; empty asks for none.
        history: Whether the server keeps histories.
        requests: Method, path with query and headers of every request, in order.
        now: The server's clock.
        next_host: Base URL that next links lead to instead of the server's own.
        circle: Next links lead to the first page again.
        polls: Times an export says that it is not ready.
    """

    versions: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, list[tuple[int, dict[str, str], bytes]]] = field(default_factory=dict)
    page: int = 10
    token: str = ""
    history: bool = True
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    now: dt.datetime = NOW
    next_host: str = ""
    circle: bool = False
    polls: int = 2
    short: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, resource: dict[str, Any], updated: str) -> None:
        """Store a further version."""
        same = [v for v in self.versions if v["resourceType"] == resource["resourceType"] and v["id"] == resource["id"]]
        meta = {"versionId": str(len(same) + 1), "lastUpdated": updated}
        self.versions.append({**resource, "meta": meta})

    def delete(self, kind: str, own: str, updated: str) -> None:
        """Delete a resource."""
        same = [v for v in self.versions if v["resourceType"] == kind and v["id"] == own]
        meta = {"versionId": str(len(same) + 1), "lastUpdated": updated}
        self.versions.append({"resourceType": kind, "id": own, "deleted": True, "meta": meta})

    def current(self, kind: str = "") -> list[dict[str, Any]]:
        """Current versions, in order of id."""
        found = {(v["resourceType"], v["id"]): v for v in self.versions if not kind or v["resourceType"] == kind}
        return [v for _, v in sorted(found.items()) if "deleted" not in v]


def outcome(code: str, text: str) -> bytes:
    """An OperationOutcome whose text must reach nobody."""
    issue = {"severity": "error", "code": code, "diagnostics": text}
    return json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()


@dataclass(frozen=True)
class FhirServer:
    """A running server."""

    url: str
    data: FhirData


class _Handler(BaseHTTPRequestHandler):
    data: FhirData
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The clock of the data."""
        return self.data.now.strftime("%a, %d %b %Y %H:%M:%S GMT")

    def do_GET(self) -> None:
        """Answer a request, or give the fault that is on order."""
        data = self.data
        with data.lock:
            data.requests.append((self.command, self.path, dict(self.headers)))
            parts = urlsplit(self.path)
            waiting = data.faults.get(parts.path)
            fault = waiting.pop(0) if waiting else None
        if fault is not None:
            self._send(*fault)
            return
        if data.token and self.headers.get("Authorization") != f"Bearer {data.token}":
            self._send(401, {}, outcome("login", "who are you, Mrs Secret"))
            return
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self._route(parts.path.removeprefix("/fhir").strip("/"), query)

    do_DELETE = do_GET

    def _route(self, path: str, query: dict[str, str]) -> None:
        kinds = sorted({v["resourceType"] for v in self.data.versions})
        if path == "metadata":
            codes = ["read", "search-type", *(["history-type"] if self.data.history else [])]
            listed = [{"type": k, "interaction": [{"code": c} for c in codes]} for k in kinds]
            body = {
                "resourceType": "CapabilityStatement",
                "fhirVersion": "4.0.1",
                "rest": [{"mode": "server", "resource": listed}],
            }
            self._json(body)
        elif path in kinds:
            found = [v for v in self.data.current(path) if _since(v, query.get("_lastUpdated", "").removeprefix("ge"))]
            self._page("searchset", [{"resource": v, "search": {"mode": "match"}} for v in found], query, path)
        elif path.removesuffix("/_history") in kinds:
            kind = path.removesuffix("/_history")
            versions = [v for v in self.data.versions if v["resourceType"] == kind and _since(v, query["_since"])]
            self._page("history", [_history(v) for v in reversed(versions)], query, path)
        elif path.endswith("$export"):
            self._send(202, {"Content-Location": f"{self._base()}/status/1"}, b"")
        elif path == "status/1":
            self._status()
        elif path.startswith("file/"):
            lines = [json.dumps(v) for v in self.data.current(path.removeprefix("file/"))]
            self._send(200, {"Content-Type": "application/fhir+ndjson"}, ("\n".join(lines) + "\n").encode())
        elif path == "deleted":
            gone = [v for v in self.data.versions if "deleted" in v]
            entry = [{"request": {"method": "DELETE", "url": f"{v['resourceType']}/{v['id']}"}} for v in gone]
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
            self._send(200, {}, json.dumps(bundle).encode() + b"\n")
        elif path == "errors":
            self._send(200, {}, outcome("exception", "Mrs Secret could not be exported") + b"\n")
        else:
            self._send(404, {}, outcome("not-found", f"no {path} of Mrs Secret"))

    def _status(self) -> None:
        if self.command == "DELETE":
            self._send(202, {}, b"")
            return
        if self.data.polls:
            self.data.polls -= 1
            self._send(202, {"Retry-After": "1", "X-Progress": "working"}, b"")
            return
        kinds = sorted({v["resourceType"] for v in self.data.current()})
        base = self._base()
        output = [
            {"type": k, "url": f"{base}/file/{k}", "count": len(self.data.current(k)) + self.data.short} for k in kinds
        ]
        body = {
            "transactionTime": self.data.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "request": f"{base}/$export",
            "requiresAccessToken": bool(self.data.token),
            "output": output,
            "deleted": [{"type": "Bundle", "url": f"{base}/deleted"}],
            "error": [{"type": "OperationOutcome", "url": f"{base}/errors"}],
        }
        self._send(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _page(self, kind: str, entries: list[dict[str, Any]], query: dict[str, str], path: str) -> None:
        size = min(self.data.page, int(query.get("_count", "1000")))
        start = int(query.get("_offset", "0"))
        shown = entries[start : start + size]
        link = [{"relation": "self", "url": f"{self._base()}/{path}"}]
        if start + size < len(entries):
            more = {**query, "_offset": "0" if self.data.circle and start else str(start + size)}
            text = "&".join(f"{k}={v}" for k, v in more.items())
            link.append({"relation": "next", "url": f"{self.data.next_host or self._base()}/{path}?{text}"})
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": kind, "total": len(entries), "link": link}
        if shown:
            bundle["entry"] = shown
        self._json(bundle)

    def _base(self) -> str:
        scheme = "https" if isinstance(self.request, ssl.SSLSocket) else "http"
        return f"{scheme}://{self.headers['Host']}/fhir"

    def _json(self, body: dict[str, Any]) -> None:
        self._send(200, {"Content-Type": "application/fhir+json"}, json.dumps(body).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _since(version: dict[str, Any], since: str) -> bool:
    return not since or str(version["meta"]["lastUpdated"]) >= since


def _history(version: dict[str, Any]) -> dict[str, Any]:
    url = f"{version['resourceType']}/{version['id']}"
    response = {"status": "200", "lastModified": version["meta"]["lastUpdated"]}
    if "deleted" in version:
        etag = f'W/"{version["meta"]["versionId"]}"'
        return {"request": {"method": "DELETE", "url": url}, "response": {**response, "etag": etag}}
    return {"resource": version, "request": {"method": "PUT", "url": url}, "response": response}


@contextmanager
def serve(data: FhirData, certificate: Path | None = None) -> Iterator[FhirServer]:
    """Run a server on a free port of this machine; with a certificate, over TLS."""
    handler = type("Handler", (_Handler,), {"data": data})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        scheme = "https" if certificate is not None else "http"
        yield FhirServer(f"{scheme}://127.0.0.1:{server.server_address[1]}/fhir", data)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def self_made_certificate(path: Path, *, host: str = "127.0.0.1") -> Path:
    """Write key and certificate of a host, signed by itself, to one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test server")])
    alternative: x509.GeneralName
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
