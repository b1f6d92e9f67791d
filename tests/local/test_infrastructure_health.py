"""infrastructure_health end to end: durations of earlier runs are read, and a step that became slow is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.local.main_job import Home
from trialops.stores.database import connect, migrate
from trialops.stores.objects import open_store
from trialops.stores.run_log import finish_run, record_run

pytestmark = pytest.mark.slow


def past_runs(home: Path) -> None:
    """Twelve runs of a pipeline, the last three of which took four times as long; one in four of another failed."""
    engine, objects = connect(f"sqlite:///{home}/trialops.db"), open_store(str(home))
    migrate(engine)
    for number in range(12):
        run, seconds = f"past-{number:02}", 240.0 if number >= 9 else 60.0 + number % 3
        began = datetime.now(UTC) - timedelta(days=12 - number)
        record_run(engine, run, "feature_engineering")
        record = {
            "step": "build-features", "run_id": run, "state": "finished", "seconds": seconds,
            "cpu_seconds": seconds / 2, "peak_mb": 400.0, "started": began.isoformat(), "inputs": [],
            "finished": (began + timedelta(seconds=seconds)).isoformat(),
        }  # fmt: skip
        objects.put(f"runs/{run}/steps/build-features/record.json", json.dumps(record).encode())
        finish_run(engine, run, "succeeded")
    for number in range(24):
        record_run(engine, f"other-{number:02}", "data_export")
        finish_run(engine, f"other-{number:02}", "failed" if number % 4 == 0 else "succeeded")
    engine.dispose()


def test_a_slow_step_and_failing_runs(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    past_runs(home.path)
    done = home.trialops("run", "infrastructure_health")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = home.path.glob("runs/*/steps/check-infrastructure")
    found = json.loads((folder / "health.json").read_text())
    named = {(f["component"], f["check"]): f for f in found["findings"]}
    slow = named["feature_engineering", "durations"]
    assert slow["state"] == "degraded"
    assert "build-features takes 240.0 s, 3.9 times as long as before" in slow["detail"]
    failing = named["data_export", "failure rate"]
    assert (failing["state"], failing["value"], failing["threshold"]) == ("degraded", 0.25, 0.01)
    assert {check for component, check in named if component == "this machine"} == {"cpu", "memory", "disk"}
    assert named["sqlite", "reach"]["state"] == "healthy"
    assert found["state"] == "degraded"

    record = json.loads((folder / "record.json").read_text())
    assert record["metrics"]["slow_steps"] == 1 and record["metrics"]["runs_read"] == 36
    assert 0 < record["metrics"]["disk_share"] <= 1
    page = (folder / "page.html").read_text()
    assert "Durations of the steps that changed most" in page and page.count("<svg") >= 3
    assert "build-features" in page and "trialops runs: read the failed runs of data_export." in page
