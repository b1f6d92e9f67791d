"""The model server as a program: load, warm up, listen, drain, leave.

The same program is the embedded endpoint and the container behind KServe. It needs the standard library,
numpy, LightGBM's shared library, uvicorn, msgspec and PyYAML; grpcio and protobuf with --grpc-port, the driver of the
online store with --online. Nothing that trains, tracks or schedules.

    python -m trialops.serving.server --bundle DIR --name withdrawal --version 3 --port 0 --port-file F

Every option can come from the environment instead, as TRIALOPS_SERVE_ and its name (TRIALOPS_SERVE_GRPC_PORT=8081); the
URL of the online store, which may hold a password, best comes from TRIALOPS_ONLINE_URL. KServe mounts a model
at /mnt/models, where the bundle is looked for when no folder is named.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from trialops.errors import TrialOpsError
from trialops.serving.protocol import Limits
from trialops.serving.service_file import SERVICE, read_service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import uvicorn

    from trialops.models.bundle import Bundle
    from trialops.serving.application import Application
    from trialops.serving.online_features import OnlineFeatures

MOUNTED = Path("/mnt/models")
LOOKUP_SECONDS = 1.0
"""Longest wait for the online store, unless its URL says otherwise."""
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
    grpc: tuple[str, int, Path | None] | None = None,
    announce: bool = False,
) -> None:
    """Serve until a signal, or until the end of standard input, then finish what is in flight.

    Args:
        app: The application, already warm.
        listener: A bound socket.
        port_file: Where to write the port, once connections are accepted.
        drain: Seconds to keep answering, no longer ready, after the signal, so that a balancer can notice.
        grace: Most seconds to wait for requests in flight.
        watch_stdin: Treat the end of standard input as a signal: the parent holds the other end of a pipe.
        grpc: Address, port and port file of the gRPC form; None without it.
        announce: Say on standard output where it listens and how it is asked.

    Raises:
        TrialOpsError: The gRPC port is taken.
    """
    rpc = None
    if grpc is not None:
        from trialops.serving import grpc_server

        rpc, port = await grpc_server.start(app, grpc[0], grpc[1])
        if grpc[2] is not None:
            _tell(grpc[2], port)
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
        _tell(port_file, listener.getsockname()[1])
    if announce and server.started:
        host, bound = listener.getsockname()[:2]
        print(greeting(app, f"http://{f'[{host}]' if ':' in host else host}:{bound}"), flush=True)
    await task
    if rpc is not None:
        await rpc.stop(grace)


def greeting(app: Application, url: str) -> str:
    """Where a server listens, and a request to try."""
    if app.model["online"]:
        tensors = [{"name": "subject_id", "datatype": "BYTES", "shape": [1], "data": ["SUBJECT"]}]
    else:
        width = len(app.features)
        tensors = [{"name": "features", "datatype": "FP64", "shape": [1, width], "data": [None] * width}]
    return (
        f"Model {app.name} version {app.version} (bundle {app.bundle.digest[:12]}) answers at {url}\n"
        f"  curl -s {url}/v2/models/{app.name}/infer -H 'content-type: application/json' "
        f"-d '{json.dumps({'inputs': tensors})}'\n"
        f"  metadata {url}/v2/models/{app.name}   interface {url}/openapi.json   metrics {url}/metrics"
    )


def _tell(port_file: Path, port: int) -> None:
    partial = port_file.with_name(port_file.name + ".part")
    partial.write_text(str(port))
    partial.replace(port_file)  # a reader sees the whole number or no file


def _quiet_server(app: Application, grace: float) -> uvicorn.Server:
    import uvicorn

    from trialops.serving.ordinary_http import ordinary_protocol

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self):  # type: ignore[no-untyped-def]
            # uvicorn's own handlers would re-raise the signal at the end, and a clean stop must exit with 0.
            yield

    ordinary = getattr(app, "ordinary", None)  # the router is served from here too, and has none
    config = uvicorn.Config(
        app,
        http="auto" if ordinary is None else ordinary_protocol(app, ordinary),
        lifespan="off",
        access_log=False,  # an address or a header may identify a person; the request log is ours
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # who asks is not used
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


def find_bundle(folder: Path) -> Path:
    """The bundle in a folder: there, or where a registered version keeps it.

    Raises:
        TrialOpsError: There is none.
    """
    from trialops.models.bundle import MANIFEST

    for place in (folder, folder / "bundle", folder / "artifacts" / "bundle"):
        if (place / MANIFEST).is_file():
            return place
    raise TrialOpsError(
        "There is no model bundle here.", where=str(folder), fix="Give the folder that a search wrote, or --bundle."
    )


def open_online(bundle: Bundle, url: str, service: Path, policy: Path | None) -> OnlineFeatures:
    """The online features of a bundle.

    Args:
        bundle: The model.
        url: Online store.
        service: File of the feature service's specification.
        policy: File of the input policy; None for the shipped one.

    Raises:
        TrialOpsError: A file cannot be read, or the service lacks a feature of the model.
    """
    from trialops.serving.input_policy import SHIPPED, load_input_policy
    from trialops.serving.online_features import OnlineFeatures
    from trialops.stores.online.reader import open_reader

    reader = open_reader(url, read_service(service).narrowed(bundle.features), seconds=LOOKUP_SECONDS)
    return OnlineFeatures(reader, bundle.features, load_input_policy(policy or SHIPPED))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trialops.serving.server", description=__doc__.splitlines()[0])

    def option(name: str, text: str, *, default: object = None, kind: type = str) -> None:
        value = os.environ.get("TRIALOPS_SERVE_" + name.upper().replace("-", "_"), default)
        if isinstance(value, str):
            value = kind(value)
        parser.add_argument(f"--{name}", type=kind, default=value, help=text)

    option("bundle", "folder of the model bundle", default=MOUNTED, kind=Path)
    option("name", "model name in the URL; the bundle's own by default")
    option("version", "model version, returned with every answer", default="1")
    option("host", "address to listen on", default="127.0.0.1")
    option("port", "port; 0 for a free one", default=8080, kind=int)
    option("port-file", "file that receives the port once requests are accepted", kind=Path)
    option("grpc-port", "port of the gRPC form, 0 for a free one; without it there is none", kind=int)
    option("grpc-port-file", "file that receives the gRPC port", kind=Path)
    option("online", "URL of the online store (TRIALOPS_ONLINE_URL); without it rows cannot be named by subject")
    option("service", f"specification of the feature service; {SERVICE} beside the bundle by default", kind=Path)
    option("input-policy", "YAML file of the input policy; the shipped one by default", kind=Path)
    option("prediction-log", "folder that receives every prediction; without it none is logged", kind=Path)
    option("arm", "arm in the prediction log: stable, candidate or shadow", default="")
    option("request-log", "file for the request log; - for standard output", default="-")
    option("max-rows", "most rows in one request", default=Limits.rows, kind=int)
    option("max-body", "most bytes in one request", default=Limits.body, kind=int)
    option("drain", "seconds to answer, not ready, after SIGTERM", default=0.0, kind=float)
    option("grace", "most seconds to finish requests in flight", default=30.0, kind=float)
    option("parent", "process id whose end ends this server (Linux)", kind=int)
    parser.add_argument("--watch-stdin", action="store_true", help="leave at the end of standard input")
    parser.add_argument("--announce", action="store_true", help="say where it listens and how it is asked")
    return parser.parse_args(argv)


def _run(args: argparse.Namespace, listener: socket.socket) -> int:
    from trialops.models.bundle import Bundle
    from trialops.serving.application import Application
    from trialops.serving.prediction_log import PredictionLog

    folder = find_bundle(args.bundle)
    bundle = Bundle.load(folder)
    name = args.name or bundle.name
    service = args.service or folder / SERVICE
    url = args.online or os.environ.get("TRIALOPS_ONLINE_URL", "")
    if url and not args.online and not args.service and not service.exists():
        # The platform's store is set for every process; a bundle that was never registered takes features alone.
        print(f"no {SERVICE} beside the bundle: rows cannot be named by subject", file=sys.stderr, flush=True)
        url = ""
    online = open_online(bundle, url, service, args.input_policy) if url else None
    predictions = None
    if args.prediction_log is not None:
        named = {"model": name, "version": args.version, "digest": bundle.digest}
        predictions = PredictionLog(args.prediction_log, **named)
    app = Application(
        bundle,
        name,
        args.version,
        log=_open_log(args.request_log),
        limits=Limits(rows=args.max_rows, body=args.max_body),
        online=online,
        predictions=predictions,
        arm=args.arm,
    )
    app.warm_up()
    gc.collect()
    gc.freeze()  # what is loaded stays: no collection has to look at it again
    rpc = None if args.grpc_port is None else (args.host, args.grpc_port, args.grpc_port_file)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(
            serve(
                app,
                listener,
                port_file=args.port_file,
                drain=args.drain,
                grace=args.grace,
                watch_stdin=args.watch_stdin,
                grpc=rpc,
                announce=args.announce,
            )
        )
    if not app.close():
        print("the logs could not be written to their end", file=sys.stderr, flush=True)
        return 1
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop: uvloop's where it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server; returns the exit code."""
    args = _arguments(argv)
    if args.parent is not None:
        end_with_parent(args.parent)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one row gains nothing from a thread team
    try:
        with contextlib.closing(_bind(args.host, args.port)) as listener:
            return _run(args, listener)
    except TrialOpsError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
