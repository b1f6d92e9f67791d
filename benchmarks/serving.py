"""Time the endpoint, subject id in and prediction out, beside a bare ASGI app and the KServe SDK with Feast's.

    python -m benchmarks.serving                  # beside the bare app, with one caller and with eight
    python -m benchmarks.serving --kserve         # beside the KServe SDK with the Feast SDK too
    python -m benchmarks.serving --parts          # what the logs, and what the short way, are worth
    python -m benchmarks.serving --soak 60        # at saturation: errors, and memory over time

Starts a Redis server, writes three views of 10,000 subjects, trains a LightGBM model of 200 trees on 20 features, and
serves it. Ours runs as in production: study days, policy, interval, metrics, request log and prediction log. The bare
app (`benchmarks.serving_bare`) does the lookup and the prediction and nothing else; its faster form, waiting for Redis
or not, is the baseline. The servers are asked in turn in short slices, so that a slow moment of the machine hits all.
--kserve makes an environment of its own from the package index below a temporary folder; it is removed afterwards.
Prints one JSON object: requests per second (median over slices), p50 and p99 in milliseconds, CPU of the server per
request in microseconds (which other work on the machine changes least), ratios per round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
VIEWS = {"demographics": 2, "vitals": 8, "labs": 9}
SUBJECTS = 10_000
DAY = 28
INFER = "/v2/models/withdrawal/infer"


# -- what is served --------------------------------------------------------------------------------------------


def prepare(folder: Path, url: str) -> Path:
    """Write the store and the model; returns the bundle's folder."""
    import lightgbm
    import polars as pl

    from trialops.features.study_time import timestamp_of
    from trialops.models.bundle import Bundle
    from trialops.models.interval import make_interval_table
    from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec
    from trialops.stores.online.writer import write_view

    rng = np.random.default_rng(0)
    columns = {view: tuple(f"{view}_{k}" for k in range(n)) for view, n in VIEWS.items()}
    columns["labs"] += ("labs_last_day",)
    views = tuple(ViewSpec(view, names, 400) for view, names in columns.items())
    spec = FeatureServiceSpec("withdrawal_v1", "trialops", 1, views, {"days_since_labs": "labs.labs_last_day"})
    subjects = [f"P{k:07d}" for k in range(SUBJECTS)]
    stamp = pl.lit(timestamp_of(DAY)).cast(pl.Datetime("us", "UTC"))
    for view, names in columns.items():
        values = {name: rng.normal(size=SUBJECTS) for name in names}
        if view == "labs":
            values["labs_last_day"] = rng.integers(1, DAY, SUBJECTS).astype(float)
        frame = pl.DataFrame({"subject_id": subjects, **values}).with_columns(event_timestamp=stamp, created=stamp)
        write_view(url, spec, view, frame)
    features = [*(c for names in columns.values() for c in names if c != "labs_last_day"), "days_since_labs"]
    x = rng.normal(size=(4000, len(features)))
    y = (rng.random(4000) < 1 / (1 + np.exp(-x[:, 0] - x[:, 5]))).astype(int)
    options = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(x, y, feature_name=features), 200)
    scores = np.asarray(booster.predict(x))
    bundle = Bundle(
        name="withdrawal",
        kind="lightgbm",
        features=tuple(features),
        threshold=0.5,
        task={"name": "withdrawal"},
        training={},
        created_by="benchmark",
        params={"rounds": 200},
        booster=booster.model_to_string(),
        interval=make_interval_table(scores, y),
    )
    made = bundle.save(folder / "bundle")
    (made / "service.json").write_text(spec.to_json())
    return made


def body(subjects: Sequence[str], identity: str | None = None) -> bytes:
    """A request by subject."""
    document: dict[str, Any] = {} if identity is None else {"id": identity}
    document["inputs"] = [{"name": "subject_id", "datatype": "BYTES", "shape": [len(subjects)], "data": list(subjects)}]
    return json.dumps(document).encode()


# -- servers ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A free loopback port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(command: Sequence[str], port: int, log: Path, seconds: float = 60.0) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, from when its port answers to the end of the block."""
    with log.open("wb") as output:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[2]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield child
    finally:
        child.terminate()
        child.wait()


def ours(bundle: Path, url: str, port: int, folder: Path, *, predictions: bool = True) -> list[str]:
    """Command of our server, everything on; or all but the prediction log."""
    command = [sys.executable, "-m", "trialops.serving.server", "--bundle", str(bundle), "--online", url]
    command += ["--version", "3", "--port", str(port), "--request-log", str(folder / f"requests-{port}.jsonl")]
    return [*command, "--prediction-log", str(folder / "predictions")] if predictions else command


