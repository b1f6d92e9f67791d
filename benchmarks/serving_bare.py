"""The endpoint one would write by hand: bare ASGI, msgspec, HMGET, the same model; for `benchmarks.serving`.

It decodes the same request, reads the same hash with redis-py and hiredis, decodes with struct, predicts with the same
LightGBM call, and encodes the answer. It checks nothing, knows no study day, time to live, policy or interval, and
keeps no log and no metric.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis
import redis.asyncio
import uvicorn

from trialops.models.bundle import Bundle
from trialops.stores.online.layout import redis_field, redis_keys
from trialops.stores.online.spec import FeatureServiceSpec


class Tensor(msgspec.Struct):
    """A tensor of the request or the answer."""

    name: str
    datatype: str
    shape: list[int]
    data: Any


class Ask(msgspec.Struct):
    """The request."""

    inputs: list[Tensor]
    id: str = ""


class Answer(msgspec.Struct):
    """The answer."""

    model_name: str
    id: str
    outputs: list[Tensor]


def main(bundle: Path, url: str, port: int, waits: bool) -> None:
    """Serve until ended."""
    model = Bundle.load(bundle)
    spec = FeatureServiceSpec.from_json((bundle / "service.json").read_bytes())
    view_of = {column: view.name for view in spec.views for column in view.columns}
    sources = {age: source.partition(".")[2] for age, source in spec.ages.items()}
    columns = [sources.get(name, name) for name in model.features]
    fields = [redis_field(view_of[column], column) for column in columns]
    client: Any = redis.Redis.from_url(url) if waits else redis.asyncio.Redis.from_url(url)
    decode, encode = msgspec.json.Decoder(Ask).decode, msgspec.json.Encoder().encode
    double = struct.Struct("<d").unpack_from
    predict = model._trees.predict_row
    head = [(b"content-type", b"application/json")]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = decode((await receive())["body"])
        keys = redis_keys(request.inputs[0].data, spec.join_keys, spec.project)
        if len(keys) == 1:
            answer = client.hmget(keys[0], fields)
            answers = [answer if waits else await answer]
        else:
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.hmget(key, fields)
            answers = pipe.execute() if waits else await pipe.execute()
        rows = [[double(cell, 1)[0] if cell else math.nan for cell in row] for row in answers]
        p = [predict(rows[0])] if len(rows) == 1 else model._trees.predict(np.array(rows)).tolist()
        body = encode(Answer("withdrawal", request.id, [Tensor("probability", "FP64", [len(p)], p)]))
        await send({"type": "http.response.start", "status": 200, "headers": head + [_length(body)]})
        await send({"type": "http.response.body", "body": body})

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind(("127.0.0.1", port))
    quiet: dict[str, Any] = {"lifespan": "off", "access_log": False, "server_header": False, "proxy_headers": False}
    config = uvicorn.Config(app, log_level="warning", **quiet)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "waits")
