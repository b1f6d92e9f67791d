"""What people are told at the end of a run, from its own records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trialops.alerts.notification import deliver, of_run
from trialops.stores.objects import open_store


def record(step: str, state: str = "finished", decision: str = "", **more: Any) -> dict[str, Any]:
    return {"step": step, "state": state, "decision": {"decision": decision} if decision else None, **more}


FAILED = record("ingest-sdtm", "failed", error={"what": "ds.xpt is cut off", "where": "ds.xpt", "fix": "Send again."})


@pytest.mark.parametrize(
    ("state", "records", "severity", "title", "lines"),
    [
        ("SUCCEEDED", [record("quality-gate", decision="pass")], "info", "p finished", ["quality-gate: pass"]),
        ("COMPLETE", [], "info", "p finished", []),
        ("SUCCEEDED", [record("hold-release", decision="hold")], "info", "p finished", ["hold-release: hold"]),
        (
            "SUCCEEDED",
            [record("quality-gate", decision="fallback"), record("build-features")],
            "warning",
            "p finished on a fallback",
            ["quality-gate: fallback"],
        ),
        ("SUCCEEDED", [record("c", decision="rollback")], "warning", "p finished on a fallback", ["c: rollback"]),
        ("FAILED", [FAILED], "critical", "p failed", ["ingest-sdtm failed: ds.xpt is cut off"]),
        # The orchestrator says success, a record says otherwise: the record wins.
        ("SUCCEEDED", [FAILED], "critical", "p failed", ["ingest-sdtm failed: ds.xpt is cut off"]),
        # The orchestrator says failure, no step recorded one: a step was killed before it could.
        ("FAILED", [record("ingest-sdtm")], "critical", "p failed", []),
        ("FAILED", [record("a", "failed")], "critical", "p failed", ["a failed: no reason recorded"]),
        (
            "FAILED",
            [record("quality-gate", decision="fallback"), record("b", "failed", error={"what": "w"})],
            "critical",
            "p failed",
            ["quality-gate: fallback", "b failed: w"],
        ),
    ],
)
def test_severity_title_and_lines(
    state: str, records: list[dict[str, Any]], severity: str, title: str, lines: list[str]
) -> None:
    told = of_run("run-1", "p", state, records)
    assert (told.severity, told.title, list(told.lines)) == (severity, title, lines)
    assert told.run_id == "run-1" and told.pipeline == "p" and told.at.endswith("+00:00")


def test_delivered_to_console_and_kept_with_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objects = open_store(str(tmp_path))
    key = deliver(of_run("run-1", "data_pipeline", "FAILED", [FAILED]), objects)
    assert key == "runs/run-1/notification.json"
    assert json.loads(objects.get(key))["lines"] == ["ingest-sdtm failed: ds.xpt is cut off"]
    assert capsys.readouterr().out.splitlines() == [
        "[critical] data_pipeline failed (run-1)",
        "  ingest-sdtm failed: ds.xpt is cut off",
    ]
    deliver(of_run("run-1", "data_pipeline", "SUCCEEDED", []), objects)
    assert json.loads(objects.get(key))["severity"] == "info", "the newest word on a run replaces the one before"
