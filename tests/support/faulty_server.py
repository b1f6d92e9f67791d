"""The real model server with a fault: python -m tests.support.faulty_server FAULT[:VALUE] <arguments of the server>.

errors:SHARE    that share of inference requests is answered with 500
slow:SECONDS    every inference request takes that much longer
hang            inference requests are never answered
garbage         inference requests are answered with 200 and a body that is no inference response
crash:N         the process ends itself, without a word, at the N-th inference request
refuse          inference requests are refused with 400, as a model refuses inputs it does not know
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from trialops.serving import application


def _inject(fault: str) -> None:
    kind, _, value = fault.partition(":")
    real = application.Application.__call__
    seen = 0

    async def faulty(self: Any, scope: Any, receive: Any, send: Any) -> None:
        nonlocal seen
        if scope["type"] != "http" or not scope["path"].endswith("/infer"):
            await real(self, scope, receive, send)
            return
        seen += 1
        if kind == "errors" and int(seen * float(value)) > int((seen - 1) * float(value)):
            await _answer(send, 500, b'{"error": "injected"}')
        elif kind == "garbage":
            await _answer(send, 200, b'{"outputs": []}')
        elif kind == "refuse":
            await _answer(send, 400, b'{"error": "injected"}')
        elif kind == "crash" and seen == int(value):
            os._exit(7)
        else:
            if kind == "slow":
                await asyncio.sleep(float(value))
            elif kind == "hang":
                await asyncio.sleep(3600)
            await real(self, scope, receive, send)

    application.Application.__call__ = faulty  # type: ignore[method-assign]


async def _answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    _inject(sys.argv[1])
    from trialops.serving.server import main

    sys.exit(main(sys.argv[2:]))
