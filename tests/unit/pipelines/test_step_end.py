"""What is known of a step when its process is gone, and what an exit step says of a resumed run."""

from __future__ import annotations

from pathlib import Path

from pipelines import local
from pipelines.catalog import Entry


def entry(name: str, module: str) -> Entry:
    return Entry(name, name, "toys", module, None, (), "tester", "none")


def test_error_reported_last_is_the_error_of_the_run(tmp_path: Path) -> None:
    result = local.run(entry("wordy", "wordy_pipelines"), {"lines": 20_000}, home=tmp_path)
    assert result.state == "failed"
    assert result.error == {"what": "The table is empty", "where": "clean/lb", "fix": "Deliver rows."}
    assert (result.folder / "log.txt").read_text().count("] .\n") == 20_000


def test_exit_step_speaks_of_each_attempt(tmp_path: Path) -> None:
    marks, home = tmp_path / "marks", tmp_path / "home"
    marks.mkdir()
    nested = entry("toy_nested", "toy_pipelines")
    for name in ("first", "second"):
        (marks / f"fail-{name}").touch()
    one = local.run(nested, {"marks": str(marks)}, home=home)
    (marks / "fail-first").unlink()
    two = local.run(nested, {}, home=home, resume=True)
    assert (one.state, two.state, one.run_id) == ("failed", "failed", two.run_id)
    assert (marks / "told").read_text().split() == ["FAILED", "FAILED"]
    (marks / "fail-second").unlink()
    three = local.run(nested, {}, home=home, resume=True)
    assert three.state == "succeeded"
    assert (marks / "told").read_text().split()[2:] == ["SUCCEEDED"]
