"""Databases the governance tests run on: SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.postgres import postgres_database, postgres_url  # noqa: F401

if TYPE_CHECKING:
    from sqlalchemy import Engine


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_database")
    return f"sqlite:///{tmp_path}/trialops.db"


@pytest.fixture
def engine(database_url: str) -> Engine:
    """A migrated database of each kind."""
    from trialops.stores.database import connect, migrate

    engine = connect(database_url)
    migrate(engine)
    yield engine
    engine.dispose()
