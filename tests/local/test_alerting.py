"""alerting and notification end to end by kfp.local: a failed run, a real mailbox and webhook, then a good run."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.local.main_job import Home, states
from tests.support.alert_receivers import mailbox, webhook
from trialops.alerts.raise_alert import Alert, raise_alert, register_of
from trialops.alerts.routes import SHIPPED, load_routes
from trialops.settings import settings
from trialops.stores.database import connect, migrate
from trialops.stores.run_log import finish_run, record_run

pytestmark = pytest.mark.slow


def document(home: Home, step: str) -> dict[str, object]:
    (path,) = sorted(home.path.glob(f"runs/*/steps/{step}/record.json"), key=lambda p: p.stat().st_mtime)[-1:]
    content: dict[str, object] = json.loads(path.read_text())
    return content


def test_an_alert_is_found_told_paged_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, routes = Home(tmp_path / "home"), load_routes(SHIPPED)
    monkeypatch.setenv("TRIALOPS_HOME", str(home.path))
    settings.cache_clear()
    engine = connect(settings().database)
    migrate(engine)
    with mailbox() as mail, webhook() as hook:
        addresses = {receiver.variable: hook.address for receiver in routes.receivers.values()}
        addresses[routes.receivers["data_team"].variable] = mail.address
        addresses["TRIALOPS_ALERTS_URL"] = "http://127.0.0.1:9"
        raise_alert(engine, Alert("PipelineFailed", "critical", {"area": "data", "pipeline": "p"}, "p failed: x"))
        for number in range(20):  # one of twenty has failed: above one in a hundred
            record_run(engine, f"old-{number}", "data_quality")
            finish_run(engine, f"old-{number}", "failed" if number == 3 else "succeeded")
        now = datetime.now(UTC)

        def after(minutes: int) -> str:
            return (now + timedelta(minutes=minutes)).isoformat()

        done = home.trialops("run", "alerting", "--set", f"as_of={after(40)}", **addresses)
        assert done.returncode == 0, done.stdout + done.stderr
        made = home.run()
        assert states(made) == {"evaluate-alerts": "ran", "notify": "ran"}
        decided = document(home, "evaluate-alerts")["decision"]
        assert decided["decision"] == "critical" and set(decided["policy"]) == {"thresholds", "routes"}  # type: ignore[index,call-overload]
        known = {alert.name: alert for alert in register_of(engine).known().values()}
        assert known["PipelineFailureRate"].labels["pipeline"] == "data_quality"

        told = home.trialops("run", "notification", "--set", f"as_of={after(41)}", **addresses)
        assert told.returncode == 0, told.stdout + told.stderr
        assert len(mail.received) == 1 and mail.received[0][1]["Subject"].startswith("[CRITICAL] PipelineFailed")
        pages = [title for title in hook.titles() if "level" in title]
        assert len(pages) == 3  # the pass came 40 minutes late: every level, once
        assert any("Take it: http://127.0.0.1:9/ack?t=" in body["message"] for _, body in hook.received)
        assert sum("ummary" in title for title in hook.titles()) == 2
        assert document(home, "deliver-messages")["decision"]["decision"] == "all told"  # type: ignore[index,call-overload]
        again = home.trialops("run", "notification", "--set", f"as_of={after(42)}", **addresses)
        assert again.returncode == 0 and len(hook.titles()) == len(set(hook.keys()))

    back = home.trialops("run", "alerting", "--set", "as_of=2020-01-01T00:00:00Z")
    assert back.returncode != 0 and "not written backwards" in back.stdout + back.stderr
    page = (sorted(home.path.glob("runs/*/steps/evaluate-alerts/page.html"))[0]).read_text()
    assert "PipelineFailureRate" in page and "<svg" in page and "SafetyClock90" in page
    engine.dispose()
    settings.cache_clear()
