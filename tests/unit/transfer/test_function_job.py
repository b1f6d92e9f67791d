"""The report function over HTTP: 202 and poll, one host, no key in an address that is kept or logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.function_host import CODE, KEY, Host, serve_functions
from tests.unit.transfer.test_cloud_jobs import Clock, driver
from trialops.transfer.failures import TransferFailure
from trialops.transfer.functions import FunctionJob, credentials, pinned
from trialops.transfer.job import Start

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def host() -> Iterator[Host]:
    held = Host()
    with serve_functions(held):
        yield held


def job(host: Host, **more: Any) -> FunctionJob:
    given = {
        "start": f"{host.url}/api/reports/{{instance}}",
        "status": f"{host.url}/api/reports/{{instance}}",
        "payload": {"run_id": "run-1", "snapshot": "a" * 64},
        "headers": credentials("", key=KEY),
        **more,
    }
    return FunctionJob(httpx.Client(timeout=5), **given)


def run(host: Host, folder: Path, owner: str = "host/1/a", **more: Any) -> Any:
    return driver(folder, Clock(), owner).run("run-1", "report", "", "functions", lambda: job(host, **more))


def test_a_report_is_made_once(host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    done = run(host, tmp_path)
    assert done.evidence["reports"][0]["name"] == "interim.pdf"
    assert run(host, tmp_path, "host/2/b") == done
    assert host.starts == [done.token]
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    for text in (caplog.text, kept, *host.requests):
        assert CODE not in text and KEY not in text
    assert f"GET /api/status/{done.token}" in host.requests  # the address it was given, without its key


def test_a_start_whose_answer_was_lost_is_found_again(host: Host, tmp_path: Path) -> None:
    host.faults["POST"] = ["drop_after"]
    with pytest.raises(TransferFailure) as raised:
        run(host, tmp_path)
    assert raised.value.exit_code == 75
    done = run(host, tmp_path, "host/2/b")
    assert (done.done, done.resumes, len(host.starts)) == (True, 1, 1)


def test_an_instance_that_is_there_is_adopted(host: Host) -> None:
    start = Start("token-01", NOW, NOW, fresh=True)
    assert not job(host).start_or_adopt(start).adopted
    assert job(host).start_or_adopt(start).adopted  # 409
    assert host.starts == ["token-01"]


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/status/{instance}",
        "https://127.0.0.1/x",
        "//other.example/status",
        "http://127.0.0.1:1/x",
    ],
)
def test_a_status_on_another_host_is_not_asked(host: Host, tmp_path: Path, location: str) -> None:
    host.location = location
    with pytest.raises(TransferFailure) as raised:
        run(host, tmp_path)
    assert (raised.value.exit_code, raised.value.code) == (78, "host")
    assert [line.split()[0] for line in host.requests] == ["POST"]


@pytest.mark.parametrize(
    "address",
    ["http://function.example/api", "https://user:pw@function.example/api", "https://function.example/api?code=abc"],
)
def test_addresses_that_may_not_be_configured(address: str) -> None:
    with pytest.raises(TransferFailure) as raised:
        pinned(address)
    assert "abc" not in str(raised.value) and "pw" not in str(raised.value)


@pytest.mark.parametrize("state", ["Failed", "Canceled", "Terminated"])
def test_an_instance_that_ended_badly_needs_a_person(host: Host, tmp_path: Path, state: str) -> None:
    host.path = ("Running", state)
    with pytest.raises(TransferFailure) as raised:
        run(host, tmp_path)
    assert (raised.value.exit_code, raised.value.code) == (78, state)


@pytest.mark.parametrize("state", ["Pending", "Running", "ContinuedAsNew", "Suspended"])
def test_an_instance_that_lasts_is_waited_for(host: Host, tmp_path: Path, state: str) -> None:
    host.path = (state, state, "Completed")
    assert run(host, tmp_path).done


@pytest.mark.parametrize(
    "output",
    [
        {"reports": []},
        {"reports": "none"},
        {"run_id": "another"},
        {"reports": [{"name": "a", "sha256": "x", "bytes": 1}]},
        {"reports": [{"name": "a", "sha256": "0" * 64, "bytes": 0}]},
    ],
)
def test_an_output_that_shows_nothing_is_an_integrity_error(host: Host, tmp_path: Path, output: dict[str, Any]) -> None:
    host.output = output
    with pytest.raises(TransferFailure) as raised:
        run(host, tmp_path)
    assert (raised.value.exit_code, raised.value.code) == (65, "output")


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 78), (401, 78), (403, 78), (404, 78), (408, 75), (429, 75), (500, 75), (503, 75), (302, 78)],
)
def test_answers_of_the_host_by_kind(host: Host, tmp_path: Path, status: int, code: int) -> None:
    host.faults["POST"] = [f"status:{status}"]
    with pytest.raises(TransferFailure) as raised:
        run(host, tmp_path)
    assert raised.value.exit_code == code


def test_an_identity_comes_before_a_key(host: Host) -> None:
    from azure.core.credentials import AccessToken
    from azure.identity import CredentialUnavailableError

    class Given:
        def get_token(self, scope: str) -> AccessToken:
            return AccessToken(f"token-for-{scope}", 0)

    class Absent:
        def get_token(self, scope: str) -> AccessToken:
            raise CredentialUnavailableError(message="tenant and file")

    assert credentials("api://x/.default", Given(), KEY)() == {"Authorization": "Bearer token-for-api://x/.default"}
    assert credentials("api://x/.default", Absent(), KEY)() == {"x-functions-key": KEY}
    with pytest.raises(TransferFailure) as raised:
        credentials("api://x/.default", Absent(), "")()
    assert "tenant" not in str(raised.value)
    assert credentials("", key="")() == {}


def test_a_pod_with_a_workload_identity_uses_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default chain takes the projected token of a pod first."""
    from azure.identity import DefaultAzureCredential

    token = tmp_path / "token"
    token.write_text("projected")
    monkeypatch.setenv("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000001")
    monkeypatch.setenv("AZURE_CLIENT_ID", "00000000-0000-0000-0000-000000000002")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(token))
    chain = [type(one).__name__ for one in DefaultAzureCredential().credentials]
    assert chain.index("WorkloadIdentityCredential") < chain.index("ManagedIdentityCredential")


def test_it_can_be_stopped(host: Host) -> None:
    started = job(host).start_or_adopt(Start("token-01", NOW, NOW, fresh=True))
    stopping = job(host, stop=f"{host.url}/api/reports/{{instance}}/terminate")
    stopping.cancel(started.job_id)
    assert stopping.poll(started.job_id).native == "Terminated"
