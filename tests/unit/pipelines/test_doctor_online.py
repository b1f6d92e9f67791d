"""What the doctor says of the online feature store."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.doctor import Check, examine
from tests.support.online_stores import rows
from trialops.features.materialize import all_services
from trialops.stores.online.writer import write_view


def online(home: Path) -> Check:
    (found,) = [check for check in examine(home) if check.name == "online features"]
    return found


def test_the_file_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIALOPS_ONLINE_URL", raising=False)
    assert online(tmp_path).state == "unused" and not (tmp_path / "features").exists()
    (service, *_) = all_services()
    url = f"sqlite:///{tmp_path}/features/online.db"
    write_view(url, service, "labs", rows(service.view("labs"), {"a": 1}))
    assert online(tmp_path).state == "ok"
    (tmp_path / "features" / "online.db").write_bytes(b"no database at all, but a file of some length")
    assert online(tmp_path).state == "broken"


def test_a_server(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_ONLINE_URL", redis_url)
    found = online(tmp_path)
    assert (found.state, found.found) == ("ok", "Redis, reachable")
    monkeypatch.setenv("TRIALOPS_ONLINE_URL", "redis://:s3cret@127.0.0.1:1/0")
    found = online(tmp_path)
    assert found.state == "broken" and "s3cret" not in f"{found.found}{found.fix}"
