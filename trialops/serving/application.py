"""The ASGI application that answers the Open Inference Protocol v2 for one version of one model.

No web framework: the protocol is six addresses, and every layer between the socket and the model costs more
than the prediction itself.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from trialops.serving import openapi, protocol, rest
from trialops.serving.line_writer import LineWriter, utc_text
from trialops.serving.metrics import CONTENT_TYPE, Metrics
from trialops.serving.online_features import OnlineFeatures
from trialops.serving.ordinary import OrdinaryRequests
from trialops.serving.prediction_log import ARMS, PredictionLog
from trialops.serving.predictor import Prediction, Predictor
from trialops.serving.refusals import BadRequest, Refusal
from trialops.version import code_version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trialops.models.bundle import Bundle

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

ARM_HEADER = b"x-trialops-arm"


class Application:
    """The ASGI application that serves one version of one model.

    Args:
        bundle: The loaded model.
        name: Name in the URL.
        version: Version in the URL and in every answer.
        log: Where the request log goes, one JSON line per inference request; None for no log.
        limits: Rows and bytes allowed in one request.
        online: Where rows named by subject come from; None where only features are taken.
        predictions: Where predictions are written; None for nowhere.
        arm: Arm in the prediction log where a request does not name one.
    """

    def __init__(
        self,
        bundle: Bundle,
        name: str,
        version: str,
        *,
        log: TextIO | None,
        limits: protocol.Limits,
        online: OnlineFeatures | None = None,
        predictions: PredictionLog | None = None,
        arm: str = "",
    ) -> None:
        self.ready = False
        self.name, self.version, self.limits, self.bundle = name, version, limits, bundle
        self.model = {"online": online is not None, "interval": bundle.interval is not None}
        self.features = list(bundle.features)
        self.metrics = Metrics(name, version, bundle.digest)
        self.predictor = Predictor(bundle, self.metrics, online=online, log=predictions, arm=arm)
        self.writer = rest.Writer(name, version, bundle.digest, (*self.features, "base"))
        self._requests = RequestLog(log, name, version, bundle.digest) if log is not None else None
        self.code_version = code_version()
        policy = {} if online is None else {"input_policy_digest": online.policy.digest}
        self.metadata = protocol.metadata(
            name, version, bundle.kind, bundle.digest, self.features, **self.model, parameters=policy
        )
        document = openapi.document(name, version, self.features, **self.model, code_version=self.code_version)
        self._openapi = json.dumps(document).encode()
        model = f"/v2/models/{name}"
        self._prefixes = (model, f"{model}/versions/{version}")
        self._infer_paths = frozenset(f"{prefix}/infer" for prefix in self._prefixes)
        self.infer_urls = frozenset(path.encode() for path in self._infer_paths if path.isascii())
        self.ordinary = OrdinaryRequests.of(self)

    def warm_up(self) -> None:
        """Predict and look up once, so that the first caller does not pay for it; ready afterwards.

        Raises:
            TrialOpsError: The model does not answer with probabilities, or the online store cannot be read.
        """
        self.predictor.warm_up()
        self.ready = True

    def close(self) -> bool:
        """Write what is left of the logs; False when it could not be written."""
        predictions = self.predictor.close()
        return (self._requests is None or self._requests.writer.close(5.0)) and predictions

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
        elif path == "/metrics":
            if method not in ("GET", "HEAD"):
                await _answer(send, 405, _error("use GET"), (b"allow", b"GET, HEAD"))
                return
            log = self.predictor.log
            text = self.metrics.exposition(ready=self.ready, log=log.writer if log is not None else None)
            await _answer(send, 200, text.encode(), kind=CONTENT_TYPE)
        else:
            status, body = self._describe(path)
            if status != 404 and method not in ("GET", "HEAD"):
                await _answer(send, 405, _error("use GET"), (b"allow", b"GET, HEAD"))
            else:
                await _answer(send, status, body)

    def _describe(self, path: str) -> tuple[int, bytes]:
        up = 200 if self.ready else 503
        if path == "/openapi.json":
            return 200, self._openapi
        document: dict[str, Any] | None = None
        status = 200
        if path == "/v2":
            document = {"name": "trialops", "version": self.code_version, "extensions": list(rest.EXTENSIONS)}
        elif path == "/v2/health/live":
            document = {"live": True}
        elif path == "/v2/health/ready":
            status, document = up, {"ready": self.ready}
        elif path in self._prefixes:
            document = self.metadata
        elif path.removesuffix("/ready") in self._prefixes:
            status, document = up, {"name": self.name, "ready": self.ready}
        elif path.startswith("/v2/models/"):
            text = f'this server has only model "{self.name}" version "{self.version}"'
            status, document = 404, {"error": text}
        else:
            status, document = 404, {"error": "no such address; the model is described at " + self._prefixes[0]}
        return status, json.dumps(document).encode()

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        self.metrics.in_flight += 1
        request_id = ""
        headers: list[tuple[bytes, bytes]] = []
        kind, prediction = rest.JSON, None
        try:
            try:
                given = dict(scope["headers"])
                body = await _body(given, receive, self.limits.body)
                split = given.get(rest.SPLIT_HEADER)
                request = rest.read(body, split, self.features, self.limits, **self.model)
                request_id = logged_id(request)
                prediction = await self.predictor.answer(request, request_id, arm_of(given.get(ARM_HEADER, b"")))
                status = 200
                answer, json_length = self.writer.write(request, prediction)
                if json_length is not None:
                    kind = rest.OCTETS
                    headers.append((rest.SPLIT_HEADER, b"%d" % json_length))
            except Refusal as error:
                status, answer = error.status, _error(str(error))
                self.metrics.refused(error.kind)
                if isinstance(error, BadRequest):
                    headers.append((b"connection", b"close"))  # the rest of an oversized body is not read
            except Exception as error:
                status, answer, prediction = 500, _error(FAILED), None
                request_id = request_id or protocol.fresh_id()
                self.failed(request_id, error)
            request_id = request_id or protocol.fresh_id()
            headers.append((b"x-request-id", request_id.encode()))
            if not self.ready and (b"connection", b"close") not in headers:
                headers.append((b"connection", b"close"))  # leaving: the caller's next request goes elsewhere
            self.done(request_id, status, started, prediction)
            await _answer(send, status, answer, *headers, kind=kind)
        finally:
            self.metrics.in_flight -= 1

    @staticmethod
    def log_id(identity: str) -> str:
        """The id for the logs of a request that brought one."""
        return uuid_or_fresh(identity)

    def failed(self, request_id: str, error: Exception) -> None:
        """Tell the operator the type of an error; the caller gets a plain answer, and nobody a value."""
        self.metrics.refused("internal")
        print(f"request {request_id} failed: {type(error).__name__}", file=sys.stderr, flush=True)

    def done_rows(self, at: float, request_id: str, started: float, probability: list[float]) -> None:
        """As `done`, for an answer of few rows; its line in the log is made at once."""
        seconds = time.perf_counter() - started
        self.metrics.observe(200, seconds, probability)
        if self._requests is not None:
            self._requests.put_rows(at, request_id, seconds, probability)

    def done(self, request_id: str, status: int, started: float, prediction: Prediction | None) -> None:
        """Count an answered request and log it."""
        seconds = time.perf_counter() - started
        probability = _NONE if prediction is None else prediction.probability
        self.metrics.observe(status, seconds, probability.tolist())
        if self._requests is not None:
            self._requests.writer.put((time.time(), request_id, status, seconds, probability))


_NONE = np.empty(0)
FAILED = "the model could not answer this request"


class RequestLog:
    """One JSON line per inference request, written in the background; no value of a subject is in it.

    Args:
        target: Where lines go.
        name: Model name.
        version: Model version.
        digest: Bundle digest.
    """

    def __init__(self, target: TextIO, name: str, version: str, digest: str) -> None:
        self._target = target
        named = {"model": name, "model_version": version, "bundle_digest": digest}
        self._model = json.dumps(named)[1:-1]
        self.writer = LineWriter(self._write, "request log", every=0.05)

    def put_rows(self, at: float, request_id: str, seconds: float, probability: list[float]) -> None:
        """Add an answer of few rows; see `PredictionLog.put_row` for why its line is made here."""
        packed = struct.pack(f"<{len(probability)}d", *probability)  # as protocol.prediction_digest
        digest = f'"{hashlib.sha256(packed).hexdigest()}"'
        self.writer.put(self._line(at, request_id, 200, seconds, len(probability), digest))

    def _write(self, items: Sequence[str | tuple[float, str, int, float, Any]]) -> None:
        self._target.write("".join(item if isinstance(item, str) else self._made(*item) for item in items))
        self._target.flush()

    def _made(self, at: float, request_id: str, status: int, seconds: float, probability: Any) -> str:
        digest = f'"{protocol.prediction_digest(probability)}"' if len(probability) else "null"
        return self._line(at, request_id, status, seconds, len(probability), digest)

    def _line(self, at: float, request_id: str, status: int, seconds: float, n: int, digest: str) -> str:
        return (
            f'{{"at": "{utc_text(at)}", "request_id": "{request_id}", {self._model}, "n": {n}, '
            f'"latency_ms": {seconds * 1000:.3f}, "status": {status}, "prediction_digest": {digest}}}\n'
        )


def logged_id(request: protocol.Request) -> str:
    """The id for the logs: the caller's where it is a UUID, else a fresh one; a caller's own may be a subject's."""
    return uuid_or_fresh(request.id) if request.given else request.id


def uuid_or_fresh(text: str) -> str:
    """The text where it is a UUID, else a fresh one."""
    try:
        if len(text) == 36 and str(uuid.UUID(text)) == text.lower():
            return text
    except ValueError:
        pass
    return protocol.fresh_id()


def arm_of(value: bytes | str) -> str:
    """The arm a router put into a header; empty where it is none."""
    arm = value.decode("latin-1") if isinstance(value, bytes) else value
    return arm if arm in ARMS else ""


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


async def _body(headers: dict[bytes, bytes], receive: Receive, most: int) -> bytes:
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > most:
        raise BadRequest(f"the body has {int(declared)} bytes; at most {most} are accepted")
    event = await receive()
    if event["type"] == "http.request" and not event.get("more_body") and len(event["body"]) <= most:
        return bytes(event["body"])
    chunks, size = [], 0
    while True:
        if event["type"] == "http.disconnect":
            raise BadRequest("the caller went away before its request was complete")
        chunks.append(event.get("body", b""))
        size += len(chunks[-1])
        if size > most:
            raise BadRequest(f"the body is longer than the {most} bytes accepted")
        if not event.get("more_body"):
            return b"".join(chunks)
        event = await receive()


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes], kind: bytes = rest.JSON) -> None:
    head = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
