"""Subject id in, prediction out, on every kind of store; what is refused; what is logged."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from online_trial import EMPTY, EXPIRED, FEATURES, GOOD, OLD, SPEC, ask, expected, model, served, write

from tests.support.redis import redis_address, redis_url
from trialops.errors import TrialOpsError
from trialops.serving.input_policy import SHIPPED, InputPolicy, load_input_policy
from trialops.serving.online_features import OnlineFeatures
from trialops.serving.prediction_log import read_segments
from trialops.serving.process import ServerProcess
from trialops.serving.refusals import Ahead, Incomplete, Stale, UnknownSubject
from trialops.stores.online.reader import open_reader

__all__ = ["redis_address", "redis_url"]

INFER = "/v2/models/withdrawal/infer"


def store(folder: Path) -> str:
    url = f"sqlite:///{folder}/online.db"
    write(url)
    return url


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("online")
    with served(folder, store(folder), prediction_log=folder / "log") as server:
        yield server


def answer(server: ServerProcess, body: bytes) -> tuple[int, dict[str, Any]]:
    with server.client() as client:
        status, text = client.send("POST", INFER, body)
    return status, json.loads(text)


def tensors(document: dict[str, Any]) -> dict[str, np.ndarray]:
    return {t["name"]: np.array(t["data"]).reshape(t["shape"]) for t in document["outputs"]}


def test_the_answer_is_the_models_on_the_stores_features_at_each_subjects_latest_day(trial: ServerProcess) -> None:
    status, document = answer(trial, ask([*GOOD, GOOD[0]], id="visit"))
    found = tensors(document)
    assert (status, document["id"]) == (200, "visit")
    assert found["study_day"].tolist() == [28, 31, 14, 28]
    x = expected(dict(zip(GOOD, (28, 31, 14), strict=True)))
    assert np.isnan(x).sum() == 1 and x[2, 0] == 16  # day -3 to day 14: there is no day 0
    p = model().predict(x)
    np.testing.assert_allclose(found["probability"], [*p, p[0]], rtol=0, atol=1e-12)
    table = model().interval
    assert table is not None
    for name, bound in zip(("low", "high"), table.around(p), strict=True):
        np.testing.assert_array_equal(found[name][:3], bound)
    assert document["parameters"] == {"model_version": "3", "bundle_digest": model().digest}


def test_ages_are_counted_to_the_day_asked_for(trial: ServerProcess) -> None:
    found = tensors(answer(trial, ask([GOOD[0], GOOD[0]], [28, 60]))[1])
    x = np.vstack([expected({GOOD[0]: day}) for day in (28, 60)])
    assert x[:, 0].tolist() == [0, 32]
    np.testing.assert_allclose(found["probability"], model().predict(x), rtol=0, atol=1e-12)
    assert found["study_day"].tolist() == [28, 60]


def test_contributions_come_on_request_and_sum_to_the_log_odds(trial: ServerProcess) -> None:
    outputs = [{"name": "contributions"}, {"name": "probability"}]
    document = answer(trial, ask(list(GOOD), outputs=outputs))[1]
    found = tensors(document)
    assert list(found) == ["contributions", "probability"]
    assert document["outputs"][0]["parameters"]["columns"] == ",".join((*FEATURES, "base"))
    p = found["probability"]
    assert np.abs(found["contributions"].sum(axis=1) - np.log(p / (1 - p))).max() < 1e-9


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (ask([GOOD[0], "01-999-0000", "01-998-0000"]), 404, "2 of 3 subjects are not in the online store"),
        (ask(["01-999-0000"], [28]), 404, "1 of 1"),
        (ask([OLD]), 409, "older in the online store"),
        (ask([GOOD[0]], [28 + 93]), 409, "older in the online store"),
        (ask([EMPTY]), 409, "more than 50% of the features missing"),
        (ask([GOOD[0]], [27]), 409, "before the newest values"),
        (ask([GOOD[0]], [0]), 400, "study day 0"),
        (ask([]), 400, "no rows"),
    ],
)
def test_what_the_policy_does_not_predict_on_is_refused_and_named_by_position(
    trial: ServerProcess, body: bytes, status: int, says: str
) -> None:
    got, document = answer(trial, body)
    assert (got, list(document)) == (status, ["error"])
    assert says in document["error"]
    assert "01-" not in document["error"]


def test_the_oldest_allowed_day_is_still_answered(trial: ServerProcess) -> None:
    assert answer(trial, ask([GOOD[0]], [28 + 92]))[0] == 200


def test_refusals_are_counted_by_kind(trial: ServerProcess) -> None:
    def count(kind: str) -> int:
        page = trial.client().send("GET", "/metrics")[1].decode()
        line = f'trialops_inference_refusals_total{{model="withdrawal",version="3",kind="{kind}"}} '
        return int(next((text[len(line) :] for text in page.splitlines() if text.startswith(line)), 0))

    before = {kind: count(kind) for kind in ("unknown subject", "stale", "incomplete", "ahead", "malformed")}
    for body in (ask(["x"]), ask([OLD]), ask([EMPTY]), ask([GOOD[0]], [1]), b"{"):
        answer(trial, body)
    assert {kind: count(kind) - n for kind, n in before.items()} == dict.fromkeys(before, 1)


def features(policy: InputPolicy, folder: Path) -> OnlineFeatures:
    return OnlineFeatures(open_reader(store(folder), SPEC.narrowed(FEATURES)), FEATURES, policy)


def policy(**change: Any) -> InputPolicy:
    import yaml

    return InputPolicy.from_dict({**yaml.safe_load(SHIPPED.read_text()), **change})


def test_each_limit_and_the_order_of_reasons(tmp_path: Path) -> None:
    online = features(policy(), tmp_path)

    def reason(subjects: list[str], days: list[int] | None = None) -> type | None:
        rows = online.rows(subjects, None if days is None else np.array(days))
        refusal = online.refusal(rows)
        return type(refusal) if refusal else None

    assert reason([*GOOD]) is None
    assert reason(["nobody", OLD, EMPTY]) is UnknownSubject
    assert reason([OLD, EMPTY]) is Stale
    assert reason([EMPTY]) is Incomplete
    assert reason([EMPTY, GOOD[0]], [100, 2]) is Ahead
    lenient = OnlineFeatures(online.reader, FEATURES, policy(stale="warn", missing="warn"))
    rows = lenient.rows([GOOD[0], OLD, EMPTY], None)
    assert lenient.refusal(rows) is None
    assert OnlineFeatures.status(rows) == ["ok", "stale", "incomplete"]
    assert lenient.refusal(lenient.rows(["nobody"], None)) is not None
    strict = OnlineFeatures(online.reader, FEATURES, policy(max_age_days={"vitals": 0}))
    assert isinstance(strict.refusal(strict.rows([GOOD[0]], np.array([29]))), Stale)


def test_values_past_their_time_to_live_are_missing(tmp_path: Path) -> None:
    online = features(policy(stale="warn", max_missing_share=1.0), tmp_path)
    rows = online.rows([EXPIRED], None)
    assert rows.days.tolist() == [500]
    np.testing.assert_array_equal(rows.x, [[np.nan, 59.0, np.nan, 1.0]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stale": "ignore"}, "neither refuse nor warn"),
        ({"max_missing_share": 2}, "max_missing_share"),
        ({"max_age_days": {"labs": -1}}, "max_age_days"),
        ({"default_max_age_days": True}, "default_max_age_days"),
        ({"extra": 1}, "its keys"),
    ],
)
def test_an_unusable_policy_is_refused_with_the_key(change: dict[str, Any], says: str) -> None:
    with pytest.raises(TrialOpsError, match=says):
        policy(**change)


def test_the_policys_digest_follows_its_content(tmp_path: Path) -> None:
    assert load_input_policy().digest == policy().digest != policy(max_missing_share=0.25).digest
    for text in ("- 1\n", ": :"):
        (tmp_path / "p.yaml").write_text(text)
        with pytest.raises(TrialOpsError):
            load_input_policy(tmp_path / "p.yaml")


def test_a_store_that_lacks_a_feature_of_the_model_is_refused_at_start(tmp_path: Path) -> None:
    url = store(tmp_path)
    other = model()
    object.__setattr__(other, "features", ("days_since_vitals", "age", "weight_slope", "shoe_size"))
    object.__setattr__(other, "fill", dict.fromkeys(other.features, 0.0))
    with pytest.raises(TrialOpsError, match="shoe_size"), served(tmp_path, url, other):
        pass


def test_a_store_that_was_never_written_is_refused_before_ready(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="holds no features yet"), served(tmp_path, f"sqlite:///{tmp_path}/no.db"):
        pass


def test_a_store_that_goes_away_is_503_and_the_server_recovers(tmp_path: Path) -> None:
    url = store(tmp_path)
    with served(tmp_path, url) as server:
        assert answer(server, ask([GOOD[0]]))[0] == 200
        with sqlite3.connect(tmp_path / "online.db") as database:
            database.execute('ALTER TABLE "trial_vitals" RENAME TO "gone"')
        status, document = answer(server, ask([GOOD[0]]))
        assert (status, document) == (503, {"error": "the online store cannot be read now"})
        assert server.client().ready()
        with sqlite3.connect(tmp_path / "online.db") as database:
            database.execute('ALTER TABLE "gone" RENAME TO "trial_vitals"')
        assert answer(server, ask([GOOD[0]]))[0] == 200


def test_redis_gives_the_same_answers(redis_url: str, tmp_path: Path) -> None:  # noqa: F811
    write(redis_url)
    with served(tmp_path, redis_url) as server:
        found = tensors(answer(server, ask(list(GOOD)))[1])
        assert answer(server, ask(["nobody"]))[0] == 404
    p = model().predict(expected(dict(zip(GOOD, (28, 31, 14), strict=True))))
    np.testing.assert_allclose(found["probability"], p, rtol=0, atol=1e-12)


def test_callers_at_the_same_time_get_their_own_rows_and_their_own_refusals(trial: ServerProcess) -> None:
    p = model().predict(expected(dict(zip(GOOD, (28, 31, 14), strict=True))))
    wrong: list[tuple[int, Any]] = []

    def call(number: int) -> None:
        with trial.client() as client:
            for turn in range(40):
                k = (number + turn) % 4
                subjects = [GOOD[k], GOOD[(k + 1) % 3]] if k < 3 else ["nobody"]
                status, text = client.send("POST", INFER, ask(subjects))
                if k == 3:
                    good = status == 404
                else:
                    good = status == 200 and json.loads(text)["outputs"][0]["data"] == [p[k], p[(k + 1) % 3]]
                if not good:
                    wrong.append((k, text))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- the prediction log ----------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], bool], patience: float = 30.0) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_every_prediction_is_logged_with_its_inputs_and_nothing_else_is(tmp_path: Path) -> None:
    url = store(tmp_path)
    log, known = tmp_path / "predictions" / "withdrawal", "0b7e8a4e-1f2f-4c57-9b5e-6a3a3a0e6a11"
    lenient = tmp_path / "lenient.yaml"
    lenient.write_text(SHIPPED.read_text().replace("stale: refuse", "stale: warn"))
    with served(tmp_path, url, prediction_log=log, input_policy=lenient, arm="stable") as server:
        assert answer(server, ask([GOOD[0], GOOD[2]], id=known))[0] == 200
        with server.client() as client:
            client._connection.request("POST", INFER, ask([OLD]), {"x-trialops-arm": "candidate"})
            warned = json.loads(client._connection.getresponse().read())
        assert warned["parameters"]["warnings"] == "stale: 1 row"
        assert answer(server, ask(["nobody"]))[0] == 404
        row = {"name": "features", "datatype": "FP64", "shape": [1, 4], "data": [1.5, 70, None, 2]}
        assert answer(server, json.dumps({"inputs": [row]}).encode())[0] == 200
        text = server.output.read_text()
    rows = read_segments(log)
    assert rows.height == 4
    assert rows["request_id"].to_list()[:2] == [known] * 2
    assert rows["subject_id"].to_list() == [GOOD[0], GOOD[2], OLD, ""]
    assert rows["study_day"].to_list() == [28, 14, 200, None]
    assert rows["status"].to_list() == ["ok", "ok", "stale", "ok"]
    assert rows["arm"].to_list() == ["stable", "stable", "candidate", "stable"]
    assert set(rows["bundle_digest"]) == {model().digest} and set(rows["version"]) == {"3"}
    x = expected({GOOD[0]: 28, GOOD[2]: 14, OLD: 200})
    found = np.array(rows["features"].to_list()[:3], dtype=float)
    np.testing.assert_array_equal(found, x)
    np.testing.assert_allclose(rows["probability"].to_numpy()[:3], model().predict(x), rtol=0, atol=0)
    assert (rows["low"] <= rows["high"]).all()
    assert str(rows["at"].dtype) == "Datetime(time_unit='ms', time_zone='UTC')"
    assert all(subject not in text for subject in (*GOOD, OLD))


def test_segments_roll_over_whole_and_an_unfinished_line_is_left_out(tmp_path: Path) -> None:
    from trialops.serving.prediction_log import Predicted, PredictionLog

    log = PredictionLog(tmp_path, model="m", version="1", digest="d", segment_rows=5, server_id="s")
    x = np.array([[1.0, np.nan]])
    for number in range(12):
        log.put(Predicted(1.0 + number, str(number), "", ["P"], np.array([number + 1]), x, x[:, 0], None, ["ok"]))
        assert wait_until(lambda: log.writer.depth == 0)  # one batch each
    assert log.close()
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"s-{n:06d}.jsonl" for n in range(3)]
    assert [len(path.read_text().splitlines()) for path in sorted(tmp_path.iterdir())] == [5, 5, 2]
    with (tmp_path / "s-000002.jsonl").open("a") as file:
        file.write('{"at":"1970')
    rows = read_segments(tmp_path)
    assert rows["study_day"].to_list() == list(range(1, 13))
    assert rows["features"].to_list()[0] == [1.0, None]
    assert rows["low"].null_count() == 12
    (tmp_path / "t-000000.jsonl").write_text("rubbish\n")
    with pytest.raises(TrialOpsError, match="not a prediction"):
        read_segments(tmp_path)
    assert read_segments(tmp_path / "absent").height == 0


def test_a_log_that_cannot_keep_up_slows_requests_down_then_refuses_them_and_loses_nothing() -> None:
    import asyncio

    from trialops.serving import line_writer
    from trialops.serving.line_writer import LineWriter

    written: list[int] = []
    broken = threading.Event()
    broken.set()

    def write_items(items: Any) -> None:
        if broken.is_set():
            raise OSError("no space")
        written.extend(items)

    writer = LineWriter(write_items, "log", capacity=3, every=0.01)
    for number in range(3):
        writer.put(number)
    assert writer.full
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_writer, "PATIENCE", 0.05)
        assert asyncio.run(writer.room()) is False
    broken.clear()
    assert asyncio.run(writer.room()) is True
    writer.put(3)
    assert writer.close()
    assert written == [0, 1, 2, 3] and writer.failures >= 1 and writer.depth == 0


def test_sigterm_under_load_fails_no_request_and_loses_no_prediction(tmp_path: Path) -> None:
    """Eight callers, SIGTERM in the middle: whoever was answered is in the log; nobody got half an answer."""
    url = store(tmp_path)
    answered, failed, refused = [0] * 8, [], [0] * 8
    with served(tmp_path, url, prediction_log=tmp_path / "log") as server:

        def call(number: int) -> None:
            import http.client

            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            while True:
                try:
                    connection.request("POST", INFER, ask(list(GOOD)))
                except (ConnectionError, http.client.CannotSendRequest):
                    refused[number] += 1  # the server had closed: nothing was sent that it took
                    return
                try:
                    response = connection.getresponse()
                    body = response.read()
                except (http.client.RemoteDisconnected, ConnectionResetError):
                    refused[number] += 1  # an idle connection closed before the request was read
                    return
                except Exception as error:  # half an answer
                    failed.append(type(error).__name__)
                    return
                if response.status != 200 or len(json.loads(body)["outputs"][0]["data"]) != 3:
                    failed.append(str(response.status))
                answered[number] += 1

        threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        assert wait_until(lambda: sum(answered) > 100)
        os.kill(server.pid, signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert server.stop() == 0
    assert failed == []
    logged = read_segments(tmp_path / "log").height
    assert 3 * sum(answered) <= logged <= 3 * (sum(answered) + sum(refused))
    assert len((tmp_path / "work" / "requests.jsonl").read_text().splitlines()) * 3 == logged


def test_a_server_with_everything_on_loads_no_library_of_training_or_tracking(tmp_path: Path) -> None:
    """The lean image: what is imported after start, a lookup, an explanation and a gRPC call."""
    url = store(tmp_path)
    folder = model().save(tmp_path / "b")
    (folder / "service.json").write_text(SPEC.to_json())
    script = """
