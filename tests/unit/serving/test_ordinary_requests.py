"""The short way of an ordinary request gives what the long way gives, on the wire, in the logs and in the counts."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from online_trial import EMPTY, EXPIRED, GOOD, OLD, SPEC, ask, model, served, write
from toy_bundles import FEATURES as TREE_FEATURES
from toy_bundles import trees

from tests.support.redis import redis_address, redis_url
from trialops.models.booster import TextBooster
from trialops.models.bundle import Bundle
from trialops.serving.application import Application, logged_id
from trialops.serving.input_policy import load_input_policy
from trialops.serving.online_features import OnlineFeatures
from trialops.serving.ordinary import OrdinaryRequests
from trialops.serving.prediction_log import PredictionLog, read_segments
from trialops.serving.process import ServerProcess
from trialops.serving.protocol import Limits, decode, fresh_id
from trialops.stores.online.reader import open_reader

__all__ = ["redis_address", "redis_url"]

INFER = "/v2/models/withdrawal/infer"
KNOWN = "0b7e8a4e-1f2f-4c57-9b5e-6a3a3a0e6a11"


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    found = f"sqlite:///{tmp_path}/online.db"
    if request.param == "redis":
        found = request.getfixturevalue("redis_url")
    write(found)
    return found


class Program:
    """An application in this process, with both logs."""

    def __init__(self, url: str, folder: Path, **policy: Any) -> None:
        bundle = model()
        rules = replace(load_input_policy(), **policy)
        online = OnlineFeatures(open_reader(url, SPEC.narrowed(bundle.features)), bundle.features, rules)
        self.folder, self.requests = folder, io.StringIO()
        log = PredictionLog(folder, model="withdrawal", version="3", digest=bundle.digest)
        self.app = Application(
            bundle, "withdrawal", "3", log=self.requests, limits=Limits(), online=online, predictions=log
        )
        self.app.warm_up()

    def short(self, bodies: list[bytes]) -> list[tuple[bool, bytes | None]]:
        """Whether each was taken, and its answer; all at the same moment."""

        async def run() -> list[tuple[bool, bytes | None]]:
            found: list[bytes | None] = [None] * len(bodies)
            taken = []
            for number, body in enumerate(bodies):

                def answered(_: str, made: bytes | None, number: int = number) -> None:
                    found[number] = made

                assert self.app.ordinary is not None
                taken.append(self.app.ordinary.take(body, "", time.perf_counter(), answered))
            await asyncio.sleep(0.01)
            return list(zip(taken, found, strict=True))

        return asyncio.run(run())

    def long(self, body: bytes) -> bytes:
        """The answer of the application."""

        async def run() -> bytes:
            app = self.app
            request = decode(body, app.features, Limits(), online=True, interval=True)
            request_id = logged_id(request)
            made = await app.predictor.answer(request, request_id)
            app.done(request_id, 200, time.perf_counter(), made)
            return app.writer.write(request, made)[0]

        return asyncio.run(run())

    def close(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Lines of the request log and of the prediction log."""
        assert self.app.close()
        lines = [line for path in sorted(self.folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
        return [json.loads(line) for line in self.requests.getvalue().splitlines()], [json.loads(x) for x in lines]


def test_both_ways_give_the_same_bytes_lines_and_counts(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Bundle.predict  # row by row: for several at once numpy adds up in another order
    monkeypatch.setattr(Bundle, "predict", lambda self, x: np.array([many(self, row[None])[0] for row in x]))
    bodies = [ask([GOOD[0]], id=KNOWN), ask([GOOD[1]], id="visit-é%b"), ask([GOOD[2]], id=KNOWN)]
    bodies += [ask([*GOOD, GOOD[0]], id=KNOWN), ask([GOOD[2], GOOD[0]], [14, 40], id=KNOWN)]
    bodies += [ask([GOOD[1]], [31], id=KNOWN), ask(list(GOOD) * 5, id=KNOWN)]
    one, other = Program(url, tmp_path / "a"), Program(url, tmp_path / "b")
    short = one.short(bodies)
    assert short == [(True, other.long(body)) for body in bodies]
    pages = [[line for line in p.app.metrics.exposition(ready=True).splitlines() if "seconds" not in line]
             for p in (one, other)]  # fmt: skip
    assert pages[0] == pages[1] and 'code="200"} 7' in "\n".join(pages[0])
    made, expected = one.close(), other.close()
    for mine, theirs in zip(made, expected, strict=True):
        assert len(mine) == len(theirs) in (7, 25)
        for a, b in zip(mine, theirs, strict=True):
            assert list(a) == list(b)
            free = {"at", "latency_ms"} | ({"request_id"} if b["request_id"] != KNOWN else set())
            assert {k: v for k, v in a.items() if k not in free} == {k: v for k, v in b.items() if k not in free}
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", a["at"])
    assert made[1][2]["features"][2] is None and "visit" not in json.dumps(made)
    assert read_segments(tmp_path / "a").height == 25


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        ask([]),
        ask([GOOD[0]] * 17),
        ask([GOOD[0]], [0]),
        ask([GOOD[0]], [28, 29]),
        ask([GOOD[0]], [100_001]),
        ask([GOOD[0]], [28]).replace(b"[28]", b"[28.5]"),
        ask([GOOD[0]], [28]).replace(b"[28]", b"[28.0]"),
        ask([GOOD[0]], [28]).replace(b"study_day", b"subject_id"),
        ask([GOOD[0]], [28]).replace(b"subject_id", b"study_day"),
        ask([GOOD[0]], outputs=[{"name": "low"}]),
        ask([GOOD[0]], parameters={"binary_data_output": True}),
        ask([GOOD[0]], id=7),
        ask(["x" * 257]),
        ask([GOOD[0]]).replace(b"[1]", b"[2]"),
        ask([GOOD[0]]).replace(b"[1]", b"[true]"),
        ask([GOOD[0]]).replace(b"BYTES", b"FP64"),
        ask([GOOD[0]]).replace(b'"subject_id"', b'"features"'),
        ask([GOOD[0]]).replace(GOOD[0].encode(), b"\xff"),
        ask([GOOD[0]]) + b"x",
    ],
)
def test_what_is_not_ordinary_is_not_taken(body: bytes, tmp_path: Path) -> None:
    write(f"sqlite:///{tmp_path}/online.db")
    program = Program(f"sqlite:///{tmp_path}/online.db", tmp_path / "log")
    assert program.short([body]) == [(False, None)]
    assert program.close() == ([], [])


def test_what_the_policy_has_something_to_say_about_is_left_to_the_application(url: str, tmp_path: Path) -> None:
    program = Program(url, tmp_path / "log")
    doubtful = [ask([subject]) for subject in ("nobody", OLD, EMPTY, EXPIRED)]
    doubtful += [ask([GOOD[0], "nobody"]), ask([GOOD[0]], [27]), ask([GOOD[0]], [28 + 93])]
    found = program.short([ask([GOOD[0]]), *doubtful, ask([GOOD[1]])])
    assert [(taken, made is not None) for taken, made in found] == [(True, True), *[(True, False)] * 7, (True, True)]
    assert program.app.metrics.in_flight == 0
    requests, predictions = program.close()
    assert len(requests) == 2 and [line["subject_id"] for line in predictions] == [GOOD[0], GOOD[1]]


def test_an_unknown_subject_is_not_answered_even_where_nothing_needs_to_be_known(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    write(url)
    lenient = {"stale": "warn", "max_missing_share": 1.0, "max_age_days": {}, "default_max_age_days": None}
    program = Program(url, tmp_path / "log", **lenient)
    assert program.short([ask(["nobody"]), ask([GOOD[0], "nobody"])]) == [(True, None)] * 2
    assert program.close() == ([], [])


def test_a_full_log_a_slow_store_and_a_failing_model_leave_it_to_the_application(tmp_path: Path) -> None:
    write(f"sqlite:///{tmp_path}/online.db")
    program = Program(f"sqlite:///{tmp_path}/online.db", tmp_path / "log")
    app, body = program.app, ask([GOOD[0]])
    assert app.ordinary is not None and app.predictor.log is not None
    app.predictor.slow = True
    assert program.short([body]) == [(False, None)]
    app.predictor.slow = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.predictor.log.writer, "_capacity", 0)
        assert program.short([body]) == [(False, None)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(app.bundle), "predict_row", lambda *_: 1.5)
        assert program.short([body]) == [(True, None)]
    with sqlite3.connect(tmp_path / "online.db") as database:
        database.execute('ALTER TABLE "trial_vitals" RENAME TO "gone"')
    assert program.short([body]) == [(True, None)]
    assert app.predictor.slow  # the application looks up in a thread
    assert program.close() == ([], [])


def test_no_request_is_ordinary_without_a_store_or_an_interval() -> None:
    app = Application(trees(), "withdrawal", "3", log=None, limits=Limits())
    assert app.ordinary is None and OrdinaryRequests.of(app) is None
    assert app.close()


# -- single rows -----------------------------------------------------------------------------------------------


def test_one_row_gives_what_many_give() -> None:
    rng = np.random.default_rng(11)
    for bundle, width in ((model(), 4), (trees(), len(TREE_FEATURES))):
        x = rng.normal(size=(300, width)) * 40
        x[rng.random(x.shape) < 0.2] = np.nan
        # To the bit what `predict` gives for one row; for many at once numpy adds up in another order.
        each = [float(bundle.predict(row[None])[0]) for row in x]
        assert [bundle.predict_row(row) for row in x.tolist()] == each
        np.testing.assert_allclose(each, bundle.predict(x), rtol=0, atol=1e-12)
    table = model().interval
    assert table is not None
    scores = np.concatenate([rng.random(500), table.low_from, table.high_to, [0.0, 1.0]])
    low, high = table.bounds(scores)
    assert [table.bound(score) for score in scores.tolist()] == list(zip(low.tolist(), high.tolist(), strict=True))
    low, high = table.around(scores)
    assert [table.around_one(s) for s in scores.tolist()] == list(zip(low.tolist(), high.tolist(), strict=True))
    assert ((low <= scores) & (scores <= high)).all()


def test_rows_predicted_in_many_threads_do_not_mix() -> None:
    bundle = trees()
    booster = TextBooster(bundle.booster)
    x = np.random.default_rng(2).normal(size=(400, len(TREE_FEATURES)))
    expected, wrong = bundle.predict(x).tolist(), []

    def run(start: int) -> None:
        for k in range(start, len(x), 4):
            if booster.predict_row(x[k].tolist()) != expected[k]:
                wrong.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_lost_connection_to_redis_is_replaced_and_a_refusal_is_told(redis_url: str) -> None:  # noqa: F811
    from trialops.errors import TrialOpsError

    write(redis_url)
    reader = open_reader(redis_url, SPEC, seconds=0.5)
    first = reader.each(list(GOOD))
    values = reader.read(list(GOOD))
    np.testing.assert_array_equal([row for row, _ in first], values.values)
    assert [moments for _, moments in first] == list(map(tuple, values.event_us.tolist()))
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
        assert reader.each([GOOD[0]]) == first[:1]
        key = next(k for k in client.scan_iter() if GOOD[0].encode() in k)
        kept = client.dump(key)
        client.delete(key)
        client.set(key, "no hash")
        with pytest.raises(TrialOpsError, match="refused a command"):
            reader.each([GOOD[0]])
        client.delete(key)
        client.restore(key, 0, kept)
        assert reader.each(list(GOOD)) == first  # nothing is left on the connection that belongs to another
        client.execute_command("CLIENT", "PAUSE", "1500", "ALL")
        with pytest.raises(TrialOpsError, match="does not answer"):
            reader.each([GOOD[0]])
    time.sleep(0.6)
    assert reader.each([GOOD[1]]) == first[1:2]
    reader.close()


# -- on the wire -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("ordinary")
    url = f"sqlite:///{folder}/online.db"
    write(url)
    with served(folder, url, prediction_log=folder / "log") as server:
        yield server


def post(body: bytes, *headers: str) -> bytes:
    lines = [f"POST {INFER} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Wire:
    """A connection as bytes."""

    def __init__(self, server: ServerProcess) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.file = self.socket.makefile("rb")

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer on it."""
        status = int(self.file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self.file.readline().strip().decode():
            name, _, value = line.partition(": ")
            assert name not in headers
            headers[name] = value
        return status, headers, self.file.read(int(headers["content-length"]))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()


def test_status_headers_and_body_are_the_same_both_ways(trial: ServerProcess) -> None:
    body = ask([GOOD[0]], id=KNOWN)
    with Wire(trial) as wire:
        wire.socket.sendall(post(body))
        short = wire.answer()
        wire.socket.sendall(post(ask([GOOD[0]], id=KNOWN, parameters={})))
        long = wire.answer()
    assert short[0] == long[0] == 200 and short[2] == long[2]
    assert set(short[1]) == set(long[1]) == {"date", "content-type", "content-length", "x-request-id"}
    assert {k: v for k, v in short[1].items() if k != "date"} == {k: v for k, v in long[1].items() if k != "date"}


def probability(answer: tuple[int, dict[str, str], bytes]) -> float:
    assert answer[0] == 200, answer
    return float(json.loads(answer[2])["outputs"][0]["data"][0])


def test_pipelined_requests_of_every_kind_are_answered_in_order(trial: ServerProcess) -> None:
    one, two, many = ask([GOOD[0]]), ask([GOOD[1]]), ask([GOOD[0], GOOD[1]])
    nobody, get = ask(["nobody"]), b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    chunked = f"POST {INFER} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{len(two):x}\r\n".encode()
    sent = [post(one), post(two), post(many), post(nobody), get, post(one), chunked + two + b"\r\n0\r\n\r\n", post(two)]
    with Wire(trial) as wire:
        wire.socket.sendall(b"".join(sent * 3))
        for _ in range(3):
            p, q = probability(wire.answer()), probability(wire.answer())
            assert p != q and probability(wire.answer()) == p
            assert wire.answer()[0] == 404
            assert json.loads(wire.answer()[2]) == {"live": True}
            assert [probability(wire.answer()) for _ in range(3)] == [p, q, q]


def test_a_request_that_comes_in_pieces_is_answered_wherever_it_is_cut(trial: ServerProcess) -> None:
    data = post(ask([GOOD[0]]))
    with Wire(trial) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.socket.sendall(data)
        p = probability(wire.answer())
        for cut in (1, 40, data.index(b"\r\n\r\n") + 2, data.index(b"\r\n\r\n") + 4, len(data) - 20, len(data) - 1):
            wire.socket.sendall(data[:cut])
            time.sleep(0.02)
            wire.socket.sendall(data[cut:] + data)  # and the next behind it
            assert probability(wire.answer()) == probability(wire.answer()) == p


def test_other_forms_of_http_keep_their_meaning(trial: ServerProcess) -> None:
    body = ask([GOOD[0]])
    with Wire(trial) as wire:
        wire.socket.sendall(post(body, "expect: 100-continue")[: -len(body)])
        assert wire.file.readline() == b"HTTP/1.1 100 Continue\r\n" and wire.file.readline() == b"\r\n"
        wire.socket.sendall(body)
        probability(wire.answer())
        wire.socket.sendall(post(body, "connection: close"))
        answer = wire.answer()
        assert probability(answer) and answer[1]["connection"] == "close" and wire.file.read() == b""
    with Wire(trial) as wire:
        wire.socket.sendall(post(body).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert probability(wire.answer()) and wire.file.read() == b""
    with Wire(trial) as wire:
        wire.socket.sendall(post(body) + b"no http\r\n\r\n")
        assert probability(wire.answer()) and wire.answer()[0] == 400 and wire.file.read() == b""
    with Wire(trial) as wire:
        wire.socket.sendall(post(body, f"inference-header-content-length: {len(body)}"))
        probability(wire.answer())
        wire.socket.sendall(post(body, "inference-header-content-length: 9999"))
        assert wire.answer()[0] == 400
    with Wire(trial) as wire:  # two lengths are a smuggled request
        wire.socket.sendall(post(body, "content-length: 3"))
        assert wire.answer()[0] == 400
    with Wire(trial) as wire:
        wire.socket.sendall(post(body).replace(b"/infer ", b"/infer?x=1 "))
        probability(wire.answer())


def test_callers_that_leave_do_no_harm(trial: ServerProcess) -> None:
    data = post(ask([GOOD[0]]))
    for cut in (len(data), len(data) - 5, 30):
        for _ in range(20):
            with Wire(trial) as wire:
                wire.socket.sendall(data[:cut])
    with Wire(trial) as wire:
        wire.socket.sendall(data)
        probability(wire.answer())
    page = trial.client().send("GET", "/metrics")[1].decode()
    assert 'in_flight{model="withdrawal",version="3"} 0' in page and 'kind="internal"' not in page


def test_the_arm_of_the_router_and_the_callers_id_reach_the_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    write(url)
    with served(tmp_path, url, prediction_log=tmp_path / "log", arm="stable") as server, Wire(server) as wire:
        for headers in ((), ("x-trialops-arm: shadow",), ("x-trialops-arm: other",)):
            wire.socket.sendall(post(ask([GOOD[0]], id=KNOWN), *headers))
            assert wire.answer()[1]["x-request-id"] == KNOWN
    rows = read_segments(tmp_path / "log")
    assert rows["arm"].to_list() == ["stable", "shadow", "stable"]
    assert set(rows["request_id"]) == {KNOWN} and set(rows["subject_id"]) == {GOOD[0]}


def wait_until(condition: Callable[[], bool], patience: float = 30.0) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_sigterm_waits_for_a_body_on_its_way_and_closes_idle_connections(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    write(url)
    data = post(ask([GOOD[0]]))
    with served(tmp_path, url) as server:
        with Wire(server) as slow, Wire(server) as idle:
            idle.socket.sendall(data)
            p = probability(idle.answer())
            slow.socket.sendall(data[:-10])
            assert wait_until(lambda: b'"3"} 1' in next(
                line for line in server.client().send("GET", "/metrics")[1].splitlines()
                if line.startswith(b"trialops_inference_in_flight")
            ))  # fmt: skip
            os.kill(server.pid, signal.SIGTERM)
            assert idle.file.read() == b""
            slow.socket.sendall(data[-10:])
            answer = slow.answer()
            assert probability(answer) == p and answer[1]["connection"] == "close"
        assert server.stop() == 0


@pytest.mark.slow
def test_an_idle_connection_is_closed_and_one_in_use_is_not(trial: ServerProcess) -> None:
    data = post(ask([GOOD[0]]))
    with Wire(trial) as used, Wire(trial) as idle:
        idle.socket.sendall(data)
        probability(idle.answer())
        for _ in range(8):
            used.socket.sendall(data)
            probability(used.answer())
            time.sleep(0.8)
        assert idle.file.read() == b""  # uvicorn closes after five seconds
        used.socket.sendall(data)
        probability(used.answer())


def test_fresh_ids_are_uuids_of_version_4_and_differ() -> None:
    made = [uuid.UUID(fresh_id()) for _ in range(5000)]
    assert len(set(made)) == 5000
    assert {identity.version for identity in made} == {4} and {identity.variant for identity in made} == {uuid.RFC_4122}
    bits = np.unpackbits(np.frombuffer(b"".join(identity.bytes for identity in made), np.uint8)).reshape(5000, 128)
    free = np.r_[0:48, 52:64, 66:128]
    assert np.abs(bits[:, free].mean(axis=0) - 0.5).max() < 0.05  # seven standard errors
