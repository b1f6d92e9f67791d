"""Exit codes of the command line, by which a workflow engine decides, and what is shown before the first run."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli import cli
from pipelines.cli_transfer import _coded
from trialops.errors import TrialOpsError
from trialops.settings import settings
from trialops.transfer.failures import TransferFailure


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TransferFailure("retryable", "later"), 75),
        (TransferFailure("integrity", "rows are missing"), 65),
        (TransferFailure("permanent", "no permission"), 78),
        (TrialOpsError("The configuration lacks task"), 78),
        (TrialOpsError("Unexpected OperationalError"), 75),
        (OSError("S-01-0001 cannot be written"), 75),
    ],
    ids=["retryable", "integrity", "permanent", "configuration", "hidden", "unknown"],
)
def test_every_failure_has_its_exit_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        _coded(work)
    assert ended.value.code == code
    assert "S-01-0001" not in "".join(capsys.readouterr())


def test_what_cannot_be_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path))
    monkeypatch.setenv("TRIALOPS_RUN_ID", "")
    settings.cache_clear()
    try:
        config = ["--config", str(tmp_path / "none.yaml")]
        run = CliRunner()
        asked = run.invoke(cli, ["transfer", "run", "extract", "--run-id", "r1", *config])
        assert asked.exit_code == 78
        asked = run.invoke(cli, ["transfer", "run", "extract", "--run-id", "{{workflow.scheduledTime}}", *config])
        assert asked.exit_code == 78 and not (tmp_path / "transfer").exists()
        assert run.invoke(cli, ["transfer", "status", "r1"]).exit_code == 2
        assert run.invoke(cli, ["transfer", "durations"]).exit_code == 0
    finally:
        settings.cache_clear()
