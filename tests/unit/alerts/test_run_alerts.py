"""What the end of a run raises and ends, and what a digest says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.catalog import CATALOG
from tests.support.alert_clock import START, Desk, database
from tests.support.homes import leave, live_in
from trialops.alerts.digest import compile_digest, period, queue_digests
from trialops.alerts.notification import of_run
from trialops.alerts.raise_alert import Alert
from trialops.alerts.register import AlertRegister
from trialops.alerts.routes import SHIPPED, load_routes
from trialops.alerts.run_alerts import alerts_of, tell_of_run
from trialops.alerts.telling import acknowledge
from trialops.settings import settings
from trialops.stores.context import Step


def record(step: str, state: str = "finished", decision: str = "", **more: Any) -> dict[str, Any]:
    return {"step": step, "state": state, "decision": {"decision": decision} if decision else None, **more}


FAILED = record("ingest", "failed", error={"what": "dm.xpt of 01-701-1015 is cut off"})


@pytest.mark.parametrize(
    ("state", "records", "raised"),
    [
        ("SUCCEEDED", [record("gate", decision="pass")], []),
        ("FAILED", [FAILED], [("PipelineFailed", "critical")]),
        ("FAILED", [], [("PipelineFailed", "critical")]),
        ("SUCCEEDED", [FAILED], [("PipelineFailed", "critical")]),
        ("SUCCEEDED", [record("gate", decision="fallback")], [("PipelineFallback", "warning")]),
        ("SUCCEEDED", [record("hold-release", decision="hold")], [("PipelineFinding", "warning")]),
        ("SUCCEEDED", [record("c", decision="reports overdue")], [("PipelineFinding", "critical")]),
        (
            "SUCCEEDED",
            [record("a", decision="drift"), record("b", decision="retrain")],
            [("PipelineFinding", "warning")] * 2,
        ),
    ],
)
def test_what_a_run_raises(state: str, records: list[dict[str, Any]], raised: list[tuple[str, str]]) -> None:
    made = alerts_of(of_run("r", "p", state, records), records, "data")
    assert [(alert.name, alert.severity) for alert in made] == raised
    assert all(a.labels["area"] == "data" and a.labels["pipeline"] == "p" for a in made)


def test_the_next_good_run_ends_it_and_a_failed_one_says_nothing_of_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_in(tmp_path, monkeypatch)
    run = Step("notify", {}, settings())
    drift = [record("detect-drift", decision="drift")]

    def after(state: str, records: list[dict[str, Any]], pipeline: str = "data_quality") -> set[tuple[str, str]]:
        tell_of_run(run, of_run("r", pipeline, state, records), records)
        alerts = AlertRegister(run.engine, settings().study).known().values()
        return {(a.name, a.labels["pipeline"]) for a in alerts if a.firing}

    finding, failed = ("PipelineFinding", "data_quality"), ("PipelineFailed", "data_quality")
    assert after("SUCCEEDED", drift) == {finding}
    assert after("FAILED", [FAILED]) == {finding, failed}
    assert after("SUCCEEDED", [], "data_export") == {finding, failed}  # another pipeline's run
    assert after("SUCCEEDED", drift) == {finding}
    assert after("SUCCEEDED", []) == set()
    history = AlertRegister(run.engine, settings().study).history()
    assert not any("1015" in str(entry.alert) for entry in history)
    assert {e.alert.area for e in history} == {"data"}
    leave()


def test_the_area_of_a_pipeline_is_its_alert_policy_and_has_a_route() -> None:
    routes = load_routes(SHIPPED)
    for entry in CATALOG:
        if entry.name in routes.pipelines:
            assert routes.pipelines[entry.name] == entry.alert_policy, entry.name
    assert sum(entry.name in routes.pipelines for entry in CATALOG) >= 25
    routed = {area for route in routes.routes for area in route.areas}
    assert {"data", "model", "safety", "security", "compliance", "trial"} <= routed


# -- digests -----------------------------------------------------------------------------------------------------


def test_periods_end_at_the_local_time_a_week_on_monday() -> None:
    daily, weekly = load_routes(SHIPPED).digests
    now = datetime(2026, 4, 1, 6, 30, tzinfo=UTC)  # Wednesday, 08:30 in Berlin, after the change of clocks
    begin, end = period(daily, "Europe/Berlin", now)
    assert (begin.isoformat(), end.isoformat()) == ("2026-03-31T05:00:00+00:00", "2026-04-01T05:00:00+00:00")
    begin, end = period(weekly, "Europe/Berlin", now)
    assert (begin.isoformat(), end.isoformat()) == ("2026-03-23T06:00:00+00:00", "2026-03-30T05:00:00+00:00")
    assert period(daily, "UTC", datetime(2026, 4, 1, 6, 59, tzinfo=UTC))[1].day == 31


def test_a_digest_says_what_was_and_is_queued_once(tmp_path: Path) -> None:
    desk = Desk(database(tmp_path), now=START)
    desk.fire([Alert("A", "critical", {"area": "data"}, "a"), Alert("B", "warning", {"area": "data"}, "b")])
    desk.later(minutes=12)
    acknowledge(desk.register, [(desk.alert("A").fingerprint, 0)], "maria", desk.now)
    desk.later(hours=2)
    desk.end("B")
    desk.now = START + timedelta(days=1)
    queued = queue_digests(desk.register, desk.outbox, desk.routes, desk.now)
    assert [digest.name for digest in queued] == ["daily", "weekly"]
    daily = queued[0]
    assert (daily.begun, daily.ended, daily.taken, daily.seconds_to_take) == ({"critical": 1, "warning": 1}, 1, 1, 720)
    text = "\n".join(daily.lines())
    assert "1 critical, 1 warning, 0 info" in text and "within 12 min" in text and "taken by maria" in text
    assert queue_digests(desk.register, desk.outbox, desk.routes, desk.now + timedelta(hours=5)) == []
    later = compile_digest(desk.register, desk.outbox, "daily", daily.begin, daily.end)
    desk.end("A")
    assert compile_digest(desk.register, desk.outbox, "daily", daily.begin, daily.end).open == later.open
    tomorrow = queue_digests(desk.register, desk.outbox, desk.routes, desk.now + timedelta(days=1))
    assert [(d.name, d.begun, d.ended) for d in tomorrow] == [("daily", {}, 1)]
