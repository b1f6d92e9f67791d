"""Hardening a task: what KFP says of a task that has no container, and that KFP is left as it was."""

import inspect

import pytest
from kfp import dsl
from kfp.dsl import pipeline_task

from components.base import component, harden


@component
def step() -> None:
    """Nothing."""


@dsl.pipeline
def inner() -> None:
    """One step."""
    harden(step())


def test_a_pipeline_used_as_a_step_is_refused_by_the_name_of_the_setter() -> None:
    with pytest.raises(ValueError, match="^set_cpu_request can only be used on single-step components"):

        @dsl.pipeline
        def outer() -> None:
            harden(inner())

    assert pipeline_task.inspect is inspect


def test_the_stack_is_not_read_for_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def expensive(context: int = 1) -> None:
        raise AssertionError("the source of every frame is read")

    monkeypatch.setattr(inspect, "stack", expensive)

    @dsl.pipeline
    def one_step() -> None:
        harden(step())

    resources = one_step.pipeline_spec.deployment_spec["executors"]["exec-step"]["container"]["resources"]
    assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"] == "1"
