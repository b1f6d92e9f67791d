"""A small Kubeflow Pipelines API server: the v2beta1 paths this project calls, over real HTTP.

Request bodies are read with the API's own generated models; a field those do not know is refused, as the real
server's strict JSON decoding does.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml

MODELS = {
    "recurringruns": ("V2beta1RecurringRun", "recurring_run_id", "recurringRuns"),
    "runs": ("V2beta1Run", "run_id", "runs"),
    "experiments": ("V2beta1Experiment", "experiment_id", "experiments"),
    "pipelines": ("V2beta1Pipeline", "pipeline_id", "pipelines"),
}


def unknown_fields(data: Any, model: Any) -> list[str]:
    """Names in ``data`` that the generated model, or a model inside it, does not have."""
    if not isinstance(data, dict) or not hasattr(model, "attribute_map"):
        return []
    known = {wire: attribute for attribute, wire in model.attribute_map.items()}
    wrong = [name for name in data if name not in known]
    for name, value in data.items():
        inner = getattr(kfp_server_api, str(model.openapi_types.get(known.get(name, ""), "")), None)
        if inner is not None:
            wrong += unknown_fields(value, inner)
    return wrong


class State:
    """What the server holds."""

    def __init__(self, page_limit: int = 2, token: str | None = None) -> None:
        self.items: dict[str, list[dict[str, Any]]] = {name: [] for name in (*MODELS, "versions")}
        self.page_limit = page_limit
        self.token = token
        self.requests: list[tuple[str, str]] = []
        self.states = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.refused: list[str] = []
        self.url = ""

    def add(self, kind: str, item: dict[str, Any], key: str) -> dict[str, Any]:
        item = {
            **item,
            key: f"{kind}-{sum(len(found) for found in self.items.values())}-{len(self.requests)}",
        }
        self.items[kind].append(item)
        return item


class Handler(BaseHTTPRequestHandler):
    """One request."""

    state: State

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def _send(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _handle(self) -> None:
        state = self.state
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        state.requests.append((self.command, parts.path))
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if state.token and self.headers.get("authorization") != f"Bearer {state.token}":
            return self._send({"message": "no valid token"}, 401)
        path = parts.path.removeprefix("/apis/v2beta1/")
        if path == "healthz":
            return self._send({"multi_user": False})
        if path == "pipelines/upload_version":
            return self._upload(raw, query)
        versions = re.fullmatch(r"pipelines/([^/]+)/versions", path)
        if versions:
            mine = [item for item in state.items["versions"] if item["pipeline_id"] == versions.group(1)]
            return self._list(mine, "pipeline_versions", query)
        kind, _, name = path.partition("/")
        if kind not in MODELS:
            return self._send({"message": f"no such path {self.path}"}, 404)
        model, key, _ = MODELS[kind]
        if self.command == "POST" and not name:
            return self._create(kind, getattr(kfp_server_api, model), key, raw)
        found = [item for item in state.items[kind] if not name or item[key] == name]
        if not name:
            return self._list(found, {"recurringruns": "recurringRuns"}.get(kind, kind), query)
        if not found:
            return self._send({"message": f"{kind} {name} not found"}, 404)
        if self.command == "DELETE":
            state.items[kind].remove(found[0])
            return self._send({})
        if kind == "runs" and len(state.states) > 1:
            state.states.pop(0)
        return self._send({**found[0], **({"state": state.states[0]} if kind == "runs" else {})})

    do_GET = do_POST = do_DELETE = _handle

    def _list(self, found: list[dict[str, Any]], field: str, query: dict[str, str]) -> None:
        if query.get("filter"):
            for predicate in json.loads(query["filter"])["predicates"]:
                value = predicate.get("string_value", predicate.get("stringValue"))
                found = [item for item in found if item.get(predicate["key"], item.get("display_name")) == value]
        start = int(query.get("page_token") or 0)
        size = min(int(query.get("page_size") or 10), self.state.page_limit)
        answer: dict[str, Any] = {field: found[start : start + size], "total_size": len(found)}
        if start + size < len(found):
            answer["next_page_token"] = str(start + size)
        self._send(answer)

    def _create(self, kind: str, model: Any, key: str, raw: bytes) -> None:
        body = json.loads(raw)
        wrong = unknown_fields(body, model)
        if wrong:
            self.state.refused += wrong
            return self._send({"message": f"unknown fields {wrong}"}, 400)
        reader = kfp_server_api.ApiClient()
        read = reader.deserialize(type("Body", (), {"data": raw.decode()}), model.__name__)
        plain = reader.sanitize_for_serialization(read)
        if kind == "recurringruns":
            cron = plain["trigger"]["cron_schedule"]["cron"]
            if len(cron.split()) != 6:
                return self._send({"message": f"cron {cron!r} does not have 6 fields"}, 400)
            if not plain["pipeline_version_reference"].get("pipeline_id"):
                return self._send({"message": "pipeline_id is required"}, 400)
        self._send(self.state.add(kind, plain, key))

    def _upload(self, raw: bytes, query: dict[str, str]) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        part = BytesParser().parsebytes(head + raw).get_payload()[0]
        documents = list(yaml.safe_load_all(part.get_payload(decode=True)))
        item = {
            "display_name": query["name"],
            "pipeline_id": query["pipelineid"],
            "pipeline_spec": documents[0],
        }
        self._send(self.state.add("versions", item, "pipeline_version_id"))


@contextmanager
def serving(page_limit: int = 2, token: str | None = None) -> Iterator[State]:
    """A server on a free port for the time of a test."""
    state = State(page_limit, token)
    handler = type("Bound", (Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
