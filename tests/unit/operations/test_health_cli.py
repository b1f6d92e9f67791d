"""`trialops health`: exit codes, what a program reads, the stored example of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.homes import leave, live_in
from tests.unit.serving.toy_bundles import logistic
from trialops.operations.probe_model import EXAMPLES, store_example
from trialops.settings import settings
from trialops.stores.objects import open_store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new home."""
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def health(*arguments: str) -> Result:
    from pipelines.cli import cli

    settings.cache_clear()
    return CliRunner().invoke(cli, ["health", *arguments])


def test_healthy(home: Path) -> None:
    done = health()
    assert done.exit_code == 0 and "healthy: 6 checks: 6 healthy" in done.output
    assert "kafka: not used (not configured)" in done.output


def test_unknown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_SERVICES", "kafka")
    done = health("--json", "--quick")
    found = json.loads(done.output)
    assert done.exit_code == 2 and found["state"] == "unknown"
    assert found["components"] == {"kafka": "unknown", "object store": "healthy"}


def test_broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(parents=True)
    (home / "mlflow.db").write_text("no database, but long enough to be read as one" * 30)
    done = health()
    assert done.exit_code == 1 and "the file is not an MLflow store" in done.output


def test_sqlite_that_is_damaged_or_closed(home: Path) -> None:
    import sqlite3

    home.mkdir(parents=True)
    file = home / "trialops.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE t (x)")
    held = sqlite3.connect(file, isolation_level=None)
    assert health().exit_code == 0
    with sqlite3.connect(file) as connection:  # the probe's table was rolled back
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]
    held.close()
    file.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    done = health("--json")
    found = [one for one in json.loads(done.output)["findings"] if one["component"] == "sqlite"]
    assert done.exit_code == 1 and {one["state"] for one in found} == {"broken"}


def test_an_example_holds_no_subject_and_the_answer_of_the_bundle(home: Path) -> None:
    store = open_store(str(home))
    example = store_example(store, "withdrawal", "3", logistic())
    assert json.loads(store.get(f"{EXAMPLES}/withdrawal.json")) == example
    assert [tensor["name"] for tensor in example["request"]["inputs"]] == list(logistic().features)
    assert example["bundle"] == logistic().digest
    assert example["digest"] != store_example(store, "withdrawal", "3", logistic((0.1, 0.2, 0.3)))["digest"]