import asyncio, io, json, sys
from pathlib import Path
from trialops.serving import server, grpc_server
from trialops.serving.application import Application
from trialops.serving.prediction_log import PredictionLog
from trialops.serving.protocol import Limits, decode
from trialops.models.bundle import Bundle
bundle = Bundle.load(sys.argv[1])
online = server.open_online(bundle, sys.argv[2], Path(sys.argv[1]) / "service.json", None)
log = PredictionLog(Path(sys.argv[3]), model="w", version="1", digest=bundle.digest)
app = Application(bundle, "w", "1", log=io.StringIO(), limits=Limits(), online=online, predictions=log)
app.warm_up()
async def main():
    rpc, port = await grpc_server.start(app, "127.0.0.1", 0)
    body = {"inputs": [{"name": "subject_id", "datatype": "BYTES", "shape": [1], "data": [sys.argv[4]]}],
            "outputs": [{"name": "contributions"}, {"name": "probability"}]}
    request = decode(json.dumps(body).encode(), app.features, Limits(), online=True, interval=True)
    made = await app.predictor.answer(request, "r")
    assert 0 < made.probability[0] < 1
    await rpc.stop(0)
asyncio.run(main())
assert app.close()
heavy = "kfp feast mlflow pandas polars sklearn scipy pyarrow duckdb ray sqlalchemy lightgbm fastapi starlette pydantic"
print(sorted(set(heavy.split()) & set(sys.modules)))
"""
    arguments = [sys.executable, "-c", script, str(folder), url, str(tmp_path / "log"), GOOD[0]]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("days", [None, [28, 40, 14], [29, 0, 20]])
def test_the_short_way_for_ordinary_rows_gives_what_the_long_way_gives(tmp_path: Path, days: list[int] | None) -> None:
    online = features(policy(), tmp_path)
    asked = None if days is None else np.array(days)
    short = online.rows(GOOD, asked)
    online._least_us = np.full_like(online._least_us, -(2**62))  # nothing is ordinary
    long = online.rows(GOOD, asked)
    assert short.clean and long.clean
    np.testing.assert_array_equal(short.x, long.x)
    np.testing.assert_array_equal(short.days, long.days)
    for name in ("unknown", "ahead", "stale", "incomplete"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name))
