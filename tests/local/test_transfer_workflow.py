"""The whole transfer, killed after every step and in the middle of every step; fallback and failure end with an alert.

One home, one trial, real processes; the Argo workflow's own DAG is run by the interpreter in tests/support.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.argo.__main__ import FOLDER
from tests.support.argo_interpreter import Interpreter
from tests.support.transfer_home import (
    FLOWS,
    TransferHome,
    deliveries,
    hold,
    in_the_middle,
    is_done,
    result,
    transfer_home,
    wait_for,
)
from trialops.settings import settings
from trialops.transfer.graph import NODES
from trialops.transfer.policy import transfer_policy
from trialops.transfer.runner import Ended, run_all
from trialops.transfer.steps import open_transfer

pytestmark = pytest.mark.slow
WORKED = tuple(node.name for node in NODES if node.name != "fallback")
ONCE = {"appflow": 2, "backup": 1, "quicksight": 2, "datasync": 1, "functions": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransferHome]:
    folder = tmp_path_factory.mktemp("transfer")
    with transfer_home(folder / "x", deliveries(folder / "trial")) as made:
        yield made


@contextmanager
def environment_of(home: TransferHome) -> Iterator[TransferHome]:
    """The home's environment in this process."""
    from trialops.transfer.clients import aws

    caches = (settings, transfer_policy, aws)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.environment.items():
            if name.startswith(("TRIALOPS_", "AWS_")):
                patch.setenv(name, value)
        patch.setenv("TRIALOPS_RUN_ID", "none")
        for cache in caches:
            cache.cache_clear()
        yield home
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def here(home: TransferHome) -> Iterator[TransferHome]:
    with environment_of(home):
        yield home


@pytest.fixture(scope="module")
def calm(home: TransferHome) -> dict[str, Any]:
    """What a run that nothing happens to comes to."""
    with environment_of(home):
        assert everything("calm", home).state == "succeeded"
    assert home.starts() == ONCE and home.cloud.violations == []
    return dict(result(home, "calm"))


def since(home: TransferHome, before: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in home.starts().items()}


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(30)


def test_killed_after_every_step(home: TransferHome, calm: dict[str, Any]) -> None:
    before, killed = home.starts(), []
    for step in WORKED:
        process = home.command("all", "--run-id", "after")
        assert wait_for(lambda step=step: is_done(home, "after", step), process), process.communicate()[0]
        if process.poll() is None:
            killed.append(step)
        kill(process)
    process = home.command("all", "--run-id", "after")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert killed == list(WORKED)
    assert since(home, before) == ONCE
    assert result(home, "after") == calm


def test_the_workflow_with_every_pod_killed_in_the_middle(
    home: TransferHome, calm: dict[str, Any], tmp_path: Path
) -> None:
    workflow = yaml.safe_load((FOLDER / "workflow-template.yaml").read_text())
    before, held = home.starts(), set[tuple[str, str]]()

    def chaos(template: str, item: str, attempt: int, process: subprocess.Popen[str]) -> None:
        if attempt > 1:
            return
        wait_for(lambda: in_the_middle(home, "middle", template, item), process)
        kill(process)
        hold(home, template, item, on=False)

    def launch(words: list[str]) -> subprocess.Popen[str]:
        assert words[:2] == ["trialops", "transfer"]
        step, part = words[3], words[words.index("--part") + 1] if "--part" in words else ""
        if (step, part) not in held:
            held.add((step, part))
            hold(home, step, part)
        return home.command(*words[2:])

    run = Interpreter(workflow, {"run_id": "middle"}, launch, tmp_path, chaos)
    phase = run.run()
    said = {pod.template: pod.said[-2000:] for pod in run.pods if pod.code not in (0, 137)}
    assert phase == "Succeeded", said
    assert run.phases == {node.name: "Omitted" if node.name == "fallback" else "Succeeded" for node in NODES}
    assert since(home, before) == ONCE
    assert result(home, "middle") == calm
    killed = [pod for pod in run.pods if pod.code == 137]
    assert {(pod.template, pod.item) for pod in killed} >= {("extract", flow) for flow in FLOWS} | {
        (step, "") for step in WORKED if step not in ("plan", "extract")
    }
    # Every step that was killed while its job ran was taken up, and the page says so.
    for step in ("backup", "distribute", "report", "validate", "cleanse"):
        assert any(event["event"] == "taken up" for event in home.checkpoint("middle", step)["events"]), step
    page = (home.home / "transfer" / "runs" / "middle" / "page.html").read_text()
    assert "Resumes" in page and "taken up" in page and "Bottleneck" in page


