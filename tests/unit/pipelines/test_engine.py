"""The places where the runner holds on to kfp: each must be where it was, and each must be given back."""

from __future__ import annotations

import builtins
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import dsl
from kfp.local import cache as kfp_cache
from kfp.local import config, pipeline_orchestrator, subprocess_task_handler
from kfp.local.orchestrator import enhanced_dag_orchestrator, task_executor

from pipelines import local
from pipelines.catalog import Entry
from pipelines.engine import GUESSES, Engine
from pipelines.graph import unfold
from pipelines.reuse import CurrentTask, StepCache, by_content, settings_digest
from pipelines.runs import RunFolder

CHAIN = Entry("toy_chain", "Toy chain", "toys", "toy_pipelines", None, (), "tester", "none")


def test_every_hook_is_used_by_kfp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kfp that calls something else would run without cache, events or resume, and still succeed."""
    used: set[str] = set()

    def counting(name: str) -> None:
        original = getattr(Engine, name)

        def wrapped(self: Engine, *args: object, **call: object) -> object:
            used.add(name)
            return original(self, *args, **call)

        monkeypatch.setattr(Engine, name, wrapped)

    for name in ("execute_task", "run_process"):
        counting(name)

    def note(self: StepCache, name: str, original: Callable[..., object], *args: object, **call: object) -> object:
        used.add(name)
        return original(self, *args, **call)

    for name in ("compute_key", "get", "put"):
        original = getattr(StepCache, name)

        monkeypatch.setattr(StepCache, name, functools.partialmethod(note, name, original))
    marks = tmp_path / "marks"
    marks.mkdir()
    result = local.run(CHAIN, {"marks": str(marks)}, home=tmp_path / "home")
    assert result.state == "succeeded"
    assert used == {"execute_task", "run_process", "compute_key", "get", "put"}


def test_everything_is_given_back(tmp_path: Path) -> None:
    before = (
        task_executor.execute_single_task,
        subprocess_task_handler.run_local_subprocess,
        builtins.print,
        list(logging.getLogger().handlers),
        list(logging.getLogger().filters),
        dict(os.environ),
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "crash-count").touch()
    assert local.run(CHAIN, {"marks": str(marks)}, home=tmp_path / "home").state == "failed"
    assert before == (
        task_executor.execute_single_task,
        subprocess_task_handler.run_local_subprocess,
        builtins.print,
        list(logging.getLogger().handlers),
        list(logging.getLogger().filters),
        dict(os.environ),
    )
    assert kfp_cache._cache_singleton is None and config.LocalExecutionConfig.instance is None


def test_kfp_still_words_its_guesses_so() -> None:
    source = "".join(
        Path(module.__file__ or "").read_text() for module in (enhanced_dag_orchestrator, pipeline_orchestrator)
    )
    folder = Path(enhanced_dag_orchestrator.__file__ or "").parent
    source += (folder / "orchestrator_utils.py").read_text() + (folder / "task_spec_utils.py").read_text()
    for words in GUESSES:
        assert words in source, f"kfp no longer says {words!r}: the runner would not notice the guess"


def test_unfold_names_every_task_by_its_place() -> None:
    import toy_pipelines

    spec, plan = unfold(toy_pipelines.toy_nested.pipeline_spec)
    paths = [item.path for item in plan]
    assert len(paths) == len(set(paths)) == 10
    assert "exit-handler-1/inner/count" in paths and "exit-handler-1/inner-2/count" in paths
    assert [item.path for item in plan if item.exits] == ["told"] == paths[-1:]
    titles = {item.path: item.title for item in plan}
    assert titles["exit-handler-1/inner-2/count"] == "Second: Count inside"
    for task in spec.root.dag.tasks.values():
        assert task.component_ref.name in spec.components


def artifact(digest: str | None, uri: str = "/a") -> dsl.Dataset:
    return dsl.Dataset(name="made", uri=uri, metadata={"digest": digest} if digest else {})


def key(cache: StepCache, path: str, pure: bool, **arguments: object) -> str:
    cache.current = CurrentTask(path, path, pure)
    return cache.compute_key("comp", "image", ["run"], arguments)


def test_keys(tmp_path: Path) -> None:
    def cache(run: str = "r1", code: str = "c1", across: bool = True, vault: str = "") -> StepCache:
        return StepCache(tmp_path / "cache", run_id=run, code_version=code, across_runs=across, vault=vault)

    one = key(cache(), "a", True, rows=1, made=artifact("d1", "/a"))
    assert one == key(cache("r2"), "b", True, rows=1, made=artifact("d1", "/b")), "content, not place or run"
    assert one != key(cache(), "a", True, rows=1, made=artifact("d2", "/a"))
    assert one != key(cache(), "a", True, rows=2, made=artifact("d1", "/a"))
    assert one != key(cache(code="c2"), "a", True, rows=1, made=artifact("d1", "/a"))
    assert one != key(cache(vault="v2"), "a", True, rows=1, made=artifact("d1", "/a")), "other pseudonyms"
    assert by_content(artifact(None, "/a")) != by_content(artifact(None, "/b"))
    effect = key(cache(), "loop/a@0", False, rows=1)
    assert effect == key(cache(code="c2"), "loop/a@0", False, rows=1), "a side effect is had once per run"
    assert effect != key(cache(), "loop/a@1", False, rows=1), "and once per iteration"
    assert effect != key(cache("r2"), "loop/a@0", False, rows=1)
    assert effect != key(cache(), "loop/a@0", False, rows=2)
    apart = key(cache(across=False), "a", True, rows=1)
    assert apart != key(cache("r2", across=False), "a", True, rows=1)


def test_settings_digest() -> None:
    base = settings_digest({"PATH": "/bin", "TRIALOPS_RUN_ID": "1"})
    assert base == settings_digest({"TRIALOPS_RUN_ID": "2", "TRIALOPS_ACTOR": "me"})
    assert base != settings_digest({"HIPAA_COMPLIANCE_MODE": "off"})
    assert base != settings_digest({"TRIALOPS_LAKE_URL": "s3://bucket"})


def test_entry_whose_table_is_gone_is_a_miss(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    (lake / "clean" / "lb").mkdir(parents=True)
    (tmp_path / "ref").write_text("{}")
    cache = StepCache(tmp_path / "cache", run_id="r1", code_version="c", lake=lake)
    cache.current = CurrentTask("a", "a", True, steps=["clean-up"])
    made = dsl.Dataset(name="made", uri=str(tmp_path / "ref"), metadata={"digest": "d", "table": "clean/lb"})
    cache.put("k" * 64, {"made": made, "Output": 3})
    cache.current = CurrentTask("b", "b", True)
    found = cache.get("k" * 64)
    assert found is not None and found["Output"] == 3 and found["made"].metadata["table"] == "clean/lb"
    assert cache.current.reused_from == "r1" and cache.current.steps == ["clean-up"]
    (lake / "clean" / "lb").rmdir()
    assert cache.get("k" * 64) is None
    (tmp_path / "cache" / "kk" / f"{'k' * 64}.json").write_text("{broken")
    assert cache.get("k" * 64) is None


def test_lock_keeps_a_second_runner_out(tmp_path: Path) -> None:
    from trialops.errors import TrialOpsError

    run = RunFolder(tmp_path, "r1")
    with run.locked():
        assert run.held()
        with pytest.raises(TrialOpsError, match=f"process {os.getpid()}"), RunFolder(tmp_path, "r1").locked():
            pass
    assert not run.held()
