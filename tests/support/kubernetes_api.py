"""A Kubernetes API over real HTTP that holds custom resources and refuses what their published schema refuses.

What is checked: the CRD's schema, closed (a field it does not name is an error), names, namespaces, and the resource
version of a replacement. What is not there: watching, admission, defaulting, controllers.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import yaml

PATH = re.compile(r"/apis/([^/]+)/([^/]+)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?$")


class Loader(yaml.CSafeLoader):
    """Reads `=` as text; Prometheus' definitions hold one."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A CRD's schema as a strict JSON schema."""
    result = dict(schema)
    if result.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in schema:
        result["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = closed(schema[key])
    return result


class Schemas:
    """Validators of the published CRDs.

    Args:
        files: CRD files.
    """

    def __init__(self, *files: Path) -> None:
        self._validators: dict[tuple[str, str, str], Any] = {}
        self.kinds: dict[tuple[str, str, str], str] = {}
        for file in files:
            definition = yaml.load(file.read_text(), Loader)["spec"]  # noqa: S506  CSafeLoader
            for version in definition["versions"]:
                key = (definition["group"], version["name"], definition["names"]["plural"])
                schema = closed(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                self._validators[key] = jsonschema.Draft202012Validator(schema)
                self.kinds[key] = definition["names"]["kind"]

    def problems(self, group: str, version: str, plural: str, document: Mapping[str, Any]) -> list[str]:
        """What the schema refuses, with the place."""
        found = self._validators[group, version, plural].iter_errors(document)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]

    def check(self, document: Mapping[str, Any]) -> list[str]:
        """As `problems`, of a document that names its kind."""
        group, _, version = document["apiVersion"].partition("/")
        plural = next(k[2] for k, kind in self.kinds.items() if k[:2] == (group, version) and kind == document["kind"])
        return self.problems(group, version, plural, document)


class Cluster:
    """What the API holds, and what it was asked.

    Attributes:
        objects: (plural, namespace, name) to document.
        requests: Method and path of each request, in order.
        conflicts: Replacements still to be refused as if somebody had written in between.
    """

    def __init__(self, schemas: Schemas) -> None:
        self.schemas = schemas
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.conflicts = 0
        self.url = ""
        self._lock = threading.Lock()
        self._revision = 0

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        """Answer one request."""
        with self._lock:
            self.requests.append((method, path))
            match = PATH.match(path)
            if match is None:
                return _status(404, "NotFound", "no such path")
            group, version, namespace, plural, name = match.groups()
            if (group, version, plural) not in self.schemas.kinds:
                return _status(404, "NotFound", "no such resource")
            if method == "POST" and body is not None:
                name = body.get("metadata", {}).get("name", "")
            key = (plural, namespace, name)
            if method in ("POST", "PUT"):
                return self._write(method, key, (group, version, plural), body or {})
            if key not in self.objects:
                return _status(404, "NotFound", f"{plural} {name} not found")
            if method == "DELETE":
                del self.objects[key]
                return _status(200, "Success", "")
            return 200, copy.deepcopy(self.objects[key])

    def _write(
        self, method: str, key: tuple[str, str, str], kind: tuple[str, str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        problems = self.schemas.problems(*kind, body)
        metadata = body.get("metadata", {})
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", key[2]) or len(key[2]) > 63:
            problems.append("metadata.name: not a DNS label")
        if metadata.get("namespace", key[1]) != key[1]:
            problems.append("metadata.namespace: another than the path's")
        if problems:
            return _status(422, "Invalid", "; ".join(problems))
        held = self.objects.get(key)
        if method == "POST" and held is not None:
            return _status(409, "AlreadyExists", "it exists")
        if method == "PUT":
            if held is None:
                return _status(404, "NotFound", "not found")
            if self.conflicts:
                self.conflicts -= 1
                self._revision += 1
                held["metadata"]["resourceVersion"] = str(self._revision)
                held["metadata"].setdefault("annotations", {})["somebody"] = "else"
            if metadata.get("resourceVersion") != held["metadata"]["resourceVersion"]:
                return _status(409, "Conflict", "the object has been modified")
        self._revision += 1
        stored = copy.deepcopy(body)
        stored["metadata"] |= {"resourceVersion": str(self._revision), "uid": f"uid-{key[2]}"}
        self.objects[key] = stored
        return (201 if method == "POST" else 200), copy.deepcopy(stored)


def _status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    state = "Success" if code < 400 else "Failure"
    return code, {
        "apiVersion": "v1", "kind": "Status", "status": state, "reason": reason, "message": message, "code": code,
    }  # fmt: skip


@contextmanager
def cluster(schemas: Schemas) -> Iterator[Cluster]:
    """A cluster's API on a loopback port; its `url` is where."""
    held = Cluster(schemas)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            code, document = held.answer(self.command, self.path.partition("?")[0], body)
            data = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
