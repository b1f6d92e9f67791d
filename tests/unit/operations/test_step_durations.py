"""Durations: what records give, how a slow step is told from chance, bottlenecks, queues, failure rates."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from trialops.operations.duration_findings import duration_findings, failure_findings
from trialops.operations.durations import (
    Duration,
    bottlenecks,
    collect,
    history,
    load_policy,
    robust_z,
    steps_of,
    trends,
)
from trialops.stores.objects import ObjectStore, open_store
from trialops.stores.run_log import finish_run, record_run

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
"""The run log takes the time by itself; nothing depends on which hour this is."""
POLICY = load_policy()


def rows(
    seconds: list[float], *, step: str = "train-model", pipeline: str = "model_training", **more: Any
) -> list[Duration]:
    """A step in one run after the other, a day apart, the newest last."""
    made = []
    for number, value in enumerate(seconds):
        at = (NOW - timedelta(days=len(seconds) - number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        given = {"queue_seconds": 0.0, "cpu_seconds": value * 0.9, "peak_mb": 500.0, **more}
        made.append(Duration(f"{pipeline}-{number}", pipeline, step, "finished", at, value, **given))
    return made


def test_the_score_is_that_of_the_logarithm() -> None:
    before = [10.0, 11.0, 9.0, 10.5, 9.5]
    logs = np.log(before)
    spread = 1.4826 * np.median(np.abs(logs - np.median(logs)))
    assert robust_z(20.0, before, 1e-3) == pytest.approx((np.log(20.0) - np.median(logs)) / spread)
    # Runs that hardly differ do not make a tenth more a great distance.
    assert robust_z(11.0, [10.0] * 8, 0.1) == pytest.approx(np.log(1.1) / 0.1)


@given(st.lists(st.floats(1.0, 1e4), min_size=3, max_size=20), st.floats(1.0, 1e4), st.floats(1.1, 100.0))
def test_the_score_does_not_depend_on_the_unit(before: list[float], recent: float, unit: float) -> None:
    scaled = robust_z(recent * unit, [value * unit for value in before], 0.1)
    assert scaled == pytest.approx(robust_z(recent, before, 0.1), rel=1e-6, abs=1e-6)


def test_a_step_that_became_slow_is_found() -> None:
    rng = np.random.default_rng(1)
    usual = (60 * np.exp(rng.normal(0, 0.08, 20))).tolist()
    (trend,) = trends(rows([*usual, 150.0, 160.0, 155.0]), POLICY)
    assert trend.slow and trend.z is not None and trend.z > 3.5
    assert trend.ratio == pytest.approx(155.0 / trend.before if trend.before else 0)
    (found,) = duration_findings([trend], POLICY)
    assert found.state == "degraded" and found.component == "model_training"
    assert "train-model takes 155.0 s, 2.5 times as long as before" in found.detail
    assert found.fix.startswith("train-model computes more")


def test_a_slow_step_that_only_waits_is_told_as_such() -> None:
    usual = rows([60.0 + number % 3 for number in range(12)])
    waiting = [
        Duration(
            f"later-{n}",
            "model_training",
            "train-model",
            "finished",
            f"2026-05-01T1{n}:00:00.000000Z",
            180.0,
            0.0,
            54.0,
            500.0,
        )
        for n in range(3)
    ]
    (found,) = duration_findings(trends([*usual, *waiting], POLICY), POLICY)
    assert found.state == "degraded" and found.fix.startswith("train-model waits")


@pytest.mark.parametrize(
    ("seconds", "why"),
    [
        ([60.0 + n % 3 for n in range(15)] + [200.0], "one slow run is no trend"),
        ([60.0 + n % 3 for n in range(15)] + [66.0, 66.0, 66.0], "a tenth more does not matter"),
        ([1.0 + 0.05 * (n % 3) for n in range(15)] + [3.0, 3.0, 3.0], "two seconds more do not matter"),
        ([60.0, 61.0] + [200.0, 200.0, 200.0], "two earlier runs are too few"),
        ([30.0, 240.0, 60.0, 20.0, 300.0, 90.0, 150.0, 45.0, 200.0, 120.0, 250.0, 220.0, 240.0], "it always varied so"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_not_slow(seconds: list[float], why: str) -> None:
    (trend,) = trends(rows(seconds), POLICY)
    assert not trend.slow, why


def test_chance_alone_is_rarely_called_slow() -> None:
    """2,000 steps whose runs vary by 30 % without any change: at most 4 are called slow."""
    rng = np.random.default_rng(7)
    every: list[Duration] = []
    for step in range(2000):
        every += rows((60 * np.exp(rng.normal(0, 0.3, 20))).tolist(), step=f"s{step}")
    assert sum(trend.slow for trend in trends(every, POLICY)) <= 4


def test_the_bottleneck_is_the_step_that_takes_most_of_a_run() -> None:
    found = trends([*rows([60.0] * 12), *rows([20.0] * 12, step="build-features")], POLICY)
    most = bottlenecks(found)["model_training"]
    assert (most.step, most.share) == ("train-model", 0.75)
    assert [trend.step for trend in found] == ["train-model", "build-features"]


def test_a_step_that_waits_long_is_a_finding() -> None:
    (durations, queue) = duration_findings(trends(rows([60.0] * 12, queue_seconds=400.0), POLICY), POLICY)
    assert durations.state == "healthy"
    assert (queue.check, queue.state, queue.value) == ("queue", "degraded", 400.0)


def test_failures_are_judged_from_enough_runs_on() -> None:
    found = failure_findings({"a": (100, 2), "b": (10, 5), "c": (100, 1)}, 0.01, 20)
    assert [(one.component, one.state) for one in found] == [("a", "degraded"), ("b", "healthy"), ("c", "healthy")]
    assert found[0].value == 0.02 and "judged from 20 runs on" in found[1].detail
    # A rate cannot be told of two runs, but nobody would call healthy what has never worked.
    early = failure_findings({"a": (1, 1), "b": (2, 2), "c": (19, 19), "d": (19, 18)}, 0.01, 20)
    assert [one.state for one in early] == ["healthy", "degraded", "degraded", "healthy"]


# -- from records ------------------------------------------------------------------------------------------------


def record(run: str, step: str, start: float, seconds: float, reads: tuple[str, ...] = ()) -> dict[str, Any]:
    """A step's record as the step context writes it."""
    began = NOW + timedelta(seconds=start)
    return {
        "step": step,
        "run_id": run,
        "state": "finished",
        "started": began.isoformat(timespec="milliseconds"),
        "finished": (began + timedelta(seconds=seconds)).isoformat(timespec="milliseconds"),
        "seconds": seconds,
        "cpu_seconds": seconds / 2,
        "peak_mb": 300.0,
        "inputs": [{"artifact": "x", "record": f"runs/{run}/steps/{one}/record.json"} for one in reads],
        "outputs": [],
        "metrics": {},
        "parameters": {},
    }


