"""Spark: a real driver's REST API, and what its answers mean."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.tools import missing, tool
from trialops.operations.health import Finding
from trialops.operations.probe_spark import _executors, _failed_stages, _spill
from trialops.operations.probing import Ask, ask_all
from trialops.operations.services import load_policy
from trialops.settings import Settings

DRIVER = Path(__file__).resolve().parents[2] / "support" / "spark_driver.py"


def asking(address: str = "http://driver:4040", **limits: float) -> Ask:
    held = {**load_policy().thresholds["spark"], **limits}
    return Ask("spark", "spark", address, "TRIALOPS_SPARK_URL", Settings(), 10.0, held)


def stage(number: int, status: str = "COMPLETE", **more: Any) -> dict[str, Any]:
    return {"stageId": number, "attemptId": 0, "status": status, "numTasks": 8, "numFailedTasks": 0, **more}


def test_a_failed_stage() -> None:
    found = _failed_stages(asking(), "app", [stage(0), stage(1, "FAILED")])
    assert (found.state, found.check, found.value) == ("broken", "failed stages", 1)


def test_a_stage_that_was_repeated_with_success() -> None:
    again = [stage(0), stage(1, "FAILED", numFailedTasks=1), stage(1, attemptId=1)]
    assert _failed_stages(asking(), "app", again).state == "healthy"
    costly = [stage(0, numFailedTasks=5), stage(1, numFailedTasks=3)]
    assert _failed_stages(asking(), "app", costly).state == "degraded"


def test_spill() -> None:
    found = _spill(asking(), "app", [stage(0, diskBytesSpilled=2**31), stage(1)])
    assert found.state == "degraded" and "2048.0 MB went to disk, most in stage 0" in found.detail
    assert _spill(asking(), "app", [stage(0)]).state == "healthy"


@pytest.mark.parametrize(
    ("executors", "state"),
    [
        ([{"id": "driver", "isActive": True}], "healthy"),
        ([{"id": "1", "isActive": True}, {"id": "2", "isActive": False, "removeReason": "killed"}], "degraded"),
        ([{"id": "1", "isActive": False, "removeReason": "worker lost"}], "broken"),
        ([{"id": "1", "isActive": False, "removeReason": "Executor killed: idle for 60 seconds"}], "healthy"),
    ],
    ids=["local", "one lost", "all lost", "idle"],
)  # fmt: skip
def test_executors(executors: list[dict[str, Any]], state: str) -> None:
    assert _executors(asking(), "app", executors).state == state


# -- a real driver -----------------------------------------------------------------------------------------------


def _python() -> str:
    """A Python with pyspark, and Java for it."""
    if shutil.which("java") is None:
        missing("a real Spark needs Java 17")
    return tool("python", "a real Spark")


@pytest.fixture(scope="module")
def driver() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Address of a driver's page, and its process."""
    python = _python()
    process = subprocess.Popen(
        [python, str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python},
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    try:
        address = process.stdout.readline().strip()
        assert address, "the Spark driver ended before it was ready"
        yield address, process
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def look(address: str, **limits: float) -> dict[str, Finding]:
    return {one.check: one for one in ask_all([asking(address, **limits)], seconds=60)}


@pytest.mark.slow
def test_a_real_driver(driver: tuple[str, subprocess.Popen[str]]) -> None:
    """Skew that costs two seconds is below the limit of ten; with a lower one it is named; then a stage fails."""
    address, process = driver
    found = look(address)
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(
        ("reach", "failed stages", "spill", "task skew", "executors"), "healthy"
    )
    skewed = look(address, skew_seconds=0.5, skew=1.5)["task skew"]
    assert skewed.state == "degraded" and skewed.value is not None and skewed.value > 1.5
    assert process.stdin is not None and process.stdout is not None
    print("fail", file=process.stdin, flush=True)
    assert process.stdout.readline() == "done\n"
    found = look(address)
    assert {name for name, one in found.items() if one.state != "healthy"} == {"failed stages"}
    assert found["failed stages"].state == "broken"


@pytest.mark.slow
def test_a_driver_that_is_stopped_is_unknown(driver: tuple[str, subprocess.Popen[str]]) -> None:
    import signal

    address, process = driver
    children = [int(pid) for pid in _descendants(process.pid)]
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    try:
        (found,) = ask_all([replace(asking(address), seconds=1.0)], seconds=10)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGCONT)
    assert (found.check, found.state) == ("reach", "unknown") and "no answer within 1 s" in found.detail


def _descendants(pid: int) -> list[int]:
    import psutil

    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
