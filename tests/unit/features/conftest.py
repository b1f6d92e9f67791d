from __future__ import annotations

from types import SimpleNamespace

import polars as pl
import pytest

from tests.support.clean_trial import make_trial


@pytest.fixture(scope="session")
def trial() -> dict[str, pl.DataFrame]:
    """Forty subjects."""
    return make_trial(40, seed=7)


@pytest.fixture
def task() -> SimpleNamespace:
    """A task with every feature, read by attribute as the real one is."""
    return SimpleNamespace(name="withdrawal", landmark_day=28, horizon_day=None, blinded=True, features=())