def everything(run_id: str, home: TransferHome) -> Ended:
    return run_all(open_transfer(str(home.config), run_id))


def test_a_delivery_that_lacks_rows_ends_with_the_version_before_and_an_alert(
    here: TransferHome, calm: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = here.content
    cut = {flow: dict(tables) for flow, tables in whole.items()}
    cut[FLOWS[0]]["SV"] = "\n".join(whole[FLOWS[0]]["SV"].splitlines()[:-3]) + "\n"
    full = here.land

    def land(flow: str, execution: str) -> int:
        here.content = whole
        rows = full(flow, execution)
        here.content = cut
        full(flow, execution)
        here.content = whole
        return rows  # what AppFlow says it processed

    monkeypatch.setattr(here.cloud, "land", land)
    before = here.starts()
    ended = everything("short", here)
    assert ended.state == "degraded"
    assert (ended.outcomes["validate"], ended.outcomes["fallback"], ended.outcomes["report"]) == (
        "Failed",
        "Succeeded",
        "Succeeded",
    )
    assert since(here, before) == ONCE
    assert here.checkpoint("short", "validate")["failure"]["code"] == "row count"
    chosen = here.checkpoint("short", "fallback")
    assert chosen["evidence"]["version"] == 1 and chosen["alert"] == "raised"
    assert result(here, "short")["cleanse "] == calm["cleanse "]
    alerts = {alert.name: alert for alert in here.alerts()}
    assert alerts["TransferFallback"].firing and alerts["TransferFallback"].labels["run_id"] == "short"
    assert alerts["TransferStepFailed"].labels["step"] == "validate"
    assert here.host.instances[here.checkpoint("short", "report")["job_id"]]["input"]["degraded"] is True
    page = (here.home / "transfer" / "runs" / "short" / "page.html").read_text()
    assert "degraded" in page


def test_what_needs_a_person_stops_the_run_and_is_told(here: TransferHome, calm: dict[str, Any]) -> None:
    here.cloud.faults["backup", "StartBackupJob"] = ["error:InvalidParameterValueException"]
    before = here.starts()
    ended = everything("refused", here)
    assert ended.state == "failed"
    assert ended.outcomes["backup"] == "Failed" and ended.outcomes["cleanse"] == "Omitted"
    assert since(here, before) == {**ONCE, "backup": 0, "quicksight": 0, "datasync": 0, "functions": 0}
    told = {(alert.name, alert.labels.get("step")) for alert in here.alerts() if alert.firing}
    assert {("TransferStepFailed", "backup"), ("TransferStopped", "backup")} <= told
    # Somebody corrects it and says so: the run goes on, and what was done is not done again.
    transfer = open_transfer(str(here.config), "refused", again=True)
    assert run_all(transfer).state == "succeeded"
    assert since(here, before) == ONCE


def test_an_alert_that_could_not_be_raised_is_raised_by_the_exit_handler(
    here: TransferHome, calm: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trialops.alerts import raise_alert as module
    from trialops.transfer.failures import TransferFailure
    from trialops.transfer.runner import finish

    here.cloud.facts["backup"] = {"IsEncrypted": False}
    transfer = open_transfer(str(here.config), "untold")
    for step in ("plan", "extract", "validate"):
        transfer.run_step(step)

    def away(*args: Any, **named: Any) -> str:
        raise OSError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(module, "raise_alert", away)
        with pytest.raises(TransferFailure) as raised:
            transfer.run_step("backup")
        assert raised.value.exit_code == 65
    here.cloud.facts.clear()
    assert here.checkpoint("untold", "backup")["alert"] == "due"
    assert finish(transfer).state == "failed"
    assert here.checkpoint("untold", "backup")["alert"] == "raised"
    assert ("TransferStepFailed", "backup", "untold") in {
        (alert.name, alert.labels.get("step"), alert.labels.get("run_id")) for alert in here.alerts()
    }


def test_a_run_keeps_the_configuration_it_began_with(here: TransferHome, calm: dict[str, Any]) -> None:
    from trialops.transfer.failures import TransferFailure

    text = here.config.read_text()
    here.config.write_text(text.replace("vault: raw", "vault: other"))
    try:
        with pytest.raises(TransferFailure, match="configuration is not the one"):
            open_transfer(str(here.config), "calm").run_step("backup")
    finally:
        here.config.write_text(text)
