"""The steps on real stores: findings sealed, alerts without names, a broken trail told, a second run the same."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from components.security import collect_activity, collect_evidence, review_access, screen_activity
from tests.support.audit_logs import kubernetes
from tests.support.homes import Made, artifact, leave, live_in
from trialops.alerts.raise_alert import register_of
from trialops.security.findings import PREFIX, of, screenings
from trialops.settings import settings
from trialops.stores.context import Step

TOMORROW = (dt.datetime.now(dt.UTC) + dt.timedelta(1)).replace(hour=0, minute=0, second=0, microsecond=0)
TODAY = TOMORROW.date() - dt.timedelta(1)
WHO = "anabel.example"
SERVICE = "system:serviceaccount:trialops:runner"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    live_in(tmp_path / "home", monkeypatch)
    lines = [
        kubernetes(dt.datetime.combine(TODAY - dt.timedelta(n), dt.time(9)), WHO, "get", "pods", number=n)
        for n in range(3)
    ]
    (tmp_path / "audit.log").write_text("\n".join([*lines, "{"]) + "\n")
    (tmp_path / "roster.csv").write_text(
        f"actor,kind,role,joined,left\n{WHO},person,monitor,,{TODAY - dt.timedelta(2)}\n{SERVICE},service,,,\n"
    )
    yield tmp_path
    leave()


def _run(home: Path, number: int = 1, as_of: dt.datetime = TOMORROW) -> tuple[int, dict[str, Made]]:
    names = ("activity", "quarantine", "collected", "page", "summary", "found", "review", "reviewed", "pack", "packed")
    made = {name: artifact(home / "home", f"{name}-{number}") for name in names}
    given = {"roster": str(home / "roster.csv"), "as_of": as_of.isoformat()}
    collect_activity.python_func(
        made["activity"], made["quarantine"], made["collected"], made["page"],
        kubernetes_logs=str(home / "audit.log"), **given,
    )  # fmt: skip
    told = screen_activity.python_func(made["activity"], made["collected"], made["summary"], made["found"], **given)
    return told, made


def test_findings_are_sealed_and_alerts_name_nobody(home: Path) -> None:
    run = Step("look", {}, settings())
    run.trail.append(actor="bot", action="sign", object="model/m", version="a" * 64, detail={"meaning": "approved"})
    told, made = _run(home)
    assert told == 1
    found = of(screenings(run)[-1])
    assert [(f.kind, f.count, f.told) for f in found] == [
        ("terminated", 1, True)
    ]  # of today; the days before were not asked
    alerts = [a for a in register_of(run).known().values() if a.area == "security"]
    assert [a.name for a in alerts] == ["SecurityTerminated"] and alerts[0].severity == "critical"
    assert alerts[0].labels == {"area": "security", "finding": found[0].id}
    sealed = b"".join(run.objects.get(key) for key in run.objects.list(PREFIX))
    assert b"terminated" not in sealed
    pages = "".join(Path(made[name].path).read_text() for name in ("page", "found", "summary", "collected"))
    assert WHO not in pages and found[0].actor not in pages
    assert run.vault.reidentify("actor", found[0].actor, reason="test", actor="t", engine=run.engine) == WHO
    frames = run.read(made["activity"])
    assert WHO not in set(frames["activity"]["actor"]) and frames["activity"].height > 0
    assert run.read_table(made["quarantine"]).rows() == [("audit.log", 4, "not JSON")]


def test_a_second_run_finds_the_same_and_tells_nobody_twice(home: Path) -> None:
    _run(home)
    run = Step("look", {}, settings())
    first = {f.id for f in of(screenings(run)[-1])}
    _run(home, 2)
    assert {f.id for f in of(screenings(run)[-1])} == first
    alerts = [a for a in register_of(run).known().values() if a.area == "security"]
    assert [a.episode for a in alerts] == [1] and alerts[0].count == 2
    # The days in between are judged once the next run comes.
    told, made = _run(home, 3, TOMORROW + dt.timedelta(3))
    assert json.loads(Path(made["summary"].path).read_text())["since"] == TOMORROW.date().isoformat()


def test_a_broken_trail_is_itself_a_finding(home: Path) -> None:
    run = Step("look", {}, settings())
    for n in range(3):
        run.trail.append(actor="bot", action="data.read", object=f"clean/{n}")
    with run.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_events_no_update")
        connection.exec_driver_sql("UPDATE audit_events SET actor = 'somebody' WHERE seq = 2")
    _run(home)
    found = {f.kind: f for f in of(screenings(run)[-1])}
    assert found["broken_chain"].severity == "critical" and "record 2" in found["broken_chain"].words
    assert "SecurityBrokenChain" in {a.name for a in register_of(run).known().values()}


def test_review_and_evidence_of_the_month(home: Path) -> None:
    month = {"month": TODAY.strftime("%Y-%m"), "as_of": TOMORROW.isoformat()}
    _, made = _run(home)
    marked = review_access.python_func(
        made["activity"], made["review"], made["reviewed"], roster=str(home / "roster.csv"), **month
    )
    assert marked > 10
    page = Path(made["reviewed"].path).read_text()
    assert "waits for a reviewer" in page and "unblinding" in page and WHO not in page
    files = collect_evidence.python_func(made["review"], made["summary"], made["pack"], made["packed"], **month)
    assert files == 9 and "criteria lack evidence" in Path(made["packed"].path).read_text()
