"""The page of a run, from a run folder written by hand."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trialops.governance.audit import AuditTrail
from trialops.pages import run_page
from trialops.settings import settings
from trialops.stores.database import connect, migrate

ERROR = {"what": "The delivery lacks <DS>.", "where": "/data/a & b", "fix": "Ask the sender."}
RUN = "20240101T000000-data_pipeline-0001"
EARLIER = "20231231T000000-data_pipeline-0000"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def row(step: str, state: str, **more: Any) -> dict[str, Any]:
    return {"path": f"run/{step}", "task": step, "title": step.title(), "state": state, "step": step, **more}


def write_run(home: Path, state: str, steps: list[dict[str, Any]], **more: Any) -> Path:
    folder = home / "runs" / RUN
    folder.mkdir(parents=True, exist_ok=True)
    run = {
        "run_id": RUN,
        "title": "Data pipeline",
        "state": state,
        "started": "2024-01-01T00:00:00Z",
        "finished": "2024-01-01T00:00:09Z",
        "code_version": "abc",
        "parameters": {"source": "/data/a & b"},
        "error": None,
        "steps": steps,
        "counts": {},
        "seconds": 9.0,
        "overhead_seconds": 1.5,
        **more,
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def write_record(home: Path, run_id: str, step: str, page: str = "", **more: Any) -> None:
    folder = home / "runs" / run_id / "steps" / step
    folder.mkdir(parents=True)
    record = {"step": step, "run_id": run_id, "state": "finished", "inputs": [], "outputs": [], "decision": None}
    (folder / "record.json").write_text(json.dumps({**record, **more}))
    if page:
        (folder / "page.html").write_text(page)


def test_failed_run_says_why_at_the_top_and_at_the_step(home: Path) -> None:
    steps = [
        row("ingest", "failed", seconds=1.25, error=ERROR),
        row("clean", "not run", seconds=0.0),
    ]
    folder = write_run(home, "failed", steps, error=ERROR, counts={"failed": 1, "not run": 1, "ran": 0})
    write_record(home, RUN, "ingest", state="failed", error=ERROR)
    (folder / "log.txt").write_text("log")
    page = run_page.build(home, RUN)
    text = page.read_text()
    assert page == folder / "index.html" and not list(folder.glob(".*"))
    assert "<DS>" not in text, "an error's text is escaped"
    plain = html.unescape(text)
    assert all(plain.count(part) >= 2 for part in ERROR.values())
    assert "1 failed, 1 not run · 9.0 s, of which 1.5 s outside the steps" in plain
    assert '<div class="verdict bad"><strong>failed</strong>' in text
    assert 'href="log.txt"' in text and 'href="notification.json"' not in text


def test_page_needs_no_database_and_makes_none(home: Path) -> None:
    write_run(home, "failed", [row("ingest", "failed", error=ERROR)], error=ERROR)
    assert "0 events" in run_page.build(home, RUN).read_text()
    assert [path.name for path in home.iterdir()] == ["runs"]
    connect(settings().database).connect().close()  # a database without tables, as a killed first step leaves it
    assert "0 events" in run_page.build(home, RUN).read_text()


def test_page_tells_that_the_database_cannot_be_reached(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_DATABASE_URL", "postgresql://trialops:secret-word@127.0.0.1:1/none")
    settings.cache_clear()
    write_run(home, "failed", [row("ingest", "failed", error=ERROR)], error=ERROR)
    text = run_page.build(home, RUN).read_text()
    assert "database could not be reached" in text and "0 events" not in text
    assert "secret-word" not in text


def test_decisions_pages_lineage_and_audit(home: Path) -> None:
    data = home / "runs" / EARLIER / "artifacts" / "labs"
    data.parent.mkdir(parents=True)
    data.write_text("{}")
    tables = {"rows": {"table": "clean/lb", "version": 4}}
    made = {"artifact": "labs", "digest": "d" * 64, "path": str(data), "tables": tables}
    gone = {"artifact": "queries", "digest": "e" * 64, "path": str(home / "nowhere")}
    decision = {"decision": "fallback", "numbers": {"score": 81.25, "none": None, "rules": 12}, "policy": "rules"}
    write_record(home, EARLIER, "ingest", page="<p>page of the earlier run</p>", outputs=[made])
    write_record(home, RUN, "gate", page="<p>page of the gate</p>", inputs=[made], outputs=[gone], decision=decision)
    steps = [row("ingest", "reused", seconds=0.01, from_run=EARLIER), row("gate", "ran", seconds=2.0)]
    write_run(home, "succeeded", steps, counts={"ran": 1, "reused": 1})
    engine = connect(settings().database)
    migrate(engine)
    trail = AuditTrail(engine)
    trail.append(actor="ada", action="data.read", object="labs", run_id=RUN, reason="step gate <b>")
    trail.append(actor="mallory", action="data.read", object="labs", run_id="another", reason="other")

    text = run_page.build(home, RUN).read_text()
    assert "page of the earlier run" in text and "page of the gate" in text
    assert '<div class="verdict warn"><strong>Gate: fallback</strong>' in text
    assert "score 81.250; rules 12" in text
    assert f'href="../{EARLIER}/artifacts/labs"' in text, "links are relative, so the folder can be moved"
    assert "queries" in text and "nowhere" not in text
    assert "clean/lb@4" in text and "d" * 16 in text
    assert "1 event<" in text and "step gate &lt;b&gt;" in text and "mallory" not in text
    assert run_page.build(home, RUN).read_text() == text


def test_run_that_reused_everything_says_so(home: Path) -> None:
    write_run(home, "succeeded", [row("ingest", "reused", from_run=EARLIER)], counts={"reused": 1, "ran": 0})
    assert "Nothing new: every step was reused." in run_page.build(home, RUN).read_text()


def test_a_decision_has_the_colour_of_its_steps_page(home: Path) -> None:
    page = '<div class="verdict bad"><strong>reports overdue</strong></div><div class="verdict good"></div>'
    for step, decision, fragment in (("assess", "reports overdue", page), ("gate", "pass", page), ("look", "look", "")):
        write_record(home, RUN, step, page=fragment, decision={"decision": decision, "numbers": {}, "policy": "p"})
    write_run(home, "succeeded", [row(step, "ran", seconds=1.0) for step in ("assess", "gate", "look")])
    text = run_page.build(home, RUN).read_text()
    assert '<div class="verdict bad"><strong>Assess: reports overdue</strong>' in text
    assert '<div class="verdict good"><strong>Gate: pass</strong>' in text  # known words mean the same everywhere
    assert '<div class="verdict plain"><strong>Look: look</strong>' in text


def test_dossier_is_linked_from_the_decisions(home: Path) -> None:
    folder = home / "dossier"
    folder.mkdir()
    decision = {"decision": "promoted", "numbers": {}, "policy": "p"}
    out = {"artifact": "dossier", "digest": "f" * 64, "path": str(folder)}
    write_record(home, RUN, "release-dossier", outputs=[out], decision=decision)
    write_run(home, "succeeded", [row("release-dossier", "ran", seconds=1.0)])
    assert 'href="../../dossier/index.html">Open the release dossier' in run_page.build(home, RUN).read_text()
