"""A gateway for safety reports over real HTTP on loopback, strict about its interface, and faulty on demand.

Requests and its own answers are held against docs/reference/report_gateway.openapi.json; the message against FDA's
rules. It is *not* idempotent: a message that arrives twice is counted twice, so that a test sees whoever sends again.

Faults, one per POST, in the order given; then it behaves:

    drop_before   the connection is closed before the message is taken
    drop_after    the message is taken and the connection closed without an answer
    cut           the message is taken and half an answer is sent
    status:N      answers N and takes nothing
    status_after:N  takes the message and answers N
    slow:S        takes the message and answers after S seconds
    hold          takes the message, sets `held`, and answers when `release` is set
    hold_before   sets `held` and waits for `release` before anything is taken
    garbage       takes the message and answers with no JSON
    other         takes the message and gives a receipt for another content
    busy:S        answers 503 with Retry-After S
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "report_gateway.openapi.json"
TOKEN = "token-of-the-test"


class Gateway:
    """What the gateway has and what it will do."""

    def __init__(self, faults: Sequence[str] = (), *, check: bool = True) -> None:
        self.faults, self.check = list(faults), check
        self.find_faults: list[str] = []
        self.taken: Counter[str] = Counter()
        self.messages: dict[str, dict[str, str]] = {}
        self.bodies: dict[str, bytes] = {}
        self.acknowledgements: dict[str, list[bytes]] = {}
        self.violations: list[str] = []
        self.requests: list[str] = []
        self.held, self.release = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.url = ""
        self.document = json.loads(DOCUMENT.read_text())

    # -- the interface as documented -----------------------------------------------------------------------------

    def operation(self, method: str, path: str) -> tuple[dict[str, Any], dict[str, str]]:
        """The documented operation of a request, and the parameters in its path."""
        parts = path.strip("/").split("/")
        for template, item in self.document["paths"].items():
            wanted = template.strip("/").split("/")
            if len(wanted) == len(parts) and method.lower() in item:
                found = dict(zip(wanted, parts, strict=True))
                if all(key.startswith("{") or key == value for key, value in found.items()):
                    return item[method.lower()], {k.strip("{}"): unquote(v) for k, v in found.items() if k[0] == "{"}
        return {}, {}

    def faults_of(self, operation: dict[str, Any], headers: Any, body: bytes) -> list[str]:
        """What a request has that is not documented, or lacks."""
        wrong = []
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            wrong.append("no token")
        for parameter in operation.get("parameters", []):
            value = headers.get(parameter["name"])
            if value is None:
                wrong.append(f"no {parameter['name']}")
            else:
                wrong += [error.message for error in self._validator(parameter["schema"]).iter_errors(value)]
        kinds = operation.get("requestBody", {}).get("content", {})
        if kinds and headers.get("Content-Type") not in kinds:
            wrong.append("content type")
        if bool(kinds) != bool(body):
            wrong.append("body")
        return wrong

    def documented(self, operation: dict[str, Any], status: int, answer: Any) -> None:
        """Hold an answer of ours against the document."""
        response = operation["responses"].get(str(status))
        assert response is not None, f"status {status} is not documented"
        errors = list(self._validator(response["content"]["application/json"]["schema"]).iter_errors(answer))
        assert not errors, errors

    def _validator(self, schema: dict[str, Any]) -> Any:
        return jsonschema.Draft202012Validator({**schema, "components": self.document["components"]})

    # -- what it does --------------------------------------------------------------------------------------------

    def take(self, key: str, body: bytes) -> dict[str, str]:
        """Take a message; a second time counts."""
        with self.lock:
            self.taken[key] += 1
            digest = hashlib.sha256(body).hexdigest()
            self.bodies[key] = body
            self.messages.setdefault(
                key,
                {
                    "message_id": key,
                    "digest": digest,
                    "receipt": f"G{len(self.messages) + 1:05d}",
                    "received_at": "2026-01-01T00:00:00+00:00",
                },
            )
            return self.messages[key]

    def message_faults(self, key: str, headers: Any, body: bytes) -> list[str]:
        """What is wrong with a message."""
        from lxml import etree

        from trialops.safety.e2b.checking import check, rejections
        from trialops.safety.e2b.values import read_values

        wanted = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if headers.get("Content-Digest") != f"sha-256=:{wanted}:":
            return ["digest"]
        if not self.check:
            return []
        values = read_values(etree.fromstring(body))
        if values.first("N.1.2") != key:
            return ["number"]
        return sorted({finding.rule for finding in rejections(check(values))})


def acknowledgement(
    message_id: str,
    *,
    code: str = "CA",
    batch_code: str = "",
    text: str = "Report Loaded Successfully",
    number: str = "1",
    about: str = "",
) -> bytes:
    """An acknowledgement of one message, of the form FDA sends."""
    oid = "2.16.840.1.113883.3.989.2.1.3."
    batch_code = batch_code or ("AA" if code == "CA" else "AE")

    def device(name: str, root: str, value: str) -> str:
        return (
            f'<{name} typeCode="{name[:3].upper()}"><device classCode="DEV" determinerCode="INSTANCE">'
            f'<id extension="{value}" root="{oid}{root}"/></device></{name}>'
        )

    message = f"""<MCCI_IN000002UV01><id extension="L{number}" root="{oid}19"/>
