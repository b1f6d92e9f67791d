"""A home for tests of what happens inside a step: real stores below a temporary folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trialops.settings import settings


@dataclass
class Made:
    """An artifact as the orchestrator hands it to a step."""

    name: str
    path: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """Here the path is the address."""
        return self.path


def artifact(home: Path, name: str, run_id: str = "run-1") -> Made:
    """An output that has not been written yet."""
    return Made(name, str(home / "runs" / run_id / "artifacts" / name))


def live_in(home: Path, monkeypatch: pytest.MonkeyPatch, run_id: str = "run-1") -> Path:
    """Make a folder the home of this process, and the steps that follow part of a run."""
    monkeypatch.setenv("TRIALOPS_HOME", str(home))
    monkeypatch.setenv("TRIALOPS_RUN_ID", run_id)
    monkeypatch.setenv("TRIALOPS_ACTOR", "tester")
    settings.cache_clear()
    return home


def leave() -> None:
    """Forget the home."""
    settings.cache_clear()
