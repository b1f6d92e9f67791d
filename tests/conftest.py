"""Fixtures every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.postgres import postgres_url

__all__ = ["postgres_url"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def anchors() -> Path:
    """Folder of public reference data; the test is skipped, with the reason, where it is absent."""
    folder = Path(os.environ.get("TRIALOPS_ANCHORS", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.md").exists():
        message = "reference data not found: set TRIALOPS_ANCHORS to the folder that holds MANIFEST.md"
        if os.environ.get("TRIALOPS_REQUIRE_ANCHORS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder
