"""A small client for the Open Inference Protocol v2: one connection, numpy in and out."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from trialops.serving.protocol import DATATYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HOST = "127.0.0.1"
NO_ANSWER = 0
"""Status of a request that got no HTTP answer: refused, reset, or out of time."""


@dataclass(frozen=True)
class Answer:
    """What one inference request brought.

    Args:
        status: HTTP status; 0 when there was no answer.
        seconds: From sending to the complete answer.
        probability: float64 [n]; NaN for every row when the request failed.
        digest: Digest of the bundle that answered; empty when the request failed.
        error: The endpoint's explanation, or why there was no answer.
    """

    status: int
    seconds: float
    probability: NDArray[np.float64]
    digest: str = ""
    error: str = ""


class InferenceClient:
    """Talks to one model on one server over a connection that is kept open.

    Args:
        port: Port of the server.
        name: Model name.
        version: Model version; None for whichever the server has.
        host: Host of the server.
        timeout: Seconds to wait for an answer.
    """

    def __init__(
        self, port: int, name: str, version: str | None = None, *, host: str = HOST, timeout: float = 10.0
    ) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self.model = f"/v2/models/{quote(name)}" + (f"/versions/{quote(version)}" if version else "")

    def __enter__(self) -> InferenceClient:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send one request and read the whole answer.

        Returns:
            Status (0 when there was no answer) and body (why, when there was none).
        """
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request opens a fresh connection
            return NO_ANSWER, type(error).__name__.encode()

    def ready(self) -> bool:
        """Whether the model says that it is ready."""
        return self.send("GET", f"{self.model}/ready")[0] == 200

    def metadata(self) -> dict[str, Any]:
        """The model's metadata document."""
        document: dict[str, Any] = json.loads(self.send("GET", self.model)[1])
        return document

    def infer(self, x: NDArray[np.float64], features: Sequence[str]) -> Answer:
        """Predict rows, one named tensor per feature, so that the caller's column order does not matter.

        Args:
            x: float64 [n, p]; NaN is sent as null.
            features: The p column names of x.

        Returns:
            The answer; a failed request is an Answer with its status, never an exception.
        """
        columns = [[None if v != v else v for v in column] for column in x.T.tolist()]
        body = json.dumps(
            {
                "id": str(uuid.uuid4()),
                "inputs": [
                    {"name": name, "datatype": DATATYPE, "shape": [len(x)], "data": column}
                    for name, column in zip(features, columns, strict=True)
                ],
            }
        ).encode()
        started = time.perf_counter()
        status, answer = self.send("POST", f"{self.model}/infer", body)
        seconds = time.perf_counter() - started
        failed = np.full(len(x), np.nan)
        if status == NO_ANSWER:
            return Answer(status, seconds, failed, error=answer.decode())
        try:
            document = json.loads(answer)
            if status != 200:
                return Answer(status, seconds, failed, error=str(document.get("error", "")))
            p = np.array(document["outputs"][0]["data"], dtype=np.float64)
            digest = str(document["parameters"]["bundle_digest"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return Answer(status, seconds, failed, error="the answer is not an inference response")
        if p.shape != failed.shape:
            return Answer(status, seconds, failed, digest, error="the answer has another number of rows")
        return Answer(status, seconds, p, digest)
