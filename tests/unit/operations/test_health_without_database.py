"""What becomes of a look when the database, in which alerts are raised, is what fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.operations import check_services
from tests.support.homes import artifact, leave, live_in
from trialops.errors import TrialOpsError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose database nobody answers for."""
    monkeypatch.setenv("TRIALOPS_DATABASE_URL", "postgresql+psycopg://trialops:s3cret@127.0.0.1:1/trialops")
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def test_findings_and_page_are_kept_and_the_step_fails(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    health, report = artifact(home, "health"), artifact(home, "report")
    with pytest.raises(TrialOpsError, match="Nobody can be alerted: postgresql, reach: nothing listens there"):
        check_services.python_func(health, report)
    found = json.loads(Path(health.path).read_text())
    assert found["components"] == {"object store": "healthy", "postgresql": "unknown"}
    page = Path(report.path).read_text()
    assert "nothing listens there (connection refused)" in page
    assert "s3cret" not in page + json.dumps(found) + "".join(capsys.readouterr())
    kept = home / "runs" / "run-1" / "steps" / "check-services" / "health.json"
    assert json.loads(kept.read_text()) == found
