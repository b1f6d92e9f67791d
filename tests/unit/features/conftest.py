from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from tests.support.clean_trial import make_trial
from trialops.models.task import Task, load_task


@pytest.fixture(scope="session")
def trial() -> dict[str, pl.DataFrame]:
    """Forty subjects."""
    return make_trial(40, seed=7)


@pytest.fixture
def task() -> Task:
    """The shipped task with every feature there is."""
    return replace(load_task(), features=(), baseline_features=())
