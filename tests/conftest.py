"""Fixtures every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def anchors() -> Path:
    """Folder of public reference data; the test is skipped, with the reason, where it is absent."""
    folder = Path(os.environ.get("TRIALOPS_ANCHORS", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.md").exists():
        pytest.skip("reference data not found: set TRIALOPS_ANCHORS to the folder that holds MANIFEST.md")
    return folder