<creationTime value="20260101120000"/>{device("receiver", "16", "000000000")}{device("sender", "15", "CDER_IND")}
<acknowledgement typeCode="{code}"><targetMessage><id extension="{about or message_id}" root="{oid}1"/></targetMessage>
<acknowledgementDetail><text>{text}</text></acknowledgementDetail></acknowledgement></MCCI_IN000002UV01>"""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<MCCI_IN200101UV01 xmlns="urn:hl7-org:v3" ITSVersion="XML_1.0"><id extension="A{number}" root="{oid}20"/>
<creationTime value="20260101120000-0500"/>{message if code else ""}
{device("receiver", "18", "000000000")}{device("sender", "17", "ZZFDA_PREMKT")}
<acknowledgement typeCode="{batch_code}"><targetBatch><id extension="{message_id}" root="{oid}22"/></targetBatch>
<acknowledgementDetail><text>done</text></acknowledgementDetail></acknowledgement></MCCI_IN200101UV01>""".encode()


@contextmanager
def running_gateway(faults: Sequence[str] = (), *, check: bool = True) -> Iterator[Gateway]:
    """A gateway on a free port of loopback."""
    gateway = Gateway(faults, check=check)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            operation, found = self.begin("GET", b"")
            if not operation:
                return
            if gateway.find_faults:
                fault = gateway.find_faults.pop(0)
                if fault == "drop":
                    self.close_connection = True
                    return
                self.answer({}, int(fault), {"errors": [{"code": "unavailable"}]})
                return
            key = found["message_id"]
            if key not in gateway.messages:
                self.answer(operation, 404, {"errors": [{"code": "message_unknown"}]})
            elif self.path.endswith("/acknowledgements"):
                listed = [{"content": base64.b64encode(a).decode()} for a in gateway.acknowledgements.get(key, [])]
                self.answer(operation, 200, {"acknowledgements": listed})
            else:
                self.answer(operation, 200, gateway.messages[key])

        def do_POST(self) -> None:
            fault, _, value = (gateway.faults.pop(0) if gateway.faults else "").partition(":")
            if fault == "drop_before":
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            operation, _ = self.begin("POST", body)
            if not operation:
                return
            if fault == "hold_before":
                gateway.held.set()
                gateway.release.wait(20)
            if fault == "busy":
                self.answer(operation, 503, {"errors": [{"code": "busy"}]}, retry_after=value)
                return
            if fault == "status":
                self.answer({}, int(value), {"errors": [{"code": "injected"}]})
                return
            key = self.headers["Idempotency-Key"]
            known = gateway.messages.get(key)
            if known and known["digest"] != hashlib.sha256(body).hexdigest():
                self.answer(operation, 409, {"errors": [{"code": "other_content"}]})
                return
            wrong = gateway.message_faults(key, self.headers, body)
            if wrong:
                self.answer(operation, 422, {"errors": [{"code": each} for each in wrong]})
                return
            receipt = gateway.take(key, body)
            if fault == "slow":
                time.sleep(float(value))
            if fault == "hold":
                gateway.held.set()
                gateway.release.wait(20)
            if fault == "drop_after":
                self.close_connection = True
            elif fault == "cut":
                self.wfile.write(b'HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{"message_id"')
                self.close_connection = True
            elif fault == "status_after":
                self.answer({}, int(value), {"errors": [{"code": "injected"}]})
            elif fault == "garbage":
                self.answer({}, 201, None)
            elif fault == "other":
                self.answer({}, 201, {**receipt, "digest": "0" * 64})
            else:
                self.answer(operation, 201, receipt)

        def begin(self, method: str, body: bytes) -> tuple[dict[str, Any], dict[str, str]]:
            gateway.requests.append(f"{method} {self.path}")
            operation, found = gateway.operation(method, self.path)
            wrong = gateway.faults_of(operation, self.headers, body) if operation else ["no such path"]
            if wrong:
                gateway.violations.append(f"{method} {self.path}: {', '.join(wrong)}")
                self.answer({}, 400, {"errors": [{"code": "request"}]})
                return {}, {}
            return operation, found

        def answer(self, operation: dict[str, Any], status: int, body: Any, *, retry_after: str = "") -> None:
            if operation:
                gateway.documented(operation, status, body)
            data = b"<html>" if body is None else json.dumps(body).encode()
            try:
                self.send_response(status)
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the sender is gone, as some tests want it

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        gateway.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
