"""The model server as a program: load, warm up, listen, drain, leave.

The same program is the embedded endpoint and the container behind KServe. It needs the standard library,
numpy, LightGBM's shared library and uvicorn; nothing that trains, tracks or schedules.

    python -m trialops.serving.server --bundle DIR --name withdrawal --version 3 --port 0 --port-file F
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from trialops.errors import TrialOpsError
from trialops.serving.protocol import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import uvicorn

    from trialops.serving.application import Application

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Ask the kernel (Linux) to end this process when the thread that started it ends.

    Args:
        parent: Process id of the parent as the parent knows it; guards against it having ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the process that started this server has ended")


async def serve(
    app: Application,
    listener: socket.socket,
    *,
    port_file: Path | None,
    drain: float,
    grace: float,
    watch_stdin: bool,
) -> None:
    """Serve until a signal, or until the end of standard input, then finish what is in flight.

    Args:
        app: The application, already warm.
        listener: A bound socket.
        port_file: Where to write the port, once connections are accepted.
        drain: Seconds to keep answering, no longer ready, after the signal, so that a balancer can notice.
        grace: Most seconds to wait for requests in flight.
        watch_stdin: Treat the end of standard input as a signal: the parent holds the other end of a pipe.
    """
    server = _quiet_server(app, grace)
    loop = asyncio.get_running_loop()

    def leave() -> None:
        if not app.ready:  # a second signal does not wait for the drain
            server.should_exit = True
        app.ready = False
        loop.call_later(drain, setattr, server, "should_exit", True)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    if watch_stdin:
        standard_input = sys.stdin.fileno()

        def read() -> None:
            if not os.read(standard_input, 1024):
                loop.remove_reader(standard_input)
                leave()

        loop.add_reader(standard_input, read)

    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    if port_file is not None and server.started:
        partial = port_file.with_name(port_file.name + ".part")
        partial.write_text(str(listener.getsockname()[1]))
        partial.replace(port_file)  # a reader sees the whole number or no file
    await task


def _quiet_server(app: Application, grace: float) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self):  # type: ignore[no-untyped-def]
            # uvicorn's own handlers would re-raise the signal at the end, and a clean stop must exit with 0.
            yield

    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,  # an address or a header may identify a person; the request log is ours
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    return Server(config)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it; without it, head and body of an answer wait 40 ms for each other.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise TrialOpsError(
            f"cannot listen: {error.strerror or error}",
            where=f"{host}:{port}",
            fix="choose another --port, or 0 for a free one",
        ) from error
    return listener


def _open_log(target: str) -> TextIO:
    if target == "-":
        return sys.stdout
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trialops.serving.server", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the model bundle")
    parser.add_argument("--name", required=True, help="model name in the URL")
    parser.add_argument("--version", required=True, help="model version, returned with every answer")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port; 0 for a free one")
    parser.add_argument("--port-file", type=Path, help="file that receives the port once requests are accepted")
    parser.add_argument("--request-log", default="-", help="file for the request log; - for standard output")
    parser.add_argument("--max-rows", type=int, default=Limits.rows, help="most rows in one request")
    parser.add_argument("--max-body", type=int, default=Limits.body, help="most bytes in one request")
    parser.add_argument("--drain", type=float, default=0.0, help="seconds to answer, not ready, after SIGTERM")
    parser.add_argument("--grace", type=float, default=30.0, help="most seconds to finish requests in flight")
    parser.add_argument("--parent", type=int, help="process id whose end ends this server (Linux)")
    parser.add_argument("--watch-stdin", action="store_true", help="leave at the end of standard input")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server; returns the exit code."""
    args = _arguments(argv)
    if args.parent is not None:
        end_with_parent(args.parent)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one row gains nothing from a thread team
    try:
        from trialops.models.bundle import Bundle
        from trialops.serving.application import Application

        bundle = Bundle.load(args.bundle)
        with contextlib.closing(_bind(args.host, args.port)) as listener:
            limits = Limits(rows=args.max_rows, body=args.max_body)
            app = Application(bundle, args.name, args.version, log=_open_log(args.request_log), limits=limits)
            app.warm_up()
            asyncio.run(
                serve(
                    app,
                    listener,
                    port_file=args.port_file,
                    drain=args.drain,
                    grace=args.grace,
                    watch_stdin=args.watch_stdin,
                )
            )
    except TrialOpsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
