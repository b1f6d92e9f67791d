"""Findings: order, exit codes, alerts that begin and end with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.support.homes import leave, live_in
from trialops.alerts.raise_alert import register_of
from trialops.operations.health import (
    STATES,
    Finding,
    alert_on,
    by_component,
    counts,
    exit_code,
    in_order,
    table,
    verdict,
    worst,
)

KAFKA = Finding("kafka", "offline partitions", "broken", "1 of 3 partitions have no leader", 1.0, 0.0, "Restart it.")
REDIS = Finding("redis", "memory", "degraded", "85% of maxmemory is in use", 0.85, 0.8, "Raise maxmemory.")
SPARK = Finding("spark", "reach", "unknown", "no answer within 5 s", fix="Restart it.")
MLFLOW = Finding("mlflow", "reach", "healthy", "the server answers")


@pytest.mark.parametrize(
    ("findings", "state", "code"),
    [
        ([MLFLOW], "healthy", 0),
        ([MLFLOW, SPARK], "unknown", 2),
        ([MLFLOW, SPARK, REDIS], "degraded", 1),
        ([MLFLOW, SPARK, REDIS, KAFKA], "broken", 1),
        ([], "unknown", 2),
    ],
    ids=["healthy", "unknown", "degraded", "broken", "nothing"],
)
def test_the_whole_is_as_its_worst_part(findings: list[Finding], state: str, code: int) -> None:
    assert worst(findings) == state and exit_code(findings) == code


def test_the_worst_comes_first() -> None:
    assert in_order([MLFLOW, SPARK, REDIS, KAFKA]) == [KAFKA, REDIS, SPARK, MLFLOW]
    assert [row[0] for row in table([MLFLOW, KAFKA]).rows] == ["kafka", "mlflow"]
    assert counts([MLFLOW, SPARK]) == {"healthy": 1, "unknown": 1, "degraded": 0, "broken": 0}
    assert by_component([MLFLOW, KAFKA, Finding("kafka", "reach", "healthy", "")]) == {
        "kafka": "broken",
        "mlflow": "healthy",
    }
    told = verdict([MLFLOW, KAFKA, SPARK])
    assert (told.label, told.tone) == ("broken", "bad") and told.text.endswith("; kafka")


@pytest.fixture
def alerts(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A database to raise alerts in."""
    live_in(tmp_path / "home", monkeypatch)
    yield engine
    leave()


def firing(engine: Engine) -> dict[tuple[str, str], str]:
    """(component, check) -> severity of what fires."""
    known = register_of(engine).known().values()
    return {(a.labels["component"], a.labels["check"]): a.severity for a in known if a.firing}


def test_an_alert_lasts_as_long_as_its_finding(alerts: Engine) -> None:
    how = {"name": "ServiceUnhealthy", "area": "infrastructure", "runbook": "service-unhealthy"}
    assert len(alert_on(alerts, [KAFKA, SPARK, MLFLOW], **how)) == 2
    assert firing(alerts) == {("kafka", "offline partitions"): "critical", ("spark", "reach"): "warning"}
    # The same again is no second alert; one that is less bad is another, and ends the first.
    less = Finding("kafka", "offline partitions", "degraded", "", 1.0, 0.0, "")
    alert_on(alerts, [less, SPARK], **how)
    assert firing(alerts) == {("kafka", "offline partitions"): "warning", ("spark", "reach"): "warning"}
    healthy = [Finding(f.component, f.check, "healthy", "") for f in (KAFKA, SPARK)]
    assert alert_on(alerts, healthy, **how) == []
    assert firing(alerts) == {}
    known = {(a.labels["component"], a.severity): (a.episode, a.count) for a in register_of(alerts).known().values()}
    assert known == {("kafka", "critical"): (1, 1), ("kafka", "warning"): (1, 1), ("spark", "warning"): (1, 2)}


def test_what_was_not_looked_at_goes_on_firing(alerts: Engine) -> None:
    how = {"name": "ServiceUnhealthy", "area": "infrastructure", "runbook": "service-unhealthy"}
    alert_on(alerts, [KAFKA], **how)
    alert_on(alerts, [MLFLOW], **how)
    assert firing(alerts) == {("kafka", "offline partitions"): "critical"}


def test_a_state_has_one_rank() -> None:
    assert STATES == ("healthy", "unknown", "degraded", "broken")
