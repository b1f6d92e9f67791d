"""Starting what monitoring has asked for: each request once, one whose run fails stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from pipelines import local
from pipelines.cli import cli
from tests.support.homes import leave, live_in
from trialops.monitoring.triggers import ask
from trialops.stores import step


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


def test_each_request_is_started_once_and_a_failed_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with step("conclude-monitoring") as run:
        ask(run, "scheduled_retraining", "withdrawal-000002", arguments={"task": "withdrawal"}, reason="drift twice")
    started: list[tuple[str, dict[str, Any]]] = []
    state = "failed"

    def start(entry: Any, values: dict[str, Any], **_: Any) -> SimpleNamespace:
        started.append((entry.name, values))
        return SimpleNamespace(state=state, run_id=f"run-{len(started)}")

    monkeypatch.setattr(local, "run", start)
    shown = CliRunner().invoke(cli, ["triggers"])
    assert shown.exit_code == 0 and "drift twice" in " ".join(shown.output.split()) and not started
    assert CliRunner().invoke(cli, ["triggers", "--run", "--set", "source=sdtm"]).exit_code == 1
    state = "succeeded"
    assert CliRunner().invoke(cli, ["triggers", "--run", "--set", "source=sdtm"]).exit_code == 0
    assert started == [("scheduled_retraining", {"source": "sdtm", "task": "withdrawal"})] * 2
    assert "Nothing is waiting" in CliRunner().invoke(cli, ["triggers", "--run"]).output and len(started) == 2
    assert "run-2" in CliRunner().invoke(cli, ["triggers", "--all"]).output
