"""service_health end to end: run by kfp.local on a home of its own, healthy and with a service that is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.local.main_job import Home
from tests.support.bad_servers import silent_server

pytestmark = pytest.mark.slow


def document(home: Home, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (home.path / "runs" / run_id / "steps" / "check-services" / "health.json").read_text()
    )
    return found


def run(home: Home, **more: str) -> str:
    """Run the pipeline; returns the run's id."""
    before = set(home.path.glob("runs/*/run.json"))
    done = home.trialops("run", "service_health", **more)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = set(home.path.glob("runs/*/run.json")) - before
    return made.parent.name


def test_a_home_and_a_service_that_never_answers(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    found = document(home, run(home))
    assert found["state"] == "healthy" and found["components"] == {"object store": "healthy"}
    assert found["unused"]["kafka"] == "not configured" and found["unused"]["sqlite"] == "made by the first run"

    with silent_server() as port:
        broken = run(home, TRIALOPS_SPARK_URL=f"http://127.0.0.1:{port}", TRIALOPS_SERVICES="kafka")
        asked = home.trialops("health", "--json", TRIALOPS_SPARK_URL=f"http://127.0.0.1:{port}")
    found = document(home, broken)
    assert found["state"] == "unknown" and found["components"]["sqlite"] == "healthy"
    assert {name for name, state in found["components"].items() if state != "healthy"} == {"kafka", "spark"}
    assert asked.returncode == 2 and json.loads(asked.stdout)["components"]["spark"] == "unknown"

    page = (home.path / "runs" / broken / "steps" / "check-services" / "page.html").read_text()
    assert "no answer within 5 s" in page and "State of each component at the last 2 looks" in page and "<svg" in page
    record = json.loads((home.path / "runs" / broken / "steps" / "check-services" / "record.json").read_text())
    assert record["decision"]["decision"] == "unknown" and record["metrics"]["unknown"] == 2
    assert firing(home) == {("kafka", "reach", "warning"), ("spark", "reach", "warning")}


def firing(home: Home) -> set[tuple[str, str, str]]:
    from trialops.alerts.register import AlertRegister
    from trialops.stores.database import connect
    from trialops.stores.objects import open_store
    from trialops.stores.study import bound_study

    engine = connect(f"sqlite:///{home.path}/trialops.db")
    study = bound_study(open_store(str(home.path))) or "trial"
    known = AlertRegister(engine, study).known().values()
    return {(a.labels["component"], a.labels["check"], a.severity) for a in known if a.firing}