def test_the_queue_runs_from_the_last_input() -> None:
    records = [
        record("r", "read", 5, 10),
        record("r", "clean", 18, 20, ("read",)),
        record("r", "judge", 50, 1, ("read", "clean")),
    ]
    found = {one.step: one for one in steps_of(records, "p", NOW.isoformat())}
    assert {name: one.queue_seconds for name, one in found.items()} == {"read": 5.0, "clean": 3.0, "judge": 12.0}
    assert (found["clean"].seconds, found["clean"].cpu_seconds, found["clean"].peak_mb) == (20.0, 10.0, 300.0)


def keep(objects: ObjectStore, *records: dict[str, Any]) -> None:
    """Put records where steps put theirs."""
    for one in records:
        objects.put(f"runs/{one['run_id']}/steps/{one['step']}/record.json", json.dumps(one).encode())


def test_each_ended_run_is_read_once(engine: Engine, tmp_path: Path) -> None:
    objects, now = open_store(str(tmp_path / "objects")), datetime.now(UTC) + timedelta(minutes=1)
    for run in ("r1", "r2"):
        record_run(engine, run, "data_pipeline")
    keep(objects, record("r1", "read", 0, 10), record("r1", "clean", 12, 5, ("read",)), record("r2", "read", 0, 9))
    finish_run(engine, "r1", "succeeded")
    assert collect(engine, objects, now, POLICY) == 1  # the other still runs
    finish_run(engine, "r2", "failed")
    assert collect(engine, objects, now, POLICY) == 1
    assert collect(engine, objects, now, POLICY) == 0
    found = history(engine, NOW - timedelta(days=1), NOW + timedelta(days=1))
    assert [(one.run_id, one.step, one.seconds) for one in found] == [
        ("r1", "read", 10.0), ("r2", "read", 9.0), ("r1", "clean", 5.0),
    ]  # fmt: skip
    # A run that went on after it failed is read again, in place of what was read.
    record_run(engine, "r2", "data_pipeline")
    keep(objects, record("r2", "clean", 30, 4, ("read",)))
    finish_run(engine, "r2", "succeeded")
    assert collect(engine, objects, now, POLICY) == 1
    assert len(history(engine, NOW - timedelta(days=1), NOW + timedelta(days=1))) == 4


def test_what_is_too_old_is_taken_out(engine: Engine, tmp_path: Path) -> None:
    objects = open_store(str(tmp_path / "objects"))
    record_run(engine, "r1", "data_pipeline")
    keep(objects, record("r1", "read", 0, 10))
    finish_run(engine, "r1", "succeeded")
    collect(engine, objects, datetime.now(UTC), POLICY)
    collect(engine, objects, datetime.now(UTC) + timedelta(days=POLICY.keep_days + 400), POLICY)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM step_durations")).scalar_one() == 0
