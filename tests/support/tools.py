"""Tools that tests run as processes of their own, from the environment that `make tools` makes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BIN = Path(__file__).resolve().parents[2] / "build" / "tools" / "bin"


def missing(reason: str) -> None:
    """Skip for a reason; fail where CI asks for the tools (TRIALOPS_REQUIRE_TOOLS=1)."""
    if os.environ.get("TRIALOPS_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def tool(name: str, what: str) -> str:
    """Path of a program of that environment.

    Args:
        name: Program: "python", "checkov".
        what: What the test wants of it, for the reason where it is absent.
    """
    if not (BIN / name).exists():
        missing(f"{what} is not installed: make tools")
    return str(BIN / name)
