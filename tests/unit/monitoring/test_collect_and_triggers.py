"""Predictions are collected once each; a pipeline is asked for once, and started once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.monitoring.collect import collect, log_folder, predictions_table
from trialops.monitoring.triggers import ask, done, triggers
from trialops.serving.prediction_log import Predicted, PredictionLog
from trialops.stores import step
from trialops.stores.objects import open_store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


def serve(home: Path, requests: int, *, first: int = 0) -> None:
    log = PredictionLog(log_folder(home, "withdrawal"), model="withdrawal", version="1", digest="abc", segment_rows=3)
    for number in range(first, first + requests):
        # The second subject of a request twice: two answers, though nothing but their place tells them apart.
        x, p = np.full((3, 2), float(number)), np.full(3, 0.25)
        days, subjects = np.full(3, 28), [f"s{number}", "same", "same"]
        log.put(Predicted(1e9 + number, f"r{number}", "stable", subjects, days, x, p, None, ["ok"] * 3))
    assert log.close()


def test_each_answer_once_however_often(home: Path) -> None:
    serve(home, 5)
    with step("collect-predictions") as run:
        first = collect(run, "withdrawal")
        run.write_named(predictions_table("withdrawal"), first)
        assert first.height == 15 and first["row"].to_list() == [0, 1, 2] * 5
        assert collect(run, "withdrawal").equals(first)
        serve(home, 2, first=5)
        second = collect(run, "withdrawal")
        assert second.height == 21 and second[:15].equals(first)
        run.write_named(predictions_table("withdrawal"), second)
        for path in log_folder(home, "withdrawal").iterdir():
            os.remove(path)  # a log that has been cleared away since
        assert collect(run, "withdrawal").equals(second)
        assert second["at"].is_sorted()


def test_nothing_logged_is_an_empty_table() -> None:
    with step("collect-predictions") as run:
        assert collect(run, "withdrawal").height == 0


def test_asked_once_and_started_once(home: Path) -> None:
    objects = open_store(str(home))
    with step("conclude-monitoring") as run:
        assert ask(run, "scheduled_retraining", "withdrawal-000002", arguments={"task": "withdrawal"}, reason="drift")
        assert not ask(run, "scheduled_retraining", "withdrawal-000002", arguments={}, reason="again")
        assert ask(run, "scheduled_retraining", "withdrawal-000005", arguments={}, reason="drift")
        asked = [event for event in run.trail.events() if event.action == "trigger.ask"]
    assert [event.version for event in asked] == ["withdrawal-000002", "withdrawal-000005"]
    first, second = triggers(objects)
    assert (first.arguments, first.reason) == ({"task": "withdrawal"}, "drift")
    done(objects, first, "run-9")
    done(objects, first, "run-9")
    with pytest.raises(TrialOpsError, match="Run run-9 was started for this request"):
        done(objects, first, "run-10")
    assert triggers(objects) == [second]
    assert [t.done_by for t in triggers(objects, waiting=False)] == ["run-9", ""]
