"""What a step made before, given out again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.support.homes import Made, artifact, leave, live_in
from trialops import version
from trialops.pages import Page, Section, Text
from trialops.settings import settings
from trialops.stores import memo, step
from trialops.stores.context import Step
from trialops.stores.objects import open_store
from trialops.stores.vault import open_vault


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


def outputs(home: Path, run_id: str) -> dict[str, Made]:
    return {name: artifact(home, name, run_id) for name in ("labs", "report")}


def make(run: Step, made: dict[str, Made]) -> None:
    run.write_table(made["labs"], pl.DataFrame({"n": [1, 2]}), table="clean/labs")
    run.metrics |= {"rows": 2}
    run.show(made["report"], Page("Labs", [Section("Counts", [Text("two rows")])]))
    memo.remember(run, "digest-1", made)


def ask(
    home: Path, monkeypatch: pytest.MonkeyPatch, made_from: str, name: str = "ingest"
) -> tuple[str, dict[str, Made]]:
    live_in(home, monkeypatch, "run-2")
    made = outputs(home, "run-2")
    with step(name) as run:
        found = memo.recall(run, made_from, made)
    return found, made


def test_same_source_gives_the_same_outputs_page_and_metrics(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = outputs(home, "run-1")
    with step("ingest") as run:
        assert memo.recall(run, "digest-1", first) == ""
        make(run, first)
    live_in(home, monkeypatch, "run-2")
    second = outputs(home, "run-2")
    with step("ingest") as run:
        assert memo.recall(run, "digest-1", second) == "run-1"
        assert run.metrics == {"rows": 2, "nothing_new_since": "run-1"}
        assert [(item["artifact"], item["path"]) for item in run.outputs] == [("labs", second["labs"].path)]
    for name in first:
        assert Path(second[name].path).read_bytes() == Path(first[name].path).read_bytes()
        assert second[name].metadata == first[name].metadata
    assert b"two rows" in open_store(str(home)).get("runs/run-2/steps/ingest/page.html")
    with step("use") as run:
        assert run.read_table(second["labs"])["n"].to_list() == [1, 2]
        assert run.inputs[0]["record"] == "runs/run-1/steps/ingest/record.json", "lineage leads to the maker"
        assert [ref["version"] for ref in run.lake.versions("clean/labs")] == [0]


@pytest.mark.parametrize("changed", ["source", "step", "code", "mode", "study", "vault", "key"])
def test_anything_else_is_made_anew(home: Path, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    with step("ingest") as run:
        make(run, outputs(home, "run-1"))
    if changed == "code":
        monkeypatch.setattr(memo, "code_version", lambda: version.code_version() + "x")
    elif changed == "mode":
        monkeypatch.setenv("HIPAA_COMPLIANCE_MODE", "limited")
    elif changed == "study":
        monkeypatch.setenv("TRIALOPS_STUDY", "another")
    elif changed == "vault":
        shutil.rmtree(home / "vault")
    elif changed == "key":
        vault = open_vault(settings())
        vault.rotate("raw")
        vault.destroy("raw", 1, reason="erasure request", actor="dpo")
    settings.cache_clear()
    found, made = ask(
        home,
        monkeypatch,
        "digest-2" if changed == "source" else "digest-1",
        "other-step" if changed == "step" else "ingest",
    )
    assert found == "" and not Path(made["labs"].path).exists() and made["labs"].metadata == {}


def test_what_was_remembered_is_what_was_last_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rows in ([1], [1, 2, 3]):
        made = outputs(home, "run-1")
        with step("ingest") as run:
            run.write_table(made["labs"], pl.DataFrame({"n": rows}), table="clean/labs")
            memo.remember(run, "digest-1", {"labs": made["labs"]})
    live_in(home, monkeypatch, "run-2")
    made = outputs(home, "run-2")
    with step("ingest") as run:
        assert memo.recall(run, "digest-1", {"labs": made["labs"]}) == "run-1"
        assert run.pages == [], "a step that showed no page gets none"
    with step("use") as run:
        assert run.read_table(made["labs"]).height == 3