def steps(bundle: Path, url: str, folder: Path, body: bytes, turns: int = 4000) -> dict[str, float]:
    """Microseconds of each step of an ordinary request, alone in this process; without the socket and HTTP."""
    from trialops.models.bundle import Bundle
    from trialops.serving.application import Application
    from trialops.serving.line_writer import utc_text
    from trialops.serving.prediction_log import PredictionLog
    from trialops.serving.protocol import Limits, fresh_id
    from trialops.serving.server import open_online

    model = Bundle.load(bundle)
    online = open_online(model, url, bundle / "service.json", None)
    log = PredictionLog(folder / "steps", model="withdrawal", version="3", digest=model.digest, capacity=10**9)
    with (folder / "steps.jsonl").open("w") as requests:
        app = Application(model, "withdrawal", "3", log=requests, limits=Limits(), online=online, predictions=log)
        ordinary, row, table = app.ordinary, online.one_row(), model.interval
        if ordinary is None or table is None:
            raise SystemExit("no request is ordinary here")
        subject = json.loads(body)["inputs"][0]["data"][0]
        values, event_us = row.reader.each([subject])[0]
        judged = row.judge(values, event_us, None)
        if judged is None:
            raise SystemExit("the subject's row is not ordinary")
        x, day = judged
        p = model.predict_row(x)
        low, high = table.around_one(p)
        at, name = time.time(), fresh_id()
        timed: dict[str, Callable[[], object]] = {
            "decode the request": lambda: ordinary._decode(body),
            "look up (with the wait for Redis)": lambda: row.reader.each([subject]),
            "judge, ages, order": lambda: row.judge(values, event_us, None),
            "predict": lambda: model.predict_row(x),
            "interval": lambda: table.around_one(p),
            "request id": fresh_id,
            "prediction log line": lambda: log.put_row(utc_text(at), name, "", subject, day, x, p, low, high),
            "metrics and request log line": lambda: app.done_rows(at, name, time.perf_counter(), [p]),
        }
        found = {}
        for step, call in timed.items():
            each = []
            for _ in range(5):
                started = time.perf_counter()
                for _ in range(turns // 5):
                    call()
                each.append((time.perf_counter() - started) / (turns // 5) * 1e6)
            found[step] = round(min(each), 2)
        app.close()
    return found


# -- the client ------------------------------------------------------------------------------------------------


class Caller(asyncio.Protocol):
    """One connection that sends the next request when the answer to the last is complete."""

    def __init__(self, requests: Sequence[bytes], start: int, until: float, done: asyncio.Future[None]) -> None:
        self.requests, self.turn, self.until, self.done = requests, start, until, done
        self.seconds: list[float] = []
        self.errors = 0
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        """Send the first."""
        self.transport = transport
        self.send()

    def send(self) -> None:
        """Send the next."""
        self.sent = time.perf_counter()
        self.transport.write(self.requests[self.turn % len(self.requests)])
        self.turn += 1

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        now = time.perf_counter()
        self.seconds.append(now - self.sent)
        self.errors += head[9:12] != b"200" or b"probability" not in rest
        self.buffer = b""
        if now < self.until:
            self.send()
        else:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """A connection the server closed is an error."""
        if not self.done.done():
            self.errors += 1
            self.done.set_result(None)


async def _call(port: int, callers: int, seconds: float, requests: Sequence[bytes]) -> tuple[list[float], int]:
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    made = []
    for number in range(callers):
        caller = Caller(requests, number * 977, until, loop.create_future())
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", port)  # type: ignore[misc]
        made.append(caller)
    await asyncio.gather(*(caller.done for caller in made))
    return [s for caller in made for s in caller.seconds], sum(caller.errors for caller in made)


def load(port: int, callers: int, seconds: float, bodies: Sequence[bytes]) -> dict[str, float]:
    """Ask a server for some seconds; requests per second, p50 and p99 in milliseconds, errors."""
    import uvloop

    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    requests = [head % (INFER.encode(), len(text)) + text for text in bodies]
    started = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken, errors = runner.run(_call(port, callers, seconds, requests))
    taken.sort()
    return {
        "rps": len(taken) / (time.perf_counter() - started),
        "p50_ms": taken[len(taken) // 2] * 1000,
        "p99_ms": taken[math.ceil(len(taken) * 0.99) - 1] * 1000,
        "errors": errors,
        "requests": len(taken),
    }


# -- comparisons -----------------------------------------------------------------------------------------------


def compare(
    servers: dict[str, tuple[int, int, Sequence[bytes]]], callers: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """All servers in turn, several rounds; medians, and ours over each other in the same round.

    Args:
        servers: Port, process id, and what is asked.
        callers: Connections.
        rounds: Slices of each server.
        seconds: Of a slice.
    """
    slices: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for turn in range(rounds):
        order = list(servers) if turn % 2 == 0 else list(servers)[::-1]
        for name in order:
            port, pid, bodies = servers[name]
            before = cpu(pid)
            taken = load(port, callers, seconds, bodies)
            taken["cpu_us"] = (cpu(pid) - before) / taken["requests"] * 1e6
            slices[name].append(taken)
    found: dict[str, Any] = {
        name: {key: round(statistics.median(s[key] for s in taken), 3) for key in ("rps", "p50_ms", "p99_ms", "cpu_us")}
        | {"errors": sum(s["errors"] for s in taken)}
        for name, taken in slices.items()
    }
    for name in servers:
        if name != "ours":
            found[f"cpu_{name}_to_ours"] = round(found[name]["cpu_us"] / found["ours"]["cpu_us"], 2)
            each = [a["rps"] / b["rps"] for a, b in zip(slices["ours"], slices[name], strict=True)]
            found[f"ours_to_{name}"] = {
                "median": round(statistics.median(each), 2),
                "lowest": round(min(each), 2),
                "highest": round(max(each), 2),
            }
    return found


def cpu(pid: int) -> float:
    """CPU seconds a process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(port: int, pid: int, seconds: float, bodies: Sequence[bytes]) -> dict[str, Any]:
    """Sixteen callers without a pause; memory in every tenth of the time."""
    memory, counts, errors = [], 0, 0.0
    for _ in range(10):
        part = load(port, 16, seconds / 10, bodies)
        counts, errors = counts + int(part["requests"]), errors + part["errors"]
        memory.append(round(resident(pid), 1))
    return {
        "seconds": seconds,
        "callers": 16,
        "requests": counts,
        "rps": round(counts / seconds),
        "errors": int(errors),
        "memory_mib": memory,
        "growth_after_first_half_mib": round(memory[-1] - memory[4], 1),
    }


# -- KServe ----------------------------------------------------------------------------------------------------


def kserve_environment(folder: Path) -> Path:
    """A Python with the KServe SDK and Feast in it; raises CalledProcessError where the index cannot be reached."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python = folder / "kserve" / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder / "kserve")], check=True)
    wanted = ["kserve==0.21.0", "feast[redis]==0.67.0", "lightgbm", "hiredis"]
    command = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(python), *wanted]
    subprocess.run(command, check=True)
    return python


KSERVE = """
import os, sys, uuid, warnings
warnings.filterwarnings("ignore")
import kserve, lightgbm, numpy as np
from kserve import InferOutput, InferResponse, ModelServer
from feast import FeatureStore
store = FeatureStore(repo_path=sys.argv.pop(1))
features = sys.argv.pop(1).split(",")
wanted = sys.argv.pop(1).split(",")
class Withdrawal(kserve.Model):
    def __init__(self, path):
        super().__init__("withdrawal")
        self.booster, self.ready = lightgbm.Booster(model_file=path), True
    async def predict(self, payload, headers=None, response_headers=None):
        subjects = payload.inputs[0].data
        subjects = [s.decode() if isinstance(s, bytes) else s for s in subjects]
        rows = store.get_online_features(features=wanted, entity_rows=[{"subject_id": s} for s in subjects]).to_dict()
        day = np.array(rows["labs_last_day"], float)
        x = np.array([27 - (day - 1) if f == "days_since_labs" else rows[f] for f in features], float).T
        out = InferOutput("probability", [len(subjects)], "FP64")
        out.set_data_from_numpy(self.booster.predict(x, num_threads=1), binary_data=False)
        return InferResponse(payload.id or str(uuid.uuid4()), "withdrawal", [out])
path = sys.argv.pop(1)
port = int(sys.argv.pop(1))
ModelServer(http_port=port, workers=1, enable_grpc=False, access_log_format=None).start([Withdrawal(path)])
"""


def kserve_command(python: Path, folder: Path, bundle: Path, url: str, port: int) -> list[str]:
    """Command of a KServe SDK server that looks up with the Feast SDK; its registry is made by this project's."""
    import polars as pl

    from trialops.features.online_config import feast_online_store
    from trialops.features.training_set import write_views
    from trialops.models.bundle import Bundle
    from trialops.stores.features import open_store
    from trialops.stores.online.spec import FeatureServiceSpec

    spec = FeatureServiceSpec.from_json((bundle / "service.json").read_bytes())
    model = Bundle.load(bundle)
    stamp = pl.Series([datetime(2000, 1, 1, tzinfo=UTC)], dtype=pl.Datetime("us", "UTC"))
    repo = folder / "repo"
    repo.mkdir()
    columns = {view.name: view.columns for view in spec.views}
    frames = {
        view.name: pl.DataFrame({"subject_id": ["P"], **{c: [0.0] for c in view.columns}}).with_columns(
            event_timestamp=stamp, created=stamp
        )
        for view in spec.views
    }
    open_store(repo, write_views(frames, repo), columns=columns, online=feast_online_store(url))
    server = url.removeprefix("redis://").partition("/")[0]
    (repo / "feature_store.yaml").write_text(
        "project: trialops\nprovider: local\nentity_key_serialization_version: 3\n"
        f"registry: {{registry_type: file, path: {repo / 'registry.db'}, cache_ttl_seconds: 0}}\n"
        f"online_store: {{type: redis, connection_string: '{server}'}}\noffline_store: {{type: dask}}\n"
    )
    program = folder / "kserve_server.py"
    program.write_text(KSERVE)
    features = ",".join(model.features)
    wanted = ",".join(f"{view.name}:{column}" for view in spec.views for column in view.columns)
    return [str(python), str(program), str(repo), features, wanted, str(bundle / "booster.lgb"), str(port)]


# -- the program -----------------------------------------------------------------------------------------------


def main() -> int:
    """Run the comparison.

    Returns:
        0 when no request failed, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="seconds of a slice")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rows", type=int, default=1, help="subjects in a request")
    parser.add_argument("--kserve", action="store_true", help="compare with the KServe SDK and the Feast SDK too")
    parser.add_argument("--parts", action="store_true", help="time steps, logs and the long way too")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds at saturation, instead of the comparison")
    arguments = parser.parse_args()
    from tests.support.redis import redis_server

    report: dict[str, Any] = {"subjects": SUBJECTS, "rows_per_request": arguments.rows, "rounds": arguments.rounds}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        host, redis_port = stack.enter_context(redis_server())
        url = f"redis://{host}:{redis_port}/0"
        bundle = prepare(folder, url)
        rng = np.random.default_rng(3)
        names = [f"P{k:07d}" for k in range(SUBJECTS)]
        bodies = [body(rng.choice(names, arguments.rows).tolist()) for _ in range(2000)]  # without an id
        port = free_port()
        server = stack.enter_context(process(ours(bundle, url, port, folder), port, folder / "ours.log"))
        if arguments.soak:
            load(port, 16, 2.0, bodies)
            report["soak"] = soak(port, server.pid, arguments.soak, bodies)
            print(json.dumps(report, indent=1))
            return int(report["soak"]["errors"] > 0)
        servers: dict[str, tuple[int, int, Sequence[bytes]]] = {"ours": (port, server.pid, bodies)}
        if arguments.parts:
            report["steps_us"] = steps(bundle, url, folder, bodies[0])
            other = free_port()
            command = ours(bundle, url, other, folder, predictions=False)
            child = stack.enter_context(process(command, other, folder / "unlogged.log"))
            servers["ours_without_prediction_log"] = (other, child.pid, bodies)
            # An empty "parameters" changes nothing but the way: the request is no longer the ordinary one.
            long = [text.replace(b"{", b'{"parameters":{},', 1) for text in bodies]
            servers["ours_the_long_way"] = (port, server.pid, long)
        for kind in ("waits", "asynchronous"):
            bare = free_port()
            command = [sys.executable, "-m", "benchmarks.serving_bare", str(bundle), url, str(bare), kind]
            child = stack.enter_context(process(command, bare, folder / f"{kind}.log"))
            servers[f"bare_{kind}"] = (bare, child.pid, bodies)
        if arguments.kserve:
            try:
                python = kserve_environment(folder)
            except (subprocess.CalledProcessError, OSError) as error:
                report["kserve"] = f"skipped: its environment could not be made ({type(error).__name__})"
            else:
                other = free_port()
                command = kserve_command(python, folder, bundle, url, other)
                child = stack.enter_context(process(command, other, folder / "kserve.log", 120.0))
                servers["kserve"] = (other, child.pid, bodies)
        else:
            report["kserve"] = "skipped: not asked for (--kserve)"
        for warmed, _, asked in servers.values():
            load(warmed, 4, 1.0, asked)
        for callers in arguments.callers:
            found = compare(servers, callers, arguments.rounds, arguments.seconds)
            faster = max(("bare_waits", "bare_asynchronous"), key=lambda name: found[name]["rps"])
            report[f"callers_{callers}"] = found | {"ours_to_bare": found[f"ours_to_{faster}"] | {"faster": faster}}
        report["ours_mib"] = round(resident(server.pid), 1)
    print(json.dumps(report, indent=1))
    failed = sum(report[f"callers_{n}"]["ours"]["errors"] for n in arguments.callers)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
