"""Fixtures every test folder shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.online_stores import online_url
from tests.support.postgres import postgres_database, postgres_url
from tests.support.redis import redis_address, redis_url

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["online_url", "postgres_database", "postgres_url", "redis_address", "redis_url"]

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


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_database"))
    return f"sqlite:///{tmp_path}/trialops.db"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A migrated database of each kind."""
    from trialops.stores.database import connect, migrate

    engine = connect(database_url)
    migrate(engine)
    yield engine
    engine.dispose()
