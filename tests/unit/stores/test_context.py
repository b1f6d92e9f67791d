from __future__ import annotations

import json
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.governance.lineage import edges, run_records, upstream
from trialops.pages import Page, Section, Text
from trialops.settings import settings
from trialops.stores import step
from trialops.stores.context import EVENT_PREFIX
from trialops.stores.database import connect
from trialops.stores.objects import open_store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path))
    monkeypatch.setenv("TRIALOPS_RUN_ID", "run-1")
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def artifact(tmp_path: Path, name: str) -> Any:
    return SimpleNamespace(name=name, uri=str(tmp_path / name), path=str(tmp_path / "out" / name), metadata={})


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line.removeprefix(EVENT_PREFIX)) for line in lines if line.startswith(EVENT_PREFIX)]


def test_tables_pass_by_reference_with_lineage(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, used = artifact(home, "labs"), artifact(home, "count")
    with step("make", rows=3) as run:
        run.write_table(made, pl.DataFrame({"n": [1, 2, 3]}), table="clean/labs")
    content = Path(made.path).read_text()
    assert "clean/labs" in content and made.metadata["rows"] == 3
    assert made.metadata["version"] == "clean/labs@0" and len(made.metadata["digest"]) == 64
    with step("use") as run:
        assert run.read_table(made)["n"].sum() == 6
        run.write_json(used, {"sum": 6})
        run.metrics["sum"] = 6

    assert [e["event"] for e in events(capsys)] == ["start", "finish", "start", "finish"]
    objects = open_store(str(home))
    records = run_records(objects, "run-1")
    assert [r["step"] for r in records] == ["make", "use"]
    assert records[0]["parameters"] == {"rows": 3} and records[1]["metrics"] == {"sum": 6}
    assert [r["step"] for r in upstream(objects, records[1:])] == ["make", "use"]
    assert {(e["step"], e["direction"], e["artifact"]) for e in edges(records)} == {
        ("make", "output", "labs"),
        ("use", "input", "labs"),
        ("use", "output", "count"),
    }


def test_every_access_is_in_the_trail(home: Path) -> None:
    made = artifact(home, "labs")
    with step("make") as run:
        run.write_table(made, pl.DataFrame({"n": [1]}), table="clean/labs")
        run.decide("pass", numbers={"score": 99.1}, policy="quality 95 %")
    with step("use") as run:
        run.read(made)
    trail = AuditTrail(connect(settings().database))
    assert [e.action for e in trail.events()] == [
        "data.write",
        "decision.make",
        "step.finish",
        "data.read",
        "step.finish",
    ]
    assert trail.verify().ok


def test_sealed_tables_are_unreadable_on_disk_and_read_back(home: Path) -> None:
    sealed = artifact(home, "raw")
    source = home / "dm.xpt"
    source.write_bytes(b"USUBJID 01-701-1015")
    frame = pl.DataFrame({"USUBJID": ["01-701-1015"]})
    with step("ingest") as run:
        run.seal(sealed, {"DM": frame}, files=[source])
    source.unlink()
    for path in home.rglob("*"):
        if path.is_file():
            assert b"01-701-1015" not in path.read_bytes(), path
    with step("read") as run:
        assert run.unseal(sealed)["DM"].equals(frame)


def test_our_errors_are_kept_and_others_lose_their_message(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrialOpsError, match="No rows"), step("plain"):
        raise TrialOpsError("No rows", where="labs", fix="Send some.")
    with pytest.raises(TrialOpsError) as caught, step("leaky"):
        raise ValueError("could not parse '01-701-1015'")
    assert "01-701-1015" not in str(caught.value) and "ValueError" in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    shown = [e for e in events(capsys) if e["event"] == "fail"]
    assert shown[0]["error"] == {"what": "No rows", "where": "labs", "fix": "Send some."}
    assert [r["state"] for r in run_records(open_store(str(home)), "run-1")] == ["failed", "failed"]
    assert [e.action for e in AuditTrail(connect(settings().database)).events()] == ["step.fail", "step.fail"]


def test_a_cause_and_a_panic_lose_their_text_too(home: Path) -> None:
    """Neither the cause of one of our errors nor an exception that is no Exception may carry a value out."""

    class Panic(BaseException):
        pass

    def with_cause() -> None:
        try:
            float("SMITH 01-701-1015")
        except ValueError as error:
            raise TrialOpsError("A column is not numeric", where="labs") from error

    with pytest.raises(TrialOpsError) as caught, step("caused"):
        with_cause()
    assert "SMITH" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(TrialOpsError) as caught, step("panicked"):
        raise Panic("SMITH 01-701-1015")
    assert "SMITH" not in "".join(traceback.format_exception(caught.value))


def test_a_step_whose_record_cannot_be_kept_has_failed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrialOpsError, match="32"), step("talkative", words="x" * 40_000):
        pass
    assert [e["event"] for e in events(capsys)] == ["start", "fail"]


def test_altered_document_is_refused(home: Path) -> None:
    made = artifact(home, "evaluation")
    with step("judge") as run:
        run.write_json(made, {"auroc": 0.6})
    Path(made.path).write_text('{"auroc": 0.9}')
    with pytest.raises(TrialOpsError, match="not what was written"), step("decide") as run:
        run.read_json(made)


def test_altered_reference_is_refused(home: Path) -> None:
    made = artifact(home, "labs")
    with step("make") as run:
        run.write_table(made, pl.DataFrame({"n": [1]}), table="clean/labs")
    path = Path(made.path)
    path.write_text(path.read_text().replace('"rows": 1', '"rows": 2').replace("clean/labs", "clean/else", 1))
    body = json.loads(path.read_text())
    body["tables"]["rows"]["digest"] = "0" * 64
    path.write_text(json.dumps(body))
    with pytest.raises(TrialOpsError, match="altered"), step("use") as run:
        run.read(made)


def test_folder_outputs_are_checked(home: Path) -> None:
    made = artifact(home, "model")
    source = home / "bundle"
    source.mkdir()
    (source / "bundle.json").write_text("{}")
    with step("train") as run:
        run.write_folder(made, source)
    with step("serve") as run:
        assert (run.read_folder(made) / "bundle.json").read_text() == "{}"
    (Path(made.path) / "bundle.json").write_text("{ }")
    with pytest.raises(TrialOpsError, match="not what was written"), step("serve") as run:
        run.read_folder(made)


def test_pages(home: Path) -> None:
    shown = artifact(home, "report")
    with step("look") as run:
        run.show(shown, Page("Labs", [Section("Counts", [Text("three <rows>")])]))
    html = Path(shown.path).read_text()
    assert html.startswith("<!doctype html>") and "three &lt;rows&gt;" in html
    assert b"three" in open_store(str(home)).get("runs/run-1/steps/look/page.html")


def test_trail_off_needs_synthetic_data(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_LOG_ENABLED", "false")
    settings.cache_clear()
    with pytest.raises(TrialOpsError, match="synthetic"):
        settings()
    monkeypatch.setenv("HIPAA_COMPLIANCE_MODE", "off")
    settings.cache_clear()
    with step("quiet") as run:
        assert run.audit("x", "y") is None
