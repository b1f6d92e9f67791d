"""The ASGI application that answers the Open Inference Protocol v2 for one version of one model.

No web framework: the protocol is six addresses, and every layer between the socket and the model costs more
than the prediction itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from trialops.errors import TrialOpsError
from trialops.serving import protocol
from trialops.serving.metrics import CONTENT_TYPE, Metrics
from trialops.version import code_version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trialops.models.bundle import Bundle

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON = b"application/json"
INLINE_ROWS = 64
"""Up to this many rows, predicting costs less than a thread does; above, it would hold up health checks."""


class Application:
    """The ASGI application that serves one version of one model.

    Args:
        bundle: The loaded model.
        name: Name in the URL.
        version: Version in the URL and in every answer.
        log: Where the request log goes, one JSON line per inference request; None for no log.
        limits: Rows and bytes allowed in one request.
    """

    def __init__(self, bundle: Bundle, name: str, version: str, *, log: TextIO | None, limits: protocol.Limits) -> None:
        self.ready = False
        self._bundle, self._name, self._version, self._limits = bundle, name, version, limits
        self._features = list(bundle.features)
        self._digest = bundle.digest
        self._log = log
        self._metrics = Metrics(name, version, self._digest)
        self._in_flight = 0
        self._code_version = code_version()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")

    def warm_up(self) -> None:
        """Predict one row and one batch, so that the first caller does not pay for it.

        Raises:
            TrialOpsError: The model does not answer with probabilities.
        """
        for rows in (1, INLINE_ROWS + 1):
            try:
                self._predict(np.full((rows, len(self._features)), np.nan))
            except Exception as error:
                raise TrialOpsError(
                    f"the model failed its warm-up prediction: {type(error).__name__}",
                    where=f"bundle of {self._name} version {self._version}, digest {self._digest}",
                    fix="check the bundle: its features, fill values and booster must belong together",
                ) from error
        self.ready = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"].rstrip("/")
        if path in self._infer_paths:
            if method == "POST":
                await self._infer(scope, receive, send)
            else:
                await _answer(send, 405, _error("use POST"), (b"allow", b"POST"))
            return
        if method not in ("GET", "HEAD"):
            await _answer(send, 405, _error("use GET"), (b"allow", b"GET"))
        elif path == "/metrics":
            text = self._metrics.exposition(ready=self.ready, in_flight=self._in_flight)
            await _answer(send, 200, text.encode(), kind=CONTENT_TYPE)
        else:
            status, document = self._describe(path)
            await _answer(send, status, json.dumps(document).encode())

    @property
    def _infer_paths(self) -> tuple[str, str]:
        model = f"/v2/models/{self._name}"
        return f"{model}/infer", f"{model}/versions/{self._version}/infer"

    def _describe(self, path: str) -> tuple[int, dict[str, Any]]:
        up = 200 if self.ready else 503
        model = f"/v2/models/{self._name}"
        if path == "/v2":
            return 200, {"name": "trialops", "version": self._code_version, "extensions": []}
        if path == "/v2/health/live":
            return 200, {"live": True}
        if path == "/v2/health/ready":
            return up, {"ready": self.ready}
        for prefix in (f"{model}/versions/{self._version}", model):
            if path == prefix:
                return 200, protocol.metadata(
                    self._name, self._version, self._bundle.kind, self._digest, self._features
                )
            if path == f"{prefix}/ready":
                return up, {"name": self._name, "ready": self.ready}
        if path.startswith("/v2/models/"):
            return 404, {"error": f'this server has only model "{self._name}" version "{self._version}"'}
        return 404, {"error": "no such address; the model is described at " + model}

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        self._in_flight += 1
        request_id, probability = str(uuid.uuid4()), np.empty(0)
        headers: list[tuple[bytes, bytes]] = []
        try:
            try:
                body = await _body(scope, receive, self._limits.body)
                request = protocol.decode(body, self._features, self._limits)
                # A caller's own id may be a subject's; only a UUID is fit for the log.
                request_id = request.id if _is_uuid(request.id) else request_id
                probability = await self._probabilities(request.features)
                status = 200
                answer = protocol.encode(request.id, self._name, self._version, self._digest, probability)
            except protocol.BadRequest as error:
                status, answer = 400, _error(str(error))
                headers.append((b"connection", b"close"))  # the rest of an oversized body is not read
            except Exception as error:  # the caller gets a plain answer, the operator the type; never a value
                status, answer = 500, _error("the model could not answer this request")
                probability = np.empty(0)
                print(f"request {request_id} failed: {type(error).__name__}", file=sys.stderr, flush=True)
            headers.append((b"x-request-id", request_id.encode()))
            seconds = time.perf_counter() - started
            self._metrics.observe(status, seconds, probability.tolist())
            self._record(request_id, status, seconds, probability)
            await _answer(send, status, answer, *headers)
        finally:
            self._in_flight -= 1

    async def _probabilities(self, x: np.ndarray) -> np.ndarray:
        if len(x) <= INLINE_ROWS:
            return self._predict(x)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._predict, x)

    def _predict(self, x: np.ndarray) -> np.ndarray:
        p = np.asarray(self._bundle.predict(x), dtype=np.float64)
        if p.shape != (len(x),) or not ((p >= 0) & (p <= 1)).all():
            raise ValueError("the model returned something other than one probability per row")
        return p

    def _record(self, request_id: str, status: int, seconds: float, probability: np.ndarray) -> None:
        if self._log is None:
            return
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": request_id,
            "model": self._name,
            "model_version": self._version,
            "bundle_digest": self._digest,
            "n": len(probability),
            "latency_ms": round(seconds * 1000, 3),
            "status": status,
            "prediction_digest": protocol.prediction_digest(probability) if len(probability) else None,
        }
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


async def _body(scope: Scope, receive: Receive, most: int) -> bytes:
    headers = dict(scope["headers"])
    if b"inference-header-content-length" in headers:
        raise protocol.BadRequest("binary tensors are not supported; send tensors as JSON")
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > most:
        raise protocol.BadRequest(f"the body has {int(declared)} bytes; at most {most} are accepted")
    chunks, size = [], 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise protocol.BadRequest("the caller went away before its request was complete")
        chunks.append(event.get("body", b""))
        size += len(chunks[-1])
        if size > most:
            raise protocol.BadRequest(f"the body is longer than the {most} bytes accepted")
        if not event.get("more_body"):
            return b"".join(chunks)


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes], kind: bytes = JSON) -> None:
    head = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
