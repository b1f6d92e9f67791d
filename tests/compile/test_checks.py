"""The checks of this folder find what they look for."""

from pathlib import Path
from typing import NamedTuple

import checks
import jsonschema
import pytest
from kfp import compiler, dsl

from components.base import component, harden


@component
def judge(limit: int) -> int:
    """A task."""
    return limit


@component
def bounds(limit: int) -> NamedTuple("Bounds", [("low", int), ("high", int)]):  # type: ignore[valid-type]  # noqa: F821
    """A task with two named outputs."""
    return (0, limit)


@dsl.pipeline(name="guesses")
def guesses(limit: int = 1) -> None:
    """A bare If on a named output."""
    found = bounds(limit=limit)
    with dsl.If(found.outputs["high"] > 3):
        judge(limit=1)


@dsl.pipeline(name="decides")
def decides(limit: int = 1) -> None:
    """A bare If on a single output, and If with Else on a named one."""
    found = bounds(limit=limit)
    with dsl.If(judge(limit=limit).output > 3):
        judge(limit=1)
    with dsl.If(found.outputs["high"] > 3):
        judge(limit=1)
    with dsl.Else():
        judge(limit=2)


@dsl.pipeline(name="bare")
def bare(limit: int = 1) -> None:
    """One task without hardening."""
    judge(limit=limit)


@dsl.pipeline(name="hard")
def hard(limit: int = 1) -> None:
    """One hardened task."""
    harden(judge(limit=limit), cpu="500m", memory="1Gi", timeout_seconds=60, retries=3)


def compiled(pipeline: object, folder: Path) -> bytes:
    compiler.Compiler().compile(pipeline, str(folder / "p.yaml"))
    return (folder / "p.yaml").read_bytes()


def test_unhardened(tmp_path: Path) -> None:
    found = checks.unhardened(compiled(bare, tmp_path))
    assert "exec-judge: no resourceCpuLimit" in found and "exec-judge: no timeout" in found
    assert "exec-judge: may run as root" in found and "exec-judge: does not know its run id" in found
    ir = compiled(hard, tmp_path)
    assert checks.unhardened(ir) == []
    spec, _ = checks.documents(ir)
    task = spec["root"]["dag"]["tasks"]["judge"]
    assert task["retryPolicy"]["maxRetryCount"] == 3 and task["retryPolicy"]["backoffDuration"] == "10s"
    (executor,) = spec["deploymentSpec"]["executors"].values()
    assert executor["container"]["resources"]["resourceMemoryLimit"] == "1Gi"


def test_guessed_conditions(tmp_path: Path) -> None:
    assert checks.guessed_conditions(compiled(guesses, tmp_path)) == [
        "root/condition-1: If without Else on output 'high'"
    ]
    assert checks.guessed_conditions(compiled(decides, tmp_path)) == []


def test_structure_ignores_code_and_image(tmp_path: Path) -> None:
    ir = compiled(bare, tmp_path)
    other = ir.replace(b"ghcr.io/trialops", b"registry.example.org/other").replace(b"return limit", b"return -limit")
    assert other != ir and checks.structure(other) == checks.structure(ir)
    renamed = ir.replace(b"exec-judge", b"exec-other")
    assert checks.structure(renamed) != checks.structure(ir)


def test_closed_schema_refuses_unknown_fields() -> None:
    schema = checks.closed(
        {"type": "object", "properties": {"metadata": {"type": "object"}, "spec": {"properties": {"a": {}}}}}
    )
    jsonschema.validate({"metadata": {"labels": {}}, "spec": {"a": 1}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"spec": {"b": 1}}, schema)
