"""The embedded runner on small pipelines, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import local
from pipelines.catalog import Entry
from pipelines.runs import RunFolder, all_runs
from trialops.errors import TrialOpsError

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def entry(name: str) -> Entry:
    return Entry(name, name.replace("_", " ").capitalize(), "toys", "toy_pipelines", None, (), "tester", "none")


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def states(result: local.RunResult) -> dict[str, str]:
    return {step["title"]: step["state"] for step in result.steps}


def test_run_then_reuse(home: Path, marks: Path) -> None:
    first = local.run(entry("toy_chain"), {"marks": str(marks), "rows": "4"}, home=home)
    assert first.state == "succeeded" and first.error is None
    assert first.counts["ran"] == 3 and first.counts["reused"] == 0
    record = json.loads((first.folder / "run.json").read_text())
    assert record["parameters"] == {"marks": str(marks), "rows": 4}
    assert record["state"] == "succeeded" and len(record["attempts"]) == 1
    made = next(step for step in record["steps"] if step["title"] == "Make rows")
    assert made["step"] == "make" and made["message"] == "4 rows" and made["inside_seconds"] == 0.05
    assert made["overhead_seconds"] == pytest.approx(made["seconds"] - 0.05, abs=1e-3)
    assert "counting for count" in (first.folder / "log.txt").read_text()
    assert (first.folder / "pipeline.yaml").exists()
    assert lines(marks / "make") == [first.run_id]

    second = local.run(entry("toy_chain"), {"marks": str(marks), "rows": 4}, home=home)
    assert states(second) == {"Make rows": "reused", "Count rows": "reused", "Note it": "ran"}
    assert not second.nothing_new
    assert lines(marks / "note") == ["x", "x"], "a step without caching runs in every new run"
    reuse = [json.loads(line) for line in (second.folder / "events.jsonl").read_text().splitlines()]
    assert {(event["step"], event["from_run"]) for event in reuse if event["event"] == "reuse"} == {
        ("make", first.run_id),
        ("count", first.run_id),
    }


def test_other_parameters_settings_and_deleted_artifacts_are_misses(
    home: Path, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"marks": str(marks)}
    first = local.run(entry("toy_chain"), values, home=home)
    other = local.run(entry("toy_chain"), {**values, "rows": 5}, home=home)
    assert states(other)["Make rows"] == "ran"
    monkeypatch.setenv("HIPAA_COMPLIANCE_MODE", "limited")
    assert states(local.run(entry("toy_chain"), values, home=home))["Make rows"] == "ran"
    monkeypatch.delenv("HIPAA_COMPLIANCE_MODE")
    assert states(local.run(entry("toy_chain"), values, home=home))["Make rows"] == "reused"
    for path in first.folder.rglob("made"):
        path.unlink()
    again = local.run(entry("toy_chain"), values, home=home)
    # The table is gone, so it is made again; its content, and so the count's input, is the same.
    assert states(again) == {"Make rows": "ran", "Count rows": "reused", "Note it": "ran"}
    without = local.run(entry("toy_chain"), values, home=home, cache=False)
    assert without.counts["reused"] == 0
    (marks / "crash-count").touch()
    local.run(entry("toy_chain"), values, home=home, cache=False)
    (marks / "crash-count").unlink()
    continued = local.run(entry("toy_chain"), {}, home=home, resume=True)
    assert states(continued) == {"Make rows": "reused", "Count rows": "ran", "Note it": "ran"}, "still no cache"


def test_code_version_is_part_of_the_key(home: Path, marks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trialops import version

    values = {"marks": str(marks)}
    local.run(entry("toy_chain"), values, home=home)
    monkeypatch.setattr(version, "code_version", lambda: "0123456789abcdef")
    assert local.run(entry("toy_chain"), values, home=home).counts["reused"] == 0


def test_nested_loop_gate_and_exit_handler(home: Path, marks: Path) -> None:
    result = local.run(entry("toy_nested"), {"marks": str(marks)}, home=home)
    assert result.state == "succeeded", result.error
    assert states(result)["Few rows"] == "ran" and states(result)["Many rows"] == "skipped"
    # A side effect in a loop body or in a nested pipeline called twice happens once per place.
    assert len(lines(marks / "loop-note")) == 3 and len(lines(marks / "inner-note")) == 2
    assert lines(marks / "told") == ["SUCCEEDED"]
    assert {"First: Count inside", "Second: Count inside", "Count site [3]"} <= set(states(result))

    again = local.run(entry("toy_nested"), {"marks": str(marks)}, home=home)
    assert len(lines(marks / "a")) == 1 and len(lines(marks / "loop-note")) == 6
    assert again.counts["skipped"] == 1


def test_crash_then_resume(home: Path, marks: Path) -> None:
    (marks / "crash-b").touch()
    first = local.run(entry("toy_nested"), {"marks": str(marks)}, home=home)
    assert first.state == "failed" and first.error is not None
    assert "ValueError: the toy step crashed on request" in first.error["what"]
    assert first.error["where"].endswith("log.txt")
    assert lines(marks / "told") == ["FAILED"]
    (marks / "crash-b").unlink()
    with pytest.raises(TrialOpsError, match="other values of rows"):
        local.run(entry("toy_nested"), {"rows": 9}, home=home, resume=True)
    second = local.run(entry("toy_nested"), {}, home=home, resume=True)
    assert second.run_id == first.run_id and second.state == "succeeded", second.error
    assert len(lines(marks / "make")) == 1 and len(lines(marks / "a")) == 1
    assert len(lines(marks / "inner-note")) == 2, "a finished side effect is not repeated by --resume"
    assert len(lines(marks / "b")) == 2
    record = RunFolder(home, first.run_id).read()
    assert [attempt["state"] for attempt in record["attempts"]] == ["failed", "succeeded"]
    with pytest.raises(TrialOpsError, match="no unfinished run"):
        local.run(entry("toy_nested"), {}, home=home, resume=True)
    with pytest.raises(TrialOpsError, match="has finished"):
        local.run(entry("toy_nested"), {}, home=home, resume=first.run_id)


def test_typed_error_is_shown_as_is(home: Path, marks: Path) -> None:
    (marks / "fail-count").touch()
    result = local.run(entry("toy_chain"), {"marks": str(marks)}, home=home)
    assert result.state == "failed"
    assert result.error == {"what": "The table is empty", "where": "clean/lb", "fix": "Deliver rows."}
    assert states(result)["Note it"] == "not run"


def test_unresolvable_condition_fails_the_run(home: Path, marks: Path) -> None:
    result = local.run(entry("toy_guess"), {"marks": str(marks)}, home=home)
    assert result.state == "failed" and result.error is not None
    assert "Could not resolve" in result.error["what"] and "dsl.Else" in result.error["fix"]


def test_unknown_and_missing_parameters(home: Path, marks: Path) -> None:
    with pytest.raises(TrialOpsError, match="no parameter 'row'") as caught:
        local.run(entry("toy_chain"), {"marks": str(marks), "row": 1}, home=home)
    assert "Did you mean rows?" in caught.value.fix and "marks, rows" in caught.value.fix
    with pytest.raises(TrialOpsError, match="takes a whole number"):
        local.run(entry("toy_chain"), {"marks": str(marks), "rows": "many"}, home=home)
    with pytest.raises(TrialOpsError, match="needs a value for marks"):
        local.run(entry("toy_chain"), {}, home=home)
    assert all_runs(home) == []


RUNNER = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
from pipelines import local, progress
from test_local_runner import entry
resume = {resume!r}
values = {{}} if resume else {{"marks": {marks!r}}}
view = progress.view()
result = local.run(entry({name!r}), values, home=Path({home!r}), resume=resume, progress=view)
sys.exit(0 if result.state == "succeeded" else 1)
"""


