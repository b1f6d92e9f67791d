"""security_monitoring end to end, by kfp.local: a quiet cluster, then somebody reads secrets and a service unblinds."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.local.main_job import Home, states
from tests.support.audit_logs import audit_event, kubernetes
from tests.support.homes import leave, live_in
from trialops.alerts.raise_alert import register_of
from trialops.governance.signatures import Signatures
from trialops.settings import settings
from trialops.stores.context import Step

pytestmark = pytest.mark.slow
STEPS = {"collect-activity", "screen-activity", "review-access", "collect-evidence", "notify"}
PURPOSE = "follow up of the finding of today"
SERVICE = "system:serviceaccount:trialops:pipeline-runner"


def _logs(folder: Path, today: dt.date) -> None:
    """Six people who read pods on every working day of nine weeks; on the last day one lists secrets, in bulk."""
    lines = []
    for back in range(64, 0, -1):
        day = today - dt.timedelta(back)
        for person in range(6):
            for n in range(8 if day.weekday() < 5 else 0):
                at = dt.datetime.combine(day, dt.time(8 + n, (7 * person + back) % 60))
                lines.append(kubernetes(at, f"engineer-{person}", "get", "pods", number=n))
        lines.append(kubernetes(dt.datetime.combine(day, dt.time(3)), SERVICE, "list", "pods"))
    at = dt.datetime.combine(today, dt.time(9))
    lines += [kubernetes(at, "engineer-3", "list", "secrets", number=n, name=f"s{n}") for n in range(60)]
    lines += ["{not json", '{"kind": "Pod"}', ""]
    folder.mkdir()
    (folder / "audit.log").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("security")
    with pytest.MonkeyPatch.context() as patch:
        made = Home(folder / "home")
        live_in(made.path, patch, "run-0")
        patch.setenv("TRIALOPS_ROLE", "security officer")
        settings.cache_clear()
        yield made
        leave()


def security(*arguments: str) -> Result:
    from pipelines.cli import cli

    return CliRunner().invoke(cli, ["security", *arguments])


def test_a_day_of_monitoring(home: Home) -> None:
    today = dt.datetime.now(dt.UTC).date()
    folder = home.path.parent
    _logs(folder / "kubernetes", today)
    (folder / "fhir").mkdir()
    resource = audit_event(dt.datetime.combine(today, dt.time(10)), "dr-1", "R", "Patient/17")
    (folder / "fhir" / "events.ndjson").write_text(json.dumps(resource) + "\n[]\n")
    (folder / "roster.csv").write_text(
        "actor,kind,role,joined,left\n"
        + "".join(f"engineer-{n},person,data engineer,,\n" for n in range(6))
        + f"{SERVICE},service,,,\ndr-1,person,safety physician,,\npipeline,service,,,\n"
    )
    run = Step("look", {}, settings())
    run.trail.append(actor="pipeline", action="unblind.subject", object="case-9", reason="a hijacked service")
    Signatures(run.engine, run.vault, cost=2**10).enrol("officer", "Olga Officer", "a long passphrase 1")
    month = (today.replace(day=1)).strftime("%Y-%m")
    at = (dt.datetime.combine(today, dt.time(), dt.UTC) + dt.timedelta(1)).isoformat()
    given = {"kubernetes_logs": folder / "kubernetes", "fhir_audit": folder / "fhir", "roster": folder / "roster.csv"}
    options = [f"--set={key}={value}" for key, value in (given | {"as_of": at, "month": month}).items()]
    done = home.trialops("run", "security_monitoring", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    made = home.run()
    assert set(states(made)) == STEPS and made["state"] == "succeeded"

    collected = json.loads(home.output(made["run_id"], "collect-activity", "collected").read_text())
    assert collected["chain"]["ok"] and collected["lines"]["quarantined"] == 3
    assert collected["reasons"] == {"not JSON": 1, "not an AuditEvent": 1, "not an audit event": 1}
    summary = json.loads(home.output(made["run_id"], "screen-activity", "summary").read_text())
    assert summary["kinds"] == {"service_as_person": 1, "unlike": 1} and not summary["unchecked"].get("terminated")
    page = (home.path / "runs" / made["run_id"] / "index.html").read_text()
    assert "A service does what persons do" in page and "secret in 1 day: 60" in page
    for secret in ("engineer-", "dr-1", "pipeline-runner", "case-9", "Never Read", "Patient/17"):
        assert secret not in page, secret

    alerts = register_of(Step("look", {}, settings())).known().values()
    told = {alert.name: alert for alert in alerts if alert.area == "security"}
    assert set(told) == {"SecurityServiceAsPerson", "SecurityUnlike"}
    assert "engineer" not in str(told) and "case-9" not in str(told)

    shown = security("findings", told["SecurityUnlike"].labels["finding"], "--purpose", PURPOSE)
    assert shown.exit_code == 0 and "engineer-3" in shown.output
    head = run.trail.head()[0]
    assert [e.action for e in run.trail.events(after=head - 2)] == ["access.allow", "reidentify"]

    marked = folder / "decisions.csv"
    assert security("review", "--month", month, "--purpose", PURPOSE, "--marked", "--out", str(marked)).exit_code == 0
    refused = security(
        "review", "--month", month, "--purpose", PURPOSE, "--decisions", str(marked), "--user", "officer"
    )
    assert refused.exit_code != 0
    marked.write_text(marked.read_text().replace(",,,", ",revoke,not used,"))
    signed = security(
        "review", "--month", month, "--purpose", PURPOSE, "--decisions", str(marked), "--user", "officer",
        "--passphrase", "a long passphrase 1",
    )  # fmt: skip
    assert signed.exit_code == 0 and "Olga Officer" in signed.output, signed.output

    archive = folder / "evidence.zip"
    assert security("evidence", "--month", month, "--to", str(archive)).exit_code == 0
    assert security("evidence", "--check", str(archive)).exit_code == 0
    archive.write_bytes(archive.read_bytes().replace(b"chain.json", b"chain.jsom"))
    assert security("evidence", "--check", str(archive)).exit_code == 1


def test_who_may_not_is_told_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_ROLE", "data engineer")
    settings.cache_clear()
    for command in ("findings", "review"):
        refused = security(command, "--purpose", PURPOSE)
        assert refused.exit_code == 2 and "engineer-3" not in refused.output
    settings.cache_clear()
