"""What is known of a step when its process is gone, and what an exit step says of a resumed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from kfp.dsl import component_factory

from pipelines import local
from pipelines.catalog import Entry

COMPONENT = """
def last_words(folder: str, fails: bool) -> int:
    import atexit, threading, time
    from pathlib import Path
    from trialops.stores.database import connect, migrate

    def say(name):
        (Path(folder) / name).touch()

    class Slow:
        def __del__(self):
            say("taken apart")

    def later():
        time.sleep(0.5)
        say("thread")

    globals()["kept"] = Slow()
    engine = connect(f"sqlite:///{folder}/a.db")
    migrate(engine)
    atexit.register(say, "registered")
    threading.Thread(target=later).start()
    atexit.register(print, "spoken at the end", end="")
    if fails:
        raise ValueError("as asked")
    return 1
"""


def ended(folder: Path, *, fails: bool = False) -> subprocess.CompletedProcess[str]:
    """A step's process, started as the runner starts it."""
    (folder / "component.py").write_text(COMPONENT)
    out = {"outputFile": str(folder / "output.json")}
    given = {"inputs": {"parameterValues": {"folder": str(folder), "fails": fails}}, "outputs": out}
    command = [
        sys.executable, "-m", "pipelines.step_main", "--component_module_path", str(folder / "component.py"),
        "--executor_input", json.dumps(given), "--function_to_execute", "last_words",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"TRIALOPS_HOME": "x"})


def test_a_step_that_succeeded_ends_at_once_and_whole(tmp_path: Path) -> None:
    done = ended(tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("spoken at the end"), done.stderr
    assert json.loads((tmp_path / "output.json").read_text())["parameterValues"] == {"Output": 1}
    assert {"thread", "registered"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "taken apart").exists(), "what is in memory goes with the process"
    assert not (tmp_path / "a.db-wal").exists(), "the database is left closed"


def test_a_step_that_failed_ends_as_python_ends_it(tmp_path: Path) -> None:
    done = ended(tmp_path, fails=True)
    assert done.returncode == 1 and "ValueError: as asked" in done.stderr
    assert {"thread", "registered"} <= {path.name for path in tmp_path.iterdir()}


def test_kfp_still_starts_the_module_that_is_replaced() -> None:
    assert component_factory.EXECUTOR_MODULE == "kfp.dsl.executor_main"


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
