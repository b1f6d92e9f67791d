"""The commands over alerts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.support.alert_receivers import webhook
from trialops.alerts.raise_alert import Alert, raise_alert, register_of
from trialops.settings import settings
from trialops.stores.database import connect, migrate


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path))
    monkeypatch.setenv("TRIALOPS_ACTOR", "maria")
    settings.cache_clear()
    migrate(connect(settings().database))
    return tmp_path


def run(*arguments: str) -> Result:
    from pipelines.cli import cli

    return CliRunner().invoke(cli, list(arguments))


def fire(name: str = "Broken", severity: str = "critical", **labels: str) -> str:
    engine = connect(settings().database)
    return raise_alert(engine, Alert(name, severity, {"area": "data", **labels}, f"{name} it is"))  # type: ignore[arg-type]


def test_listed_shown_taken_and_ended(home: Path) -> None:
    key, other = fire(), fire("Late", "warning", step="x")
    listed = run("alerts", "list")
    assert listed.exit_code == 0 and listed.output.index("Broken") < listed.output.index("Late")
    assert [a["name"] for a in json.loads(run("alerts", "list", "--severity", "warning", "--json").output)] == ["Late"]
    assert "is yours" in run("alerts", "ack", key[:8], "--reason", "on it").output
    assert "taken by maria" in run("alerts", "list").output
    again = run("alerts", "ack", key[:8])
    assert again.exit_code == 2 and "nothing to take" in again.output
    assert run("alerts", "resolve", other[:8], "--reason", "fixed").exit_code == 0
    assert "Late" not in run("alerts", "list").output and "Late" in run("alerts", "list", "--all").output
    shown = run("alerts", "show", key[:8]).output
    assert "acknowledged" in shown and "maria" in shown
    assert run("alerts", "show", "zz").exit_code == 2


def test_silences_are_made_listed_and_ended(home: Path) -> None:
    fire(pipeline="p")
    made = run("alerts", "silence", "pipeline=p", "--for", "2h", "--reason", "repair")
    assert made.exit_code == 0, made.output
    assert "silenced" in run("alerts", "list").output and "repair" in run("alerts", "silence", "--list").output
    assert run("alerts", "silence", "--end", made.output[:8]).exit_code == 0
    assert "silenced" not in run("alerts", "list").output
    for wrong in (("pipeline=p",), ("pipeline=p", "--for", "soon", "--reason", "why"), ("--reason", "why")):
        assert run("alerts", "silence", *wrong).exit_code == 2


def test_what_a_person_did_is_in_the_audit_trail(home: Path) -> None:
    from trialops.governance.audit import AuditTrail

    key = fire()
    run("alerts", "ack", key[:8])
    run("alerts", "silence", "area=data", "--reason", "repair")
    run("alerts", "resolve", key[:8], "--reason", "fixed")
    events = list(AuditTrail(connect(settings().database)).events())
    assert [e.action for e in events] == ["alert.acknowledge", "alert.silence", "alert.resolve"]
    assert {e.actor for e in events} == {"maria"}


def test_a_pass_without_an_orchestrator_tells_and_the_test_of_a_receiver_says_whether(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fire()
    with webhook() as hook:
        monkeypatch.setenv("TRIALOPS_RECEIVER_ONCALL_FIRST", hook.address)
        monkeypatch.setenv("TRIALOPS_RECEIVER_ONCALL_SECOND", hook.address)
        done = run("alerts", "run")
        assert done.exit_code == 0 and "1 pages" in done.output, done.output
        assert len(hook.titles()) == 1 and "level 1" in hook.titles()[0]
        assert "has taken it" in run("alerts", "test", "oncall_first").output
        hook.answer = 500
        refused = run("alerts", "test", "oncall_first")
        assert refused.exit_code == 2 and str(hook.port) not in refused.output
    assert run("alerts", "test", "nobody").exit_code == 2
    assert "oncall_first" in run("alerts", "oncall", "--at", "2026-01-06T10:00:00Z").output
    assert run("alerts", "messages").exit_code == 0


def test_configuration_and_metrics_are_written(home: Path) -> None:
    fire()
    done = run("alerts", "config", "--out", str(home / "out"), "--url", "http://alerts:8080")
    assert done.exit_code == 0, done.output
    made = yaml.safe_load((home / "out" / "alertmanager.yml").read_text())
    hook = made["receivers"][0]["webhook_configs"][0]
    assert hook["url"] == "http://alerts:8080/alertmanager"
    token = Path(hook["http_config"]["authorization"]["credentials_file"])
    assert token.stat().st_mode & 0o777 == 0o600 and len(token.read_text()) == 64
    assert token.read_text() not in done.output
    text = run("metrics").output
    assert 'trialops_alerts_active_count{severity="critical"} 1.0' in text
    assert run("metrics", "--out", str(home / "t.prom")).exit_code == 0 and (home / "t.prom").exists()
    assert len(register_of(connect(settings().database)).known()) == 1