def start(name: str, home: Path, marks: Path, resume: bool = False) -> subprocess.Popen[str]:
    code = RUNNER.format(root=str(ROOT), here=str(HERE), name=name, home=str(home), marks=str(marks), resume=resume)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, runner: subprocess.Popen[str]) -> str:
    limit = time.monotonic() + 60
    while time.monotonic() < limit and runner.poll() is None:
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text().split()[-1]
        time.sleep(0.02)
    raise AssertionError(f"{path.name} did not appear: {runner.communicate(timeout=5)[0]}")


def gone(pid: int) -> bool:
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="checks processes through /proc")
@pytest.mark.parametrize(("name", "waits"), [("toy_chain", "count"), ("toy_nested", "b")])
def test_killed_runner_is_resumed(name: str, waits: str, home: Path, marks: Path) -> None:
    (marks / f"wait-{waits}").touch()
    runner = start(name, home, marks)
    step = int(wait_for(marks / waits, runner))
    with pytest.raises(TrialOpsError, match="already being run by process"):
        local.run(entry(name), {}, home=home, resume=all_runs(home)[0].run_id)
    runner.kill()
    runner.communicate(timeout=30)
    folder = all_runs(home)[0]
    assert folder.state() == "killed"
    (marks / f"wait-{waits}").unlink()
    result = local.run(entry(name), {}, home=home, resume=True)
    assert result.run_id == folder.run_id and result.state == "succeeded", result.error
    assert gone(step), "a step that outlived its runner is ended before the run goes on"
    assert len(lines(marks / "make")) == 1 and len(lines(marks / waits)) == 2
    assert [attempt["state"] for attempt in folder.read()["attempts"]] == ["killed", "succeeded"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="checks processes through /proc")
def test_killed_step_fails_the_run_and_is_resumed(home: Path, marks: Path) -> None:
    (marks / "wait-count").touch()
    runner = start("toy_chain", home, marks)
    os.kill(int(wait_for(marks / "count", runner)), signal.SIGKILL)
    said = runner.communicate(timeout=60)[0]
    assert runner.returncode == 1 and "killed by signal SIGKILL" in said and "--resume" in said
    (marks / "wait-count").unlink()
    again = start("toy_chain", home, marks, resume=True)
    said = again.communicate(timeout=60)[0]
    assert again.returncode == 0, said
    assert "reused   Make rows" in said and "2 ran, 1 reused" in said


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="checks processes through /proc")
def test_interrupt_ends_the_step(home: Path, marks: Path) -> None:
    (marks / "wait-first").touch()
    runner = start("toy_nested", home, marks)
    step = int(wait_for(marks / "first", runner))
    runner.send_signal(signal.SIGINT)
    said = runner.communicate(timeout=60)[0]
    assert gone(step)
    folder = all_runs(home)[0]
    assert folder.state() == "interrupted" and f"--resume {folder.run_id}" in said
    assert not (marks / "told").exists() and not (marks / "second").exists()
    assert said.strip().splitlines()[-1].startswith("file://")
