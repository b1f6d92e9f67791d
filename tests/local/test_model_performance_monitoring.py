"""The model in use, watched through the command line: what was logged, what has matured, what follows from it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support.released import TASK, Released, release
from trialops.models.split import HELD_OUT
from trialops.monitoring.collect import log_folder
from trialops.serving.prediction_log import Predicted, PredictionLog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def predict(
    released: Released, rows: pl.DataFrame, p: np.ndarray, *, day: int = 28, arm: str = "stable", since: float = 1e9
) -> None:
    """Log predictions as a server of the champion would."""
    digest = released.bundle.digest
    log = PredictionLog(log_folder(released.home.path, TASK), model=TASK, version="1", digest=digest)
    x = rows.select(released.bundle.features).to_numpy().astype(np.float64)
    for number, subject in enumerate(rows["subject_id"].to_list()):
        one = slice(number, number + 1)
        identity = f"{arm}-{day}-{number}"
        log.put(Predicted(since + number, identity, arm, [subject], np.array([day]), x[one], p[one], None, ["ok"]))
    assert log.close()


def watched(released: Released) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Run the pipeline: what was judged, the decision, the page."""
    done = released.home.trialops("run", "model_performance_monitoring")
    assert done.returncode == 0, done.stdout + done.stderr
    run = released.home.run()["run_id"]
    folder = released.home.path / "runs" / run / "steps" / "judge-performance"
    document = json.loads(released.home.output(run, "judge-performance", "performance").read_text())
    return document, json.loads((folder / "record.json").read_text())["decision"], told(released)


def told(released: Released) -> str:
    """The message at the end of the newest run."""
    run = released.home.run()["run_id"]
    message = json.loads((released.home.path / "runs" / run / "notification.json").read_text())
    return f"[{message['severity']}] {message['title']}"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return release(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def rows(released: Released) -> pl.DataFrame:
    """The held-out subjects: to those it has learnt from the model would answer with too much confidence."""
    with released.step() as run:
        training = run.read_latest(f"training/{TASK}")
    assert training is not None
    return training.filter(pl.col("split") == HELD_OUT)


def test_watched_from_nothing_logged_to_degraded(released: Released, rows: pl.DataFrame) -> None:
    document, decision, _ = watched(released)
    assert decision["decision"] == "insufficient evidence" and document["performance"]["n"] == 0

    # The model's own answers at the landmark, a second one of each subject, one nobody saw, and one made too late.
    p = released.bundle.predict(rows.select(released.bundle.features).to_numpy().astype(np.float64))
    predict(released, rows, p)
    predict(released, rows, 1 - p, day=30)
    predict(released, rows, 1 - p, arm="shadow")
    predict(released, rows, 1 - p, day=90)
    document, decision, _ = watched(released)
    judged = document["performance"]
    left = judged["left_out"]
    assert judged["n"] == rows.height and sum(left.values()) == 3 * rows.height
    assert left["a later prediction for the same subject"] + left.get("made after the outcome", 0) == rows.height
    assert left["an answer nobody was shown"] == left["not made around the landmark"] == rows.height
    assert decision["decision"] == "not degraded", judged["reasons"]
    assert judged["events"] == int(rows["label"].sum())
    assert judged["at_promotion"]["value"] == pytest.approx(float(decision["numbers"]["at_promotion"][:5]), abs=5e-4)
    assert document["policy"]["digest"] == decision["policy"]["digest"]


def test_an_endpoint_gone_wrong_is_degraded_and_told(released: Released, rows: pl.DataFrame) -> None:
    """The endpoint's inputs got mixed up: the model is the same, and its answers are worth nothing."""
    p = released.bundle.predict(rows.select(released.bundle.features).to_numpy().astype(np.float64))
    # Made before all others, so that they are each subject's first.
    predict(released, rows, p[np.random.default_rng(1).permutation(len(p))], arm="candidate", since=5e8)
    document, decision, message = watched(released)
    assert decision["decision"] == "degraded"
    drop = document["performance"]["drop"]
    assert drop["low"] > 0 and drop["value"] > 0.05
    assert message == "[warning] model_performance_monitoring found: degraded"
    with released.step() as run:
        alerts = [event for event in run.trail.events() if event.action == "alert.model"]
    assert len(alerts) == 1 and "a relative drop of" in alerts[0].reason


def test_the_composite_asks_for_a_retraining_once(released: Released, rows: pl.DataFrame) -> None:
    def monitored() -> tuple[dict[str, Any], str]:
        done = released.home.trialops("run", "model_monitoring")
        assert done.returncode == 0, done.stdout + done.stderr
        run = released.home.run()["run_id"]
        return json.loads(released.home.output(run, "conclude-monitoring", "verdict").read_text()), told(released)

    first, _ = monitored()
    assert (first["state"], first["new"]) == ("watch", True)
    assert first["windows"][0]["parts"]["performance"] == "degraded"
    again, _ = monitored()  # nothing new has been logged
    assert (again["state"], again["new"], len(again["windows"])) == ("watch", False, 1)
    predict(released, rows[:5], np.full(5, 0.5), day=60)
    second, message = monitored()
    assert (second["state"], second["asks"], len(second["windows"])) == ("retrain", 2, 2)
    assert message.startswith("[warning] model_monitoring found: degraded") and message.endswith("retrain")
    third, _ = monitored()
    assert third["state"] == "waiting"
    listed = released.home.trialops("triggers")
    assert listed.returncode == 0 and listed.stdout.count("scheduled_retraining") == 1
    assert "2 of the last 2 windows are bad" in " ".join(listed.stdout.split())


def test_the_page_shows_no_small_group_and_no_subject(released: Released, rows: pl.DataFrame) -> None:
    run = [r["run_id"] for r in released.home.runs() if r["pipeline"] == "model_performance_monitoring"][-1]
    page = (released.home.path / "runs" / run / "index.html").read_text()
    assert "Estimate without labels" in page and "Matured cohort" in page and "<svg" in page
    assert not [subject for subject in rows["subject_id"].to_list() if subject in page]
    small = {site for (site, n) in rows.group_by("site_id").len().iter_rows() if n < 11}
    assert not [site for site in small if re.search(rf"<td[^>]*>{re.escape(site)}<", page)]
