"""The reference pages say what the code says, now."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.catalog import CATALOG
from pipelines.reference import PAGES, main
from trialops.settings import Settings

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text("utf-8") == PAGES[name](), "out of date; run: make docs"


def test_pages_name_every_pipeline_and_setting() -> None:
    catalogue, variables = PAGES["catalogue.md"](), PAGES["settings.md"]()
    assert all(f"\n## {entry.name}\n" in catalogue for entry in CATALOG)
    assert variables.count("\n| `") == len(Settings.model_fields)
    assert "`HIPAA_COMPLIANCE_MODE` | `strict`" in variables and "`TRIALOPS_HOME`" in variables
    assert "trialops run" in PAGES["cli.md"]() and "--resume" in PAGES["cli.md"]()


def test_check_names_stale_and_absent_pages_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "new")]) == 0
    assert main([str(tmp_path / "new"), "--check"]) == 0
    (tmp_path / "new" / "cli.md").write_text("old")
    (tmp_path / "new" / "settings.md").unlink()
    assert main([str(tmp_path / "new"), "--check"]) == 1
    told = capsys.readouterr().err
    assert "cli.md" in told and "settings.md" in told and "catalogue.md" not in told
    assert (tmp_path / "new" / "cli.md").read_text() == "old"
